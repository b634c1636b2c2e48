"""Wires the controllers together and runs them as one process."""

import gc
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import structlog
from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from controller.dryrun import DryRunKube, DryRunRegistry, NoPoster
from controller.errors import Failure, Fenced
from controller.kube import Kube
from controller.leadership import Leadership
from controller.leases import Notes
from controller.locality import Locality
from controller.manifests import LOCALSERVICES, NODES, PODS, RPCSERVICES
from controller.mirror import Mirror
from controller.model import RELEASE, Node, ObjectKey, Pod, Regarding, RpcService, ServiceKey
from controller.plan import rpcservices as rpcservice_plan
from controller.plan.heartbeat import Heartbeat
from controller.plan.publication import Settings as PublicationSettings
from controller.reconcile import localservices, registry, rpcservices
from controller.reconcile.annotations import AnnotationReconciler
from controller.reconcile.fence import Fence, FencedKube
from controller.reconcile.held import HeldOnLease
from controller.reconcile.registration import ALLOWED_FOR, Registration
from controller.reconcile.registry import RegistryReconciler
from controller.reconcile.rpcservices import RpcServiceReconciler
from controller.reconcile.synced import SyncedReconciler
from controller.runtime.crew import Crew
from controller.runtime.informer import Change
from controller.runtime.stop import Stop
from controller.runtime.worker import work
from controller.runtime.workqueue import Workqueue
from controller.settings import Settings
from controller.sources import SecondLook, Source
from controller.telemetry import EventRecorder, Health, Metrics, serve
from controller.zk import ZooKeeper

log = structlog.get_logger(__name__)
K = TypeVar("K", bound=Hashable)

STATUS_WRITERS = 8
CONDITION_WRITERS = 2
CONDITION_DELAY = 0.2  # seconds, in which one condition may make way for the next
SWITCH = 0.001  # seconds that a thread with an answer in hand waits for one that computes
TICK = 0.2  # seconds between two looks at what has no queue
SHUTDOWN = 4.0  # seconds
LAST_BEAT = 0.5  # seconds


