"""A ZooKeeper server of its own, for as long as it is needed."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.local.binaries import zookeeper_command
from hack.local.cluster import free_ports
from hack.local.process import Process


@contextmanager
def zookeeper(directory: Path) -> Iterator[str]:
    """The address of a server whose data is in *directory*, and gone with it."""
    (port,) = free_ports(1)
    configuration = directory / "zoo.cfg"
    configuration.write_text(
        f"tickTime=1000\ndataDir={directory}/data\nclientPort={port}\nclientPortAddress=127.0.0.1\n"
        "admin.enableServer=false\nforceSync=no\nmaxClientCnxns=0\n4lw.commands.whitelist=srvr\n"
    )

    def serves() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                connection.sendall(b"srvr")
                return b"Mode:" in connection.makefile("rb").read()
        except OSError:
            return False

    server = Process("zookeeper", directory, [*zookeeper_command(), str(configuration)], serves)
    server.start()
    try:
        server.wait_until_ready()
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
