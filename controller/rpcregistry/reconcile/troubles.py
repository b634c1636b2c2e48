"""The refused writes of each key, and when each may be tried again."""

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from rpcregistry.runtime.workqueue import backoff

K = TypeVar("K", bound=Hashable)
F = TypeVar("F", bound=Exception)

FIRST_PAUSE = 1.0  # seconds
LONGEST_PAUSE = 60.0
LONGEST_PAUSE_AWAY = 8.0  # while the server is away: once it answers, no write has to wait for long
REPORTED_AFTER = 10.0  # seconds, before which we do not report what may pass by itself
LOG_PERIOD = 60.0  # seconds between two lines about the same refusal
COUNT_PERIOD = 10.0  # seconds between two updates of the shown count of endpoints without room


class _Attempt(NamedTuple, Generic[F]):
    failures: int
    until: float
    failure: F
    logged_at: float


@dataclass
class Trouble(Generic[F]):
    """The refused writes of one key, *since* when; belongs to the thread that works the key.

    *unplaced*: how many endpoints no object lists, as the head's status shows it.
    """

    since: float
    unplaced: int = 0
    _counted_at: float = float("-inf")
    _attempts: dict[Hashable, _Attempt[F]] = field(default_factory=dict)

    def waiting(self, write: Hashable, now: float) -> F | None:
        """Why *write* was refused, if its pause is not over; else None."""
        attempt = self._attempts.get(write)
        return attempt.failure if attempt and now < attempt.until else None

    def refused(self, write: Hashable, failure: F, now: float, *, away: bool = False) -> bool:
        """Note that *write* was refused (again); *away*: the connection failed at once, without an answer.

        Return whether to log it: as news, and once a minute.
        """
        before = self._attempts.get(write)
        is_news = (
            before is None
            or type(before.failure) is not type(failure)
            or now - before.logged_at >= LOG_PERIOD
        )
        failures = before.failures + 1 if before else 1
        pause = max(backoff(failures, FIRST_PAUSE, LONGEST_PAUSE), getattr(failure, "after", None) or 0.0)
        pause = min(pause, LONGEST_PAUSE_AWAY) if away else pause
        logged_at = before.logged_at if before and not is_news else now
        self._attempts[write] = _Attempt(failures, now + pause, failure, logged_at)
        return is_news

    def retain_only(self, writes: set[Hashable]) -> None:
        """Forget all refusals but those of *writes*: the others were made, or are no longer planned."""
        self._attempts = {write: self._attempts[write] for write in writes if write in self._attempts}

    def seconds_left(self, now: float) -> float:
        """The seconds until the first refused write may be tried again."""
        return max(0.0, min((attempt.until for attempt in self._attempts.values()), default=now) - now)

    def count(self, unplaced: int, now: float) -> bool:
        """Whether to show *unplaced* in place of the number before; if so, note it as shown."""
        turned = bool(unplaced) != bool(self.unplaced)
        if unplaced == self.unplaced or not (turned or now - self._counted_at >= COUNT_PERIOD):
            return False
        self.unplaced, self._counted_at = unplaced, now
        return True


class Troubles(Generic[K, F]):
    """The keys with refused writes; for any thread.

    Lost with the process: the next one tries every write at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _troubles
        self._troubles: dict[K, Trouble[F]] = {}

    def get(self, key: K) -> Trouble[F] | None:
        """The trouble of *key*, or None."""
        with self._lock:
            return self._troubles.get(key)

    def begin(self, key: K, now: float) -> Trouble[F]:
        """The trouble of *key*, which begins *now* if there was none."""
        with self._lock:
            return self._troubles.setdefault(key, Trouble(now))

    def end(self, key: K) -> None:
        """Note that no write of *key* is refused (any more)."""
        with self._lock:
            self._troubles.pop(key, None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._troubles)
