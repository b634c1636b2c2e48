"""Reads of single objects that may be refused: what they would tell is unknown, which costs nothing else."""

import threading
from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeVar

import structlog

from rpcregistry.errors import Partial, Rejected, Retry
from rpcregistry.reconcile.troubles import FIRST_PAUSE, LONGEST_PAUSE, REPORTED_AFTER
from rpcregistry.runtime.workqueue import backoff

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Unread(Partial):
    """A read was refused, or failed.  *is_news*: people should know; an outage has to last first."""

    def __init__(self, message: str, after: float, *, rejected: bool, is_news: bool) -> None:
        super().__init__(message, after, rejected=rejected)
        self.is_news = is_news


class _Refused(NamedTuple):
    since: float
    failures: int
    until: float
    failure: Rejected | Retry


class Reads:
    """Refused reads, each with a back-off of its own; for any thread.

    Lost with the process: the next one reads at once.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # protects _refused
        self._refused: dict[Hashable, _Refused] = {}

    def of(self, subject: Hashable, read: Callable[[], T]) -> T:
        """What *read* returns about *subject*; raises ``Unread`` without reading while its pause lasts."""
        now = self._clock()
        with self._lock:
            before = self._refused.get(subject)
        if before is None or now >= before.until:
            try:
                found = read()
            except (Rejected, Retry) as failure:
                before = self._note(subject, failure)
            else:
                with self._lock:
                    self._refused.pop(subject, None)
                return found
        now = self._clock()
        is_rejected = isinstance(before.failure, Rejected)
        raise Unread(
            str(before.failure),
            max(0.0, before.until - now) or FIRST_PAUSE,
            rejected=is_rejected,
            is_news=is_rejected or now - before.since >= REPORTED_AFTER,
        ) from before.failure

    def _note(self, subject: Hashable, failure: Rejected | Retry) -> _Refused:
        now = self._clock()
        with self._lock:
            before = self._refused.get(subject)
            failures = before.failures + 1 if before else 1
            pause = max(backoff(failures, FIRST_PAUSE, LONGEST_PAUSE), getattr(failure, "after", None) or 0.0)
            noted = _Refused(before.since if before else now, failures, now + pause, failure)
            # Those that nobody asks about any more would stay for ever.
            self._refused = {of: it for of, it in self._refused.items() if now < it.until + LONGEST_PAUSE}
            self._refused[subject] = noted
        log.warning("cannot be read", reason=str(failure))
        return noted
