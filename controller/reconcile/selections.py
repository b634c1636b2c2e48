"""Which pods each object with a selector selects, kept up change by change."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from controller.manifests import Named
from controller.model import LabelSelector, ObjectKey, Pod
from controller.reconcile.ports import Change, Store

T = TypeVar("T", bound=Named)


class Selections(Generic[T]):
    """Which pods each object selects; *selector*: an object's, or None where it has none."""

    def __init__(self, pods: Store[Pod], selector: Callable[[T], LabelSelector | None]) -> None:
        self._pods = pods
        self._selector = selector
        self._lock = threading.Lock()
        self._selectors: dict[str, dict[ObjectKey, LabelSelector]] = {}  # by namespace
        self._selected: dict[ObjectKey, set[str]] = {}

    def pods_of(self, key: ObjectKey) -> set[str]:
        """The names of the selected pods; the caller's own set."""
        with self._lock:
            return set(self._selected.get(key, ()))

    def selectors(self, namespace: str) -> list[LabelSelector]:
        """All selectors of a namespace."""
        with self._lock:
            return list(self._selectors.get(namespace, {}).values())

    def pod_changed(self, change: Change[Pod]) -> set[ObjectKey]:
        """The objects that selected the pod before or do now."""
        pod = change.new or change.old
        touched: set[ObjectKey] = set()
        if pod is None:
            return touched
        with self._lock:
            for key, selector in self._selectors.get(pod.namespace, {}).items():
                names = self._selected[key]
                if pod.name in names:
                    touched.add(key)
                    names.discard(pod.name)
                if change.new and selector.matches(change.new.labels):
                    touched.add(key)
                    names.add(pod.name)
        return touched

    def changed(self, change: Change[T]) -> None:
        """Select anew where the selector is new."""
        item = change.new or change.old
        if item is None:
            return
        selector = self._selector(change.new) if change.new else None
        with self._lock:
            selectors = self._selectors.setdefault(item.key.namespace, {})
            before = selectors.pop(item.key, None)
            if selector is None:
                self._selected.pop(item.key, None)
                return
            selectors[item.key] = selector
            if selector != before:
                self._selected[item.key] = {
                    pod.name
                    for pod in self._pods.values()
                    if pod.namespace == item.key.namespace and selector.matches(pod.labels)
                }
