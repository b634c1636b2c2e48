"""A queue of keys to work on, each at its time, and never one key twice at once.

Workers get the first change of a key at once, later ones in batches.  Namespaces take turns.  A failed key is
requeued with growing delay.  No key is given up, and no loop spins.
"""

import heapq
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from itertools import count
from typing import Generic, TypeVar

from rpcregistry.plan.turns import InFlight, Taken, Turns, merged

K = TypeVar("K", bound=Hashable)

FIRST_RETRY = 0.005
LONGEST_RETRY = 60.0
RETRIES_A_SECOND = 20  # of one flow
ALL_RETRIES_A_SECOND = 40  # of all flows, by turns
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
        self.entries: dict[K, tuple[float, int, K]] = {}
        self._heap: list[tuple[float, int, K]] = []  # has every key's entry, and some that are outdated
        self._order = count()

    def put(self, key: K, due: float) -> None:
        """Make *key* due at *due*, unless it is due earlier."""
        before = self.entries.get(key)
        if before is None or due < before[0]:
            entry = self.entries[key] = (due, next(self._order), key)
            heapq.heappush(self._heap, entry)
            if len(self._heap) > 2 * len(self.entries) + 64:
                self._heap = list(self.entries.values())
                heapq.heapify(self._heap)

    def first(self) -> float:
        """When the first key is due; infinity if there is none."""
        while self._heap and self.entries.get(self._heap[0][2]) is not self._heap[0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def pop(self) -> K:
        """Take the key that ``first`` is about."""
        key = heapq.heappop(self._heap)[2]
        del self.entries[key]
        return key

    def get(self, key: K) -> float | None:
        """When *key* is due."""
        entry = self.entries.get(key)
        return entry[0] if entry else None

    def discard(self, key: K) -> None:
        """Remove *key*, if it is in here."""
        self.entries.pop(key, None)

    def __len__(self) -> int:
        return len(self.entries)


class _Retries:
    """When each flow took failing keys within the last second, without those that succeeded.

    Belongs to a ``Workqueue``, and is used under its lock.
    """

    def __init__(self) -> None:
        self.taken: deque[tuple[float, str]] = deque()  # the oldest first
        self._flows: Counter[str] = Counter()  # how many of them each flow took; none with 0

    def may(self, flow: str) -> bool:
        """Whether *flow* may take one more."""
        return len(self.taken) < ALL_RETRIES_A_SECOND and self._flows[flow] < RETRIES_A_SECOND

    def note(self, flow: str, now: float) -> None:
        """Note that *flow* takes one."""
        self.taken.append((now, flow))
        self._flows[flow] += 1

    def succeeded(self, flow: str, taken: float) -> None:
        """Forget one that was *taken*: the limit is on work that fails."""
        if (taken, flow) in self.taken:
            self.taken.remove((taken, flow))
            self._forget(flow)

    def forget_old(self, now: float) -> None:
        """Forget what is older than a second."""
        while self.taken and self.pause_over() <= now:
            self._forget(self.taken.popleft()[1])

    def pause_over(self) -> float:
        """When the oldest one counts no more; infinity if there is none."""
        return self.taken[0][0] + 1.0 if self.taken else float("inf")

    def _forget(self, flow: str) -> None:
        self._flows[flow] -= 1
        if not self._flows[flow]:
            del self._flows[flow]

    def __len__(self) -> int:
        return len(self.taken)


class Workqueue(Generic[K]):
    """Keys that are due to be worked; any thread may call any method.

    A worker takes a key with ``get``, and ends its work with ``done`` or ``retry``.  Until then no other
    worker gets the key; if it is added meanwhile, it is due once more afterwards.  The worker then calls
    ``get`` again: no other one is woken for what it may take itself.

    *batch_window*: seconds between two writes of one key, at least.  *flows_of*: the namespaces of a key,
    which take turns (``plan.turns``).  *workers*: how many there are; *is_slow*: whether a namespace may use
    only the few for slow ones.  It is called under the queue's lock, and must take none.
    """

    def __init__(
        self,
        batch_window: float,
        flows_of: Callable[[K], Iterable[str]],
        *,
        workers: int = 1,
        is_slow: Callable[[str], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float], float] = half_jitter,
    ) -> None:
        self.workers = workers
        self._batch_window = batch_window
        self._flows_of = flows_of
        self._is_slow = is_slow
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.RLock()  # protects all that follows
        self._changed = threading.Condition(self._lock)
        self._alarm = float("inf")  # when one of those that wait wakes by itself, on behalf of all
        self._closed = False
        # A key waits in at most one of these two, and in none while it is worked.
        self._ready: Turns[K] = Turns()  # keys that are due
        self._later: _Schedule[K] = _Schedule()
        self._wanted: dict[K, tuple[str, ...]] = {}  # by which flows: keys in _later
        self._failures: dict[K, int] = {}  # how often in a row; also while the key is worked
        self._windows: _Schedule[K] = _Schedule()  # until when an added key has to wait
        self._working: dict[K, Taken[K]] = {}
        self._retrying: dict[K, float] = {}  # keys in _working that failed before: since when
        self._in_flight = InFlight(workers, is_slow)
        # Keys in _working that were added meanwhile: when they are due, and for which flows.
        self._requeued: dict[K, tuple[float, tuple[str, ...]]] = {}
        self._retries = _Retries()
        self._left = False  # whether the last ``get`` left keys that were due, without failed ones

    @property
    def left(self) -> bool:
        """Whether the last ``get`` left keys that were due: beyond its limit, or their namespace's share."""
        with self._lock:
            return self._left

    @property
    def depth(self) -> int:
        """How many keys are due and not yet taken."""
        with self._lock:
            self._ripen(self._clock())
            return len(self._ready)

    @property
    def failing(self) -> int:
        """How many keys failed in their last attempt."""
        with self._lock:
            return len(self._failures)

    @property
    def busy(self) -> bool:
        """Whether a key is due or being worked, not counting failing keys and those of slow namespaces."""
        with self._lock:
            self._ripen(self._clock())
            return self._ready.has_fresh(self._is_slow) or any(
                key not in self._failures and not self._is_slow(work.flow)
                for key, work in self._working.items()
            )

    def add(self, key: K, flow: str | None = None) -> None:
        """Have *key* worked as soon as its window allows, at a turn of *flow*; by default of ``flows_of``."""
        self.add_after(key, 0.0, flow)

    def add_all(self, keys: Iterable[K], flow: str | None = None) -> None:
        """Have each of *keys* worked as soon as its window allows."""
        for key in keys:
            self.add(key, flow)

    def add_after(self, key: K, seconds: float, flow: str | None = None) -> None:
        """Have *key* worked in *seconds*, unless it is due earlier."""
        flows = (flow,) if flow is not None else tuple(self._flows_of(key)) or ("",)
        with self._lock:
            waiting = self._ready.waiting.get(key)
            if waiting and waiting[0] == flows:
                return  # it is due already
            now = self._clock()
            due = now + seconds
            if key in self._working:
                again, before = self._requeued.get(key, (due, ()))
                self._requeued[key] = min(due, again), merged(before, flows)
            else:
                self._add(key, flows, due, now)

    def get(self, limit: int, timeout: float | None = None) -> list[K]:
        """Wait for due keys, and take up to *limit* of them: in turns, and of a flow those due longest first.

        Returns an empty list after *timeout* seconds without any, or at once if the queue is closed.
        """
        with self._lock:
            until = float("inf") if timeout is None else self._clock() + timeout
            while not self._closed:
                now = self._clock()
                keys = self._take(limit, now)
                if keys or now >= until:
                    self._hand_over(now)
                    return keys
                self._wait(until, now)
            return []

    def _wait(self, until: float, now: float) -> None:
        """Wait for a change, for *until*, and, unless another wakes as early, for what is due next."""
        due = self._next_due()
        if due < self._alarm:
            self._alarm = due
            until = min(until, due)
        self._changed.wait(min(until - now, threading.TIMEOUT_MAX))
        if self._alarm == due:
            self._alarm = float("inf")

    def _hand_over(self, now: float) -> None:
        """Have another one take what is due, or wait for what is due next."""
        if self._ready.has_next(self._may(now), self._retries.may) or self._next_due() < self._alarm:
            self._changed.notify()

    def _may(self, now: float) -> Callable[[str], bool]:
        """Returns whether one more key of a flow may be taken now."""
        return partial(self._in_flight.may, now=now)

    def _next_due(self) -> float:
        retry = self._retries.pause_over() if self._ready.retries else float("inf")
        return min(self._later.first(), retry)

    def done(self, key: K, wrote: float | None = None) -> None:
        """End the work on *key*; *wrote*: the seconds that its write took, None if there was none.

        A write opens the key's window: a worker gets all changes within the window as one.
        """
        with self._lock:
            now = self._clock()
            self._end(key, succeeded=True)
            if wrote is not None:
                slow = min(WINDOW_PER_WRITE * wrote, LONGEST_WINDOW)
                self._open_window(key, now + max(self._batch_window, slow))
            self._add_again(key, now)

    def retry(self, key: K, after: float | None = None, not_before: float | None = None) -> None:
        """End the failed work on *key*, and requeue it.

        It is due with growing delay, or in *after* seconds.  If it is added earlier, it is due after the
        batch window.  *not_before*: seconds that the server named; before they are over, the key is never
        due.
        """
        with self._lock:
            now = self._clock()
            flows = self._end(key, succeeded=False).flows
            self._failures[key] = self._failures.get(key, 0) + 1
            if after is None:
                after = self._jitter(backoff(self._failures[key]))
            self._put(key, flows, now + (after if not_before is None else not_before), now)
            self._open_window(key, now + (self._batch_window if not_before is None else not_before))
            self._add_again(key, now)

    def close(self) -> None:
        """Make every ``get`` return at once, with nothing."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def _end(self, key: K, *, succeeded: bool) -> Taken[K]:
        work = self._working.pop(key)
        self._in_flight.end(work.flow)
        if work.retry:
            since = self._retrying.pop(key)
            if succeeded:
                self._retries.succeeded(work.flow, since)
        if succeeded:
            self._failures.pop(key, None)
        return work

    def _add_again(self, key: K, now: float) -> None:
        if key in self._requeued:
            due, flows = self._requeued.pop(key)
            self._add(key, flows, due, now)

    def _add(self, key: K, flows: tuple[str, ...], due: float, now: float) -> None:
        window = self._windows.get(key)
        self._put(key, flows, due if window is None else max(due, window), now)

    def _put(self, key: K, flows: tuple[str, ...], due: float, now: float) -> None:
        self._ripen(now)  # what is due longer comes first
        if due <= now or key in self._ready.waiting:
            if key in self._wanted:
                self._later.discard(key)
                flows = merged(self._wanted.pop(key), flows)
            self._ready.put(key, flows, retry=key in self._failures)
        else:
            self._later.put(key, due)
            self._wanted[key] = merged(self._wanted[key], flows) if key in self._wanted else flows
        self._hand_over(now)

    def _ripen(self, now: float) -> None:
        """Have the keys that are due by now wait for their turn."""
        while self._later.entries and self._later.first() <= now:
            key = self._later.pop()
            self._ready.put(key, self._wanted.pop(key), retry=key in self._failures)

    def _take(self, limit: int, now: float) -> list[K]:
        while self._windows.entries and self._windows.first() <= now:
            self._windows.pop()
        self._ripen(now)
        if self._retries.taken:
            self._retries.forget_old(now)
        keys: list[K] = []
        may = self._may(now)
        while len(keys) < limit and (taken := self._ready.take(may, self._retries.may)):
            if taken.retry:
                self._retries.note(taken.flow, now)
                self._retrying[taken.key] = now
            self._working[taken.key] = taken
            self._in_flight.begin(taken.flow, now, retry=taken.retry)
            keys.append(taken.key)
        self._left = self._ready.has_fresh(lambda _: False)
        return keys

    def _open_window(self, key: K, until: float) -> None:
        self._windows.discard(key)
        self._windows.put(key, until)
