"""What was refused of a key's writes, so that the others are made all the same."""

from collections.abc import Callable
from typing import Generic, TypeVar

from rpcregistry.errors import Conflict, Rejected, Retry

Op = TypeVar("Op")


class Refusals(Generic[Op]):
    """Makes writes and collects those that are refused, of one key: for the thread that has it in hand.

    A write is refused where its answer is neither success, nor ``Conflict`` (read and plan anew), nor
    ``Fenced`` (stop): where it was rejected, failed, or got no answer.  *all*: what was
    refused; *first*: what was it first, and why.
    """

    def __init__(self) -> None:
        self.all: list[Op] = []
        self.first: tuple[Op, Rejected | Retry] | None = None

    def note(self, op: Op, failure: Rejected | Retry) -> None:
        """*op* is not made."""
        self.all.append(op)
        self.first = self.first or (op, failure)

    def of(self, op: Op, apply: Callable[[Op], None]) -> Rejected | Retry | None:
        """Apply *op*; return why it was refused, None where it was not."""
        try:
            apply(op)
        except Conflict:
            raise
        except (Rejected, Retry) as failure:
            self.note(op, failure)
            return failure
        return None
