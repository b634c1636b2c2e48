"""The LocalServices themselves: creates those that pods ask for, and writes the status of each."""

from collections.abc import Callable, Iterable, Mapping

from rpcregistry.manifests import LOCALSERVICES, PODS, made, regarding
from rpcregistry.model import (
    KubeService,
    LocalService,
    LocalServiceStatus,
    Node,
    ObjectKey,
    Pod,
    Problem,
    RpcService,
    ServiceKey,
)
from rpcregistry.names import local_service_name
from rpcregistry.plan import localservices as planning
from rpcregistry.plan.conditions import says_the_same
from rpcregistry.plan.pods import asks_locality, newest_of, silent_on
from rpcregistry.plan.rows import owner_name
from rpcregistry.reconcile.nodeservices import OF_LOCAL, NodeServiceReconciler
from rpcregistry.reconcile.observing import DECLARED, NAMED, Taken
from rpcregistry.reconcile.ports import Change, Clock, Events, Kube, Source
from rpcregistry.reconcile.reads import Unread
from rpcregistry.reconcile.refusals import MOST_REPORTED, Backoffs, require_kept
from rpcregistry.reconcile.selections import Selections

PROJECTED = "service name"  # index of generated LocalServices: ServiceKey
ASKED = "asked for"  # index of pods: (namespace, service name)


def pod_indexes() -> Mapping[str, Callable[[Pod], Iterable[ServiceKey]]]:
    """The index that the pod store needs."""
    return {ASKED: local_keys}


def local_indexes() -> Mapping[str, Callable[[LocalService], Iterable[ServiceKey]]]:
    """The indexes that the LocalService store needs."""
    return {PROJECTED: projected}


def projected(local: LocalService) -> list[ServiceKey]:
    """The service of a generated LocalService."""
    asked = local.generated and local.service_name
    return [ServiceKey(local.namespace, local.service_name)] if asked else []


def local_keys(pod: Pod) -> set[ServiceKey]:
    """The services that the pod asks to have routed on its node."""
    return {ServiceKey(pod.namespace, found.service_name) for found in pod.declarations if found.local}


class LocalServiceStatusReconciler:
    """Writes the status of a LocalService."""

    def __init__(
        self,
        *,
        kube: Kube,
        locals_: Source[LocalService],
        nodes: Source[Node],
        services: Source[KubeService],
        pods: Source[Pod],
        selections: Selections[LocalService],
        node_services: NodeServiceReconciler,
        node_label: str,
        events: Events,
        clock: Clock,
    ) -> None:
        self._backoffs: Backoffs[ObjectKey, tuple[LocalService, LocalServiceStatus]] = Backoffs(
            lambda write: write[0].uid, clock
        )
        self._kube = kube
        self._locals = locals_
        self._nodes = nodes
        self._services = services
        self._pods = pods
        self._selections = selections
        self._node_services = node_services
        self._node_label = node_label
        self._events = events
        self._clock = clock

    def reconcile(self, key: ObjectKey) -> bool:
        """Write the status if it changed; return whether it was written."""
        local = self._locals.store.get(key)
        if local is None or local.deleting:
            return False
        names = (ObjectKey(key.namespace, name) for name in self._selections.pods_of(key))
        status = planning.status(
            local,
            self._nodes.store.values(),
            {service.name: service for service in self._services.store.indexed(OF_LOCAL, key)},
            [pod for pod in map(self._pods.store.get, names) if pod],
            self._node_label,
            self._node_services.problems(key),
            self._node_services.held(local),
            self._node_services.why_endless(local),
            self._clock.stamp(),
        )
        if status == local.status:
            return False
        attempt = self._backoffs.of(key)
        attempt.make((local, status), self._write)
        if attempt.reported:
            problem = Problem("LocalServiceRefused", f"the status cannot be written: {attempt.reported}")
            self._events.record(regarding(LOCALSERVICES, local), problem, "Route", warning=True)
        attempt.finish()
        return True

    def _write(self, write: tuple[LocalService, LocalServiceStatus]) -> None:
        local, status = write
        patch = made.localservice_status(local, status)
        written = self._kube.patch(LOCALSERVICES, local.key, patch, "status")
        self._locals.observe(written)
        self._record(local, written)

    def _record(self, before: LocalService, after: LocalService) -> None:
        old, new = before.status.condition("Synced"), after.status.condition("Synced")
        if new and (old is None or not says_the_same(old, new)):
            self._events.record(
                regarding(LOCALSERVICES, after),
                Problem(new.reason, new.message),
                "Route",
                warning=new.status != "True",
                salt=new.last_transition_time,
            )


