"""What is refused of each key's writes, and when each of them may be tried again."""

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
F = TypeVar("F", bound=Exception)

FIRST_PAUSE = 1.0  # seconds
LONGEST_PAUSE = 60.0
LONGEST_PAUSE_AWAY = 8.0  # while the server is away: once it answers again, nothing is to wait for long
COUNT_PERIOD = 10.0  # seconds between two counts of what has no room that people are shown


def backoff(failures: int) -> float:
    """The seconds to wait after the *failures*-th refusal in a row.

    >>> [backoff(failures) for failures in (1, 2, 3, 7, 5000)]
    [1.0, 2.0, 4.0, 60.0, 60.0]
    """
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16))


class _Attempt(NamedTuple, Generic[F]):
    failures: int
    until: float
    failure: F


@dataclass
class Trouble(Generic[F]):
    """What is refused of one key, *since* when; belongs to the thread that has the key in hand.

    *unplaced*: how many endpoints have no object to list them, as people are shown.
    """

    since: float
    unplaced: int = 0
    _counted_at: float = float("-inf")
    _attempts: dict[Hashable, _Attempt[F]] = field(default_factory=dict)

    def waiting(self, write: Hashable, now: float) -> F | None:
        """Why *write* was refused, where it is not to be tried again yet."""
        attempt = self._attempts.get(write)
        return attempt.failure if attempt and now < attempt.until else None

    def refused(self, write: Hashable, failure: F, now: float, *, away: bool = False) -> None:
        """*write* was refused (again); *away*: the server did not answer, and took no time for that."""
        before = self._attempts.get(write)
        failures = before.failures + 1 if before else 1
        pause = max(backoff(failures), getattr(failure, "after", None) or 0.0)
        pause = min(pause, LONGEST_PAUSE_AWAY) if away else pause
        self._attempts[write] = _Attempt(failures, now + pause, failure)

    def keep(self, writes: set[Hashable]) -> None:
        """Forget all refusals but those of *writes*: the others were made, or nobody wants them any more."""
        self._attempts = {write: self._attempts[write] for write in writes if write in self._attempts}

    def seconds_left(self, now: float) -> float:
        """The seconds until the first of what was refused may be tried again."""
        return max(0.0, min((attempt.until for attempt in self._attempts.values()), default=now) - now)

    def count(self, unplaced: int, now: float) -> bool:
        """Whether people are to be shown another number than before; then it is noted."""
        turned = bool(unplaced) != bool(self.unplaced)
        if unplaced == self.unplaced or not (turned or now - self._counted_at >= COUNT_PERIOD):
            return False
        self.unplaced, self._counted_at = unplaced, now
        return True


class Troubles(Generic[K, F]):
    """The keys of which a write is refused; for any thread.

    Lost with the process, which then tries everything at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _troubles
        self._troubles: dict[K, Trouble[F]] = {}

    def get(self, key: K) -> Trouble[F] | None:
        """What is refused of *key*."""
        with self._lock:
            return self._troubles.get(key)

    def begin(self, key: K, now: float) -> Trouble[F]:
        """What is refused of *key*, from now on if nothing was before."""
        with self._lock:
            return self._troubles.setdefault(key, Trouble(now))

    def end(self, key: K) -> None:
        """Nothing is refused of *key* (any more)."""
        with self._lock:
            self._troubles.pop(key, None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._troubles)
