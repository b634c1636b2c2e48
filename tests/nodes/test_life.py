"""The life of a pod that a kubelet runs, as another client of ZooKeeper sees it."""

import json

import pytest

from hack.local.nodes import Node
from tests.cluster.world import Recorder, World
from tests.nodes.pods import Pods, ask, eventually, server, template

pytestmark = [pytest.mark.full, pytest.mark.needs_root]


def test_a_deleted_pod_is_withdrawn_while_it_still_serves(pods: Pods, node1: Node):
    """The kubelet's hook and the server's own drain come after deletionTimestamp, when clients are told."""
    ends = server("--drain=3s", lifecycle={"preStop": {"sleep": {"seconds": 10}}})
    address = pods.run("ends", ends, terminationGracePeriodSeconds=30)
    pods.delete("ends")
    eventually(lambda: pods.servers("ends") is None)
    assert ask(node1, address) == "ends"
    eventually(lambda: "ends" not in pods.names())
    assert ask(node1, address) is None


def test_a_pod_goes_and_comes_with_its_readiness(pods: Pods, node1: Node):
    address = pods.run("wavers")
    ask(node1, address, "unready")
    eventually(lambda: pods.servers("wavers") is None)
    assert ask(node1, address) == "wavers"
    ask(node1, address, "recover")
    eventually(lambda: pods.servers("wavers") == [address])


def test_a_container_that_dies_is_withdrawn_until_its_successor_is_ready(pods: Pods, node1: Node):
    pods.create("dies", server("--unready"))
    address = eventually(lambda: pods.address("dies"))
    for restarts in (0, 1):
        eventually(lambda: pods.statuses("dies")["server"]["restartCount"] == restarts)  # noqa: B023
        eventually(lambda: ask(node1, address, "recover") is not None)
        eventually(lambda: pods.servers("dies") == [address])
        ask(node1, address, "exit")
        eventually(lambda: pods.servers("dies") is None)


def test_a_crash_loop_without_a_probe_is_published_only_while_it_runs(pods: Pods, world: World):
    """Kubernetes counts a container without a probe as Ready as soon as it runs; EndpointSlices do, too."""
    seen = Recorder(world.zk, f"{world.base}/loops")
    pods.create("loops", server("--life=2s", "--code=1", probe=False))
    eventually(lambda: "CrashLoopBackOff" in json.dumps(pods.statuses("loops")))
    eventually(lambda: pods.servers("loops") is None)
    assert [pods.address("loops")] in seen.states


def test_the_pod_of_a_job_is_withdrawn_as_it_ends(pods: Pods, world: World):
    seen = Recorder(world.zk, f"{world.base}/job")
    work = server("--life=3s", probe=False)
    spec = {"template": template("job", work, restartPolicy="Never", nodeName="node2")}
    pods.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec})
    world.kubectl("wait", "-n", world.namespace, "--for=condition=Complete", "job/job", "--timeout=120s")
    eventually(lambda: pods.servers("job") is None)
    eventually(lambda: len(seen.states) > 2)
    assert [len(state or ()) for state in seen.states] == [0, 1, 0]


def test_a_pod_is_published_once_all_of_its_containers_are_ready(pods: Pods, node1: Node):
    """One that ends before the others start, one that runs beside them (a sidecar), and the main one."""
    first = server("--life=1s", probe=False, name="first")
    sidecar = server("--unready", name="sidecar", restartPolicy="Always")
    main = {"name": "main", "image": "test-server:1", "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}
    pods.create("many", main, initContainers=[first, sidecar], terminationGracePeriodSeconds=10)
    eventually(lambda: pods.statuses("many").get("main", {}).get("ready"))
    address = pods.address("many")
    assert address
    assert pods.servers("many") is None
    ask(node1, address, "recover")
    eventually(lambda: pods.servers("many") == [address])
    pods.delete("many")
    eventually(lambda: pods.servers("many") is None)
    assert ask(node1, address) == "many"  # a sidecar ends after the main container


def test_a_static_pod_is_published_while_its_file_is_there(pods: Pods, node2: Node, world: World):
    file = node2.manifests / "static.json"
    pod = {"apiVersion": "v1", "kind": "Pod", **template("static", server())}
    pod["metadata"].update(name="static", namespace=world.namespace)
    file.write_text(json.dumps(pod))
    try:
        address = eventually(lambda: pods.address("static-node2"))
        eventually(lambda: pods.servers("static") == [address])
    finally:
        file.unlink()
    eventually(lambda: pods.servers("static") is None)


def test_an_address_that_another_pod_gets_is_published_for_that_one_alone(
    pods: Pods, node2: Node, world: World
):
    """The first pod's object outlives its sandbox and address, as a finalizer keeps it."""
    node2.give_out_again()
    address = pods.run("former")
    world.core.patch_namespaced_pod(
        "former", world.namespace, {"metadata": {"finalizers": ["test.dev/kept"]}}
    )
    pods.delete("former")
    eventually(lambda: pods.statuses("former")["server"]["state"].get("terminated"))

    def is_reused() -> bool:
        """Whether a new pod has the address, which is free once the former's sandbox is gone."""
        node2.give_out_again()
        if pods.run("latter") != address:
            pods.delete("latter")
            eventually(lambda: "latter" not in pods.names())
            return False
        return True

    eventually(is_reused)
    assert pods.servers("former") is None
    keep(world, "former", None)
    eventually(lambda: "former" not in pods.names())
    assert pods.servers("latter") == [address]


def keep(world: World, pod: str, finalizers: list[str] | None) -> None:
    """Have the pod's object stay where it is, or let it go."""
    world.core.patch_namespaced_pod(pod, world.namespace, {"metadata": {"finalizers": finalizers}})


def test_a_kubelet_that_is_killed_and_started_again_changes_nothing(pods: Pods, node2: Node, world: World):
    address = pods.run("stays")
    seen = Recorder(world.zk, f"{world.base}/stays")
    node2.restart_kubelet()
    ask(node2, address, "unready")  # which only the new one can notice
    eventually(lambda: pods.servers("stays") is None)
    eventually(lambda: len(seen.states) > 1)
    assert seen.states == [[address], None]


def test_a_drain_moves_all_pods_and_leaves_no_service_empty(pods: Pods, world: World):
    """The eviction API obeys the budget; each pod that is evicted is withdrawn at once."""
    grace = server(lifecycle={"preStop": {"sleep": {"seconds": 2}}})
    spec = {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "moves"}},
        "template": template("moves", grace, terminationGracePeriodSeconds=10),
    }
    budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "moves"}}}
    pods.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "moves"}, "spec": spec},
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "moves"},
            "spec": budget,
        },
    )
    eventually(lambda: len(pods.servers("moves") or ()) == 3)
    seen = Recorder(world.zk, f"{world.base}/moves")
    world.kubectl("drain", "node2", "--timeout=120s", "--pod-selector=app=moves")
    try:
        eventually(lambda: sorted(pods.servers("moves") or ()) == pods.ready("moves", "node1"))
        assert len(pods.servers("moves") or ()) == 3
        assert seen.smallest() >= 2
    finally:
        world.kubectl("uncordon", "node2")
