"""The API server hung, killed, cut off, refusing: nothing is withdrawn, and afterwards all is right."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kubernetes.client import ApiException

from hack.local.cluster import LocalCluster
from hack.local.http_proxy import Answer, HttpProxy, error_event, is_of, is_watch
from tests.cluster.waiting import eventually
from tests.cluster.world import Recorder, World
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.stand import Stand

ONE, TWO = ["10.0.0.1"], ["10.0.0.2"]
RPCSERVICES = "rpcservices"
SLOW = 4_000  # bytes a second


@pytest.mark.full
def test_a1_the_api_server_hangs(cluster: LocalCluster, world: World, controller: Replica, zk: KazooClient):
    """What the registry needs is in memory, so ZooKeeper is kept right all the while."""
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)

    cluster.process("kube-apiserver").pause()
    zk.delete(f"{world.base}/echo")
    eventually(lambda: world.servers("echo") == ONE)
    cluster.process("kube-apiserver").resume()
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, *TWO])
    assert controller.running


@pytest.mark.full
def test_a1_a_leader_whose_api_server_hangs_steps_down(
    cluster: LocalCluster, world: World, start_controller, zk: KazooClient
):
    controller = start_controller()
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    seen = Recorder(zk, f"{world.base}/echo")

    cluster.process("kube-apiserver").pause()
    assert controller.wait() == 1
    cluster.process("kube-apiserver").resume()
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, *TWO], timeout=60)
    eventually(lambda: seen.states == [ONE, [*ONE, *TWO]])


def test_a2_the_api_server_is_killed_and_started_again(
    cluster: LocalCluster, world: World, controller: Replica, zk: KazooClient
):
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    seen = Recorder(zk, f"{world.base}/echo")

    cluster.process("kube-apiserver").kill()
    eventually(lambda: any(line["event"] == "watch interrupted" for line in controller.logged()))
    cluster.process("kube-apiserver").start()
    cluster.process("kube-apiserver").wait_until_ready()
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, *TWO])
    eventually(lambda: seen.states == [ONE, [*ONE, *TWO]])


@pytest.mark.full
def test_a5_connections_are_reset_again_and_again(
    stand: Stand, world: World, start_controller, zk: KazooClient
):
    controller = start_controller(api=f"https://{stand.api_bytes.address}")
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    seen = Recorder(zk, f"{world.base}/echo")

    stand.api_bytes.reset()
    world.create_pod("b", "echo", ip="10.0.0.2")
    stand.api_bytes.reset()
    eventually(lambda: any(line["event"] == "watch interrupted" for line in controller.logged()))
    eventually(lambda: world.servers("echo") == [*ONE, *TWO])
    eventually(lambda: seen.states == [ONE, [*ONE, *TWO]])
    assert len(controller.lives) == 1


@pytest.mark.full
def test_a24_an_api_server_that_sends_slowly_is_waited_for(stand: Stand, world: World, start_controller):
    """What is listed and watched comes late, and the Lease is kept."""
    controller = start_controller(api=f"https://{stand.api_bytes.address}")
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)

    stand.api_bytes.throttle(SLOW)
    stand.api_bytes.reset()  # all is listed anew, by handshakes that take as long
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, *TWO], timeout=60)
    assert len(controller.lives) == 1


@pytest.mark.full
@pytest.mark.parametrize("length", [1, 100, 700, 2500, 5000])
def test_a4_watches_that_break_in_the_middle_of_an_event(
    world: World, start_controller, api: HttpProxy, through_api: Path, zk: KazooClient, length: int
):
    start_controller(kubeconfig=through_api)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    seen = Recorder(zk, f"{world.base}/echo")

    api.watch_bytes = length
    api.cut_watches()
    watches = count_watches(api)
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: count_watches(api) > watches + 3)
    api.reset()
    api.cut_watches()
    eventually(lambda: world.servers("echo") == [*ONE, *TWO])
    eventually(lambda: seen.states == [ONE, [*ONE, *TWO]])


def count_watches(api: HttpProxy) -> int:
    return sum(is_watch(path) for _, path in api.requests)


def test_k7_a_deletion_that_no_watch_told_is_seen_by_a_relist(
    world: World, start_controller, api: HttpProxy, through_api: Path
):
    controller = start_controller("--guard-confirm", "1s", kubeconfig=through_api)
    for number in (1, 2, 3):
        world.create_pod(f"p{number}", "echo", ip=f"10.0.0.{number}")
    eventually(lambda: len(world.servers("echo") or ()) == 3)

    def instead(method: str, path: str) -> Answer | None:
        if not is_watch(path) or not is_of(path, "pods"):
            return None
        return error_event(410, "Expired") if gone else (503, b"")

    gone: list[str] = []
    api.instead = instead
    api.cut_watches("pods")
    eventually(lambda: any("503" in line.get("reason", "") for line in controller.logged()))
    world.delete_pod("p1")
    gone.append("p1")
    eventually(lambda: any("410" in line.get("reason", "") for line in controller.logged()))
    api.reset()
    eventually(lambda: world.servers("echo") == ["10.0.0.2", "10.0.0.3"])
    assert controller.running


@pytest.mark.parametrize("lost", [pytest.param("request", marks=pytest.mark.full), "reply"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a19_a_write_that_is_lost_and_one_whose_reply_is(
    world: World, start_controller, api: HttpProxy, through_api: Path, zk: KazooClient, method: str, lost: str
):
    controller = start_controller(kubeconfig=through_api)
    world.create_pod("stays", "echo", ip="10.0.0.1")
    world.create_pod("goes", "gone", ip="10.0.0.9")
    eventually(lambda: world.servers("echo") == ONE)
    eventually(lambda: world.synced("gone") == ("True", "InRegistry"))
    seen = Recorder(zk, f"{world.base}/echo")

    happened: list[str] = []
    lose = api.lose_request if lost == "request" else api.lose_reply
    lose(lambda asked, path: asked == method and is_of(path, RPCSERVICES), lambda: happened.append(lost))
    world.create_pod("comes", "echo", "new", ip="10.0.0.2")
    world.delete_pod("goes")
    eventually(lambda: happened)
    eventually(lambda: world.servers("echo") == [*ONE, *TWO] and world.servers("new") == TWO)
    eventually(lambda: world.data("gone") is None and world.rpcservices().keys() == {"echo", "new"})
    eventually(lambda: world.synced("new") == world.synced("echo") == ("True", "InRegistry"))
    eventually(lambda: seen.states == [ONE, [*ONE, *TWO]])
    assert not [
        event for event in world.core.list_namespaced_event(world.namespace).items if event.type != "Normal"
    ]
    assert not any(line["level"] == "error" for line in controller.logged())


@pytest.fixture
def deny(cluster: LocalCluster, world: World) -> Iterator[Callable[[str, str], None]]:
    """Has the API server refuse writes of RpcServices of one name; ``mend`` ends it."""
    name = world.namespace

    def apply(resource: str, refused: str) -> None:
        policy = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": ["rpcregistry.dev"],
                            "apiVersions": ["*"],
                            "resources": [resource],
                            "operations": ["CREATE", "UPDATE"],
                        }
                    ]
                },
                "validations": [
                    {"expression": f"object.metadata.name != '{refused}'", "message": "not that one"}
                ],
            },
        }
        binding = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }
        both = {"apiVersion": "v1", "kind": "List", "items": [policy, binding]}
        cluster.kubectl("apply", "-f", "-", input=json.dumps(both))
        if resource == RPCSERVICES:
            eventually(lambda: is_denied(lambda: create_nothing(world, refused)))
        else:
            world.apply_rpcservice(refused)
            eventually(lambda: is_denied(lambda: change_nothing(world, refused)))

    yield apply
    mend(cluster, world)


def mend(cluster: LocalCluster, world: World) -> None:
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        cluster.kubectl("delete", kind, world.namespace, "--ignore-not-found")


def create_nothing(world: World, name: str) -> None:
    manifest = {"apiVersion": "rpcregistry.dev/v1alpha1", "kind": "RpcService", "metadata": {"name": name}}
    world.custom.create_namespaced_custom_object(
        "rpcregistry.dev", "v1alpha1", world.namespace, RPCSERVICES, manifest, dry_run="All"
    )


def change_nothing(world: World, name: str) -> None:
    world.custom.patch_namespaced_custom_object_status(
        "rpcregistry.dev",
        "v1alpha1",
        world.namespace,
        RPCSERVICES,
        name,
        {"status": {"ready": "?"}},
        dry_run="All",
    )


def is_denied(write: Callable[[], None]) -> bool:
    """Whether admission refuses *write*; what else is wrong with it is not denied."""
    try:
        write()
    except ApiException as error:
        return "not that one" in str(error.body)
    return False


@pytest.mark.parametrize(
    "resource",
    [
        pytest.param(RPCSERVICES, id="create", marks=pytest.mark.full),
        pytest.param(f"{RPCSERVICES}/status", id="status"),
    ],
)
def test_a20_a_policy_denies_one_of_our_writes(
    cluster: LocalCluster, world: World, controller: Replica, deny, resource: str
):
    deny(resource, "denied")
    world.create_pod("a", "denied", "fine", ip="10.0.0.1")
    eventually(lambda: any("not that one" in line.get("reason", "") for line in controller.logged()))
    world.create_pod("b", "fine", "also-fine", ip="10.0.0.2")
    eventually(lambda: world.servers("fine") == [*ONE, *TWO] and world.servers("also-fine") == TWO)
    assert world.data("denied") is None

    mend(cluster, world)
    eventually(lambda: world.servers("denied") == ONE, timeout=120)
