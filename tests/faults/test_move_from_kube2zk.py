"""The runbook of the move from kube2zk, walked as it stands: each step, its way back, and the step again."""

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from hack.clients.build import zkcli
from hack.local.cluster import LocalCluster
from tests.clients.written import RECORDED, recording
from tests.cluster.waiting import eventually
from tests.cluster.world import Recorder, World
from tests.faults.harness.ground import Ground
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.stand import Stand
from tests.faults.test_docs import typed
from tests.pages import Page
from tests.wildcards import shows

__all__ = ["typed"]

PAGE = Page("docs/migrate-from-kube2zk.md")
(WRITTEN,) = (znode["data"] for znode in recording("kube2zk")["znodes"] if RECORDED in znode["data"])
IPS = json.loads(WRITTEN)["servers"]
SHOP, KUBE2ZK, OURS = "shop", "kube2zk", "rpcregistry"  # namespaces


@pytest.fixture
def namespace(ground: Ground) -> Iterator[str]:
    """The namespace that the page shows."""
    ground.make_namespace(SHOP)
    yield SHOP
    ground.core.delete_namespace(SHOP)


@pytest.fixture
def kube2zk(ground: Ground, cluster: LocalCluster) -> Iterator[None]:
    """Its Deployment, and on the page's path a program to type ``zkCli.sh``."""
    ground.make_namespace(KUBE2ZK)
    cluster.kubectl("-n", KUBE2ZK, "create", "deployment", KUBE2ZK, "--image=kube2zk")
    yield
    ground.core.delete_namespace(KUBE2ZK)


@pytest.fixture
def zkcli_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``zkCli.sh``, as ZooKeeper's distribution has it."""
    line = shlex.join(zkcli())
    program = tmp_path / "bin" / "zkCli.sh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


def walk(typed: Callable[[str], str], heading: str, *, only: slice = slice(None)) -> None:
    """Type the commands below a heading; each has to print what the page shows."""
    for command, wanted in PAGE.shown(heading)[only]:
        output = typed(command)
        assert shows(wanted, output) or not wanted, (
            f"{command}\n{output}\nis not what the page shows:\n{wanted}"
        )


def kube2zk_adds(zk: KazooClient, path: str, ip: str) -> None:
    """Write as kube2zk does when a pod comes: the JSON that it reads, with one more server."""
    data, stat = zk.get(path)
    found = json.loads(data)
    found["servers"].append(ip)
    zk.set(path, json.dumps(found, separators=(",", ":")).encode(), stat.version)


@pytest.mark.full
@pytest.mark.allows(I11="one is stopped before it knows the signal")
def test_each_step_of_the_runbook_and_each_way_back(
    cluster: LocalCluster,
    stand: Stand,
    world: World,
    zk: KazooClient,
    kube2zk: None,
    zkcli_on_path: None,
    start_controller: Callable[..., Replica],
    typed: Callable[[str], str],
):
    path = f"{world.base}/echo"
    world.zk.create(path, WRITTEN.encode(), makepath=True)
    stand.put_foreign(f"{world.base}/nobody", WRITTEN.encode())
    for number, ip in enumerate(IPS):
        world.create_pod(f"p{number}", "echo", ip=ip)
    seen = Recorder(zk, path)
    cluster.kubectl("delete", "-f", "crds/")

    walk(typed, "1. Install the kinds")
    walk(typed, "Back from 1")
    walk(typed, "1. Install the kinds")
    walk(typed, "2. Look, while kube2zk runs")
    walk(typed, "3. Stop kube2zk")
    walk(typed, "Back from 3")
    walk(typed, "3. Stop kube2zk")
    # Nobody runs containers here: this is what the Deployment would run.
    typed(PAGE.commands("4. Start rpcregistry")[0])
    controller = start_controller(lease_namespace=OURS)
    typed("kubectl -n rpcregistry delete deployment rpcregistry")
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    walk(typed, "4. Start rpcregistry")
    assert world.get(path) == WRITTEN.encode()
    assert controller.stop() == 0
    walk(typed, "Back from 4", only=slice(4))
    stand.check()
    kube2zk_adds(world.zk, path, "10.0.0.11")
    world.create_pod("later", "echo", ip="10.0.0.11")
    world.delete_pod("p0")
    findings = typed(f"{PAGE.commands('Back from 4')[3]} || true")
    found = {line.partition("\t")[0] for line in findings.splitlines()}
    assert found == {"listed but gone", "not listed", "foreign"}
    assert f"lists it at {IPS[0]}, and the pod was deleted" in findings
    walk(typed, "Back from 4", only=slice(4, None))

    assert not world.zk.exists("/rpcregistry")
    assert json.loads(world.get(path))["servers"] == [*IPS, "10.0.0.11"]
    assert seen.smallest() == len(IPS)
