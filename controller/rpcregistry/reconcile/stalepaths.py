"""Known paths to read again: kazoo's threads report changes, the registry's thread reads."""

import threading
from collections.abc import Callable, Iterable
from itertools import takewhile


class StalePaths:
    """Stale, expected and unwatched paths; for any thread.

    A ZooKeeper watch fires once, for our own write as for another writer's.  *Stale* paths are read next.
    *Expected* ones are about to change by our own write.  *Unwatched* ones are what we wrote: the cache knows
    them, but no watch is left.  They are read in batches, a moment later, to set the watch again.  If another
    writer changes one in between, our next write fails on the version, or that read shows other data.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # protects _stale, _expected and _unwatched
        self._stale: set[str] = set()
        self._expected: set[str] = set()  # by our own write; the watch fires if there was one
        self._unwatched: dict[str, float] = {}  # since when

    def __contains__(self, path: str) -> bool:
        with self._lock:
            return path in self._stale

    def add(self, *paths: str) -> None:
        """Mark *paths* as stale."""
        with self._lock:
            self._stale.update(paths)

    def expect(self, paths: Iterable[str]) -> None:
        """Expect the watch events of *paths*, which we are about to change."""
        with self._lock:
            self._expected.update(paths)

    def expect_nothing(self) -> None:
        """Expect no more events: some of our own changes fire none, and their paths would add up."""
        with self._lock:
            self._expected.clear()

    def note_changed(self, path: str) -> bool:
        """Note a watch event of *path*; return whether to read the path at once."""
        with self._lock:
            if path not in self._expected:
                self._stale.add(path)
                return True
            self._expected.discard(path)
            self._unwatched.setdefault(path, self._clock())
            return False

    def unwatch(self, path: str) -> None:
        """Note that *path*, which we wrote, has no watch."""
        with self._lock:
            self._unwatched.setdefault(path, self._clock())

    def unwatched(self, seconds: float) -> list[str]:
        """Mark as stale, and return, the paths that have had no watch for so many *seconds*."""
        with self._lock:
            until = self._clock() - seconds
            paths = list(takewhile(lambda path: self._unwatched[path] <= until, self._unwatched))
            for path in paths:
                del self._unwatched[path]
            self._stale.update(paths)
            return paths

    def mark_read(self, paths: Iterable[str]) -> None:
        """Note that the caller is about to read *paths*."""
        with self._lock:
            self._stale.difference_update(paths)
            self._expected.difference_update(paths)
