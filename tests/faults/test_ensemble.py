"""Three ZooKeeper servers, of which one, or two, are killed: no write is lost, and nothing withdrawn."""

import json
import threading
from collections.abc import Callable, Iterator

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.retry import KazooRetry

from hack.local.zookeeper import Ensemble, Server
from rpcregistry.errors import Retry
from rpcregistry.plan.ops import Create
from rpcregistry.zookeeper.client import ZooKeeper
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.stand import Servers, Stand

TIMEOUT = 90.0  # for servers that elect a leader, and sessions that end


@pytest.fixture(scope="module")
def whole_ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    ensemble = Ensemble(tmp_path_factory.mktemp("ensemble"))
    try:
        ensemble.up()
        yield ensemble
    finally:
        ensemble.down()


@pytest.fixture
def ensemble(whole_ensemble: Ensemble) -> Ensemble:
    """Three servers, all of which serve."""
    whole_ensemble.up()
    return whole_ensemble


@pytest.fixture
def zookeeper(ensemble: Ensemble) -> Servers:
    """The ensemble, and the data of one of its members."""
    return Servers(ensemble.address, [ensemble.servers[0].data])


@pytest.fixture
def zk(ensemble: Ensemble) -> Iterator[KazooClient]:
    """A client that is not ours, and has the patience that a reader needs."""
    client = KazooClient(ensemble.address, connection_retry=KazooRetry(max_tries=-1, max_delay=0.5))
    client.start(TIMEOUT)
    yield client
    client.stop()
    client.close()


def the_leader(ensemble: Ensemble) -> Server:
    leader = eventually(ensemble.leader, TIMEOUT)
    assert leader
    return leader


def a_follower(ensemble: Ensemble) -> Server:
    followers = eventually(
        lambda: [server for server in ensemble.servers if server.mode == "follower"], TIMEOUT
    )
    return followers[0]


@pytest.mark.parametrize(
    "pick",
    [
        pytest.param(the_leader, id="the leader"),
        pytest.param(a_follower, id="a follower", marks=pytest.mark.full),
    ],
)
def test_what_was_acknowledged_is_there_after_a_server_was_killed(
    ensemble: Ensemble, zk: KazooClient, pick: Callable[[Ensemble], Server]
):
    chroot = f"/written-{pick.__name__}/by/us"  # which is not there
    zookeeper = ZooKeeper(ensemble.address + chroot)
    zookeeper.start()
    written: list[str] = []
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            try:
                if number == 0:
                    zookeeper.make_parents("/x")
                zookeeper.commit([Create(f"/{number:05}", b"")])
            except Retry:
                number += bool(written)  # nobody knows whether it was written: another name
                continue
            written.append(f"{number:05}")
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        eventually(lambda: len(written) > 20, TIMEOUT)
        server = pick(ensemble)
        server.process.kill()
        count = len(written)
        eventually(lambda: len(written) > count + 20, TIMEOUT)
        server.up()
    finally:
        stop.set()
        thread.join()
        zookeeper.close()
    zk.sync(chroot)
    assert set(zk.get_children(chroot)) >= set(written)


class Lists:
    """The servers of a service, as a reader sees them that looks again and again."""

    def __init__(self, zk: KazooClient, path: str) -> None:
        self._zk = zk
        self._path = path
        self.seen: list[list[str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            try:
                data = self._zk.get_async(self._path).get(timeout=5)[0]
            except NoNodeError:
                data = b'{"servers":[]}'
            except (KazooException, self._zk.handler.timeout_exception):
                continue  # away: a reader keeps what it has
            servers = json.loads(data)["servers"]
            if [servers] != self.seen[-1:]:
                self.seen.append(servers)

    def last(self) -> list[str]:
        return self.seen[-1] if self.seen else []

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.full
def test_pods_come_and_go_while_an_ensemble_loses_servers_and_its_quorum(
    ensemble: Ensemble, stand: Stand, world: World, start_controller
):
    controller = start_controller()

    def ips(*numbers: int) -> list[str]:
        return [f"10.0.0.{number}" for number in numbers]

    for number in (1, 2, 3):
        world.create_pod(f"p{number}", "echo", ip=f"10.0.0.{number}")
    path = f"{world.base}/echo"
    eventually(lambda: world.zk.exists(path), TIMEOUT)
    lists = Lists(world.zk, path)
    try:
        eventually(lambda: lists.last() == ips(1, 2, 3), TIMEOUT)
        whole = len(lists.seen)
        with stand.fault("ensemble", recovery=60):
            leader = the_leader(ensemble)
            world.create_pod("p4", "echo", ip="10.0.0.4")
            leader.process.kill()
            world.create_pod("p5", "echo", ip="10.0.0.5")
            eventually(lambda: lists.last() == ips(1, 2, 3, 4, 5), TIMEOUT)
            leader.up()

            follower = a_follower(ensemble)
            follower.process.kill()
            world.create_pod("p6", "echo", ip="10.0.0.6")
            eventually(lambda: lists.last() == ips(1, 2, 3, 4, 5, 6), TIMEOUT)

            leader = the_leader(ensemble)
            leader.process.kill()  # two of three
            world.create_pod("p7", "echo", ip="10.0.0.7")
            world.delete_pod("p1")
            eventually(lambda: world.synced("echo") == ("False", "RegistryUnavailable"), TIMEOUT)
            leader.start()
            follower.start()
            eventually(lambda: lists.last() == ips(2, 3, 4, 5, 6, 7), TIMEOUT)
            eventually(lambda: world.synced("echo") == ("True", "InRegistry"), TIMEOUT)
    finally:
        lists.close()
    for before, after in zip(lists.seen[whole - 1 :], lists.seen[whole:], strict=False):
        assert set(before) - set(after) <= set(ips(1))  # the one whose pod was deleted
    assert controller.running
