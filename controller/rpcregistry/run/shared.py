"""What the parts of a process share: what is read, with what is written, Events, and who waits for whom."""

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from rpcregistry.kube.client import Kube
from rpcregistry.manifests import LOCALSERVICES, NODES, PODS, RPCSERVICES, Named, Resource
from rpcregistry.model import Node, Pod, RpcService
from rpcregistry.reconcile import byname, localservices, ports, rpcservices
from rpcregistry.reconcile.fence import FencedKube
from rpcregistry.reconcile.held import HeldOnLease
from rpcregistry.reconcile.initialsync import InitialSync
from rpcregistry.reconcile.registration import Registration
from rpcregistry.reconcile.relied import Relied
from rpcregistry.run.dryrun import DryRunKube, DryRunLeadership, NoPoster
from rpcregistry.run.leadership import Leadership
from rpcregistry.run.propagation import Propagation
from rpcregistry.run.sources import Source
from rpcregistry.runtime.clock import SystemClock
from rpcregistry.settings import RunSettings
from rpcregistry.telemetry.events import EventRecorder
from rpcregistry.telemetry.metrics import Metrics
from rpcregistry.zookeeper.client import ZooKeeper

T = TypeVar("T", bound=Named)
V = TypeVar("V")

TICK = 0.05  # seconds between two looks at whether endpoints are on their way


class Relay(Generic[V]):
    """Passes what it is called with on to those who subscribed before anything started."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[[V], None]] = []  # grows before anything starts

    def subscribe(self, subscriber: Callable[[V], None]) -> None:
        """Call *subscriber*, too, in whatever thread; it must not block."""
        self._subscribers.append(subscriber)

    def __call__(self, value: V) -> None:
        """Tell all subscribers."""
        for subscriber in self._subscribers:
            subscriber(value)


class Traffic:
    """Whether endpoints are on their way to clients: what can wait gives way to them.  For any thread."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._ways: list[Callable[[], bool]] = []  # grows before anything starts

    def add(self, busy: Callable[[], bool]) -> None:
        """Count what *busy* says."""
        self._ways.append(busy)

    @property
    def busy(self) -> bool:
        """Whether any are."""
        return any(busy() for busy in self._ways)

    def yield_to_endpoints(self, seconds: float) -> None:
        """Wait, up to *seconds*, while there are any."""
        latest = time.monotonic() + seconds
        while self.busy and time.monotonic() < latest:
            if self._stopping.wait(TICK):
                return


class Shared:
    """What every part may use; complete once it is made.  Nothing in it has started yet.

    *zookeeper* is only used where the registry controller runs; *connection* and *changed* relay what it
    tells.  *stopping* is set once the process ends,
    *began* once it leads.
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
        self.metrics = metrics
        self.stopping = stopping
        self.began = threading.Event()
        self.clock = SystemClock()
        self.events = EventRecorder(NoPoster() if settings.dry_run else kube, identity)
        self.sources: dict[str, Source[Any]] = {}  # by plural; grows before anything starts
        self.pods: Source[Pod] = self.source(
            PODS,
            settings.target.namespaces,
            {**rpcservices.pod_indexes(), **localservices.pod_indexes()},
            settings.pod_label_selector,
        )
        self.nodes: Source[Node] = self.source(NODES, (), {})
        self.services: Source[RpcService] = self.source(
            RPCSERVICES,
            settings.target.namespaces,
            {**rpcservices.service_indexes(), **byname.service_indexes()},
        )
        self.writer: ports.Kube = (
            DryRunKube(self.sources) if settings.dry_run else FencedKube(kube, lambda: leadership.leading)
        )
        self.initial_sync = InitialSync()
        # Only our own word, where we have one: the pod controller's.
        self.relied = Relied(self.services)
        self.services.subscribe(self.relied.note)
        self.traffic = Traffic(stopping)
        self.propagation = Propagation(metrics.propagated, self.clock.monotonic)
        registration = Registration(kube.raw, self.events, self.clock.monotonic)
        self.may_register: Callable[[Pod, str], bool] = (
            registration.may_register if settings.require_register_permission else lambda *_: True
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

        Where no pod controller runs, every status is relied on; a dry run's never become what they should be.
        """
        vouched = self.runs("rpcservice") and not self.settings.dry_run
        return self.relied if vouched else self.services

    def is_unlooked(self, name: str) -> bool:
        """Whether something is listed under *name* that nobody relies on."""
        return self.registered is self.relied and self.relied.is_unlooked(name)

    def source(
        self,
        resource: Resource[T],
        namespaces: Sequence[str],
        indexes: Mapping[str, Callable[[T], Iterable[Hashable]]],
        label_selector: str = "",
    ) -> Source[T]:
        """What is read of a resource; it starts with the part that needs it."""
        source = Source(
            kube=self.kube,
            resource=resource,
            namespaces=namespaces,
            indexes=indexes,
            restarted=self.metrics.watch_restarted,
            label_selector=label_selector,
        )
        self.sources[source.name] = source
        return source
