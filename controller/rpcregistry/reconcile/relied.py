"""The RpcServices as the registry relies on them: our own word only.

Other writers may change a status: a person, a restored backup.  A status that this process's pod controller
has not checked changes nothing in the registry.  The registry keeps relying on the last checked one, and on a
deleted RpcService until the pod controller has reconciled its key.
"""

import threading
from collections.abc import Callable, Container, Hashable, Iterable, Sequence

import msgspec

from rpcregistry.model import ObjectKey, RpcService, ServiceKey
from rpcregistry.plan.publication import Place, place
from rpcregistry.reconcile.byname import BY_NAME
from rpcregistry.reconcile.ports import Change, Source


class Relied:
    """A source in place of *watched*; for any thread.

    Informers and writers ``note`` changes.  The pod controller says which objects it wrote (``vouch``) or
    found right (``vouch_if_there``), and which keys it has reconciled (``looked``).  Lost with the process:
    at a start all rows count as our own (``begin``), and every name is pending until its keys were
    reconciled.
    """

    def __init__(self, watched: Source[RpcService]) -> None:
        self._watched = watched
        # Subscribers are called under it, so that all see changes in the same order; they read meanwhile.
        self._lock = threading.RLock()  # protects all that follows
        self._services: dict[ObjectKey, RpcService] = {}
        self._by_name: dict[str, dict[ObjectKey, RpcService]] = {}
        self._deleted: dict[ObjectKey, bool] = {}  # relied on, but deleted: whether a LIST showed that
        self._on_change: list[Callable[[Change[RpcService]], None]] = []  # grows before anything starts
        self.store = self

    def subscribe(self, on_change: Callable[[Change[RpcService]], None]) -> None:
        """Call *on_change* with every change of what is relied on; it must not block."""
        self._on_change.append(on_change)

    # changes

    def begin(self) -> None:
        """Rely on every object as it is, since no pod was checked yet."""
        with self._lock:
            self._services = {service.key: service for service in self._watched.store.values()}
            self._by_name = {}
            for key, service in self._services.items():
                self._by_name.setdefault(service.service_name, {})[key] = service
            self._deleted = {}

    def note(self, change: Change[RpcService]) -> None:
        """Note a change of the watched source."""
        with self._lock:
            if change.new:
                self._note_applied(change.new, change)
            elif change.old:
                self._note_deleted(change.old, change)

    def _note_applied(self, service: RpcService, change: Change[RpcService]) -> None:
        relied = self._services.get(service.key)
        # An object without rows has no foreign ones.
        if not service.status.endpoints if relied is None else _lists_the_same(relied, service):
            self._put(service, change.listed, change.ours)

    def _note_deleted(self, service: RpcService, change: Change[RpcService]) -> None:
        relied = self.of(service)
        if relied and relied.status.endpoints:
            self._deleted[service.key] = change.listed
        elif relied:
            self._drop(relied, change.listed)

    def vouch(self, service: RpcService) -> None:
        """Rely on *service*, which the pod controller wrote."""
        with self._lock:
            relied = self._services.get(service.key)
            if relied is not None and relied.uid != service.uid:
                self._drop(relied, self._deleted.get(service.key, True))
            latest = self._watched.store.get(service.key)
            # Take the newest object with these rows: all else may have changed since the check.
            self._put(latest if latest and _lists_the_same(latest, service) else service, False, True)

    def vouch_if_there(self, service: RpcService) -> None:
        """Rely on *service*, which the pod controller found right, unless it was deleted since."""
        with self._lock:
            latest = self._watched.store.get(service.key)
            if latest is not None and latest.uid == service.uid:
                self.vouch(service)  # a deletion from now on is noted after this

    def vouch_for_nothing(self, service: RpcService) -> None:
        """Rely on no row of *service*: its status is wrong, and the API server refuses to correct it.

        If it was relied on before, or another object of its key, keep relying on those rows.
        """
        with self._lock:
            if self.of(service) is None:
                before = self._services.get(service.key)
                same_name = before is not None and before.service_name == service.service_name
                rows = before.status.endpoints if before and same_name else ()
                status = msgspec.structs.replace(service.status, endpoints=rows)
                self.vouch(msgspec.structs.replace(service, status=status))

    def looked(self, key: ServiceKey, seen: Container[str]) -> None:
        """Drop the deleted RpcServices of *key*: it is reconciled, and its pods are listed elsewhere.

        *seen*: the uids of those that the plan took for existing.  If one is deleted, its key is due again.
        """
        with self._lock:
            for service in self._deleted_of(key):
                if service.uid not in seen:
                    self._drop(service, self._deleted.get(service.key, True))

    def deleted_of(self, key: ServiceKey) -> list[RpcService]:
        """The RpcServices of *key* that are not there any more and still relied on, noted in time or not."""
        with self._lock:
            return self._deleted_of(key)

    def deleted(self) -> list[RpcService]:
        """The RpcServices of all keys that were deleted, and are still relied on."""
        with self._lock:
            return [self._services[key] for key in self._deleted]

    def withdraw(self, key: ServiceKey, obsolete: Container[Place]) -> None:
        """Drop the *obsolete* rows from the deleted RpcServices of *key*: their pods show that they ended."""
        with self._lock:
            for service in self._deleted_of(key):
                rows = tuple(row for row in service.status.endpoints if place(row) not in obsolete)
                if rows != service.status.endpoints:
                    listed = self._deleted.get(service.key, True)
                    status = msgspec.structs.replace(service.status, endpoints=rows)
                    self._put(msgspec.structs.replace(service, status=status), False, True)
                    self._deleted[service.key] = listed

    def _deleted_of(self, key: ServiceKey) -> list[RpcService]:
        latest = ((service, self._watched.store.get(service.key)) for service in self.listing(key))
        return [service for service, now in latest if now is None or now.uid != service.uid]

    def _put(self, service: RpcService, listed: bool, ours: bool) -> None:
        relied = self._services.get(service.key)
        if relied is service:
            return
        self._deleted.pop(service.key, None)
        self._take_out(relied)
        self._services[service.key] = service
        self._by_name.setdefault(service.service_name, {})[service.key] = service
        self._notify(Change(relied, service, listed=listed, ours=ours))

    def _drop(self, service: RpcService, listed: bool) -> None:
        self._deleted.pop(service.key, None)
        self._take_out(service)
        self._notify(Change(service, None, listed=listed))

    def _take_out(self, service: RpcService | None) -> None:
        if service is not None:
            del self._services[service.key]
            named = self._by_name[service.service_name]
            del named[service.key]
            if not named:
                del self._by_name[service.service_name]

    def _notify(self, change: Change[RpcService]) -> None:
        for on_change in self._on_change:
            on_change(change)

    # questions of the registry

    def is_unlooked(self, name: str) -> bool:
        """Whether an RpcService of the name lists endpoints, was never checked, and is not relied on."""
        with self._lock:
            return any(
                service.status.endpoints and self.of(service) is None
                for service in self._watched.store.indexed(BY_NAME, name)
            )

    def listing(self, key: ServiceKey) -> list[RpcService]:
        """The RpcServices of *key* that are relied on, deleted ones included."""
        with self._lock:
            named = self._by_name.get(key.service_name, {}).values()
            return [service for service in named if service.namespace == key.namespace]

    def of(self, service: RpcService) -> RpcService | None:
        """*service* as it is relied on; None if it is not, though another object of its key may be."""
        relied = self.get(service.key)
        return relied if relied and relied.uid == service.uid else None

    # a source, with its store

    def get(self, key: ObjectKey) -> RpcService | None:
        """The object as it is relied on."""
        with self._lock:
            return self._services.get(key)

    def values(self) -> Sequence[RpcService]:
        """All of them."""
        with self._lock:
            return list(self._services.values())

    def indexed(self, index: str, value: Hashable) -> Sequence[RpcService]:
        """Those of a service name."""
        if index != BY_NAME:
            raise KeyError(index)
        with self._lock:
            return list(self._by_name.get(str(value), {}).values())

    @property
    def unknown(self) -> str | None:
        """Why the source cannot be read."""
        return self._watched.unknown

    def unknown_in(self, namespace: str) -> str | None:
        """Why the objects of one namespace cannot be read."""
        return self._watched.unknown_in(namespace)

    def second_look(self) -> Iterable[RpcService]:
        """A quorum LIST of its own."""
        return self._watched.second_look()

    def lacks(self, found: RpcService) -> bool:
        """Whether a LIST lacked what a read *found*."""
        return self._watched.lacks(found)

    def observe(self, written: RpcService) -> None:
        """Put what our own write returned into the watched store."""
        self._watched.observe(written)


def _lists_the_same(one: RpcService, other: RpcService) -> bool:
    """Whether both are one object, with the same rows."""
    return one.uid == other.uid and one.status.endpoints == other.status.endpoints
