"""Who serves what, from the pods and RpcServices of a namespace.

A pod's own word comes first: what it declares of a service, at which ports, is what it serves.  The
RpcServices add the pods that they select and that declare nothing of that service themselves.  So
each (pod uid, port) is there once, and whether it is there at all, the pod's own state decides: a
status that lags behind, or a controller that is down, keeps no pod alive.
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

    What breaks a rule raises ``ValueError``, which names the field, its value and the rule.
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
        """The same in the controllers' words, checked by their rules: *metadata* may have changed."""
        fields = {field: _plain(value) for field, value in msgspec.structs.asdict(self).items()}
        entry = {"serviceName": fields.pop("name"), **fields}
        for optional in ("port", "weight"):
            if entry[optional] is None:
                del entry[optional]
        try:
            return RPC_SERVICE.declaration(entry)
        except Invalid as invalid:
            told = (_mistake(pointer, what) for pointer, what in invalid.mistakes.items())
            raise ValueError(f"no Service: {'; '.join(told)}") from None


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One pod that serves a service, as it was read; *ready* says whether clients should be sent there.

    *ip* is the first of *ips*, which come from the pod's status.  Pods without an address, terminating
    and finished ones are no instances.  A pod is the same one while its *pod_uid* is.
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
    """Another pod; *started_at* is when its latest container started: RFC 3339, or ``""`` where none runs."""

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
    """What became of an instance, which is as it is now, or, *removed*, as it was last."""

    kind: Kind
    instance: Instance


class PeerUpdate(msgspec.Struct, frozen=True):
    """What became of a peer, which is as it is now, or, *removed*, as it was last."""

    kind: Kind
    peer: Peer


def _plain(value: object) -> object:
    """*value* without what an Enum, or another subclass, adds to a text, a number or a mapping."""
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
    """*what* is wrong, after the name of the field that *pointer* means."""
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

    *declaring*: the pods that declare it; *rpcservices*: those of that name; *find*: a pod by its name.
    """
    pods = {pod.uid: pod for pod in declaring}
    rows: dict[str, list[Endpoint]] = {}
    for row in (row for found in rpcservices for row in found.status.endpoints):
        pod = pods.get(row.pod_uid) or find(row.pod_name)
        if pod and pod.uid == row.pod_uid:
            pods[pod.uid] = pod  # one pod is read once: it may change meanwhile
            rows.setdefault(pod.uid, []).append(row)
    # A large service's rows are spread over parts, which themselves select nothing.
    selectors = [found.spec.selector for found in rpcservices if found.spec.selector]
    return {
        (pod.uid, served.port): _instance(service, pod, served)
        for pod in pods.values()
        if is_listed(pod)
        for served in _declared(pod, service) or _selected(pod, selectors, rows.get(pod.uid, ()))
    }


def peers(pods: Iterable[Pod], own: Pod | None) -> tuple[Peer, ...]:
    """The *pods* that can be asked for something, the one that has run longest first.

    Pods in which nothing runs come last, equally old ones always in the same order.  Left out are our
    *own* pod, others at its addresses (they share its node's network), and what is no instance either.
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
    """Whether the pod carries the label of a dialect: it is one of those that register."""
    return any(pod.labels.get(label) == value for label, value in (dialect.label for dialect in DIALECTS))


def declares(pod: Pod, service: str) -> bool:
    """Whether the pod itself says that it serves *service*."""
    return any(declared.service_name == service for declared in pod.declarations)


def affected(old: RpcService | None, new: RpcService | None) -> set[str] | None:
    """The names of the pods whose instances can differ between two states of an RpcService; None: any."""
    if not old or not new or old.spec != new.spec:
        return None
    before, now = ({(row.pod_uid, row.port): row for row in of.status.endpoints} for of in (old, new))
    return {row.pod_name for _, row in differences(before, now)}


def differences(before: Mapping[K, V], now: Mapping[K, V]) -> Iterator[tuple[Kind, V]]:
    """What has to be told to whoever was told of *before*.

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
