"""Which names wait for ZooKeeper, and since when: informers note them, the registry takes them."""

import threading
from collections.abc import Iterable, Mapping

from rpcregistry.plan.journal import Waits


class Unwritten:
    """Names with an unwritten change; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _since
        self._since: dict[str, float] = {}

    def note(self, names: Iterable[str], now: float) -> None:
        """Note a change of *names*; if one waits already, its earlier change counts."""
        with self._lock:
            for name in names:
                self._since.setdefault(name, now)

    def take(self, names: Iterable[str]) -> Mapping[str, float]:
        """Take out which of *names* wait, and since when: a later note is another change."""
        with self._lock:
            return {name: self._since.pop(name) for name in names if name in self._since}

    def put_back(self, taken: Mapping[str, float]) -> None:
        """Note that *taken* names were not written: they have waited since their earlier change."""
        with self._lock:
            self._since.update(taken)

    def oldest(self) -> Waits | None:
        """The name that has waited longest; None if none waits."""
        with self._lock:
            return min((Waits(since, name, listed=True) for name, since in self._since.items()), default=None)

    def __contains__(self, name: str) -> bool:
        """Whether a change of *name* waits."""
        with self._lock:
            return name in self._since

    def __len__(self) -> int:
        with self._lock:
            return len(self._since)
