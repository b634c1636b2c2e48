"""Nothing is withdrawn because something could not be seen; what is really gone goes in time."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from kazoo.client import KazooClient
from kubernetes.client import AuthorizationV1Api

from hack.local.cluster import LocalCluster
from hack.local.http_proxy import Answer, HttpProxy, error_event, is_list, is_of, is_watch, without_items
from tests.cluster.fixtures import CRDS
from tests.cluster.roles import cluster_role
from tests.cluster.waiting import eventually
from tests.cluster.world import Recorder, World
from tests.faults.harness.ground import Ground
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.stand import Stand
from tests.faults.test_sure_look import heartbeat, lease

OURS = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def serve(world: World, service: str = "echo", count: int = 3, **pod: Any) -> None:
    """So many Ready pods, whose addresses are ``OURS`` and those that follow."""
    for number in range(1, count + 1):
        world.create_pod(f"{service}-{number}", service, ip=f"10.0.0.{number}", **pod)


def is_published(world: World, addresses: list[str], service: str = "echo") -> bool:
    """Whether the znode has the addresses, and the RpcService says that all is right."""
    return world.servers(service) == addresses and world.synced(service) == ("True", "InRegistry")


def answer_once(api: HttpProxy, resource: str, change: Callable[[bytes], bytes]) -> Callable[[], bool]:
    """Have the next LIST of *resource* answered differently, after a watch that broke; whether it was."""
    api.instead = once(
        lambda method, path: error_event(410, "Expired") if is_watch(path) and is_of(path, resource) else None
    )
    listed: list[str] = []

    def rewrite(method: str, path: str, status: int, body: bytes) -> Answer:
        if not listed and is_list(method, path, resource):
            listed.append(path)
            return status, change(body)
        return status, body

    api.rewrite = rewrite
    api.cut_watches(resource)
    return lambda: bool(listed)


def once(answer: Callable[[str, str], Answer | None]) -> Callable[[str, str], Answer | None]:
    """*answer*, until it has answered."""
    answered: list[Answer] = []

    def instead(method: str, path: str) -> Answer | None:
        given = None if answered else answer(method, path)
        if given:
            answered.append(given)
        return given

    return instead


@pytest.mark.parametrize(
    ("resource", "kept"),
    [
        pytest.param("pods", 0, id="no pods"),
        pytest.param("pods", 1, id="some of the pods", marks=pytest.mark.full),
        pytest.param("rpcservices", 0, id="no RpcServices", marks=pytest.mark.full),
    ],
)
def test_a_list_that_lacks_something_once_withdraws_nothing(
    world: World, start_controller, zk: KazooClient, api: HttpProxy, through_api: Path, resource, kept
):
    start_controller("--guard-confirm", "1s", kubeconfig=through_api)
    serve(world)
    eventually(lambda: is_published(world, OURS))
    seen = Recorder(zk, f"{world.base}/echo")

    names = [f"echo-{n}" for n in range(1, kept + 1)]
    eventually(
        answer_once(
            api, resource, lambda body: without_items(body, lambda item: item["metadata"]["name"] in names)
        )
    )
    world.create_pod("later", "other", ip="10.0.1.1")
    eventually(lambda: is_published(world, ["10.0.1.1"], "other"))
    assert seen.states == [OURS]
    assert world.listed("echo") == OURS


@pytest.mark.full
def test_what_a_list_lacked_once_is_followed_again(
    world: World, start_controller, api: HttpProxy, through_api: Path
):
    start_controller("--guard-confirm", "1s", kubeconfig=through_api)
    serve(world, labels={"app": "x"})
    eventually(lambda: is_published(world, OURS))
    api.requests.clear()
    eventually(answer_once(api, "pods", without_items))
    eventually(lambda: sum(is_list(*request, "pods") for request in api.requests) > 1)
    world.create_pod("later", "other", ip="10.0.1.1")
    eventually(lambda: is_published(world, ["10.0.1.1"], "other"))

    world.apply_rpcservice("declared", selector={"matchLabels": {"app": "x"}})
    eventually(lambda: world.servers("declared") == OURS)
    world.delete_pod("echo-1")
    eventually(lambda: is_published(world, OURS[1:]))


def test_a_crd_that_is_deleted_and_applied_again(
    cluster: LocalCluster, world: World, controller: Replica, zk: KazooClient
):
    serve(world)
    eventually(lambda: is_published(world, OURS))
    seen = Recorder(zk, f"{world.base}/echo")

    cluster.kubectl("delete", "crd", "rpcservices.rpcregistry.dev")
    eventually(lambda: any("is not there" in line.get("reason", "") for line in controller.logged()))
    cluster.kubectl("apply", "-f", str(CRDS))
    cluster.kubectl("wait", "--for=condition=Established", "-f", str(CRDS), "--timeout=30s")
    eventually(lambda: is_published(world, OURS))
    assert seen.states == [OURS]
    world.delete_pod("echo-1")
    eventually(lambda: is_published(world, OURS[1:]))


@pytest.fixture
def least_rights(cluster: LocalCluster, stand: Stand, world: World) -> Iterator[Callable[[bool], str]]:
    """Gives a ServiceAccount the rights of the examples, or takes them away; returns its token."""
    name = world.namespace
    role = cluster_role(name)
    cluster.kubectl("create", "serviceaccount", "rpcregistry", "-n", name)
    account = f"--serviceaccount={name}:rpcregistry"
    cluster.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", account)
    cluster.kubectl("create", "rolebinding", "least", "-n", name, "--role=rpcregistry", account)  # the Lease
    stand.user = f"system:serviceaccount:{name}:rpcregistry"

    def grant(granted: bool) -> str:
        rules = (
            role["rules"] if granted else [rule for rule in role["rules"] if "pods" not in rule["resources"]]
        )
        cluster.kubectl("apply", "-f", "-", input=json.dumps({**role, "rules": rules}))
        return cluster.kubectl("create", "token", "rpcregistry", "-n", name).strip()

    yield grant
    cluster.kubectl("delete", "clusterrole,clusterrolebinding", name)


def test_pods_that_may_not_be_read_for_a_while(
    cluster: LocalCluster,
    world: World,
    start_controller,
    zk: KazooClient,
    api: HttpProxy,
    least_rights: Callable[[bool], str],
    tmp_path: Path,
):
    token = least_rights(True)
    kubeconfig = cluster.kubeconfig_for(token, tmp_path / "least-rights", api.server)
    controller = start_controller("--guard-confirm", "1s", kubeconfig=kubeconfig)
    serve(world)
    eventually(lambda: is_published(world, OURS))
    seen = Recorder(zk, f"{world.base}/echo")

    least_rights(False)
    eventually(lambda: not may_list_pods(world))
    api.cut_watches("pods")
    eventually(lambda: any("403" in line.get("reason", "") for line in controller.logged()))
    world.delete_pod("echo-1")
    world.apply_rpcservice("declared")
    eventually(lambda: world.synced("declared"))
    assert seen.states == [OURS]
    least_rights(True)
    eventually(lambda: is_published(world, OURS[1:]))
    assert seen.smallest() == 2


def may_list_pods(world: World) -> bool:
    """Whether the ServiceAccount has that right."""
    review = {
        "spec": {
            "user": f"system:serviceaccount:{world.namespace}:rpcregistry",
            "resourceAttributes": {"verb": "list", "resource": "pods", "namespace": world.namespace},
        }
    }
    answer = AuthorizationV1Api(world.api).create_subject_access_review(review)
    return bool(answer.status.allowed)


MANY = [f"10.0.0.{number}" for number in range(1, 13)]


def delete_while_down(world: World, controller: Replica, *kept: str) -> None:
    """Delete all pods but *kept* while no controller looks, and start it again."""
    assert controller.stop() == 0
    for pod in world.core.list_namespaced_pod(world.namespace).items:
        if pod.metadata.name not in kept:
            world.delete_pod(pod.metadata.name)
    controller.start()


def test_a_real_mass_deletion_is_held_and_goes_through_in_time(
    world: World, start_controller, zk: KazooClient
):
    controller = start_controller("--guard-confirm", "3s")
    port = controller.port
    serve(world, count=12)
    eventually(lambda: is_published(world, MANY))
    seen = Recorder(zk, f"{world.base}/echo")

    delete_while_down(world, controller, "echo-1")
    eventually(lambda: world.synced("echo") == ("False", "Held"))
    assert metric(port, "rpcregistry_held") == 11
    assert seen.states == [MANY]
    eventually(lambda: is_published(world, MANY[:1]))
    assert metric(port, "rpcregistry_held") == 0
    (event,) = eventually(lambda: world.events("Held", "echo"))
    assert "11" in event.message
    eventually(lambda: seen.states == [MANY, MANY[:1]])


def metric(port: int, name: str) -> float:
    """A metric without labels, as Prometheus would read it."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.split()[0] == name)


