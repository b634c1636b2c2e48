"""What is read of ZooKeeper, and what is written to it: values between those who decide and those who do."""

from typing import TypeAlias

import msgspec


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


def write(path: str, data: bytes, observed: Znode | None) -> tuple[Op, ...]:
    """What makes the znode at *path* hold *data*: nothing where it does."""
    if observed is None:
        return (Create(path, data),)
    return () if observed.data == data else (Set(path, data, observed.version),)
