"""Which labels a pod needs so that node Services find it."""

from collections.abc import Collection, Iterable

from rpcregistry.model import LOCAL_LABELS, LabelSelector, Pod
from rpcregistry.names import label_value
from rpcregistry.plan.localservices import local_label
from rpcregistry.plan.pods import is_finished


def plan(
    pod: Pod, selectors: Iterable[LabelSelector], locals_: Collection[str], node_label: str
) -> dict[str, str | None]:
    """The labels to set on the pod, and (None) those to remove; empty if all are right.

    *selectors*: those of its namespace's LocalServices.  *locals_*: the names of the LocalServices that it
    asks for.  Only the node label and those under ``LOCAL_LABELS`` are ours.
    """
    if pod.terminating or is_finished(pod):
        return {}
    asked = {local_label(name): "true" for name in locals_}
    ours = [key for key in pod.labels if key.startswith(LOCAL_LABELS)]
    wanted: dict[str, str | None] = {**dict.fromkeys(ours), **asked}
    after = {**pod.labels, **asked}
    if pod.node_name and (asked or any(selector.matches(after) for selector in selectors)):
        wanted[node_label] = label_value(pod.node_name)
    return {key: value for key, value in wanted.items() if pod.labels.get(key) != value}
