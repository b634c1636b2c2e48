"""Labels that people want on the objects that we generate (``--generated-labels``)."""

from collections.abc import Mapping
from typing import Any

import msgspec

from rpcregistry.manifests import made
from rpcregistry.model import GENERATED_LABELS, LocalService, RpcService


class SetLabels(msgspec.Struct, frozen=True):
    """Merge *labels*, and which of them are ours, into a generated object; None removes one."""

    found: RpcService | LocalService
    labels: Mapping[str, str | None]
    annotations: Mapping[str, str | None]

    @property
    def patch(self) -> dict[str, Any]:
        """The merge patch."""
        return {
            "metadata": {**made.as_read(self.found), "labels": self.labels, "annotations": self.annotations}
        }


def without_additions(op: SetLabels) -> SetLabels | None:
    """*op* without what it adds; None if it adds nothing, or does nothing else.

    The annotation goes on naming what was ours, so that the rest is still put right.
    """
    gone = {key: None for key, value in op.labels.items() if value is None and key in op.found.labels}
    return SetLabels(op.found, gone, {}) if gone and any(op.labels.values()) else None


def write_of(op: SetLabels) -> tuple[object, ...]:
    """The identity of a write among those of an object: one that only removes is another one."""
    return op.found.uid, bool(op.annotations)


def plan(found: RpcService | LocalService, wanted: Mapping[str, str]) -> SetLabels | None:
    """What gives a generated object the *wanted* labels; None if it has them.

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
    return SetLabels(found, labels, {GENERATED_LABELS: made.label_keys(wanted) if wanted else None})
