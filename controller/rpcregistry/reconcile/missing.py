"""Published endpoints that no RpcService lists now: they stay until the guard confirms their absence.

Either their RpcService was deleted, or they are left over from an earlier process.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

from rpcregistry.errors import Retry
from rpcregistry.layouts import Layout
from rpcregistry.manifests import RPCSERVICES
from rpcregistry.model import Endpoint, Pod, RpcService, ServiceKey
from rpcregistry.plan.ledger import Ledger
from rpcregistry.plan.leftovers import endpoints_in
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.pods import is_listed, left_services, names_service
from rpcregistry.plan.rows import declared_rows
from rpcregistry.reconcile.byname import listing, services_of
from rpcregistry.reconcile.guard import Decision, Guard, Snapshot, log_released
from rpcregistry.reconcile.held import HeldOnLease, WithoutObject
from rpcregistry.reconcile.leftovers import Leftovers
from rpcregistry.reconcile.memory import Past
from rpcregistry.reconcile.orphans import Orphans
from rpcregistry.reconcile.ports import Change, Clock, Source
from rpcregistry.reconcile.transactions import RegistryWriter

# (service name, namespace, pod uid): published, and no RpcService lists it now.  An empty uid: the namespace
# has no RpcService of that name.  Or a ``Leftover``, whose second text is a path.
Subject = tuple[str, str, str]


class SecondLook(Protocol):
    """What the guard's second look reads."""

    def pods(self) -> Iterable[Pod]:
        """All pods of the watched namespaces, by a quorum LIST."""

    def require_crd(self) -> None:
        """Raise a ``Failure`` unless the RpcService CRD exists and is not being deleted."""


