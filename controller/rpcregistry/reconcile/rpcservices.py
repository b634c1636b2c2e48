"""The pod controller: projects pods into RpcServices."""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain
from typing import Any, Protocol

import msgspec
import structlog

from rpcregistry.errors import Conflict, Ending, Partial, Rejected, Retry, Unanswered
from rpcregistry.manifests import PODS, RPCSERVICES, made, regarding
from rpcregistry.model import (
    Endpoint,
    Node,
    ObjectKey,
    Pod,
    Problem,
    RpcService,
    RpcServiceStatus,
    ServiceKey,
)
from rpcregistry.plan import ownword
from rpcregistry.plan import rpcservices as planning
from rpcregistry.plan.invariants import check_objects
from rpcregistry.plan.pods import newest_of, silent_on
from rpcregistry.plan.publication import ALL_LISTED, Place, Unlisted, place
from rpcregistry.plan.writes import Writes, write_of
from rpcregistry.reconcile.guard import Decision, Guard, Snapshot, log_released
from rpcregistry.reconcile.held import HeldOnLease
from rpcregistry.reconcile.initialsync import InitialSync
from rpcregistry.reconcile.ports import Change, Clock, Events, Kube, Source
from rpcregistry.reconcile.refusals import Refusals
from rpcregistry.reconcile.relied import Relied
from rpcregistry.reconcile.rewrites import Rewrites
from rpcregistry.reconcile.room import Room
from rpcregistry.reconcile.selections import Selections
from rpcregistry.reconcile.troubles import FIRST_PAUSE, Troubles
from rpcregistry.reconcile.unreadable import UnknownWords

log = structlog.get_logger(__name__)

DECLARED = "declared"  # index of pods: (namespace, service name)
NAMED = "named"  # index of RpcServices: ServiceKey
REPORTED_AFTER = 10.0  # seconds, before which we do not report what may pass by itself
MOST_REPORTED = 10  # pods that get an Event
MOST_READ = 10  # pods, each by a request of its own; watch events bring any others
SLOW = 1.0  # seconds for a write
OLD_CRD = "the API server loses fields of the status: its CRD is too old, run kubectl apply -f crds/"


def pod_indexes() -> Mapping[str, Callable[[Pod], Iterable[ServiceKey]]]:
    """The indexes that the pod store needs."""
    return {DECLARED: declared_keys}


def service_indexes() -> Mapping[str, Callable[[RpcService], Iterable[ServiceKey]]]:
    """The indexes that the RpcService store needs."""
    return {NAMED: lambda service: [service.service_key]}


def declared_keys(pod: Pod) -> set[ServiceKey]:
    """The keys of the services that the pod declares."""
    return {ServiceKey(pod.namespace, declaration.service_name) for declaration in pod.declarations}


