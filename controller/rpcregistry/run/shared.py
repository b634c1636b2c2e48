"""What the parts of a process share: sources, the writer, Events, and which work yields to which."""

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from rpcregistry.kube.client import Kube
from rpcregistry.manifests import EVENTS, LOCALSERVICES, NODES, PODS, RPCSERVICES, ApiType, Named, Resource
from rpcregistry.model import Node, ObjectKey, Pod, RpcService, ServiceKey
from rpcregistry.plan.heartbeat import Oldest
from rpcregistry.plan.journal import Ending, Entry
from rpcregistry.plan.repairs import Repair
from rpcregistry.plan.restored import Record
from rpcregistry.plan.rows import owner_name
from rpcregistry.reconcile import byname, localservices, observing, ports, room
from rpcregistry.reconcile.fence import ConfinedPoster, FencedKube
from rpcregistry.reconcile.generatedlabels import GeneratedLabelReconciler
from rpcregistry.reconcile.held import HeldOnLease
from rpcregistry.reconcile.initialsync import InitialSync
from rpcregistry.reconcile.memory import Memory
from rpcregistry.reconcile.registration import Registration
from rpcregistry.reconcile.relied import Relied
from rpcregistry.reconcile.slow import SlowNamespaces
from rpcregistry.reconcile.unwritten import Unwritten
from rpcregistry.run.dryrun import Diff, DryRunKube, DryRunLeadership, NoPoster, to_standard_output
from rpcregistry.run.journal import Journal
from rpcregistry.run.leadership import Leadership
from rpcregistry.run.sources import Source
from rpcregistry.runtime.clock import SystemClock
from rpcregistry.runtime.controller import Controller
from rpcregistry.runtime.workqueue import Workqueue
from rpcregistry.settings import RunSettings
from rpcregistry.telemetry.events import EventRecorder
from rpcregistry.telemetry.metrics import Metrics
from rpcregistry.zookeeper.client import ZooKeeper


class Namespaced(Protocol):
    """A key that belongs to one namespace."""

    @property
    def namespace(self) -> str: ...
    def __hash__(self) -> int: ...


K = TypeVar("K", bound=Namespaced)
T = TypeVar("T", bound=Named)
V = TypeVar("V")

TICK = 0.05  # seconds between two checks whether changes of endpoints are in progress


class Relay(Generic[V]):
    """Passes each value on to the subscribers, which subscribed before anything started."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[[V], None]] = []  # grows before anything starts

    def subscribe(self, subscriber: Callable[[V], None]) -> None:
        """Call *subscriber* with each value, in any thread; it must not block."""
        self._subscribers.append(subscriber)

    def __call__(self, value: V) -> None:
        """Notify all subscribers."""
        for subscriber in self._subscribers:
            subscriber(value)


class Traffic:
    """Whether changes of endpoints are in progress, so that other writes yield.  For any thread."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._queues: list[Callable[[], bool]] = []  # grows before anything starts

    def add(self, busy: Callable[[], bool]) -> None:
        """Ask *busy*, too, whether changes are in progress."""
        self._queues.append(busy)

    @property
    def busy(self) -> bool:
        """Whether any change is in progress."""
        return any(busy() for busy in self._queues)

    def yield_to_endpoints(self, seconds: float) -> None:
        """Wait, up to *seconds*, while changes are in progress."""
        latest = time.monotonic() + seconds
        while self.busy and time.monotonic() < latest:
            if self._stopping.wait(TICK):
                return


