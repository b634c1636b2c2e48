"""The registry controller: one thread that writes to ZooKeeper, and writers of conditions."""

from collections.abc import Callable
from importlib.metadata import version

import msgspec

from rpcregistry.manifests import RPCSERVICES
from rpcregistry.model import ObjectKey, Pod, RpcService, ServiceKey
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.publication import PublicationSettings
from rpcregistry.plan.repairs import Repair
from rpcregistry.reconcile.byname import namespaces_of
from rpcregistry.reconcile.fence import Fence
from rpcregistry.reconcile.initialsync import InitialSync
from rpcregistry.reconcile.leftovers import Leftovers
from rpcregistry.reconcile.missing import Missing
from rpcregistry.reconcile.registry import RegistryReconciler
from rpcregistry.reconcile.repairs import Repairs
from rpcregistry.reconcile.reports import Reports
from rpcregistry.reconcile.synced import SyncedReconciler
from rpcregistry.reconcile.transactions import RegistryWriter
from rpcregistry.run.dryrun import DryRunZooKeeper
from rpcregistry.run.metered import MeteredZooKeeper
from rpcregistry.run.part import Part
from rpcregistry.run.registryloop import RegistryLoop
from rpcregistry.run.shared import Shared
from rpcregistry.run.sources import SecondLook
from rpcregistry.runtime.controller import Controller
from rpcregistry.runtime.store import Change
from rpcregistry.runtime.workqueue import Workqueue

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
        seen=lambda: shared.memory.record(shared.present),
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
