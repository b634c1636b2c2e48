"""The LocalService controller: node Services, the labels by which they find pods, and statuses."""

from collections.abc import Iterable
from functools import partial

from rpcregistry.manifests import LOCALSERVICES, PODS, SERVICES
from rpcregistry.model import (
    KubeService,
    LocalService,
    NodeServiceKey,
    ObjectKey,
    Pod,
    RpcService,
    ServiceKey,
)
from rpcregistry.reconcile import localservices, nodeservices
from rpcregistry.reconcile.localservices import LocalServiceReconciler, LocalServiceStatusReconciler
from rpcregistry.reconcile.nodeservices import NodeServiceReconciler
from rpcregistry.reconcile.podlabels import PodLabelReconciler
from rpcregistry.reconcile.selections import Selections
from rpcregistry.run.part import Part
from rpcregistry.run.shared import Shared
from rpcregistry.run.sources import Source
from rpcregistry.runtime.controller import Controller
from rpcregistry.runtime.store import Change
from rpcregistry.runtime.workqueue import Workqueue

SERVICE_WRITERS = 8
LABEL_WRITERS = 8
LOCAL_WRITERS = STATUS_WRITERS = 4  # of which slow namespaces leave two
STATUS_WINDOW = 1.0  # seconds between two writes of a status, at least
STATUS_DELAY = 0.2  # seconds, so that the Services of a new LocalService are one status
KIND = "localservice"


def localservices_part(shared: Shared) -> Part:
    """The part ``localservice``."""
    namespaces = shared.settings.target.namespaces
    locals_ = shared.source(LOCALSERVICES, namespaces, localservices.local_indexes())
    found = shared.source(SERVICES, namespaces, nodeservices.service_indexes())
    selections: Selections[LocalService] = Selections(shared.pods.store, lambda local: local.spec.pods)
    # Note the selections first: the keys that a change touches depend on them.
    locals_.subscribe(selections.note)
    shared.pods.subscribe(selections.note_pod)
    status_queue: Workqueue[ObjectKey] = shared.queue(STATUS_WINDOW, LOCALSERVICES, workers=STATUS_WRITERS)
    services = _node_services(shared, locals_, found, status_queue)
    serve = _serve(shared, locals_, found, *services)
    reconciler = LocalServiceReconciler(
        kube=shared.writer,
        pods=shared.pods,
        rpc_services=shared.services,
        locals_=locals_,
        list_pods=partial(_list_pods, shared),
        may_register=shared.may_register,
        events=shared.events,
        clock=shared.clock,
        labels=shared.settings.generated_labels,
    )
    project = _project(shared, locals_, reconciler)
    label = _label(shared, locals_, selections, reconciler)
    report = _report(shared, locals_, found, selections, services[0], status_queue)
    generated = shared.generated_labels(LOCALSERVICES, locals_, KIND)
    return Part(
        name=KIND,
        sources=(shared.services, shared.pods, shared.nodes, locals_, found),
        works=(project, serve, label, report, generated),
        counted=(project, serve, label, report),
        guards={"nodes": services[0].guard},
        silent_nodes=lambda: services[0].silences.count,
        forget=services[0].forget_withdrawn,
        node_services=services[0],
    )


def _node_services(
    shared: Shared,
    locals_: Source[LocalService],
    found: Source[KubeService],
    status_queue: Workqueue[ObjectKey],
) -> tuple[NodeServiceReconciler, Workqueue[NodeServiceKey]]:
    node_service_queue: Workqueue[NodeServiceKey] = shared.queue(
        shared.settings.batch_window, SERVICES, workers=SERVICE_WRITERS
    )
    reconciler = NodeServiceReconciler(
        kube=shared.writer,
        read=partial(shared.kube.get, SERVICES),
        locals_=locals_,
        nodes=shared.nodes,
        services=found,
        pods=shared.pods,
        node_label=shared.settings.node_label,
        clock=shared.clock,
        confirm=shared.settings.guard_confirm,
        past=shared.memory,
        enqueue=node_service_queue.add_all,
        report=lambda key: status_queue.add_after(key, STATUS_DELAY),
        lease=shared.on_lease,
    )
    locals_.subscribe(reconciler.note_local)
    shared.nodes.subscribe(reconciler.note_node)
    shared.pods.subscribe(reconciler.note_pod)
    return reconciler, node_service_queue


