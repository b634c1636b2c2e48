"""``rpcregistry render``: shows offline what manifests publish.

A workload (anything with a pod template) means as many pods as it has replicas.  A pod without a status
counts as Ready, so that its service shows.  Its address is one reserved for documentation (192.0.2.0/24, RFC
5737) or benchmarks (198.18.0.0/15, RFC 2544).
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_network
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import yaml

from rpcregistry.errors import Misconfigured
from rpcregistry.layouts import Layout
from rpcregistry.manifests import decode_pod, decode_rpcservice, made
from rpcregistry.model import Pod, RpcService, RpcServiceSpec, ServiceKey
from rpcregistry.plan import rpcservices, znodes
from rpcregistry.plan.ledger import ledger_root
from rpcregistry.plan.ops import Create
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.publication import PublicationSettings, publication

Manifest = Mapping[str, Any]
NOW = "1970-01-01T00:00:00Z"  # conditions need a time, and offline none makes sense


def render_files(files: Sequence[str], layouts: Sequence[Layout]) -> int:
    """Print the RpcServices and znodes; return 1 if an annotation is wrong, else 0."""
    objects = [manifest for file in files for manifest in _read(file)]
    try:
        pods, declared = list(_pods(objects)), list(_services(objects))
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise Misconfigured(f"{', '.join(files)}: cannot read a manifest: {error}") from error
    services = reconciled(pods, declared, layouts)
    problems = [(pod, problem) for pod in pods for problem in pod.problems]
    documents = [
        *(_plain(made.whole_rpcservice(service)) for service in services),
        {"znodes": _znodes(services, layouts)},
    ]
    yaml.safe_dump_all(documents, sys.stdout, sort_keys=False, explicit_start=True, width=1_000_000)
    for pod, problem in dict.fromkeys((pod.key, problem) for pod, problem in problems):
        sys.stderr.write(f"{pod}: {problem.reason}: {problem.message}\n")
    return 1 if problems else 0


def reconciled(
    pods: Sequence[Pod], declared: Sequence[RpcService], layouts: Sequence[Layout]
) -> list[RpcService]:
    """The RpcServices after the pod controller: plan and apply until nothing is left to do."""
    services = {service.key: service for service in declared}
    keys = {ServiceKey(pod.namespace, d.service_name) for pod in pods for d in pod.declarations}
    keys |= {service.service_key for service in declared}
    settings = rpcservices.ProjectionSettings(layouts=tuple(layouts))
    for key in sorted(keys):
        while ops := rpcservices.plan(
            key, _observe(key, pods, services.values()), rpcservices.Absences(), settings, NOW
        ):
            for op in ops:
                service = _applied(op, len(services))
                services[service.key] = service
    return [services[key] for key in sorted(services)]


def _observe(
    key: ServiceKey, pods: Iterable[Pod], services: Iterable[RpcService]
) -> rpcservices.ObservedRpcServices:
    local = [service for service in services if service.namespace == key.namespace]
    return rpcservices.ObservedRpcServices(
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


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _:
            return value


def _znodes(services: Sequence[RpcService], layouts: Sequence[Layout]) -> dict[str, str]:
    settings = PublicationSettings(cluster_id="")
    rendered: dict[str, str] = {}
    for layout in layouts:
        for name in sorted({service.service_name for service in services}):
            same = [service for service in services if service.service_name == name]
            observed = ObservedZnodes(None, None, missing=layout.parents(name))
            outcome = znodes.plan(layout, name, publication(same, False, settings), observed, settings, NOW)
            rendered |= {
                op.path: op.data.decode(errors="backslashreplace")
                for op in outcome.ops
                if isinstance(op, Create) and not op.path.startswith(ledger_root(layout))
            }
    return rendered


def _read(file: str) -> Iterator[Manifest]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        documents = list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Misconfigured(f"{file}: {error}") from error
    for document in documents:
        yield from _flat(document)


def _flat(document: Any) -> Iterator[Manifest]:
    match document:
        case {"items": [*items]}:
            for item in items:
                yield from _flat(item)
        case {"kind": str()}:
            yield document


def _services(objects: Iterable[Manifest]) -> Iterator[RpcService]:
    for number, manifest in enumerate(objects):
        match manifest:
            case {"kind": "RpcService", "metadata": dict(metadata)}:
                known = {"namespace": "default", "uid": f"declared-{number}", **metadata}
                read = decode_rpcservice(
                    msgspec.json.encode({"metadata": known, "spec": manifest.get("spec")})
                )
                # Applying a file makes its RpcServices declared, though a controller may have generated them.
                yield msgspec.structs.replace(read, generated=False)


def _pods(objects: Iterable[Manifest]) -> Iterator[Pod]:
    addresses = map(str, chain(ip_network("192.0.2.0/24").hosts(), ip_network("198.18.0.0/15").hosts()))
    for manifest in objects:
        for pod in _pod_manifests(manifest):
            decoded = decode_pod(msgspec.json.encode(pod))
            if not decoded.ips and "status" not in pod:
                decoded = msgspec.structs.replace(
                    decoded, ips=(next(addresses, "192.0.2.255"),), phase="Running", ready=True
                )
            yield decoded


def _pod_manifests(manifest: Manifest) -> Iterator[Manifest]:
    match manifest:
        case {"kind": "Pod", "metadata": dict()}:
            yield _placed(manifest, manifest["metadata"], manifest["metadata"].get("name", ""))
        case {
            "kind": "CronJob",
            "metadata": dict(metadata),
            "spec": {"jobTemplate": {"spec": {"template": dict(template)}}},
        }:
            yield _placed(template, metadata, f"{metadata.get('name', '')}-0")
        case {"metadata": dict(metadata), "spec": {"template": dict(template)}}:
            for number in range(int(manifest["spec"].get("replicas", 1))):
                yield _placed(template, metadata, f"{metadata.get('name', '')}-{number}")


def _placed(pod: Manifest, owner: Manifest, name: str) -> Manifest:
    """Give the pod a name, namespace and uid, as a cluster would."""
    namespace = owner.get("namespace", "default")
    uid = sha256(f"{namespace}/{name}".encode()).hexdigest()[:12]
    named = {"uid": uid, **pod.get("metadata", {}), "name": name, "namespace": namespace}
    return {**pod, "metadata": named}
