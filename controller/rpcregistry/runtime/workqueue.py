"""A queue of keys to work on, each at its time, and never one key twice at once.

Workers get the first change of a key at once, later ones in batches.  A failed key is requeued with growing
delay.  No key is given up, and no loop spins.
"""

import heapq
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import count
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_RETRY = 0.005
LONGEST_RETRY = 60.0
RETRIES_A_SECOND = 20
WINDOW_PER_WRITE = 2  # a window lasts at least so many times as long as the write before it,
LONGEST_WINDOW = 1.0  # but that adds no more than this: one slow write says little about the next


def backoff(failures: int, first: float = FIRST_RETRY, longest: float = LONGEST_RETRY) -> float:
    """The seconds to wait after the *failures*-th failure in a row, before jitter.

    >>> [backoff(failures) for failures in (1, 2, 3, 5000)]
    [0.005, 0.01, 0.02, 60.0]
    >>> [backoff(failures, first=1.0) for failures in (1, 2, 3, 7, 5000)]
    [1.0, 2.0, 4.0, 60.0, 60.0]
    """
    return min(longest, first * 2.0 ** min(failures - 1, 32))


def half_jitter(seconds: float) -> float:
    """A random time between half of *seconds* and all of it, which spreads keys that failed together."""
    return seconds * random.uniform(0.5, 1.0)


