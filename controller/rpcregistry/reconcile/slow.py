"""Which namespaces answer slowly: an admission webhook there may hang."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rpcregistry.manifests import ApiType

SLOW = 1.0  # seconds for a write


class SlowNamespaces:
    """Where the last write took longer than ``SLOW``, answered or not; for any thread.

    By kind: a webhook may hold up RpcServices, and answer about Events at once.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # protects _slow, to write
        # Plurals and namespaces; replaced as a whole, so that who reads it takes no lock.
        self._slow: frozenset[tuple[str, str]] = frozenset()

    @contextmanager
    def timed(self, kind: ApiType, namespace: str) -> Iterator[None]:
        """Time a write of *kind* in *namespace*, also one that fails."""
        begun = self._clock()
        try:
            yield
        finally:
            self._note((kind.plural, namespace), self._clock() - begun > SLOW)

    def of(self, kind: ApiType) -> Callable[[str], bool]:
        """Whether a namespace is slow, for writes of *kind*; it takes no lock."""
        return lambda namespace: (kind.plural, namespace) in self._slow

    def _note(self, where: tuple[str, str], is_slow: bool) -> None:
        if is_slow == (where in self._slow):
            return  # another thread may be about to change it, and then the word of either is as good
        with self._lock:
            self._slow = self._slow | {where} if is_slow else self._slow - {where}
