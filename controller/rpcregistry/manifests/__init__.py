"""Kubernetes JSON to nouns: only the fields we use are decoded.  ``made`` is the reverse.

A *resource* says where a kind is served and how one object of it is read.  An object that cannot be
read raises ``msgspec.MsgspecError`` (or ``ValueError``), and costs that object only.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from sys import intern
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from rpcregistry import dialects
from rpcregistry.dialects.hints import hints
from rpcregistry.model import (
    GENERATED_LABELS,
    MANAGED_BY,
    NODE_NAME,
    PART_OF,
    RELEASE,
    RELEASED_BY,
    SERVICE_NAME,
    Condition,
    Endpoint,
    KubeService,
    Lease,
    LocalService,
    LocalServiceSpec,
    LocalServiceStatus,
    Node,
    ObjectKey,
    Owner,
    Pod,
    Regarding,
    RpcService,
    RpcServiceSpec,
    RpcServiceStatus,
)

GROUP = "rpcregistry.dev"
API_VERSION = "v1alpha1"
FIELD_MANAGER = "rpcregistry"

_NO_HOSTS = (ip_network("0.0.0.0/8"), ip_network("255.255.255.255/32"))
_NAT64 = ip_network("64:ff9b::/96")  # the last 32 bits are an IPv4 address


class Named(Protocol):
    """Any object: which one it is, and which incarnation."""

    @property
    def key(self) -> ObjectKey: ...
    @property
    def uid(self) -> str: ...


T = TypeVar("T", bound=Named)


@dataclass(frozen=True)
class ApiType:
    """Where a kind is served; *group* is ``""`` for the core API."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", *names: str) -> str:
        """The path of a collection (of all namespaces where that is ``""``), or of what has *names* in it.

        >>> LEASES.path("ns", "a"), PODS.path()
        ('/apis/coordination.k8s.io/v1/namespaces/ns/leases/a', '/api/v1/pods')
        """
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = f"{root}/namespaces/{namespace}" if namespace else root
        return "/".join([within, self.plural, *names])


@dataclass(frozen=True)
class Resource(ApiType, Generic[T]):
    """A kind that is listed and watched, and how an object of it is decoded."""

    decode: Callable[[bytes | msgspec.Raw], T]


class _FieldsEntry(msgspec.Struct, rename="camel"):
    manager: str = ""
    fields_v1: dict[str, msgspec.Raw] | None = msgspec.field(name="fieldsV1", default=None)


def regarding(resource: Resource[T], named: T) -> Regarding:
    """The object as an Event names it."""
    key = named.key
    return Regarding(resource.api_version, resource.kind, key.namespace, key.name, named.uid)


class _Owner(msgspec.Struct):
    uid: str
    controller: bool = False


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    uid: str = ""
    namespace: str = ""
    resource_version: str = ""
    generation: int = 1
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    managed_fields: list[_FieldsEntry] | None = None
    owner_references: list[_Owner] | None = None


class _PodMeta(msgspec.Struct, rename="camel"):
    name: str
    uid: str = ""
    namespace: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _ConditionEntry(msgspec.Struct, rename="camel"):
    type: str
    status: str
    reason: str | None = None


class _Running(msgspec.Struct, rename="camel"):
    started_at: str | None = None


class _ContainerState(msgspec.Struct):
    running: _Running | None = None


class _ContainerStatus(msgspec.Struct):
    state: _ContainerState | None = None


class _PodIP(msgspec.Struct):
    ip: str = ""


class _PodStatus(msgspec.Struct, rename="camel"):
    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: list[_PodIP] | None = msgspec.field(name="podIPs", default=None)
    host_ip: str = msgspec.field(name="hostIP", default="")
    conditions: list[_ConditionEntry] | None = None
    container_statuses: list[_ContainerStatus] | None = None


class _PodSpec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    service_account_name: str = ""


class _Pod(msgspec.Struct):
    metadata: _PodMeta
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


class _NodeStatus(msgspec.Struct):
    conditions: list[_ConditionEntry] | None = None


