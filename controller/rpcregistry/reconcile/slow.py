"""Which namespaces answer slowly: an admission webhook there may hang."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SLOW = 1.0  # seconds for a request


class SlowNamespaces:
    """The namespaces whose last write took longer than ``SLOW``, answered or not; for any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # protects _slow, to write
        self._slow: frozenset[str] = frozenset()  # replaced as a whole: ``in`` takes no lock

    @contextmanager
    def timed(self, namespace: str) -> Iterator[None]:
        """Time a write in *namespace*, whatever comes of it."""
        begun = self._clock()
        try:
            yield
        finally:
            self._note(namespace, self._clock() - begun > SLOW)

    def _note(self, namespace: str, is_slow: bool) -> None:
        if is_slow == (namespace in self._slow):
            return  # another thread may be about to change it, and then the word of either is as good
        with self._lock:
            self._slow = self._slow | {namespace} if is_slow else self._slow - {namespace}

    def __contains__(self, namespace: object) -> bool:
        return namespace in self._slow
