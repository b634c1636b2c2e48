"""What an earlier process published, and nothing explains since this one began."""

import threading
from collections.abc import Collection, Iterable, Sequence

from rpcregistry.layouts import Layout
from rpcregistry.model import Endpoint, Pod
from rpcregistry.plan.leftovers import items_of, published_items
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.publication import Place, place
from rpcregistry.plan.rows import declared_rows

Leftover = tuple[str, str, str]  # service name, its path in a layout, item


class Leftovers:
    """The items in our znodes that were there before this process, and that no row has explained since.

    What a row explained once is none any more: that it goes later has a cause that we see.  Layouts that are
    not among *layouts* have none.  For any thread.
    Lost with the process: the next one holds again what it finds unexplained.
    """

    def __init__(self, layouts: Sequence[Layout], cluster_id: str) -> None:
        self._layouts = layouts
        self._cluster_id = cluster_id
        self._lock = threading.Lock()  # protects all that follows
        self._left: dict[str, dict[str, set[str]]] = {}  # by name and path: the items
        self._gone: dict[str, set[str]] = {}  # by path: items that are confirmed to belong to no pod
        self._met: set[str] = set()  # paths that were planned once
        # By name, before all its paths were met: the rows that were listed, and those whose pods went.
        self._rows: dict[str, dict[Place, Endpoint]] = {}
        self._went: dict[str, dict[Place, Endpoint]] = {}

    def note_rows(self, name: str, rows: Iterable[Endpoint]) -> None:
        """Note what a status listed, before the first plan of the name reads the latest one."""
        with self._lock:
            if not self._has_met(name):
                self._rows.setdefault(name, {}).update((place(row), row) for row in rows)

    def note_went(self, name: str, rows: Sequence[Endpoint]) -> bool:
        """Note *rows* whose pods this process saw go; return whether something left over was theirs."""
        with self._lock:
            if not self._has_met(name):
                self._went.setdefault(name, {}).update((place(row), row) for row in rows)
            met = [layout for layout in self._layouts if layout.path(name) in self._met]
            taken = [self._take_gone(layout, name, rows) for layout in met]
        return any(taken)

    def left(
        self, layout: Layout, name: str, view: ObservedZnodes, rows: Iterable[Endpoint]
    ) -> frozenset[str]:
        """What of *view* is left over, now that *rows* are listed."""
        path = layout.path(name)
        if layout not in self._layouts:
            return frozenset()
        with self._lock:
            left = self._left.get(name, {}).get(path, set())
            if path not in self._met:
                self._met.add(path)
                rows = [*rows, *self._rows.get(name, {}).values()]
                self._put(name, path, published_items(layout, view, self._cluster_id))
                self._take_gone(layout, name, self._went.get(name, {}).values())
                left = self._left.get(name, {}).get(path, set())
                if self._has_met(name):
                    self._rows.pop(name, None)
                    self._went.pop(name, None)
            gone = self._gone.get(path)
            if left or gone:
                explained = items_of(layout, name, rows, self._cluster_id)
                left = left - explained
                if gone:
                    gone.difference_update(explained)
            self._put(name, path, left)
            return frozenset(left)

    def of(self, name: str) -> set[Leftover]:
        """All of a name."""
        with self._lock:
            return {(name, path, item) for path, items in self._left.get(name, {}).items() for item in items}

    def gone(self, layout: Layout, name: str) -> frozenset[str]:
        """The items that were left over and belong to no pod."""
        with self._lock:
            return frozenset(self._gone.get(layout.path(name), ()))

    def _has_met(self, name: str) -> bool:
        return all(layout.path(name) in self._met for layout in self._layouts)

    def _take_gone(self, layout: Layout, name: str, rows: Iterable[Endpoint]) -> bool:
        """Take what *rows* explain for gone, not for left over; return whether there was some."""
        path = layout.path(name)
        left = self._left.get(name, {}).get(path, set())
        gone = left & items_of(layout, name, rows, self._cluster_id) if left else set()
        if gone:
            self._gone.setdefault(path, set()).update(gone)
            self._put(name, path, left - gone)
        return bool(gone)

    def discard(self, gone: Iterable[Leftover]) -> None:
        """Drop what is confirmed to belong to no pod."""
        with self._lock:
            for name, path, item in gone:
                self._gone.setdefault(path, set()).add(item)
                self._put(name, path, self._left.get(name, {}).get(path, set()) - {item})

    def explained_by(self, pods: Iterable[Pod], name: str) -> set[Leftover]:
        """The items by which *pods*, all of them endpoints, would be published under *name*."""
        rows = [row for pod in pods for row in declared_rows(pod, name)]
        return {
            (name, layout.path(name), item)
            for layout in self._layouts
            for item in items_of(layout, name, rows, self._cluster_id)
        }

    def _put(self, name: str, path: str, left: Collection[str]) -> None:
        if left:
            self._left.setdefault(name, {})[path] = set(left)
        elif name in self._left:
            self._left[name].pop(path, None)
            if not self._left[name]:
                del self._left[name]
