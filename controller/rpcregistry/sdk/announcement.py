"""Plans the patches of our own pod that declare services, and that withdraw them.

Others write to the same pod and annotation.  So our annotation ``REGISTERED`` records which entries are ours,
and whether the label is.  A process that is restarted in its pod finds there what it registered before, and
we never change others' entries.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from rpcregistry.dialects import Dialect, read, write
from rpcregistry.manifests import Resource
from rpcregistry.model import Declaration, ObjectKey

REGISTERED = "rpcregistry.dev/registered"

Entry = tuple[str, int | None]  # service name and port: they identify an entry of a pod


class OwnPod(msgspec.Struct, frozen=True, kw_only=True):
    """The pod that this process runs in, with all of its labels and annotations."""

    key: ObjectKey
    uid: str
    resource_version: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    uid: str
    resource_version: str
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Pod(msgspec.Struct):
    metadata: _Meta


class _Ours(msgspec.Struct, frozen=True, omit_defaults=True):
    """Our share of one dialect's annotation: *entries*, and whether the *label* is ours."""

    entries: frozenset[Entry] = frozenset()
    label: bool = False


_pods = msgspec.json.Decoder(_Pod)
_records = msgspec.json.Decoder(dict[str, _Ours])


def _decode(data: bytes | msgspec.Raw) -> OwnPod:
    meta = _pods.decode(data).metadata
    return OwnPod(
        key=ObjectKey(meta.namespace, meta.name),
        uid=meta.uid,
        resource_version=meta.resource_version,
        labels=meta.labels or {},
        annotations=meta.annotations or {},
    )


OWN_POD: Resource[OwnPod] = Resource("", "v1", "pods", "Pod", _decode)


def announce(pod: OwnPod, dialect: Dialect, declarations: Sequence[Declaration]) -> dict[str, Any] | None:
    """The merge patch after which *pod* declares *declarations*; None if it does already.

    It replaces our entries of the same service and port.  An equal entry that somebody else wrote stays
    theirs.  Raises ``ValueError`` if the pod would not declare all of them.
    """
    label, value = dialect.label
    if pod.labels.get(label, value) != value:
        raise ValueError(f"the pod's label {label} is {pod.labels[label]!r} already")
    ours, text = _ours(pod, dialect), pod.annotations.get(dialect.annotation)
    entries = {(declared.service_name, declared.port) for declared in declarations}
    # Without our old entries of these services and ports, the rest is theirs, or of other services.
    kept = write(dialect, text, (), without=ours.entries & entries)
    theirs, _ = read({label: value}, {dialect.annotation: kept} if kept else {})
    added = [declared for declared in declarations if declared not in theirs]
    written = write(dialect, kept, added)
    # Read it as the controllers will: their limits, or others' entries, may leave some of ours out.
    declared, problems = read({label: value}, {dialect.annotation: written} if written else {})
    if missing := [wanted for wanted in declarations if wanted not in declared]:
        reasons = "; ".join(problem.message for problem in problems) or "the dialect cannot say all of it"
        raise ValueError(f"{missing[0].service_name} cannot be registered: {reasons}")
    now_ours = ours.entries - entries | {(declared.service_name, declared.port) for declared in added}
    return _patch(pod, dialect, written, _Ours(now_ours, ours.label or label not in pod.labels))


def withdraw(pod: OwnPod, dialect: Dialect, entries: Collection[Entry]) -> dict[str, Any] | None:
    """The merge patch that removes those of *entries* that are ours; None if none is.

    It removes the label, too, if that is ours and no entry needs it any more.  Raises ``ValueError`` if
    somebody made the annotation unreadable.
    """
    ours = _ours(pod, dialect)
    kept = write(dialect, pod.annotations.get(dialect.annotation), (), ours.entries.intersection(entries))
    rest = ours.entries.difference(entries)
    return _patch(pod, dialect, kept, _Ours(rest, ours.label and kept is not None))


def is_lost(entries: Collection[Entry], declared: Iterable[Declaration]) -> bool:
    """Whether a pod that declares *declared* lacks some of *entries*.

    Only service and port count: a pod with two dialects that differ declares what one of them says.
    """
    return not set(entries) <= {(found.service_name, found.port) for found in declared}


def _ours(pod: OwnPod, dialect: Dialect) -> _Ours:
    return _record(pod).get(dialect.annotation, _Ours())


def _record(pod: OwnPod) -> dict[str, _Ours]:
    try:
        return _records.decode(pod.annotations.get(REGISTERED, "{}"))
    except msgspec.MsgspecError:
        return {}  # somebody edited it: we own nothing then


def _patch(pod: OwnPod, dialect: Dialect, text: str | None, ours: _Ours) -> dict[str, Any] | None:
    """The patch that makes the annotation *text* and ``REGISTERED`` record *ours*; None if both are so."""
    label, value = dialect.label
    record = _record(pod)
    had = record.pop(dialect.annotation, _Ours())
    if ours != _Ours():
        record[dialect.annotation] = ours
    labels = {label: value} if text else {label: None} if had.label else {}
    registered = msgspec.json.encode(record, order="deterministic").decode() if record else None
    annotations = {dialect.annotation: text, REGISTERED: registered}
    if all(pod.labels.get(key) == wanted for key, wanted in labels.items()) and all(
        pod.annotations.get(key) == wanted for key, wanted in annotations.items()
    ):
        return None
    return {
        "metadata": {
            "resourceVersion": pod.resource_version,
            "labels": labels,
            "annotations": annotations,
        }
    }
