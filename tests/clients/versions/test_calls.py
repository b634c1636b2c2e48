"""Real calls of clients that balance their load themselves: none fails, and none goes where no pod is.

Clients and pods are in a network of their own, each pod on a machine of its own; ZooKeeper has a proxy there.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import NamedTuple

import pytest

from hack.clients.build import command
from hack.clients.watcher import Watcher
from hack.local import netns
from hack.local.cluster import LocalCluster
from hack.local.netns import Machine, Network, make_network
from hack.local.process import Process
from hack.local.proxy import Proxy
from tests.clients.journeys import SERVICE, base, entry, layout_flags, published
from tests.clients.readers import (
    ARMERIA,
    CURATOR,
    D2,
    DUBBO,
    FINAGLE,
    GO_KIT,
    MOTAN,
    PATIENCE,
    RETRIES,
    SOFA,
    SPRING_CLOUD,
    VERTX,
    Reader,
)
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World

SERVER = Path(__file__).parents[1] / "server.py"
PORT = 8080
CALLERS = (*ARMERIA, D2, CURATOR, GO_KIT, SPRING_CLOUD, VERTX, FINAGLE, DUBBO, MOTAN, SOFA)
LATELY = 60  # calls in a row: that many leave out one of five addresses by chance once in 600,000 times


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A network of its own for the client and the pods."""
    reason = netns.missing()
    if reason:
        pytest.skip(reason)
    directory = tmp_path / "network"
    directory.mkdir()
    with make_network(directory) as network:
        yield network


@pytest.fixture
def machine(network: Network, cluster: LocalCluster) -> Iterator[Machine]:
    """The client's machine, in which ZooKeeper has the address that it has here."""
    host, _, port = cluster.zk_servers.rpartition(":")
    with (
        network.machine("client") as machine,
        Proxy(cluster.zk_servers, listener=machine.listen(host, int(port))),
    ):
        yield machine


@pytest.fixture
def start_caller(
    machine: Machine, cluster: LocalCluster, world: World, start_watcher: Callable[..., Watcher]
) -> Callable[[Reader], Watcher]:
    """Starts a reader's client on its machine: it follows the service, and calls it."""

    def start(reader: Reader) -> Watcher:
        follows = (cluster.zk_servers, *reader.follow(base(world, reader.layout), SERVICE))
        return start_watcher(reader.client, "call", *follows, within=machine.command())

    return start


class Pods:
    """Pods with a server each, on machines of their own; *command*: a server, by its host and port."""

    def __init__(self, network: Network, world: World, command: Callable[[str, str], Sequence[str]]) -> None:
        self._network = network
        self._world = world
        self._command = command
        self._machines = ExitStack()
        self._numbers = count()
        self._servers: dict[str, Process] = {}

    def __enter__(self) -> "Pods":
        return self

    def __exit__(self, *_: object) -> None:
        self._machines.close()

    def create(self, name: str) -> str:
        address = self._serve()
        self._world.create_pod(name, entry(PORT), ip=address)
        return f"{address}:{PORT}"

    def publish(self, reader: Reader, *names: str) -> list[str]:
        """Create pods, and wait until the reader's layout has them."""
        addresses = [self.create(name) for name in names]
        for address in addresses:
            eventually(partial(published, self._world, reader, address.partition(":")[0]), PATIENCE)
        return addresses

    def move(self, name: str) -> str:
        """Give the pod another address; its server at the old one goes on until ``stop``."""
        address = self._serve()
        self._world.set_status(name, address)
        return f"{address}:{PORT}"

    def stop(self, address: str) -> None:
        self._servers.pop(address.partition(":")[0]).kill()

    def freeze(self, address: str) -> None:
        """Let the server hang: it keeps its connections, and answers no more."""
        self._servers[address.partition(":")[0]].pause()

    def _serve(self) -> str:
        machine = self._machines.enter_context(self._network.machine(f"pod-{next(self._numbers)}"))
        address = machine.address
        self._servers[address] = machine.start(
            "server", self._command(address, str(PORT)), partial(answers, machine), PATIENCE
        )
        return address


def answers(machine: Machine) -> bool:
    """Whether a server listens on the machine."""
    try:
        machine.connect(machine.address, PORT).close()
    except OSError:
        return False
    return True