class _Node(msgspec.Struct):
    metadata: _Meta
    status: _NodeStatus | None = None


class _RpcService(msgspec.Struct):
    metadata: _Meta
    spec: RpcServiceSpec | None = None
    status: RpcServiceStatus | None = None


class _RpcServiceParts(msgspec.Struct):
    metadata: _Meta
    spec: msgspec.Raw = msgspec.Raw(b"null")
    status: msgspec.Raw = msgspec.Raw(b"null")


class _LocalService(msgspec.Struct):
    metadata: _Meta
    spec: LocalServiceSpec | None = None
    status: LocalServiceStatus | None = None


class _ServiceMeta(msgspec.Struct, rename="camel"):
    name: str
    uid: str = ""
    namespace: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[Owner, ...] | None = None


class _Service(msgspec.Struct):
    metadata: _ServiceMeta
    spec: msgspec.Raw = msgspec.Raw(b"{}")


_pods = msgspec.json.Decoder(_Pod)
_nodes = msgspec.json.Decoder(_Node)
_rpcservices = msgspec.json.Decoder(_RpcService)
_rpcservice_parts = msgspec.json.Decoder(_RpcServiceParts)
_localservices = msgspec.json.Decoder(_LocalService)
_services = msgspec.json.Decoder(_Service)
_NONE: Mapping[str, str] = {}  # one object for all that have none


def decode_pod(data: bytes | msgspec.Raw) -> Pod:
    """A pod from its JSON, with what its annotations declare."""
    pod = _pods.decode(data)
    meta, spec, status = pod.metadata, pod.spec or _PodSpec(), pod.status or _PodStatus()
    labels = _shared_labels(tuple((meta.labels or {}).items()))
    declarations, problems = dialects.read(labels, meta.annotations or {})
    reported = dict.fromkeys([status.pod_ip, *(entry.ip for entry in status.pod_ips or ())])
    ips = tuple(filter(publishable, reported))
    return Pod(
        namespace=intern(meta.namespace),
        name=meta.name,
        uid=meta.uid,
        labels=labels,
        node_name=intern(spec.node_name),
        host_ip=intern(status.host_ip),
        ips=ips,
        refused_ips=tuple(ip for ip in reported if ip and ip not in ips),
        phase=intern(status.phase),
        ready=_is_true(status.conditions, "Ready"),
        silenced=_is_silenced(status.conditions),
        terminating=meta.deletion_timestamp is not None,
        started_at=max(_started(status.container_statuses or ()), default=""),
        service_account=intern(spec.service_account_name),
        declarations=declarations,
        problems=problems,
        hints=hints(labels, meta.annotations or {}),
    )


