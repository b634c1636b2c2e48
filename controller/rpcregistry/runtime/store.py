"""The objects of an informer in memory, and their changes."""

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import islice
from operator import itemgetter
from typing import Generic, TypeVar

import msgspec

from rpcregistry.manifests import Named
from rpcregistry.model import ObjectKey

T = TypeVar("T", bound=Named)


class Change(msgspec.Struct, Generic[T], frozen=True):
    """A change of one object; *listed*: shown by a LIST (or by its absence there), not by a watch event.

    *ours*: it is the result of our own write.

    If an object was deleted and created again between two LISTs, that is one Change with two uids.
    """

    old: T | None
    new: T | None
    listed: bool = False
    ours: bool = False


class Store(Generic[T]):
    """The objects of an informer, found by key or by *indexes*: functions from an object to values.

    Any thread may read.  The returned lists are the caller's own; the objects in them never change.
    """

    def __init__(self, indexes: Mapping[str, Callable[[T], Iterable[Hashable]]]) -> None:
        self._functions = indexes
        self._lock = threading.Lock()  # protects _items, _versions, _own and _indexes
        self._fill({}, {}, {})

    def get(self, key: ObjectKey) -> T | None:
        """The object, if there is one."""
        # Without the lock: one look into a dict, which CPython does in one step, and the most frequent one.
        return self._items.get(key)

    def values(self) -> list[T]:
        """All objects."""
        with self._lock:
            return list(self._items.values())

    def indexed(self, index: str, value: Hashable) -> list[T]:
        """The objects that *index* has under *value*."""
        with self._lock:
            return list(self._indexes[index].get(value, {}).values())

    def __len__(self) -> int:
        return len(self._items)

    # Writing: by the informer, one thread at a time, which therefore reads without the lock.

    def version(self, key: ObjectKey) -> int:
        """The resourceVersion up to which the object is known; 0 if there is none."""
        return self._versions.get(key, 0)

    def own_version(self, item: T) -> int:
        """The object's own resourceVersion, as it was seen last; 0 if this incarnation was not seen."""
        known = self._items.get(item.key)
        return self._own.get(item.key, 0) if known and known.uid == item.uid else 0

    def newest(self, count: int) -> list[tuple[T, int]]:
        """The objects that changed last, with their own resourceVersions; for any thread."""
        with self._lock:
            keys = islice(reversed(self._own), count)
            return [(self._items[key], self._own[key]) for key in keys if key in self._items]

    def put(self, item: T, version: int, own: int | None = None) -> Change[T] | None:
        """Store *item*, unless it is known at *version* or later; return the change.

        *own*: its own resourceVersion, if that is not *version*.
        """
        key, old = item.key, self._items.get(item.key)
        if old and version <= self._versions[key]:
            return None
        with self._lock:
            self._own.pop(key, None)
            self._versions[key], self._own[key] = version, version if own is None else own
            if old == item:
                return None
            self._drop(key)
            self._items[key] = item
            _index(self._functions, self._indexes, key, item)
        return Change(old, item)

    def remove(self, key: ObjectKey, uid: str) -> Change[T] | None:
        """Drop the object, unless another one has its name by now; return the change."""
        old = self._items.get(key)
        if old is None or old.uid != uid:
            return None
        with self._lock:
            self._drop(key)
            del self._items[key], self._versions[key]
            self._own.pop(key, None)
        return Change(old, None)

    def replace(
        self, items: Mapping[ObjectKey, T], versions: dict[ObjectKey, int], own: dict[ObjectKey, int]
    ) -> list[Change[T]]:
        """Replace all contents with *items* at once; return the changes.

        *own*: the objects' own resourceVersions, as far as they are known.
        """
        before = self._items
        # Keep the old instance of an unchanged object: that halves the memory while both lists exist.
        after = {key: before[key] if before.get(key) == item else item for key, item in items.items()}
        self._fill(after, versions, own)
        return [
            Change(before.get(key), after.get(key), listed=True)
            for key in {**before, **after}
            if before.get(key) is not after.get(key)
        ]

    def _fill(
        self, items: dict[ObjectKey, T], versions: dict[ObjectKey, int], own: dict[ObjectKey, int]
    ) -> None:
        indexes: dict[str, dict[Hashable, dict[ObjectKey, T]]] = {name: {} for name in self._functions}
        for key, item in items.items():
            _index(self._functions, indexes, key, item)
        own = dict(sorted(own.items(), key=itemgetter(1)))
        with self._lock:
            self._items, self._versions, self._own, self._indexes = items, versions, own, indexes

    def _drop(self, key: ObjectKey) -> None:
        item = self._items.get(key)
        if item is None:
            return
        for name, function in self._functions.items():
            for value in function(item):
                found = self._indexes[name].get(value, {})
                found.pop(key, None)
                if not found:
                    self._indexes[name].pop(value, None)


def _index(
    functions: Mapping[str, Callable[[T], Iterable[Hashable]]],
    indexes: dict[str, dict[Hashable, dict[ObjectKey, T]]],
    key: ObjectKey,
    item: T,
) -> None:
    for name, function in functions.items():
        for value in function(item):
            indexes[name].setdefault(value, {})[key] = item
