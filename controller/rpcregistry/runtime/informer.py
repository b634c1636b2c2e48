"""Keeps a resource in memory: LIST it, then WATCH it from there, for as long as the process runs.

An *informer* fills a *store* and notifies its subscribers of each change.  The server's answers may be late,
repeated, cut off or missing for a while; the store then keeps what it has.  After a watch has ended, the
informer continues in one of these ways (``restart``):

* it ended well, or broke: continue after its last event, if the server is not behind that;
* its resourceVersion is too old, or the server was restored from a backup: LIST again;
* the server refuses to be read: the contents are *unknown*, which is not the same as empty.
"""

import random
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

import msgspec

from rpcregistry.errors import Expired, Failure, KindMissing, Rejected, Retry, Unknown
from rpcregistry.logs import Log
from rpcregistry.manifests import Named
from rpcregistry.model import ObjectKey
from rpcregistry.watch import Applied, Bookmark, Deleted, Listing, Unreadable, WatchEvent

T = TypeVar("T", bound=Named)

log = Log(__name__)

FIRST_PAUSE = 1.6
# There are few readers, so a low limit is safe: after an outage the store is right again within seconds.
LONGEST_PAUSE = 10.0
HEALTHY_AFTER = 10.0  # seconds that a watch has to last before its end counts as no failure


class Change(msgspec.Struct, Generic[T], frozen=True):
    """A change of one object; *listed*: shown by a LIST (or by its absence there), not by a watch event.

    *ours*: it is the result of our own write.

    If an object was deleted and created again between two LISTs, that is one Change with two uids.
    """

    old: T | None
    new: T | None
    listed: bool = False
    ours: bool = False


class ListWatch(Protocol[T]):
    """What an informer reads; each method may raise an ``errors.Failure``."""

    def list(self) -> Listing[T]: ...
    def watch(self, resource_version: int) -> Iterator[WatchEvent[T]]: ...
    def newest_resource_version(self) -> int: ...


class Store(Generic[T]):
    """The objects of an informer, found by key or by *indexes*: functions from an object to values.

    Any thread may read.  The returned lists are the caller's own; the objects in them never change.
    """

    def __init__(self, indexes: Mapping[str, Callable[[T], Iterable[Hashable]]]) -> None:
        self._functions = indexes
        self._lock = threading.Lock()  # protects _items, _versions and _indexes
        self._fill({}, {})

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

    def put(self, item: T, version: int) -> Change[T] | None:
        """Store *item*, unless it is known at *version* or later; return the change."""
        key, old = item.key, self._items.get(item.key)
        if old and version <= self._versions[key]:
            return None
        with self._lock:
            self._versions[key] = version
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
        return Change(old, None)

    def replace(self, items: Mapping[ObjectKey, T], versions: dict[ObjectKey, int]) -> list[Change[T]]:
        """Replace all contents with *items* at once; return the changes."""
        before = self._items
        # Keep the old instance of an unchanged object: that halves the memory while both lists exist.
        after = {key: before[key] if before.get(key) == item else item for key, item in items.items()}
        self._fill(after, versions)
        return [
            Change(before.get(key), after.get(key), listed=True)
            for key in {**before, **after}
            if before.get(key) is not after.get(key)
        ]

    def _fill(self, items: dict[ObjectKey, T], versions: dict[ObjectKey, int]) -> None:
        indexes: dict[str, dict[Hashable, dict[ObjectKey, T]]] = {name: {} for name in self._functions}
        for key, item in items.items():
            _index(self._functions, indexes, key, item)
        with self._lock:
            self._items, self._versions, self._indexes = items, versions, indexes

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


class Restart(msgspec.Struct, frozen=True):
    """How to continue: the reason, and whether with a LIST."""

    reason: str
    relist: bool = False


def restart(failure: Failure | None) -> Restart:
    """How to continue after *failure*; None is a watch that the server ended."""
    match failure:
        case None:
            return Restart("ended")
        case Expired():
            return Restart("expired", relist=True)
        case Rejected():
            return Restart("refused")
        case Retry(after=float()):
            return Restart("throttled")
        case _:
            return Restart("broken")


def pause(how: Restart, times: int, healthy: bool) -> float:
    """The seconds to wait, before jitter takes up to half of them.

    *times*: how often in a row, this time included, the watch was restarted for that reason without having
    been *healthy* in between.  The first "expired" costs no pause: the server answers, and a LIST is enough.

    >>> [pause(Restart("broken"), times, healthy=False) for times in (1, 2, 3, 4, 5000)]
    [1.6, 3.2, 6.4, 10.0, 10.0]
    >>> [pause(Restart("expired", relist=True), times, healthy=False) for times in (1, 2, 3)]
    [0.0, 1.6, 3.2]
    >>> pause(Restart("ended"), 1, healthy=True)
    0.0
    """
    if how.reason == "ended" and healthy:
        return 0.0
    times -= how.reason == "expired"
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(times - 1, 10)) if times else 0.0


