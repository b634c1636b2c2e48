"""The pod controller: projects pods into RpcServices."""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import msgspec

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
from rpcregistry.plan.pods import newest_of, refused_address
from rpcregistry.plan.publication import ALL_LISTED, Place, Unlisted, place
from rpcregistry.plan.rows import ObservedRpcServices, owner_of, wanted_rows
from rpcregistry.plan.writes import Writes, write_of
from rpcregistry.reconcile.absences import Absences, turned
from rpcregistry.reconcile.held import HeldOnLease
from rpcregistry.reconcile.initialsync import InitialSync
from rpcregistry.reconcile.memory import Past
from rpcregistry.reconcile.nodeturns import NodeTurns
from rpcregistry.reconcile.observing import Observer, declared_keys
from rpcregistry.reconcile.ports import Change, Clock, Events, Kube, Source
from rpcregistry.reconcile.refusals import MOST_REPORTED, SLOW, Refusals, log_refused, require_kept
from rpcregistry.reconcile.relied import Relied
from rpcregistry.reconcile.rewrites import Rewrites
from rpcregistry.reconcile.room import Room
from rpcregistry.reconcile.selections import Selections
from rpcregistry.reconcile.shown import Shown
from rpcregistry.reconcile.troubles import FIRST_PAUSE, REPORTED_AFTER, Troubles

OLD_CRD = "the API server loses fields of the status: its CRD is too old, run kubectl apply -f crds/"


