"""Orphaned pods, whose RpcService was deleted: informers note them, the guard and the registry ask."""

import threading
from collections.abc import Collection

from rpcregistry.model import ServiceKey


class Orphans:
    """Orphaned uids: pods that a deleted RpcService listed and no other one of the name lists.

    For any thread.  Lost with the process: the next one finds their addresses left over, and holds them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _uids
        self._uids: dict[ServiceKey, set[str]] = {}

    def add(self, key: ServiceKey, uids: Collection[str]) -> None:
        """Note that an RpcService which listed *uids* was deleted."""
        with self._lock:
            self._uids.setdefault(key, set()).update(uids)

    def discard(self, key: ServiceKey, uids: Collection[str]) -> None:
        """Note that another RpcService lists *uids*, or that their absence is confirmed."""
        with self._lock:
            left = self._uids.get(key)
            if left is not None:
                left.difference_update(uids)
                if not left:
                    del self._uids[key]

    def of(self, key: ServiceKey) -> frozenset[str]:
        """The orphaned uids of a key."""
        with self._lock:
            return frozenset(self._uids.get(key, ()))
