"""Desired values that are not written yet: one thread sets them, another writes them."""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Desired(Generic[K, V]):
    """The desired value of each key, and since when one waits; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _desired
        self._desired: dict[K, tuple[V, float]] = {}

    def set(self, key: K, value: V, now: float) -> None:
        """Desire *value*, in place of the one before."""
        with self._lock:
            since = self._desired[key][1] if key in self._desired else now
            self._desired[key] = value, since

    def get(self, key: K) -> tuple[V, float] | None:
        """The desired value, and since when one waits; None if none does."""
        with self._lock:
            return self._desired.get(key)

    def done(self, key: K, value: V) -> None:
        """Forget *value*, unless another one is desired by now."""
        with self._lock:
            if key in self._desired and self._desired[key][0] is value:
                del self._desired[key]
