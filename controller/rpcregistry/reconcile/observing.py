"""What a plan of RpcServices reads: the objects of one key, the pods that they name, and their Nodes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import chain
from typing import Any, Protocol

import msgspec

from rpcregistry.model import Endpoint, Node, ObjectKey, Pod, RpcService, ServiceKey
from rpcregistry.plan import ownword
from rpcregistry.plan.pods import as_reported, silent_on
from rpcregistry.plan.publication import Place, places
from rpcregistry.plan.rows import ObservedRpcServices, owner_name
from rpcregistry.reconcile.nodeturns import NodeTurns
from rpcregistry.reconcile.ports import Clock, Source
from rpcregistry.reconcile.reads import Reads, Unread
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
        turns: NodeTurns,
        services: Source[RpcService],
        relied: Relied,
        rewrites: Rewrites,
        selected: Callable[[ObjectKey], set[str]],
        unplaced: Callable[[ServiceKey], int],
        read_node: Callable[[str], Node | None],
        read_pod: Callable[[ObjectKey], Pod | None],
        may_register: Callable[[Pod, str], bool],
        clock: Clock,
    ) -> None:
        self._reads = Reads(clock.monotonic)
        self._pods = pods
        self._turns = turns
        self._services = services
        self._relied = relied
        self._rewrites = rewrites
        self._selected = selected
        self._unplaced = unplaced
        self._read_node = read_node
        self._read_pod = read_pod
        self._may_register = may_register

    def observe(self, key: ServiceKey) -> ObservedRpcServices:
        """Observe the RpcServices of *key*, and their pods."""
        return self._observe(key, [])

    def _observe(self, key: ServiceKey, unread: list[Unread]) -> ObservedRpcServices:
        """As ``observe``; appends to *unread* the reads that were refused."""
        services = [self._as_kept(service) for service in self._services.store.indexed(NAMED, key)]
        taken = Taken(self._services.store, key.namespace)
        owner = owner_name(key, services, taken)
        remembered = self._remembered(services)
        deleted = self._relied.deleted_of(key)

        @cache
        def listed() -> set[Place]:
            rows = (remembered.get(service.uid, service.status.endpoints) for service in services)
            return places(chain(*rows, *(service.status.endpoints for service in deleted)))

        def as_permitted(pod: Pod) -> Pod:
            """The pod with what it may declare; while that is unknown, with what is listed already."""
            try:
                return pod if self._may_register(pod, owner) else silent_on(pod, key.service_name)
            except Unread as failure:
                unread.append(failure)
                return silent_on(pod, key.service_name, besides=listed())

        pods = {pod.name: as_permitted(pod) for pod in self._pods.store.indexed(DECLARED, key)}
        names = {row.pod_name for service in services for row in service.status.endpoints}
        names |= {row.pod_name for rows in remembered.values() for row in rows}
        for service in services:
            names |= self._selected(service.key)
        for name in names - pods.keys():
            pod = self._pods.store.get(ObjectKey(key.namespace, name))
            if pod:
                pods[name] = pod
        for name in sorted(ownword.named_by_others(services, remembered) - pods.keys())[:MOST_READ]:
            pod = self._read(ObjectKey(key.namespace, name), unread)
            if pod:
                pods[name] = as_permitted(pod)
        return ObservedRpcServices(
            services=services,
            pods=self._as_reported(pods),
            taken=taken,
            silent_nodes=self._turns.silent_among(_nodes_of(pods.values())),
            remembered=remembered,
            deleted=deleted,
            unplaced=self._unplaced(key),
        )

    def observe_surely(self, key: ServiceKey) -> tuple[ObservedRpcServices, Sequence[Unread]]:
        """Observe as ``observe`` does, and read the Nodes whose watch event is behind that of their pods.

        Two watches keep no common order.  If a pod was silenced while its Node still looks Ready, read the
        Node first: the pod may not have failed by itself.  Also returns the reads that were refused; what
        rests on them stays as it is.
        """
        unread: list[Unread] = []
        observed = self._observe(key, unread)
        listed = {
            row.pod_uid
            for service in (*observed.services, *observed.deleted)
            for row in service.status.endpoints
            if row.ready
        }
        silenced = [pod for pod in observed.pods.values() if pod.silenced and pod.uid in listed]
        unsure = {name for name in _nodes_of(silenced) if name not in observed.silent_nodes}
        if not unsure:
            return observed, unread
        unheard = self._read_nodes(sorted(unsure), unread)
        return msgspec.structs.replace(
            observed,
            silent_nodes=self._turns.silent_among(_nodes_of(observed.pods.values())),
            unheard={pod.uid for pod in silenced if pod.node_name in unheard},
        ), unread

    def _read_nodes(self, names: Sequence[str], unread: list[Unread]) -> set[str]:
        """Note how the Nodes are; return those that cannot be read."""
        for number, name in enumerate(names):
            try:
                node = self._reads.of(("Node", name), partial(self._read_node, name))
            except Unread as failure:
                unread.append(failure)
                return {*names[number:]}  # each of the others may take as long
            if node:
                self._turns.note_read([node])
            else:
                self._turns.note_missing(name)
        return set()

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

    def _read(self, key: ObjectKey, unread: list[Unread]) -> Pod | None:
        """A pod that the store may lack; None if it cannot be read: nothing of it is published yet."""
        if self._pods.unknown_in(key.namespace) is not None:
            return None
        try:
            return self._reads.of(("Pod", key), lambda: self._read_pod(key))
        except Unread as failure:
            unread.append(failure)
            return None

    def _as_reported(self, pods: Mapping[str, Pod]) -> Mapping[str, Pod]:
        deleted = self._turns.deleted_among(_nodes_of(pods.values()))
        if not deleted:
            return pods
        return {name: as_reported(pod, deleted) for name, pod in pods.items()}


def _nodes_of(pods: Iterable[Pod]) -> set[str]:
    return {pod.node_name for pod in pods if pod.node_name}


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
