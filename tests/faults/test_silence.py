"""Kubelets fall silent: most of them at once, or one that died; and what happens to Nodes all the time."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from urllib.request import urlopen

import pytest
from kazoo.client import KazooClient
from kubernetes.client import EventsV1Api

from hack.local.cluster import LocalCluster
from hack.local.controller import finished
from tests.cluster.waiting import eventually
from tests.cluster.world import Recorder, World
from tests.faults.harness.cluster import FaultCluster
from tests.faults.harness.kubelet import Replica

MARKED = "2026-11-21T02:02:02Z"


class Kubelets:
    """The Nodes of a test, each with pods of the service echo; what their kubelets and the node lifecycle
    controller write, as both are stopped.
    """

    def __init__(self, world: World, nodes: int, pods: int) -> None:
        self.world = world
        self.names = [f"{world.namespace[:40]}-{number}" for number in range(nodes)]
        self.pods = {
            name: {f"echo-{node * pods + n + 1}": f"10.0.0.{node * pods + n + 1}" for n in range(pods)}
            for node, name in enumerate(self.names)
        }
        for name in self.names:
            taint = {"key": "x", "effect": "NoSchedule"}
            world.core.create_node({"metadata": {"name": name}, "spec": {"taints": [taint]}})
            self.set_node(name, ready=True)

    def serve(self) -> None:
        for node, pods in self.pods.items():
            for name, ip in pods.items():
                self.world.create_pod(name, "echo", ip=ip, node=node, labels={"app": "echo"})

    def of(self, *nodes: int) -> list[str]:
        return [ip for node in nodes for ip in self.pods[self.names[node]].values()]

    @property
    def all(self) -> list[str]:
        return self.of(*range(len(self.names)))

    def set_node(self, name: str, *, ready: bool) -> None:
        condition = {
            "type": "Ready",
            "status": "True" if ready else "Unknown",
            "lastHeartbeatTime": MARKED,
            "lastTransitionTime": MARKED,
            "reason": "KubeletReady" if ready else "NodeStatusUnknown",
            "message": "",
        }
        self.world.core.patch_node_status(name, {"status": {"conditions": [condition]}})

    def silence(self, *nodes: int) -> None:
        """What the node lifecycle controller does, in its order: the pods' conditions keep their reason."""
        for node in nodes:
            name = self.names[node]
            self.set_node(name, ready=False)
            for pod, ip in self.pods[name].items():
                self.world.set_status(pod, ip, conditions=[{"type": "Ready", "status": "False"}])

    def back(self, *nodes: int) -> None:
        """Their Nodes are Ready; their pods are not yet."""
        for node in nodes:
            self.set_node(self.names[node], ready=True)

    def report(self, *nodes: int) -> None:
        for node in nodes:
            for pod, ip in self.pods[self.names[node]].items():
                self.world.set_status(pod, ip)

    def delete(self, node: int) -> None:
        self.world.core.delete_node(self.names[node])

    def close(self) -> None:
        left = {node.metadata.name for node in self.world.core.list_node().items}
        for name in left.intersection(self.names):
            self.world.core.delete_node(name)


@pytest.fixture
def kubelets(cluster: LocalCluster, world: World) -> Iterator[Callable[[int, int], Kubelets]]:
    """Makes so many Nodes, with so many pods on each; nobody else writes their status."""
    # Pods need their namespace's ServiceAccount, which the controller manager makes.
    eventually(lambda: world.core.list_namespaced_service_account(world.namespace).items)
    for process in ("kube-controller-manager", "kwok"):
        cluster.process(process).stop()
    made: list[Kubelets] = []

    def make(nodes: int, pods: int) -> Kubelets:
        made.append(Kubelets(world, nodes, pods))
        return made[-1]

    yield make
    for each in made:
        each.close()


def is_published(world: World, addresses: Sequence[str]) -> bool:
    return world.servers("echo") == list(addresses) and world.synced("echo") == ("True", "InRegistry")


def said(world: World) -> str:
    """The message of its Synced condition."""
    conditions = world.rpcservices()["echo"]["status"].get("conditions", [])
    return next((str(c["message"]) for c in conditions if c["type"] == "Synced"), "")


def held(world: World, *nodes: str) -> int:
    """How many rows are held, on these Nodes or on all."""
    rows = world.rpcservices()["echo"]["status"]["endpoints"]
    return sum(row.get("held", False) for row in rows if not nodes or row["nodeName"] in nodes)


def holds(world: World, count: int, *nodes: str) -> bool:
    return held(world, *nodes) == count


def has_address(world: World, pod: str) -> bool:
    return bool(world.pod(pod)["status"].get("podIP"))


def metric(port: int, name: str) -> float:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.split()[0] == name)


def told_on_the_lease(world: World) -> list[str]:
    found = EventsV1Api(world.api).list_namespaced_event(world.namespace).items
    return [str(e.note) for e in found if (e.reason, e.regarding.kind) == ("NodesSilent", "Lease")]