class _Schedule(Generic[K]):
    """Keys, each with the time at which it is due; memory is bounded by the number of keys.

    Belongs to a ``Workqueue``, and is used under its lock.
    """

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []  # has every key at its time, and some at outdated times
        self._order = count()

    def put(self, key: K, due: float) -> None:
        """Make *key* due at *due*, unless it is due earlier."""
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            if len(self._heap) > 2 * len(self._due) + 64:
                self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
                heapq.heapify(self._heap)

    def first(self) -> float:
        """When the first key is due; infinity if there is none."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def pop(self) -> K:
        """Take the key that ``first`` is about."""
        key = heapq.heappop(self._heap)[2]
        del self._due[key]
        return key

    def get(self, key: K) -> float | None:
        """When *key* is due."""
        return self._due.get(key)

    def discard(self, key: K) -> None:
        """Remove *key*, if it is in here."""
        self._due.pop(key, None)

    def __len__(self) -> int:
        return len(self._due)

    def __iter__(self) -> Iterator[float]:
        return iter(self._due.values())


class Workqueue(Generic[K]):
    """Keys that are due to be worked; any thread may call any method.

    A worker takes a key with ``get``, and ends its work with ``done`` or ``retry``.  Until then no other
    worker gets the key; if it is added meanwhile, it is due once more afterwards.

    *batch_window*: seconds between two writes of one key, at least.
    """

    def __init__(
        self,
        batch_window: float,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float], float] = half_jitter,
    ) -> None:
        self._batch_window = batch_window
        self._clock = clock
        self._jitter = jitter
        self._changed = threading.Condition()  # protects all that follows
        self._closed = False
        # A key waits in at most one of these two, and in none while it is worked.
        self._fresh: _Schedule[K] = _Schedule()
        self._failing: _Schedule[K] = _Schedule()  # keys in _failures
        self._failures: dict[K, int] = {}  # how often in a row; also while the key is worked
        self._windows: _Schedule[K] = _Schedule()  # until when an added key has to wait
        self._working: dict[K, float] = {}  # since when
        self._requeued: dict[K, float] = {}  # keys in _working that were added meanwhile: when they are due
        self._spent: deque[float] = deque()  # when workers took failing keys, without those that succeeded

    @property
    def depth(self) -> int:
        """How many keys are due and not yet taken."""
        with self._changed:
            now = self._clock()
            return sum(due <= now for schedule in (self._fresh, self._failing) for due in schedule)

    @property
    def failing(self) -> int:
        """How many keys failed in their last attempt."""
        with self._changed:
            return len(self._failures)

    @property
    def busy(self) -> bool:
        """Whether a key is due or being worked, not counting failing keys."""
        with self._changed:
            return self._fresh.first() <= self._clock() or not self._working.keys() <= self._failures.keys()

    def add(self, key: K) -> None:
        """Have *key* worked as soon as its window allows."""
        self.add_after(key, 0.0)

    def add_all(self, keys: Iterable[K]) -> None:
        """Have each of *keys* worked as soon as its window allows."""
        for key in keys:
            self.add(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Have *key* worked in *seconds*, unless it is due earlier."""
        with self._changed:
            due = self._clock() + seconds
            if key in self._working:
                self._requeued[key] = min(due, self._requeued.get(key, due))
            else:
                self._put(key, due)

    def get(self, limit: int, timeout: float | None = None) -> list[K]:
        """Wait for due keys, and take up to *limit* of them, those due longest first.

        Returns an empty list after *timeout* seconds without any, or at once if the queue is closed.
        """
        with self._changed:
            until = float("inf") if timeout is None else self._clock() + timeout
            while not self._closed:
                now = self._clock()
                keys = self._take(limit, now)
                if keys or now >= until:
                    return keys
                wait = min(until, self._fresh.first(), self._next_retry()) - now
                self._changed.wait(min(wait, threading.TIMEOUT_MAX))
            return []

    def done(self, key: K, wrote: float | None = None) -> None:
        """End the work on *key*; *wrote*: the seconds that its write took, None if there was none.

        A write opens the key's window: a worker gets all changes within the window as one.
        """
        with self._changed:
            now = self._clock()
            taken = self._working.pop(key)
            if self._failures.pop(key, 0) and taken in self._spent:
                self._spent.remove(taken)  # the limit is on work that fails
            if wrote is not None:
                slow = min(WINDOW_PER_WRITE * wrote, LONGEST_WINDOW)
                self._open_window(key, now + max(self._batch_window, slow))
            if key in self._requeued:
                self._put(key, self._requeued.pop(key))
            self._changed.notify()

    def retry(self, key: K, after: float | None = None, not_before: float | None = None) -> None:
        """End the failed work on *key*, and requeue it.

        It is due with growing delay, or in *after* seconds.  If it is added earlier, it is due after the
        batch window.  *not_before*: seconds that the server named; before they are over, the key is never
        due.
        """
        with self._changed:
            now = self._clock()
            del self._working[key]
            self._failures[key] = self._failures.get(key, 0) + 1
            if after is None:
                after = self._jitter(backoff(self._failures[key]))
            self._failing.put(key, now + (after if not_before is None else not_before))
            self._open_window(key, now + (self._batch_window if not_before is None else not_before))
            if key in self._requeued:
                self._put(key, self._requeued.pop(key))
            self._changed.notify()

    def close(self) -> None:
        """Make every ``get`` return at once, with nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _put(self, key: K, due: float) -> None:
        schedule = self._failing if key in self._failures else self._fresh
        schedule.put(key, max(due, self._windows.get(key) or due))
        # Waking one worker is enough: it takes the key, or waits until the key is due.
        self._changed.notify()

    def _take(self, limit: int, now: float) -> list[K]:
        while self._windows.first() <= now:
            self._windows.pop()
        keys: list[K] = []
        while len(keys) < limit:
            fresh, retry = self._fresh.first(), self._next_retry()
            if min(fresh, retry) > now:
                break
            if retry < fresh:
                self._spent.append(now)
                key = self._failing.pop()
            else:
                key = self._fresh.pop()
            self._working[key] = now
            keys.append(key)
        return keys

    def _next_retry(self) -> float:
        """When a worker may take the next failing key: at most ``RETRIES_A_SECOND`` are taken a second."""
        while len(self._spent) > RETRIES_A_SECOND:
            self._spent.popleft()
        pause_over = self._spent[0] + 1.0 if len(self._spent) == RETRIES_A_SECOND else float("-inf")
        return max(self._failing.first(), pause_over)

    def _open_window(self, key: K, until: float) -> None:
        self._windows.discard(key)
        self._windows.put(key, until)
