"""Waits until the watch has shown an object that was just made."""

import threading
from collections.abc import Callable

from rpcregistry.model import RpcService
from rpcregistry.reconcile.ports import Change, Source

LONGEST = 0.05  # seconds


class Shown:
    """The objects that were made, and that the watch has not shown yet; for any thread.

    The API server serves watches from a cache.  A status that is written before its object is in there costs
    a read of etcd.  While other keys wait (*crowded*), their writes may go first.
    """

    def __init__(
        self, services: Source[RpcService], crowded: Callable[[], bool], longest: float = LONGEST
    ) -> None:
        self._services = services
        self._longest = longest
        self._crowded = crowded
        self._lock = threading.Lock()  # protects _awaited
        self._awaited: dict[str, threading.Event] = {}  # by uid

    def note(self, change: Change[RpcService]) -> None:
        """Note what the watch shows."""
        if change.new and change.old is None:
            with self._lock:
                awaited = self._awaited.get(change.new.uid)
            if awaited:
                awaited.set()

    def wait(self, made: RpcService) -> bool:
        """Wait, up to *longest* seconds, until the watch has shown *made*; return whether it has."""
        if not self._crowded():
            return False
        awaited = threading.Event()
        with self._lock:
            self._awaited[made.uid] = awaited
        try:
            # The store does not have what we made from us, only from the watch.
            return self._services.store.get(made.key) is not None or awaited.wait(self._longest)
        finally:
            with self._lock:
                del self._awaited[made.uid]