class Missing:
    """Keeps track of published endpoints that no RpcService lists, and shows them on the Lease.

    For any thread: informers note changes, the registry's thread asks, the guard's thread looks and decides.
    *enqueue* is called with each name and namespace whose absences the guard decided on.  *registers*:
    whether a pod may register a service that it declares.
    """

    def __init__(
        self,
        *,
        writer: RegistryWriter,
        services: Source[RpcService],
        second_look: SecondLook,
        layouts: Sequence[Layout],
        clusters: Collection[str],
        namespaces: Collection[str],
        confirm: float,
        past: Past,
        enqueue: Callable[[str, str], None],
        on_lease: HeldOnLease,
        leftovers: Leftovers,
        registers: Callable[[Pod, str], bool],
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._services = services
        self._second_look = second_look
        self._layouts = layouts
        self._clusters = clusters
        self._namespaces = namespaces
        self._enqueue = enqueue
        self._on_lease = on_lease
        self._leftovers = leftovers
        self._registers = registers
        self._orphans = Orphans()
        self._lock = threading.Lock()  # protects _shown; held while the Lease is annotated
        self._shown: frozenset[str] = frozenset()  # names on the Lease: held, or not withdrawn yet
        self.guard: Guard[Subject] = Guard(
            "registry",
            look=self._look,
            decided=self._decided,
            past=past,
            confirm=confirm,
            clock=clock.monotonic,
        )

    # what changes mean

    def note(self, change: Change[RpcService]) -> None:
        """Note which endpoints lost their RpcService, and which are listed again."""
        old, new = change.old, change.new
        if old:
            self._leftovers.note_rows(old.service_name, old.status.endpoints)
        if old and new is None:
            self._note_deleted(old, shown=not change.listed)
        elif new:
            self.guard.forget((new.service_name, new.namespace, ""))
            self._note_listed(new)

    def note_pod(self, change: Change[Pod]) -> set[str]:
        """Note what a pod is seen to leave; return the names of which an earlier process published it.

        A LIST shows nothing: it may be of an API server that was restored.
        """
        if change.old is None or change.listed:
            return set()
        went = {name: declared_rows(change.old, name) for name in left_services(change.old, change.new)}
        return {name for name, rows in went.items() if self._leftovers.note_went(name, rows)}

    def _note_deleted(self, service: RpcService, shown: bool) -> None:
        """Note a deleted RpcService; *shown*: by a watch event, not by a LIST that lacks it."""
        key = service.service_key
        subject = (key.service_name, key.namespace, "")
        uids = {row.pod_uid for row in service.status.endpoints}
        if shown and service.known and not uids and not listing(self._services, key):
            # The last RpcService of the key, emptied before its deletion: nothing is left to confirm.
            self.guard.confirm(subject)
        else:
            self.guard.forget(subject)
        if uids:
            for uid in uids:
                self.guard.forget((key.service_name, key.namespace, uid))
            self._orphans.add(key, uids)
            for other in listing(self._services, key):
                self._note_listed(other)

    def _note_listed(self, service: RpcService) -> None:
        self._orphans.discard(service.service_key, {row.pod_uid for row in service.status.endpoints})

    # what is missing

    def of(self, name: str) -> set[Subject]:
        """All that is published under the name and not listed."""
        return self._unlisted(name) | self._leftovers.of(name)

    def _unlisted(self, name: str) -> set[Subject]:
        """Entries published under the name that no RpcService lists now.

        The ledger names the namespaces.  If one still has an RpcService of the name, the orphaned pods of its
        deleted RpcServices count instead.
        """
        namespaces = {
            namespace
            for claim in self._claims(name)
            if claim.cluster in self._clusters
            for namespace in claim.namespaces
            if self._watches(namespace) and not listing(self._services, ServiceKey(namespace, name))
        }
        missing = {(name, namespace, "") for namespace in namespaces}
        for namespace in {service.namespace for service in services_of(self._services, name)}:
            uids = self._orphans.of(ServiceKey(namespace, name))
            missing |= {(name, namespace, uid) for uid in uids}
        return missing

    def unconfirmed(self, name: str) -> set[Subject]:
        """Those that lost their RpcService, unconfirmed; wakes the guard if it holds some of them not yet."""
        missing = {subject for subject in self._unlisted(name) if subject not in self.guard.confirmed}
        if any(subject not in self.guard.held for subject in missing):
            self.guard.wake()
        return missing

    def left(
        self, layout: Layout, name: str, view: ObservedZnodes, rows: Iterable[Endpoint]
    ) -> frozenset[str]:
        """The items of *view* that an earlier process left over; wakes the guard if it holds one not yet."""
        left = self._leftovers.left(layout, name, view, rows)
        if any((name, layout.path(name), item) not in self.guard.held for item in left):
            self.guard.wake()
        return left

    def gone(self, layout: Layout, name: str) -> frozenset[str]:
        """The items that an earlier process left over, and that are confirmed to belong to no pod."""
        return self._leftovers.gone(layout, name)

    def has_unwatched_namespaces(self, name: str) -> bool:
        """Whether the name has published endpoints of a namespace that we do not watch."""
        return not all(
            self._watches(namespace) for claim in self._claims(name) for namespace in claim.namespaces
        )

    def retain_only(self, names: Iterable[str]) -> None:
        """Have the guard drop all confirmations but those of what is missing now; *names*: all names."""
        confirmed = {name for name, _, _ in self.guard.confirmed}
        self.guard.retain_only(
            {subject for name in confirmed.intersection(names) for subject in self.of(name)}
        )

    def _claims(self, name: str) -> Iterator[Ledger]:
        for layout in self._layouts:
            yield from self._writer.cache.claims(layout, name)

    def _watches(self, namespace: str) -> bool:
        return not self._namespaces or namespace in self._namespaces

    # the guard

    def _look(self, confirmed: Collection[Subject]) -> Snapshot[Subject] | None:
        if not self._writer.compared:
            raise Retry("ZooKeeper was not read since it was connected")
        ledgered = self._writer.cache.claimed()
        missing = {subject for name in ledgered for subject in self.of(name)}
        if not missing - set(confirmed):
            return None
        self._second_look.require_crd()
        listed = {
            (service.service_name, service.namespace, uid)
            for service in self._services.second_look()
            for uid in ("", *(row.pod_uid for row in service.status.endpoints))
        }
        # Any other pod is seen to be no endpoint any more, even while it is there.
        pods = [pod for pod in self._second_look.pods() if is_listed(pod)]
        named = {
            (declaration.service_name, pod.namespace, uid)
            for pod in pods
            for declaration in pod.declarations
            for uid in ("", pod.uid)
        }
        for name in {name for name, path, _ in missing if _is_path(path)}:
            naming = [pod for pod in pods if names_service(pod, name) and self._registers(pod, name)]
            named |= self._leftovers.explained_by(naming, name)
        sizes = {name: self._writer.cache.size(name) for name in ledgered}
        absent = missing - set(confirmed) - listed - named
        left = endpoints_in(subject for subject in absent if _is_path(subject[1]))
        weights = {subject: left.get(subject, 1 if subject[2] else sizes[subject[0]]) for subject in absent}
        words = {subject: self._on_lease.words([subject[0]]) for subject in absent}
        return Snapshot(weights, sum(sizes.values()), words=words)

    def _decided(self, decision: Decision[Subject]) -> None:
        confirmed = [subject for subject in decision.changed if subject in self.guard.confirmed]
        self._leftovers.discard(subject for subject in confirmed if _is_path(subject[1]))
        for name, namespace, uid in confirmed:
            if not _is_path(namespace):
                key = ServiceKey(namespace, name)
                self._orphans.discard(key, {uid} if uid else self._orphans.of(key))
        if decision.released:
            log_released((name for name, _, _ in decision.released), sum(decision.released.values()))
        for name, namespace in sorted({(name, namespace) for name, namespace, _ in decision.changed}):
            self._enqueue(name, "" if _is_path(namespace) else namespace)
        self._show_held()

    # what the Lease shows

    def concluded(self, name: str) -> None:
        """Note that the name was written: the Lease keeps naming it only while it is held."""
        if name in self._shown:
            self._show_held()

    def _show_held(self) -> None:
        """Have the Lease name the services held without an RpcService, until they are withdrawn."""
        with self._lock:
            held: dict[str, WithoutObject] = {}
            for (name, _, _), hold in self.guard.held.items():
                before = held.get(name, WithoutObject(0, 0.0))
                held[name] = WithoutObject(before.count + hold.weight, max(before.until, hold.until))
            leaving = {name for name in self._shown - held.keys() if self.of(name)}
            self._shown = frozenset(leaving | held.keys())
            self._on_lease.show(RPCSERVICES.kind, held, leaving)


def _is_path(text: str) -> bool:
    return text.startswith("/")  # no namespace does
