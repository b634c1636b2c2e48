"""Who lists which pods, and which of them are published."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.faults.harness.oracle.annotations import Entry, entries_of
from tests.faults.harness.oracle.objects import (
    PART_OF,
    Manifest,
    address_of,
    has_condition,
    is_generated,
    matches,
    name_of,
    namespace_of,
    selects,
    service_name_of,
)

Statuses = Mapping[tuple[str, str, str], frozenset["Row"]]
"""By namespace, service name and declared RpcService (``""``: the generated one, with all its parts).

A declared RpcService is there even without endpoints, a generated one only with some.
"""


@dataclass(frozen=True)
class World:
    """The objects of a cluster, and the flags of ``rpcregistry run`` that decide what is published.

    *register*: what ``--require-register-permission`` finds allowed, as (namespace, ServiceAccount, name of
    the RpcService); None without the flag.  *templates*: what the files of ``--template`` say, by layout.
    *lost_nodes*: those that were there and are deleted.
    """

    pods: Sequence[Manifest] = ()
    nodes: Sequence[Manifest] = ()
    rpcservices: Sequence[Manifest] = ()
    namespaces: Sequence[Manifest] = ()
    localservices: Sequence[Manifest] = ()
    services: Sequence[Manifest] = ()
    layouts: Sequence[tuple[str, str]] = (("kube2zk", "/rpc_v2"),)
    namespace: Sequence[str] = ()
    pod_label_selector: str = ""
    cross_namespace: str = "union"
    node_label: str = "rpcregistry.dev/node"
    register: Collection[tuple[str, str, str]] | None = None
    templates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lost_nodes: Collection[str] = ()


KINDS: Mapping[str, str] = {
    "Pod": "pods",
    "Node": "nodes",
    "RpcService": "rpcservices",
    "Namespace": "namespaces",
    "LocalService": "localservices",
    "Service": "services",
}
"""The kinds of objects, and where in a ``World`` they are."""


def world_of(objects: Mapping[str, Iterable[Manifest]], **more: Any) -> World:
    """The world with these objects, by kind; *more*: its other fields."""
    return World(**{KINDS[kind]: list(found) for kind, found in objects.items()}, **more)


@dataclass(frozen=True)
class Row:
    """Which endpoint a row of ``status.endpoints`` stands for, and whether it says Ready."""

    pod: str
    uid: str
    ip: str
    port: int | None
    ready: bool


def statuses(world: World) -> Statuses:
    """Which endpoints each RpcService's status should list, Ready or not."""
    rows: dict[tuple[str, str, str], set[Row]] = {
        (head.namespace, head.service, head.name): set() for head in _heads(world) if not head.generated
    }
    for service in services(world).values():
        for e in service.endpoints:
            owner = "" if e.head.generated else e.head.name
            row = Row(name_of(e.pod), e.pod["metadata"]["uid"], e.ip, e.entry.port, e.ready)
            rows.setdefault((e.namespace, e.entry.service, owner), set()).add(row)
    return {key: frozenset(found) for key, found in rows.items()}


def listed(rpcservices: Iterable[Manifest]) -> Statuses:
    """Which endpoints the statuses of *rpcservices* do list: to compare with ``statuses``."""
    rpcservices = list(rpcservices)
    declared = {
        (namespace_of(service), name_of(service)) for service in rpcservices if not is_generated(service)
    }
    rows: dict[tuple[str, str, str], set[Row]] = {}
    for service in rpcservices:
        labels = service["metadata"].get("labels") or {}
        head = labels.get(PART_OF, "") if is_generated(service) else name_of(service)
        owner = head if (namespace_of(service), head) in declared else ""
        found = {
            Row(row["podName"], row["podUID"], row["ip"], row.get("port"), row["ready"])
            for row in (service.get("status") or {}).get("endpoints") or ()
        }
        if found or owner:
            rows.setdefault((namespace_of(service), service_name_of(service), owner), set()).update(found)
    return {key: frozenset(found) for key, found in rows.items()}


@dataclass(frozen=True)
class _Head:
    """An RpcService that lists endpoints, or will once it is made.

    *rank* orders those of one service: declared before generated, then by age; what is not there yet is last.
    """

    namespace: str
    service: str
    name: str
    generated: bool
    rank: tuple[bool, bool, str, str]
    spec: Manifest = field(compare=False)


