"""The LocalService controller: its sources, its queues, and what each change means to them."""

import time
from collections.abc import Callable, Hashable, Iterable
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from controller.kube import Kube
from controller.manifests import LOCALSERVICES, PODS, SERVICES
from controller.model import (
    LocalService,
    Node,
    NodeServiceKey,
    ObjectKey,
    Pod,
    RpcService,
    Service,
    ServiceKey,
)
from controller.reconcile import localservices, nodeservices, ports
from controller.reconcile.held import HeldOnLease
from controller.reconcile.localservices import LocalServiceProjector, LocalServiceReconciler
from controller.reconcile.nodeservices import NodeServiceReconciler
from controller.reconcile.podlabels import PodLabelReconciler
from controller.reconcile.selections import Selections
from controller.runtime.crew import Crew
from controller.runtime.informer import Change
from controller.runtime.workqueue import Workqueue
from controller.settings import Settings
from controller.sources import Source
from controller.telemetry import EventRecorder

K = TypeVar("K", bound=Hashable)

SERVICE_WRITERS = 8
LABEL_WRITERS = 8
STATUS_WINDOW = 1.0  # seconds between two writes of a status, at least
STATUS_DELAY = 0.2  # seconds, so that the Services of a new LocalService are one status


class Locality:
    """What node-local routing takes.  Changes are told by the informers' threads.

    *work*: starts a worker, given its name, the controller, the queue and the reconciler's method.
    """

    def __init__(
        self,
        settings: Settings,
        kube: Kube,
        pods: Source[Pod],
        nodes: Source[Node],
        rpc_services: Source[RpcService],
        may_register: Callable[[Pod, str], bool],
        events: EventRecorder,
        listed: Callable[[], None],
        restarted: Callable[[str, str], None],
    ) -> None:
        self._settings = settings
        self._kube = kube
        self._pods = pods
        self._nodes = nodes
        self._rpc_services = rpc_services
        self._may_register = may_register
        self._events = events
        self._services: Workqueue[NodeServiceKey] = Workqueue(settings.batch_window)
        self._labels: Workqueue[ObjectKey] = Workqueue(settings.batch_window)
        self._projections: Workqueue[ServiceKey] = Workqueue(settings.batch_window)
        self._statuses: Workqueue[ObjectKey] = Workqueue(STATUS_WINDOW)
        self._queues: tuple[Workqueue[Any], ...] = (
            self._services,
            self._labels,
            self._projections,
            self._statuses,
        )
        self._locals: Source[LocalService] = Source(
            kube,
            LOCALSERVICES,
            settings.namespaces,
            localservices.local_indexes(),
            self._local_changed,
            listed,
            restarted,
        )
        self._found: Source[Service] = Source(
            kube,
            SERVICES,
            settings.namespaces,
            nodeservices.service_indexes(),
            self._service_changed,
            listed,
            restarted,
        )
        self.sources: tuple[Source[Any], ...] = (self._locals, self._found)

    def make(self, writer: ports.Kube, now: Callable[[], datetime], lease: HeldOnLease) -> None:
        """Make the reconcilers, which write by *writer*; *lease*: where people see and release holds."""
        settings = self._settings
        self._selections: Selections[LocalService] = Selections(
            self._pods.store, lambda local: local.spec.pods
        )
        self._node_services = NodeServiceReconciler(
            writer,
            partial(self._kube.get, SERVICES),
            self._locals,
            self._nodes,
            self._found,
            settings.node_label,
            time.monotonic,
            settings.guard_confirm,
            self._services.add_all,
            self._report,
            lease,
        )
        self._local_services = LocalServiceReconciler(
            writer,
            self._locals,
            self._nodes,
            self._found,
            self._pods,
            self._selections,
            self._node_services,
            settings.node_label,
            self._events,
            now,
        )
        self._projector = LocalServiceProjector(
            writer, self._pods, self._rpc_services, self._locals, self._list_pods, self._may_register
        )
        self._labeller = PodLabelReconciler(
            writer,
            self._pods,
            self._selections,
            self._projector.name,
            self._may_register,
            settings.node_label,
            self._events,
        )

    def _list_pods(self, namespace: str) -> Iterable[Pod]:
        return self._kube.list(PODS, namespace, self._settings.pod_label_selector).items

    # what changes mean

    def pod_changed(self, change: Change[Pod]) -> None:
        """A pod may need a label, ask for routing, or change what a status says."""
        for key in self._selections.pod_changed(change):
            self._report(key)
        self._labels.add_all(self._labeller.pod_changed(change))
        self._projections.add_all(self._projector.pod_changed(change))

    def node_changed(self, change: Change[Node]) -> None:
        """A node that comes, goes or is labelled anew gets or loses its Services."""
        keys = self._node_services.node_changed(change)
        self._services.add_all(keys)
        for key in {key.owner for key in keys}:
            self._report(key)

    def rpc_service_changed(self, change: Change[RpcService]) -> None:
        """A LocalService that pods ask for has the name of their RpcService."""
        keys = self._projector.rpc_service_changed(change)
        self._projections.add_all(keys)
        if keys and (change.old is None or change.new is None):
            self._labels.add_all(self._labeller.pods_of(keys))

    def _local_changed(self, change: Change[LocalService]) -> None:
        self._selections.changed(change)
        self._services.add_all(self._node_services.local_changed(change))
        self._labels.add_all(self._labeller.local_changed(change))
        self._projections.add_all(self._projector.local_changed(change))
        if change.new:
            self._report(change.new.key)

    def _service_changed(self, change: Change[Service]) -> None:
        keys = self._node_services.service_changed(change)
        self._services.add_all(keys)
        for key in {key.owner for key in keys}:
            self._report(key)

    def _report(self, key: ObjectKey) -> None:
        self._statuses.add_after(key, STATUS_DELAY)

    def resync(self) -> None:
        """Look at everything once more."""
        self._node_services.forget_withdrawn()
        self._projections.add_all(self._projector.every_key())
        self._services.add_all(self._node_services.every_key())
        self._labels.add_all(self._labeller.every_key())
        for local in self._locals.store.values():
            self._report(local.key)
        self._node_services.guard.poke()

    # running

    def start(
        self, crew: Crew, work: Callable[[str, str, Workqueue[Any], Callable[[Any], bool]], None]
    ) -> None:
        """Start the workers, once all sources are filled."""
        self.resync()
        crew.start("localservice-guard", self._node_services.guard.run)
        for number in range(SERVICE_WRITERS):
            work(f"nodeservice-{number}", "localservice", self._services, self._node_services.reconcile)
        for number in range(LABEL_WRITERS):
            work(f"podlabel-{number}", "podlabel", self._labels, self._labeller.reconcile)
        work("localservice", "localservice", self._projections, self._projector.reconcile)
        work("localservice-status", "localservice", self._statuses, self._local_services.reconcile)

    @property
    def depth(self) -> int:
        """How many keys are due."""
        return sum(queue.depth for queue in self._queues)

    @property
    def held(self) -> int:
        """How many absent nodes keep their Services for now."""
        return len(self._node_services.guard.held)

    def released(self) -> None:
        """Somebody gave a word on the Lease: have the guard look."""
        self._node_services.guard.poke()

    def stop(self) -> None:
        """Let the workers end."""
        for queue in self._queues:
            queue.close()
        self._node_services.guard.stop()