def verified(cluster: LocalCluster, world: World) -> tuple[int, list[list[str]]]:
    """Exit code of ``verify``, and what it found: states and details."""
    done = subprocess.run(
        [
            sys.executable, "-m", "rpcregistry", "verify", "--output", "json",
            "--kubeconfig", str(cluster.kubeconfig), "--namespace", world.namespace,
            "--zk-servers", world.zk_servers,
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    return done.returncode, [[f["state"], f["detail"]] for f in json.loads(done.stdout)["findings"]]


def stay_so(seconds: float) -> None:
    """Let that time pass: that nothing happens in it is seen by what recorded it."""
    threading.Event().wait(seconds)


@pytest.mark.full
def test_while_all_nodes_are_silent_nothing_is_withdrawn(
    cluster: LocalCluster, world: World, start_controller, zk: KazooClient, kubelets
):
    """One after the other, for longer than twice what many absences wait; and back in another order."""
    controller = start_controller("--guard-confirm", "10s")
    fleet = kubelets(3, 4)
    fleet.serve()
    eventually(lambda: is_published(world, fleet.all))
    seen = Recorder(zk, f"{world.base}/echo")

    for node in range(3):
        fleet.silence(node)
        eventually(partial(holds, world, 4 * (node + 1)))
    eventually(lambda: "without time limit: Nodes are silent (3 of 3)" in said(world))
    (note,) = eventually(lambda: told_on_the_lease(world))
    assert "Nodes are silent (3 of 3)" in note
    assert metric(controller.port, "rpcregistry_nodes_silent") == 3
    assert metric(controller.port, 'rpcregistry_guard_held{guard="pods"}') == 12
    # What a person reads tells him to look at the Nodes, not to let go.
    for command in (("status",), ("explain", "echo")):
        told = finished(
            *command, kubeconfig=cluster.kubeconfig, namespace=world.namespace, zk_servers=world.zk_servers
        )
        assert told.returncode == 1
        assert "held without time limit: Nodes are silent (3 of 3)" in told.stdout
        assert "→ kubectl get nodes" in told.stdout
        assert "→ rpcregistry release" not in told.stdout
    stay_so(2 * 15 + 1)
    code, findings = verified(cluster, world)
    assert code == 0
    assert {state for state, _ in findings} == {"held"}
    assert "Nodes are silent" in findings[0][1]
    assert seen.states == [fleet.all]

    for node in (2, 0, 1):
        fleet.back(node)
        fleet.report(node)
        eventually(partial(holds, world, 0, fleet.names[node]))
    eventually(lambda: is_published(world, fleet.all))
    assert seen.states == [fleet.all]
    assert metric(controller.port, "rpcregistry_nodes_silent") == 0


@pytest.mark.full
def test_the_few_pods_of_one_node_that_died_go_without_a_confirmation(
    world: World, start_controller, zk: KazooClient, kubelets
):
    start_controller("--guard-confirm", "1h")
    fleet = kubelets(6, 2)
    fleet.serve()
    eventually(lambda: is_published(world, fleet.all))
    seen = Recorder(zk, f"{world.base}/echo")

    fleet.silence(5)
    eventually(lambda: held(world) == 2)
    assert world.servers("echo") == fleet.all
    eventually(lambda: is_published(world, fleet.of(*range(5))), timeout=60)
    assert seen.states == [fleet.all, fleet.of(*range(5))]
    fleet.back(5)
    fleet.report(5)
    eventually(lambda: is_published(world, fleet.all))


@pytest.mark.full
def test_a_drain_and_a_scale_in_wait_for_nothing(world: World, start_controller, kubelets):
    """Each pod is seen to end before its Node is deleted, so that nothing of it is ever held."""
    start_controller("--guard-confirm", "1h")
    fleet = kubelets(3, 4)
    for name in fleet.names:
        world.relabel_node(name, world=world.namespace)
    world.create_localservice(selector={"app": "echo"})
    fleet.serve()
    eventually(lambda: is_published(world, fleet.all) and world.serves(*fleet.names))

    for node in (2, 1):
        world.core.patch_node(fleet.names[node], {"spec": {"unschedulable": True}})
        for name in fleet.pods[fleet.names[node]]:
            world.delete_pod(name)
        eventually(partial(is_published, world, fleet.of(*range(node))))
        fleet.delete(node)
        eventually(partial(world.serves, *fleet.names[:node]))
    for name in fleet.pods[fleet.names[0]]:
        world.delete_pod(name)
    eventually(lambda: world.data("echo") is None)
    assert world.events("Held") == []


@pytest.mark.deep
@pytest.mark.parametrize("nodes", [1, 2, 10])
def test_a_fleet_of_any_size_is_silent_at_once_for_long(
    world: World, start_controller, zk: KazooClient, kubelets, nodes: int
):
    """With default flags; the process is killed meanwhile, and most Nodes are deleted."""
    controller: Replica = start_controller()
    fleet = kubelets(nodes, 3)
    fleet.serve()
    eventually(lambda: is_published(world, fleet.all))
    seen = Recorder(zk, f"{world.base}/echo")

    fleet.silence(*range(nodes))
    eventually(lambda: "Nodes are silent (" in said(world) and held(world) == 3 * nodes)
    stay_so(65)
    controller.crash()
    world.forget_controllers()
    for node in range(nodes // 2):
        fleet.delete(node)
    stay_so(65)
    assert seen.states == [fleet.all]
    fleet.back(*range(nodes // 2, nodes))
    fleet.report(*range(nodes // 2, nodes))
    for node in range(nodes // 2):
        for name in fleet.pods[fleet.names[node]]:
            world.delete_pod(name)
    eventually(lambda: is_published(world, fleet.of(*range(nodes // 2, nodes))), timeout=60)


@pytest.mark.deep
def test_nodes_that_flap(world: World, start_controller, zk: KazooClient, kubelets):
    start_controller("--guard-confirm", "1s")
    fleet = kubelets(3, 4)
    fleet.serve()
    eventually(lambda: is_published(world, fleet.all))
    seen = Recorder(zk, f"{world.base}/echo")

    for step in range(12):
        node = step % 3
        fleet.silence(node, (node + 1) % 3)
        fleet.back(node)
        fleet.report(node)
        fleet.back((node + 1) % 3)
        fleet.report((node + 1) % 3)
    eventually(lambda: is_published(world, fleet.all))
    assert seen.states == [fleet.all]


@pytest.mark.deep
def test_a_node_that_is_deleted_under_its_ready_pods(
    cluster: LocalCluster, world: World, start_controller, zk: KazooClient, kubelets
):
    """As when a spot machine is taken away; who starts meanwhile keeps what was held or withdrawn."""
    controller: Replica = start_controller("--guard-confirm", "1h")
    fleet = kubelets(6, 2)
    for name in fleet.names:
        world.relabel_node(name, world=world.namespace)
    world.create_localservice(selector={"app": "echo"})
    fleet.serve()
    eventually(lambda: is_published(world, fleet.all) and world.serves(*fleet.names))
    seen = Recorder(zk, f"{world.base}/echo")

    fleet.delete(5)
    eventually(lambda: held(world) == 2)
    assert world.serves(*fleet.names)
    eventually(lambda: is_published(world, fleet.of(*range(5))), timeout=60)
    eventually(lambda: world.serves(*fleet.names[:5]), timeout=60)
    states = [fleet.all, fleet.of(*range(5))]
    assert seen.states == states

    # The next process has not seen the Node, and reads its pods as Ready.
    controller.crash()
    another = "10.0.0.99"
    world.create_pod("echo-99", "echo", ip=another, node=fleet.names[0])
    eventually(lambda: is_published(world, [*fleet.of(*range(5)), another]), timeout=90)
    states.append([*fleet.of(*range(5)), another])
    assert seen.states == states
    assert verified(cluster, world) == (0, [])

    for name in fleet.pods[fleet.names[5]]:
        world.delete_pod(name)
    fleet.delete(4)
    eventually(lambda: held(world) == 2)
    controller.crash()
    world.forget_controllers()
    eventually(lambda: "their Nodes were deleted" in said(world), timeout=90)
    assert seen.states == states
    for name in fleet.pods[fleet.names[4]]:
        world.delete_pod(name)
    eventually(lambda: is_published(world, [*fleet.of(*range(4)), another]))


@pytest.mark.deep
def test_kubelets_that_stop_under_a_real_node_lifecycle_controller(
    cluster: FaultCluster, world: World, start_controller, zk: KazooClient
):
    """The real one marks Nodes and pods; virtual kubelets give a reason for Ready=True."""
    start_controller()
    for number in range(1, 5):
        world.create_pod(f"echo-{number}", "echo", node="node1")
    for number in range(1, 5):
        reason = {"reason": "TheProviderSaysSo"} if number > 2 else {}
        eventually(partial(has_address, world, f"echo-{number}"))
        world.set_status(
            f"echo-{number}", f"10.0.0.{number}", conditions=[{"type": "Ready", "status": "True", **reason}]
        )
    addresses = [f"10.0.0.{number}" for number in range(1, 5)]
    eventually(lambda: is_published(world, addresses))
    seen = Recorder(zk, f"{world.base}/echo")

    with cluster.process("kwok").paused():
        eventually(lambda: held(world) == 4, timeout=150)
        eventually(lambda: "Nodes are silent (1 of 1)" in said(world))
        stay_so(65)
    eventually(lambda: is_ready(world, "node1"), timeout=60)
    stay_so(5)
    assert seen.states == [addresses]
    for number in range(1, 5):
        world.set_status(f"echo-{number}", f"10.0.0.{number}")
    eventually(lambda: is_published(world, addresses))
    assert seen.states == [addresses]


def is_ready(world: World, node: str) -> bool:
    conditions = world.core.read_node(node).status.conditions
    return any(c.type == "Ready" and c.status == "True" for c in conditions)
