"""The registry controller: keeps ZooKeeper equal to what RpcService statuses list."""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from controller.errors import Conflict, Fenced, Rejected, Retry
from controller.layouts import kube2zk
from controller.manifests import RPCSERVICES, regarding
from controller.model import Condition, Pod, RpcService, ServiceKey
from controller.names import is_service_name
from controller.plan import znodes as planning
from controller.plan.rpcservices import FINISHED
from controller.reconcile.fence import Fence
from controller.reconcile.guard import Guard, Sight
from controller.reconcile.ports import Change, Events, Registry, Source

log = structlog.get_logger(__name__)

BY_NAME = "service name"  # index of RpcServices
UNAVAILABLE_AFTER = 10.0
SERVICES_A_TRANSACTION = 100
BYTES_A_TRANSACTION = 512 * 1024

# (service name, namespace, pod uid): published once, and no RpcService lists it now.  Without a uid:
# there is no RpcService of that name in that namespace.
Missing = tuple[str, str, str]


def service_indexes() -> Mapping[str, Callable[[RpcService], Iterable[str]]]:
    """The indexes that the RpcService store needs."""
    return {BY_NAME: lambda service: [service.service_name]}


class Reader(Protocol):
    """What the guard's second look reads."""

    def pods(self) -> Iterable[Pod]:
        """All pods of the watched namespaces, by a quorum LIST."""

    def require_crd(self) -> None:
        """Fail unless the RpcService CRD is there and not being deleted."""


