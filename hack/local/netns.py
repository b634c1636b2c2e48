"""A network of machines inside this one: network namespaces, joined by a bridge in one more namespace.

The host's own network is not touched: no interface, address or rule lies outside of the namespaces.
Needs root, and ip(8).
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from hack.local.process import Process

NAMESPACES = Path("/run/netns")
FILES = Path("/etc/netns")  # what ip-netns(8) mounts over /etc for the programs of a namespace
_networks = count(1)  # of this process
TOOLS = ("ip", "nft", "curl", "unshare")
CLONE_NEWNET = 0x40000000  # <linux/sched.h>
PROBE = """
ip link add bridge type bridge && ip link add left type veth peer name right && nft add table probe
"""


def missing() -> str | None:
    """Say what this machine lacks for such networks, and for kube-proxy in them; None if nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    if absent:
        return f"network namespaces need {', '.join(absent)} on PATH"
    probe = ["unshare", "--net", "--mount", "sh", "-c", PROBE]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"network namespaces do not work here: {done.stderr.strip()}" if done.returncode else None


class Machine:
    """A namespace with an address in the network, and the programs that run in it."""

    def __init__(self, namespace: str, network: str, directory: Path) -> None:
        self.address = f"{network}.1"
        self._namespace = namespace
        self._network = network
        self.directory = directory
        self._addresses = 1

    def command(self, *command: str) -> list[str]:
        """The command that runs *command* in here."""
        return ["ip", "netns", "exec", self._namespace, *command]

    @property
    def file(self) -> Path:
        """What nsenter(1) and setns(2) enter."""
        return NAMESPACES / self._namespace

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in here; return its outcome, also of a failure."""
        return subprocess.run(self.command(*command), capture_output=True, text=True, check=False)

    def start(
        self, name: str, command: Sequence[str], ready: Callable[[], bool], seconds: float = 60.0
    ) -> Process:
        """Start a program in here, and wait until it serves; it ends with the machine."""
        process = Process(name, self.directory, self.command(*command), ready)
        process.start()
        process.wait_until_ready(seconds)
        return process

    def answers(self, url: str) -> bool:
        """Whether an HTTP server of this machine answers with 200."""
        return self.run("curl", "--silent", "--fail", "--max-time", "5", url).returncode == 0

    def listen(self, host: str, port: int) -> socket.socket:
        """A socket that listens in this machine's network, for a program that is not in it."""
        return self._inside(lambda: socket.create_server((host, port)))

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection that this machine makes, for a program that is not in it."""
        return self._inside(lambda: socket.create_connection((host, port), timeout=5))

    def _inside(self, make: Callable[[], socket.socket]) -> socket.socket:
        def enter_and_make() -> socket.socket:
            with self.file.open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {self._namespace}")
            return make()

        # setns(2) moves the thread that calls it, and no other; this one ends right after.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(enter_and_make).result()

    def add_address(self) -> str:
        """One more address of this machine, which all others reach; none is given out twice."""
        self._addresses += 1
        address = f"{self._network}.{self._addresses}"
        _ip("-n", self._namespace, "address", "add", f"{address}/32", "dev", "eth0")
        return address

    def resolve_through(self, nameserver: str, domain: str) -> None:
        """Let the programs that start in here from now on ask *nameserver*, for names in *domain* first."""
        file = FILES / self._namespace / "resolv.conf"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"nameserver {nameserver}\nsearch {domain}\noptions ndots:5\n")


class Network:
    """Machines in 10.1.0.0/16, all on one link: the first has 10.1.1.0/24 to itself, and so on."""

    def __init__(self, name: str, directory: Path) -> None:
        self._name = name
        self._directory = directory
        self._machines = 0

    @contextmanager
    def machine(self, name: str) -> Iterator[Machine]:
        """Add a machine; it and all that runs in it goes with the context."""
        self._machines += 1
        number, namespace = self._machines, f"{self._name}-{name}"
        directory = self._directory / name
        directory.mkdir()
        with _namespace(namespace):
            machine = Machine(namespace, f"10.1.{number}", directory)
            port = f"port{number}"
            _ip("-n", self._name, "link", "add", port, "type", "veth", "peer", "eth0", "netns", namespace)
            _ip("-n", self._name, "link", "set", port, "master", "bridge", "up")
            _ip("-n", namespace, "link", "set", "lo", "up")
            _ip("-n", namespace, "link", "set", "eth0", "up")
            _ip("-n", namespace, "address", "add", f"{machine.address}/16", "dev", "eth0")
            # Packets to a Service's address need a route, too, before kube-proxy turns them around.
            _ip("-n", namespace, "route", "add", "default", "dev", "eth0")
            yield machine


@contextmanager
def make_network(directory: Path, name: str | None = None) -> Iterator[Network]:
    """A network without machines; *directory* keeps what theirs write.  All namespaces begin with *name*."""
    name = name or f"rpcregistry-{os.getpid()}-{next(_networks)}"
    with _namespace(name):
        _ip("-n", name, "link", "add", "bridge", "up", "type", "bridge")
        yield Network(name, directory)


@contextmanager
def _namespace(name: str) -> Iterator[None]:
    """Make a namespace; in the end remove it, with its processes and files."""
    _ip("netns", "add", name)
    try:
        yield
    finally:
        for pid in _ip("netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        _ip("netns", "delete", name)
        shutil.rmtree(FILES / name, ignore_errors=True)
        with suppress(OSError):
            FILES.rmdir()  # goes only where nobody else keeps anything in it


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
