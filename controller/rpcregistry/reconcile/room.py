"""How many RpcServices a namespace may have before we make no more."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from rpcregistry.errors import Rejected
from rpcregistry.model import ObjectKey, RpcService
from rpcregistry.reconcile.ports import Source

IN_NAMESPACE = "namespace"  # index of RpcServices


def service_indexes() -> Mapping[str, Callable[[RpcService], Iterable[str]]]:
    """The index that the RpcService store needs."""
    return {IN_NAMESPACE: lambda service: [service.namespace]}


class Room:
    """The RpcServices that are being made; for any thread.

    *most*: ``--services-per-namespace``, 0 for no bound.  Those that people declare count, too, and nothing
    that exists is changed.
    """

    def __init__(self, services: Source[RpcService], most: int) -> None:
        self._services = services
        self._most = most
        self._lock = threading.Lock()  # protects _making
        self._making: set[ObjectKey] = set()

    @contextmanager
    def to_make(self, key: ObjectKey) -> Iterator[None]:
        """Make the object *key* inside; raises ``Rejected`` if its namespace has enough of them."""
        if not self._most:
            yield
            return
        # Others may be making one right now.  Note ours before the store is read: what is made moves from the
        # one to the other, and is missed in neither.
        with self._lock:
            there = {making for making in self._making if making.namespace == key.namespace}
            self._making.add(key)
        try:
            there |= {service.key for service in self._services.store.indexed(IN_NAMESPACE, key.namespace)}
            if len(there - {key}) >= self._most:
                raise Rejected(
                    f"{key.name} is not made: namespace {key.namespace} has {len(there)} RpcServices, "
                    f"and --services-per-namespace is {self._most}"
                )
            yield
        finally:
            with self._lock:
                self._making.discard(key)
