"""A queue of keys to work on: which, when, and never one of them twice at once.

The first change of a key is worked at once, later ones in batches; a key whose work failed comes back
with growing delay.  Nobody gives up, and nothing spins.
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
WINDOW_PER_WRITE = 2  # a window is at least this many times as long as the write before it took,
LONGEST_WINDOW = 1.0  # but no longer for that than this: one slow write says little about the next


def backoff(failures: int) -> float:
    """The seconds to wait after the *failures*-th failure in a row, before jitter.

    >>> [backoff(failures) for failures in (1, 2, 3, 5000)]
    [0.005, 0.01, 0.02, 60.0]
    """
    return min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(failures - 1, 32))


def half_jitter(seconds: float) -> float:
    """A random time between half of *seconds* and all of it, so that what failed together returns apart."""
    return seconds * random.uniform(0.5, 1.0)


class _Schedule(Generic[K]):
    """Keys, each with the time at which it is due; memory is bounded by the number of keys.

    Belongs to a ``Workqueue``, and is used under its lock.
    """

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []  # has every key at its time, and some at times gone by
        self._order = count()

    def put(self, key: K, due: float) -> None:
        """Have *key* due at *due*, or when it already is, whichever comes first."""
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            if len(self._heap) > 2 * len(self._due) + 64:
                self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
                heapq.heapify(self._heap)

    def first(self) -> float:
        """When the first key is due; infinity where there is none."""
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
        """Take *key* out, if it is there."""
        self._due.pop(key, None)

    def __len__(self) -> int:
        return len(self._due)

    def __iter__(self) -> Iterator[float]:
        return iter(self._due.values())


class Workqueue(Generic[K]):
    """Keys that are due to be worked; any thread may call any method.

    Whoever takes a key by ``get`` gives it back, by ``done`` or by ``retry``.  Until then nobody else
    gets it; what is added meanwhile makes it due once more.

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
        self._windows: _Schedule[K] = _Schedule()  # until when a key has to wait, however it is added
        self._working: dict[K, float] = {}  # since when
        self._again: dict[K, float] = {}  # keys in _working that were added meanwhile: for when
        self._spent: deque[float] = deque()  # when failing keys were given out, without those that succeeded

    @property
    def depth(self) -> int:
        """How many keys are due and not yet taken."""
        with self._changed:
            now = self._clock()
            return sum(due <= now for schedule in (self._fresh, self._failing) for due in schedule)

    @property
    def failing(self) -> int:
        """How many keys failed when they were worked last."""
        with self._changed:
            return len(self._failures)

    @property
    def busy(self) -> bool:
        """Whether a key is due or being worked, those aside that failed."""
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
        """Have *key* worked in *seconds*, or earlier where it is due earlier."""
        with self._changed:
            due = self._clock() + seconds
            if key in self._working:
                self._again[key] = min(due, self._again.get(key, due))
            else:
                self._put(key, due)

    def get(self, limit: int, timeout: float | None = None) -> list[K]:
        """Wait for keys that are due, and take up to *limit* of them, those due longest first.

        Empty after *timeout* seconds without any, and at once where the queue is closed.
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
        """Give *key* back, worked; *wrote*: the seconds that its write took, None if there was none.

        A write opens the key's window: the changes of the time to come are worked as one.
        """
        with self._changed:
            now = self._clock()
            taken = self._working.pop(key)
            if self._failures.pop(key, 0) and taken in self._spent:
                self._spent.remove(taken)  # the limit is on work that fails
            if wrote is not None:
                slow = min(WINDOW_PER_WRITE * wrote, LONGEST_WINDOW)
                self._open_window(key, now + max(self._batch_window, slow))
            if key in self._again:
                self._put(key, self._again.pop(key))
            self._changed.notify()

    def retry(self, key: K, after: float | None = None, not_before: float | None = None) -> None:
        """Give *key* back, failed: it comes back until it is done.

        It comes back by itself, with growing delay or in *after* seconds, and once it is added, after
        the batch window.  *not_before*: seconds that the other side told us to wait; nothing brings
        the key back earlier.
        """
        with self._changed:
            now = self._clock()
            del self._working[key]
            self._failures[key] = self._failures.get(key, 0) + 1
            if after is None:
                after = self._jitter(backoff(self._failures[key]))
            self._failing.put(key, now + (after if not_before is None else not_before))
            self._open_window(key, now + (self._batch_window if not_before is None else not_before))
            if key in self._again:
                self._put(key, self._again.pop(key))
            self._changed.notify()

    def close(self) -> None:
        """Make every ``get`` return at once, with nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _put(self, key: K, due: float) -> None:
        schedule = self._failing if key in self._failures else self._fresh
        schedule.put(key, max(due, self._windows.get(key) or due))
        # One is enough: whoever wakes takes the key, or waits for it; the others need not look.
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
        """When the next failing key may be given out: not while enough of them were, just before."""
        while len(self._spent) > RETRIES_A_SECOND:
            self._spent.popleft()
        pause_over = self._spent[0] + 1.0 if len(self._spent) == RETRIES_A_SECOND else float("-inf")
        return max(self._failing.first(), pause_over)

    def _open_window(self, key: K, until: float) -> None:
        self._windows.discard(key)
        self._windows.put(key, until)
