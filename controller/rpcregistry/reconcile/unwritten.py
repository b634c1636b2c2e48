"""Which names wait for ZooKeeper, and since when: informers note them, the registry takes them."""

import threading
from collections.abc import Iterable, Mapping


class Unwritten:
    """Names with a change of their own that is not written yet; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _since
        self._since: dict[str, float] = {}

    def note(self, names: Iterable[str], now: float) -> None:
        """Something changed of *names*; of those that wait already, the earlier change counts."""
        with self._lock:
            for name in names:
                self._since.setdefault(name, now)

    def take(self, names: Iterable[str]) -> Mapping[str, float]:
        """Take out what waits of *names*, and since when: what is noted from now on is another change."""
        with self._lock:
            return {name: self._since.pop(name) for name in names if name in self._since}

    def put_back(self, taken: Mapping[str, float]) -> None:
        """Those were not written: they have waited since before."""
        with self._lock:
            self._since.update(taken)

    def __contains__(self, name: str) -> bool:
        """Whether a change of *name* itself waits."""
        with self._lock:
            return name in self._since

    def __len__(self) -> int:
        with self._lock:
            return len(self._since)