def run_controllers(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    with Stop() as stop:
        sys.setswitchinterval(SWITCH)
        kube = Kube.from_config(settings.kubeconfig, settings.context)
        return Process(settings, kube).run(stop)


def now() -> datetime:
    """The wall clock: for what people read, never for how long something lasts."""
    return datetime.now(UTC)


class Process:
    """The controllers of one process: what they read, their queues, and their threads.

    Everything is read from the start, so that a new leader need not wait; nothing is written before
    this process leads, and not before all that a controller depends on was listed.
    """

    def __init__(self, settings: Settings, kube: Kube) -> None:
        self._settings = settings
        self._kube = kube
        self._crew = Crew()
        self._stopping = threading.Event()
        self._leading = threading.Event()
        self._metrics = Metrics()
        self._identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self._events = EventRecorder(NoPoster() if settings.dry_run else kube, self._identity)
        self._seen: dict[str, float] = {}  # names whose addresses changed: when, until a znode is written
        self._keys: Workqueue[ServiceKey] = Workqueue(settings.batch_window)
        self._problems: Workqueue[ObjectKey] = Workqueue(0.0)
        self._names: Workqueue[str] = Workqueue(settings.batch_window)
        self._conditions: Workqueue[ObjectKey] = Workqueue(0.0)
        self._make_sources()
        self._sources: list[Source[Any]] = [self._services]
        if self._runs("rpcservice") or self._runs("localservice"):
            self._sources += [self._pods, self._nodes]
        registration = Registration(kube.raw, self._events, time.monotonic)
        self._may_register: Callable[[Pod, str], bool] = (
            registration.may_register if settings.require_register_permission else lambda *_: True
        )
        kinds = {"registry": RPCSERVICES.kind, "localservice": LOCALSERVICES.kind}
        self._on_lease = HeldOnLease(
            [kind for controller, kind in kinds.items() if self._runs(controller)],
            Notes(lambda: self._leadership.lease if self._leadership else None),
            self._about_all,
            self._events,
            time.monotonic,
            now,
        )
        self._word: str | None = None  # on the Lease, once that was seen
        self._locality = self._make_locality() if self._runs("localservice") else None
        self._make_pod_controller()
        self._zookeeper = ZooKeeper(
            settings.zk_servers,
            on_connection=self._connection_changed,
            on_changed=self._path_changed,
            access=settings.zk_access,
        )
        self._registry: RegistryReconciler | None = None  # made once this process leads
        self._mirror: Mirror | None = None
        self._leadership: Leadership | None = None  # made once the cluster id is known

    # making

    def _make_sources(self) -> None:
        settings, restarted = self._settings, self._metrics.watch_restarted
        source = partial(Source, self._kube)
        self._pods: Source[Pod] = source(
            PODS,
            settings.namespaces,
            {**rpcservices.pod_indexes(), **localservices.pod_indexes()},
            self._pod_changed,
            self._listed,
            restarted,
            settings.pod_label_selector,
        )
        self._nodes: Source[Node] = source(NODES, (), {}, self._node_changed, self._listed, restarted)
        self._services: Source[RpcService] = source(
            RPCSERVICES,
            settings.namespaces,
            {**rpcservices.service_indexes(), **registry.service_indexes()},
            self._service_changed,
            self._listed,
            restarted,
        )

    def _make_locality(self) -> Locality:
        return Locality(
            self._settings,
            self._kube,
            self._pods,
            self._nodes,
            self._services,
            self._may_register,
            self._events,
            self._locality_listed,
            self._metrics.watch_restarted,
        )

    def _make_pod_controller(self) -> None:
        settings = self._settings
        fenced = FencedKube(self._kube, lambda: self._leadership is not None and self._leadership.leading)
        sources = (*self._sources, *(self._locality.sources if self._locality else ()))
        dry = DryRunKube({source.name: source for source in sources})
        self._writer = dry if settings.dry_run else fenced
        if self._locality:
            self._locality.make(self._writer, now, self._on_lease)
        self._annotations = AnnotationReconciler(self._pods, self._events)
        self._projector = RpcServiceReconciler(
            self._writer,
            self._pods,
            self._nodes,
            self._services,
            lambda name: self._kube.get(NODES, ObjectKey("", name)),
            self._may_register,
            rpcservice_plan.Settings(settings.endpoints_per_object, settings.layouts),
            time.monotonic,
            now,
            settings.guard_confirm,
            self._keys.add_all,
            self._settled,
            self._on_lease,
            self._events,
        )
        self._synced = SyncedReconciler(
            self._writer,
            self._services,
            self._events,
            now,
            lambda key: self._conditions.add_after(key, CONDITION_DELAY),
            time.monotonic,
            self._give_way,
        )

    def _make_registry(self, cluster_id: str, renew: Callable[[], None]) -> RegistryReconciler:
        settings = self._settings
        zookeeper = DryRunRegistry(self._zookeeper) if settings.dry_run else self._zookeeper
        projects = self._runs("rpcservice") and not settings.dry_run
        return RegistryReconciler(
            zookeeper,
            self._services,
            SecondLook(
                self._kube,
                settings.namespaces,
                settings.pod_label_selector,
                self._pods if self._runs("rpcservice") else None,
            ),
            self._projector.unsettled if projects else lambda _: False,
            self._projector.unlisted,
            None if settings.dry_run else Fence(zookeeper, cluster_id, renew),
            settings.layouts,
            PublicationSettings(
                cluster_id=cluster_id,
                cross_namespace=settings.cross_namespace,
                policy=settings.policy,
                adopt=settings.adopt,
                max_znode_bytes=settings.max_znode_bytes,
                from_cluster=settings.from_cluster,
            ),
            settings.namespaces,
            settings.ownership_grace,
            time.monotonic,
            now,
            settings.guard_confirm,
            self._names.add_all,
            self._synced.want,
            self._events,
            self._written,
            self._about_all,
            self._on_lease,
            self._heartbeat(),
        )

    def _heartbeat(self) -> Heartbeat:
        """What the heartbeat says of this process, whatever happens."""
        settings = self._settings
        return Heartbeat(
            lease=self._leadership.lease.full_name if self._leadership else "",
            holder=self._identity,
            layouts=tuple(f"{layout.name}={layout.base}" for layout in settings.layouts),
            namespaces=settings.namespaces,
            pod_label_selector=settings.pod_label_selector,
            require_register_permission=settings.require_register_permission,
        )

    # what changes mean, told by the informers' threads

    def _pod_changed(self, change: Change[Pod]) -> None:
        if self._locality:
            self._locality.pod_changed(change)
        if self._runs("rpcservice"):
            keys = self._projector.pod_changed(change)
            old, new = change.old, change.new
            if not change.listed and rpcservice_plan.addressed(old) != rpcservice_plan.addressed(new):
                seen = time.monotonic()
                for key in keys:
                    self._seen.setdefault(key.service_name, seen)
            self._keys.add_all(keys)
            self._problems.add_all(self._annotations.pod_changed(change))

    def _node_changed(self, change: Change[Node]) -> None:
        if self._locality:
            self._locality.node_changed(change)
        if self._runs("rpcservice"):
            self._keys.add_all(self._projector.node_changed(change))

    def _service_changed(self, change: Change[RpcService]) -> None:
        if self._locality:
            self._locality.rpc_service_changed(change)
        if self._runs("rpcservice"):
            self._keys.add_all(self._projector.service_changed(change))
        if self._registry:
            self._names.add_all(self._registry.service_changed(change))

    def _path_changed(self, path: str) -> None:
        if self._registry:
            for name, seconds in self._registry.path_changed(path).items():
                self._names.add_after(name, seconds)

    def _connection_changed(self, connected: bool) -> None:
        self._metrics.connected(connected)
        if not connected and self._registry and not self._stopping.is_set():
            self._registry.disconnected()

    def _about_all(self) -> Regarding | None:
        """What Events about the registry as a whole are about."""
        return self._leadership.lease.regarding if self._leadership else None

    def _annotated(self, annotations: Mapping[str, str]) -> None:
        """Somebody may have given a word on the Lease: have all guards look."""
        word = annotations.get(RELEASE, "")
        if word == self._word:
            return
        self._word = word
        self._projector.guard.poke()
        if self._registry:
            self._registry.guard.poke()
        if self._locality:
            self._locality.released()

    def _settled(self, name: str) -> None:
        if self._registry:
            self._names.add(name)

    def _listed(self) -> None:
        """A LIST may show that something is missing, or that what was unknown is known again."""
        if self._leading.is_set():
            self._resync()

    def _locality_listed(self) -> None:
        if self._leading.is_set() and self._locality and self._locality_filled():
            self._locality.resync()

    def _resync(self) -> None:
        if self._locality and self._locality_filled():
            self._locality.resync()
        if self._runs("rpcservice"):
            self._projector.forget_withdrawn()
            self._keys.add_all(self._projector.every_key())
            self._projector.guard.poke()
        if self._registry:
            self._names.add_all({service.service_name for service in self._services.store.values()})
            if self._registry.compared:
                self._registry.guard.poke()

    def _written(self, layout: str, op: str, name: str) -> None:
        """A znode was written."""
        self._metrics.registry_written(layout, op)
        seen = self._seen.pop(name, None)
        if seen is not None:
            self._metrics.propagated(time.monotonic() - seen)

    def _give_way(self, seconds: float) -> None:
        """Wait, up to *seconds*, while endpoints are on their way to clients."""
        latest = time.monotonic() + seconds
        while self._busy() and time.monotonic() < latest:
            if self._stopping.wait(TICK / 4):
                return

    def _busy(self) -> bool:
        """Whether endpoints are on their way to clients."""
        return self._keys.busy or self._names.busy

    def _runs(self, controller: str) -> bool:
        return controller in self._settings.controllers

    # running

    def run(self, stop: Stop) -> int:
        """Run until *stop* is requested, the Lease is lost or a thread fails; return the exit code."""
        settings = self._settings
        self._metrics.measure(
            {
                "rpcservice": lambda: self._keys.depth,
                "localservice": lambda: self._locality.depth if self._locality else 0,
                "registry": lambda: self._names.depth,
            },
            lambda: len({service.service_name for service in self._services.store.values()}),
            lambda: sum(len(service.status.endpoints) for service in self._services.store.values()),
            self._held,
        )
        serve(settings.bind_address, self._metrics, Health(self._why_not_live, self._why_not_ready))
        for source in self._every_source():
            source.start(self._crew)
        self._crew.start("events", self._events.run)
        if self._runs("registry"):
            self._zookeeper.start()
        self._crew.start("lead", self._lead)
        while not stop.requested and not self._crew.wait(TICK):
            pass
        self._shut_down()
        return 1 if self._crew.failure else 0

    def _lead(self) -> None:
        """Become the leader, then start to write."""
        cluster_id = self._settings.cluster_id or self._patiently(self._kube.cluster_id)
        if cluster_id is None:
            return
        if self._settings.dry_run:
            self._start(cluster_id, lambda: None)
            return
        self._leadership = Leadership(
            settings=self._settings,
            kube=self._kube,
            zookeeper=self._zookeeper if self._runs("registry") else None,
            cluster_id=cluster_id,
            identity=self._identity,
            crew=self._crew,
            stopping=self._stopping,
            begin=partial(self._start, cluster_id),
            lost=self._lost,
        )
        self._leadership.lease.on_annotations(self._annotated)
        self._leadership.run()

    def _patiently(self, read: Callable[[], str]) -> str | None:
        """What *read* returns, as soon as it does; None where the process is to end before."""
        told = ""

        def tell(state: RetryCallState) -> None:
            nonlocal told
            reason = str(state.outcome.exception() if state.outcome else "")
            if reason != told:
                log.warning("not ready", reason=reason)
            told = reason

        again = Retrying(
            retry=retry_if_exception_type(Failure),
            wait=wait_random_exponential(multiplier=0.5, max=5),
            stop=stop_when_event_set(self._stopping),
            before_sleep=tell,
            sleep=sleep_using_event(self._stopping),
        )
        try:
            return again(read)
        except RetryError:
            return None

    def _start(self, cluster_id: str, renew: Callable[[], None]) -> None:
        """Lead: start the workers, each once all that it depends on was listed."""
        log.info("leading", identity=self._identity, cluster=cluster_id)
        self._metrics.leading(True)
        if self._runs("registry"):
            self._registry = self._make_registry(cluster_id, renew)
        self._seen.clear()  # it was another process's to propagate
        self._leading.set()
        self._crew.start("start", self._start_workers)
        if self._locality:
            self._crew.start("start-localservice", partial(self._start_locality, self._locality))

    def _start_locality(self, locality: Locality) -> None:
        """Apart from the others, which do not depend on LocalServices."""
        if self._wait_until(self._locality_filled):
            locality.start(self._crew, self._work)

    def _locality_filled(self) -> bool:
        return all(source.filled for source in self._every_source())

    def _every_source(self) -> list[Source[Any]]:
        return [*self._sources, *(self._locality.sources if self._locality else ())]

    def _start_workers(self) -> None:
        if not self._wait_until(lambda: all(source.filled for source in self._sources)):
            return
        # What was listed stays: collections, each of which stops all threads, need not visit it.
        gc.collect()
        gc.freeze()
        self._resync()
        if self._runs("rpcservice"):
            self._projector.begin()
            for number in range(STATUS_WRITERS):
                self._work(f"rpcservice-{number}", "rpcservice", self._keys, self._projector.reconcile)
            self._work("annotations", "annotation", self._problems, self._annotations.reconcile)
            self._crew.start("rpcservice-guard", self._projector.guard.run)
            for pod in self._pods.store.values():
                if pod.problems:
                    self._problems.add(pod.key)
        if self._registry:
            self._mirror = Mirror(
                self._registry,
                self._zookeeper,
                self._names,
                self._settings.compare_period,
                self._metrics,
                self._stopping,
                self._busy,
            )
            self._crew.start("registry", partial(self._keep_registry, self._mirror))
            self._crew.start("registry-guard", self._registry.guard.run)
            for number in range(CONDITION_WRITERS):
                self._work(f"condition-{number}", "condition", self._conditions, self._synced.reconcile)
        self._crew.start("resync", self._resync_periodically)

    def _keep_registry(self, mirror: Mirror) -> None:
        """Write to ZooKeeper, once nobody else does."""
        if self._wait_until(lambda: self._leadership is None or self._leadership.clear.is_set()):
            mirror.run()

    def _work(self, name: str, controller: str, queue: Workqueue[K], reconcile: Callable[[K], bool]) -> None:
        self._crew.start(
            name, partial(work, controller, queue, reconcile, self._metrics, self._stopping.is_set)
        )

    def _resync_periodically(self) -> None:
        period = self._settings.resync_period or threading.TIMEOUT_MAX
        if self._settings.require_register_permission:
            period = min(period, ALLOWED_FOR)  # no watch tells that a permission was given or taken
        while not self._stopping.wait(period):
            self._resync()

    def _wait_until(self, filled: Callable[[], bool]) -> bool:
        while not filled():
            if self._stopping.wait(TICK / 10):
                return False
        return True

    def _lost(self, failure: Fenced) -> None:
        """Another process may lead now: nothing more may be written."""
        self._crew.failure = self._crew.failure or failure
        self._crew.end()

    def _shut_down(self) -> None:
        """Finish the writes in hand and give the Lease back; nothing is withdrawn."""
        deadline = time.monotonic() + SHUTDOWN
        self._stopping.set()
        for queue in (self._keys, self._problems, self._names, self._conditions):
            queue.close()
        if self._locality:
            self._locality.stop()
        self._projector.guard.stop()
        if self._registry:
            self._registry.guard.stop()
        for source in self._every_source():
            source.stop()
        self._kube.stop()
        self._events.stop()
        late = self._crew.join(deadline, time.monotonic, besides=("lead", "lease-watch"))
        if late:
            log.warning("still running", threads=late)
        if self._mirror and self._mirror.beating and not self._crew.failure and "registry" not in late:
            self._say_stopped(self._mirror)
        if self._leadership:
            self._leadership.release()
        self._zookeeper.close()

    def _say_stopped(self, mirror: Mirror) -> None:
        """Have the heartbeat say that we ended in order, unless ZooKeeper takes long to answer."""
        saying = threading.Thread(target=mirror.stopped, name="stopped", daemon=True)
        saying.start()
        saying.join(LAST_BEAT)

    # what others ask

    def _held(self) -> int:
        local = self._locality.held if self._locality else 0
        registry_ = len(self._registry.guard.held) if self._registry else 0
        return len(self._projector.guard.held) + registry_ + local

    def _why_not_live(self) -> str | None:
        """Only what a restart would mend."""
        failure = self._crew.failure
        return f"a thread failed: {failure}" if failure else None

    def _why_not_ready(self) -> str | None:
        for source in self._every_source():
            if not source.filled:
                return source.unknown or source.missing
        if self._leading.is_set() and self._runs("registry") and not self._zookeeper.connected:
            return f"ZooKeeper is not connected{self._zookeeper.trouble}"
        if self._leadership and self._leadership.trouble:
            return self._leadership.trouble
        if self._mirror and self._mirror.refused:
            return f"ZooKeeper refuses: {self._mirror.refused}"
        return None