def server(reader: Reader) -> Callable[[str, str], Sequence[str]]:
    """The program of the pods that the reader calls."""
    if reader.provider is None:
        return lambda host, port: (sys.executable, str(SERVER), host, port)
    provider = reader.provider
    return lambda host, port: (*command(reader.client), "serve", host, port, *provider)


def answered(caller: Watcher, way: str, address: str) -> bool:
    """Whether a call came out at the address."""
    return any(address in endpoints for endpoints in caller.seen(way))


def left(caller: Watcher, way: str, address: str) -> bool:
    """Whether the calls go elsewhere by now."""
    return not any(address in endpoints for endpoints in caller.seen(way)[-LATELY:])


class Calls(NamedTuple):
    """What became of a client's calls."""

    made: int
    failed: int
    retried: int


def calls(caller: Watcher, way: str) -> Calls:
    """What became of the calls that the client made in this way."""
    lines = [line for line in caller.lines if line["via"] == way]
    return Calls(
        sum("endpoints" in line for line in lines),
        len(caller.errors(way)),
        sum(line["retried"] for line in lines),
    )


@pytest.mark.full
@pytest.mark.parametrize("reader", [pytest.param(reader, id=reader.id) for reader in CALLERS])
def test_no_call_fails_while_pods_come_move_and_go(
    reader: Reader,
    network: Network,
    world: World,
    start_controller: Callable[..., Controller],
    start_caller: Callable[[Reader], Watcher],
    record_property: Callable[[str, object], None],
):
    controller = start_controller(*layout_flags(world, reader))
    with Pods(network, world, server(reader)) as pods:
        a, b = pods.publish(reader, "a", "b")
        caller = start_caller(reader)

        def settles(*, on: tuple[str, ...], off: tuple[str, ...] = ()) -> None:
            for way, address in product(reader.calls, on):
                eventually(partial(answered, caller, way, address), PATIENCE)
            for way, address in product(reader.calls, off):
                eventually(partial(left, caller, way, address), PATIENCE)
            for address in off:
                pods.stop(address)  # a call that still went there would fail

        settles(on=(a, b))
        moved = pods.move("b")
        settles(on=(moved,), off=(b,))
        controller.kill()
        c = pods.create("c")
        controller.start()
        settles(on=(c,))
        world.delete_pod("a")
        settles(on=(), off=(a,))
        settles(on=tuple(pods.create(f"new-{number}") for number in range(3)))  # a rolling update
        for name in ("b", "c"):
            world.delete_pod(name)
        settles(on=(), off=(moved, c))

        outcome = {way: calls(caller, way) for way in reader.calls}
        record_property("calls", str(outcome))
        print(reader.id, outcome)
        assert {way: (of.failed, of.retried) for way, of in outcome.items()} == dict.fromkeys(outcome, (0, 0))


@pytest.mark.full
@pytest.mark.parametrize(
    ("reader", "fail"),
    [
        pytest.param(GO_KIT, Pods.stop, id="go-kit"),
        pytest.param(FINAGLE, Pods.stop, id="finagle"),
        pytest.param(DUBBO, Pods.freeze, id="dubbo"),  # it gives up a provider whose connection ends
    ],
)
def test_a_call_to_a_pod_that_fails_while_it_is_listed_counts_as_retried_or_failed(
    reader: Reader,
    fail: Callable[[Pods, str], None],
    network: Network,
    world: World,
    start_controller: Callable[..., Controller],
    start_caller: Callable[[Reader], Watcher],
):
    start_controller(*layout_flags(world, reader))
    with Pods(network, world, server(reader)) as pods:
        a, b = pods.publish(reader, "a", "b")
        caller = start_caller(reader)
        for way, address in product(RETRIES, (a, b)):
            eventually(partial(answered, caller, way, address), PATIENCE)

        fail(pods, a)  # and nobody says so to Kubernetes
        eventually(lambda: calls(caller, "off").failed, PATIENCE)
        eventually(lambda: calls(caller, "defaults").retried, PATIENCE)
        assert (calls(caller, "off").retried, calls(caller, "defaults").failed) == (0, 0)
