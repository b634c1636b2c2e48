"""The registry's thread: reconciles names, and compares with ZooKeeper whenever that is due."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from controller.errors import Failure, Rejected, Retry
from controller.plan.heartbeat import PERIOD as HEARTBEAT
from controller.reconcile.memory import REARM
from controller.reconcile.registry import RegistryReconciler
from controller.runtime.worker import Meter, work_batches
from controller.runtime.workqueue import Workqueue
from controller.zk import ZooKeeper

log = structlog.get_logger(__name__)

BATCH = 100  # services in one transaction
LINGER = 0.02  # seconds after a transaction, in which the changes of the next one gather
COMPARE_AGAIN_AFTER = 1.0  # seconds
COMPARE_PARTS = 10  # of all services, each read anew once a period
PATIENCE = 10.0  # seconds, for which what we wrote may go unwatched while there is more to write


class Mirror:
    """Keeps ZooKeeper equal to what *reconciler* is told, all services once in *compare_period* seconds.

    *busy*: whether endpoints are on their way to clients.
    """

    def __init__(
        self,
        reconciler: RegistryReconciler,
        zookeeper: ZooKeeper,
        names: Workqueue[str],
        compare_period: float,
        meter: Meter,
        stopping: threading.Event,
        busy: Callable[[], bool],
    ) -> None:
        self._reconciler = reconciler
        self._zookeeper = zookeeper
        self._names = names
        self._pause = compare_period / COMPARE_PARTS
        self._meter = meter
        self._stopping = stopping
        self._busy = busy
        self._due = self._again = self._beat = self._rested = 0.0
        self.refused = ""  # what ZooKeeper refused, when it was compared last
        self.beating = False  # whether the heartbeat names this process

    def stopped(self) -> None:
        """Have the heartbeat say that this process ended in order; once ``run`` has returned."""
        try:
            self._reconciler.beat(stopped=True)
        except Failure as failure:
            log.warning("the heartbeat does not say that this process stopped", reason=str(failure))

    def run(self) -> None:
        """Mirror until stopped."""
        work_batches(
            "registry",
            self._names,
            self._reconcile,
            BATCH,
            self._meter,
            self._stopping.is_set,
            self._prepare,
        )

    def _reconcile(self, names: Sequence[str]) -> tuple[Mapping[str, Exception], Collection[str]]:
        failures, written = self._reconciler.reconcile(names)
        if written:
            self._rested = time.monotonic() + LINGER
        return failures, written

    def _prepare(self) -> None:
        self._stopping.wait(max(0.0, self._rested - time.monotonic()))
        # What nobody sees can wait; but not for ever, where there is always something to do.
        for name, seconds in self._reconciler.unwatched(PATIENCE if self._busy() else REARM).items():
            self._names.add_after(name, seconds)
        now = time.monotonic()
        if not self._zookeeper.connected or now < self._again:
            return
        try:
            # First of all: who looks out for another controller has to see this one soon.
            if now >= self._beat:
                self._reconciler.beat()
                self._beat = now + HEARTBEAT
                self.beating = True
            if not self._reconciler.compared:
                self._names.add_all(self._reconciler.compare())
                self._due = time.monotonic() + self._pause
            elif now >= self._due:
                self._names.add_all(self._reconciler.compare_next(COMPARE_PARTS))
                self._due = now + self._pause
            self.refused = ""  # what was refused is tried again before this
        except (Retry, Rejected) as failure:
            if isinstance(failure, Rejected):
                self.refused = str(failure)
            log.warning("cannot compare", reason=str(failure))
            self._again = time.monotonic() + COMPARE_AGAIN_AFTER
