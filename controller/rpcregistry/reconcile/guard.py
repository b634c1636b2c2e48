"""Confirming absences: the second look, and the wait, before what is missing is withdrawn."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

import msgspec
import structlog

from rpcregistry.errors import Failure
from rpcregistry.plan.guard import Verdict, Words, is_released, judge

Id = TypeVar("Id", bound=Hashable)

log = structlog.get_logger(__name__)

RETRY_AFTER = 5.0
MOST_LOGGED = 50  # services, in one line


class Sight(msgspec.Struct, Generic[Id], frozen=True):
    """What a second look found.

    *absent*: what is still missing, to the number of endpoints each stands for; *total*: all endpoints
    listed; *expected*: those that are likely to be missing soon; *words*: the release annotations of what
    stands for each of the absent, as they are now.
    """

    absent: Mapping[Id, int]
    total: int
    expected: int = 0
    words: Mapping[Id, Words] = {}


class Hold(msgspec.Struct, frozen=True):
    """One absence that waits: *since* when and *until* when, in seconds on the guard's clock.

    *weight*: its endpoints; *words*: the release annotations when it began.
    """

    since: float
    until: float
    weight: int
    words: Words


class Decision(msgspec.Struct, Generic[Id], frozen=True):
    """What one look brought: what was confirmed, or came to be held, or is held no longer.

    *released*: what of it a person let go, to the endpoints each stands for.
    """

    changed: Collection[Id] = frozenset()
    released: Mapping[Id, int] = {}


class Confirmed(Generic[Id]):
    """What is gone for sure; for any thread.

    It may be all that went since the last resync: a second look copies it, no plan does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _subjects
        self._subjects: set[Id] = set()

    def __contains__(self, subject: object) -> bool:
        with self._lock:
            return subject in self._subjects

    def __len__(self) -> int:
        with self._lock:
            return len(self._subjects)

    def __iter__(self) -> Iterator[Id]:
        with self._lock:
            return iter(frozenset(self._subjects))

    def among(self, subjects: Iterable[Id]) -> frozenset[Id]:
        """Which of *subjects* are confirmed, as of one moment."""
        with self._lock:
            return frozenset(subject for subject in subjects if subject in self._subjects)

    def add(self, subjects: Iterable[Id]) -> None:
        """They are gone."""
        with self._lock:
            self._subjects.update(subjects)

    def discard(self, subject: Id) -> None:
        """It is there (again)."""
        with self._lock:
            self._subjects.discard(subject)

    def keep(self, subjects: Collection[Id]) -> None:
        """Forget all but *subjects*."""
        with self._lock:
            self._subjects.intersection_update(subjects)


class Guard(Generic[Id]):
    """Keeps which absences are *confirmed* and which are *held*; any thread reads both.

    All else, but what sets ``run`` going or ends it, belongs to the thread of ``run``.

    *look* takes the second look: it returns None where nothing is missing that is not confirmed, and
    raises ``Failure`` where nobody can tell.  *decided* is called after each look.

    What a hold rests on, its beginning and its words, is lost with the process: the next one begins each hold
    anew, so that less is withdrawn, never more.
    """

    def __init__(
        self,
        *,
        look: Callable[[Collection[Id]], Sight[Id] | None],
        decided: Callable[[Decision[Id]], None],
        confirm: float,
        clock: Callable[[], float],
    ) -> None:
        self._look = look
        self._decided = decided
        self._confirm = confirm
        self._clock = clock
        self._poked = threading.Event()
        self._stopping = False  # set once, before the Event
        self._confirmed: Confirmed[Id] = Confirmed()
        self._held: Mapping[Id, Hold] = {}  # replaced as a whole, so that any thread may read it
        self._withdrawn: deque[tuple[float, int]] = deque()  # endpoints, within the time of a confirmation

    @property
    def confirmed(self) -> Confirmed[Id]:
        """What is gone for sure, as of the moment of each question."""
        return self._confirmed

    @property
    def held(self) -> Mapping[Id, Hold]:
        """What is absent and waits for its confirmation."""
        return self._held

    def gone(self, subject: Id) -> None:
        """A watch event said so: nothing to confirm."""
        self._confirmed.add([subject])

    def back(self, subject: Id) -> None:
        """It is there (again)."""
        self._confirmed.discard(subject)

    def keep(self, subjects: Collection[Id]) -> None:
        """Forget what was confirmed of all but *subjects*: it is withdrawn, and cannot come back."""
        self._confirmed.keep(subjects)

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
        self._decided(self._judge(sight or Sight({}, 0), now))
        return max(0.0, min(hold.until for hold in self._held.values()) - now) if self._held else None

    def _judge(self, sight: Sight[Id], now: float) -> Decision[Id]:
        before = self._held
        released = {
            subject: sight.absent[subject]
            for subject, words in sight.words.items()
            if subject in before and subject in sight.absent and is_released(before[subject].words, words)
        }
        while self._withdrawn and self._withdrawn[0][0] + self._confirm <= now:
            self._withdrawn.popleft()
        besides = sight.expected + sum(weight for _, weight in self._withdrawn)
        since = {subject: hold.since for subject, hold in before.items()}
        verdict = judge(sight.absent, sight.total, since, released, now, self._confirm, besides)
        self._confirmed.add(verdict.withdraw)  # before it is held no longer: it is never neither
        if verdict.withdraw:
            self._withdrawn.append((now, sum(sight.absent[subject] for subject in verdict.withdraw)))
        self._held = self._holds(verdict, sight, now)
        if verdict.hold:
            log.warning("held", absent=len(verdict.hold), total=sight.total, confirm_seconds=self._confirm)
        return Decision(verdict.withdraw | (before.keys() ^ self._held.keys()), released)

    def _holds(self, verdict: Verdict[Id], sight: Sight[Id], now: float) -> Mapping[Id, Hold]:
        holds: dict[Id, Hold] = {}
        for subject, until in verdict.hold.items():
            words = sight.words.get(subject, {})
            before = self._held.get(subject)
            # A carrier that was not there before has its first word now.
            words = {**words, **before.words} if before else words
            holds[subject] = Hold(before.since if before else now, until, sight.absent[subject], words)
        return holds


def log_released(services: Iterable[str], endpoints: int) -> None:
    """Log that a person let go what was held of *services*."""
    names = sorted(set(services))
    log.info("released", services=names[:MOST_LOGGED], count=len(names), endpoints=endpoints)
