"""What was published and is listed no more: it stays until the guard has confirmed that it is gone."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

from rpcregistry.errors import Retry
from rpcregistry.layouts import Layout
from rpcregistry.manifests import RPCSERVICES
from rpcregistry.model import Pod, RpcService, ServiceKey
from rpcregistry.plan.ledger import Ledger
from rpcregistry.plan.pods import is_listed
from rpcregistry.reconcile.byname import listing, services_of
from rpcregistry.reconcile.guard import Decision, Guard, Sight, log_released
from rpcregistry.reconcile.held import HeldOnLease, WithoutObject
from rpcregistry.reconcile.orphans import Orphans
from rpcregistry.reconcile.ports import Change, Clock, Source
from rpcregistry.reconcile.transactions import RegistryWriter

# (service name, namespace, pod uid): published once, and no RpcService lists it now.  Without a uid:
# there is no RpcService of that name in that namespace.
Subject = tuple[str, str, str]


class SecondLook(Protocol):
    """What the guard's second look reads."""

    def pods(self) -> Iterable[Pod]:
        """All pods of the watched namespaces, by a quorum LIST."""

    def require_crd(self) -> None:
        """Fail unless the RpcService CRD is there and not being deleted."""


class Missing:
    """Which of what was published is listed no more, and what the Lease says of that.

    For any thread: informers note changes, the registry's thread asks, the guard's looks and decides.
    *enqueue* is called with the names about which something was decided.
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
        enqueue: Callable[[Iterable[str]], None],
        on_lease: HeldOnLease,
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
        self._orphans = Orphans()
        self._lock = threading.Lock()  # protects _shown, and that the Lease shows what was found last
        self._shown: frozenset[str] = frozenset()  # names that the Lease has, held or not withdrawn yet
        self.guard: Guard[Subject] = Guard(
            look=self._look, decided=self._decided, confirm=confirm, clock=clock.monotonic
        )

    # what changes mean

    def note(self, change: Change[RpcService]) -> None:
        """Take in what nobody lists any more, and what somebody lists again."""
        old, new = change.old, change.new
        if old and new is None:
            self._gone(old, shown=not change.listed)
        elif new:
            self.guard.back((new.service_name, new.namespace, ""))
            self._note_listed(new)

    def _gone(self, service: RpcService, shown: bool) -> None:
        """Note what nobody lists any more; *shown*: by a watch event."""
        key = service.service_key
        subject = (key.service_name, key.namespace, "")
        uids = {row.pod_uid for row in service.status.endpoints}
        if shown and service.known and not uids and not listing(self._services, key):
            # The last one, and emptied before it was deleted: nothing to confirm.
            self.guard.gone(subject)
        else:
            self.guard.back(subject)
        if uids:
            for uid in uids:
                self.guard.back((key.service_name, key.namespace, uid))
            self._orphans.add(key, uids)
            for other in listing(self._services, key):
                self._note_listed(other)

    def _note_listed(self, service: RpcService) -> None:
        self._orphans.discard(service.service_key, {row.pod_uid for row in service.status.endpoints})

    # what is missing

    def of(self, name: str) -> set[Subject]:
        """What of the name was published, and is listed no more.

        The ledger tells the namespaces; of one that still has an RpcService of the name, the RpcServices
        that went tell the pods.
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
        """What of that is not confirmed; the guard looks soon where it does not know of it."""
        missing = {subject for subject in self.of(name) if subject not in self.guard.confirmed}
        if any(subject not in self.guard.held for subject in missing):
            self.guard.poke()
        return missing

    def is_out_of_sight(self, name: str) -> bool:
        """Whether something of the name was published of a namespace that is not watched."""
        return not all(
            self._watches(namespace) for claim in self._claims(name) for namespace in claim.namespaces
        )

    def keep(self, names: Iterable[str]) -> None:
        """Confirmed stays what is still missing of *names*, all that there are; nothing else."""
        self.guard.keep({subject for name in names for subject in self.of(name)})

    def _claims(self, name: str) -> Iterator[Ledger]:
        for layout in self._layouts:
            yield from self._writer.memory.claims(layout, name)

    def _watches(self, namespace: str) -> bool:
        return not self._namespaces or namespace in self._namespaces

    # the guard

    def _look(self, confirmed: Collection[Subject]) -> Sight[Subject] | None:
        if not self._writer.compared:
            raise Retry("ZooKeeper was not read since it was connected")
        ledgered = self._writer.memory.claimed()
        missing = {subject for name in ledgered for subject in self.of(name)}
        if not missing - set(confirmed):
            return None
        self._second_look.require_crd()
        listed = {
            (service.service_name, service.namespace, uid)
            for service in self._services.second_look()
            for uid in ("", *(row.pod_uid for row in service.status.endpoints))
        }
        named = {
            (declaration.service_name, pod.namespace, uid)
            for pod in self._second_look.pods()
            if is_listed(pod)  # any other is seen to be no endpoint any more, even while it is there
            for declaration in pod.declarations
            for uid in ("", pod.uid)
        }
        sizes = {name: self._writer.memory.size(name) for name in ledgered}
        absent = missing - set(confirmed) - listed - named
        weights = {(name, namespace, uid): 1 if uid else sizes[name] for name, namespace, uid in absent}
        words = {subject: self._on_lease.words([subject[0]]) for subject in absent}
        return Sight(weights, sum(sizes.values()), words=words)

    def _decided(self, decision: Decision[Subject]) -> None:
        for name, namespace, uid in decision.changed:
            if (name, namespace, uid) in self.guard.confirmed:
                key = ServiceKey(namespace, name)
                self._orphans.discard(key, {uid} if uid else self._orphans.of(key))
        if decision.released:
            log_released((name for name, _, _ in decision.released), sum(decision.released.values()))
        self._enqueue({name for name, _, _ in decision.changed})
        self._show_held()

    # what the Lease shows

    def concluded(self, name: str) -> None:
        """The name was written: the Lease goes on naming it only where it is held."""
        if name in self._shown:
            self._show_held()

    def _show_held(self) -> None:
        """Have the Lease name what is held without an RpcService, until it is withdrawn."""
        with self._lock:
            held: dict[str, WithoutObject] = {}
            for (name, _, _), hold in self.guard.held.items():
                before = held.get(name, WithoutObject(0, 0.0))
                held[name] = WithoutObject(before.count + hold.weight, max(before.until, hold.until))
            leaving = {name for name in self._shown - held.keys() if self.of(name)}
            self._shown = frozenset(leaving | held.keys())
            self._on_lease.show(RPCSERVICES.kind, held, leaving)
