"""Commands of docs/ that need another cluster than the playground: a rebuilt one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hack.local.binaries import find
from hack.local.cluster import LocalCluster
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.ground import Ground
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.stand import Stand
from tests.pages import TOP, Page

NAMESPACE = "rpcregistry"


@pytest.fixture
def typed(
    ground: Ground, cluster: LocalCluster, stand: Stand, world: World, tmp_path: Path
) -> Iterator[Callable[[str], str]]:
    """Types a command in the repository's folder; returns what it printed, and fails where it does."""
    programs = sorted({str(Path(program).parent) for program in (sys.executable, find("kubectl"))})
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(Path(cluster.kubeconfig).read_text())
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "RPCREGISTRY_ZK_SERVERS": world.zk_servers,
        "RPCREGISTRY_NAMESPACE": world.namespace,
        "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
    }

    def run(command: str) -> str:
        command = command.replace("/rpc_v2", world.base)
        done = subprocess.run(
            command, shell=True, cwd=TOP, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
        return done.stdout

    run(f"kubectl config set-context --current --namespace={world.namespace}")
    yield run
    for replica in stand.replicas:  # without its ServiceAccount it could not give the Lease back
        if replica.wanted:
            replica.stop()
    cluster.kubectl("delete", "--ignore-not-found", "-f", str(TOP / "examples" / "controller.yaml"))
    ground.apply()


@pytest.mark.full
@pytest.mark.allows(I6="two cluster ids have a fence each", I11="one is stopped before it knows the signal")
def test_the_commands_of_the_docs_take_over_from_a_cluster_that_was_rebuilt(
    cluster: LocalCluster,
    world: World,
    start_controller: Callable[..., Replica],
    typed: Callable[[str], str],
):
    look, set_env = Page("docs/layouts.md").commands("A rebuilt cluster")
    old = start_controller("--cluster-id", "old", lease_namespace=NAMESPACE, wait=False)
    cluster.kubectl("apply", "-f", str(TOP / "examples" / "controller.yaml"))
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ["10.0.0.1"], timeout=60)
    assert old.stop() == 0
    assert "old" in world.zk.get_children("/rpcregistry/heartbeat")

    layout = f" --layout kube2zk={world.base}"
    typed(look.replace("OLD-ID", "old") + layout)
    typed(set_env.replace("OLD-ID", "old"))
    read = ("-n", NAMESPACE, "get", "deployment", NAMESPACE, "-o", "json")
    container = json.loads(cluster.kubectl(*read))["spec"]["template"]["spec"]["containers"][0]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    new = start_controller(lease_namespace=NAMESPACE, wait=False)
    new.stop()  # as the old replica, which the Deployment replaces by one with the new variable
    new.start(RPCREGISTRY_FROM_CLUSTER=variables["RPCREGISTRY_FROM_CLUSTER"])
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2"], timeout=60)
    assert typed(look.replace("OLD-ID", "old") + layout).startswith("in sync: 1 service, 1 znode, 2 pods")