class RpcServiceReconciler:
    """Makes the RpcServices of one key equal to what the pods of its namespace say.

    Any thread calls ``note_…`` with a change, then asks ``…_keys`` what to reconcile; one thread at a time
    reconciles a key.
    """

    def __init__(
        self,
        *,
        kube: Kube,
        pods: Source[Pod],
        nodes: Source[Node],
        services: Source[RpcService],
        relied: Relied,
        read_node: Callable[[str], Node | None],
        read_pod: Callable[[ObjectKey], Pod | None],
        may_register: Callable[[Pod, str], bool],
        settings: planning.ProjectionSettings,
        clock: Clock,
        confirm: float,
        enqueue: Callable[[Iterable[ServiceKey]], None],
        initial_sync: InitialSync,
        services_per_namespace: int,
        lease: HeldOnLease,
        events: Events,
    ) -> None:
        self._kube = kube
        self._pods = pods
        self._nodes = nodes
        self._services = services
        self._read_node = read_node
        self._may_register = may_register
        self._settings = settings
        self._clock = clock
        self._enqueue = enqueue
        self._events = events
        self._initial_sync = initial_sync
        self._relied = relied
        self._read_pod = read_pod
        self._troubles: Troubles[ServiceKey, Rejected | Retry] = Troubles()
        self._rewrites = Rewrites()
        self._selected: Selections[RpcService] = Selections(
            pods.store, lambda service: None if service.is_part else service.spec.selector
        )
        self._lease = lease
        self._room = Room(services, services_per_namespace)
        self._unknown_words = UnknownWords()
        self.guard: Guard[str] = Guard(
            look=self._look, decided=self._decided, confirm=confirm, clock=clock.monotonic
        )

    # what changes mean

    def note_pod(self, change: Change[Pod]) -> None:
        """Note which RpcServices select the pod, and whether it was deleted."""
        self._selected.note_pod(change)
        if change.new:
            self.guard.forget(change.new.uid)
        elif change.old and not change.listed:
            self.guard.confirm(change.old.uid)

    def pod_keys(self, change: Change[Pod]) -> set[ServiceKey]:
        """The keys that a pod's change touches: those that it served before, and those that it serves now."""
        keys = {key for pod in (change.old, change.new) if pod for key in declared_keys(pod)}
        selecting = map(self._services.store.get, self._selected.touched_by(change))
        return keys | {service.service_key for service in selecting if service}

    def note_service(self, change: Change[RpcService]) -> None:
        """Note which pods an RpcService selects, and a new word that may release a hold."""
        self._selected.note(change)
        old, new = change.old, change.new
        if new and old and new.released != old.released:
            self._note_unknown(old)
            self.guard.wake()
        elif new and not old and self.guard.held:
            self.guard.wake()  # it may list held pods later: the guard has to see its word before

    def service_keys(self, change: Change[RpcService]) -> set[ServiceKey]:
        """The keys that an RpcService's change touches."""
        if change.ours:
            return set()  # our own write, as planned
        return {service.service_key for service in (change.old, change.new) if service}

    def note_node(self, change: Change[Node]) -> None:
        """Wake the guard if a Node turned (not-)Ready, was created or was deleted."""
        if _turned(change):
            self.guard.wake()

    def node_keys(self, change: Change[Node]) -> set[ServiceKey]:
        """The keys with an endpoint on a Node that turned (not-)Ready or was deleted."""
        node = change.old or change.new
        if node is None or not _turned(change):
            return set()
        return {
            service.service_key
            for service in self._services.store.values()
            if any(row.node_name == node.name for row in service.status.endpoints)
        }

    def every_key(self) -> set[ServiceKey]:
        """All keys: of every RpcService and of every declaration."""
        keys = {service.service_key for service in self._services.store.values()}
        for pod in self._pods.store.values():
            keys |= declared_keys(pod)
        return keys

    def begin(self) -> None:
        """Make every key pending: the registry relies on no status before its key is reconciled."""
        self._initial_sync.begin(self.every_key())
        self._relied.begin()

    def forget_withdrawn(self) -> None:
        """Drop the confirmations of pods that no status lists any more."""
        services = (*self._services.store.values(), *self._relied.values())
        self.guard.retain_only({row.pod_uid for service in services for row in service.status.endpoints})

    # reconciling

    def reconcile(self, key: ServiceKey) -> bool:
        """Make observed equal desired for *key*; return whether anything was written.

        A refused write costs only what it would add: all else is written, then this raises ``Partial``.
        """
        observed = self._observe(key)
        silent = self._silent_nodes(observed)
        if silent:
            bad_nodes = self._bad_nodes(observed.pods.values()) | silent
            observed = msgspec.structs.replace(observed, bad_nodes=bad_nodes)
        absences = self._absences(key.namespace, observed)
        seen = planning.suspects(key, observed)
        if any(uid not in absences.confirmed and uid not in absences.held for uid in seen):
            self.guard.wake()
        self._relied.withdraw(key, self.guard.confirmed)
        ops = planning.plan(key, observed, absences, self._settings, self._clock.stamp())
        check_objects(key, ops)
        wanted = _Wanted(lambda: planning.wanted_rows(key, observed, absences))
        leaving = self._vouch(key, observed, wanted, ops)
        try:
            writes, refusals = self._write(key, ops, observed)
        except Conflict:
            # We plan again; but the store may be behind for long, and addresses of dead pods cannot wait.
            self._initial_sync.note_obsolete(key, *self._outdated(key, wanted))
            raise
        partial = any(isinstance(op, planning.Create) and op.partial for op in ops)
        self._rely(key, observed, writes, refusals, leaving, partial)
        if not partial:
            self._initial_sync.done(key)  # after a refusal, too: the statuses list all that they can
        if refusals.first:
            raise self._refused(key, observed, wanted, writes, refusals, refusals.first)
        unlisted = self._lost_words(key, observed.services)
        if observed.remembered:
            # The registry may still rely on rows that others have replaced: not on those of dead pods.
            obsolete, unready = self._outdated(key, wanted)
            unlisted = msgspec.structs.replace(unlisted, obsolete=obsolete, unready=unready)
        self._initial_sync.note_unlisted(key, unlisted)
        self._troubles.end(key)
        if partial or observed.unplaced:
            self._enqueue([key])  # to create the parts, or to count in the head what has room now
        self._use_up(observed.services)
        return bool(ops)

    def _write(
        self, key: ServiceKey, ops: Sequence[planning.Op], observed: planning.ObservedRpcServices
    ) -> tuple[Writes, Refusals[planning.Op]]:
        """Make the writes of a plan, except those that were refused a moment ago."""
        trouble = self._troubles.get(key)
        writes = Writes(ops, self._settings, self._clock.stamp(), wary=trouble is not None)
        refusals: Refusals[planning.Op] = Refusals()
        latest: dict[str, RpcService] = {}
        for op in writes:
            write, begun = write_of(op), self._clock.monotonic()
            waiting = (trouble and trouble.waiting(write, begun)) or self._too_soon(
                op, observed, latest, begun
            )
            if waiting:
                refusals.note(op, waiting)
                writes.refused()
            elif failure := refusals.of(op, lambda op: self._apply(op, latest)):
                now = self._clock.monotonic()
                trouble = self._troubles.begin(key, begun)
                slow = now - begun >= SLOW
                trouble.refused(write, failure, now, away=isinstance(failure, Unanswered) and not slow)
                writes.refused(slow=slow)
                _log_refused(key, failure)
            elif isinstance(op, planning.SetStatus) and op.service.uid in observed.remembered:
                self._rewrites.note(op.service.uid, begun)
        if trouble:
            trouble.retain_only({write_of(op) for op in refusals.all})
        return writes, refusals

    def _too_soon(
        self, op: planning.Op, observed: planning.ObservedRpcServices, ours: Container[str], now: float
    ) -> Retry | None:
        """Why a rewrite has to wait: others keep writing the status; *ours*: the uids rewritten by now."""
        if not isinstance(op, planning.SetStatus) or op.service.uid in ours:
            return None
        if op.service.uid not in observed.remembered:
            return None
        seconds = self._rewrites.pause(op.service.uid, now)
        message = f"others write the status of {op.service.key}: it is rewritten in {seconds:.0f} s"
        return Retry(message, seconds) if seconds else None

    def _rely(
        self,
        key: ServiceKey,
        observed: planning.ObservedRpcServices,
        writes: Writes,
        refusals: Refusals[planning.Op],
        leaving: Sequence[tuple[RpcService, Collection[Place]]],
        partial: bool,
    ) -> None:
        """Tell the registry what was refused; each write has made it rely on the rest."""
        if observed.is_unreadable:
            return  # the plan checked nothing
        for service, places in leaving:
            if writes.unlisted.keys().isdisjoint(places):
                self._relied.vouch_if_there(service)
        for op in refusals.all:
            if isinstance(op, planning.SetStatus):
                self._relied.vouch_for_nothing(op.service)
        if not writes.unlisted and not partial:
            self._relied.looked(key, {service.uid for service in observed.services})

    def _vouch(
        self,
        key: ServiceKey,
        observed: planning.ObservedRpcServices,
        wanted: "_Wanted",
        ops: Sequence[planning.Op],
    ) -> list[tuple[RpcService, Collection[Place]]]:
        """Let the registry rely on what was found right, before a write removes a row that it lists, too.

        Return the objects that others took wanted endpoints out of, and these: the registry goes on as before
        until another object lists them.
        """
        if observed.is_unreadable:
            return []  # the plan checked nothing
        written = {op.service.uid for op in ops if isinstance(op, planning.SetStatus)}
        leaving: list[tuple[RpcService, Collection[Place]]] = []
        for service in observed.services:
            if service.uid in written:
                continue
            remembered = observed.remembered.get(service.uid)
            if remembered is None:
                self._relied.vouch_if_there(service)
            elif not ownword.is_right(service, wanted.rows):
                self._relied.vouch_for_nothing(service)  # the plan has no operation on it
            elif places := ownword.taken_out(service, remembered, wanted.rows, self._relied.listing(key)):
                leaving.append((service, places))
            else:
                self._relied.vouch_if_there(service)
        return leaving

    def _refused(
        self,
        key: ServiceKey,
        observed: planning.ObservedRpcServices,
        wanted: "_Wanted",
        writes: Writes,
        refusals: Refusals[planning.Op],
        first: tuple[planning.Op, Rejected | Retry],
    ) -> Partial:
        """Report to the registry and to people what the statuses lack; return what to raise."""
        op, failure = first
        now = self._clock.monotonic()
        trouble = self._troubles.begin(key, now)
        lasts = now - trouble.since >= REPORTED_AFTER
        is_reported = not isinstance(failure, Ending) and (lasts or not isinstance(failure, Retry))
        obsolete, unready = self._outdated(key, wanted)
        unlisted = Unlisted(
            endpoints=tuple(writes.unlisted.values()),
            # The registry keeps their published endpoints without freezing the name.  If it froze the name, a
            # quota would keep the addresses of dead pods published after a restart.
            services=tuple(op.service.uid for op in refusals.all if isinstance(op, planning.SetStatus)),
            obsolete=obsolete,
            unready=unready,
            refusals={key.namespace: _refusal(writes, failure)} if is_reported else {},
        )
        self._initial_sync.note_unlisted(key, unlisted)
        if is_reported:
            listed = () if isinstance(op, planning.Delete) else op.status.endpoints
            uids = {row.pod_uid for row in listed}
            for pod in newest_of(key.service_name, observed.pods.values(), uids)[:MOST_REPORTED]:
                problem = Problem("RpcServiceRefused", str(failure))
                self._events.record(regarding(PODS, pod), problem, "Publish", warning=True)
        if trouble.count(len(writes.unlisted), now):
            self._show_unplaced(observed, trouble.unplaced, unlisted.services)
        after = trouble.seconds_left(now) or getattr(failure, "after", None) or FIRST_PAUSE
        return Partial(str(failure), after, rejected=isinstance(failure, Rejected))

    def _show_unplaced(
        self, observed: planning.ObservedRpcServices, unplaced: int, refused: Container[str]
    ) -> None:
        """Have the head's status count the unlisted endpoints.  If it is *refused*, the next plan does it."""
        head = planning.owner_of(observed.services)
        if head is None or head.uid in refused:
            return
        latest = self._services.store.get(head.key)
        # Not if others have written its rows: our write would vouch for them.
        relied = latest and self._relied.of(latest)
        if latest and relied and relied.status.endpoints == latest.status.endpoints:
            with suppress(Rejected, Retry):
                self._set_status(latest, planning.with_unplaced(latest.status, unplaced))

    def _outdated(self, key: ServiceKey, wanted: "_Wanted") -> tuple[frozenset[Place], frozenset[Place]]:
        """Relied-on endpoints that their pods show to have ended, and those shown not to be Ready."""

        def has_ended(service: RpcService, row: Endpoint) -> bool:
            there = self._pods.store.get(ObjectKey(service.namespace, row.pod_name))
            return there is not None or row.pod_uid in self.guard.confirmed

        return ownword.outdated(self._relied.listing(key), wanted.rows, has_ended)

    def _observe(self, key: ServiceKey) -> planning.ObservedRpcServices:
        services = [self._as_kept(service) for service in self._services.store.indexed(NAMED, key)]
        taken = Taken(self._services.store, key.namespace)
        owner = planning.owner_name(key, services, taken)
        declaring = self._pods.store.indexed(DECLARED, key)
        pods = {
            pod.name: pod if self._may_register(pod, owner) else silent_on(pod, key.service_name)
            for pod in declaring
        }
        remembered = self._remembered(services)
        names = {row.pod_name for service in services for row in service.status.endpoints}
        names |= {row.pod_name for rows in remembered.values() for row in rows}
        for service in services:
            names |= self._selected.pods_of(service.key)
        for name in names - pods.keys():
            pod = self._pods.store.get(ObjectKey(key.namespace, name))
            if pod:
                pods[name] = pod
        for name in sorted(ownword.named_by_others(services, remembered) - pods.keys())[:MOST_READ]:
            pod = self._read(ObjectKey(key.namespace, name))
            if pod:
                pods[name] = pod if self._may_register(pod, owner) else silent_on(pod, key.service_name)
        return planning.ObservedRpcServices(
            services=services,
            pods=pods,
            taken=taken,
            bad_nodes=self._bad_nodes(pods.values()),
            remembered=remembered,
            unplaced=trouble.unplaced if (trouble := self._troubles.get(key)) else 0,
        )

    def _as_kept(self, service: RpcService) -> RpcService:
        """*service*; but if the server loses part of our writes, as we wrote it last."""
        if not service.damaged or not self._rewrites.is_lost(service.uid, service.resource_version):
            return service
        relied = self._relied.of(service) or service
        return msgspec.structs.replace(service, status=relied.status, damaged="")

    def _lost_words(self, key: ServiceKey, services: Iterable[RpcService]) -> Unlisted:
        """What to report of a key whose writes were all made, but perhaps not kept."""
        if any(self._rewrites.is_lost(service.uid, service.resource_version) for service in services):
            return Unlisted(refusals={key.namespace: Problem("Unreadable", OLD_CRD)})
        return ALL_LISTED

    def _remembered(self, services: Iterable[RpcService]) -> Mapping[str, Sequence[Endpoint]]:
        """The rows by our own word, for each object whose status others have written since."""
        remembered: dict[str, Sequence[Endpoint]] = {}
        for service in services:
            relied = self._relied.of(service)
            rows = relied.status.endpoints if relied else ()
            if rows != service.status.endpoints:
                remembered[service.uid] = rows
        return remembered

    def _read(self, key: ObjectKey) -> Pod | None:
        """A pod that the store may lack; None if it cannot be read: nothing of it is published yet."""
        if self._pods.unknown_in(key.namespace) is None:
            with suppress(Rejected, Retry):
                return self._read_pod(key)
        return None

    def _bad_nodes(self, pods: Iterable[Pod]) -> set[str]:
        """The nodes of *pods* that exist and are not Ready."""
        names = {pod.node_name for pod in pods if pod.node_name}
        nodes = (self._nodes.store.get(ObjectKey("", name)) for name in names)
        return {node.name for node in nodes if node and not node.ready}

    def _silent_nodes(self, observed: planning.ObservedRpcServices) -> set[str]:
        """The nodes that turned not-Ready, and whose watch event is behind that of their pods.

        Two watches keep no common order.  If a pod was silenced while its Node still looks Ready, read the
        Node first: the pod may not have failed by itself.
        """
        listed = {
            row.pod_uid for service in observed.services for row in service.status.endpoints if row.ready
        }
        names = {pod.node_name for pod in observed.pods.values() if pod.silenced and pod.uid in listed}
        nodes = (self._read_node(name) for name in names if name and name not in observed.bad_nodes)
        return {node.name for node in nodes if node and not node.ready}

    def _absences(self, namespace: str, observed: planning.ObservedRpcServices) -> planning.Absences:
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

    def _note_unknown(self, service: RpcService) -> None:
        """Note the word of *service* if its namespace cannot be read: a later, new word releases."""
        if self._pods.unknown_in(service.namespace) is not None:
            self._unknown_words.note(service)

    def _use_up(self, services: Iterable[RpcService]) -> None:
        """Use up new words: each releases once, and only what was held as it was given."""
        for service in services:
            if self._unknown_words.use_up(service):
                log.info("released", services=[str(service.service_key)], unknown=True)

    def _apply(self, op: planning.Op, latest: dict[str, RpcService]) -> None:
        match op:
            case planning.Create(namespace, name, service_name, status, head):
                manifest = made.rpcservice(namespace, name, service_name, head)
                with self._room.to_make(ObjectKey(namespace, name)):
                    self._set_status(self._kube.create(RPCSERVICES, namespace, manifest), status)
            case planning.SetStatus(service, status):
                latest[service.uid] = self._set_status(latest.get(service.uid, service), status)
            case planning.Delete(service):
                service = latest.get(service.uid, service)
                self._kube.delete(RPCSERVICES, service.key, service.uid, service.resource_version)

    def _set_status(self, service: RpcService, status: RpcServiceStatus) -> RpcService:
        status = msgspec.structs.replace(status, observed_generation=service.generation)
        manifest = made.rpcservice_status(service, status)
        written = self._kube.replace(RPCSERVICES, service.key, manifest, "status")
        self._note_read(service, written)
        self._relied.vouch(msgspec.structs.replace(written, status=status) if written.damaged else written)
        self._services.observe(written)
        return written

    def _note_read(self, before: RpcService, written: RpcService) -> None:
        """Record an Event if the object could not be decoded before, or cannot be decoded now."""
        regards = regarding(RPCSERVICES, written)
        if written.damaged:
            self._rewrites.lost(written.uid, written.resource_version)
            problem = Problem("Unreadable", f"{OLD_CRD} ({written.damaged})")
            self._events.record(regards, problem, "Publish", warning=True)
        elif before.damaged:
            self._rewrites.kept(written.uid)
            said = f"a part of the status could not be decoded, and was rewritten: {before.damaged}"
            problem = Problem("Unreadable", said)
            self._events.record(regards, problem, "Publish", warning=True, salt=before.resource_version)

    # absences

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


