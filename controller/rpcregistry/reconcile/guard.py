"""Confirming absences: a second LIST, and a wait, before the controller withdraws what is missing."""

import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from math import inf
from typing import Generic, TypeVar

import msgspec
import structlog

from rpcregistry.errors import Failure
from rpcregistry.plan.guard import Verdict, Words, is_released, judge
from rpcregistry.plan.restored import hold_all
from rpcregistry.reconcile.memory import Past

Id = TypeVar("Id", bound=Hashable)

log = structlog.get_logger(__name__)

RETRY_AFTER = 5.0
MOST_LOGGED = 50  # services, in one line


class Snapshot(msgspec.Struct, Generic[Id], frozen=True):
    """What a second look found.

    *absent*: each subject that is still missing, with its number of endpoints.  *total*: all endpoints
    listed.  *expected*: endpoints that are likely to be missing soon.  *words*: for each absent subject, the
    current release annotations of the objects that stand for it.  *begins*: see ``judge``.  *again*: when to
    look again in any case, in seconds on the guard's clock.
    """

    absent: Mapping[Id, int]
    total: int
    expected: int = 0
    words: Mapping[Id, Words] = {}
    begins: Mapping[Id, float] = {}
    again: float = inf


class Hold(msgspec.Struct, frozen=True):
    """One absence that waits: *since* when and *until* when, in seconds on the guard's clock.

    Until infinity: without time limit.  *weight*: its endpoints; *words*: the release annotations when it
    began.
    """

    since: float
    until: float
    weight: int
    words: Words


class Decision(msgspec.Struct, Generic[Id], frozen=True):
    """The result of one look.

    *changed*: subjects that the guard confirmed, began to hold or stopped holding.  *released*: those of them
    that a person released, with their numbers of endpoints.
    """

    changed: Collection[Id] = frozenset()
    released: Mapping[Id, int] = {}


