"""The pod controller: RpcServices from pods, and Events about what pods declare wrongly."""

from functools import partial

from rpcregistry.manifests import EVENTS, NODES, PODS, RPCSERVICES
from rpcregistry.model import ObjectKey, Pod, ServiceKey
from rpcregistry.plan import rpcservices as planning
from rpcregistry.plan.pods import addressed
from rpcregistry.reconcile.annotations import INTERVAL, AnnotationReconciler
from rpcregistry.reconcile.findings import FindingReconciler
from rpcregistry.reconcile.rpcservices import RpcServiceReconciler
from rpcregistry.run.part import Part
from rpcregistry.run.shared import Shared
from rpcregistry.runtime.controller import Controller
from rpcregistry.runtime.store import Change
from rpcregistry.runtime.workqueue import Workqueue

WRITERS = 8
CONDITION_DELAY = 0.2  # seconds, in which a status and its condition become one change


def rpcservices_part(shared: Shared) -> Part:
    """The part ``rpcservice``."""
    settings = shared.settings
    service_queue: Workqueue[ServiceKey] = shared.queue(settings.batch_window, RPCSERVICES, workers=WRITERS)
    reconciler = RpcServiceReconciler(
        kube=shared.writer,
        pods=shared.pods,
        nodes=shared.nodes,
        services=shared.services,
        relied=shared.relied,
        # One that --pod-label-selector leaves out would be found, too.
        read_pod=lambda key: None if settings.pod_label_selector else shared.kube.get(PODS, key),
        read_service=partial(shared.kube.get, RPCSERVICES),
        read_node=lambda name: shared.kube.get(NODES, ObjectKey("", name)),
        may_register=shared.may_register,
        settings=planning.ProjectionSettings(
            settings.endpoints_per_object, settings.target.layouts, settings.generated_labels
        ),
        clock=shared.clock,
        confirm=settings.guard_confirm,
        past=shared.memory,
        enqueue=service_queue.add_all,
        initial_sync=shared.initial_sync,
        services_per_namespace=settings.services_per_namespace,
        crowded=lambda: service_queue.depth > 0,
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

    project = Controller("rpcservice", service_queue, reconcile, every_key=reconciler.every_key)
    if shared.runs("registry"):  # else nothing ends what would be timed
        shared.pods.subscribe(lambda change: _time(shared, reconciler, change))
    project.watch(shared.pods, reconciler.pod_keys)
    project.watch(shared.nodes, reconciler.node_keys)
    project.watch(shared.services, reconciler.service_keys)
    shared.traffic.add(lambda: service_queue.busy)

    annotation_queue: Workqueue[ObjectKey] = shared.queue(INTERVAL, EVENTS)
    annotations = AnnotationReconciler(shared.pods, shared.events)
    annotation = Controller("annotation", annotation_queue, annotations.reconcile)
    annotation.watch(shared.pods, annotations.pod_keys)

    # Where no registry writes Synced in this process.
    findings = () if shared.runs("registry") else (_findings(shared),)

    def begin() -> None:
        reconciler.begin()
        annotation.add(pod.key for pod in shared.pods.store.values() if pod.problems or pod.hints)

    return Part(
        name="rpcservice",
        sources=(shared.services, shared.pods, shared.nodes),
        works=(
            project,
            annotation,
            shared.generated_labels(RPCSERVICES, shared.services, "rpcservice"),
            *findings,
        ),
        counted=(project,),
        guards={"pods": reconciler.absences.guard},
        silent_nodes=lambda: reconciler.absences.silences.count,
        forget=reconciler.absences.forget_withdrawn,
        begin=begin,
    )


def _findings(shared: Shared) -> Controller[ObjectKey]:
    """What the pod controller finds, as conditions."""
    finding_queue: Workqueue[ObjectKey] = shared.queue(0.0, RPCSERVICES)
    findings = FindingReconciler(
        kube=shared.writer,
        services=shared.services,
        initial_sync=shared.initial_sync,
        events=shared.events,
        clock=shared.clock,
    )
    controller = Controller("finding", finding_queue, findings.reconcile, delay=CONDITION_DELAY)
    controller.watch(shared.services, findings.service_keys)
    shared.initial_sync.subscribe(lambda key: controller.add(findings.keys_of(key.service_name)))
    return controller


def _time(shared: Shared, reconciler: RpcServiceReconciler, change: Change[Pod]) -> None:
    """Begin to time a pod's change, if it affects addresses."""
    if shared.began.is_set() and not change.listed and addressed(change.old) != addressed(change.new):
        shared.journal.seen(reconciler.pod_keys(change))
