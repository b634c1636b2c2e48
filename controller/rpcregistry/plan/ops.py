"""Znodes as read, and operations to write: the values between plans and the code that applies them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

OPS_A_TRANSACTION = 500
BYTES_A_TRANSACTION = 512 * 1024


class Znode(msgspec.Struct, frozen=True):
    """A znode as read: its bytes, their version, its number of children, and whether it is ephemeral."""

    data: bytes
    version: int
    children: int = 0
    ephemeral: bool = False


class Group(msgspec.Struct, frozen=True):
    """Paths to compare together: *znodes* that were read, and those whose *children* were listed."""

    znodes: Sequence[str]
    children: Sequence[str]


class Create(msgspec.Struct, frozen=True):
    """Create a PERSISTENT znode; its parents exist."""

    path: str
    data: bytes


ANY = -1  # a version


class Set(msgspec.Struct, frozen=True):
    """Replace the bytes of a znode that has *version*, or ``ANY``."""

    path: str
    data: bytes
    version: int


class Delete(msgspec.Struct, frozen=True):
    """Delete a znode that has *version* and no children."""

    path: str
    version: int


class Check(msgspec.Struct, frozen=True):
    """Fail the transaction unless the znode has *version*: the fence."""

    path: str
    version: int


Op: TypeAlias = Create | Set | Delete | Check
Step: TypeAlias = tuple[Op, ...]  # written in one transaction


def write(path: str, data: bytes, observed: Znode | None) -> tuple[Op, ...]:
    """The operation that makes the znode at *path* hold *data*; none if it does already."""
    if observed is None:
        return (Create(path, data),)
    return () if observed.data == data else (Set(path, data, observed.version),)


def batches(steps: Iterable[tuple[T, Step]], most: int = OPS_A_TRANSACTION) -> Iterator[list[tuple[T, Step]]]:
    """Group steps, each with its purpose, into as few transactions as fit; keep their order.

    A transaction has at most *most* operations, or one step.

    >>> [len(batch) for batch in batches([("x", (Delete("/a", 0),) * 200)] * 3)]
    [2, 1]
    """
    batch: list[tuple[T, Step]] = []
    ops = size = 0
    for purpose, step in steps:
        ops += len(step)
        size += _size(step)
        if batch and (ops > most or size > BYTES_A_TRANSACTION):
            yield batch
            batch, ops, size = [], len(step), _size(step)
        batch.append((purpose, step))
    if batch:
        yield batch


def _size(step: Step) -> int:
    return sum(len(op.path) + len(op.data if isinstance(op, Create | Set) else b"") for op in step)
