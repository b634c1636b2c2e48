"""Which Service there should be for one LocalService on one cluster node.

A Service is ours if the LocalService controls it.  The plan compares only the fields that we set: what the
server filled in is no difference.  It leaves any other Service of the name alone, and reports it.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from rpcregistry.manifests import LOCALSERVICES, made
from rpcregistry.model import (
    LOCAL_SERVICE,
    MANAGED_BY,
    NODE_NAME,
    SPEC_KEYS,
    KubeService,
    LocalService,
    Node,
    Problem,
)
from rpcregistry.names import node_service_name


class Create(msgspec.Struct, frozen=True):
    """Create a Service."""

    manifest: Mapping[str, Any]


class Patch(msgspec.Struct, frozen=True):
    """Merge *patch* into a Service, to make it as *manifest* says; *only_removes*: but for what that adds."""

    service: KubeService
    patch: Mapping[str, Any]
    manifest: Mapping[str, Any]
    only_removes: bool = False


class Replace(msgspec.Struct, frozen=True):
    """Delete and create a Service: the server refuses to change the fields that differ."""

    service: KubeService
    manifest: Mapping[str, Any]


class Delete(msgspec.Struct, frozen=True):
    """Delete a Service."""

    service: KubeService


Op = Create | Patch | Replace | Delete


def write_of(op: Op) -> tuple[object, ...]:
    """The identity of a write among those of a key, regardless of its content.

    A patch of other fields is another write: a field that is refused, or not kept, costs no other one.
    """
    match op:
        case Create():
            return ("create",)
        case Patch(service, patch, _, only_removes):
            return "patch", service.uid, tuple(fields_of(patch)), only_removes
        case Replace(service):
            return "replace", service.name
        case Delete(service):
            return "delete", service.uid


def fields_of(patch: Mapping[str, Any]) -> list[str]:
    """The fields that *patch* changes.

    >>> fields_of({"metadata": {"uid": "u", "labels": {}}, "spec": {"type": "NodePort"}})
    ['metadata.labels', 'spec.type']
    """
    metadata = patch.get("metadata", {}).keys() - {"uid", "resourceVersion"}
    return sorted(
        [*(f"metadata.{key}" for key in metadata), *(f"spec.{key}" for key in patch.get("spec", ()))]
    )


class ObservedNodeService(msgspec.Struct, frozen=True):
    """The cluster node, the Service that has the name, and our Services for that node.

    *absence_confirmed*: whether a missing node's absence is confirmed.
    """

    node: Node | None
    named: KubeService | None
    ours: Collection[KubeService]
    absence_confirmed: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """The writes, additions first, and the problem if another's Service has the name."""

    ops: tuple[Op, ...] = ()
    problem: Problem | None = None


def plan(local: LocalService, node_name: str, observed: ObservedNodeService, node_label: str) -> Outcome:
    """Return the writes that make the LocalService's Service for one node right.

    A node that is not Ready keeps its Service.  A missing one keeps it until its absence is confirmed.
    """
    if observed.node is None and not observed.absence_confirmed:
        return Outcome()
    name, ops, problem = "", list[Op](), None
    if local.matches(observed.node):
        name = node_service_name(local.name, node_name)
        if otherwise := _made_otherwise(local, node_name, observed.named):
            message = (
                f"Service {name} for node {node_name} was made {otherwise}, and is left alone: delete it"
            )
            problem = Problem("NameTaken", message)
        else:
            ops += _write(made.node_service(local, node_name, node_label), observed.named)
    ops += [Delete(service) for service in observed.ours if service.name != name and not service.deleting]
    return Outcome(tuple(ops), problem)


def _made_otherwise(local: LocalService, node_name: str, named: KubeService | None) -> str | None:
    """By or for whom the named Service was made, if it is not this node's; else None."""
    if named is None:
        return None
    if not owns(local, named):
        return "by another client"
    # Two nodes' names may shorten to the same Service name: the first node keeps the Service.
    other = named.node_name
    is_others = other != node_name and node_service_name(local.name, other) == named.name
    return f"for node {other}" if is_others else None


def owns(local: LocalService, service: KubeService) -> bool:
    """Whether *service* is a node Service of *local*.

    We also take over a labelled Service that has no controller, since a person orphaned it, and one of a
    deleted LocalService of the same name, so that clients see no gap.
    """
    controller = service.controller
    if controller and controller.uid == local.uid:
        return True
    key, value = MANAGED_BY
    labelled = service.labels.get(key) == value and service.labels.get(LOCAL_SERVICE) == local.name
    return labelled and (
        controller is None or (controller.kind, controller.name) == (LOCALSERVICES.kind, local.name)
    )


def _write(manifest: dict[str, Any], observed: KubeService | None) -> Iterator[Op]:
    if observed is None:
        yield Create(_without_unset(manifest))
    elif not observed.deleting:  # the deletion's event requeues the key
        spec = _spec(observed)
        if _fixed(spec, manifest["spec"]):
            yield Replace(observed, _without_unset(manifest))
        elif patch := _patch(manifest, observed, spec):
            yield Patch(observed, patch, manifest)


