"""The registry controller: one thread that writes to ZooKeeper, and writers of conditions."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from importlib.metadata import version

import msgspec
import structlog

from rpcregistry.errors import Failure, Rejected, Retry
from rpcregistry.layouts import Layout
from rpcregistry.manifests import RPCSERVICES
from rpcregistry.model import ObjectKey, Pod, RpcService, ServiceKey
from rpcregistry.plan.heartbeat import PERIOD as HEARTBEAT
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.publication import PublicationSettings
from rpcregistry.plan.repairs import Repair
from rpcregistry.reconcile.byname import namespaces_of
from rpcregistry.reconcile.cache import REARM, Sizes
from rpcregistry.reconcile.fence import Fence
from rpcregistry.reconcile.initialsync import InitialSync
from rpcregistry.reconcile.leftovers import Leftovers
from rpcregistry.reconcile.missing import Missing
from rpcregistry.reconcile.refusals import is_refused
from rpcregistry.reconcile.registry import RegistryReconciler
from rpcregistry.reconcile.repairs import Repairs
from rpcregistry.reconcile.reports import Reports
from rpcregistry.reconcile.synced import SyncedReconciler
from rpcregistry.reconcile.transactions import RegistryWriter
from rpcregistry.reconcile.troubles import LOG_PERIOD
from rpcregistry.run.dryrun import DryRunZooKeeper
from rpcregistry.run.metered import MeteredZooKeeper
from rpcregistry.run.part import Part
from rpcregistry.run.readings import timestamps
from rpcregistry.run.shared import Shared
from rpcregistry.run.sources import SecondLook
from rpcregistry.runtime.controller import Controller
from rpcregistry.runtime.crew import Crew
from rpcregistry.runtime.store import Change
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
CONDITION_WRITERS = 4  # of which slow namespaces leave two
CONDITION_DELAY = 0.2  # seconds, in which one condition may make way for the next


def registry_part(shared: Shared) -> Part:
    """The part ``registry``."""
    # By the namespaces that have the name, where nobody in particular changed it.
    name_queue: Workqueue[str] = Workqueue(
        shared.settings.batch_window, lambda name: namespaces_of(shared.registered, name)
    )
    shared.traffic.add(lambda: name_queue.busy)
    condition_queue: Workqueue[ObjectKey] = shared.queue(0.0, RPCSERVICES, workers=CONDITION_WRITERS)
    synced = SyncedReconciler(
        kube=shared.writer,
        services=shared.services,
        events=shared.events,
        clock=shared.clock,
        enqueue=lambda key: condition_queue.add_after(key, CONDITION_DELAY),
        yield_to_endpoints=shared.traffic.yield_to_endpoints,
    )
    reconciler = _reconciler(shared, name_queue, synced)
    loop = RegistryLoop(shared, reconciler, name_queue)
    _subscribe_shown(shared, reconciler, name_queue)
    _subscribe(shared, reconciler, name_queue)
    shared.memory.subscribe(loop.beat_soon)  # what it says is to outlive this process
    projected = (shared.pods, shared.nodes) if shared.runs("rpcservice") else ()
    return Part(
        name="registry",
        sources=(shared.services, *projected),
        works=(loop, Controller("condition", condition_queue, synced.reconcile)),
        counted=(loop,),
        guards={"registry": reconciler.guard},
        may_look=lambda: reconciler.compared,
        early=loop.start_beating,
        why_not_ready=loop.why_not_ready,
        stopped=loop.say_stopped,
        readings=loop.readings(),
        znodes=loop,
    )


def _reconciler(shared: Shared, name_queue: Workqueue[str], synced: SyncedReconciler) -> RegistryReconciler:
    settings = shared.settings
    publishing = settings.target.publication(shared.cluster_id, settings.policy)
    writer = _writer(shared, publishing)
    return RegistryReconciler(
        writer=writer,
        missing=_missing(shared, publishing, writer, name_queue),
        reports=_reports(shared, synced),
        services=shared.registered,
        latest=shared.services,
        memory=shared.memory,
        # A dry run writes no statuses, so their initial sync would never be done.
        initial_sync=InitialSync() if settings.dry_run else shared.initial_sync,
        is_unlooked=shared.is_unlooked,
        layouts=settings.target.layouts,
        settings=publishing,
        grace=settings.ownership_grace,
        enqueue=name_queue.add_all,
        confined=lambda: bool(shared.leadership.confined),
        unwritten=shared.unwritten,
        clock=shared.clock,
    )


def _reports(shared: Shared, synced: SyncedReconciler) -> Reports:
    layouts = [layout.name for layout in shared.settings.target.layouts]
    return Reports(
        services=shared.registered,
        repairs=Repairs(shared.events, lambda: shared.leadership.lease.regarding, shared.clock),
        conditions=synced.set_desired,
        concluded=lambda name, outcomes: shared.journal.concluded(
            name, list(zip(layouts, outcomes, strict=True))
        ),
        events=shared.events,
        clock=shared.clock,
        pods_elsewhere=not shared.runs("rpcservice"),
    )


def _missing(
    shared: Shared, publishing: PublicationSettings, writer: RegistryWriter, name_queue: Workqueue[str]
) -> Missing:
    settings = shared.settings
    return Missing(
        writer=writer,
        services=shared.registered,
        second_look=SecondLook(
            kube=shared.kube,
            namespaces=settings.target.namespaces,
            label_selector=settings.pod_label_selector,
            watched=shared.pods if shared.runs("rpcservice") else None,
        ),
        layouts=settings.target.layouts,
        clusters=publishing.clusters,
        namespaces=settings.target.namespaces,
        confirm=settings.guard_confirm,
        past=shared.memory,
        enqueue=name_queue.add,
        on_lease=shared.on_lease,
        # Without a pod controller each change of a status is a cause that we see, at the start, too.
        leftovers=Leftovers(settings.target.layouts if shared.runs("rpcservice") else (), shared.cluster_id),
        registers=lambda pod, name: shared.may_register(pod, shared.owner_name(pod.namespace, name)),
        clock=shared.clock,
    )


def _writer(shared: Shared, publishing: PublicationSettings) -> RegistryWriter:
    settings = shared.settings
    metered = MeteredZooKeeper(shared.zookeeper, shared.metrics.zookeeper_answered)
    zookeeper = DryRunZooKeeper(metered, shared.diff) if settings.dry_run else metered

    def written(layout: str, op: str, name: str, done: str) -> None:
        shared.metrics.registry_written(layout, op)
        shared.journal.written(name, layout)
        if done:
            shared.metrics.repaired(layout, done)
            shared.repaired(Repair(name, layout, done))

    return RegistryWriter(
        zookeeper=zookeeper,
        layouts=settings.target.layouts,
        clusters=publishing.clusters,
        fence=None
        if settings.dry_run
        else Fence(zookeeper, shared.cluster_id, shared.leadership.renew, shared.leadership.lease),
        heartbeat=_heartbeat(shared),
        require_clear=shared.leadership.require_clear,
        written=written,
        clock=shared.clock,
    )


def _heartbeat(shared: Shared) -> Callable[[], Heartbeat]:
    """Returns what this process's heartbeat says now."""
    settings = shared.settings
    constant = Heartbeat(
        lease=shared.leadership.lease.full_name,
        holder=shared.identity,
        layouts=tuple(f"{layout.name}={layout.base}" for layout in settings.target.layouts),
        namespaces=settings.target.namespaces,
        pod_label_selector=settings.pod_label_selector,
        require_register_permission=settings.require_register_permission,
        guard_confirm=settings.guard_confirm,
        version=version("rpcregistry"),
    )
    return lambda: msgspec.structs.replace(
        constant,
        seen=shared.memory.record(shared.present),
        unread=shared.unread,
        oldest=shared.oldest(),
    )


