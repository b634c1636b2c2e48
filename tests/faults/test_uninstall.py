"""Uninstalling as docs/uninstall.md has it, word for word; and in the wrong order."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hack.local.binaries import find
from hack.local.cluster import LocalCluster
from tests.cluster.fixtures import CRDS
from tests.cluster.layouts import children, contents, directory, flags, holds, serve
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.ground import Ground
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.stand import Stand
from tests.pages import TOP, Page

LAYOUTS = ("kube2zk", "curator", "dubbo", "serverset", "sofa", "spring-cloud")
IPS = ("172.16.0.1", "172.16.0.2")
NAMESPACE = "rpcregistry"


@pytest.fixture
def installed(ground: Ground, cluster: LocalCluster) -> Iterator[LocalCluster]:
    """A cluster with all that the page has people apply, and again afterwards what other tests need."""
    cluster.kubectl("apply", "-f", str(TOP / "examples" / "controller.yaml"))
    yield cluster
    ground.apply()


def typed(world: World, command: str) -> subprocess.CompletedProcess[str]:
    """What comes of a command that a person types in the repository's folder."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(world.kubeconfig),
        "RPCREGISTRY_ZK_SERVERS": world.zk_servers,
        "PATH": os.pathsep.join(
            [
                *sorted({str(Path(program).parent) for program in (sys.executable, find("kubectl"))}),
                os.environ["PATH"],
            ]
        ),
    }
    return subprocess.run(
        command, shell=True, cwd=TOP, env=environment, capture_output=True, text=True, check=False
    )


def publish(stand: Stand, world: World, start_controller: Callable[..., Replica]) -> Replica:
    """Two pods in six layouts, beside what others have there."""
    stand.put_foreign(f"{world.base}/kube2zk/theirs", b'{"config":["theirs"],"servers":["9.9.9.9"]}')
    started = start_controller(*flags(world, *LAYOUTS), lease_namespace=NAMESPACE)
    for number, ip in enumerate(IPS):
        serve(world, f"p{number}", ip)
    eventually(lambda: holds(world, *IPS, layouts=LAYOUTS), timeout=60)
    stand.put_foreign(f"{directory(world, 'curator')}/theirs", b"theirs")
    stand.put_foreign(f"{directory(world, 'dubbo')}/theirs", b"theirs", ephemeral=True)
    return started


PURGED = "what was published is purged, while its pods are Ready"


@pytest.mark.full
@pytest.mark.allows(I1=PURGED, I2=PURGED, I10=PURGED, I6="the purge is no process of the stand's")
def test_the_commands_of_the_docs_withdraw_what_is_ours_and_nothing_else(
    installed: LocalCluster, stand: Stand, world: World, start_controller: Callable[..., Replica]
):
    controller = publish(stand, world, start_controller)
    before = contents(world)
    stop, show, withdraw, *delete = Page("docs/uninstall.md").commands("Uninstall")
    refused = typed(world, withdraw)
    assert (refused.returncode, "stop the controllers first" in refused.stderr) == (1, True)
    assert contents(world) == before

    assert typed(world, stop).returncode == 0
    assert controller.stop() == 0  # nobody runs containers here: it is no pod's
    shown = typed(world, show)
    assert (shown.returncode, len(re.findall(rf"{world.base}/.*/echo", shown.stdout))) == (0, len(LAYOUTS))
    assert contents(world) == before
    done = typed(world, withdraw)
    assert (done.returncode, done.stderr) == (0, "")
    after = contents(world)
    assert [path for path in after if path.endswith("/theirs")] != []
    assert {path: before[path] for path in after} == after
    assert {path for path in before if path.endswith("/theirs")} <= after.keys()
    assert {name for layout in LAYOUTS[1:] for name in children(world, layout)} == {"theirs"}
    assert after.keys() & {f"{world.base}/kube2zk/echo"} == set()
    assert not [entry for entry in ledger(world) if world.namespace in entry]

    for command in delete:
        deleted = typed(world, command)
        assert deleted.returncode == 0, deleted.stderr
    left = json.loads(installed.kubectl("get", "crd", "-o", "json"))["items"]
    assert [crd for crd in left if "rpcregistry" in crd["metadata"]["name"]] == []
    assert contents(world) == after


MESSAGES = "jsonpath={.items[*].message}"


def events_on_lease(cluster: LocalCluster, reason: str) -> str:
    """What the Events of that *reason* say about the Lease."""
    chosen = f"reason={reason},involvedObject.kind=Lease"
    return cluster.kubectl("get", "events", "-n", NAMESPACE, "--field-selector", chosen, "-o", MESSAGES)


def ledger(world: World) -> list[str]:
    """The names of all of the ledger's entries."""
    owned = "/rpcregistry/owned"
    return [
        entry for name in world.zk.get_children(owned) for entry in world.zk.get_children(f"{owned}/{name}")
    ]


@pytest.mark.full
@pytest.mark.allows(I3="in six layouts, what an earlier process published waits for --guard-confirm")
def test_a15_crds_that_are_deleted_first_withdraw_nothing_though_the_controller_runs_and_is_restarted(
    installed: LocalCluster, stand: Stand, world: World, start_controller: Callable[..., Replica]
):
    controller = publish(stand, world, start_controller)
    before = contents(world)

    installed.kubectl("delete", "-f", str(CRDS))
    gone = "the kind RpcService is not there: kubectl apply -f crds/"
    eventually(lambda: gone in controller.text())
    eventually(lambda: gone in events_on_lease(installed, "KindMissing"))
    assert controller.stop() == 0
    until_now = len(controller.text())
    controller.start()
    eventually(lambda: "leading" in controller.text()[until_now:], timeout=60)
    world.delete_pod("p1")
    eventually(lambda: gone in controller.text()[until_now:])
    assert contents(world) == before
    assert controller.stop() == 0

    installed.kubectl("apply", "-f", str(CRDS))
    controller.start()
    eventually(lambda: holds(world, IPS[0], layouts=("kube2zk", "serverset", "sofa")), timeout=90)
    # What an earlier process published of p1 goes once its absence is confirmed.
    eventually(stand.is_right, timeout=90)
    assert world.zk.get(f"{world.base}/kube2zk/theirs")[0] == before[f"{world.base}/kube2zk/theirs"]
