"""What manifests would publish, without a cluster.

A workload (anything with a pod template) means as many pods as it has replicas.  A pod without a status
counts as Ready, so that its service shows.  Its address is one reserved for documentation (192.0.2.0/24, RFC
5737) or benchmarks (198.18.0.0/15, RFC 2544).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_network
from itertools import chain
from typing import Any

import msgspec

from rpcregistry.layouts import Layout
from rpcregistry.manifests import decode_localservice, decode_node, decode_pod, decode_rpcservice, made
from rpcregistry.model import (
    NODE,
    LocalService,
    Node,
    Pod,
    Problem,
    RpcService,
    RpcServiceSpec,
    ServiceKey,
)
from rpcregistry.names import local_service_name
from rpcregistry.plan import localservices, rpcservices, znodes
from rpcregistry.plan.conditions import with_condition
from rpcregistry.plan.ledger import ledger_root
from rpcregistry.plan.ops import Create
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.publication import PublicationSettings, publication
from rpcregistry.plan.rows import Absences, ObservedRpcServices, owner_name

Manifest = Mapping[str, Any]
NOW = "1970-01-01T00:00:00Z"  # conditions need a time, and offline none makes sense
SAMPLE_NODE = "node-1"  # if the manifests have no Node
_SETTINGS = PublicationSettings(cluster_id="")


class Objects(msgspec.Struct, frozen=True):
    """What manifests have in them; a workload's pods are among *pods*."""

    pods: Sequence[Pod]
    services: Sequence[RpcService]
    locals: Sequence[LocalService]
    nodes: Sequence[Node]


class Refused(msgspec.Struct, frozen=True):
    """Why a *service* (``NAMESPACE/NAME``) is not written in a *layout*, or not in full."""

    service: str
    layout: str
    reason: str
    message: str


class Rendered(msgspec.Struct, frozen=True):
    """The RpcServices, the Services for nodes, and the znodes, as bytes by path."""

    services: Sequence[RpcService]
    node_services: Sequence[Manifest]
    znodes: Mapping[str, str]
    refusals: Sequence[Refused]


def objects_of(manifests: Sequence[Manifest]) -> Objects:
    """Decode *manifests*; raises ``MsgspecError``, ``ValueError`` or ``TypeError``."""
    return Objects(
        pods=list(_pods(manifests)),
        services=list(_services(manifests)),
        locals=list(_locals(manifests)),
        nodes=[decode_node(_encoded(node)) for node in manifests if node["kind"] == "Node"],
    )


def render(found: Objects, layouts: Sequence[Layout]) -> Rendered:
    """What the controllers would make of the objects."""
    services = reconciled(found.pods, found.services, layouts)
    rendered: dict[str, str] = {}
    refusals: list[Refused] = []
    shown: list[RpcService] = []
    for name in sorted({service.service_name for service in services}):
        same = [service for service in services if service.service_name == name]
        wanted = publication(same, False, _SETTINGS)
        outcomes = []
        for layout in layouts:
            observed = ObservedZnodes(None, None, missing=layout.parents(name))
            outcome = znodes.plan(layout, name, wanted, observed, _SETTINGS, NOW)
            outcomes.append(outcome)
            rendered |= {
                op.path: op.data.decode(errors="backslashreplace")
                for op in outcome.ops
                if isinstance(op, Create) and not op.path.startswith(ledger_root(layout))
            }
            if outcome.refusal:
                reason, message = outcome.refusal.reason, outcome.refusal.message
                refusals.append(Refused(str(same[0].key), f"{layout.name}={layout.base}", reason, message))
        shown += (_with_synced(service, znodes.synced(service, wanted, outcomes)) for service in same)
    by_layout = sorted(rendered, key=lambda path: [not path.startswith(layout.base) for layout in layouts])
    return Rendered(
        services=sorted(shown, key=lambda service: service.key),
        node_services=list(_node_services(found, services)),
        znodes={path: rendered[path] for path in by_layout},
        refusals=refusals,
    )


def _with_synced(service: RpcService, synced: Any) -> RpcService:
    conditions = with_condition(service, synced, NOW)
    return msgspec.structs.replace(
        service, status=msgspec.structs.replace(service.status, conditions=conditions)
    )


# RpcServices


def reconciled(
    pods: Sequence[Pod], declared: Sequence[RpcService], layouts: Sequence[Layout]
) -> list[RpcService]:
    """The RpcServices after the pod controller: plan and apply until nothing is left to do."""
    services = {service.key: service for service in declared}
    keys = {ServiceKey(pod.namespace, d.service_name) for pod in pods for d in pod.declarations}
    keys |= {service.service_key for service in declared}
    settings = rpcservices.ProjectionSettings(layouts=tuple(layouts))
    for key in sorted(keys):
        while ops := rpcservices.plan(key, _observe(key, pods, services.values()), Absences(), settings, NOW):
            for op in ops:
                service = _applied(op, len(services))
                services[service.key] = service
    return [services[key] for key in sorted(services)]


def _observe(key: ServiceKey, pods: Iterable[Pod], services: Iterable[RpcService]) -> ObservedRpcServices:
    local = [service for service in services if service.namespace == key.namespace]
    return ObservedRpcServices(
        services=[service for service in local if service.service_key == key],
        pods={pod.name: pod for pod in pods if pod.namespace == key.namespace},
        taken={service.name for service in local},
    )


def _applied(op: rpcservices.Op, number: int) -> RpcService:
    match op:
        case rpcservices.Create(namespace, name, service_name, status, head):
            return RpcService(
                namespace=namespace,
                name=name,
                uid=f"{number}",
                resource_version="",
                created=NOW,
                generated=True,
                part_of=head.name if head else "",
                owner_uid=head.uid if head else "",
                spec=RpcServiceSpec(service_name=service_name),
                status=msgspec.structs.replace(status, observed_generation=1),
            )
        case rpcservices.SetStatus(service, status):
            return msgspec.structs.replace(service, status=status)
        case rpcservices.Delete(service):
            return service


