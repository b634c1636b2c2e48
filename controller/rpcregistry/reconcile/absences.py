"""The absences of listed pods: which are confirmed, held or unknown, and who wakes the guard."""

from collections.abc import Callable, Collection, Container, Iterable
from itertools import chain

import structlog

from rpcregistry.model import Endpoint, Node, Pod, RpcService, ServiceKey
from rpcregistry.plan import rpcservices as planning
from rpcregistry.reconcile.guard import Decision, Guard, Snapshot, log_released
from rpcregistry.reconcile.held import HeldOnLease
from rpcregistry.reconcile.observing import NAMED
from rpcregistry.reconcile.ports import Change, Clock, Source
from rpcregistry.reconcile.relied import Relied
from rpcregistry.reconcile.unreadable import UnknownWords

log = structlog.get_logger(__name__)


class Absences:
    """Keeps the pod controller's guard; any thread calls ``note_…`` and ``of``.

    *observe*: reads what a plan of a key reads; *enqueue* is called with the keys whose absences changed.
    """

    def __init__(
        self,
        *,
        pods: Source[Pod],
        nodes: Source[Node],
        services: Source[RpcService],
        relied: Relied,
        observe: Callable[[ServiceKey], planning.ObservedRpcServices],
        lease: HeldOnLease,
        clock: Clock,
        confirm: float,
        enqueue: Callable[[Iterable[ServiceKey]], None],
    ) -> None:
        self._pods = pods
        self._nodes = nodes
        self._services = services
        self._relied = relied
        self._observe = observe
        self._lease = lease
        self._enqueue = enqueue
        self._unknown_words = UnknownWords()
        self.guard: Guard[str] = Guard(
            look=self._look, decided=self._decided, confirm=confirm, clock=clock.monotonic
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
        if turned(change):
            self.guard.wake()

    def forget_withdrawn(self) -> None:
        """Drop the confirmations of pods that no status lists any more."""
        services = (*self._services.store.values(), *self._relied.values())
        self.guard.retain_only({row.pod_uid for service in services for row in service.status.endpoints})

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
            row.pod_uid for service in services for row in observed.rows_of(service)
        )
        if self._pods.unknown_in(namespace) is None:
            self._unknown_words.forget(namespace)
            return planning.Absences(confirmed, held)
        for service in services:
            self._note_unknown(service)
        released = self._unknown_words.are_released(namespace, services)
        return planning.Absences(confirmed, held, unknown=not released)

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

    def _look(self, confirmed: Collection[str]) -> Snapshot[str] | None:
        suspects = self._suspects()
        if not (suspects.keys() - confirmed):
            return None
        pods, nodes = self._pods.second_look(), self._nodes.second_look()
        bad_nodes = {node.name for node in nodes if not node.ready}
        unheard = {pod.uid for pod in pods if pod.node_name in bad_nodes and not pod.ready}
        unheard |= {pod.uid for pod in pods if pod.silenced and pod.uid in self.guard.held}
        present = {pod.uid for pod in pods} - unheard
        absent = {
            uid: weight for uid, weight in suspects.items() if uid not in present and uid not in confirmed
        }
        rows = [
            (service, row) for service in self._services.store.values() for row in service.status.endpoints
        ]
        # The node lifecycle controller marks the pods of a not-Ready Node one by one: expect the rest.
        expected = sum(row.node_name in bad_nodes and row.pod_uid not in suspects for _, row in rows)
        return Snapshot(absent, len(rows), expected, self._words(rows, absent))

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
        for key in {service.service_key for service in self._services.store.values()}:
            for uid, weight in planning.suspects(key, self._observe(key)).items():
                weights[uid] = weights.get(uid, 0) + weight
        return weights

    def _decided(self, decision: Decision[str]) -> None:
        if not decision.changed:
            return
        touched = {
            service.service_key: {row.pod_uid for row in service.status.endpoints}
            for service in self._services.store.values()
            if any(row.pod_uid in decision.changed for row in service.status.endpoints)
        }
        if decision.released:
            services = [key for key, uids in touched.items() if not uids.isdisjoint(decision.released)]
            log_released(map(str, services), sum(decision.released.values()))
        self._enqueue(touched)


def turned(change: Change[Node]) -> bool:
    """Whether the Node turned (not-)Ready, was created or was deleted."""
    return not (change.old and change.new and change.old.ready == change.new.ready)
