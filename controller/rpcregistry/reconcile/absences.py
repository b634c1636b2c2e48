"""The absences of listed pods: which are confirmed, held or unknown, and who wakes the guard."""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from itertools import chain

import structlog

from rpcregistry.model import Endpoint, Node, ObjectKey, Pod, RpcService, ServiceKey
from rpcregistry.plan import rows as planning
from rpcregistry.plan.pods import as_reported, is_unheard, is_withdrawn_with_node
from rpcregistry.reconcile.guard import Decision, Guard, Snapshot, log_released
from rpcregistry.reconcile.held import HeldOnLease
from rpcregistry.reconcile.memory import Past
from rpcregistry.reconcile.nodeturns import NodeTurns
from rpcregistry.reconcile.observing import NAMED
from rpcregistry.reconcile.ports import Change, Clock, Source
from rpcregistry.reconcile.relied import Relied
from rpcregistry.reconcile.silences import Silences
from rpcregistry.reconcile.unreadable import UnknownWords

log = structlog.get_logger(__name__)


class Absences:
    """Keeps the pod controller's guard; any thread calls ``note_…``, ``of`` and ``why_endless``.

    *turns* learns of the Nodes' changes here.  *observe*: reads what a plan of a key reads; *enqueue* is
    called with the keys whose absences changed.
    """

    def __init__(
        self,
        *,
        pods: Source[Pod],
        nodes: Source[Node],
        turns: NodeTurns,
        services: Source[RpcService],
        relied: Relied,
        observe: Callable[[ServiceKey], planning.ObservedRpcServices],
        lease: HeldOnLease,
        clock: Clock,
        confirm: float,
        past: Past,
        enqueue: Callable[[Iterable[ServiceKey]], None],
    ) -> None:
        self._pods = pods
        self._nodes = nodes
        self._turns = turns
        self._services = services
        self._relied = relied
        self._observe = observe
        self._lease = lease
        self._enqueue = enqueue
        self._unknown_words = UnknownWords()
        self.silences: Silences[str] = Silences(clock, lease)
        self.guard: Guard[str] = Guard(
            "pods",
            look=self._look,
            decided=self._decided,
            past=past,
            confirm=confirm,
            clock=clock.monotonic,
        )

    # what changes mean

    def note_pod(self, change: Change[Pod]) -> None:
        """Note that a pod exists, or that a watch event showed its deletion."""
        if change.new:
            self.guard.forget(change.new.uid)
        elif change.old and not change.listed:
            self.guard.confirm(change.old.uid)

    def note_service(self, change: Change[RpcService]) -> None:
        """Wake the guard if a new word may release a hold."""
        old, new = change.old, change.new
        if new and old and new.released != old.released:
            self._note_unknown(old)
            self.guard.wake()
        elif new and not old and self.guard.held:
            self.guard.wake()  # it may list held pods later: the guard has to see its word before

    def note_node(self, change: Change[Node]) -> None:
        """Wake the guard if a Node turned (not-)Ready, was created or was deleted."""
        came_back = self._turns.note(change)
        if came_back and change.new:
            for pod in self._pods.store.values():
                if pod.node_name == change.new.name:
                    self.guard.forget(pod.uid)  # it may be Ready without a change of its own
        if turned(change):
            self.guard.wake()

    def begin(self) -> None:
        """Take up what an earlier process made of Ready pods whose Nodes were deleted: held or withdrawn.

        Nothing but their rows tells of it.  Without such a row, a pod is believed: that its Node is not there
        proves nothing.
        """
        for service, row in self._rows():
            if not (row.held or is_withdrawn_with_node(row)):
                continue
            pod = self._pods.store.get(ObjectKey(service.namespace, row.pod_name))
            is_there = self._nodes.store.get(ObjectKey("", row.node_name)) is not None
            if pod and pod.uid == row.pod_uid and pod.ready and not is_there:
                self._turns.take_up(row.node_name)
                log.info(
                    "held or withdrawn still: its Node was deleted", pod=str(pod.key), node=row.node_name
                )

    def forget_withdrawn(self) -> None:
        """Drop the confirmations of pods that no status lists any more, and deleted Nodes without pods."""
        services = (*self._services.store.values(), *self._relied.values())
        self.guard.retain_only({row.pod_uid for service in services for row in service.status.endpoints})
        self._turns.retain_only({pod.node_name for pod in self._pods.store.values()})

    def _rows(self) -> list[tuple[RpcService, Endpoint]]:
        return [(service, row) for service in self._listing() for row in service.status.endpoints]

    def _listing(self) -> list[RpcService]:
        """The RpcServices that are there, and those that were deleted and whose endpoints stay published."""
        return [*self._services.store.values(), *self._relied.deleted()]

    # what a plan asks

    def of(self, key: ServiceKey, observed: planning.ObservedRpcServices) -> planning.Absences:
        """The absences of the pods that *observed* lists; wake the guard if it has not judged one yet."""
        absences = self._of(key.namespace, observed)
        seen = planning.suspects(key, observed)
        if any(uid not in absences.confirmed and uid not in absences.held for uid in seen):
            self.guard.wake()
        return absences

    def _of(self, namespace: str, observed: planning.ObservedRpcServices) -> planning.Absences:
        held, services = self.guard.held, observed.services
        confirmed = self.guard.confirmed.among(
            row.pod_uid for service in (*services, *observed.deleted) for row in observed.rows_of(service)
        )
        if self._pods.unknown_in(namespace) is None:
            self._unknown_words.forget(namespace)
            return planning.Absences(confirmed, held)
        for service in services:
            self._note_unknown(service)
        released = self._unknown_words.are_released(namespace, services)
        return planning.Absences(confirmed, held, unknown=not released)

    def why_endless(self, observed: planning.ObservedRpcServices) -> str:
        """Why rows that *observed* lists are held without time limit, or ``""`` if none is."""
        rows = (row for service in observed.services for row in observed.rows_of(service))
        return self.silences.why(row.pod_uid for row in rows)

    def use_up(self, services: Iterable[RpcService]) -> None:
        """Use up new words: each releases once, and only what was held as it was given."""
        for service in services:
            if self._unknown_words.use_up(service):
                log.info("released", services=[str(service.service_key)], unknown=True)

    def _note_unknown(self, service: RpcService) -> None:
        """Note the word of *service* if its namespace cannot be read: a later, new word releases."""
        if self._pods.unknown_in(service.namespace) is not None:
            self._unknown_words.note(service)

    # the guard's look

    def _look(self, confirmed: Collection[str]) -> Snapshot[str]:
        suspects, rows = self._suspects(), self._rows()
        if not (suspects.keys() - confirmed):
            self._observe_nodes(self._nodes.store.values(), rows)
            return Snapshot({}, 0, again=self.silences.ends)
        pods, nodes = self._pods.second_look(), self._nodes.second_look()
        self._turns.note_read(nodes)
        self._observe_nodes(nodes, rows)
        unheard = self._unheard((pod for pod in pods if pod.uid in suspects), rows)
        present = {pod.uid for pod in pods} - unheard.keys()
        absent = {
            uid: weight for uid, weight in suspects.items() if uid not in present and uid not in confirmed
        }
        # The node lifecycle controller marks the pods of a not-Ready Node one by one: expect the rest.
        silent = {node.name for node in nodes if not node.ready}
        expected = sum(
            row.ready and row.node_name in silent and row.pod_uid not in suspects for _, row in rows
        )
        return Snapshot(
            absent,
            len(rows),
            expected,
            self._words(rows, absent),
            begins={uid: self.silences.wait_begins(self._turns.at(node)) for uid, node in unheard.items()},
            again=self.silences.ends,
        )

    def _observe_nodes(self, nodes: Iterable[Node], rows: Sequence[tuple[RpcService, Endpoint]]) -> None:
        """Note which Nodes with published endpoints are Ready now."""
        published = {row.node_name for _, row in rows if row.ready}
        ready = {node.name: node.ready for node in nodes if node.name in published}
        self.silences.observe(ready, any(row.held for _, row in rows) or bool(self.guard.held))

    def _unheard(self, pods: Iterable[Pod], rows: Iterable[tuple[RpcService, Endpoint]]) -> Mapping[str, str]:
        """The uids of those *pods* that their Nodes do not report, with the Nodes' names."""
        # At the first look, only the rows tell what an earlier process held.
        held = {row.pod_uid for _, row in rows if row.held}.union(self.guard.held)
        pods = list(pods)
        names = {pod.node_name for pod in pods}
        silent, deleted = self._turns.silent_among(names), self._turns.deleted_among(names)
        reported = (as_reported(pod, deleted) for pod in pods)
        return {pod.uid: pod.node_name for pod in reported if is_unheard(pod, silent, pod.uid in held)}

    def _words(
        self, rows: Iterable[tuple[RpcService, Endpoint]], absent: Container[str]
    ) -> dict[str, dict[str, str]]:
        """The release annotations for each of *absent*: of the Lease, and of all RpcServices of its keys."""
        keys: dict[str, set[ServiceKey]] = {}
        for service, row in rows:
            if row.pod_uid in absent:
                keys.setdefault(row.pod_uid, set()).add(service.service_key)
        of_key = {
            key: {service.uid: service.released for service in self._services.store.indexed(NAMED, key)}
            for key in set(chain.from_iterable(keys.values()))
        }
        return {
            uid: {
                **self._lease.words([key.service_name for key in listed]),
                **{carrier: word for key in listed for carrier, word in of_key[key].items()},
            }
            for uid, listed in keys.items()
        }

    def _suspects(self) -> dict[str, int]:
        weights: dict[str, int] = {}
        for key in {service.service_key for service in self._listing()}:
            for uid, weight in planning.suspects(key, self._observe(key)).items():
                weights[uid] = weights.get(uid, 0) + weight
        return weights

    def _decided(self, decision: Decision[str]) -> None:
        # A hold that has a time limit no more, or has one again, is told anew.
        changed = self.silences.decided(self.guard.held).union(decision.changed)
        if not changed:
            return
        touched = {
            service.service_key: {row.pod_uid for row in service.status.endpoints}
            for service in self._listing()
            if any(row.pod_uid in changed for row in service.status.endpoints)
        }
        if decision.released:
            services = [key for key, uids in touched.items() if not uids.isdisjoint(decision.released)]
            log_released(map(str, services), sum(decision.released.values()))
        self._enqueue(touched)


def turned(change: Change[Node]) -> bool:
    """Whether the Node turned (not-)Ready, was created or was deleted."""
    return not (change.old and change.new and change.old.ready == change.new.ready)