@pytest.mark.full
def test_a_rolling_update_a_move_and_a_scale_to_nothing_are_never_held(world: World, start_controller):
    """All that is seen to happen needs no confirmation, however much it is."""
    start_controller("--guard-confirm", "1h")
    serve(world, count=12)
    eventually(lambda: is_published(world, MANY))
    for number in range(1, 13):
        world.create_pod(f"new-{number}", "echo", ip=f"10.0.1.{number}")
        world.delete_pod(f"echo-{number}")
    updated = [f"10.0.1.{number}" for number in range(1, 13)]
    eventually(lambda: is_published(world, updated))

    for number in range(1, 13):
        world.annotate(f"new-{number}", json.dumps([{"serviceName": "moved"}]))
    eventually(lambda: is_published(world, updated, "moved") and world.data("echo") is None)
    for number in range(1, 13):
        world.delete_pod(f"new-{number}")
    eventually(lambda: world.data("moved") is None)
    eventually(lambda: world.rpcservices() == {})
    assert world.events("Held") == []


@pytest.mark.full
def test_a_release_cuts_the_wait_short(cluster: LocalCluster, world: World, start_controller):
    controller = start_controller("--guard-confirm", "1h")
    serve(world, count=12)
    eventually(lambda: is_published(world, MANY))

    delete_while_down(world, controller)
    eventually(lambda: world.synced("echo") == ("False", "Held"))
    assert world.servers("echo") == MANY
    released = subprocess.run(
        [
            sys.executable, "-m", "rpcregistry", "release", "echo",
            "--kubeconfig", str(cluster.kubeconfig), "--namespace", world.namespace,
        ],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    assert f"released {world.namespace}/echo: 12 endpoints withdrawn: 10.0.0.1 10.0.0.10" in released.stdout
    eventually(lambda: world.data("echo") is None)
    eventually(lambda: world.rpcservices() == {})


@pytest.mark.full
def test_a_declared_rpcservice_deleted_while_nobody_looked(world: World, start_controller):
    controller = start_controller("--guard-confirm", "1s")
    world.apply_rpcservice("mine", serviceName="echo", selector={"matchLabels": {"app": "x"}})
    for number in (1, 2, 3):
        world.create_pod(f"p{number}", ip=f"10.0.0.{number}", labels={"app": "x"})
    eventually(lambda: world.servers("echo") == OURS)
    assert controller.stop() == 0
    world.delete_rpcservice("mine")

    controller.start()
    eventually(lambda: world.data("echo") is None)


@pytest.mark.full
def test_a_declared_rpcservice_deleted_while_nobody_looked_whose_pods_say_what_they_serve(
    world: World, start_controller, zk: KazooClient
):
    controller = start_controller("--guard-confirm", "1s")
    world.apply_rpcservice("mine", serviceName="echo", config=["keepalive 1"])
    serve(world)
    eventually(lambda: world.servers("echo") == OURS)
    assert controller.stop() == 0
    seen = Recorder(zk, f"{world.base}/echo")
    world.delete_rpcservice("mine")

    controller.start()
    eventually(lambda: world.rpcservices().keys() == {"echo"} and is_published(world, OURS))
    assert seen.states == [OURS]


@pytest.mark.full
@pytest.mark.allows(I9="/readyz says that a person has to decide")
@pytest.mark.parametrize("running", [True, False], ids=["while the controller runs", "before it starts"])
def test_an_etcd_restored_to_an_older_state_withdraws_nothing(
    ground: Ground, world: World, start_controller, zk: KazooClient, running: bool
):
    """The pods made since the backup are unknown to the restored server, and serve all the same."""
    controller = start_controller("--guard-confirm", "1s")
    serve(world, "before")
    eventually(lambda: is_published(world, OURS, "before"))
    backup = ground.cluster.save_etcd()
    version = int(lease(world).metadata.resource_version)
    serve(world, "echo", count=12)
    eventually(lambda: is_published(world, MANY))
    seen = Recorder(zk, f"{world.base}/echo")
    # What a process knows lies in ZooKeeper within ten seconds; the restore may last until it has ended.
    eventually(lambda: heartbeat(world)["seen"]["leaseVersion"] > version)
    if not running:
        assert controller.stop() == 0

    ground.cluster.restore_etcd(backup, then=ground.history.restored)
    if not running:
        controller.start()
    # What watch events show from now on is followed, by additions.
    eventually(lambda: "rpcregistry.dev/restored" in (lease(world).metadata.annotations or {}), timeout=90)
    eventually(controller.leads)
    world.create_pod("later", "before", ip="10.0.0.4")
    eventually(lambda: world.servers("before") == [*OURS, "10.0.0.4"], timeout=90)
    assert seen.states == [MANY]


@pytest.mark.deep
@pytest.mark.allows(I3="four after four are not few: they are held for a while")
def test_few_after_few_are_held_by_the_next_leader(stand: Stand, world: World, start_controller):
    """Each leader is killed once it has withdrawn a few, so what it knew of that has to lie elsewhere."""
    serve(world, count=24)
    addresses = [f"10.0.0.{number}" for number in range(1, 25)]
    leader = start_controller()
    eventually(lambda: is_published(world, addresses))
    replace(stand, world, leader, range(1, 5))
    leader = start_controller()
    eventually(lambda: world.servers("echo") == addresses[4:])
    replace(stand, world, leader, range(5, 9))
    start_controller()
    eventually(lambda: world.synced("echo") == ("False", "Held"), timeout=60)
    assert world.servers("echo") == addresses[4:]
    eventually(lambda: is_published(world, addresses[8:]), timeout=90)


def replace(stand: Stand, world: World, leader: Replica, numbers: Iterable[int]) -> None:
    """Kill the leader, and delete pods while nobody looks."""
    leader.kill()
    stand.bury(leader.lives[-1])
    for number in numbers:
        world.delete_pod(f"echo-{number}")