def _subscribe(shared: Shared, reconciler: RegistryReconciler, name_queue: Workqueue[str]) -> None:
    """Subscribe to changes.  Until this process leads, it ignores them: the leader writes them."""

    def service_changed(change: Change[RpcService]) -> None:
        service = change.new or change.old
        if shared.began.is_set() and service:
            reconciler.note_service(change)
            names = reconciler.service_names(change)
            shared.journal.listed(_keys(change) if names else ())
            # At a turn of who changed it, lest others' turns are used up with it.
            name_queue.add_all(names, service.namespace)

    def synced_once(key: ServiceKey) -> None:
        if shared.began.is_set():
            name_queue.add(key.service_name, key.namespace)

    def path_changed(path: str) -> None:
        if shared.began.is_set():
            for name, seconds in reconciler.path_changed(path).items():
                name_queue.add_after(name, seconds)

    def connection_changed(connected: bool) -> None:
        leads = shared.began.is_set() and not shared.stopping.is_set()
        if not connected and leads:
            reconciler.disconnected()

    shared.registered.subscribe(service_changed)
    shared.initial_sync.subscribe(synced_once)
    shared.connection.subscribe(connection_changed)
    shared.changed.subscribe(path_changed)


def _subscribe_shown(shared: Shared, reconciler: RegistryReconciler, name_queue: Workqueue[str]) -> None:
    """Subscribe to what watch events show of pods, or, without a pod controller, of their rows."""

    def rows_shown(change: Change[RpcService]) -> None:
        if not change.listed:
            shared.memory.note_rows(_changed_rows(change))

    def pod_shown(change: Change[Pod]) -> None:
        pod = change.new or change.old
        if pod is None or not shared.began.is_set():
            return
        names = reconciler.pod_names(change)
        if shared.memory.restored and not change.listed:
            pods = (pod for pod in (change.old, change.new) if pod)
            names |= {declared.service_name for pod in pods for declared in pod.declarations}
        name_queue.add_all(names, pod.namespace)

    if shared.runs("rpcservice"):
        shared.pods.subscribe(pod_shown)
    else:
        shared.registered.subscribe(rows_shown)


def _changed_rows(change: Change[RpcService]) -> set[str]:
    """The uids of the pods whose rows a change adds, changes or takes away."""
    old, new = (service.status.endpoints if service else () for service in (change.old, change.new))
    return {row.pod_uid for row in old if row not in new} | {row.pod_uid for row in new if row not in old}


def _keys(change: Change[RpcService]) -> set[ServiceKey]:
    return {service.service_key for service in (change.old, change.new) if service}


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
