"""When something was last done for each of many keys."""

import threading

REMEMBERED = 64  # times of one key: more than a period has
MOST_KEYS = 1000


class Lately:
    """The last times of each key; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _at
        self._at: dict[str, tuple[float, ...]] = {}

    def note(self, key: str, now: float) -> None:
        """Note that it was done for *key*; drop the oldest key if there are too many."""
        with self._lock:
            self._at[key] = (*self._at.get(key, ()), now)[-REMEMBERED:]
            if len(self._at) > MOST_KEYS:
                del self._at[next(iter(self._at))]

    def at(self, key: str) -> tuple[float, ...]:
        """The times, the earliest first."""
        with self._lock:
            return self._at.get(key, ())

    def __len__(self) -> int:
        with self._lock:
            return len(self._at)
