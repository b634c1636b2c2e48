"""Since when something is so, of each of many keys."""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Since(Generic[K]):
    """The keys of which something holds, and since when; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _since
        self._since: dict[K, float] = {}

    def __contains__(self, key: K) -> bool:
        with self._lock:
            return key in self._since

    def begin(self, key: K, now: float) -> float:
        """It holds of *key*; return since when."""
        with self._lock:
            return self._since.setdefault(key, now)

    def end(self, key: K) -> None:
        """It does not hold of *key* (any more)."""
        with self._lock:
            self._since.pop(key, None)
