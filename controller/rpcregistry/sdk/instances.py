"""Finds the instances of a service among the pods and RpcServices of a namespace.

Annotations win over RpcService statuses: a pod serves what it declares, at the ports that it declares.  The
RpcServices add pods that they select and that declare nothing of the service.  So each (pod uid, port)
appears once.  The pod's own state decides whether it appears: a status that lags, or a controller that is
down, keeps no pod alive.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec

from rpcregistry.dialects import DIALECTS, RPC_SERVICE
from rpcregistry.dialects.entries import Invalid
from rpcregistry.model import Declaration, Endpoint, LabelSelector, Pod, RpcService
from rpcregistry.plan.pods import is_listed

Kind = Literal["added", "changed", "removed"]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service that this process serves.

    *name*: 1 to 253 of ``A-Za-z0-9._$-``; *port*: 1 to 65535; *weight*: 0 to 10000; *metadata*: at most
    32 keys; each text at most 256 bytes, without control characters.  *local* asks for node-local routing,
    and needs a port and the dialect "rpc-service".

    A value that breaks a rule raises ``ValueError``, whose message names the field, the value and the rule.
    """

    name: str
    port: int | None = None
    version: str = ""
    group: str = ""
    protocol: str = ""
    weight: int | None = None
    metadata: Mapping[str, str] = {}
    local: bool = False

    def __post_init__(self) -> None:
        _ = self.declaration

    @property
    def declaration(self) -> Declaration:
        """The service as the controllers read it, checked by their rules; a caller may change *metadata*."""
        fields = {field: _plain(value) for field, value in msgspec.structs.asdict(self).items()}
        entry = {"serviceName": fields.pop("name"), **fields}
        for optional in ("port", "weight"):
            if entry[optional] is None:
                del entry[optional]
        try:
            return RPC_SERVICE.declaration(entry)
        except Invalid as invalid:
            mistakes = (_mistake(pointer, what) for pointer, what in invalid.mistakes.items())
            raise ValueError(f"no Service: {'; '.join(mistakes)}") from None


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One pod that serves a service; *ready*: whether clients should call it.

    *ip* is the first of *ips*, the addresses in the pod's status.  Terminating and finished pods are no
    instances, nor are pods without an address.  Another *pod_uid* means another pod of the same name.
    """

    name: str
    ip: str
    ips: tuple[str, ...]
    port: int | None = None
    version: str = ""
    group: str = ""
    protocol: str = ""
    weight: int | None = None
    metadata: Mapping[str, str] = {}
    ready: bool
    pod_name: str
    pod_uid: str
    node: str = ""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another pod; *started_at*: when its latest container started, in RFC 3339, or ``""`` if none runs."""

    name: str
    uid: str
    ip: str
    ips: tuple[str, ...]
    host_ip: str
    phase: str
    started_at: str
    ready: bool
    node: str


class Update(msgspec.Struct, frozen=True):
    """A change of *instance*, which is in its new state; if *removed*, in its last."""

    kind: Kind
    instance: Instance


class PeerUpdate(msgspec.Struct, frozen=True):
    """A change of *peer*, which is in its new state; if *removed*, in its last."""

    kind: Kind
    peer: Peer


def _plain(value: object) -> object:
    """*value* as a plain str, int or dict, if it is an Enum or another subclass of one."""
    match value:
        case bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            return int.__int__(value)
        case Mapping():
            return {_plain(key): _plain(of) for key, of in value.items()}
    return value


def _mistake(pointer: str, what: str) -> str:
    """The mistake *what*, after the name of the field that the JSON *pointer* names."""
    field = pointer.removeprefix("/").replace("serviceName", "name", 1)
    return f"{field}: {what}" if field else what


InstanceKey = tuple[str, int | None]