def _without_unset(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = {key: value for key, value in manifest["spec"].items() if value is not None}
    return {**manifest, "spec": spec}


def without_additions(op: Op) -> Patch | None:
    """*op* without what it adds; None if it adds nothing, or does nothing else.

    What it replaces goes with what it removes: the former value leads callers elsewhere.
    """
    if not isinstance(op, Patch):
        return None
    left = _without_additions(op.patch, op.service)
    if left == op.patch or not fields_of(left):
        return None
    return Patch(op.service, left, op.manifest, only_removes=True)


def _without_additions(patch: Mapping[str, Any], service: KubeService) -> dict[str, Any]:
    """*patch* without the labels, annotations, ports and fields that *service* does not have."""
    metadata, spec, observed = {**patch["metadata"]}, {**patch.get("spec", {})}, _spec(service)
    for kind, found in (("labels", service.labels), ("annotations", service.annotations)):
        gone = {key: None for key, value in metadata.pop(kind, {}).items() if value is None and key in found}
        metadata |= {kind: gone} if gone else {}
    if not service.owners:
        metadata.pop("ownerReferences", None)
    before = observed.get("ports") or []
    wanted = spec.pop("ports", before)
    ports = [port for port in before if any(_covers(one, port) for one in wanted)]
    spec = {key: value for key, value in spec.items() if observed.get(key) is not None}
    if ports and ports != before:
        spec["ports"] = ports
    return {"metadata": metadata, **({"spec": spec} if spec else {})}


def unkept(op: Patch, answer: KubeService) -> list[str]:
    """The fields of *answer*, the server's to *op*, that are not as that wants them."""
    patch = _patch(op.manifest, answer, _spec(answer))
    if patch and op.only_removes:
        patch = _without_additions(patch, answer)
    return fields_of(patch) if patch else []


def unkept_for_good(manifest: Mapping[str, Any], answer: KubeService) -> list[str]:
    """Those that no patch can change either."""
    return _fixed(_spec(answer), manifest["spec"])


def _spec(service: KubeService) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = msgspec.json.decode(service.spec or b"{}")
    return spec


def _fixed(observed: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The fields that differ and that the server refuses to change: headless, and the primary IP family."""
    families = observed.get("ipFamilies") or wanted.get("ipFamilies") or [None]
    headless = (observed.get("clusterIP") == "None") != (wanted.get("clusterIP") == "None")
    other_family = wanted.get("ipFamilies", families)[0] != families[0]
    return [*(["spec.clusterIP"] if headless else []), *(["spec.ipFamilies"] if other_family else [])]


def _patch(
    manifest: Mapping[str, Any], observed: KubeService, spec: Mapping[str, Any]
) -> dict[str, Any] | None:
    """A merge patch of what differs, for *observed* as it was read; None if nothing does."""
    wanted = manifest["spec"]
    metadata: dict[str, Any] = {}
    changes = {key: value for key, value in wanted.items() if not _covers(value, spec.get(key))}
    before = spec.get("selector") or {}
    if before != wanted["selector"]:
        changes["selector"] = {**dict.fromkeys(before), **wanted["selector"]}
    former = _former_keys(observed)
    annotations = {**observed.annotations, NODE_NAME: observed.node_name}
    for kind, found, before in (
        ("labels", observed.labels, former.labels),
        ("annotations", annotations, (*former.annotations, SPEC_KEYS)),
    ):
        wanted_here = {**dict.fromkeys(before), **manifest["metadata"][kind]}
        if any(found.get(key) != value for key, value in wanted_here.items()):
            metadata[kind] = wanted_here
    if manifest["metadata"]["ownerReferences"][0]["uid"] not in {owner.uid for owner in observed.owners}:
        others = [msgspec.to_builtins(owner) for owner in observed.owners if not owner.controller]
        metadata["ownerReferences"] = [*manifest["metadata"]["ownerReferences"], *others]
    if not changes and not metadata:
        return None
    return {"metadata": {**metadata, **made.as_read(observed)}, **({"spec": changes} if changes else {})}


class _SpecKeys(msgspec.Struct, frozen=True):
    """The annotation ``SPEC_KEYS``: which labels and annotations came from the LocalService's spec."""

    labels: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()


def _former_keys(service: KubeService) -> _SpecKeys:
    try:
        return msgspec.json.decode(service.annotations.get(SPEC_KEYS, "{}"), type=_SpecKeys)
    except msgspec.MsgspecError:
        return _SpecKeys()  # others wrote it


def _covers(wanted: Any, observed: Any) -> bool:
    """Whether *observed* has all that is *wanted*; the server may have filled in more.

    >>> _covers([{"port": 80}], [{"port": 80, "nodePort": 30080}]), _covers(None, None), _covers(False, None)
    (True, True, True)
    >>> _covers([{"port": 80}], [{"port": 80}, {"port": 81}]), _covers(None, "Local")
    (False, False)
    """
    match wanted, observed:
        case _, None:
            return not wanted
        case dict(), dict():
            return all(_covers(value, observed.get(key)) for key, value in wanted.items())
        case list(), list():
            return len(wanted) == len(observed) and all(map(_covers, wanted, observed))
    return bool(wanted == observed)