class RegistryReconciler:
    """Makes the znodes of a service name equal to what the RpcServices of that name list.

    One thread calls ``reconcile``; changes are told by any thread.  *unsettled*: whether the statuses of a
    name are not to be relied on yet.  *conditions* is told what the
    Synced condition of an RpcService should be, *written* the layout, operation and service name of each
    znode that was written.
    """

    def __init__(
        self,
        registry: Registry,
        services: Source[RpcService],
        reader: Reader,
        unsettled: Callable[[str], bool],
        fence: Fence | None,
        layouts: Sequence[planning.Layout],
        settings: planning.Settings,
        namespaces: Collection[str],
        grace: timedelta,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        confirm: float,
        enqueue: Callable[[Iterable[str]], None],
        conditions: Callable[[RpcService, Condition], None],
        events: Events,
        written: Callable[[str, str, str], None],
    ) -> None:
        self._registry = registry
        self._services = services
        self._reader = reader
        self._unsettled = unsettled
        self._fence = fence
        self._layouts = layouts
        self._settings = settings
        self._namespaces = namespaces
        self._grace = grace
        self._clock = clock
        self._now = now
        self._enqueue = enqueue
        self._conditions = conditions
        self._events = events
        self._tell_written = written
        self._observed: dict[str, planning.Znode | None] = {}
        self._stale: set[str] = set()  # observed, but changed since by somebody, perhaps by us
        self._written: set[str] = set()  # in the batch in hand
        # The uids of pods that an RpcService listed when it went, while none of the same name lists them.
        self._bereft: dict[ServiceKey, set[str]] = {}
        self._lock = threading.Lock()  # held while that changes
        self._generation = -1  # of the connection with which everything was compared last
        self._changed: dict[str, float] = {}  # names whose own change is not written yet: since when
        self.guard: Guard[Missing] = Guard(self._look, self._decided, confirm, clock, now)

    # what changes mean

    def service_changed(self, change: Change[RpcService]) -> set[str]:
        """The names that an RpcService's change touches."""
        old, new = change.old, change.new
        names = {service.service_name for service in (old, new) if service}
        if old and new is None:
            self._gone(old, shown=not change.listed)
        elif new:
            self.guard.back((new.service_name, new.namespace, ""))
            self._note_listed(new)
        if old is None or new is None or _asks(old) != _asks(new):
            for name in names:
                self._changed.setdefault(name, self._clock())
            return names
        return names if old.known != new.known else set()

    def _gone(self, service: RpcService, shown: bool) -> None:
        """Note what nobody lists any more; *shown*: by a watch event."""
        key = service.service_key
        subject = (key.service_name, key.namespace, "")
        uids = {row.pod_uid for row in service.status.endpoints}
        if shown and service.known and not uids and not self._listing(key):
            # The last one, and emptied before it was deleted: nothing to confirm.
            self.guard.gone(subject)
        else:
            self.guard.back(subject)
        if uids:
            for uid in uids:
                self.guard.back((key.service_name, key.namespace, uid))
            with self._lock:
                self._bereft.setdefault(key, set()).update(uids)
            for other in self._listing(key):
                self._note_listed(other)

    def _note_listed(self, service: RpcService) -> None:
        self._forget_bereft(service.service_key, {row.pod_uid for row in service.status.endpoints})

    def _forget_bereft(self, key: ServiceKey, uids: Collection[str]) -> None:
        with self._lock:
            left = self._bereft.get(key)
            if left is not None:
                left.difference_update(uids)
                if not left:
                    del self._bereft[key]

    def path_changed(self, path: str) -> set[str]:
        """The names to look at again because a znode of theirs changed, by whomever."""
        self._stale.add(path)
        found = set()
        for layout in self._layouts:
            root, _, child = path.rpartition("/")
            if root == layout.base.rstrip("/"):
                found.add(child)
            elif root == layout.ledger_root:
                name = layout.service_name(child)
                found |= {name} if name else set()
        return found

    def compare(self) -> set[str]:
        """Read everything anew, and return every name there is: listed by an RpcService or in the ledger.

        Called by the thread that reconciles.
        """
        generation = self._registry.generation
        names = {service.service_name for service in self._services.store.values()}
        for layout in self._layouts:
            self._registry.make_parents(layout.path("x"))
            self._registry.make_parents(layout.ledger_path("x"))
            for entry in self._registry.children(layout.ledger_root):
                name = layout.service_name(entry)
                if name:
                    names.add(name)
        self._stale.clear()
        self._observed = self._read_anew(names)
        self._generation = generation
        self.guard.keep({subject for name in names for subject in self._missing(name)})
        return names

    def _read_anew(self, names: Iterable[str]) -> dict[str, planning.Znode | None]:
        try:
            return self._registry.read(self._paths(names))
        except Rejected:
            found: dict[str, planning.Znode | None] = {}
            for name in names:
                with suppress(Rejected):  # a znode that may not be read costs no other
                    found |= self._registry.read(self._paths([name]))
            return found

    @property
    def compared(self) -> bool:
        """Whether everything was compared since the connection was made."""
        return self._generation == self._registry.generation

    # reconciling

    def reconcile(self, names: Sequence[str]) -> tuple[dict[str, Exception], set[str]]:
        """Make the znodes of *names* right; return those that failed, and those for which it wrote.

        All are written in as few transactions as fit; where one cannot be, each of its names is
        tried alone, so that a name that is refused costs no other.
        """
        self._written.clear()
        failures: dict[str, Exception] = {}
        try:
            self._write(names)
        except Fenced:
            raise
        except Exception as failure:  # noqa: BLE001  (what one name does to it costs no other)
            if isinstance(failure, Retry) and not isinstance(failure, Conflict):
                self._forget(names)
                failures = dict.fromkeys(names, failure)
            else:
                log.debug("one by one", services=len(names), reason=str(failure))
                failures = self._one_by_one(names)
        for name in names:
            if name not in failures:
                self._changed.pop(name, None)
        self._tell_unavailable(failures)
        return failures, set(self._written)

    def _one_by_one(self, names: Iterable[str]) -> dict[str, Exception]:
        failures: dict[str, Exception] = {}
        for name in names:
            try:
                self._write([name], fresh=True)
            except Fenced:
                raise
            except Exception as failure:  # noqa: BLE001
                self._forget([name])
                failures[name] = failure
        return failures

    def _write(self, names: Sequence[str], fresh: bool = False) -> None:
        if not self._registry.connected:
            raise Retry("ZooKeeper is not connected")
        if fresh:
            self._forget(names)
        self._read(names)
        batch: list[tuple[str, planning.Publication, list[planning.Outcome]]] = []
        for name in names:
            batch.append(self._plan(name))
            if len(batch) == SERVICES_A_TRANSACTION or _size(batch) > BYTES_A_TRANSACTION:
                self._commit(batch)
                batch = []
        self._commit(batch)

    def _forget(self, names: Iterable[str]) -> None:
        for path in self._paths(names):
            self._observed.pop(path, None)

    def _paths(self, names: Iterable[str]) -> list[str]:
        return [
            path
            for name in names
            if is_service_name(name)
            for layout in self._layouts
            for path in (layout.path(name), layout.ledger_path(layout.path(name)))
        ]

    def _read(self, names: Iterable[str]) -> None:
        unread = [path for path in self._paths(names) if path not in self._observed or path in self._stale]
        self._stale.difference_update(unread)
        if unread:
            self._observed.update(self._registry.read(unread))

    def _plan(self, name: str) -> tuple[str, planning.Publication, list[planning.Outcome]]:
        services = self._services.store.indexed(BY_NAME, name)
        missing = self._unconfirmed(name)
        holder = min((namespace for _, namespace, uid in missing if not uid), default="")
        frozen = bool(missing) or self._is_frozen(name)
        wanted = planning.publication(services, frozen, self._settings, holder)
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        outcomes = [
            planning.plan(
                layout,
                name,
                wanted,
                self._view(layout, name),
                self._settings,
                now,
                self._grace_over(self._ledger(layout, name)),
            )
            for layout in self._layouts
        ]
        return name, wanted, outcomes

    def _view(self, layout: planning.Layout, name: str) -> planning.Observed:
        path = layout.path(name)
        return planning.Observed(self._observed.get(path), self._observed.get(layout.ledger_path(path)))

    def _ledger(self, layout: planning.Layout, name: str) -> planning.Ledger | None:
        entry = self._observed.get(layout.ledger_path(layout.path(name)))
        return planning.decode_ledger(entry.data) if entry else None

    def _grace_over(self, ledger: planning.Ledger | None) -> bool:
        if ledger is None or not ledger.withdrawn_at:
            return False
        try:
            return datetime.fromisoformat(ledger.withdrawn_at) + self._grace <= self._now()
        except ValueError:
            return False

    def _unconfirmed(self, name: str) -> set[Missing]:
        missing = {subject for subject in self._missing(name) if subject not in self.guard.confirmed}
        if any(subject not in self.guard.held for subject in missing):
            self.guard.poke()
        return missing

    def _is_frozen(self, name: str) -> bool:
        """Whether something about the name is unknown: then nothing of it is removed."""
        unwatched = any(
            not self._watches(namespace)
            for layout in self._layouts
            for namespace in getattr(self._ledger(layout, name), "namespaces", ())
        )
        unknown = self._services.unknown is not None
        return unknown or unwatched or self._unsettled(name)

    def _watches(self, namespace: str) -> bool:
        return not self._namespaces or namespace in self._namespaces

    def _missing(self, name: str) -> set[Missing]:
        """What of the name was published, and is listed no more.

        The ledger tells the namespaces; of one that still has an RpcService of the name, the RpcServices
        that went tell the pods.
        """
        namespaces = {
            namespace
            for layout in self._layouts
            if (ledger := self._ledger(layout, name)) and ledger.cluster == self._settings.cluster_id
            for namespace in ledger.namespaces
            if self._watches(namespace) and not self._listing(ServiceKey(namespace, name))
        }
        missing = {(name, namespace, "") for namespace in namespaces}
        for namespace in {service.namespace for service in self._services.store.indexed(BY_NAME, name)}:
            with self._lock:
                uids = frozenset(self._bereft.get(ServiceKey(namespace, name), ()))
            missing |= {(name, namespace, uid) for uid in uids}
        return missing

    def _listing(self, key: ServiceKey) -> list[RpcService]:
        """The RpcServices of a key."""
        services = self._services.store.indexed(BY_NAME, key.service_name)
        return [service for service in services if service.namespace == key.namespace]

    def _commit(self, batch: Sequence[tuple[str, planning.Publication, list[planning.Outcome]]]) -> None:
        ops = [op for _, _, outcomes in batch for outcome in outcomes for op in outcome.ops]
        if ops:
            self._transact(ops)
        for name, _, outcomes in batch:
            for layout, outcome in zip(self._layouts, outcomes, strict=True):
                for op in outcome.ops:
                    self._written.add(name)
                    if op.path == layout.path(name):
                        self._tell_written(layout.name, type(op).__name__.lower(), name)
        for name, wanted, outcomes in batch:
            for service in self._services.store.indexed(BY_NAME, name):
                for note in (note for outcome in outcomes for note in outcome.notes):
                    self._events.record(regarding(RPCSERVICES, service), note, "Publish", warning=True)
                if service.known:
                    self._conditions(service, planning.synced(service, wanted, outcomes))

    def _transact(self, ops: Sequence[planning.Op]) -> None:
        """Write *ops* in one transaction, and remember what they left behind."""
        try:
            fence = [self._fence.check()] if self._fence else []
            versions = self._registry.commit([*fence, *ops])[len(fence) :]
        except Conflict as conflict:
            path = getattr(conflict, "path", "")
            if self._fence:
                self._fence.gone(path)
            if path:
                self._registry.make_parents(path)
            raise
        for op, version in zip(ops, versions, strict=True):
            log.info(type(op).__name__.lower(), path=op.path)
            match op:
                case planning.Create(path, data) | planning.Set(path, data, _) if version is not None:
                    before = self._observed.get(path)
                    self._observed[path] = planning.Znode(data, version, before.children if before else 0)
                case planning.Delete(path, _):
                    self._observed[path] = None
                case _:
                    self._observed.pop(op.path, None)

    def _tell_unavailable(self, failures: Iterable[str]) -> None:
        for name in failures:
            waiting = self._clock() - self._changed.get(name, self._clock())
            if waiting >= UNAVAILABLE_AFTER:
                for service in self._services.store.indexed(BY_NAME, name):
                    self._conditions(service, planning.unavailable(UNAVAILABLE_AFTER))

    # absences

    def _look(self, confirmed: Collection[Missing]) -> Sight[Missing] | None:
        if not self.compared:
            raise Retry("ZooKeeper was not read since it was connected")
        ledgered = {
            name
            for layout in self._layouts
            for path, znode in self._observed.copy().items()
            if znode and path.startswith(layout.ledger_root + "/")
            if (name := layout.service_name(path.rpartition("/")[2]))
        }
        missing = {subject for name in ledgered for subject in self._missing(name)}
        if not missing - set(confirmed):
            return None
        self._reader.require_crd()
        listed = {
            (service.service_name, service.namespace, uid)
            for service in self._services.second_look()
            for uid in ("", *(row.pod_uid for row in service.status.endpoints))
        }
        named = {
            (declaration.service_name, pod.namespace, uid)
            for pod in self._reader.pods()
            if pod.phase not in FINISHED
            for declaration in pod.declarations
            for uid in ("", pod.uid)
        }
        sizes = {name: self._size(name) for name in ledgered}
        absent = missing - set(confirmed) - listed - named
        weights = {(name, namespace, uid): 1 if uid else sizes[name] for name, namespace, uid in absent}
        return Sight(weights, sum(sizes.values()))

    def _size(self, name: str) -> int:
        """How many addresses the znodes of a name hold."""
        contents = (self._observed.get(layout.path(name)) for layout in self._layouts)
        parsed = (kube2zk.parse(znode.data) for znode in contents if znode)
        return sum(len(content.servers) for content in parsed if content)

    def _decided(self, missing: Collection[Missing]) -> None:
        for name, namespace, uid in missing:
            if (name, namespace, uid) in self.guard.confirmed:
                key = ServiceKey(namespace, name)
                self._forget_bereft(key, {uid} if uid else self._bereft.get(key, ()))
        self._enqueue({name for name, _, _ in missing})


def _asks(service: RpcService) -> Any:
    """What of an RpcService decides on what is published."""
    return service.status.endpoints, service.spec, service.generated


def _size(batch: Iterable[tuple[str, planning.Publication, list[planning.Outcome]]]) -> int:
    return sum(
        len(getattr(op, "data", b""))
        for _, _, outcomes in batch
        for outcome in outcomes
        for op in outcome.ops
    )
