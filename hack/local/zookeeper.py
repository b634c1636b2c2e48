"""ZooKeeper servers for tests to break: alone or as an ensemble, with TLS and SASL if wanted.

The local cluster's own server is in ``cluster``.
"""

import shlex
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from hack.local.binaries import zookeeper_command
from hack.local.cluster import free_ports
from hack.local.process import Process

NETTY = "org.apache.zookeeper.server.NettyServerCnxnFactory"
SASL = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
LOGIN = "org.apache.zookeeper.server.auth.DigestLoginModule"


class Server:
    """A ZooKeeper server in *directory*.

    *options* are added to its configuration.  *tls*: options of the port ``secure_port`` (``ssl.…``, see
    ``tls``).  *users*, by name their passwords, may authenticate by SASL.  *ensemble*: lines that name all
    servers of one, and which this is.  *version*: another one than that of ``hack/zookeeper``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        options: Mapping[str, object] = MappingProxyType({}),
        tls: Mapping[str, object] | None = None,
        users: Mapping[str, str] | None = None,
        ensemble: Sequence[str] = (),
        number: int = 0,
        version: str = "",
    ) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self.data = directory / "data"
        self._number = number
        self.port, self.secure_port = free_ports(2)
        self.address = f"127.0.0.1:{self.port}"
        config: dict[str, object] = {
            "tickTime": 1000,
            "dataDir": self.data,
            "clientPort": self.port,
            "clientPortAddress": "127.0.0.1",
            "admin.enableServer": "false",
            "maxClientCnxns": 0,
            "4lw.commands.whitelist": "*",
            "forceSync": "no",
            **options,
        }
        if ensemble:
            config |= {"initLimit": 20, "syncLimit": 5}
        if tls is not None:
            config |= {"serverCnxnFactory": NETTY, "secureClientPort": self.secure_port, **tls}
        if users is not None:
            config["authProvider.sasl"] = SASL
        self._users = users
        lines = [*(f"{key}={value}" for key, value in config.items()), *ensemble]
        (directory / "zoo.cfg").write_text("\n".join(lines) + "\n")
        command = [*self._environment(), *zookeeper_command(version), str(directory / "zoo.cfg")]
        self.process = Process("zookeeper", directory, command, lambda: bool(self.mode))

    def start(self) -> None:
        """Start it, without waiting until it serves."""
        if self._number:
            self.data.mkdir(exist_ok=True)
            (self.data / "myid").write_text(f"{self._number}\n")
        self.process.resume()
        self.process.start()

    def up(self) -> None:
        """Start it if it does not run, and wait until it serves."""
        self.start()
        self.process.wait_until_ready()

    def wipe(self) -> None:
        """Lose all data; call it while the server is down."""
        shutil.rmtree(self.data)

    def sessions(self) -> str:
        """The connections that the server knows."""
        return self._ask(b"cons")

    @property
    def mode(self) -> str:
        """``standalone``, ``leader`` or ``follower``; empty while it does not serve."""
        try:
            _, found, rest = self._ask(b"srvr").partition("Mode: ")
        except OSError:
            return ""
        return rest.split()[0] if found else ""

    def _environment(self) -> list[str]:
        """The environment variables that give the server its users."""
        if self._users is None:
            return []
        jaas = self._directory / "jaas.conf"
        users = "".join(f"\n  user_{name}={_quoted(password)}" for name, password in self._users.items())
        jaas.write_text(f"Server {{\n  {LOGIN} required{users};\n}};\n")
        return ["env", f"JAVA_TOOL_OPTIONS=-Djava.security.auth.login.config={shlex.quote(str(jaas))}"]

    def _ask(self, command: bytes) -> str:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(command)
            return connection.makefile().read()


class Ensemble:
    """Three servers that know each other, in *directory*."""

    def __init__(self, directory: Path) -> None:
        ports = free_ports(6)
        lines = [
            f"server.{number}=127.0.0.1:{ports[2 * number - 2]}:{ports[2 * number - 1]}"
            for number in (1, 2, 3)
        ]
        self.servers = [
            Server(directory / str(number), ensemble=lines, number=number) for number in (1, 2, 3)
        ]

    @property
    def address(self) -> str:
        """The addresses of all servers, as clients write them."""
        return ",".join(server.address for server in self.servers)

    def leader(self) -> Server | None:
        """The server that leads, or None for now."""
        return next((server for server in self.servers if server.mode == "leader"), None)

    def up(self) -> None:
        """Run all of them, and wait until they serve."""
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.process.wait_until_ready()

    def down(self) -> None:
        """Kill all of them."""
        for server in self.servers:
            server.process.kill()


def tls(certificate: Path, ca: Path, *, client_auth: bool = False) -> dict[str, object]:
    """The options of a server with a *certificate* (PEM, with its key); *client_auth*: clients need one."""
    return {
        "ssl.keyStore.location": certificate,
        "ssl.keyStore.type": "PEM",
        "ssl.trustStore.location": ca,
        "ssl.trustStore.type": "PEM",
        "ssl.clientAuth": "need" if client_auth else "none",
        "ssl.hostnameVerification": "false",  # of what it hears from clients; clients verify it all the same
    }


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
