"""Whose turn it is: flows take turns, so that none of them can delay or crowd out another.

A *flow* is what belongs to one tenant, a namespace.  Fairness is counted in keys.  A flow whose work takes
long is bounded by the number of workers that it may use.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)

KEPT_FREE = 2  # workers that no single flow may use
FOR_SLOW = 2  # workers for all slow flows together


def merged(flows: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    """*flows* and *more*, each once.

    >>> merged(("a", "b"), ["b", "c"])
    ('a', 'b', 'c')
    """
    return tuple(dict.fromkeys((*flows, *more)))


class Taken(NamedTuple, Generic[K]):
    """A key at the turn of *flow*, and all the *flows* that wanted it; *retry*: it failed before."""

    key: K
    flow: str
    flows: tuple[str, ...]
    retry: bool


class _Lines(Generic[K]):
    """The keys of one flow, each with its number in the order in which keys came."""

    __slots__ = ("fresh", "retries")

    def __init__(self) -> None:
        self.fresh: OrderedDict[K, int] = OrderedDict()
        self.retries: OrderedDict[K, int] | None = None  # made with the first one: few flows have any

    def put(self, key: K, number: int, retry: bool) -> None:
        """Add *key* as the last one."""
        if not retry:
            self.fresh[key] = number
        elif self.retries is None:
            self.retries = OrderedDict({key: number})
        else:
            self.retries[key] = number

    def discard(self, key: K, retry: bool) -> bool:
        """Remove *key*; return whether none is left."""
        if not retry:
            del self.fresh[key]
        elif self.retries:
            del self.retries[key]
        return not self.fresh and not self.retries

    def first(self, flow: str, may_retry: Callable[[str], bool]) -> K | None:
        """The key that came first; retries do not count unless the *flow* *may_retry*."""
        fresh = next(iter(self.fresh), None)
        if not self.retries:
            return fresh
        retry = next(iter(self.retries))
        if fresh is not None and self.fresh[fresh] < self.retries[retry]:
            return fresh
        return retry if may_retry(flow) else fresh


class Turns(Generic[K]):
    """Keys that wait for their turn; None is no key.

    Flows take turns, and within a flow the key that came first is next.  A key that several flows want is
    taken once, at the earliest of their turns.  A flow that gets its first key comes last: it waits for at
    most one turn of each other flow.  Flows without keys cost nothing.
    """

    def __init__(self) -> None:
        self._flows: OrderedDict[str, _Lines[K]] = OrderedDict()  # the next turn first; none without keys
        self.waiting: dict[K, tuple[tuple[str, ...], bool]] = {}  # the flows that want it; whether it failed
        self._number = 0
        self.retries = 0  # how many of the keys failed before

    def put(self, key: K, flows: tuple[str, ...], *, retry: bool = False) -> None:
        """Have *key* wait in each of *flows*; where it waits already, it keeps its place.

        *retry*: it failed before.  This counts for a key that does not wait yet.
        """
        there = self.waiting.get(key)
        if there is not None:
            before, retry = there
            self.waiting[key] = merged(before, flows), retry
            flows = tuple(flow for flow in flows if flow not in before)
        else:
            self.waiting[key] = flows, retry
            self.retries += retry
        for flow in flows:
            lines = self._flows.get(flow)
            if lines is None:
                lines = self._flows[flow] = _Lines()
            self._number += 1
            lines.put(key, self._number, retry)

    def take(
        self,
        may: Callable[[str], bool] = lambda _: True,
        may_retry: Callable[[str], bool] = lambda _: True,
    ) -> Taken[K] | None:
        """Take the key whose turn it is.

        A flow that *may* not take one now keeps its turn.  So do retries of one that *may_retry* not.
        """
        for flow, lines in self._flows.items():
            if not may(flow):
                continue
            key = lines.first(flow, may_retry)
            if key is not None:
                flows, retry = self.waiting[key]
                self.discard(key)
                if flow in self._flows:
                    self._flows.move_to_end(flow)
                return Taken(key, flow, flows, retry)
        return None

    def has_next(self, may: Callable[[str], bool], may_retry: Callable[[str], bool]) -> bool:
        """Whether ``take`` would take a key."""
        return any(
            may(flow) and lines.first(flow, may_retry) is not None for flow, lines in self._flows.items()
        )

    def discard(self, key: K) -> None:
        """Remove *key* from all flows, if it waits."""
        flows, retry = self.waiting.pop(key, ((), False))
        self.retries -= bool(flows) and retry
        for flow in flows:
            if self._flows[flow].discard(key, retry):
                del self._flows[flow]

    def has_fresh(self, besides: Callable[[str], bool]) -> bool:
        """Whether a key waits that has not failed, of any flow *besides* some."""
        if len(self.waiting) == self.retries:
            return False
        return any(lines.fresh and not besides(flow) for flow, lines in self._flows.items())

    def longest(self) -> str:
        """The flow with the most fresh keys; there is one."""
        return max(self._flows, key=lambda flow: len(self._flows[flow].fresh))

    def last(self, flow: str) -> K | None:
        """The fresh key of *flow* that came last, or None."""
        lines = self._flows.get(flow)
        return next(reversed(lines.fresh), None) if lines else None

    def size(self, flow: str) -> int:
        """How many fresh keys *flow* has."""
        lines = self._flows.get(flow)
        return len(lines.fresh) if lines else 0

    def __len__(self) -> int:
        return len(self.waiting)


class InFlight:
    """How many of so many *workers* work for each flow, and whether one more may.

    One flow alone may use all but ``KEPT_FREE``, and all slow ones together ``FOR_SLOW``: those that wait for
    a server that does not answer leave some to all others.  So few workers that none would be left are not
    divided: their work must not wait for a server.
    """

    def __init__(self, workers: int, is_slow: Callable[[str], bool]) -> None:
        self._workers = workers
        self._is_slow = is_slow
        self._flows: dict[str, int] = {}  # none with 0

    def may(self, flow: str) -> bool:
        """Whether one more worker may work for *flow*."""
        if self._workers <= KEPT_FREE:
            return True
        if self._flows.get(flow, 0) >= self._workers - KEPT_FREE:
            return False
        if not self._is_slow(flow):
            return True
        return sum(count for other, count in self._flows.items() if self._is_slow(other)) < FOR_SLOW

    def begin(self, flow: str) -> None:
        """Note that a worker works for *flow*."""
        self._flows[flow] = self._flows.get(flow, 0) + 1

    def end(self, flow: str) -> None:
        """Note that a worker has ended its work for *flow*."""
        left = self._flows.pop(flow) - 1
        if left:
            self._flows[flow] = left

    def __len__(self) -> int:
        return len(self._flows)