class Informer(Generic[T]):
    """Keeps the *store* equal to what *reader* reads.  ``run`` is the body of its thread.

    *on_change* is called with every change, in order, once the store has it.  *on_listed* is called after a
    LIST and its changes, and when the source becomes readable again.  *on_restart* is called with the reason
    of each restarted watch.  The threads that change the store call all of them: they must not block.
    """

    def __init__(
        self,
        name: str,
        reader: ListWatch[T],
        indexes: Mapping[str, Callable[[T], Iterable[Hashable]]],
        *,
        on_change: Callable[[Change[T]], None],
        on_listed: Callable[[], None],
        on_restart: Callable[[str], None],
        relist_period: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self.name = name
        self.store: Store[T] = Store(indexes)
        self.filled = threading.Event()  # set after the first LIST
        self._reader = reader
        self._on_change = on_change
        self._on_listed = on_listed
        self._on_restart = on_restart
        self._relist_period = relist_period
        self._clock = clock
        self._wait = wait
        self._stopping = threading.Event()
        # Subscribers are called under the lock, so that all see the changes in the same order.
        self._lock = threading.Lock()  # protects store (to write) and _deleted
        self._deleted: dict[int, set[str]] = {}  # by thread in ``second_look``: the uids deleted meanwhile
        # The rest is written by the thread of ``run``, and replaced as a whole.  Under the lock, others read
        # these three, which are those of the store then,
        self._position: int | None = None  # the watch continues after this resourceVersion; None: LIST first
        self._highest = 0  # the server's highest resourceVersion: a lower one means a restored backup
        self._listed_at = 0.0
        # and without it, these four.
        self.heard: float | None = None  # when an answer or an event came last, on the clock
        self._refused: Rejected | None = None
        self._went_back: str | None = None
        self.interrupted = ""  # why the last watch was, until one lasts
        self._quarantined: dict[ObjectKey, str] = {}  # of the thread alone, as the next one
        self._accepted_at: float | None = None  # when the server accepted the watch that runs

    @property
    def unknown(self) -> str | None:
        """Why the store cannot be relied on, or None if it can."""
        refused = self._refused
        return str(refused) if refused else self._went_back

    @property
    def kind_missing(self) -> bool:
        """Whether reading is refused because the API server does not serve the kind."""
        return isinstance(self._refused, KindMissing)

    def run(self) -> None:
        """List and watch until ``stop``.  Raises any exception but a ``Failure``: it is our mistake."""
        before, times = "", 0
        while not self._stopping.is_set():
            began, failure = self._clock(), None
            self._accepted_at = None
            try:
                self._follow()
            except Failure as error:
                failure = error
            if self._stopping.is_set():
                return
            healthy = self._clock() - began >= HEALTHY_AFTER
            how = restart(failure)
            times = times + 1 if how.reason == before and not healthy else 1
            before = how.reason
            if how.relist:
                self._position = None
            if isinstance(failure, Rejected):
                self._refused = failure
            self._on_restart(how.reason)
            seconds = pause(how, times, healthy) * random.uniform(0.5, 1)
            seconds = max(seconds, getattr(failure, "after", None) or 0.0)
            if failure:
                self._log_interruption(str(failure), seconds)
            self._wait(self._stopping, seconds)

    def _log_interruption(self, reason: str, seconds: float) -> None:
        """Log *reason*, and repeat it only after another one or after a watch that lasted."""
        if reason != self.interrupted or self._lasts():
            log.warning(
                "watch interrupted", resource=self.name, reason=reason, retry_seconds=round(seconds, 1)
            )
        self.interrupted = reason

    def _log_recovery(self) -> None:
        if self._accepted_at is None:
            self._accepted_at = self._clock()
        if self.interrupted and self._lasts():
            log.info("watch goes on", resource=self.name)
            self.interrupted = ""

    def _lasts(self) -> bool:
        return self._accepted_at is not None and self._clock() - self._accepted_at >= HEALTHY_AFTER

    def stop(self) -> None:
        """End ``run`` once its reader returns."""
        self._stopping.set()

    def observe(self, written: T) -> None:
        """Store what our own write returned, without waiting for its watch event.

        Only for nouns that carry their ``resource_version``.
        """
        version = int(getattr(written, "resource_version", 0))
        with self._lock:
            if self.store.get(written.key) is None and version <= (self._position or 0):
                return  # the watch is ahead of the write: the object was deleted again
            change = self.store.put(written, version)
            if change:
                self._on_change(msgspec.structs.replace(change, ours=True))

    def second_look(self) -> list[T]:
        """Return the present objects, by a LIST of its own; raises ``Unknown`` while they cannot be read.

        An object that cannot be decoded exists: it is returned as it was last decoded.  Objects that the
        store lacks, because an earlier LIST did, are added unless the watch deleted them.
        """
        if self.unknown:
            raise Unknown(self.unknown)
        look, deleted = threading.get_ident(), set[str]()
        with self._lock:
            highest, listed_at = self._highest, self._listed_at
            self._deleted[look] = deleted
        try:
            listing = self._reader.list()
            if listing.resource_version < highest:
                raise Unknown(_restored(self.name, highest, listing.resource_version))
            with self._lock:
                # The watch may be ahead of this LIST: do not add what it saw deleted.
                for item in listing.items if self._listed_at == listed_at else ():
                    if self.store.get(item.key) is None and item.uid not in deleted:
                        self._notify(self.store.put(item, listing.resource_version))
        finally:
            with self._lock:
                del self._deleted[look]
        return [*listing.items, *self._last_read(listing.unreadable).values()]

    # Called by the informer's thread only.

    def _follow(self) -> None:
        """LIST if needed, then watch until the watch ends."""
        if self._position is not None and self._clock() - self._listed_at < self._relist_period:
            # A restored server may be behind our position: a watch from there would stay silent.
            if self._reader.newest_resource_version() < self._position:
                self._position = None
        else:
            self._position = None
        position = self._list() if self._position is None else self._position
        for event in self._reader.watch(position):
            self._take(event)
            if self._stopping.is_set():
                return

    def _list(self) -> int:
        highest = self._highest  # before the LIST begins: our own writes may overtake it
        listing = self._reader.list()
        version = listing.resource_version
        went_back = version < highest
        with self._lock:
            self._refused = None
            self._went_back = _restored(self.name, highest, version) if went_back else None
            items = {item.key: item for item in listing.items}
            items |= self._last_read(listing.unreadable)
            versions = dict.fromkeys(items, version)
            if not went_back:
                for item in self.store.values():
                    # Keep our own writes that are newer than the list.
                    if (written := self.store.version(item.key)) > version:
                        items[item.key], versions[item.key] = item, written
            self._quarantined.clear()
            for unreadable in listing.unreadable:
                self._quarantine(unreadable)
            self._position, self._highest = version, max(highest, version)
            self._listed_at = self._clock()
            for change in self.store.replace(items, versions):
                self._on_change(change)
        self.heard = self._clock()
        self.filled.set()
        self._on_listed()
        return version

    def _take(self, event: WatchEvent[T]) -> None:
        self.heard = self._clock()
        self._log_recovery()
        if self._refused:  # the server accepted the watch
            self._refused = None
            self._on_listed()
        position, version = self._position or 0, event.resource_version
        if isinstance(event, Bookmark) and version < position:
            raise Expired(_restored(self.name, position, version))
        if version < position and not isinstance(event, Unreadable):
            log.warning("event out of order", resource=self.name, resource_version=version, position=position)
            return
        with self._lock:
            match event:
                case Applied(item, _):
                    self._quarantined.pop(item.key, None)
                    self._notify(self.store.put(item, version))
                case Deleted(key, uid, _):
                    for deleted in self._deleted.values():
                        deleted.add(uid)
                    self._quarantined.pop(key, None)
                    self._notify(self.store.remove(key, uid))
                case Unreadable():
                    self._quarantine(event)
            self._position, self._highest = max(version, position), max(version, self._highest)
        if self._went_back and version >= self._highest:
            raise Expired(f"{self.name}: the server is as far again as it was")

    def _notify(self, change: Change[T] | None) -> None:
        if change:
            self._on_change(change)

    def _last_read(self, unreadable: Iterable[Unreadable]) -> dict[ObjectKey, T]:
        """The last decoded version of those *unreadable* objects that have one."""
        held = ((found, self.store.get(found.key)) for found in unreadable)
        return {found.key: item for found, item in held if item and item.uid == found.uid}

    def _quarantine(self, found: Unreadable) -> None:
        if self._quarantined.get(found.key) != found.message:
            self._quarantined[found.key] = found.message
            log.warning("unreadable", resource=self.name, object=str(found.key), reason=found.message)


def _restored(name: str, before: int, now: int) -> str:
    return f"{name}: the server's resourceVersion went back from {before} to {now}"
