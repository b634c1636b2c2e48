"""Looking out for another process that keeps the same registry up, before anything is written to it."""

import threading
from collections.abc import Callable
from contextlib import suppress

from rpcregistry.errors import Failure
from rpcregistry.plan import heartbeat
from rpcregistry.plan.heartbeat import Candidate, Look, Sighting
from rpcregistry.reconcile.ports import ZooKeeper

LOOK_EVERY = 2.0  # seconds


class Lookout:
    """Reads the heartbeat of a cluster id again and again; any thread may ask for what was seen.

    A follower looks out all the time: what it saw by the time its Lease falls to it spares it a wait.
    """

    def __init__(self, zookeeper: ZooKeeper, cluster_id: str, clock: Callable[[], float]) -> None:
        self._zookeeper = zookeeper
        self._path = heartbeat.path(cluster_id)
        self._clock = clock
        self._lock = threading.Lock()  # protects _seen; held while the heartbeat is read
        self._seen: Sighting | None = None

    def look(self) -> Sighting:
        """Read the heartbeat; fails with an ``errors.Failure``."""
        with self._lock:
            found = self._zookeeper.read([self._path])[self._path]
            self._seen = heartbeat.sight(self._seen, found, self._clock())
            return self._seen

    def judge(self, candidate: Candidate) -> tuple[Look, Sighting]:
        """Whether *candidate* may write, by one more look."""
        seen = self.look()
        return heartbeat.judge(seen, candidate, self._clock()), seen

    def run(self, needless: Callable[[], bool], stopping: threading.Event) -> None:
        """Look every few seconds until that is *needless*; what cannot be read now is read later."""
        while not stopping.wait(LOOK_EVERY) and not needless():
            with suppress(Failure):
                self.look()
