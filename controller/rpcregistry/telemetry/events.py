"""Events: what ``kubectl describe`` shows."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

import structlog

from rpcregistry.errors import Conflict, Ending, Failure, Retry
from rpcregistry.manifests import EVENTS, made
from rpcregistry.model import ObjectKey, Problem, Regarding
from rpcregistry.plan.turns import InFlight, Turns
from rpcregistry.telemetry.logging import printable

log = structlog.get_logger(__name__)

EVENT_INTERVAL = 0.1  # seconds: at most ten a second
LONGEST_PAUSE = 30.0  # seconds, while the API server does not take those of a namespace
POSTERS = 3  # threads: one namespace may use one of them, and slow ones leave one to all others
# Seconds for an answer in a namespace that is not known to be slow: as many of them as there are threads may
# begin to hang at once.  An Event that was posted all the same is found when it is posted again.
FIRST_PATIENCE = 2.0
MOST_WAITING = 5_000  # of each class
MOST_OF_A_NAMESPACE = 1_000  # of each class
MOST_REMEMBERED = 100_000
LOG_INTERVAL = 60.0  # seconds between two lines about dropped Events
FIRST = {"Held", "OwnedElsewhere"}  # reasons: what is held, and who owns what
LONGEST_NOTE = 1000
_LONGEST_NAME = 253


class Poster(Protocol):
    """Posts Events.  Fails with an ``errors.Failure``: ``Conflict`` if the name is taken.

    *patience*: how many seconds an answer may take; None: as many as any other.
    """

    def raw(
        self, method: str, path: str, body: Mapping[str, Any], *, patience: float | None = None
    ) -> Any: ...


def event_manifest(
    regarding: Regarding,
    problem: Problem,
    action: str,
    warning: bool,
    salt: str,
    identity: str,
    now: datetime,
) -> dict[str, Any]:
    """The Event of *problem*.  Its name is a hash of its content, so the cluster has it once."""
    note = _note(problem.message)
    said = (regarding.uid, problem.reason, note, *([salt] if salt else []))
    digest = sha256("\0".join(said).encode()).hexdigest()[:16]
    name = regarding.name[: _LONGEST_NAME - 1 - len(digest)].rstrip("-.")
    return made.event(
        ObjectKey(regarding.namespace or "default", f"{name}.{digest}"),
        regarding,
        Problem(problem.reason, note),
        action=action,
        warning=warning,
        time=now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        instance=identity[:128],
    )


def _note(message: str) -> str:
    """*message*, cut to ``LONGEST_NOTE`` bytes: the API server counts bytes."""
    text = printable(message)
    if len(text.encode()) <= LONGEST_NOTE:
        return text
    return text.encode()[: LONGEST_NOTE - 3].decode(errors="ignore") + "…"


def is_first(regarding: Regarding, problem: Problem) -> bool:
    """Whether the Event goes before all others: it tells of holds or ownership, or is about the Lease."""
    return regarding.kind == "Lease" or problem.reason in FIRST


class _Key(NamedTuple):
    namespace: str
    name: str


class _Pause(NamedTuple):
    """After so many *failures* in a row, Events of a namespace wait *until* then."""

    failures: int
    until: float


class EventRecorder:
    """Posts Events, ten a second at most, and each once; ``run`` in ``POSTERS`` threads.

    Namespaces take turns, in each of two classes (``is_first``).  In each class a namespace has its own share
    of the room.  Where there is none, the Event that came last in the longest line is dropped, and taken when
    it is recorded again.

    *identity* names this process.  *dropped* is called for each dropped Event, and for each that
    the API server refuses; it must not block.  *is_slow* and *timed* ask and
    tell whether a namespace's requests take long.
    """

    def __init__(
        self,
        poster: Poster,
        identity: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        clock: Callable[[], float] = time.monotonic,
        dropped: Callable[[], None] = lambda: None,
        is_slow: Callable[[str], bool] = lambda _: False,
        timed: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        self._poster = poster
        self._identity = identity
        self._now = now
        self._clock = clock
        self._on_dropped = dropped
        self._is_slow = is_slow
        self._timed = timed
        self._condition = threading.Condition()  # protects all that follows
        self._events: dict[_Key, tuple[dict[str, Any], bool]] = {}  # that wait, and whether each is first
        self._turns: dict[bool, Turns[_Key]] = {True: Turns(), False: Turns()}  # those that are first, others
        self._known: OrderedDict[_Key, None] = OrderedDict()  # posted, or waiting; the oldest first
        self._in_flight = InFlight(POSTERS, is_slow)
        self._pauses: dict[str, _Pause] = {}  # by namespace
        self._next_at = float("-inf")  # when the next Event may be posted
        self._dropped = 0  # since the last line about it
        self._log_at = float("-inf")
        self._stopped = False

    def record(
        self, regarding: Regarding, problem: Problem, action: str, *, warning: bool, salt: str = ""
    ) -> None:
        """Enqueue an Event of *problem*, unless there was one with the same *salt*.  Never waits."""
        event = event_manifest(regarding, problem, action, warning, salt, self._identity, self._now())
        key = _Key(event["metadata"]["namespace"], event["metadata"]["name"])
        first = is_first(regarding, problem)
        with self._condition:
            if key in self._known:
                return
            self._known[key] = None
            if len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)
            self._put(key, event, first)
            loser = self._make_room(self._turns[first], key.namespace)
            to_log = self._count_dropped() if loser else 0
        if loser:
            self._on_dropped()
        if to_log:
            log.warning("events dropped", count=to_log, last_of=loser)

    @property
    def waiting(self) -> int:
        """How many Events are not posted yet."""
        with self._condition:
            return len(self._events)

    def run(self) -> None:
        """Post the recorded Events, until ``stop``."""
        while taken := self._next():
            key, event, first = taken
            again, pause = self._post(key, event)
            with self._condition:
                self._in_flight.end(key.namespace)
                self._note_pause(key.namespace, pause)
                if again:
                    self._put(key, event, first)  # last: it may be the only one that fails
                self._condition.notify_all()

    def stop(self) -> None:
        """Let ``run`` return; Events that still wait are never posted."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    def _put(self, key: _Key, event: dict[str, Any], first: bool) -> None:
        self._events[key] = event, first
        self._turns[first].put(key, (key.namespace,))
        self._condition.notify()

    def _make_room(self, turns: Turns[_Key], namespace: str) -> str:
        """Drop an Event if *namespace*, or all, have too many; return whose it was, or ``""``."""
        if turns.size(namespace) <= MOST_OF_A_NAMESPACE:
            if len(turns) <= MOST_WAITING:
                return ""
            namespace = turns.longest()
        key = turns.last(namespace)
        if key is None:
            return ""
        turns.discard(key)
        del self._events[key]
        self._known.pop(key, None)
        return namespace

    def _count_dropped(self) -> int:
        """Count a dropped Event; return how many to log, 0 if there was a line a moment ago."""
        self._dropped += 1
        if self._clock() < self._log_at:
            return 0
        self._log_at = self._clock() + LOG_INTERVAL
        dropped, self._dropped = self._dropped, 0
        return dropped

    def _next(self) -> tuple[_Key, dict[str, Any], bool] | None:
        """Wait for the Event whose turn it is; None once stopped."""
        with self._condition:
            while not self._stopped:
                now = self._clock()
                if now < self._next_at:
                    self._condition.wait(self._next_at - now)
                    continue

                def may(namespace: str, now: float = now) -> bool:
                    pause = self._pauses.get(namespace)
                    return self._in_flight.may(namespace, now) and (pause is None or pause.until <= now)

                taken = self._turns[True].take(may) or self._turns[False].take(may)
                if taken:
                    self._next_at = now + EVENT_INTERVAL
                    self._in_flight.begin(taken.key.namespace, now)
                    return taken.key, *self._events.pop(taken.key)
                until = (pause.until for pause in self._pauses.values() if pause.until > now)
                self._condition.wait(min(min(until, default=now + LONGEST_PAUSE) - now, LONGEST_PAUSE))
            return None

    def _post(self, key: _Key, event: dict[str, Any]) -> tuple[bool, float | None]:
        """Post *event*.

        Return whether to post it again, and the seconds that the server wants the namespace to wait, if it
        failed.
        """
        patience = None if self._is_slow(key.namespace) else FIRST_PATIENCE
        try:
            with self._timed(key.namespace):
                self._poster.raw("POST", EVENTS.path(key.namespace), event, patience=patience)
        except Conflict:
            pass  # the cluster has it, perhaps from another process
        except Retry as retry:
            return True, retry.after or 0.0
        except Ending:
            pass  # its namespace ends, and the Event with it
        except Failure as failure:
            log.warning("event refused", reason=str(failure))
            with self._condition:
                self._known.pop(key, None)
            self._on_dropped()
        return False, None

    def _note_pause(self, namespace: str, pause: float | None) -> None:
        """Note that an Event was posted, or failed: then *namespace* pauses, for longer each time."""
        before = self._pauses.pop(namespace, _Pause(0, 0.0))
        if pause is not None:
            delay = min(LONGEST_PAUSE, EVENT_INTERVAL * 2.0 ** min(before.failures, 16))
            until = self._clock() + max(EVENT_INTERVAL, pause or delay)
            self._pauses[namespace] = _Pause(before.failures + 1, until)