def _log_refused(key: ServiceKey, failure: Rejected | Retry) -> None:
    match failure:
        case Ending():
            log.debug("namespace is ending", key=str(key))
        case Rejected():
            log.warning("refused", key=str(key), reason=str(failure))
        case _:
            log.info("refused", key=str(key), reason=str(failure))


def _refusal(writes: Writes, failure: Exception) -> Problem:
    """The problem that the Synced condition reports."""
    pods = {row.pod_uid for row in writes.unlisted.values() if row.ready}
    what = f"{len(pods)} Ready pods have no room" if pods else "the status cannot be written"
    return Problem("Refused", f"{what}: {failure}")


def _turned(change: Change[Node]) -> bool:
    return not (change.old and change.new and change.old.ready == change.new.ready)


class _Wanted:
    """The rows that a key's objects should list, by endpoint; computed once, and only if asked for."""

    def __init__(self, rows: Callable[[], Iterable[Endpoint]]) -> None:
        self._rows = rows

    @cached_property
    def rows(self) -> Mapping[Place, Endpoint]:
        return {place(row): row for row in self._rows()}


class _Store(Protocol):
    def get(self, key: ObjectKey) -> Any: ...


class Taken:
    """The names of a namespace's RpcServices, looked up in the store as a plan tries them.

    If a name is taken meanwhile, the create fails with a ``Conflict``.
    """

    def __init__(self, store: _Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace

    def __contains__(self, name: object) -> bool:
        return self._store.get(ObjectKey(self._namespace, str(name))) is not None
