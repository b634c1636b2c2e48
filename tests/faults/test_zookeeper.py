"""ZooKeeper away, hung, emptied, or edited by others: the znodes are right again afterwards."""

import json
import struct
import time
from collections.abc import Callable

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from hack.local.cluster import LocalCluster
from hack.local.proxy import Proxy
from tests.cluster.waiting import eventually
from tests.cluster.world import Recorder, World
from tests.faults.harness.cluster import FaultProxy
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.stand import Stand

SESSION = 15.0  # seconds: what the controller asks for
ONE, TWO, THREE = ["10.0.0.1"], ["10.0.0.2"], ["10.0.0.3"]


def says(controller: Replica, event: str) -> bool:
    """Whether the controller has logged *event*."""
    return any(line["event"] == event for line in controller.logged())


def test_k2_zookeeper_is_down_at_start_and_the_base_path_is_missing(
    cluster: LocalCluster, world: World, start_controller
):
    cluster.process("zookeeper").kill()
    start_controller("--layout", f"kube2zk={world.base}/deep")
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.listed("echo") == ONE)

    cluster.process("zookeeper").start()
    eventually(lambda: world.zk.exists(f"{world.base}/deep/echo"))


@pytest.mark.full
def test_k12_pods_come_and_go_while_zookeeper_is_away(world: World, start_controller, zk_proxy: Proxy):
    controller = start_controller(zk=zk_proxy.address)
    world.create_pod("a", "echo", ip="10.0.0.1")
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, *TWO])

    zk_proxy.close()
    world.delete_pod("a")
    world.create_pod("c", "echo", ip="10.0.0.3")
    world.create_pod("d", "other", ip="10.0.0.4")
    eventually(lambda: world.synced("echo") == ("False", "RegistryUnavailable"))
    assert world.servers("echo") == [*ONE, *TWO]
    zk_proxy.pass_through()
    eventually(lambda: world.servers("echo") == [*TWO, *THREE])
    eventually(lambda: world.servers("other") == ["10.0.0.4"])
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    assert controller.running


@pytest.mark.full
@pytest.mark.parametrize("broken", [FaultProxy.cut, FaultProxy.reset], ids=["closed", "reset"])
def test_a_session_that_comes_and_goes_changes_no_rpcservice(
    world: World, start_controller, zk_proxy: FaultProxy, broken: Callable[[FaultProxy], None]
):
    controller = start_controller(zk=zk_proxy.address)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    before = world.rpcservices()["echo"]["metadata"]["resourceVersion"]

    broken(zk_proxy)
    eventually(lambda: [line["event"] for line in controller.logged()].count("zookeeper connected") == 2)
    world.create_pod("b", "other", ip="10.0.0.2")
    eventually(lambda: world.synced("other") == ("True", "InRegistry"))
    assert world.rpcservices()["echo"]["metadata"]["resourceVersion"] == before


@pytest.mark.full
@pytest.mark.parametrize("rate", [5_000, 500])  # bytes a second
def test_a_slow_link_to_zookeeper_delays(world: World, start_controller, zk_proxy: Proxy, rate: int):
    """What would take longer than an answer may is sent in parts; a session may end until it is known."""
    controller = start_controller(zk=zk_proxy.address)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)

    zk_proxy.throttle(rate)
    for number in range(20):
        world.create_pod(f"p{number}", f"s{number}", ip=f"10.0.1.{number}")
    eventually(lambda: all(world.servers(f"s{number}") for number in range(20)), timeout=180)
    ends = [line["event"] for line in controller.logged()].count("zookeeper connected") - 1
    assert ends == 0 or rate < 5_000


def test_z1_zookeeper_is_killed_and_started_again(
    cluster: LocalCluster, world: World, controller: Replica, zk: KazooClient
):
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    seen = Recorder(zk, f"{world.base}/echo")

    cluster.process("zookeeper").restart()
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, *TWO])
    assert seen.smallest() == 1


@pytest.mark.full
def test_z2_zookeeper_hangs_for_longer_than_a_session(
    cluster: LocalCluster, world: World, controller: Replica, connect: Callable[[], KazooClient]
):
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)

    hangs_from = time.monotonic()
    cluster.process("zookeeper").pause()
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.listed("echo") == [*ONE, *TWO])
    eventually(lambda: says(controller, "zookeeper disconnected"))
    eventually(lambda: time.monotonic() - hangs_from > SESSION + 2)  # its clock counts whole seconds
    cluster.process("zookeeper").resume()
    world.zk = connect()
    eventually(lambda: world.servers("echo") == [*ONE, *TWO])
    world.create_pod("c", "echo", ip="10.0.0.3")
    eventually(lambda: world.servers("echo") == [*ONE, *TWO, *THREE])


