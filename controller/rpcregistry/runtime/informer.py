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
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from rpcregistry.errors import Expired, Failure, KindMissing, Rejected, Retry, Unknown
from rpcregistry.logs import Log
from rpcregistry.manifests import Named
from rpcregistry.model import ObjectKey
from rpcregistry.plan.restored import Known, list_behind, object_behind
from rpcregistry.runtime.store import Change, Store
from rpcregistry.watch import Applied, Bookmark, Deleted, Listing, Unreadable, WatchEvent

T = TypeVar("T", bound=Named)

log = Log(__name__)

FIRST_PAUSE = 1.6
# There are few readers, so a low limit is safe: after an outage the store is right again within seconds.
LONGEST_PAUSE = 10.0
HEALTHY_AFTER = 10.0  # seconds that a watch has to last before its end counts as no failure


class ListWatch(Protocol[T]):
    """What an informer reads; each method may raise an ``errors.Failure``."""

    def list(self) -> Listing[T]: ...
    def watch(self, resource_version: int) -> Iterator[WatchEvent[T]]: ...
    def newest_resource_version(self) -> int: ...


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

    *floor*: a resourceVersion that the server is known to have reached.  *on_went_back* is called with the
    reason if a quorum read shows that the server was restored to an older state; by a LIST, before its
    changes.  *before_relist* is called before each LIST but the first; it may wait for the server.
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
        floor: Callable[[], int] = lambda: 0,
        on_went_back: Callable[[str], None] = lambda _: None,
        before_relist: Callable[[], None] = lambda: None,
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
        self._floor = floor
        self._on_went_back = on_went_back
        self._before_relist = before_relist
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
        self._highest = 0  # the server's highest resourceVersion: a lower one means that it was restored
        self._listed_at = 0.0
        # and without it, these four, and _highest.
        self.heard: float | None = None  # when an answer or an event came last, on the clock
        self._refused: Rejected | None = None
        self.interrupted = ""  # why the last watch was, until one lasts
        self.restarts: Mapping[str, int] = {}  # by reason, how often the watch was begun again
        self._quarantined: dict[ObjectKey, str] = {}  # of the thread alone, as the next one
        self._accepted_at: float | None = None  # when the server accepted the watch that runs

    @property
    def unknown(self) -> str | None:
        """Why the store cannot be relied on, or None if it can."""
        refused = self._refused
        return str(refused) if refused else None

    @property
    def highest(self) -> int:
        """The server's highest resourceVersion that was seen, since it went back if it did."""
        return self._highest

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
            self.restarts = {**self.restarts, how.reason: self.restarts.get(how.reason, 0) + 1}
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

    def lacks(self, found: T) -> bool:
        """Whether no watch event will bring what a read *found*: a LIST lacked it.  ``second_look`` adds it.

        Only for nouns that carry their ``resource_version``.
        """
        version = int(getattr(found, "resource_version", 0))
        with self._lock:
            return self.store.get(found.key) is None and version <= (self._position or 0)

    def second_look(self) -> list[T]:
        """Return the present objects, by a LIST of its own; raises ``Unknown`` while they cannot be read.

        An object that cannot be decoded exists: it is returned as it was last decoded.  Objects that the
        store lacks, because an earlier LIST did, are added unless the watch deleted them.
        """
        if self.unknown:
            raise Unknown(self.unknown)
        look, deleted = threading.get_ident(), set[str]()
        with self._lock:
            highest, listed_at = max(self._highest, self._floor()), self._listed_at
            self._deleted[look] = deleted
        try:
            listing = self._reader.list()
            own = _own(listing)
            with self._lock:
                # If the informer listed meanwhile, it has judged the server.
                same = self._listed_at == listed_at
                back = self._back(highest, listing) if same else ""
            if back:
                self._on_went_back(back)
                raise Unknown(back)
            with self._lock:
                # The watch may be ahead of this LIST: do not add what it saw deleted.
                for item in listing.items if self._listed_at == listed_at else ():
                    if self.store.get(item.key) is None and item.uid not in deleted:
                        self._notify(self.store.put(item, listing.resource_version, own.get(item.key)))
        finally:
            with self._lock:
                del self._deleted[look]
        return [*listing.items, *self._last_read(listing.unreadable).values()]

    def reach(self, version: int) -> None:
        """Compare the server with *version*, which it had reached, unless we saw it as far already."""
        if self._highest < version:
            back = list_behind(self.name, version, self._reader.newest_resource_version())
            if back:
                self._on_went_back(back)

    # Called by the informer's thread only.

    def _follow(self) -> None:
        """LIST if needed, then watch until the watch ends."""
        if self._position is not None and self._clock() - self._listed_at < self._relist_period:
            # A restored server may be behind our position: a watch from there would stay silent.
            if self._reader.newest_resource_version() < max(self._position, self._floor()):
                self._position = None
        else:
            self._position = None
        position = self._list() if self._position is None else self._position
        for event in self._reader.watch(position):
            self._take(event)
            if self._stopping.is_set():
                return

    def _list(self) -> int:
        if self.filled.is_set():
            self._before_relist()
        highest = max(self._highest, self._floor())  # before the LIST begins: our own writes may overtake it
        listing = self._reader.list()
        version = listing.resource_version
        back = self._back(highest, listing)
        if back:
            self._on_went_back(back)
        with self._lock:
            self._refused = None
            items = {item.key: item for item in listing.items}
            items |= self._last_read(listing.unreadable)
            versions, own = dict.fromkeys(items, version), _own(listing)
            if not back:
                for item in self.store.values():
                    # Keep our own writes that are newer than the list.
                    if (written := self.store.version(item.key)) > version:
                        items[item.key], versions[item.key], own[item.key] = item, written, written
            self._quarantined.clear()
            for unreadable in listing.unreadable:
                self._quarantine(unreadable)
            self._position, self._highest = version, version if back else max(highest, version)
            self._listed_at = self._clock()
            for change in self.store.replace(items, versions, own):
                self._on_change(change)
        self.heard = self._clock()
        self.filled.set()
        self._on_listed()
        return version

    def _back(self, highest: int, listing: Listing[T]) -> str:
        """Why *listing*, made when the server had reached *highest*, shows a restored one, or ``""``."""
        behind = list_behind(self.name, highest, listing.resource_version)
        if behind:
            return behind
        for item, own in zip(listing.items, listing.versions, strict=False):
            # What we wrote since the LIST was made is newer, too.
            if own < (seen := self.store.own_version(item)) <= listing.resource_version:
                return object_behind(self.name, Known(str(item.key), item.uid, seen), item.uid, own)
        return ""

    def _take(self, event: WatchEvent[T]) -> None:
        self.heard = self._clock()
        self._log_recovery()
        if self._refused:  # the server accepted the watch
            self._refused = None
            self._on_listed()
        position, version = self._position or 0, event.resource_version
        if isinstance(event, Bookmark) and version < position:
            raise Expired(list_behind(self.name, position, version))
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


def _own(listing: Listing[Any]) -> dict[ObjectKey, int]:
    return {item.key: own for item, own in zip(listing.items, listing.versions, strict=False)}