class Confirmed(Generic[Id]):
    """The subjects whose absence is confirmed; for any thread.

    The set may hold all subjects that vanished since the last resync.  A second look copies it; a plan asks
    ``among`` for its own rows only.
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
        """Note that *subjects* no longer exist."""
        with self._lock:
            self._subjects.update(subjects)

    def discard(self, subject: Id) -> None:
        """Note that *subject* exists (again)."""
        with self._lock:
            self._subjects.discard(subject)

    def retain_only(self, subjects: Collection[Id]) -> None:
        """Forget all but *subjects*."""
        with self._lock:
            self._subjects.intersection_update(subjects)


class Guard(Generic[Id]):
    """Keeps which absences are *confirmed* and which are *held*; any thread reads both.

    Any thread may call ``confirm``, ``forget``, ``retain_only``, ``wake`` and ``stop``.  All else belongs to
    the thread of ``run``.

    *past*: while it ``holds``, an absence is held however long it lasts, and only a person who takes the API
    server as it is releases it.

    *look* takes the second look.  It returns None if every missing subject is confirmed already, and raises
    ``Failure`` if the source cannot be read.  The guard calls *decided* after each look.

    The beginning and the words of a hold are lost with the process.  The next process begins each hold anew,
    so it withdraws less, never more.  How much was withdrawn a moment ago, *past* keeps under *name*.
    """

    def __init__(
        self,
        name: str,
        *,
        look: Callable[[Collection[Id]], Snapshot[Id] | None],
        decided: Callable[[Decision[Id]], None],
        past: Past,
        confirm: float,
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._look = look
        self._decided = decided
        self._past = past
        self._accepted = 0  # ``past.accepted`` at the last look
        self._confirm_after = confirm
        self._clock = clock
        self._woken = threading.Event()
        self._stopping = False  # set once, before the Event
        self._confirmed: Confirmed[Id] = Confirmed()
        self._held: Mapping[Id, Hold] = {}  # replaced as a whole, so that any thread may read it

    @property
    def confirmed(self) -> Confirmed[Id]:
        """The confirmed absences; a live view."""
        return self._confirmed

    @property
    def held(self) -> Mapping[Id, Hold]:
        """The absences that wait for their confirmation."""
        return self._held

    def confirm(self, subject: Id) -> None:
        """Take *subject* for deleted without a second look: a watch event showed its deletion."""
        self._confirmed.add([subject])

    def forget(self, subject: Id) -> None:
        """Drop the confirmation: *subject* exists (again)."""
        self._confirmed.discard(subject)

    def retain_only(self, subjects: Collection[Id]) -> None:
        """Drop the confirmations of all but *subjects*: their endpoints are withdrawn."""
        self._confirmed.retain_only(subjects)

    def wake(self) -> None:
        """Look soon: something seems to be missing."""
        self._woken.set()

    def run(self) -> None:
        """Look whenever woken or due, until stopped."""
        wait: float | None = None
        while True:
            self._woken.wait(wait)
            self._woken.clear()
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
        self._woken.set()

    def look_once(self) -> float | None:
        """Take one look and decide; return the seconds until the next one is due, if one is."""
        snapshot = self._look(frozenset(self._confirmed))
        if snapshot and snapshot.absent and not self._past.holds:
            self._past.check()
        now = self._clock()
        snapshot = snapshot or Snapshot({}, 0)
        self._decided(self._judge(snapshot, now))
        forgotten = self._past.withdrawn.ends(self._name, now, self._confirm_after)
        due = min([snapshot.again, forgotten, *(hold.until for hold in self._held.values())])
        return None if due == inf else max(0.0, due - now)

    def _judge(self, snapshot: Snapshot[Id], now: float) -> Decision[Id]:
        before = self._held
        holds, accepted = self._past.holds, self._past.accepted
        taken, self._accepted = accepted != self._accepted, accepted
        released = {
            subject: snapshot.absent[subject]
            for subject in before.keys() & snapshot.absent.keys()
            if taken or is_released(before[subject].words, snapshot.words.get(subject, {}))
        }
        if holds and not taken:
            released = {}  # a restored server may show an old word for a new one
        besides = snapshot.expected + self._past.withdrawn.within(self._name, now, self._confirm_after)
        since = {subject: hold.since for subject, hold in before.items()}
        verdict = (
            hold_all(snapshot.absent, released)
            if holds
            else judge(
                snapshot.absent,
                snapshot.total,
                since,
                released,
                now,
                self._confirm_after,
                besides,
                snapshot.begins,
            )
        )
        if verdict.withdraw:  # a process that dies between the two has withdrawn less than it says
            self._past.withdrawn.note(
                self._name, now, sum(snapshot.absent[subject] for subject in verdict.withdraw)
            )
        self._confirmed.add(verdict.withdraw)  # before the hold ends: at no moment is a subject neither
        self._held = self._holds(verdict, snapshot, now)
        if verdict.hold:
            log.warning(
                "held", absent=len(verdict.hold), total=snapshot.total, confirm_seconds=self._confirm_after
            )
        return Decision(verdict.withdraw | (before.keys() ^ self._held.keys()), released)

    def _holds(self, verdict: Verdict[Id], snapshot: Snapshot[Id], now: float) -> Mapping[Id, Hold]:
        holds: dict[Id, Hold] = {}
        for subject, until in verdict.hold.items():
            words = snapshot.words.get(subject, {})
            before = self._held.get(subject)
            # If an object stands for the subject since now only, its word is its first, not a new one.
            words = {**words, **before.words} if before else words
            holds[subject] = Hold(before.since if before else now, until, snapshot.absent[subject], words)
        return holds


def log_released(services: Iterable[str], endpoints: int) -> None:
    """Log that a person released the holds of *services*."""
    names = sorted(set(services))
    log.info("released", services=names[:MOST_LOGGED], count=len(names), endpoints=endpoints)