class RpcServiceReconciler:
    """Makes the RpcServices of one key equal to what the pods of its namespace say.

    Any thread calls ``note_…`` with a change, then asks ``…_keys`` what to reconcile; one thread at a time
    reconciles a key.  *crowded*: whether other keys wait.
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
        read_service: Callable[[ObjectKey], RpcService | None],
        may_register: Callable[[Pod, str], bool],
        settings: planning.ProjectionSettings,
        clock: Clock,
        confirm: float,
        past: Past,
        enqueue: Callable[[Iterable[ServiceKey]], None],
        initial_sync: InitialSync,
        services_per_namespace: int,
        crowded: Callable[[], bool],
        lease: HeldOnLease,
        events: Events,
    ) -> None:
        self._kube = kube
        self._pods = pods
        self._services = services
        self._read_service = read_service
        self._settings = settings  # replaced as a whole, by any worker
        self._clock = clock
        self._enqueue = enqueue
        self._events = events
        self._initial_sync = initial_sync
        self._relied = relied
        self._troubles: Troubles[ServiceKey, Rejected | Retry] = Troubles()
        self._rewrites = Rewrites()
        self._selected: Selections[RpcService] = Selections(
            pods.store, lambda service: None if service.is_part else service.spec.selector
        )
        turns = NodeTurns(clock.monotonic)
        self._room = Room(services, services_per_namespace)
        self._shown = Shown(services, crowded)
        self._observer = Observer(
            pods=pods,
            turns=turns,
            services=services,
            relied=relied,
            rewrites=self._rewrites,
            selected=self._selected.pods_of,
            unplaced=self._unplaced,
            read_node=read_node,
            read_pod=read_pod,
            may_register=may_register,
            clock=clock,
        )
        self.absences = Absences(
            pods=pods,
            nodes=nodes,
            turns=turns,
            services=services,
            relied=relied,
            observe=self._observer.observe,
            lease=lease,
            clock=clock,
            confirm=confirm,
            past=past,
            enqueue=enqueue,
        )

    # what changes mean

    def note_pod(self, change: Change[Pod]) -> None:
        """Note which RpcServices select the pod, and whether it was deleted."""
        self._selected.note_pod(change)
        self.absences.note_pod(change)

    def pod_keys(self, change: Change[Pod]) -> set[ServiceKey]:
        """The keys that a pod's change touches: those that it served before, and those that it serves now."""
        keys = {key for pod in (change.old, change.new) if pod for key in declared_keys(pod)}
        selecting = map(self._services.store.get, self._selected.touched_by(change))
        return keys | {service.service_key for service in selecting if service}

    def note_service(self, change: Change[RpcService]) -> None:
        """Note which pods an RpcService selects, and a new word that may release a hold."""
        self._selected.note(change)
        self.absences.note_service(change)
        self._shown.note(change)

    def service_keys(self, change: Change[RpcService]) -> set[ServiceKey]:
        """The keys that an RpcService's change touches."""
        if change.ours:
            return set()  # our own write, as planned
        return {service.service_key for service in (change.old, change.new) if service}

    def node_keys(self, change: Change[Node]) -> set[ServiceKey]:
        """The keys with an endpoint on a Node that turned (not-)Ready or was deleted."""
        node = change.old or change.new
        if node is None or not turned(change):
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
        self.absences.begin()

    # reconciling

    def reconcile(self, key: ServiceKey) -> bool:
        """Make observed equal desired for *key*; return whether anything was written.

        A refused write costs only what it would add, and a refused read only what rests on it: all else is
        written, then this raises ``Partial``.
        """
        observed, unread = self._observer.observe_surely(key)
        absences = self.absences.of(key, observed)
        wanted = _Wanted(lambda: wanted_rows(key, observed, absences))
        if observed.deleted:
            obsolete, _ = self._outdated(key, observed, wanted)
            self._relied.withdraw(key, obsolete)
        self._report_addresses(observed.pods.values())
        ops = planning.plan(key, observed, absences, self._settings, self._clock.stamp())
        check_objects(key, ops)
        leaving = self._vouch(key, observed, wanted, ops)
        try:
            writes, refusals = self._write(key, ops, observed)
        except Conflict:
            # We plan again; but the store may be behind for long, and addresses of dead pods cannot wait.
            self._initial_sync.note_obsolete(key, *self._outdated(key, observed, wanted))
            raise
        partial = any(isinstance(op, planning.Create) and op.partial for op in ops)
        self._rely(key, observed, writes, refusals, leaving, partial)
        if not partial or refusals.first:
            self._initial_sync.done(key)  # after a refusal, too: the statuses list all that they can
        if refusals.first:
            raise self._refused(key, observed, wanted, writes, refusals, refusals.first)
        unlisted = self._lost_words(key, observed.services)
        unlisted = msgspec.structs.replace(unlisted, endless=self.absences.why_endless(observed))
        if observed.remembered:
            # The registry may still rely on rows that others have replaced: not on those of dead pods.
            obsolete, unready = self._outdated(key, observed, wanted)
            unlisted = msgspec.structs.replace(unlisted, obsolete=obsolete, unready=unready)
        self._initial_sync.note_unlisted(key, unlisted)
        self._troubles.end(key)
        if partial or observed.unplaced:
            self._enqueue([key])  # to create the parts, or to count in the head what has room now
        self.absences.use_up(observed.services)
        if unread:
            raise unread[0]
        return bool(ops)

    def _write(
        self, key: ServiceKey, ops: Sequence[planning.Op], observed: ObservedRpcServices
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
                away = isinstance(failure, Unanswered) and not slow
                if trouble.refused(write, failure, now, away=away):
                    log_refused(key, failure)
                writes.refused(slow=slow)
            elif isinstance(op, planning.SetStatus) and op.service.uid in observed.remembered:
                self._rewrites.note(op.service.uid, begun)
        if trouble:
            trouble.retain_only({write_of(op) for op in refusals.all})
        return writes, refusals

    def _too_soon(
        self, op: planning.Op, observed: ObservedRpcServices, ours: Container[str], now: float
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
        observed: ObservedRpcServices,
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
        observed: ObservedRpcServices,
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

    def _unplaced(self, key: ServiceKey) -> int:
        trouble = self._troubles.get(key)
        return trouble.unplaced if trouble else 0

    def _refused(
        self,
        key: ServiceKey,
        observed: ObservedRpcServices,
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
        obsolete, unready = self._outdated(key, observed, wanted)
        unlisted = Unlisted(
            endpoints=tuple(writes.unlisted.values()),
            # The registry keeps their published endpoints without freezing the name.  If it froze the name, a
            # quota would keep the addresses of dead pods published after a restart.
            services=tuple(op.service.uid for op in refusals.all if isinstance(op, planning.SetStatus)),
            obsolete=obsolete,
            unready=unready,
            refusals={key.namespace: _refusal(writes, op, failure)} if is_reported else {},
            endless=self.absences.why_endless(observed),
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
        if writes.skipped:
            after = 0.0  # while the slow write waits; once it is due, it would keep the others back again
        return Partial(str(failure), after, rejected=isinstance(failure, Rejected))

    def _show_unplaced(self, observed: ObservedRpcServices, unplaced: int, refused: Container[str]) -> None:
        """Have the head's status count the unlisted endpoints.  If it is *refused*, the next plan does it."""
        head = owner_of(observed.services)
        if head is None or head.uid in refused:
            return
        latest = self._services.store.get(head.key)
        # Not if others have written its rows: our write would vouch for them.
        relied = latest and self._relied.of(latest)
        if latest and relied and relied.status.endpoints == latest.status.endpoints:
            with suppress(Rejected, Retry):
                self._set_status(latest, planning.with_unplaced(latest.status, unplaced))

    def _outdated(
        self, key: ServiceKey, observed: ObservedRpcServices, wanted: "_Wanted"
    ) -> tuple[frozenset[Place], frozenset[Place]]:
        """Relied-on endpoints that their pods show to have ended, and those shown not to be Ready."""
        relied = self._relied.listing(key)
        names = {row.pod_name for service in relied for row in service.status.endpoints}
        return ownword.outdated(
            relied,
            wanted.rows,
            {name: self._pods.store.get(ObjectKey(key.namespace, name)) for name in names},
            self.absences.guard.confirmed,
            () if observed.is_unreadable else {service.uid for service in observed.services},
        )

    def _report_addresses(self, pods: Iterable[Pod]) -> None:
        for pod in pods:
            if problem := refused_address(pod):
                self._events.record(regarding(PODS, pod), problem, "Publish", warning=True)

    def _lost_words(self, key: ServiceKey, services: Iterable[RpcService]) -> Unlisted:
        """What to report of a key whose writes were all made, but perhaps not kept."""
        if any(self._rewrites.is_lost(service.uid, service.resource_version) for service in services):
            return Unlisted(refusals={key.namespace: Problem("Unreadable", OLD_CRD)})
        return ALL_LISTED

    def _apply(self, op: planning.Op, latest: dict[str, RpcService]) -> None:
        match op:
            case planning.Create(namespace, name, service_name, status, head):
                manifest = made.rpcservice(namespace, name, service_name, head, self._settings.labels)
                with self._room.to_make(ObjectKey(namespace, name)):
                    service = self._create(namespace, manifest)
                    self._shown.wait(service)
                    self._set_status(service, status)
            case planning.SetStatus(service, status):
                latest[service.uid] = self._set_status(latest.get(service.uid, service), status)
            case planning.Delete(service):
                service = latest.get(service.uid, service)
                self._kube.delete(RPCSERVICES, service.key, service.uid, service.resource_version)

    def _create(self, namespace: str, manifest: Mapping[str, Any]) -> RpcService:
        try:
            return self._kube.create(RPCSERVICES, namespace, manifest)
        except Conflict:
            found = self._read_service(ObjectKey(namespace, manifest["metadata"]["name"]))
            if found and self._services.lacks(found):
                self._services.second_look()
            raise

    def _set_status(self, service: RpcService, status: RpcServiceStatus) -> RpcService:
        status = msgspec.structs.replace(status, observed_generation=service.generation)
        manifest = made.rpcservice_status(service, status)
        written = self._kube.replace(RPCSERVICES, service.key, manifest, "status")
        self._note_read(service, written)
        # What a mutating policy makes of our rows is not our word.
        is_altered = not written.damaged and ownword.is_altered(status.endpoints, written.status.endpoints)
        is_ours = not (written.damaged or is_altered)
        self._relied.vouch(written if is_ours else msgspec.structs.replace(written, status=status))
        self._services.observe(written)
        require_kept(
            self._kube, f"status of RpcService {service.key}", ["status.endpoints"] if is_altered else []
        )
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


def _refusal(writes: Writes, op: planning.Op, failure: Exception) -> Problem:
    """The problem that the Synced condition reports; *op* was refused first."""
    if pods := {row.pod_uid for row in writes.unlisted.values() if row.ready}:
        what = f"{len(pods)} Ready pods have no room"
    elif isinstance(op, planning.Delete):
        what = "an RpcService that lists no pods stays"
    else:
        what = "the status cannot be written"
    return Problem("Refused", f"{what}: {failure}")


class _Wanted:
    """The rows that a key's objects should list, by endpoint; computed once, and only if asked for."""

    def __init__(self, rows: Callable[[], Iterable[Endpoint]]) -> None:
        self._rows = rows

    @cached_property
    def rows(self) -> Mapping[Place, Endpoint]:
        return {place(row): row for row in self._rows()}
