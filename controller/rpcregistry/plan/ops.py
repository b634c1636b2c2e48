"""What is read of ZooKeeper, and what is written to it: values between those who decide and those who do."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

OPS_A_TRANSACTION = 500
BYTES_A_TRANSACTION = 512 * 1024


class Znode(msgspec.Struct, frozen=True):
    """A znode as it was read: its bytes, the version of them, how many children, ephemeral or not."""

    data: bytes
    version: int
    children: int = 0
    ephemeral: bool = False


class Create(msgspec.Struct, frozen=True):
    """Create a PERSISTENT znode; its parents are there."""

    path: str
    data: bytes


class Set(msgspec.Struct, frozen=True):
    """Replace the bytes of a znode that has *version*."""

    path: str
    data: bytes
    version: int


class Delete(msgspec.Struct, frozen=True):
    """Delete a znode that has *version* and no children."""

    path: str
    version: int


class Check(msgspec.Struct, frozen=True):
    """Pass only while the znode has *version*: how a transaction is fenced."""

    path: str
    version: int


Op: TypeAlias = Create | Set | Delete | Check
Step: TypeAlias = tuple[Op, ...]  # done together or not at all


def write(path: str, data: bytes, observed: Znode | None) -> tuple[Op, ...]:
    """What makes the znode at *path* hold *data*: nothing where it does."""
    if observed is None:
        return (Create(path, data),)
    return () if observed.data == data else (Set(path, data, observed.version),)


def batches(steps: Iterable[tuple[T, Step]]) -> Iterator[list[tuple[T, Step]]]:
    """Steps, each with what it is for, in as few transactions as fit; their order is kept.

    >>> [len(batch) for batch in batches([("x", (Delete("/a", 0),) * 200)] * 3)]
    [2, 1]
    """
    batch: list[tuple[T, Step]] = []
    ops = size = 0
    for purpose, step in steps:
        ops += len(step)
        size += _size(step)
        if batch and (ops > OPS_A_TRANSACTION or size > BYTES_A_TRANSACTION):
            yield batch
            batch, ops, size = [], len(step), _size(step)
        batch.append((purpose, step))
    if batch:
        yield batch


def _size(step: Step) -> int:
    return sum(len(op.path) + len(op.data if isinstance(op, Create | Set) else b"") for op in step)
