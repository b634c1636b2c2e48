"""The loop of the registry controller: one thread that writes to ZooKeeper, and compares."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import structlog

from rpcregistry.errors import Failure, Rejected, Retry
from rpcregistry.layouts import Layout
from rpcregistry.plan.heartbeat import PERIOD as HEARTBEAT
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.reconcile.cache import REARM, Sizes
from rpcregistry.reconcile.refusals import is_refused
from rpcregistry.reconcile.registry import RegistryReconciler
from rpcregistry.reconcile.troubles import LOG_PERIOD
from rpcregistry.run.readings import timestamps
from rpcregistry.run.shared import Shared
from rpcregistry.runtime.crew import Crew
from rpcregistry.runtime.worker import Meter, work_batches
from rpcregistry.runtime.workqueue import Workqueue
from rpcregistry.telemetry.metrics import Reading

log = structlog.get_logger(__name__)

BATCH = 100  # services in one transaction
LINGER = 0.02  # seconds after a transaction, in which the changes of the next one gather
COMPARE_AGAIN_AFTER = 1.0  # seconds
COMPARE_PARTS = 10  # of all services; each part is read anew once a period
PATIENCE = 10.0  # seconds for which own writes may stay unwatched while there is more to write
LAST_BEAT = 0.5  # seconds
CLEAR_TICK = 0.02  # seconds between two checks whether another process keeps the registry up


class RegistryLoop:
    """Writes due names to ZooKeeper, and compares all services once in *compare_period* seconds.

    It belongs to its thread, with these exceptions.  Any thread may call ``depth``, ``resync``,
    ``beat_soon``, ``why_not_ready`` and what the page shows (``part.Znodes``); the main thread calls
    ``say_stopped``.
    """

    def __init__(self, shared: Shared, reconciler: RegistryReconciler, name_queue: Workqueue[str]) -> None:
        self._shared = shared
        self._reconciler = reconciler
        self._name_queue = name_queue
        self._pause = shared.settings.compare_period / COMPARE_PARTS
        self._due = self._retry_at = self._beat = self._rested = 0.0
        # Each is replaced by the thread, and read by others.
        self._refused = ""  # what ZooKeeper refused, when it was compared last
        self._logged: tuple[str, float] = "", float("-inf")  # why it could not be compared, and when
        self._beating = False  # whether the heartbeat names this process
        self._running = False
        self._compared_at: float | None = None
        self._beaten_at: float | None = None
        self._sizes = Sizes()  # when it was compared last
        # The work once all is listed: appended once, by another thread.
        self._work: list[Callable[[], None]] = []

    @property
    def depth(self) -> int:
        """How many names are due."""
        return self._name_queue.depth

    @property
    def failing(self) -> int:
        """How many names failed in their last attempt."""
        return self._name_queue.failing

    def readings(self) -> Mapping[str, Reading]:
        """Its gauges, by name."""
        return {
            "rpcregistry_compared_timestamp_seconds": timestamps(lambda: self._compared_at),
            "rpcregistry_heartbeat_timestamp_seconds": timestamps(lambda: self._beaten_at),
            "rpcregistry_drift": lambda: self._sizes.drift,
            "rpcregistry_largest_znode_bytes": lambda: self._sizes.largest,
            "rpcregistry_ledger_services": lambda: self._sizes.ledger,
        }

    # what the page shows

    def found(self, name: str) -> int | None:
        """How many endpoints of ours clients find of a service; None before all was compared."""
        return None if self._compared_at is None else self._reconciler.found(name)

    def views(self, name: str) -> Sequence[tuple[Layout, ObservedZnodes]] | None:
        """The known znodes of a service, by layout; None before all was compared."""
        return None if self._compared_at is None else self._reconciler.views(name)

    def read_at(self, layout: Layout, name: str) -> float | None:
        """When the znodes of a service in *layout* were read last, by the monotonic clock; None: never."""
        return self._reconciler.read_at(layout, name)

    @property
    def left(self) -> Collection[tuple[str, str]]:
        """The layout names and paths of ours that no ``--layout`` covers, when that was looked at last."""
        return self._reconciler.left

    @property
    def compared(self) -> float | None:
        """When ZooKeeper was compared last, by the monotonic clock."""
        return self._compared_at

    @property
    def beaten(self) -> float | None:
        """When the heartbeat was written last, by the monotonic clock."""
        return self._beaten_at

    @property
    def differ(self) -> int:
        """How many znodes others changed that are not repaired yet, when it was compared last."""
        return sum(self._sizes.drift.values())

    def resync(self) -> None:
        """Enqueue every name."""
        self._name_queue.add_all(self._reconciler.every_name())

    def beat_soon(self) -> None:
        """Have the thread write the heartbeat at its next turn; for any thread."""
        self._beat = 0.0

    def start_beating(self, crew: Crew) -> None:
        """Start its thread, which at first only writes the heartbeat."""
        crew.start("registry", self._run)

    def start(self, crew: Crew, meter: Meter, stopped: Callable[[], bool]) -> None:
        """Have its thread reconcile from now on."""
        self._work.append(
            partial(
                work_batches,
                "registry",
                self._name_queue,
                self._reconcile,
                BATCH,
                meter,
                stopped,
                self._prepare,
            )
        )

    def stop(self) -> None:
        """Let its thread end."""
        self._name_queue.close()

    def why_not_ready(self) -> str | None:
        """What keeps the registry from being written."""
        shared = self._shared
        if shared.began.is_set() and not shared.zookeeper.connected:
            return f"ZooKeeper is not connected{shared.zookeeper.trouble}"
        return f"ZooKeeper refuses: {self._refused}" if self._refused else None

    def say_stopped(self) -> None:
        """Write a last heartbeat that says we stopped in order, unless ZooKeeper takes long to answer."""
        if not self._beating or self._running:
            return
        saying = threading.Thread(target=self._last_beat, name="stopped", daemon=True)
        saying.start()
        saying.join(LAST_BEAT)

    def _last_beat(self) -> None:
        try:
            self._reconciler.beat(stopped=True)
        except Failure as failure:
            log.warning("the heartbeat does not say that this process stopped", reason=str(failure))

    def _run(self) -> None:
        """Write heartbeats, and reconcile once all is listed, until stopped.

        Both wait until no other process keeps the registry up.  While the lists are slow or refused, only the
        heartbeat shows that this process leads.
        """
        self._running = True
        while not self._work:
            if self._shared.stopping.wait(CLEAR_TICK):
                break
            if self._is_ready():
                self._attempt(self._beat_if_due)
        else:
            self._work[0]()
        self._running = False

    def _is_ready(self) -> bool:
        shared = self._shared
        is_clear = shared.leadership.clear.is_set()
        return is_clear and shared.zookeeper.connected and time.monotonic() >= self._retry_at

    def _attempt(self, look: Callable[[], None]) -> None:
        """Call *look*; if ZooKeeper refuses it or is away, try again a moment later."""
        try:
            look()
            self._refused = ""  # a refused call was repeated before this one
        except (Retry, Rejected) as failure:
            if isinstance(failure, Rejected):
                self._refused = str(failure)
            now, (reason, at) = time.monotonic(), self._logged
            if str(failure) != reason or now - at >= LOG_PERIOD:
                log.warning("cannot compare", reason=str(failure))
                self._logged = str(failure), now
            self._retry_at = now + COMPARE_AGAIN_AFTER

    def _beat_if_due(self) -> None:
        now = time.monotonic()
        if now >= self._beat:
            self._reconciler.beat()
            self._beat, self._beaten_at = now + HEARTBEAT, now
            self._beating = True

    def _look(self) -> None:
        """Write the heartbeat and compare, if each is due."""
        # The heartbeat comes first: another controller that looks for it has to see it soon.  If ZooKeeper
        # refuses it, for a quota, say, we go on: the fence stops us once another controller takes over.
        refused: Rejected | None = None
        try:
            self._beat_if_due()
        except Rejected as failure:
            refused = failure
        self._compare_if_due()
        if refused:
            raise refused

    def _compare_if_due(self) -> None:
        now = time.monotonic()
        if not self._reconciler.compared:
            names = self._reconciler.compare()
            self._name_queue.add_all(names)
            self._say_what(names)
            self._due = time.monotonic() + self._pause
        elif now >= self._due:
            self._name_queue.add_all(self._reconciler.compare_next(COMPARE_PARTS))
            self._due = now + self._pause
        else:
            return
        self._compared_at, self._sizes = now, self._reconciler.sizes()

    def _say_what(self, names: Collection[str]) -> None:
        """Log once what this process publishes where."""
        if self._compared_at is None:
            target = self._shared.settings.target
            log.info(
                "publishing",
                services=len(names),
                layouts=" ".join(f"{layout.name}={layout.base}" for layout in target.layouts),
                zookeeper=target.zk_servers,
                namespaces=" ".join(target.namespaces) or "all",
                cluster=self._shared.cluster_id,
            )

    def _reconcile(self, names: Sequence[str]) -> tuple[Mapping[str, Exception], Collection[str]]:
        self._shared.journal.begun(names)
        failures, written = self._reconciler.reconcile(names)
        for name, failure in failures.items():
            self._shared.journal.failed(name, refused=is_refused(failure))
        if written:
            self._rested = time.monotonic() + LINGER
        return failures, written

    def _prepare(self) -> None:
        shared = self._shared
        shared.stopping.wait(max(0.0, self._rested - time.monotonic()))
        # Re-arming watches can wait while there is more to write, but not for ever.
        for name, seconds in self._reconciler.unwatched(PATIENCE if shared.traffic.busy else REARM).items():
            self._name_queue.add_after(name, seconds)
        self._reconciler.report_late()
        if self._is_ready():
            self._attempt(self._look)
