"""Is it all right, and if not, why, and what do I type: said by commands, about a real cluster."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hack.local.cluster import LocalCluster
from hack.local.controller import command
from rpcregistry.cli import complete
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World
from tests.command.conftest import Typed, marks

pytestmark = pytest.mark.full


def test_all_is_well_and_then_pods_are_held(world: World, start_controller, typed: Typed):
    assert "nobody leads" in typed("status").stdout
    controller: Controller = start_controller("--guard-confirm", "1h", leader_elect=True)
    for number in range(12):
        world.create_pod(f"p{number}", "echo", ip=f"10.0.0.{number + 1}")
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    eventually(lambda: world.zk.exists(f"/rpcregistry/heartbeat/{world.cluster_id}"))

    looked = typed("status")
    assert (looked.returncode, set(marks(looked.stdout).values())) == (0, {"✓"}), looked.stdout
    assert "1 in 1 RpcServices (1 generated), 12 endpoints, 12 Ready" in looked.stdout
    explained = typed("explain", "echo")
    assert (explained.returncode, "its znodes are as they should be" in explained.stdout) == (0, True)
    assert typed("explain", "pod/p1").returncode == 0
    checked = typed("check", "--wait", "20s")
    assert (checked.returncode, "command and controller are " in checked.stdout) == (0, True), checked.stdout

    controller.kill()
    world.forget_controllers()
    for number in range(12):
        world.delete_pod(f"p{number}")
    controller.start()
    eventually(lambda: world.synced("echo") == ("False", "Held"), 60)
    looked = typed("status")
    assert looked.returncode == 1
    assert "echo: 12 endpoints, held since " in looked.stdout
    assert ", withdrawn at " in looked.stdout
    assert "→ rpcregistry release echo" in looked.stdout
    explained = typed("explain", "echo")
    assert (explained.returncode, marks(explained.stdout)["registry"]) == (1, "✗")
    assert "(10.0.0.1): held: the pod is missing" in explained.stdout
    assert "→ rpcregistry release echo" in explained.stdout
    listed = typed("get", "--state", "held", looks=False)
    assert listed.stdout.splitlines()[1].split()[:6] == [
        "echo",
        world.namespace,
        "12/12",
        "+12",
        "held",
        "False",
    ]


def test_a_service_that_is_elsewhere_and_one_without_a_port(world: World, start_controller, typed: Typed):
    start_controller("--layout", f"kube2zk={world.base}", "--layout", f"dubbo={world.base}-dubbo")
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.synced("echo") == ("False", "MissingPort"))

    explained = typed("explain", "echo", looks=False)
    assert (explained.returncode, "MissingPort: " in explained.stdout) == (1, True)
    assert '→ give each pod of echo a "port"' in explained.stdout
    assert typed("get", "-o", "name", looks=False).stdout == "echo\n"
    wrong = typed("get", "ekho", looks=False)
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "rpcregistry: no service is called ekho; did you mean echo?\n",
    )


def test_a_tenant_sees_his_own_namespace_and_is_told_what_he_cannot_see(
    cluster: LocalCluster, world: World, start_controller, typed: Typed, tmp_path: Path
):
    start_controller()
    world.create_pod("a", "echo", ip="10.0.0.1")
    world.create_pod("b", "echo", ip="10.0.0.2", labels={"rpc-service": "yes"})
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    eventually(lambda: world.events("IgnoredAnnotation", "b"))
    within = ("-n", world.namespace)
    cluster.kubectl("create", "serviceaccount", "tenant", *within)
    account = f"--serviceaccount={world.namespace}:tenant"
    cluster.kubectl("create", "role", "tenant", "--verb=get,list,watch", "--resource=rpcservices", *within)
    cluster.kubectl("create", "rolebinding", "tenant", "--role=tenant", account, *within)
    token = cluster.kubectl("create", "token", "tenant", *within).strip()
    kubeconfig = cluster.kubeconfig_for(token, tmp_path / "tenant", cluster.server)

    explained = typed("explain", "echo", looks=False, kubeconfig=kubeconfig)
    assert (explained.returncode, marks(explained.stdout)) == (
        2,
        {"pods": "?", "RpcService": "✓", "registry": "✓", "ZooKeeper": "✓"},
    )
    assert "not looked at: list pods: " in explained.stdout
    assert typed("get", "echo", looks=False, kubeconfig=kubeconfig).returncode == 0
    everywhere = typed("get", "-A", looks=False, kubeconfig=kubeconfig)
    assert (everywhere.returncode, "cannot look: list rpcservices: " in everywhere.stderr) == (2, True)

    watched = typed("watch", "-A", looks=False, kubeconfig=kubeconfig)
    assert (watched.returncode, "cannot look: list rpcservices: " in watched.stderr) == (2, True)
    # Which heartbeat is ours cannot be told: that is not the same as none.
    assert marks(typed("check", kubeconfig=kubeconfig, cluster_id="").stdout)["heartbeat"] == "?"

    ignored = typed("explain", "pod/b", looks=False)
    assert ignored.returncode == 1
    assert 'label rpc-service is "yes", not "true"' in ignored.stdout
    assert "→ kubectl describe pod b -n " in ignored.stdout
    wrong = typed("explain", "pod/x", looks=False)
    assert (wrong.returncode, "no pod is called x" in wrong.stderr) == (1, True)


def test_drift_shows_and_a_watch_has_a_line_a_change(
    cluster: LocalCluster, world: World, start_controller, typed: Typed, monkeypatch: pytest.MonkeyPatch
):
    controller: Controller = start_controller()
    where: dict[str, Any] = {"kubeconfig": cluster.kubeconfig, "namespace": world.namespace}
    watching = subprocess.Popen(
        command("watch", "-o", "json", **where), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watching.stdout
    assert watching.stderr
    assert "watching RpcServices" in watching.stderr.readline()
    world.create_pod("a", "echo", ip="10.0.0.1")
    told: list[str] = []
    while not {"+10.0.0.1", "InRegistry"} <= {*told}:
        told += json.loads(watching.stdout.readline())["what"]
    watching.send_signal(signal.SIGINT)
    assert watching.wait(30) == 1
    watching.communicate()

    controller.stop()
    registry: dict[str, Any] = {
        "zk_servers": cluster.zk_servers,
        "layout": f"kube2zk={world.base}",
        "cluster_id": world.cluster_id,
    }
    right = world.get(f"{world.base}/echo")
    world.zk.set(f"{world.base}/echo", b"{}")
    looked = typed("verify", "--service", "echo")
    assert (looked.returncode, looked.stdout.split("\t")[:3]) == (
        1,
        ["different", "kube2zk", f"{world.base}/echo"],
    )
    assert "in sync" not in typed("verify", "--service", "other").stdout
    line = command("verify", "--watch", "--service", "echo", **where, **registry)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as looking:
        assert looking.stdout
        assert looking.stdout.readline().startswith(f"different\tkube2zk\t{world.base}/echo\t")
        world.zk.set(f"{world.base}/echo", right)
        assert looking.stdout.readline().startswith("in sync: 1 service, 1 znode, 1 pod; ")
        looking.send_signal(signal.SIGINT)
    world.zk.set(f"{world.base}/echo", b"{}")
    explained = typed("explain", "echo")
    assert f"{world.base}/echo (kube2zk): different: " in explained.stdout
    assert "→ rpcregistry verify --service echo" in explained.stdout

    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    assert complete(["explain", "-n", world.namespace, "e"]) == "echo\n:4\n"
    assert "status\n" in complete(["s"])


def test_zookeeper_that_is_away_is_what_is_wrong(world: World, typed: Typed, crds: None):
    looked = typed("status", "--timeout", "1s", zk_servers="127.0.0.1:1")
    assert looked.returncode in (1, 2)
    assert marks(looked.stdout)["heartbeat"] == "?"
    assert "ZooKeeper at 127.0.0.1:1 is not connected after 1 s" in looked.stdout
    checked = typed("check", "--timeout", "1s", zk_servers="127.0.0.1:1")
    assert (checked.returncode, marks(checked.stdout)["ZooKeeper"]) == (1, "✗")
    assert os.environ.get("NO_COLOR") or "\x1b" not in looked.stdout


def test_the_journal_times_no_change_that_needed_no_write(world: World, start_controller):
    """As somebody met it: a pod that is published anyway turned not Ready; minutes later another one came."""
    from hack.local.cluster import free_ports
    from tests.cluster.world import reconciled

    (port,) = free_ports(1)
    start_controller("--bind-address", f"127.0.0.1:{port}")
    world.apply_rpcservice("echo", publishNotReadyAddresses=True)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ["10.0.0.1"])
    eventually(lambda: reconciled(port) > 0)
    world.set_status("a", "10.0.0.1", ready=False)
    eventually(lambda: sample(port, 'rpcregistry_changes_ended_total{ending="nothing"}') >= 1)
    assert sample(port, "rpcregistry_oldest_waiting_seconds") == 0
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2"])
    count = 'rpcregistry_propagation_seconds_count{layout="kube2zk"}'
    eventually(lambda: sample(port, count) == 2)
    assert sample(port, "rpcregistry_services") == 1


def sample(port: int, name: str) -> float:
    """A metric of a controller at *port*; -1 if there is none."""
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), -1.0)
