"""docs/zookeeper.md, walked: servers are upgraded, added, removed and replaced under a reader that watches.

What is restored, or lost, is tried in tests/faults/test_restored.py and tests/faults/test_zookeeper.py.
"""

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.retry import KazooRetry

from hack.clients.build import zkcli
from hack.local.cluster import LocalCluster, free_ports
from hack.local.controller import finished
from hack.local.zookeeper import Server
from tests.cluster.waiting import TO_START, eventually
from tests.cluster.world import Controller, Recorder, World
from tests.pages import Page
from tests.wildcards import shows

PAGE = Page("docs/zookeeper.md")
OLD = "3.8.4"
OPTIONS = {"initLimit": 20, "syncLimit": 5, "reconfigEnabled": "true", "skipACL": "yes"}
SLOWLY = 120.0  # seconds: for servers that start and elect a leader


class Members:
    """The servers of ensembles in *directory*, by their numbers; *version* as ``Server`` has it."""

    def __init__(self, directory: Path, version: str = "") -> None:
        self._directory = directory
        self._version = version
        self.servers: dict[int, Server] = {}
        self._ports: dict[int, list[int]] = {}

    def start(self, *numbers: int) -> None:
        """Start servers that are to know each other and those that were there before."""
        for number in numbers:
            where = self._directory / str(number)
            self.servers[number] = Server(where, options=OPTIONS, number=number, version=self._version)
            self._ports[number] = free_ports(2)
        known = set(self.servers) - set(numbers)
        for number in numbers:
            # One alone joins those that are there; the first ones name each other.
            others = {*known, number} if known else {*numbers}
            with (self._directory / str(number) / "zoo.cfg").open("a") as file:
                file.writelines(f"server.{each}={self._address(each)}\n" for each in sorted(others))
        for number in numbers:
            self.servers[number].start()
        for number in numbers:
            self.servers[number].process.wait_until_ready(SLOWLY)

    def addresses(self, *numbers: int) -> str:
        """Their addresses, as clients write them."""
        return ",".join(self.servers[number].address for number in numbers)

    def named(self, text: str) -> str:
        """A command of the page with the real addresses in place of ``zk1``, ``zk2`` …"""
        text = re.sub(r"zk(\d):2888:3888;2181", lambda found: self._address(int(found[1])), text)
        return re.sub(r"(?:zk|new)(\d):2181", lambda found: self.servers[int(found[1])].address, text)

    def stop(self) -> None:
        """Kill all of them."""
        for server in self.servers.values():
            server.process.kill()

    def _address(self, number: int) -> str:
        quorum, election = self._ports[number]
        return f"127.0.0.1:{quorum}:{election}:participant;{self.servers[number].address}"


@pytest.fixture
def version() -> str:
    """All of the local cluster's version."""
    return ""


@pytest.fixture
def members(tmp_path: Path, version: str) -> Iterator[Members]:
    """Three servers, 1 to 3."""
    made = Members(tmp_path, version)
    try:
        made.start(1, 2, 3)
        yield made
    finally:
        made.stop()


@pytest.fixture
def zk(members: Members) -> Iterator[KazooClient]:
    """An RPC client's connection: it names the first three, until it is told of others."""
    client = KazooClient(members.addresses(1, 2, 3), connection_retry=KazooRetry(max_tries=-1, max_delay=0.5))
    client.start(SLOWLY)
    yield client
    client.stop()
    client.close()


class Walk:
    """Types what the page shows; in place of the Deployment, a process is started anew with its variable."""

    def __init__(self, cluster: LocalCluster, world: World, members: Members, directory: Path) -> None:
        self.controller: Controller | None = None
        self.servers = ""
        self._cluster = cluster
        self._world = world
        self.members = members
        self._directory = directory
        self._started = 0

    def run(self, servers: str) -> None:
        """Run the controller with *servers*, as a Deployment does whose variable is changed."""
        if self.controller:
            assert self.controller.stop() == 0
        self._started += 1
        self.servers = servers
        self.controller = Controller(
            self._cluster.kubeconfig,
            servers,
            self._directory / f"controller-{self._started}.log",
            *("--namespace", self._world.namespace, "--lease-namespace", self._world.namespace),
            *("--layout", f"kube2zk={self._world.base}", "--cluster-id", self._world.cluster_id),
        ).start()
        eventually(self.controller.leads, TO_START)

    def kill(self) -> None:
        """End the controller, if there is one."""
        if self.controller:
            self.controller.kill()

    def section(self, heading: str, *, only: slice = slice(None)) -> None:
        """Type the commands below a heading; each has to print what the page shows, soon at least."""
        for line, wanted in PAGE.shown(heading)[only]:
            eventually(partial(self._shows, self.members.named(line), wanted), SLOWLY)

    def _shows(self, line: str, wanted: str) -> bool:
        program, *words = shlex.split(line)
        if program == "kubectl":
            *_, (name, _, value) = (word.partition("=") for word in words)
            assert (words[:3], name) == (["-n", "rpcregistry", "set"], "RPCREGISTRY_ZK_SERVERS")
            self.run(value)
            return True
        assert program == "zkCli.sh"
        done = subprocess.run([*zkcli(), *words], capture_output=True, text=True, check=False)
        wanted = re.sub(r"=zk\d:", "=127.0.0.1:", wanted)
        return done.returncode == 0 and shows(wanted, done.stdout)

    def is_well(self) -> bool:
        """Whether ``verify`` finds all in sync."""
        done = finished(
            "verify",
            kubeconfig=self._cluster.kubeconfig,
            zk_servers=self.servers,
            namespace=self._world.namespace,
            layout=f"kube2zk={self._world.base}",
            cluster_id=self._world.cluster_id,
        )
        return done.returncode == 0 and done.stdout.startswith("in sync: ")


