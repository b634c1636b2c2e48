"""Watches for another process that writes the same registry, before this one writes anything."""

import threading
from collections.abc import Callable
from contextlib import suppress

from rpcregistry.errors import Failure
from rpcregistry.plan import heartbeat
from rpcregistry.plan.heartbeat import Candidate, Look, Observation
from rpcregistry.reconcile.ports import ZooKeeper

LOOK_EVERY = 2.0  # seconds


class Lookout:
    """Observes the heartbeat of a cluster id; any thread may call it.

    A follower observes it all the time, so that it need not wait when it becomes the leader.
    """

    def __init__(self, zookeeper: ZooKeeper, cluster_id: str, clock: Callable[[], float]) -> None:
        self._zookeeper = zookeeper
        self._path = heartbeat.path(cluster_id)
        self._clock = clock
        self._lock = threading.Lock()  # protects _seen; held while the heartbeat is read
        self._seen: Observation | None = None

    def look(self) -> Observation:
        """Read the heartbeat; raises an ``errors.Failure``."""
        with self._lock:
            found = self._zookeeper.read([self._path])[self._path]
            self._seen = heartbeat.observe(self._seen, found, self._clock())
            return self._seen

    def judge(self, candidate: Candidate) -> tuple[Look, Observation]:
        """Read once more, and judge whether *candidate* may write."""
        seen = self.look()
        return heartbeat.judge(seen, candidate, self._clock()), seen

    def run(self, needless: Callable[[], bool], stopping: threading.Event) -> None:
        """Look every few seconds until that is *needless*; a failed read is tried again at the next look."""
        while not stopping.wait(LOOK_EVERY) and not needless():
            with suppress(Failure):
                self.look()
