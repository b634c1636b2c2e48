"""Events: what ``kubectl describe`` shows."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Protocol

import structlog

from rpcregistry.errors import Conflict, Ending, Failure, Retry
from rpcregistry.manifests import EVENTS, made
from rpcregistry.model import ObjectKey, Problem, Regarding
from rpcregistry.telemetry.logging import printable

log = structlog.get_logger(__name__)

EVENT_INTERVAL = 0.1  # seconds: at most ten a second
LONGEST_PAUSE = 30.0  # seconds, while the API server does not take them
MOST_WAITING = 10_000
MOST_REMEMBERED = 100_000
LONGEST_NOTE = 1000
_LONGEST_NAME = 253


class Poster(Protocol):
    """Posts Events.  Fails with an ``errors.Failure``: ``Conflict`` if the name is taken."""

    def raw(self, method: str, path: str, body: Mapping[str, Any]) -> Any: ...


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


class EventRecorder:
    """Posts Events, ten a second at most, and each once; ``run`` in a thread of its own.

    *identity* names this process.  At most ``MOST_WAITING`` Events wait: it drops others, and takes them when
    they are recorded again.  *dropped* is called for each; it must not block.
    """

    def __init__(
        self,
        poster: Poster,
        identity: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        dropped: Callable[[], None] = lambda: None,
    ) -> None:
        self._poster = poster
        self._dropped = dropped
        self._identity = identity
        self._now = now
        self._condition = threading.Condition()  # protects _waiting, _known and _stopped
        self._waiting: deque[dict[str, Any]] = deque()
        self._known: OrderedDict[tuple[str, str], None] = (
            OrderedDict()
        )  # posted, or waiting; the oldest first
        self._stopped = False

    def record(
        self, regarding: Regarding, problem: Problem, action: str, *, warning: bool, salt: str = ""
    ) -> None:
        """Enqueue an Event of *problem*, unless there was one with the same *salt*.  Never waits."""
        event = event_manifest(regarding, problem, action, warning, salt, self._identity, self._now())
        key = _key(event)
        with self._condition:
            if key in self._known:
                return
            if len(self._waiting) >= MOST_WAITING:
                log.debug("event dropped", key=key)
                self._dropped()
                return
            self._known[key] = None
            if len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)
            self._waiting.append(event)
            self._condition.notify()

    @property
    def waiting(self) -> int:
        """How many Events are not posted yet."""
        with self._condition:
            return len(self._waiting)

    def run(self) -> None:
        """Post the recorded Events, until ``stop``."""
        failures = 0
        while event := self._next():
            failures, pause = self._post(event, failures)
            with self._condition:
                self._condition.wait_for(lambda: self._stopped, pause)

    def stop(self) -> None:
        """Let ``run`` return; Events that still wait are never posted."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    def _next(self) -> dict[str, Any] | None:
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._stopped)
            return None if self._stopped else self._waiting.popleft()

    def _post(self, event: dict[str, Any], failures: int) -> tuple[int, float]:
        """Post *event*, or enqueue it again; return the failures in a row and the seconds to pause."""
        try:
            self._poster.raw("POST", EVENTS.path(event["metadata"]["namespace"]), event)
        except Conflict:
            pass  # the cluster has it, perhaps from another process
        except Retry as retry:
            with self._condition:
                self._waiting.append(event)  # last: it may be the only one that fails
            pause = min(LONGEST_PAUSE, EVENT_INTERVAL * 2.0 ** min(failures, 16))
            return failures + 1, max(EVENT_INTERVAL, retry.after or pause)
        except Ending:
            pass  # its namespace ends, and the Event with it
        except Failure as failure:
            log.warning("event refused", reason=str(failure))
            with self._condition:
                self._known.pop(_key(event), None)
        return 0, EVENT_INTERVAL


def _key(event: Mapping[str, Any]) -> tuple[str, str]:
    return event["metadata"]["namespace"], event["metadata"]["name"]