@lru_cache(maxsize=1024)  # the pods of a Deployment share their labels
def _shared_labels(items: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return dict(items)


def decode_node(data: bytes | msgspec.Raw) -> Node:
    """A cluster node from its JSON."""
    node = _nodes.decode(data)
    conditions = node.status.conditions if node.status else None
    return Node(
        name=node.metadata.name,
        uid=node.metadata.uid,
        ready=_is_true(conditions, "Ready"),
        labels=node.metadata.labels or {},
    )


def decode_rpcservice(data: bytes | msgspec.Raw) -> RpcService:
    """An RpcService from its JSON, or its decodable part: the pod controller rewrites the rest."""
    damaged = unreadable = ""
    try:
        service = _rpcservices.decode(data)
    except msgspec.ValidationError:
        service, damaged, unreadable = _in_parts(data)
    meta = service.metadata
    labels, annotations = meta.labels or {}, meta.annotations or {}
    generated = _is_generated(labels, meta.managed_fields or ())
    return RpcService(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resource_version,
        generation=meta.generation,
        created=meta.creation_timestamp or "",
        deleting=meta.deletion_timestamp is not None,
        generated=generated,
        part_of=labels.get(PART_OF, ""),
        owner_uid=next((owner.uid for owner in meta.owner_references or () if owner.controller), ""),
        released=annotations.get(RELEASE, ""),
        labels=_labels_besides_ours(labels) if generated else _NONE,
        label_keys=_label_keys(annotations),
        spec=service.spec or RpcServiceSpec(),
        status=service.status or RpcServiceStatus(),
        damaged=damaged,
        unreadable=unreadable,
    )


def _in_parts(data: bytes | msgspec.Raw) -> tuple[_RpcService, str, str]:
    """An RpcService without what cannot be read, and why something in its status, or its spec, cannot."""
    parts = _rpcservice_parts.decode(data)
    damaged = unreadable = ""
    try:
        spec = msgspec.json.decode(parts.spec, type=RpcServiceSpec | None)
    except msgspec.ValidationError as error:
        unreadable = str(error)
        found = msgspec.json.decode(parts.spec)
        name = found.get("serviceName") if isinstance(found, dict) else None
        spec = RpcServiceSpec(service_name=name if isinstance(name, str) else "")
    try:
        status = msgspec.json.decode(parts.status, type=RpcServiceStatus | None)
    except msgspec.ValidationError as error:
        damaged = str(error)
        status = _readable_status(msgspec.json.decode(parts.status))
    return _RpcService(parts.metadata, spec, status), damaged, unreadable


def _readable_status(found: Any) -> RpcServiceStatus:
    """What can be read of a status: of a list, those of its items that can."""
    fields = dict(found) if isinstance(found, dict) else {}
    for name, kind in (("endpoints", Endpoint), ("conditions", Condition)):
        items = fields.get(name)
        fields[name] = [item for item in items if _reads(item, kind)] if isinstance(items, list) else []
    readable = {name: value for name, value in fields.items() if _reads({name: value}, RpcServiceStatus)}
    return msgspec.convert(readable, RpcServiceStatus)


def _reads(value: Any, kind: type) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def decode_localservice(data: bytes | msgspec.Raw) -> LocalService:
    """A LocalService from its JSON."""
    local = _localservices.decode(data)
    meta, annotations = local.metadata, local.metadata.annotations or {}
    generated = _is_generated(meta.labels or {}, meta.managed_fields or ())
    return LocalService(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resource_version,
        generation=meta.generation,
        deleting=meta.deletion_timestamp is not None,
        generated=generated,
        service_name=annotations.get(SERVICE_NAME, ""),
        released=annotations.get(RELEASE, ""),
        labels=_labels_besides_ours(meta.labels or {}) if generated else _NONE,
        label_keys=_label_keys(annotations),
        spec=local.spec or LocalServiceSpec(),
        status=local.status or LocalServiceStatus(),
    )


def _labels_besides_ours(labels: Mapping[str, str]) -> Mapping[str, str]:
    found = tuple((key, value) for key, value in labels.items() if key not in (MANAGED_BY[0], PART_OF))
    return _shared_labels(found) if found else _NONE


def _label_keys(annotations: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(filter(None, annotations.get(GENERATED_LABELS, "").split(",")))


def decode_service(data: bytes | msgspec.Raw) -> KubeService:
    """A Service from its JSON; of another's Service, only the metadata."""
    found = _services.decode(data)
    meta = found.metadata
    service = KubeService(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resource_version,
        deleting=meta.deletion_timestamp is not None,
    )
    labels, annotations, owners = meta.labels or {}, meta.annotations or {}, meta.owner_references or ()
    key, value = MANAGED_BY
    if labels.get(key) != value and not any(owner.kind == LOCALSERVICES.kind for owner in owners):
        return service
    return msgspec.structs.replace(
        service,
        labels=labels,
        annotations={key: value for key, value in annotations.items() if key != NODE_NAME} or _NONE,
        node_name=annotations.get(NODE_NAME, ""),
        owners=owners,
        spec=bytes(found.spec),
    )


def publishable(ip: str) -> bool:
    """Whether clients can be sent to an address that a pod's status gives.

    The kubelet never reports loopback, link-local, multicast or the unspecified address for a pod;
    but a writer of ``pods/status`` could, and in the IPv6 form of an IPv4 address as well.

    >>> publishable("10.0.0.1"), publishable("169.254.169.254"), publishable("::ffff:127.0.0.1")
    (True, False, False)
    """
    try:
        address: IPv4Address | IPv6Address = ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        in_nat64 = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
        address = address.ipv4_mapped or in_nat64 or address
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or any(address in network for network in _NO_HOSTS)
    )


def _is_true(conditions: Iterable[_ConditionEntry] | None, type_: str) -> bool:
    return any(entry.type == type_ and entry.status == "True" for entry in conditions or ())


# Source: kubernetes, pkg/kubelet/status/generate.go.
KUBELETS_REASONS = (
    "ContainersNotReady",
    "ReadinessGatesNotReady",
    "UnknownContainerStatuses",
    "PodCompleted",
    "PodFailed",
)


def _is_silenced(conditions: Iterable[_ConditionEntry] | None) -> bool:
    """Whether the pod is not Ready, but not by its kubelet's word.

    A kubelet gives one of its reasons.  The node lifecycle controller changes the status of this condition
    and nothing else, so the reason is that of a Ready pod.  A kubelet gives none then; a virtual one may, and
    its containers still count as ready.

    Source: kubernetes, pkg/controller/util/node, ``MarkPodsNotReady``.
    """
    found = {entry.type: entry for entry in conditions or ()}
    ready, containers = found.get("Ready"), found.get("ContainersReady")
    if ready is None or ready.status == "True" or ready.reason in KUBELETS_REASONS:
        return False
    return not ready.reason or containers is None or containers.status == "True"


def _started(containers: Iterable[_ContainerStatus]) -> Iterable[str]:
    for container in containers:
        if container.state and container.state.running and container.state.running.started_at:
            yield container.state.running.started_at


def _is_generated(labels: Mapping[str, str], managers: Iterable[_FieldsEntry]) -> bool:
    """Whether we made the object and no other writer owns a field of its spec.

    A person who applies over a generated object becomes a manager of ``spec``; generation and
    labels do not show that.
    """
    key, value = MANAGED_BY
    return labels.get(key) == value and not any(
        entry.manager != FIELD_MANAGER and "f:spec" in (entry.fields_v1 or {}) for entry in managers
    )


PODS: Resource[Pod] = Resource("", "v1", "pods", "Pod", decode_pod)
NODES: Resource[Node] = Resource("", "v1", "nodes", "Node", decode_node)
RPCSERVICES: Resource[RpcService] = Resource(
    GROUP, API_VERSION, "rpcservices", "RpcService", decode_rpcservice
)

LOCALSERVICES: Resource[LocalService] = Resource(
    GROUP, API_VERSION, "localservices", "LocalService", decode_localservice
)
SERVICES: Resource[KubeService] = Resource("", "v1", "services", "Service", decode_service)

LEASES = ApiType("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = ApiType("events.k8s.io", "v1", "events", "Event")


def read_lease(manifest: Mapping[str, Any]) -> Lease:
    """What a Lease object records."""
    spec, metadata = manifest.get("spec") or {}, manifest["metadata"]
    return Lease(
        holder=spec.get("holderIdentity") or "",
        released_by=annotations_of(manifest).get(RELEASED_BY, ""),
        seconds=spec.get("leaseDurationSeconds") or 0,
        acquired=spec.get("acquireTime") or "",
        renewed=spec.get("renewTime") or "",
        transitions=spec.get("leaseTransitions") or 0,
        resource_version=metadata["resourceVersion"],
    )


def annotations_of(manifest: Mapping[str, Any]) -> Mapping[str, str]:
    """The annotations of any object."""
    annotations: Mapping[str, str] | None = manifest["metadata"].get("annotations")
    return annotations or {}


def regarding_lease(manifest: Mapping[str, Any]) -> Regarding:
    """A Lease object as an Event names it."""
    metadata = manifest["metadata"]
    return Regarding(
        LEASES.api_version, LEASES.kind, metadata["namespace"], metadata["name"], metadata["uid"]
    )