@pytest.fixture
def walk(cluster: LocalCluster, world: World, members: Members, tmp_path: Path) -> Iterator[Walk]:
    """The controller runs, and two pods are published."""
    with ExitStack() as stack:
        made = Walk(cluster, world, members, tmp_path)
        stack.callback(made.kill)
        world.create_pod("a", "echo", ip="10.0.0.1")
        world.create_pod("b", "echo", ip="10.0.0.2")
        made.run(members.addresses(1, 2, 3))
        eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2"], SLOWLY)
        yield made


def publish(world: World, number: int) -> None:
    """Create one more pod, and wait until the watching client lists it."""
    world.create_pod(f"p{number}", "echo", ip=f"10.0.1.{number}")
    eventually(lambda: f"10.0.1.{number}" in (world.servers("echo") or ()), SLOWLY)


def never_lost(seen: Recorder) -> bool:
    return all({"10.0.0.1", "10.0.0.2"} <= set(state or ()) for state in seen.states)


@pytest.mark.deep
@pytest.mark.parametrize("version", [OLD])
def test_servers_are_upgraded_one_by_one_and_back(
    walk: Walk, world: World, members: Members, zk: KazooClient, version: str
):
    seen = Recorder(zk, f"{world.base}/echo")
    changes = 0
    for target in ("", version):
        leaders_last = sorted(members.servers.values(), key=lambda server: server.mode == "leader")
        for server in leaders_last:
            server.process.kill()
            server.run_version(target)
            server.start()
            server.process.wait_until_ready(SLOWLY)
            publish(world, changes := changes + 1)
    assert walk.is_well()
    assert never_lost(seen)


@pytest.mark.deep
def test_a_member_is_added_and_another_one_removed(
    walk: Walk, world: World, members: Members, zk: KazooClient
):
    seen = Recorder(zk, f"{world.base}/echo")
    members.start(4)
    *_, remove = PAGE.shown("Add and remove members")
    walk.section("Add and remove members", only=slice(-1))
    publish(world, 1)
    zk.set_hosts(members.addresses(2, 3, 4))
    walk.section("Add and remove members", only=slice(-1, None))
    assert "-remove 1" in remove[0]
    members.servers[1].process.kill()
    publish(world, 2)
    assert walk.is_well()
    assert never_lost(seen)


@pytest.mark.deep
def test_another_ensemble_takes_over_without_a_gap(
    walk: Walk, world: World, members: Members, zk: KazooClient
):
    seen = Recorder(zk, f"{world.base}/echo")
    add, rest = slice(3), slice(3, 4)
    for number, line in zip((4, 5, 6), PAGE.commands("Move to another ensemble")[add], strict=True):
        members.start(number)
        assert f"server.{number}" in line
        walk.section("Move to another ensemble", only=slice(number - 4, number - 3))
    publish(world, 1)
    walk.section("Move to another ensemble", only=rest)
    zk.set_hosts(members.addresses(4, 5, 6))
    publish(world, 2)
    walk.section("Move to another ensemble", only=slice(4, None))
    for number in (1, 2, 3):
        members.servers[number].process.kill()
    publish(world, 3)
    assert walk.is_well()
    assert never_lost(seen)


@pytest.mark.deep
def test_an_empty_ensemble_gets_all_and_the_old_one_stays_as_it_was(
    walk: Walk, world: World, members: Members, zk: KazooClient, tmp_path: Path
):
    old, before = walk.servers, world.data("echo")
    (tmp_path / "new").mkdir()
    new = Members(tmp_path / "new")
    try:
        new.servers[1] = Server(tmp_path / "new" / "1")
        new.servers[1].up()
        walk.members = new
        walk.section("Move to an empty ensemble")
        assert world.data("echo") == before
        other = KazooClient(new.servers[1].address)
        other.start(SLOWLY)
        world.create_pod("c", "echo", ip="10.0.0.3")
        seen: Callable[[], Any] = lambda: other.get(f"{world.base}/echo")[0]  # noqa: E731
        eventually(lambda: other.exists(f"{world.base}/echo") and b"10.0.0.3" in seen(), SLOWLY)
        assert walk.is_well()
        assert world.data("echo") == before
        other.stop()
        other.close()
    finally:
        new.stop()

    walk.run(old)  # the way back
    eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2", "10.0.0.3"], SLOWLY)
    assert walk.is_well()
