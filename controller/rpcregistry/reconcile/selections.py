"""Which pods each object with a selector selects, updated with each change."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from rpcregistry.manifests import Named
from rpcregistry.model import LabelSelector, ObjectKey, Pod
from rpcregistry.reconcile.ports import Change, Store

T = TypeVar("T", bound=Named)


class Selections(Generic[T]):
    """Which pods each object selects; *selector*: an object's, or None.  For any thread."""

    def __init__(self, pods: Store[Pod], selector: Callable[[T], LabelSelector | None]) -> None:
        self._pods = pods
        self._selector = selector
        self._lock = threading.Lock()  # protects _selectors and _selected
        self._selectors: dict[str, dict[ObjectKey, LabelSelector]] = {}  # by namespace
        self._selected: dict[ObjectKey, set[str]] = {}

    def pods_of(self, key: ObjectKey) -> set[str]:
        """A copy of the set of selected pods' names."""
        with self._lock:
            return set(self._selected.get(key, ()))

    def selectors(self, namespace: str) -> list[LabelSelector]:
        """All selectors of a namespace."""
        with self._lock:
            return list(self._selectors.get(namespace, {}).values())

    def touched_by(self, change: Change[Pod]) -> set[ObjectKey]:
        """The objects that select the pod as it was or as it is."""
        pods = [pod for pod in (change.old, change.new) if pod]
        if not pods:
            return set()
        with self._lock:
            selectors = dict(self._selectors.get(pods[0].namespace, {}))
        return {
            key for key, selector in selectors.items() if any(selector.matches(pod.labels) for pod in pods)
        }

    def note_pod(self, change: Change[Pod]) -> None:
        """Match the changed pod against all selectors of its namespace."""
        pod = change.new or change.old
        if pod is None:
            return
        with self._lock:
            for key, selector in self._selectors.get(pod.namespace, {}).items():
                names = self._selected[key]
                names.discard(pod.name)
                if change.new and selector.matches(change.new.labels):
                    names.add(pod.name)

    def note(self, change: Change[T]) -> None:
        """Match all pods of the namespace if the object's selector changed."""
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
