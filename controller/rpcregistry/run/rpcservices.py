"""The pod controller: RpcServices from pods, and Events about what pods declare wrongly."""

from rpcregistry.manifests import NODES, PODS, RPCSERVICES
from rpcregistry.model import ObjectKey, Pod, ServiceKey
from rpcregistry.plan import rpcservices as planning
from rpcregistry.plan.pods import addressed
from rpcregistry.reconcile.annotations import AnnotationReconciler
from rpcregistry.reconcile.rpcservices import RpcServiceReconciler
from rpcregistry.run.part import Part
from rpcregistry.run.shared import Shared
from rpcregistry.runtime.controller import Controller
from rpcregistry.runtime.informer import Change
from rpcregistry.runtime.workqueue import Workqueue

WRITERS = 8


def rpcservices_part(shared: Shared) -> Part:
    """The part ``rpcservice``."""
    settings = shared.settings
    service_queue: Workqueue[ServiceKey] = Workqueue(settings.batch_window)
    reconciler = RpcServiceReconciler(
        kube=shared.writer,
        pods=shared.pods,
        nodes=shared.nodes,
        services=shared.services,
        relied=shared.relied,
        # One that --pod-label-selector leaves out would be found, too.
        read_pod=lambda key: None if settings.pod_label_selector else shared.kube.get(PODS, key),
        read_node=lambda name: shared.kube.get(NODES, ObjectKey("", name)),
        may_register=shared.may_register,
        settings=planning.ProjectionSettings(
            settings.endpoints_per_object, settings.target.layouts, settings.generated_labels
        ),
        clock=shared.clock,
        confirm=settings.guard_confirm,
        enqueue=service_queue.add_all,
        initial_sync=shared.initial_sync,
        lease=shared.on_lease,
        events=shared.events,
    )
    # Note each change first: the keys that it touches depend on the notes.
    shared.pods.subscribe(reconciler.note_pod)
    shared.nodes.subscribe(reconciler.absences.note_node)
    shared.services.subscribe(reconciler.note_service)

    def reconcile(key: ServiceKey) -> bool:
        with shared.journal.looking(key):
            return reconciler.reconcile(key)

    project = Controller(
        "rpcservice", service_queue, reconcile, workers=WRITERS, every_key=reconciler.every_key
    )
    if shared.runs("registry"):  # else nothing ends what would be timed
        shared.pods.subscribe(lambda change: _time(shared, reconciler, change))
    project.watch(shared.pods, reconciler.pod_keys)
    project.watch(shared.nodes, reconciler.node_keys)
    project.watch(shared.services, reconciler.service_keys)
    shared.traffic.add(lambda: service_queue.busy)

    annotation_queue: Workqueue[ObjectKey] = Workqueue(0.0)
    annotations = AnnotationReconciler(shared.pods, shared.events)
    annotation = Controller("annotation", annotation_queue, annotations.reconcile)
    annotation.watch(shared.pods, annotations.pod_keys)

    def begin() -> None:
        reconciler.begin()
        annotation.add(pod.key for pod in shared.pods.store.values() if pod.problems or pod.hints)

    return Part(
        name="rpcservice",
        sources=(shared.services, shared.pods, shared.nodes),
        works=(project, annotation, shared.generated_labels(RPCSERVICES, shared.services, "rpcservice")),
        counted=(project,),
        guards=(reconciler.absences.guard,),
        forget=reconciler.absences.forget_withdrawn,
        begin=begin,
    )


def _time(shared: Shared, reconciler: RpcServiceReconciler, change: Change[Pod]) -> None:
    """Begin to time a pod's change, if it affects addresses."""
    if shared.began.is_set() and not change.listed and addressed(change.old) != addressed(change.new):
        shared.journal.seen(reconciler.pod_keys(change))