@dataclass(frozen=True)
class Endpoint:
    """A pod under one of the services that it serves, with its address."""

    head: _Head
    pod: Manifest
    entry: Entry
    ip: str

    @property
    def namespace(self) -> str:
        return self.head.namespace

    @property
    def node(self) -> str | None:
        return self.pod["spec"].get("nodeName")

    @property
    def ready(self) -> bool:
        return has_condition(self.pod, "Ready")

    @property
    def started(self) -> bool:
        """Whether its containers have all been started once: what Kubernetes calls Running."""
        return self.ready or self.pod["status"].get("phase") == "Running"

    @property
    def everything(self) -> bool:
        return bool(self.head.spec.get("publishNotReadyAddresses"))


@dataclass(frozen=True)
class _Service:
    """All RpcServices of one name; *heads*: those that may publish, the first one first."""

    heads: Sequence[_Head]
    endpoints: Sequence[Endpoint]

    @cached_property
    def threshold(self) -> int:
        asked = (head.spec.get("protectThreshold") or 0 for head in self.heads if not head.generated)
        return next(filter(None, asked), 0)

    @property
    def allowed(self) -> list[Endpoint]:
        return [e for e in self.endpoints if e.head in self.heads]

    @property
    def published(self) -> list[Endpoint]:
        counted = [e for e in self.allowed if e.started]
        protected = sum(e.ready for e in counted) * 100 < self.threshold * len(counted)
        return [e for e in self.allowed if e.ready or e.everything or (protected and e.started)]

    def unsure(self, doubtful: Callable[[Endpoint], bool]) -> list[Endpoint]:
        """The *doubtful* endpoints; all, where one of them may decide on others."""
        found = list(filter(doubtful, self.endpoints))
        alone = self.threshold == 0 and len(self.allowed) == len(self.endpoints)
        return found if alone or not found else list(self.endpoints)


def _heads(world: World) -> list[_Head]:
    """The RpcServices there are, but for parts, by rank."""
    heads = []
    for service in world.rpcservices:
        meta, generated = service["metadata"], is_generated(service)
        watched = not world.namespace or namespace_of(service) in world.namespace
        if watched and not (generated and PART_OF in meta["labels"]):
            rank = (generated, False, meta.get("creationTimestamp") or "", meta["uid"])
            where = namespace_of(service), service_name_of(service), name_of(service)
            heads.append(_Head(*where, generated, rank, service.get("spec") or {}))
    return sorted(heads, key=lambda head: head.rank)


def services(world: World) -> Mapping[str, _Service]:
    """Every service that a declared RpcService or a pod names."""
    there = _heads(world)
    named: dict[str, set[_Head]] = defaultdict(set)
    endpoints: dict[str, list[Endpoint]] = defaultdict(list)
    for head in there:
        if not head.generated:
            named[head.service].add(head)
    for pod in world.pods:
        ip = None if pod["metadata"].get("deletionTimestamp") else address_of(pod)
        for head, entry in _memberships(world, there, pod):
            named[head.service].add(head)
            if ip:
                endpoints[head.service].append(Endpoint(head, pod, entry, ip))
    return {
        name: _Service(_may_publish(sorted(heads, key=lambda head: head.rank), world), endpoints[name])
        for name, heads in named.items()
    }


def _memberships(world: World, there: Sequence[_Head], pod: Manifest) -> Iterator[tuple[_Head, Entry]]:
    """The RpcServices that are to list the pod, as soon as it has an address, and as what."""
    space, labels = namespace_of(pod), pod["metadata"].get("labels") or {}
    if (world.namespace and space not in world.namespace) or not matches(world.pod_label_selector, labels):
        return
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return
    account = pod["spec"].get("serviceAccountName") or "default"
    here = [head for head in there if head.namespace == space]
    joined = set()
    for entry in entries_of(pod):
        name = entry.service
        made = _Head(space, name, name, True, (True, True, space, ""), {})
        head = next((head for head in here if head.service == name), made)
        if world.register is None or (space, account, head.name) in world.register:
            joined.add(name)
            yield head, entry
    for head in here:
        # A pod joins what it does not name itself, and of two RpcServices of one name the older one.
        if not head.generated and head.service not in joined and selects(head.spec.get("selector"), labels):
            joined.add(head.service)
            keys = head.spec.keys() & {"port", "version", "group", "protocol", "weight", "metadata"}
            yield head, Entry(head.service, **{key: head.spec[key] for key in keys})


def _may_publish(heads: Sequence[_Head], world: World) -> Sequence[_Head]:
    """All of them, or with ``--cross-namespace=deny`` those of the first one's namespace."""
    if world.cross_namespace == "union":
        return heads
    return [head for head in heads if head.namespace == heads[0].namespace]
