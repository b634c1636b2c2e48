"""What is wanted of objects, and not written yet: noted by one thread, written by another."""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Wanted(Generic[K, V]):
    """What each key should have, and since when something else than before is wanted; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _wanted
        self._wanted: dict[K, tuple[V, float]] = {}

    def want(self, key: K, value: V, now: float) -> None:
        """Note *value*, in place of what was wanted before."""
        with self._lock:
            since = self._wanted[key][1] if key in self._wanted else now
            self._wanted[key] = value, since

    def get(self, key: K) -> tuple[V, float] | None:
        """What is wanted, and since when; None where that is nothing."""
        with self._lock:
            return self._wanted.get(key)

    def done(self, key: K, value: V) -> None:
        """Forget *value*, unless something else is wanted by now."""
        with self._lock:
            if key in self._wanted and self._wanted[key][0] is value:
                del self._wanted[key]