def _serve(
    shared: Shared,
    locals_: Source[LocalService],
    found: Source[KubeService],
    reconciler: NodeServiceReconciler,
    node_service_queue: Workqueue[NodeServiceKey],
) -> Controller[NodeServiceKey]:
    """The Service of each LocalService on each node."""
    serve = Controller(
        "nodeservice",
        node_service_queue,
        reconciler.reconcile,
        kind=KIND,
        every_key=reconciler.every_key,
    )
    serve.watch(shared.nodes, reconciler.node_keys)
    serve.watch(locals_, reconciler.local_keys)
    serve.watch(found, reconciler.service_keys)
    return serve


def _project(
    shared: Shared, locals_: Source[LocalService], reconciler: LocalServiceReconciler
) -> Controller[ServiceKey]:
    """The LocalServices that pods ask for."""
    service_queue: Workqueue[ServiceKey] = shared.queue(
        shared.settings.batch_window, LOCALSERVICES, workers=LOCAL_WRITERS
    )
    project = Controller(KIND, service_queue, reconciler.reconcile, every_key=reconciler.every_key)
    project.watch(shared.pods, reconciler.pod_keys)
    project.watch(shared.services, reconciler.rpc_service_keys)
    project.watch(locals_, reconciler.local_keys)
    return project


def _label(
    shared: Shared,
    locals_: Source[LocalService],
    selections: Selections[LocalService],
    reconciler: LocalServiceReconciler,
) -> Controller[ObjectKey]:
    """The labels by which node Services find their pods."""
    pod_queue: Workqueue[ObjectKey] = shared.queue(shared.settings.batch_window, PODS, workers=LABEL_WRITERS)
    labeller = PodLabelReconciler(
        kube=shared.writer,
        pods=shared.pods,
        selections=selections,
        names=reconciler.name,
        may_register=shared.may_register,
        node_label=shared.settings.node_label,
        events=shared.events,
        clock=shared.clock,
    )

    def renamed(change: Change[RpcService]) -> set[ObjectKey]:
        """A LocalService that pods ask for has the name of their RpcService."""
        is_there_anew = change.old is None or change.new is None
        return labeller.pods_of(reconciler.rpc_service_keys(change)) if is_there_anew else set()

    label = Controller("podlabel", pod_queue, labeller.reconcile, every_key=labeller.every_key)
    label.watch(shared.pods, labeller.pod_keys)
    label.watch(shared.services, renamed)
    label.watch(locals_, labeller.local_keys)
    return label


def _report(
    shared: Shared,
    locals_: Source[LocalService],
    found: Source[KubeService],
    selections: Selections[LocalService],
    services: NodeServiceReconciler,
    status_queue: Workqueue[ObjectKey],
) -> Controller[ObjectKey]:
    """The status of each LocalService."""
    reconciler = LocalServiceStatusReconciler(
        kube=shared.writer,
        locals_=locals_,
        nodes=shared.nodes,
        services=found,
        pods=shared.pods,
        selections=selections,
        node_services=services,
        node_label=shared.settings.node_label,
        events=shared.events,
        clock=shared.clock,
    )
    report = Controller(
        "localservice-status",
        status_queue,
        reconciler.reconcile,
        kind=KIND,
        every_key=lambda: [local.key for local in locals_.store.values()],
        delay=STATUS_DELAY,
    )
    report.watch(shared.pods, selections.touched_by)
    report.watch(shared.nodes, lambda change: {key.owner for key in services.node_keys(change)})
    report.watch(found, lambda change: {key.owner for key in services.service_keys(change)})
    report.watch(locals_, lambda change: {change.new.key} if change.new else set())
    return report


def _list_pods(shared: Shared, namespace: str) -> Iterable[Pod]:
    return shared.kube.list(PODS, namespace, shared.settings.pod_label_selector).items
