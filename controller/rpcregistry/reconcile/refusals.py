"""Collects the refused writes of a key, so that the others are still made."""

from collections.abc import Callable
from typing import Generic, TypeVar

from rpcregistry.errors import Conflict, Partial, Rejected, Retry
from rpcregistry.plan.invariants import Broken

Op = TypeVar("Op")


def is_refused(error: Exception) -> bool:
    """Whether *error* stays the same until something changes: it is no lost answer, and no outage."""
    return isinstance(error, Rejected | Broken) or (isinstance(error, Partial) and error.rejected)


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