class LocalServiceReconciler:
    """Creates, changes and deletes the LocalService that the pods of one key ask for.

    *labels*: those that it gives to LocalServices, besides ours.
    """

    def __init__(
        self,
        *,
        kube: Kube,
        pods: Source[Pod],
        rpc_services: Source[RpcService],
        locals_: Source[LocalService],
        list_pods: Callable[[str], Iterable[Pod]],
        may_register: Callable[[Pod, str], bool],
        events: Events,
        clock: Clock,
        labels: Mapping[str, str],
    ) -> None:
        self._backoffs: Backoffs[ServiceKey, planning.Op] = Backoffs(planning.write_of, clock)
        self._events = events
        self._kube = kube
        self._pods = pods
        self._rpc_services = rpc_services
        self._locals = locals_
        self._list_pods = list_pods
        self._may_register = may_register
        self._labels = labels

    def pod_keys(self, change: Change[Pod]) -> set[ServiceKey]:
        """The keys that a pod asks for, or asked for before."""
        return {key for pod in (change.old, change.new) if pod for key in local_keys(pod)}

    def rpc_service_keys(self, change: Change[RpcService]) -> set[ServiceKey]:
        """The key of an RpcService, if a LocalService may depend on it."""
        services = [service for service in (change.old, change.new) if service]
        return {found.service_key for found in services if self._concerns(found.service_key)}

    def local_keys(self, change: Change[LocalService]) -> set[ServiceKey]:
        """The key of a generated LocalService."""
        return {key for local in (change.old, change.new) if local for key in projected(local)}

    def every_key(self) -> set[ServiceKey]:
        """All keys: of every pod that asks, and of every generated LocalService."""
        keys = {key for pod in self._pods.store.values() for key in local_keys(pod)}
        return keys | {key for local in self._locals.store.values() for key in projected(local)}

    def _concerns(self, key: ServiceKey) -> bool:
        return bool(self._locals.store.indexed(PROJECTED, key) or self._pods.store.indexed(ASKED, key))

    def name(self, key: ServiceKey) -> tuple[str, str]:
        """The names of the RpcService of a key, and of the LocalService that goes with it."""
        services = self._rpc_services.store.indexed(NAMED, key)
        rpc_service = owner_name(key, services, Taken(self._rpc_services.store, key.namespace))
        return rpc_service, local_service_name(rpc_service)

    def reconcile(self, key: ServiceKey) -> bool:
        """Make observed equal desired for *key*; return whether anything was written.

        If a permission cannot be read, or a write is refused, this raises ``Partial`` in the end.
        """
        rpc_service, name = self.name(key)
        unread: list[Unread] = []
        pods = [
            pod if self._may(pod, rpc_service, unread) else silent_on(pod, key.service_name)
            for pod in self._pods.store.indexed(DECLARED, key)
        ]
        observed = self._locals.store.get(ObjectKey(key.namespace, name))
        may_remove = not (unread or self._is_anybody_absent(key))
        op = planning.project(key.namespace, key.service_name, rpc_service, pods, observed, may_remove)
        others = [
            local
            for local in self._locals.store.indexed(PROJECTED, key)
            if local.name != name and not local.deleting and may_remove
        ]
        ops = [*([op] if op else []), *(planning.Delete(local) for local in others if observed or not op)]
        attempt = self._backoffs.of(key)
        for op in ops:
            # If the server refuses the new LocalService, the others stay.
            less = planning.without_additions(op)
            if attempt.make(op, lambda op: self._apply(op, key), less) and not isinstance(
                op, planning.Delete
            ):
                break
        if attempt.reported:
            problem = Problem("LocalServiceRefused", str(attempt.reported))
            asking = [pod for pod in pods if asks_locality(pod, key.service_name)]
            for pod in newest_of(key.service_name, asking, ())[:MOST_REPORTED]:
                self._events.record(regarding(PODS, pod), problem, "Route", warning=True)
        attempt.finish()
        if unread:
            raise unread[0]
        return bool(ops)

    def _may(self, pod: Pod, rpc_service: str, unread: list[Unread]) -> bool:
        """Whether what the pod declares counts; while that is unknown, it adds nothing."""
        try:
            return self._may_register(pod, rpc_service)
        except Unread as failure:
            unread.append(failure)
            return False

    def _is_anybody_absent(self, key: ServiceKey) -> bool:
        """Whether pods that may ask for it are merely absent, so that we do not know what they declare."""
        if self._pods.unknown_in(key.namespace) is not None:
            return True
        rows = (row for rpc in self._rpc_services.store.indexed(NAMED, key) for row in rpc.status.endpoints)
        return any(self._pods.store.get(ObjectKey(key.namespace, row.pod_name)) is None for row in rows)

    def _apply(self, op: planning.Op, key: ServiceKey) -> None:
        match op:
            case planning.Create(namespace, name, spec):
                manifest = made.localservice(namespace, name, key.service_name, spec, self._labels)
                self._locals.observe(self._kube.create(LOCALSERVICES, namespace, manifest))
            case planning.SetSpec(local, spec):
                written = self._kube.patch(LOCALSERVICES, local.key, made.localservice_spec(local, spec))
                self._locals.observe(written)
                require_kept(
                    self._kube, f"patch LocalService {local.key}", planning.unkept(spec, written.spec)
                )
            case planning.Delete(local):
                pods = [] if local.name != self.name(key)[1] else self._list_pods(key.namespace)
                if not any(asks_locality(pod, key.service_name) for pod in pods):
                    self._kube.delete(LOCALSERVICES, local.key, local.uid, local.resource_version)
