"""Which labels a pod needs so that node Services find it."""

from collections.abc import Collection, Iterable

import msgspec

from rpcregistry.model import LOCAL_LABELS, LabelSelector, Pod
from rpcregistry.names import label_value
from rpcregistry.plan.localservices import local_label
from rpcregistry.plan.pods import is_finished

# Labels to set, and (None) to remove.
Labels = dict[str, str | None]


class SetLabels(msgspec.Struct, frozen=True):
    """Set and remove labels of a pod."""

    pod: Pod
    labels: Labels


def write_of(op: SetLabels) -> tuple[object, ...]:
    """The identity of a write among those of a pod's key: one that only removes is another one."""
    return op.pod.uid, op.labels == removals(op.labels)


def plan(
    pod: Pod,
    selectors: Iterable[LabelSelector],
    locals_: Collection[str],
    node_label: str,
    unknown: Iterable[str] = (),
) -> Labels:
    """The labels to set on the pod, and (None) those to remove; empty if all are right.

    *selectors*: those of its namespace's LocalServices.  *locals_*: the names of the LocalServices that it
    asks for; *unknown*: of those for which it may not have the permission, so their labels stay as they are.
    Only the node label and those under ``LOCAL_LABELS`` are ours.
    """
    if pod.terminating or is_finished(pod):
        return {}
    asked = {local_label(name): "true" for name in locals_}
    asked |= {label: pod.labels[label] for label in map(local_label, unknown) if label in pod.labels}
    ours = [key for key in pod.labels if key.startswith(LOCAL_LABELS)]
    wanted: Labels = {**dict.fromkeys(ours), **asked}
    after = {**pod.labels, **asked}
    if pod.node_name and (asked or any(selector.matches(after) for selector in selectors)):
        wanted[node_label] = label_value(pod.node_name)
    return {key: value for key, value in wanted.items() if pod.labels.get(key) != value}


def removals(labels: Labels) -> Labels:
    """Those of *labels* that are to be removed."""
    return {key: value for key, value in labels.items() if value is None}


def unkept(labels: Labels, answer: Pod) -> list[str]:
    """The labels that *answer*, the server's to our patch of *labels*, has otherwise."""
    return [f"metadata.labels[{key}]" for key, value in labels.items() if answer.labels.get(key) != value]