def instances(
    service: str,
    declaring: Iterable[Pod],
    rpcservices: Sequence[RpcService],
    find: Callable[[str], Pod | None],
) -> dict[InstanceKey, Instance]:
    """The instances of *service* by pod uid and port.

    *declaring*: the pods that declare it; *rpcservices*: the RpcServices of that name; *find* returns a pod
    by its name.
    """
    pods = {pod.uid: pod for pod in declaring}
    rows: dict[str, list[Endpoint]] = {}
    for row in (row for found in rpcservices for row in found.status.endpoints):
        pod = pods.get(row.pod_uid) or find(row.pod_name)
        if pod and pod.uid == row.pod_uid:
            pods[pod.uid] = pod  # find each pod once: it may change meanwhile
            rows.setdefault(pod.uid, []).append(row)
    # Parts hold the rows of a large service; only its first RpcService has the selector.
    selectors = [found.spec.selector for found in rpcservices if found.spec.selector]
    return {
        (pod.uid, served.port): _instance(service, pod, served)
        for pod in pods.values()
        if is_listed(pod)
        for served in _declared(pod, service) or _selected(pod, selectors, rows.get(pod.uid, ()))
    }


def peers(pods: Iterable[Pod], own: Pod | None) -> tuple[Peer, ...]:
    """The *pods* that can answer a request, the longest running first, those in which nothing runs last.

    Pods of the same age come in order of their names.  It leaves out our *own* pod, pods at its addresses
    (they share its node's network), and pods that could be no instances.
    """
    here = set(own.ips) if own else set()
    others = (
        pod
        for pod in pods
        if is_listed(pod) and not (own and pod.uid == own.uid) and here.isdisjoint(pod.ips)
    )
    return tuple(
        Peer(
            name=pod.name,
            uid=pod.uid,
            ip=pod.ips[0],
            ips=pod.ips,
            host_ip=pod.host_ip,
            phase=pod.phase,
            started_at=pod.started_at,
            ready=pod.ready,
            node=pod.node_name,
        )
        for pod in sorted(others, key=lambda pod: (not pod.started_at, pod.started_at, pod.name))
    )


def speaks(pod: Pod) -> bool:
    """Whether the pod carries the label of a dialect."""
    return any(pod.labels.get(label) == value for label, value in (dialect.label for dialect in DIALECTS))


def declares(pod: Pod, service: str) -> bool:
    """Whether the pod's annotations declare *service*."""
    return any(declared.service_name == service for declared in pod.declarations)


def affected(old: RpcService | None, new: RpcService | None) -> set[str] | None:
    """Names of the pods whose instances may differ between two states of an RpcService; None: all pods."""
    if not old or not new or old.spec != new.spec:
        return None
    before, now = ({(row.pod_uid, row.port): row for row in of.status.endpoints} for of in (old, new))
    return {row.pod_name for _, row in differences(before, now)}


def differences(before: Mapping[K, V], now: Mapping[K, V]) -> Iterator[tuple[Kind, V]]:
    """The updates that lead a subscriber from *before* to *now*.

    >>> list(differences({"a": 1, "b": 2}, {"b": 3, "c": 4}))
    [('removed', 1), ('changed', 3), ('added', 4)]
    """
    for key, value in before.items():
        if key not in now:
            yield "removed", value
    for key, value in now.items():
        if key not in before:
            yield "added", value
        elif before[key] != value:
            yield "changed", value


def _declared(pod: Pod, service: str) -> Sequence[Declaration]:
    return [declared for declared in pod.declarations if declared.service_name == service]


def _selected(pod: Pod, selectors: Iterable[LabelSelector], rows: Sequence[Endpoint]) -> Sequence[Endpoint]:
    return rows if any(selector.matches(pod.labels) for selector in selectors) else ()


def _instance(service: str, pod: Pod, served: Declaration | Endpoint) -> Instance:
    return Instance(
        name=service,
        ip=pod.ips[0],
        ips=pod.ips,
        port=served.port,
        version=served.version,
        group=served.group,
        protocol=served.protocol,
        weight=served.weight,
        metadata=served.metadata,
        ready=pod.ready,
        pod_name=pod.name,
        pod_uid=pod.uid,
        node=pod.node_name,
    )
