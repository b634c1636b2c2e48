"""What people meet, made for real, and solved by what ``status`` and ``explain`` say.

Others are in ``test_explaining`` (held pods, a missing port, drift), and in ``tests/faults/test_silence``
(most Nodes are silent).
"""

import json
import subprocess
import threading
from pathlib import Path

import pytest

from hack.local.cluster import LocalCluster
from hack.local.http_proxy import Answer, HttpProxy, is_of
from hack.local.proxy import Proxy
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World
from tests.command.conftest import Typed, marks

pytestmark = pytest.mark.full
FORBIDDEN = json.dumps(
    {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": 403,
        "reason": "Forbidden",
        "message": 'pods is forbidden: User "system:serviceaccount:rpc:robot" cannot list resource "pods"',
    }
).encode()


def says(typed: Typed, words: str, *command: str, **where: object) -> subprocess.CompletedProcess[str]:
    """What the command prints, once *words* are in it."""
    found: list[subprocess.CompletedProcess[str]] = []

    def look() -> bool:
        found[:] = [typed(*command, **where)]
        return words in found[0].stdout

    eventually(look, timeout=120)
    return found[0]


def test_zookeeper_is_away(cluster: LocalCluster, world: World, start_controller, typed: Typed):
    with Proxy(cluster.zk_servers) as zookeeper:
        there = zookeeper.address
        start_controller("--zk-servers", there)
        world.create_pod("a", "echo", ip="10.0.0.1")
        eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
        zookeeper.blackhole()
        world.create_pod("b", "echo", ip="10.0.0.2")

        away = {"zk_servers": there}
        looked = says(typed, "RegistryUnavailable (1): echo", "status", "--timeout", "1s", **away)
        found = marks(looked.stdout)
        assert (looked.returncode, found["sync"], found["heartbeat"], found["registry"]) == (1, "✗", "?", "?")
        assert f"ZooKeeper at {there} is not connected after 1 s" in looked.stdout
        assert "→ rpcregistry check" in looked.stdout
        assert marks(typed("check", "--timeout", "1s", **away).stdout)["ZooKeeper"] == "✗"
        explained = typed("explain", "echo", looks=False)
        assert "RegistryUnavailable: a change has waited for ZooKeeper" in explained.stdout
        zookeeper.pass_through()
        says(typed, "each service is in the registry", "status", **away)


def test_a_service_is_registered_elsewhere_too(world: World, start_controller, typed: Typed):
    world.zk.create(f"{world.base}/echo", b"{}", ephemeral=True, makepath=True)
    start_controller()
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.synced("echo") == ("False", "OwnedElsewhere"))

    looked = typed("status")
    assert (looked.returncode, marks(looked.stdout)["sync"]) == (1, "✗")
    assert "OwnedElsewhere (1): echo" in looked.stdout
    explained = typed("explain", "echo")
    assert (explained.returncode, marks(explained.stdout)["registry"]) == (1, "✗")
    assert "an RPC server registered itself there with an ephemeral znode" in explained.stdout
    assert "→ rpcregistry verify --service echo shows its znodes; end what registers it" in explained.stdout
    assert f"{world.base}/echo\t" in typed("verify", "--service", "echo").stdout

    world.zk.delete(f"{world.base}/echo")  # as the server's own registration ends
    says(typed, "its znodes are as they should be", "explain", "echo")


def test_an_annotation_cannot_be_read(world: World, start_controller, typed: Typed):
    start_controller()
    world.create_pod("a", ip="10.0.0.1", annotation='[{"serviceNme": "echo"}]')
    world.create_pod("b", "other", ip="10.0.0.2")
    eventually(lambda: world.events("InvalidAnnotation", "a"))

    looked = typed("status")
    assert (looked.returncode, marks(looked.stdout)["pods"]) == (1, "✗")
    assert "1 pod with an annotation that cannot be read" in looked.stdout
    assert f"→ rpcregistry explain pod/a -n {world.namespace}" in looked.stdout
    explained = typed("explain", "pod/a", looks=False)
    assert "it names no RPC service that can be read" in explained.stdout
    assert '"serviceNme" is ignored: did you mean serviceName?' in explained.stdout
    unknown = typed("explain", "echo", looks=False)
    assert (unknown.returncode, f"explain pod/a -n {world.namespace}" in unknown.stderr) == (1, True)
    assert "a, which names no service that can be read: " in typed("explain", "other", looks=False).stdout

    world.annotate("a", '[{"serviceName": "echo"}]')  # the Event about it stays for an hour
    says(typed, "it serves echo", "explain", "pod/a", looks=False)
    eventually(lambda: typed("explain", "echo", looks=False).returncode == 0)


