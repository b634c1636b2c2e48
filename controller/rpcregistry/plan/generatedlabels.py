"""Labels that people want on the objects that we generate (``--generated-labels``)."""

from collections.abc import Mapping
from typing import Any

from rpcregistry.manifests import made
from rpcregistry.model import GENERATED_LABELS, LocalService, RpcService


def plan(found: RpcService | LocalService, wanted: Mapping[str, str]) -> dict[str, Any] | None:
    """A merge patch that gives a generated object the *wanted* labels; None if it has them.

    An annotation remembers which labels are ours, so that they go with the flag.  Other labels stay.  A
    declared object belongs to the person who declared it.
    """
    if not found.generated or found.deleting:
        return None
    labels: dict[str, str | None] = {**dict.fromkeys(found.label_keys), **wanted}
    if found.label_keys == tuple(sorted(wanted)) and all(
        found.labels.get(key) == value for key, value in labels.items()
    ):
        return None
    annotations = {GENERATED_LABELS: made.label_keys(wanted) if wanted else None}
    return {"metadata": {**made.as_read(found), "labels": labels, "annotations": annotations}}
