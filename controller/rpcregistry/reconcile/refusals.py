"""Collects the refused writes of a key: all others are made, and each refused one has its own back-off."""

from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

import structlog

from rpcregistry.errors import Conflict, Ending, Partial, Rejected, Retry, Unanswered, Unkept
from rpcregistry.plan.invariants import Broken
from rpcregistry.reconcile.ports import Clock, Kube
from rpcregistry.reconcile.troubles import FIRST_PAUSE, REPORTED_AFTER, Troubles

K = TypeVar("K", bound=Hashable)
Op = TypeVar("Op")

log = structlog.get_logger(__name__)

SLOW = 1.0  # seconds for a write
MOST_REPORTED = 10  # pods that get an Event


def is_refused(error: Exception) -> bool:
    """Whether *error* stays the same until something changes: it is no lost answer, and no outage."""
    return isinstance(error, Rejected | Broken) or (isinstance(error, Partial) and error.rejected)


def log_refused(key: object, failure: Rejected | Retry) -> None:
    """Log that a write of *key* was refused."""
    match failure:
        case Ending():
            log.debug("namespace is ending", key=str(key))
        case Rejected():
            log.warning("refused", key=str(key), reason=str(failure))
        case _:
            log.info("refused", key=str(key), reason=str(failure))


def require_kept(kube: Kube, what: str, changed: Collection[str]) -> None:
    """Raise ``Unkept`` if fields of the answer to our write *what* are *changed* from what was written.

    A dry run writes nothing, so its answers show nothing.
    """
    if changed and not kube.dry_run:
        raise Unkept(
            f"{what}: the API server does not keep {', '.join(sorted(changed))}: "
            "a mutating admission policy or webhook changes it"
        )


class Refusals(Generic[Op]):
    """Makes the writes of one key and collects the refused ones; belongs to the thread that works the key.

    A write is refused if the server rejected it, or it failed or got no answer.  ``Conflict`` (read and plan
    anew) and ``Fenced`` (stop) are no refusals: both are raised.  *all*: the refused writes.  *first*: the
    first of them, and why.
    """

    def __init__(self) -> None:
        self.all: list[Op] = []
        self.first: tuple[Op, Rejected | Retry] | None = None

    def note(self, op: Op, failure: Rejected | Retry) -> None:
        """Note that *op* was refused."""
        self.all.append(op)
        self.first = self.first or (op, failure)

    def of(self, op: Op, apply: Callable[[Op], None]) -> Rejected | Retry | None:
        """Apply *op*; return why it was refused, or None."""
        try:
            apply(op)
        except Conflict:
            raise
        except (Rejected, Retry) as failure:
            self.note(op, failure)
            return failure
        return None


class Backoffs(Generic[K, Op]):
    """The refused writes of a reconciler's keys, each with a back-off of its own; for any thread.

    *write_of*: the identity of a write among those of its key, regardless of its content.
    """

    def __init__(self, write_of: Callable[[Op], Hashable], clock: Clock) -> None:
        self._write_of = write_of
        self._clock = clock
        self._troubles: Troubles[K, Rejected | Retry] = Troubles()

    def of(self, key: K) -> "Attempt[K, Op]":
        """The attempt to make the writes of *key*."""
        return Attempt(key, self._troubles, self._write_of, self._clock)


class Attempt(Refusals[Op], Generic[K, Op]):
    """Makes the writes of one key, except those that were refused a moment ago.

    Belongs to the thread that works the key, which calls ``finish`` at the end.
    """

    def __init__(
        self,
        key: K,
        troubles: Troubles[K, Rejected | Retry],
        write_of: Callable[[Op], Hashable],
        clock: Clock,
    ) -> None:
        super().__init__()
        self._key = key
        self._troubles = troubles
        self._write_of = write_of
        self._clock = clock

    @property
    def is_wary(self) -> bool:
        """Whether a write of the key was refused before, so that removals should go first."""
        return self._troubles.get(self._key) is not None

    def make(self, op: Op, apply: Callable[[Op], None], less: Op | None = None) -> Rejected | Retry | None:
        """Apply *op*, unless its pause is not over; return why it was refused, or None.

        *less*: *op* without what it adds, if it removes something as well.  It is made if *op* is refused,
        and first if a write of the key was refused before.
        """
        first = less is not None and self.is_wary and not isinstance(self._waiting(op), Unkept)
        if less is not None and first:
            self._make(less, apply)
        failure = self._make(op, apply)
        if less is not None and not first and failure and not isinstance(failure, Unkept):
            self._make(less, apply)
        return failure

    def _waiting(self, op: Op) -> Rejected | Retry | None:
        """Why *op* was refused, if its pause is not over."""
        trouble = self._troubles.get(self._key)
        return trouble.waiting(self._write_of(op), self._clock.monotonic()) if trouble else None

    def _make(self, op: Op, apply: Callable[[Op], None]) -> Rejected | Retry | None:
        write, begun = self._write_of(op), self._clock.monotonic()
        if waiting := self._waiting(op):
            self.note(op, waiting)
            return waiting
        failure = self.of(op, apply)
        if failure:
            now = self._clock.monotonic()
            away = isinstance(failure, Unanswered) and now - begun < SLOW
            if self._troubles.begin(self._key, begun).refused(write, failure, now, away=away):
                log_refused(self._key, failure)
        return failure

    @property
    def reported(self) -> Rejected | Retry | None:
        """Why the first refused write was refused, if people should know: an outage has to last first."""
        if self.first is None:
            return None
        _, failure = self.first
        now = self._clock.monotonic()
        lasts = now - self._troubles.begin(self._key, now).since >= REPORTED_AFTER
        is_news = not isinstance(failure, Ending) and (lasts or not isinstance(failure, Retry))
        return failure if is_news else None

    def finish(self) -> None:
        """Raise ``Partial`` if a write was refused; else the key has no trouble (any more)."""
        if self.first is None:
            self._troubles.end(self._key)
            return
        _, failure = self.first
        now = self._clock.monotonic()
        trouble = self._troubles.begin(self._key, now)
        trouble.retain_only({self._write_of(op) for op in self.all})
        after = trouble.seconds_left(now) or FIRST_PAUSE
        raise Partial(str(failure), after, rejected=isinstance(failure, Rejected)) from failure