def test_a_replica_waits_to_lead(world: World, start_controller, typed: Typed):
    first: Controller = start_controller(leader_elect=True)
    looked = says(typed, "heartbeat  written", "status")
    assert marks(looked.stdout)["leader"] == "✓"
    (leader,) = (line for line in looked.stdout.splitlines() if line.startswith("✓ leader"))
    holder = leader.split()[2]
    second: Controller = start_controller(leader_elect=True, wait=False)
    eventually(second.logged)
    assert f" {holder} (Lease {world.namespace}/rpcregistry" in typed("status").stdout

    first.stop()
    eventually(second.leads)
    taken = says(typed, "✓ heartbeat", "status")
    assert holder not in taken.stdout.partition("heartbeat")[0]
    second.stop()
    looked = typed("status")
    assert "nobody leads" in looked.stdout
    assert f"→ kubectl get pods -n {world.namespace}" in looked.stdout
    assert "the last controller stopped at " in looked.stdout


def test_the_controller_may_not_read_pods_though_we_may(
    world: World, start_controller, typed: Typed, api: HttpProxy, through_api: Path
):
    start_controller(kubeconfig=through_api)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    api.instead = lambda _, path: (403, FORBIDDEN) if is_of(path, "pods") else None
    api.cut_watches("pods")

    looked = says(typed, "✗ reads", "status")
    assert looked.returncode == 1
    assert "the controller cannot read pods: nothing of that is published or withdrawn" in looked.stdout
    assert "403 Forbidden: pods is forbidden" in looked.stdout
    assert "→ kubectl auth can-i list pods -A --as system:serviceaccount:rpc:robot" in looked.stdout
    checked = typed("check")
    assert (checked.returncode, marks(checked.stdout)["reads"]) == (1, "✗")
    world.create_pod("b", "echo", ip="10.0.0.2")
    explained = says(typed, "it serves this, and no status lists it", "explain", "echo", looks=False)
    assert "→ rpcregistry status" in explained.stdout

    api.reset()
    says(typed, "2 endpoints, 2 Ready", "status")
    eventually(lambda: "reads" not in marks(typed("status").stdout))


def test_the_api_server_is_slow_to_take_a_status(
    world: World, start_controller, typed: Typed, api: HttpProxy, through_api: Path
):
    start_controller(kubeconfig=through_api)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    goes_on = threading.Event()

    def slow(method: str, path: str) -> Answer | None:
        if method != "GET" and is_of(path, "rpcservices"):
            goes_on.wait()
        return None

    api.instead = slow
    try:
        world.create_pod("b", "echo", ip="10.0.0.2")
        looked = says(typed, "✗ changes", "status")
        assert "one of echo has waited for " in looked.stdout
        assert " s until the API server takes its status" in looked.stdout
        assert "→ rpcregistry explain echo -A" in looked.stdout
        explained = typed("explain", "echo", looks=False)
        assert "b: it serves this, and no status lists it" in explained.stdout
    finally:
        goes_on.set()
    eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2"])
    eventually(lambda: "changes" not in marks(typed("status").stdout))


def test_a_layout_was_left(world: World, start_controller, typed: Typed):
    both = ("--layout", f"kube2zk={world.base}", "--layout", f"curator={world.base}-disco")
    controller: Controller = start_controller(*both)
    world.create_pod("a", {"serviceName": "echo", "port": 80}, ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ["10.0.0.1"])
    eventually(lambda: world.zk.exists(f"{world.base}-disco/echo"))
    controller.stop()
    controller = start_controller()
    says_where = eventually(lambda: [line for line in controller.logged() if line["event"] == "publishing"])
    assert [(line["services"], line["layouts"]) for line in says_where] == [(1, f"kube2zk={world.base}")]

    looked = says(typed, "left: 1 znode of curator, which no --layout covers", "status")
    assert marks(looked.stdout)["registry"] == "✓"
    assert f"{world.base}-disco/echo\tthe ledger names it" in typed("verify").stdout
