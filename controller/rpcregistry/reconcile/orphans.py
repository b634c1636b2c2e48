"""Which pods went with the RpcService that listed them: informers note them, guard and registry ask."""

import threading
from collections.abc import Collection

from rpcregistry.model import ServiceKey


class Orphans:
    """The uids of pods that an RpcService listed when it went, while none of the same name lists them.

    For any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _uids
        self._uids: dict[ServiceKey, set[str]] = {}

    def add(self, key: ServiceKey, uids: Collection[str]) -> None:
        """What listed *uids* is gone."""
        with self._lock:
            self._uids.setdefault(key, set()).update(uids)

    def discard(self, key: ServiceKey, uids: Collection[str]) -> None:
        """Others list *uids*, or they are gone for sure."""
        with self._lock:
            left = self._uids.get(key)
            if left is not None:
                left.difference_update(uids)
                if not left:
                    del self._uids[key]

    def of(self, key: ServiceKey) -> frozenset[str]:
        """The uids of a key."""
        with self._lock:
            return frozenset(self._uids.get(key, ()))
