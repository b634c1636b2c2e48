"""Holds on the Lease: its annotations and Events show them, and a person releases them there."""

import math
import threading
from collections.abc import Callable, Collection, Mapping

import msgspec

from rpcregistry.model import HELD, RELEASE, Problem, Regarding
from rpcregistry.plan import held as planning
from rpcregistry.plan.guard import LEASE, Words, lease_word
from rpcregistry.reconcile.ports import Clock, Events, LeaseNotes


class WithoutObject(msgspec.Struct, frozen=True):
    """A service held though its object is missing.

    *count*: how many of what the guard counts.  *until*: when the last hold ends, in seconds on its clock;
    infinite if none ends by itself.
    """

    count: int
    until: float


class HeldOnLease:
    """The Lease's annotations and Events about holds; any thread may call it.

    *guarded*: the kinds for which this process calls ``show``.  *lease*: the object of the Events, None while
    there is no Lease.
    """

    def __init__(
        self,
        *,
        guarded: Collection[str],
        notes: LeaseNotes,
        lease: Callable[[], Regarding | None],
        events: Events,
        clock: Clock,
    ) -> None:
        self._guarded = guarded
        self._notes = notes
        self._lease = lease
        self._events = events
        self._clock = clock
        self._lock = threading.Lock()  # protects _shown and _recorded; held while the Lease is annotated
        self._shown: dict[str, Collection[str]] = {}  # by the missing object's kind: the services
        # By the missing object's kind and service: the count in the last Event.
        self._recorded: dict[tuple[str, str], int] = {}

    def words(self, services: Collection[str]) -> Words:
        """The Lease's word for *services*; none before the first read, or an old word would count as new."""
        annotations = self._notes.annotations
        return {} if annotations is None else {LEASE: lease_word(annotations.get(RELEASE, ""), services)}

    def show(self, kind: str, held: Mapping[str, WithoutObject], leaving: Collection[str] = ()) -> None:
        """Have the Lease name the services that are *held*, and record an Event about new ones.

        *kind*: of the missing objects, a key of ``plan.held.MISSING``.  *leaving*: services that are released
        and not withdrawn yet.
        """
        with self._lock:
            self._shown[kind] = {*held, *leaving}
            names = self._found().union(*self._shown.values())
            self._notes.annotate(HELD, planning.annotation(names))
            self._record(kind, held)

    def record_silence(self, silence: str) -> None:
        """Record an Event: *silence*, for which holds have no time limit."""
        lease = self._lease()
        if lease:
            problem = Problem("NodesSilent", f"{self._clock.stamp()}: {planning.silence_note(silence)}")
            self._events.record(lease, problem, "Withdraw", warning=True)

    def _found(self) -> frozenset[str]:
        """The services that an earlier process had the Lease name, until each of our guards has looked."""
        annotations = self._notes.annotations
        if annotations is None or self._shown.keys() >= set(self._guarded):
            return frozenset()
        return planning.named(annotations.get(HELD, ""))[0]

    def _record(self, kind: str, held: Mapping[str, WithoutObject]) -> None:
        """Record an Event about new holds, and about those that grew tenfold since their last Event."""
        lease = self._lease()
        if lease is None:
            return
        recorded = {name: self._recorded.get((kind, name), 0) for name in held}
        news = {name: item for name, item in held.items() if planning.is_news(recorded[name], item.count)}
        counts = {name: item.count for name, item in news.items()}
        others = {key: count for key, count in self._recorded.items() if key[0] != kind}
        self._recorded = others | {(kind, name): count for name, count in (recorded | counts).items()}
        if news:
            seconds = max(item.until for item in news.values()) - self._clock.monotonic()
            until = "" if seconds == math.inf else self._clock.stamp(seconds)
            problem = Problem("Held", planning.note(kind, counts, until))
            self._events.record(lease, problem, "Withdraw", warning=True)
