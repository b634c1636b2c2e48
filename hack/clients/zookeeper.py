"""A ZooKeeper server of its own, for as long as it is needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.local.zookeeper import Server


@contextmanager
def zookeeper(directory: Path) -> Iterator[str]:
    """The address of a server whose data is in *directory*, and gone with it."""
    server = Server(directory)
    try:
        server.up()
        yield server.address
    finally:
        server.process.kill()
