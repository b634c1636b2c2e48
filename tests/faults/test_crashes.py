"""The controller killed at every write it makes: the end is the same, and nobody Ready was withdrawn.

Writes to the API server are counted by a proxy that sees requests, those to ZooKeeper by one that sees
bytes; the proxy kills the controller in place of the i-th, or once it is answered.
"""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from hack.local.http_proxy import HttpProxy
from hack.local.proxy import Proxy
from tests.cluster.waiting import eventually
from tests.cluster.world import Recorder, World
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.stand import Stand
from tests.faults.test_zookeeper import is_transaction

FLAGS = ("--guard-confirm", "1s")  # what a restart makes uncertain is not waited for, hundreds of times
READY = "10.0.0.1"  # stays Ready from the first moment to the last
API_WRITES = 20  # at most, of one undisturbed run; a test holds that
ZK_WRITES = 6


def before(world: World) -> None:
    """What the controller finds published when it starts."""
    world.apply_rpcservice("declared", serviceName="given")
    world.create_pod("ready", "echo", "given", "taken", ip=READY)
    world.create_pod("deleted", "echo", ip="10.0.0.2")
    world.create_pod("moved", "echo", ip="10.0.0.3")
    world.create_pod("last", "gone", ip="10.0.0.4")
    eventually(lambda: world.servers("echo") == [READY, "10.0.0.2", "10.0.0.3"])
    eventually(lambda: (world.servers("given"), world.servers("taken")) == ([READY], [READY]))
    eventually(lambda: world.servers("gone") == ["10.0.0.4"])
    eventually(lambda: {world.synced(name) for name in world.rpcservices()} == {("True", "InRegistry")})


def change(world: World) -> None:
    """What happened while it was down: of every kind of write that follows there is one."""
    world.delete_rpcservice("declared")
    world.apply_rpcservice("mine", serviceName="taken", config=["keepalive 1"])
    world.annotate("moved", json.dumps([{"serviceName": "moved"}]))
    world.annotate("last", None)
    world.set_status("deleted", "10.0.0.2", ready=False)
    world.create_pod("added", "echo", "new", ip="10.0.0.5")


ZNODES = {
    "echo": [READY, "10.0.0.5"],
    "given": [READY],
    "taken": [READY],
    "moved": ["10.0.0.3"],
    "new": ["10.0.0.5"],
    "gone": None,
}
RPCSERVICES = {
    "echo": [READY, "10.0.0.2", "10.0.0.5"],
    "given": [READY],
    "mine": [READY],
    "moved": ["10.0.0.3"],
    "new": ["10.0.0.5"],
}


def all_is_right(world: World) -> bool:
    """Whether the end is the one of an undisturbed run."""
    services = world.rpcservices()
    listed = {name: sorted(row["ip"] for row in rows(service)) for name, service in services.items()}
    synced = {world.synced(name) for name in services}
    znodes = {name: world.servers(name) for name in ZNODES}
    return listed == RPCSERVICES and synced == {("True", "InRegistry")} and znodes == ZNODES


def rows(service: Any) -> list[Any]:
    return list(service.get("status", {}).get("endpoints", []))


def is_api_write(method: str, path: str) -> bool:
    return method != "GET" and "/rpcservices" in path


@pytest.fixture
def crash(stand: Stand, world: World, start_controller, zk: KazooClient, through_api: Path, zk_proxy: Proxy):
    """Prepares the world; starts a controller that something kills, and looks what is left of it."""
    first = start_controller(*FLAGS)
    before(world)
    assert first.stop() == 0
    change(world)
    seen = {name: Recorder(zk, f"{world.base}/{name}") for name in ("echo", "given", "taken")}

    def run(arm: Callable[[Callable[[], None]], None]) -> None:
        killed: list[Replica] = []
        arm(lambda: killed[0].signal(signal.SIGKILL))
        between = {"zk": zk_proxy.address, "kubeconfig": through_api}
        killed.append(start_controller(*FLAGS, **between, wait=False, on_exit=stand.bury))
        eventually(lambda: len(killed[0].lives) > 1 or all_is_right(world))
        if len(killed[0].lives) == 1:
            killed[0].crash()
        eventually(lambda: all_is_right(world))
        for name, recorder in seen.items():
            assert all(READY in (state or ()) for state in recorder.states), name

    return run


class Nth:
    """Whether it is the *n*-th that matches; counts them."""

    def __init__(self, n: int, matches: Callable[..., bool]) -> None:
        self.count = 0
        self._n = n
        self._matches = matches

    def __call__(self, *asked: Any) -> bool:
        self.count += self._matches(*asked)
        return self._matches(*asked) and self.count == self._n


def cases(most: int, smoke: tuple[int, ...]) -> list[Any]:
    return [pytest.param(i, marks=[] if i in smoke else pytest.mark.full) for i in range(1, most + 1)]


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.full), "after"])
@pytest.mark.parametrize("number", cases(API_WRITES, smoke=(2,)))
def test_killed_at_a_write_to_the_api_server(crash, api: HttpProxy, number: int, when: str):
    lose = api.lose_request if when == "before" else api.lose_reply
    crash(lambda kill: lose(Nth(number, is_api_write), kill))


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.full), "after"])
@pytest.mark.parametrize("number", cases(ZK_WRITES, smoke=(1,)))
def test_killed_at_a_write_to_zookeeper(crash, zk_proxy: Proxy, number: int, when: str):
    lose = zk_proxy.lose_request if when == "before" else zk_proxy.lose_reply
    crash(lambda kill: lose(Nth(number, is_transaction), kill))


@pytest.mark.full
def test_an_undisturbed_run_makes_no_more_writes_than_are_tried(
    world: World, start_controller, api: HttpProxy, through_api: Path, zk_proxy: Proxy
):
    first = start_controller(*FLAGS)
    before(world)
    assert first.stop() == 0
    change(world)

    transactions = Nth(0, is_transaction)
    zk_proxy.lose_request(transactions)
    start_controller(*FLAGS, zk=zk_proxy.address, kubeconfig=through_api)
    eventually(lambda: all_is_right(world))
    assert 0 < sum(is_api_write(*request) for request in api.requests) <= API_WRITES
    assert 0 < transactions.count <= ZK_WRITES
