"""The paths to read again, though they are known: kazoo tells of changes, the registry reads."""

import threading
from collections.abc import Callable, Iterable
from itertools import takewhile


class Doubts:
    """The paths to read again, though they are known; for any thread.

    ZooKeeper tells once of a change to what was read, of ours as of others'.  What we wrote is known, and
    is read again a moment later, with all that was written by then; if somebody else changes it in between,
    our next write comes upon another version, or that read upon other data.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # protects _stale, _expected and _unwatched
        self._stale: set[str] = set()
        self._expected: set[str] = set()  # written by us: a change of it is told, if it was being watched
        self._unwatched: dict[str, float] = {}  # told of our own change: since when

    def __contains__(self, path: str) -> bool:
        with self._lock:
            return path in self._stale

    def add(self, *paths: str) -> None:
        """Have *paths* read next."""
        with self._lock:
            self._stale.update(paths)

    def expect(self, paths: Iterable[str]) -> None:
        """We are about to change *paths*."""
        with self._lock:
            self._expected.update(paths)

    def expect_nothing(self) -> None:
        """Take what is told from now on for others' changes: of some that we made nobody told us."""
        with self._lock:
            self._expected.clear()

    def told(self, path: str) -> bool:
        """Note that *path* was changed; return whether it is to be read at once."""
        with self._lock:
            if path not in self._expected:
                self._stale.add(path)
                return True
            self._expected.discard(path)
            self._unwatched.setdefault(path, self._clock())
            return False

    def unwatch(self, path: str) -> None:
        """Note that nobody will tell of a change to *path*, which we wrote."""
        with self._lock:
            self._unwatched.setdefault(path, self._clock())

    def unwatched(self, seconds: float) -> list[str]:
        """What is to be read, so long after we wrote it."""
        with self._lock:
            until = self._clock() - seconds
            paths = list(takewhile(lambda path: self._unwatched[path] <= until, self._unwatched))
            for path in paths:
                del self._unwatched[path]
            self._stale.update(paths)
            return paths

    def dispel(self, paths: Iterable[str]) -> None:
        """*paths* are about to be read."""
        with self._lock:
            self._stale.difference_update(paths)
            self._expected.difference_update(paths)
