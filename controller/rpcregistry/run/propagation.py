"""How long a pod's change takes to reach clients."""

import threading
from collections.abc import Callable, Iterable


class Propagation:
    """Times names from when a change was seen until a znode is written; for any thread."""

    def __init__(self, propagated: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._propagated = propagated
        self._clock = clock
        self._lock = threading.Lock()  # protects _seen
        self._seen: dict[str, float] = {}

    def seen(self, names: Iterable[str]) -> None:
        """Note that addresses of *names* changed; if an earlier change is in progress, that one counts."""
        now = self._clock()
        with self._lock:
            for name in names:
                self._seen.setdefault(name, now)

    def written(self, name: str) -> None:
        """Note that a znode of *name* was written."""
        with self._lock:
            seen = self._seen.pop(name, None)
        if seen is not None:
            self._propagated(self._clock() - seen)

    def begin(self) -> None:
        """Forget what was seen until now: another process propagates that."""
        with self._lock:
            self._seen.clear()