class Shared:
    """What every part may use; complete once it is made.  Nothing in it has started yet.

    Only the registry controller uses *zookeeper*; *connection* and *changed* relay its callbacks.  *stopping*
    is set once the process ends, *began* once it leads.
    """

    def __init__(
        self,
        *,
        settings: RunSettings,
        kube: Kube,
        zookeeper: ZooKeeper,
        connection: Relay[bool],
        changed: Relay[str],
        cluster_id: str,
        identity: str,
        leadership: Leadership | DryRunLeadership,
        memory: Memory,
        metrics: Metrics,
        stopping: threading.Event,
    ) -> None:
        self.settings = settings
        self.kube = kube
        self.zookeeper = zookeeper
        self.connection = connection
        self.changed = changed
        self.cluster_id = cluster_id
        self.identity = identity
        self.leadership = leadership
        self.memory = memory
        self.metrics = metrics
        self.stopping = stopping
        self.began = threading.Event()
        self.clock = SystemClock()
        self.slow = SlowNamespaces(self.clock.monotonic)
        self.events = EventRecorder(
            NoPoster() if settings.dry_run else ConfinedPoster(kube, lambda: leadership.confined),
            identity,
            dropped=metrics.event_dropped,
            is_slow=self.slow.of(EVENTS),
            timed=partial(self.slow.timed, EVENTS),
        )
        self.sources: dict[str, Source[Any]] = {}  # by plural; grows before anything starts
        self.pods: Source[Pod] = self.source(
            PODS,
            settings.target.namespaces,
            {**observing.pod_indexes(), **localservices.pod_indexes()},
            settings.pod_label_selector,
        )
        memory.follow(self.pods.store.values)
        self.pods.subscribe(memory.note_pod)
        self.nodes: Source[Node] = self.source(NODES, (), {})
        self.services: Source[RpcService] = self.source(
            RPCSERVICES,
            settings.target.namespaces,
            {
                **observing.service_indexes(),
                **byname.service_indexes(),
                **(room.service_indexes() if settings.services_per_namespace else {}),
            },
        )
        self.diff = Diff(to_standard_output)  # what a dry run would write
        self.writer: ports.Kube = (
            DryRunKube(self.sources, self.diff)
            if settings.dry_run
            else FencedKube(kube, lambda: leadership.leading, lambda: leadership.confined, self.slow)
        )
        self.initial_sync = InitialSync()
        memory.add(self.services.check)
        # The registry relies on our own pod controller's word only, if that runs here.
        self.relied = Relied(self.services)
        self.services.subscribe(self.relied.note)
        self.traffic = Traffic(stopping)
        self.journal_ended: Relay[Entry] = Relay()
        self.journal_ended.subscribe(self._change_ended)
        self.journal = Journal(
            (layout.name for layout in settings.target.layouts), self.journal_ended, self.clock
        )
        self.repaired: Relay[Repair] = Relay()
        self.unwritten = Unwritten()  # names with a change that is not in ZooKeeper yet
        self.registration = Registration(kube.raw, self.events, self.clock.monotonic)
        self.may_register: Callable[[Pod, str], bool] = (
            self.registration.may_register if settings.require_register_permission else lambda *_: True
        )
        kinds = {"registry": RPCSERVICES.kind, "localservice": LOCALSERVICES.kind}
        self.on_lease = HeldOnLease(
            guarded=[kind for controller, kind in kinds.items() if self.runs(controller)],
            notes=leadership.lease,
            lease=lambda: leadership.lease.regarding,
            events=self.events,
            clock=self.clock,
        )

    def runs(self, controller: str) -> bool:
        """Whether ``--controllers`` names it."""
        return controller in self.settings.controllers

    @property
    def registered(self) -> Relied | Source[RpcService]:
        """The RpcServices that the registry mirrors.

        Without a pod controller, it relies on every status.  So does a dry run, whose statuses are never
        written.
        """
        vouched = self.runs("rpcservice") and not self.settings.dry_run
        return self.relied if vouched else self.services

    def is_unlooked(self, name: str) -> bool:
        """Whether a status of *name* lists endpoints that the pod controller has not checked."""
        return self.registered is self.relied and self.relied.is_unlooked(name)

    def owner_name(self, namespace: str, service_name: str) -> str:
        """The name of the RpcService that lists the annotated pods of a service."""
        key = ServiceKey(namespace, service_name)
        found = self.services.store.indexed(observing.NAMED, key)
        return owner_name(key, found, observing.Taken(self.services.store, namespace))

    @property
    def present(self) -> Record:
        """How far the API server has come, as this process saw it."""
        uid, version = self.leadership.lease.seen or ("", 0)
        versions = {name: source.highest for name, source in self.sources.items() if source.filled}
        return Record(versions, uid, version, self.services.newest)

    def queue(self, window: float, writes: ApiType, *, workers: int = 1) -> Workqueue[K]:
        """Make a queue whose namespaces take turns; *window*: seconds between two writes of a key.

        *writes*: the kind that its workers write.
        """
        return Workqueue(window, lambda key: (key.namespace,), workers=workers, is_slow=self.slow.of(writes))

    def _change_ended(self, entry: Entry) -> None:
        self.metrics.change_ended(entry.ending.value)
        if entry.ending is Ending.WRITTEN:
            self.metrics.propagated(
                entry.layout, seconds=entry.seconds, status=entry.status, write=entry.write
            )

    def oldest(self) -> Oldest | None:
        """The change that has waited longest; None if none waits."""
        waiting = min(filter(None, (self.journal.oldest(), self.unwritten.oldest())), default=None)
        if waiting is None:
            return None
        return Oldest(waiting.service, self.clock.monotonic() - waiting.since, waiting.listed)

    @property
    def unread(self) -> Mapping[str, str]:
        """The resources that the API server does not let us read, and why."""
        why = {name: source.unknown for name, source in self.sources.items()}
        return {name: reason for name, reason in why.items() if reason}

    def generated_labels(
        self, resource: Resource[Any], found: Source[Any], kind: str
    ) -> Controller[ObjectKey]:
        """What keeps ``--generated-labels`` on the objects of *resource*; *kind*: its name in the metrics."""
        labels = self.settings.generated_labels
        reconciler = GeneratedLabelReconciler(
            kube=self.writer, resource=resource, found=found, labels=labels, clock=self.clock
        )
        queue: Workqueue[ObjectKey] = self.queue(self.settings.batch_window, resource, workers=4)
        controller = Controller(
            f"{kind}-labels", queue, reconciler.reconcile, kind=kind, every_key=reconciler.every_key
        )
        controller.watch(found, reconciler.keys)
        return controller

    def source(
        self,
        resource: Resource[T],
        namespaces: Sequence[str],
        indexes: Mapping[str, Callable[[T], Iterable[Hashable]]],
        label_selector: str = "",
    ) -> Source[T]:
        """Make the source of a resource; it starts with the part that needs it."""
        source = Source(
            kube=self.kube,
            resource=resource,
            namespaces=namespaces,
            indexes=indexes,
            restarted=self.metrics.watch_restarted,
            memory=self.memory,
            label_selector=label_selector,
        )
        self.sources[source.name] = source
        return source