# node Services


def _node_services(found: Objects, services: Sequence[RpcService]) -> Iterator[Manifest]:
    for local in (*found.locals, *_projected(found, services)):
        nodes = found.nodes or [Node(name=SAMPLE_NODE, uid="", ready=True, labels=local.spec.node_selector)]
        for node in nodes:
            if local.matches(node):
                yield _as_applied(made.node_service(local, node.name, NODE))


def _as_applied(service: Manifest) -> Manifest:
    metadata = {key: value for key, value in service["metadata"].items() if key != "ownerReferences"}
    spec = {key: value for key, value in service["spec"].items() if value is not None}
    return {**service, "metadata": metadata, "spec": spec}


def _projected(found: Objects, services: Sequence[RpcService]) -> Iterator[LocalService]:
    """The LocalServices that pods ask for."""
    asked = {
        ServiceKey(pod.namespace, declared.service_name)
        for pod in found.pods
        for declared in pod.declarations
        if declared.local
    }
    there = {local.key for local in found.locals}
    for key in sorted(asked):
        named = [service for service in services if service.service_key == key]
        owner = owner_name(key, named, ())
        pods = [pod for pod in found.pods if pod.namespace == key.namespace]
        op = localservices.project(key.namespace, key.service_name, owner, pods, None, True)
        if isinstance(op, localservices.Create):
            name = local_service_name(owner)
            local = LocalService(
                namespace=key.namespace, name=name, uid="", resource_version="", generated=True, spec=op.spec
            )
            if local.key not in there:
                yield local


# from manifests


def _services(manifests: Iterable[Manifest]) -> Iterator[RpcService]:
    for number, manifest in enumerate(manifests):
        match manifest:
            case {"kind": "RpcService", "metadata": dict(metadata)}:
                known = {"namespace": "default", "uid": f"declared-{number}", **metadata}
                read = decode_rpcservice(_encoded({"metadata": known, "spec": manifest.get("spec")}))
                # Applying a file makes its RpcServices declared, though a controller may have generated them.
                yield msgspec.structs.replace(read, generated=False)


def _locals(manifests: Iterable[Manifest]) -> Iterator[LocalService]:
    for manifest in manifests:
        match manifest:
            case {"kind": "LocalService", "metadata": dict(metadata)}:
                known = {"namespace": "default", **metadata}
                yield decode_localservice(_encoded({"metadata": known, "spec": manifest.get("spec")}))


def _pods(manifests: Iterable[Manifest]) -> Iterator[Pod]:
    addresses = map(str, chain(ip_network("192.0.2.0/24").hosts(), ip_network("198.18.0.0/15").hosts()))
    for manifest in manifests:
        for pod in pod_manifests(manifest):
            decoded = decode_pod(_encoded(pod))
            if not decoded.ips and "status" not in pod:
                decoded = msgspec.structs.replace(
                    decoded, ips=(next(addresses, "192.0.2.255"),), phase="Running", ready=True
                )
            yield decoded


def _encoded(manifest: Manifest) -> bytes:
    return msgspec.json.encode(manifest)


def pod_manifests(manifest: Manifest) -> Iterator[Manifest]:
    """The pods that a manifest stands for, with names, namespaces and uids, as a cluster would give them."""
    match manifest:
        case {"kind": "Pod", "metadata": dict(metadata)}:
            yield _placed(manifest, metadata, _name(metadata))
        case {"kind": "CronJob", "metadata": dict(metadata), "spec": {"jobTemplate": {"spec": dict(job)}}}:
            yield from _of_job(job, metadata)
        case {"kind": "Job", "metadata": dict(metadata), "spec": dict(job)}:
            yield from _of_job(job, metadata)
        case {"metadata": dict(metadata), "spec": {"template": dict(template)}}:
            first = int((manifest["spec"].get("ordinals") or {}).get("start", 0))  # of a StatefulSet
            for number in range(first, first + _count(manifest["spec"], "replicas")):
                yield _placed(template, metadata, f"{_name(metadata)}-{number}")


def _of_job(job: Manifest, metadata: Manifest) -> Iterator[Manifest]:
    match job:
        case {"template": dict(template)}:
            at_once = _count(job, "parallelism")
            for number in range(min(at_once, _count(job, "completions", at_once))):
                yield _placed(template, metadata, f"{_name(metadata)}-{number}")


def _count(spec: Manifest, key: str, default: int = 1) -> int:
    number = spec.get(key)
    return default if number is None else int(number)


def _name(metadata: Manifest) -> str:
    """The object's name; the server completes a generateName, to another name each time."""
    prefix = metadata.get("generateName", "")
    return str(metadata.get("name") or (prefix and prefix + sha256(prefix.encode()).hexdigest()[:5]))


def _placed(pod: Manifest, owner: Manifest, name: str) -> Manifest:
    namespace = owner.get("namespace", "default")
    uid = sha256(f"{namespace}/{name}".encode()).hexdigest()[:12]
    named = {"uid": uid, **(pod.get("metadata") or {}), "name": name, "namespace": namespace}
    return {**pod, "metadata": named}


def problems_of(pods: Iterable[Pod]) -> Iterator[tuple[str, Problem]]:
    """The mistakes in pods' annotations, each once in a namespace, with the pods that have it."""
    having: dict[tuple[str, Problem], list[Pod]] = {}
    for pod in pods:
        for problem in pod.problems:
            having.setdefault((pod.namespace, problem), []).append(pod)
    for (_, problem), found in having.items():
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        yield f"{found[0].key}{more}", problem
