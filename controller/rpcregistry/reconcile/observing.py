"""What a plan of RpcServices reads: the objects of one key, the pods that they name, and their Nodes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from rpcregistry.errors import Rejected, Retry
from rpcregistry.model import Endpoint, Node, ObjectKey, Pod, RpcService, ServiceKey
from rpcregistry.plan import ownword
from rpcregistry.plan import rpcservices as planning
from rpcregistry.plan.pods import silent_on
from rpcregistry.reconcile.ports import Source
from rpcregistry.reconcile.relied import Relied
from rpcregistry.reconcile.rewrites import Rewrites

DECLARED = "declared"  # index of pods: (namespace, service name)
NAMED = "named"  # index of RpcServices: ServiceKey
MOST_READ = 10  # pods, each by a request of its own; watch events bring any others


def pod_indexes() -> Mapping[str, Callable[[Pod], Iterable[ServiceKey]]]:
    """The indexes that the pod store needs."""
    return {DECLARED: declared_keys}


def service_indexes() -> Mapping[str, Callable[[RpcService], Iterable[ServiceKey]]]:
    """The indexes that the RpcService store needs."""
    return {NAMED: lambda service: [service.service_key]}


def declared_keys(pod: Pod) -> set[ServiceKey]:
    """The keys of the services that the pod declares."""
    return {ServiceKey(pod.namespace, declaration.service_name) for declaration in pod.declarations}


class Observer:
    """Reads what a plan needs; for any thread.

    *selected*: the names of the pods that an RpcService selects; *unplaced*: how many endpoints of a key no
    object lists, as the head's status shows it.
    """

    def __init__(
        self,
        *,
        pods: Source[Pod],
        nodes: Source[Node],
        services: Source[RpcService],
        relied: Relied,
        rewrites: Rewrites,
        selected: Callable[[ObjectKey], set[str]],
        unplaced: Callable[[ServiceKey], int],
        read_node: Callable[[str], Node | None],
        read_pod: Callable[[ObjectKey], Pod | None],
        may_register: Callable[[Pod, str], bool],
    ) -> None:
        self._pods = pods
        self._nodes = nodes
        self._services = services
        self._relied = relied
        self._rewrites = rewrites
        self._selected = selected
        self._unplaced = unplaced
        self._read_node = read_node
        self._read_pod = read_pod
        self._may_register = may_register

    def observe(self, key: ServiceKey) -> planning.ObservedRpcServices:
        """Observe the RpcServices of *key*, and their pods."""
        services = [self._as_kept(service) for service in self._services.store.indexed(NAMED, key)]
        taken = Taken(self._services.store, key.namespace)
        owner = planning.owner_name(key, services, taken)
        declaring = self._pods.store.indexed(DECLARED, key)
        pods = {
            pod.name: pod if self._may_register(pod, owner) else silent_on(pod, key.service_name)
            for pod in declaring
        }
        remembered = self._remembered(services)
        names = {row.pod_name for service in services for row in service.status.endpoints}
        names |= {row.pod_name for rows in remembered.values() for row in rows}
        for service in services:
            names |= self._selected(service.key)
        for name in names - pods.keys():
            pod = self._pods.store.get(ObjectKey(key.namespace, name))
            if pod:
                pods[name] = pod
        for name in sorted(ownword.named_by_others(services, remembered) - pods.keys())[:MOST_READ]:
            pod = self._read(ObjectKey(key.namespace, name))
            if pod:
                pods[name] = pod if self._may_register(pod, owner) else silent_on(pod, key.service_name)
        return planning.ObservedRpcServices(
            services=services,
            pods=pods,
            taken=taken,
            bad_nodes=self._bad_nodes(pods.values()),
            remembered=remembered,
            unplaced=self._unplaced(key),
        )

    def observe_surely(self, key: ServiceKey) -> planning.ObservedRpcServices:
        """Observe as ``observe`` does, and read the Nodes whose watch event is behind that of their pods.

        Two watches keep no common order.  If a pod was silenced while its Node still looks Ready, read the
        Node first: the pod may not have failed by itself.
        """
        observed = self.observe(key)
        listed = {
            row.pod_uid for service in observed.services for row in service.status.endpoints if row.ready
        }
        names = {pod.node_name for pod in observed.pods.values() if pod.silenced and pod.uid in listed}
        nodes = (self._read_node(name) for name in names if name and name not in observed.bad_nodes)
        silent = {node.name for node in nodes if node and not node.ready}
        if not silent:
            return observed
        bad_nodes = self._bad_nodes(observed.pods.values()) | silent
        return msgspec.structs.replace(observed, bad_nodes=bad_nodes)

    def _as_kept(self, service: RpcService) -> RpcService:
        """*service*; but if the server loses part of our writes, as we wrote it last."""
        if not service.damaged or not self._rewrites.is_lost(service.uid, service.resource_version):
            return service
        relied = self._relied.of(service) or service
        return msgspec.structs.replace(service, status=relied.status, damaged="")

    def _remembered(self, services: Iterable[RpcService]) -> Mapping[str, Sequence[Endpoint]]:
        """The rows by our own word, for each object whose status others have written since."""
        remembered: dict[str, Sequence[Endpoint]] = {}
        for service in services:
            relied = self._relied.of(service)
            rows = relied.status.endpoints if relied else ()
            if rows != service.status.endpoints:
                remembered[service.uid] = rows
        return remembered

    def _read(self, key: ObjectKey) -> Pod | None:
        """A pod that the store may lack; None if it cannot be read: nothing of it is published yet."""
        if self._pods.unknown_in(key.namespace) is None:
            with suppress(Rejected, Retry):
                return self._read_pod(key)
        return None

    def _bad_nodes(self, pods: Iterable[Pod]) -> set[str]:
        """The nodes of *pods* that exist and are not Ready."""
        names = {pod.node_name for pod in pods if pod.node_name}
        nodes = (self._nodes.store.get(ObjectKey("", name)) for name in names)
        return {node.name for node in nodes if node and not node.ready}


class _Store(Protocol):
    def get(self, key: ObjectKey) -> Any: ...


class Taken:
    """The names of a namespace's RpcServices, looked up in the store as a plan tries them.

    If a name is taken meanwhile, the create fails with a ``Conflict``.
    """

    def __init__(self, store: _Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace

    def __contains__(self, name: object) -> bool:
        return self._store.get(ObjectKey(self._namespace, str(name))) is not None
