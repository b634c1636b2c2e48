"""Real calls of clients that balance their load themselves: none fails, and none goes where no pod is.

Clients and pods are in a network of their own, so that each pod has an address; ZooKeeper has a proxy there.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from hack.clients.watcher import Watcher
from hack.local import netns
from hack.local.cluster import LocalCluster
from hack.local.netns import Machine, make_network
from hack.local.process import Process
from hack.local.proxy import Proxy
from tests.clients.journeys import SERVICE, base, entry, layout_flags, published
from tests.clients.readers import (
    ARMERIA,
    CURATOR,
    D2,
    FINAGLE,
    GO_KIT,
    PATIENCE,
    SPRING_CLOUD,
    VERTX,
    Reader,
)
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World

SERVER = Path(__file__).parents[1] / "server.py"
PORT = 8080
CALLERS = (*ARMERIA, D2, CURATOR, GO_KIT, SPRING_CLOUD, VERTX, FINAGLE)
LATELY = 30  # calls in a row: that many leave out one of five addresses by chance once in 800 times


@pytest.fixture
def machine(tmp_path: Path, cluster: LocalCluster) -> Iterator[Machine]:
    """A machine of its own network, in which ZooKeeper has the address that it has here."""
    reason = netns.missing()
    if reason:
        pytest.skip(reason)
    host, _, port = cluster.zk_servers.rpartition(":")
    directory = tmp_path / "network"
    directory.mkdir()
    with (
        make_network(directory) as network,
        network.machine("pods") as machine,
        Proxy(cluster.zk_servers, listener=machine.listen(host, int(port))),
    ):
        yield machine


class Pods:
    """Pods with a server each, at addresses of the machine."""

    def __init__(self, machine: Machine, world: World) -> None:
        self._machine = machine
        self._world = world
        self._servers: dict[str, Process] = {}

    def create(self, name: str) -> str:
        address = self._serve()
        self._world.create_pod(name, entry(PORT), ip=address)
        return f"{address}:{PORT}"

    def move(self, name: str) -> str:
        """Give the pod another address; its server at the old one goes on until ``stop``."""
        address = self._serve()
        self._world.set_status(name, address)
        return f"{address}:{PORT}"

    def stop(self, address: str) -> None:
        self._servers.pop(address.partition(":")[0]).kill()

    def _serve(self) -> str:
        address = self._machine.add_address()
        command = [sys.executable, str(SERVER), address, str(PORT)]
        url = f"http://{address}:{PORT}"
        self._servers[address] = self._machine.start(address, command, lambda: self._machine.answers(url))
        return address


def answered(caller: Watcher, address: str) -> bool:
    """Whether a call came out at the address."""
    return any(address in endpoints for endpoints in caller.seen())


def left(caller: Watcher, address: str) -> bool:
    """Whether the calls go elsewhere by now; each is printed that comes out elsewhere than the one before."""
    return not any(address in endpoints for endpoints in caller.seen()[-LATELY:])


@pytest.mark.full
@pytest.mark.parametrize("reader", [pytest.param(reader, id=reader.id) for reader in CALLERS])
def test_no_call_fails_while_pods_come_move_and_go(
    reader: Reader,
    machine: Machine,
    cluster: LocalCluster,
    world: World,
    start_controller: Callable[..., Controller],
    start_watcher: Callable[..., Watcher],
):
    controller = start_controller(*layout_flags(world, reader))
    pods = Pods(machine, world)
    a, b = pods.create("a"), pods.create("b")
    for address in (a, b):
        eventually(partial(published, world, reader, address.partition(":")[0]), PATIENCE)
    follows = (cluster.zk_servers, *reader.follow(base(world, reader.layout), SERVICE))
    caller = start_watcher(reader.client, "call", *follows, within=machine.command())

    def settles(*, on: tuple[str, ...], off: tuple[str, ...] = ()) -> None:
        for address in on:
            eventually(partial(answered, caller, address), PATIENCE)
        for address in off:
            eventually(partial(left, caller, address), PATIENCE)
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

    assert reader.errors(caller) == []