@pytest.mark.full
def test_z3_zookeepers_data_is_wiped(
    cluster: LocalCluster, world: World, controller: Replica, connect: Callable[[], KazooClient]
):
    """Its clients, which have seen more than it knows, are refused for ever."""
    for number in range(1, 21):
        world.create_pod(f"p{number}", f"s{number}", ip=f"10.0.0.{number}")
    eventually(lambda: all(world.servers(f"s{number}") for number in range(1, 21)))
    before = {number: world.data(f"s{number}") for number in range(1, 21)}

    cluster.process("zookeeper").kill()
    cluster.wipe_zookeeper()
    cluster.process("zookeeper").start()
    cluster.process("zookeeper").wait_until_ready()
    world.zk = connect()
    eventually(lambda: {number: world.data(f"s{number}") for number in before} == before, timeout=90)
    world.create_pod("later", "later", ip="10.0.1.1")
    eventually(lambda: world.servers("later") == ["10.0.1.1"])


@pytest.mark.full
def test_z5_the_session_is_ended_by_another_client(
    cluster: LocalCluster, stand: Stand, world: World, start_controller, zk_proxy: Proxy
):
    controller = start_controller(zk=zk_proxy.address)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)

    # The first answer of a connection: its length, version, timeout, session and password.
    session, password = struct.unpack_from(">q4x16s", stand.zk_answers[0], 12)
    thief = KazooClient(cluster.zk_servers, client_id=(session, password))
    thief.start()
    thief.stop()
    thief.close()
    eventually(lambda: [line["event"] for line in controller.logged()].count("zookeeper connected") == 2)
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, *TWO])


@pytest.mark.parametrize("lost", [pytest.param("request", marks=pytest.mark.full), "reply"])
@pytest.mark.parametrize(
    ("write", "after"),
    [
        pytest.param(lambda world: world.create_pod("b", "new", ip="10.0.0.2"), (ONE, TWO), id="create"),
        pytest.param(
            lambda world: world.create_pod("b", "echo", ip="10.0.0.2"), ([*ONE, *TWO], None), id="set"
        ),
        pytest.param(lambda world: world.delete_pod("a"), (None, None), id="delete"),
    ],
)
def test_z12_a_write_that_is_lost_and_one_whose_answer_is(
    world: World, start_controller, zk_proxy: Proxy, zk: KazooClient, write, after, lost: str
):
    start_controller(zk=zk_proxy.address)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    seen = Recorder(zk, f"{world.base}/echo")

    happened: list[str] = []
    lose = zk_proxy.lose_request if lost == "request" else zk_proxy.lose_reply
    lose(is_transaction, lambda: happened.append(lost))
    write(world)
    eventually(lambda: (world.servers("echo"), world.servers("new")) == after)
    eventually(lambda: happened == [lost])
    eventually(lambda: seen.states[-1] == after[0])
    eventually(lambda: seen.states == [ONE, *([after[0]] if after[0] != ONE else [])])


def is_transaction(request: bytes) -> bool:
    """Whether a request is a transaction: type 14 after length and number."""
    return len(request) > 12 and struct.unpack_from(">i", request, 8) == (14,)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(
            lambda zk, path: zk.set(path, b'{"config":[],"servers":["6.6.6.6"]}'),
            id="other servers",
            marks=pytest.mark.full,
        ),
        pytest.param(lambda zk, path: zk.set(path, b"garbage"), id="no JSON", marks=pytest.mark.full),
        pytest.param(lambda zk, path: zk.delete(path), id="deleted"),
    ],
)
def test_z6_what_others_do_to_our_znode_is_put_back_at_once(
    world: World, start_controller, zk: KazooClient, spoil
):
    start_controller("--compare-period", "1h")
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)

    for _ in range(3):  # a watch tells of one change, and is set anew
        spoil(zk, f"{world.base}/echo")
        eventually(lambda: servers_of(world) == ONE)


def servers_of(world: World) -> object:
    """The znode's servers, where it can be read."""
    try:
        return json.loads(world.zk.get(f"{world.base}/echo")[0])["servers"]
    except (NoNodeError, ValueError):
        return None


@pytest.mark.full
def test_a_foreign_child_of_our_znode_is_left_alone(
    stand: Stand, world: World, controller: Replica, zk: KazooClient
):
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    stand.put_foreign(f"{world.base}/foreign", b"theirs")
    stand.put_foreign(f"{world.base}/echo/child", b"theirs")

    world.delete_pod("a")
    eventually(lambda: world.servers("echo") == [])
    assert zk.get(f"{world.base}/foreign")[0] == zk.get(f"{world.base}/echo/child")[0] == b"theirs"
