"""Keeps the labels of ``--generated-labels`` on the objects that we generate."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from rpcregistry.manifests import Resource
from rpcregistry.model import LocalService, ObjectKey, RpcService
from rpcregistry.plan import generatedlabels as planning
from rpcregistry.reconcile.ports import Change, Clock, Kube, Source
from rpcregistry.reconcile.refusals import Backoffs

T = TypeVar("T", RpcService, LocalService)


class GeneratedLabelReconciler(Generic[T]):
    """Patches the labels of one object of *resource*, and only if one is missing, wrong or left over."""

    def __init__(
        self, *, kube: Kube, resource: Resource[T], found: Source[T], labels: Mapping[str, str], clock: Clock
    ) -> None:
        self._backoffs: Backoffs[ObjectKey, planning.SetLabels] = Backoffs(planning.write_of, clock)
        self._kube = kube
        self._resource: Resource[T] = resource
        self._found: Source[T] = found
        self._labels = labels

    def keys(self, change: Change[T]) -> set[ObjectKey]:
        """The object's key, if its labels are not right."""
        return {change.new.key} if change.new and planning.plan(change.new, self._labels) else set()

    def every_key(self) -> set[ObjectKey]:
        """The keys of all objects whose labels are not right."""
        return {found.key for found in self._found.store.values() if planning.plan(found, self._labels)}

    def reconcile(self, key: ObjectKey) -> bool:
        """Put the object's labels right; return whether that was needed.

        A refused write costs only what it would add: what is to go goes, then this raises ``Partial``.
        """
        found = self._found.store.get(key)
        op = planning.plan(found, self._labels) if found else None
        attempt = self._backoffs.of(key)
        if op:
            attempt.make(op, lambda op: self._write(key, op), planning.without_additions(op))
        attempt.finish()
        return op is not None

    def _write(self, key: ObjectKey, op: planning.SetLabels) -> None:
        self._found.observe(self._kube.patch(self._resource, key, op.patch))
