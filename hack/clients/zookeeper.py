"""A ZooKeeper server for the length of a ``with``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.local.zookeeper import Server


@contextmanager
def zookeeper(directory: Path) -> Iterator[str]:
    """The address of a server whose data is in *directory*."""
    server = Server(directory)
    try:
        server.up()
        yield server.address
    finally:
        server.process.kill()
