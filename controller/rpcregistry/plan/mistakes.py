"""What in manifests leads to nothing, and is probably not meant so."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec

from rpcregistry.dialects import DIALECTS
from rpcregistry.dialects.entries import Dialect
from rpcregistry.dialects.hints import hints, near, unknown_keys
from rpcregistry.manifests import API_VERSION, GROUP
from rpcregistry.model import LabelSelector, LocalService, LocalServiceSpec, Pod, RpcService, RpcServiceSpec
from rpcregistry.plan.offline import Manifest, Objects, pod_manifests

OURS = {"RpcService": RpcServiceSpec, "LocalService": LocalServiceSpec}


class Mistake(msgspec.Struct, frozen=True):
    """*about*: an object, as ``KIND NAMESPACE/NAME``."""

    about: str
    message: str


def mistakes(manifests: Sequence[Manifest], found: Objects) -> list[Mistake]:
    """All that leads to nothing, in the order of *manifests*."""
    said = [Mistake(_about(manifest), text) for manifest in manifests for text in _of_manifest(manifest)]
    said += _unselected(found)
    if not (found.services or found.locals or any(pod.declarations or pod.problems for pod in found.pods)):
        said.append(Mistake("", "there is no RPC service here: no pod names one, and there is no RpcService"))
    return list(dict.fromkeys(said))


def _about(manifest: Manifest) -> str:
    metadata = manifest.get("metadata") or {}
    name = metadata.get("name") or metadata.get("generateName", "")
    return f"{manifest['kind']} {metadata.get('namespace', 'default')}/{name}"


def _of_manifest(manifest: Manifest) -> Iterator[str]:
    kind = manifest["kind"]
    if kind in OURS:
        yield from _of_ours(manifest)
        return
    pods = list(pod_manifests(manifest))
    template = pods[:1]
    if not pods and _says_something(_template(manifest)):
        yield "it has no pod now (0 replicas), so it publishes nothing"
        template = [_template(manifest)]
    for pod in template:
        labels, annotations = _text(pod, "labels"), _text(pod, "annotations")
        yield from (hint.message for hint in hints(labels, annotations))
        for dialect in DIALECTS:
            yield from _of_dialect(dialect, labels, annotations)
    if kind != "Pod" and template:
        yield from _misplaced(manifest, kind)
    if (manifest.get("spec") or {}).get("suspend") is True and template:
        yield "it is suspended, so it publishes nothing"


def _template(manifest: Manifest) -> Manifest:
    match manifest:
        case {"spec": {"template": dict(template)}} | {
            "spec": {"jobTemplate": {"spec": {"template": dict(template)}}}
        }:
            return template
    return {}


def _says_something(pod: Manifest) -> bool:
    annotations = _text(pod, "annotations")
    return any(dialect.annotation in annotations for dialect in DIALECTS)


def _text(manifest: Manifest, field: str) -> Mapping[str, str]:
    metadata = manifest.get("metadata") or {}
    return {str(key): str(value) for key, value in (metadata.get(field) or {}).items()}


def _of_dialect(dialect: Dialect, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Iterator[str]:
    """What ``hints`` does not say in a cluster, where it may be meant so."""
    label, value = dialect.label
    declares = labels.get(label) == value
    if dialect.annotation in annotations:
        if declares:
            for pointer, key, like in unknown_keys(dialect, annotations[dialect.annotation]):
                if not like:
                    said = f"{pointer}: {key} is ignored: there is no such key"
                    yield f"annotation {dialect.annotation}: {said}"
        return
    meant = near(dialect.annotation, annotations)
    if declares and not meant:
        yield f'label {label} is "{value}", and there is no annotation {dialect.annotation}: it says nothing'
    elif meant and not declares:
        yield f"annotation {meant[0]} is ignored: did you mean {dialect.annotation}?"


def _misplaced(manifest: Manifest, kind: str) -> Iterator[str]:
    for dialect in DIALECTS:
        if dialect.annotation in _text(manifest, "annotations"):
            yield (
                f"annotation {dialect.annotation} stands on the {kind}, and is ignored: it belongs into its"
                " pod template (spec.template.metadata.annotations)"
            )


def _of_ours(manifest: Manifest) -> Iterator[str]:
    kind, version = manifest["kind"], manifest.get("apiVersion", f"{GROUP}/{API_VERSION}")
    if version != f"{GROUP}/{API_VERSION}":
        yield f"apiVersion is {version}, not {GROUP}/{API_VERSION}: this is another {kind}"
    known = OURS[kind].__struct_encode_fields__
    spec = manifest.get("spec")
    for key in spec if isinstance(spec, dict) else ():
        if key not in known:
            like = get_close_matches(str(key), known, 1, 0.7)
            meant = f"did you mean {like[0]}?" if like else "there is no such field"
            yield f"spec.{key} is ignored: {meant}"


def _unselected(found: Objects) -> Iterator[Mistake]:
    """Selectors that select none of the pods, where there are pods in their namespace."""
    selecting: list[tuple[str, RpcService | LocalService, LabelSelector | None]] = [
        *(("RpcService", service, service.spec.selector) for service in found.services),
        *(("LocalService", local, local.spec.pods) for local in found.locals),
    ]
    for kind, service, selector in selecting:
        pods = _in(service.namespace, found.pods)
        if selector and pods and not any(selector.matches(pod.labels) for pod in pods):
            yield Mistake(f"{kind} {service.key}", "its selector selects none of the pods here")


def _in(namespace: str, pods: Iterable[Pod]) -> list[Any]:
    return [pod for pod in pods if pod.namespace == namespace]
