"""Confirming absences: the second look, and the wait, before what is missing is withdrawn."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Hashable, Mapping
from datetime import UTC, datetime
from typing import Generic, TypeVar

import msgspec
import structlog

from controller.errors import Failure
from controller.plan.guard import judge

Id = TypeVar("Id", bound=Hashable)

log = structlog.get_logger(__name__)

RETRY_AFTER = 5.0


class Sight(msgspec.Struct, Generic[Id], frozen=True):
    """What a second look found.

    *absent*: what is still missing, to the number of endpoints each stands for; *total*: all endpoints
    listed; *expected*: those that are likely to be missing soon; *releases*: the times (RFC 3339) at
    which people released the absent, where they did.
    """

    absent: Mapping[Id, int]
    total: int
    expected: int = 0
    releases: Mapping[Id, str] = {}


class Guard(Generic[Id]):
    """Keeps which absences are *confirmed* and which are *held*; both are read by any thread.

    *look* takes the second look: it returns None where nothing is missing that is not confirmed, and
    raises ``Failure`` where nobody can tell.  *decided* is called with what was confirmed or came to
    be held, or is held no longer.
    """

    def __init__(
        self,
        look: Callable[[Collection[Id]], Sight[Id] | None],
        decided: Callable[[Collection[Id]], None],
        confirm: float,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._look = look
        self._decided = decided
        self._confirm = confirm
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._poked = threading.Event()
        self._stopping = False
        self._confirmed: set[Id] = set()
        self._since: dict[Id, tuple[float, datetime]] = {}  # held: since when, on both clocks
        self._withdrawn: deque[tuple[float, int]] = deque()  # endpoints, within the time of a confirmation

    @property
    def confirmed(self) -> Collection[Id]:
        """What is gone for sure."""
        return self._confirmed

    @property
    def held(self) -> Collection[Id]:
        """What is absent and waits for its confirmation."""
        return self._since

    def gone(self, subject: Id) -> None:
        """A watch event said so: nothing to confirm."""
        with self._lock:
            self._confirmed.add(subject)

    def back(self, subject: Id) -> None:
        """It is there (again)."""
        with self._lock:
            self._confirmed.discard(subject)

    def keep(self, subjects: Collection[Id]) -> None:
        """Forget what was confirmed of all but *subjects*: it is withdrawn, and cannot come back."""
        with self._lock:
            self._confirmed.intersection_update(subjects)

    def poke(self) -> None:
        """Something seems to be missing: look soon."""
        self._poked.set()

    def run(self) -> None:
        """Look whenever poked or due, until stopped."""
        wait: float | None = None
        while True:
            self._poked.wait(wait)
            self._poked.clear()
            if self._stopping:
                return
            try:
                wait = self.look_once()
            except Failure as failure:
                log.warning("absences cannot be confirmed", reason=str(failure))
                wait = RETRY_AFTER

    def stop(self) -> None:
        """Let ``run`` return."""
        self._stopping = True
        self._poked.set()

    def look_once(self) -> float | None:
        """Take one look and decide; return the seconds until the next one is due, if one is."""
        sight = self._look(frozenset(self._confirmed))
        now = self._clock()
        with self._lock:
            before = set(self._since)
            if sight is None:
                self._since.clear()
                wait, changed = None, before
            else:
                changed, wait = self._judge(sight, now, before)
        if changed:
            self._decided(changed)
        return wait

    def _judge(self, sight: Sight[Id], now: float, before: set[Id]) -> tuple[set[Id], float | None]:
        released = [
            subject
            for subject, time in sight.releases.items()
            if subject in self._since and is_release(time, self._since[subject][1], self._now())
        ]
        since = {subject: start for subject, (start, _) in self._since.items()}
        while self._withdrawn and self._withdrawn[0][0] + self._confirm <= now:
            self._withdrawn.popleft()
        besides = sight.expected + sum(weight for _, weight in self._withdrawn)
        verdict = judge(sight.absent, sight.total, since, released, now, self._confirm, besides)
        self._confirmed |= verdict.withdraw
        self._withdrawn.append((now, sum(sight.absent[subject] for subject in verdict.withdraw)))
        self._since = {subject: self._since.get(subject, (now, self._now())) for subject in verdict.hold}
        if verdict.hold:
            log.warning("held", absent=len(verdict.hold), total=sight.total, confirm_seconds=self._confirm)
        changed = set(verdict.withdraw) | (before ^ set(self._since))
        return changed, max(0.0, min(verdict.hold.values()) - now) if verdict.hold else None


def is_release(time: str, held_since: datetime, now: datetime) -> bool:
    """Whether a release annotation's *time* lets go what is held since then: once, not for ever.

    A release counts for what was held when it was given (to the second, as such times are written).
    A time still to come would release every later hold, too, so it counts for none.
    """
    try:
        at = datetime.fromisoformat(time)
    except ValueError:
        return False
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return held_since.replace(microsecond=0) <= at <= now
