"""The RpcServices as the registry relies on them: our own word only.

Anybody with the right may write a status: a person, a restored backup.  A status that this process's pod
controller has not looked at changes nothing in the registry: the object stays as it was relied on last, and
one that went stays until the pod controller has looked at its key.
"""

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence

import msgspec

from rpcregistry.model import Endpoint, ObjectKey, RpcService, ServiceKey
from rpcregistry.reconcile.byname import BY_NAME
from rpcregistry.reconcile.ports import Change, Source


class Relied:
    """A source in place of *watched*; for any thread.

    Informers and writers ``note`` what changed; the pod controller says what it wrote (``vouch``) or found
    right (``vouch_if_there``), and which keys it has looked at (``looked``).  Lost with the process: at a
    start all rows count as our own (``begin``), and every name is unsettled until its keys were looked at.
    """

    def __init__(self, watched: Source[RpcService]) -> None:
        self._watched = watched
        # Subscribers are called under it, so that all hear of changes in the same order; they read meanwhile.
        self._lock = threading.RLock()  # protects all that follows
        self._services: dict[ObjectKey, RpcService] = {}
        self._by_name: dict[str, dict[ObjectKey, RpcService]] = {}
        self._gone: dict[ObjectKey, bool] = {}  # relied on, and deleted since: whether a LIST showed that
        self._on_change: list[Callable[[Change[RpcService]], None]] = []  # grows before anything starts
        self.store = self

    def subscribe(self, on_change: Callable[[Change[RpcService]], None]) -> None:
        """Call *on_change* with every change of what is relied on; it must not block."""
        self._on_change.append(on_change)

    # what becomes of it

    def begin(self) -> None:
        """Rely on everything as it is: nobody knows better yet."""
        with self._lock:
            self._services = {service.key: service for service in self._watched.store.values()}
            self._by_name = {}
            for key, service in self._services.items():
                self._by_name.setdefault(service.service_name, {})[key] = service
            self._gone = {}

    def note(self, change: Change[RpcService]) -> None:
        """Take in a change of the watched source."""
        with self._lock:
            if change.new:
                self._note_applied(change.new, change)
            elif change.old:
                self._note_deleted(change.old, change)

    def _note_applied(self, service: RpcService, change: Change[RpcService]) -> None:
        relied = self._services.get(service.key)
        if relied is None:
            known = not service.status.endpoints  # nobody's word: there is none
        else:
            known = relied.uid == service.uid and relied.status.endpoints == service.status.endpoints
        if known:
            self._put(service, change.listed, change.ours)

    def _note_deleted(self, service: RpcService, change: Change[RpcService]) -> None:
        relied = self._services.get(service.key)
        if relied is None or relied.uid != service.uid:
            return
        if relied.status.endpoints:
            self._gone[service.key] = change.listed
        else:
            self._drop(relied, change.listed)

    def vouch(self, service: RpcService) -> None:
        """The pod controller wrote *service*."""
        with self._lock:
            relied = self._services.get(service.key)
            if relied is not None and relied.uid != service.uid:
                self._drop(relied, self._gone.get(service.key, True))
            latest = self._watched.store.get(service.key)
            same = latest is not None and (
                latest.uid == service.uid and latest.status.endpoints == service.status.endpoints
            )
            # What was found right may have changed since, in all but its rows.
            self._put(latest if latest is not None and same else service, False, True)

    def vouch_if_there(self, service: RpcService) -> None:
        """The pod controller found *service* right, and it was not deleted since, by whomever."""
        with self._lock:
            latest = self._watched.store.get(service.key)
            if latest is not None and latest.uid == service.uid:
                self.vouch(service)  # if it goes now, that is noted after this

    def vouch_for_nothing(self, service: RpcService) -> None:
        """Nobody knows what *service* should list, and it cannot be written: rely on no row of it.

        Unless it was relied on before: then that goes on.
        """
        with self._lock:
            relied = self._services.get(service.key)
            if relied is None or relied.uid != service.uid:
                status = msgspec.structs.replace(service.status, endpoints=())
                self.vouch(msgspec.structs.replace(service, status=status))

    def looked(self, key: ServiceKey) -> None:
        """The pod controller has looked at *key*, and all that is to list its pods is written."""
        with self._lock:
            for service in self.listing(key):
                if service.key in self._gone:
                    self._drop(service, self._gone[service.key])

    def _put(self, service: RpcService, listed: bool, ours: bool) -> None:
        relied = self._services.get(service.key)
        if relied is service:
            return
        self._gone.pop(service.key, None)
        self._take_out(relied)
        self._services[service.key] = service
        self._by_name.setdefault(service.service_name, {})[service.key] = service
        self._tell(Change(relied, service, listed=listed, ours=ours))

    def _drop(self, service: RpcService, listed: bool) -> None:
        self._gone.pop(service.key, None)
        self._take_out(service)
        self._tell(Change(service, None, listed=listed))

    def _take_out(self, service: RpcService | None) -> None:
        if service is not None:
            del self._services[service.key]
            named = self._by_name[service.service_name]
            del named[service.key]
            if not named:
                del self._by_name[service.service_name]

    def _tell(self, change: Change[RpcService]) -> None:
        for on_change in self._on_change:
            on_change(change)

    # what the registry asks

    def is_unlooked(self, name: str) -> bool:
        """Whether an RpcService of the name lists what nobody has looked at, and none of it is relied on."""
        with self._lock:
            return any(
                service.status.endpoints and not self._is_relied_on(service)
                for service in self._watched.store.indexed(BY_NAME, name)
            )

    def _is_relied_on(self, service: RpcService) -> bool:
        relied = self._services.get(service.key)
        return relied is not None and relied.uid == service.uid

    def listing(self, key: ServiceKey) -> list[RpcService]:
        """The RpcServices of *key* that are relied on, those that went among them."""
        with self._lock:
            named = self._by_name.get(key.service_name, {}).values()
            return [service for service in named if service.namespace == key.namespace]

    def rows_of(self, service: RpcService) -> tuple[Endpoint, ...] | None:
        """The rows of *service* that are relied on; None where there are none to rely on."""
        with self._lock:
            relied = self._services.get(service.key)
            return relied.status.endpoints if relied is not None and relied.uid == service.uid else None

    # a source, with its store

    def get(self, key: ObjectKey) -> RpcService | None:
        """The object, as it is relied on."""
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

    def observe(self, written: RpcService) -> None:
        """Take in what our own write returned."""
        self._watched.observe(written)
