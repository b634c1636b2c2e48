"""Where packets go: a request to ``<LocalService>-<node>`` lands on that node, whoever sends it."""

from collections.abc import Callable
from functools import partial

import pytest
from kubernetes import client

from hack.local.cluster import LocalCluster
from hack.local.netns import Network
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World
from tests.packets.nodes import PORT, Node, counted, run_node

pytestmark = pytest.mark.needs_root

APP = {"kind": "localservice-app"}
PORTS = [{"name": "http", "port": PORT, "targetPort": PORT, "protocol": "TCP"}]
PATIENCE = 60.0  # seconds, which only a failure takes


def declare(world: World, name: str, **spec) -> None:
    """Create a LocalService of the app's pods."""
    manifest = {
        "apiVersion": "rpcregistry.dev/v1alpha1",
        "kind": "LocalService",
        "metadata": {"name": name},
        "spec": {"selector": APP, "ports": PORTS, **spec},
    }
    world.custom.create_namespaced_custom_object(
        "rpcregistry.dev", "v1alpha1", world.namespace, "localservices", manifest
    )


def run_pods(world: World, nodes: dict[str, Node]) -> dict[str, set[str]]:
    """Run two pods on each node, ``app-<node>-a`` and ``-b``; return their addresses by node."""
    return {
        name: {node.run_pod(world, pod, labels=APP) for pod in pods_of(name)} for name, node in nodes.items()
    }


def pods_of(node: str) -> set[str]:
    return {f"app-{node}-a", f"app-{node}-b"}


def from_everywhere(nodes: dict[str, Node], holds: Callable[..., bool], *arguments) -> None:
    """Wait until it holds for requests from every node."""
    for sender in nodes.values():
        eventually(partial(holds, sender, *arguments), PATIENCE)


def reaches(sender: Node, node: str, pods: set[str], service: str = "localservice-app") -> bool:
    """Whether requests for *node* land at all of these pods; none lands on another node, at any time."""
    landings = sender.curl(f"{service}-{node}")
    assert {landing.node for landing in landings} <= {node}
    return {landing.pod for landing in landings} == pods


def resolves(sender: Node, name: str, addresses: set[str]) -> bool:
    return sender.resolve(name) == addresses


@pytest.fixture
def app(world: World, nodes: dict[str, Node], controller: Controller) -> None:
    """Two pods on each node, a LocalService of them, and a plain Service of the same pods."""
    declare(world, "localservice-app")
    world.core.create_namespaced_service(
        world.namespace, {"metadata": {"name": "plain"}, "spec": {"selector": APP, "ports": PORTS}}
    )
    run_pods(world, nodes)
    for name in nodes:
        from_everywhere(nodes, reaches, name, pods_of(name))


def test_requests_land_on_the_node_that_their_name_says(app, nodes):
    names = {f"localservice-app-{node}": node for node in nodes}
    for sender in nodes.values():
        assert counted(sender.curl(*names, times=200)) == dict.fromkeys(names.items(), 200)


def test_requests_to_a_plain_service_land_on_all_nodes(app, nodes):
    for sender in nodes.values():
        assert {landing.node for landing in sender.curl("plain", times=200)} == set(nodes)


def test_requests_follow_a_pod_that_moves(app, nodes, world):
    nodes["node1"].stop_pod(world, "app-node1-a")
    nodes["node2"].run_pod(world, "app-moved", labels=APP)
    from_everywhere(nodes, reaches, "node1", {"app-node1-b"})
    from_everywhere(nodes, reaches, "node2", {*pods_of("node2"), "app-moved"})


def test_requests_avoid_a_pod_while_it_is_not_ready(app, nodes, world):
    address = nodes["node3"].run_pod(world, "app-wavering", labels=APP)
    from_everywhere(nodes, reaches, "node3", {*pods_of("node3"), "app-wavering"})
    world.set_status("app-wavering", address, ready=False)
    from_everywhere(nodes, reaches, "node3", pods_of("node3"))
    world.set_status("app-wavering", address)
    from_everywhere(nodes, reaches, "node3", {*pods_of("node3"), "app-wavering"})


def test_requests_for_a_node_without_pods_are_refused(app, nodes, world):
    for pod in pods_of("node2"):
        nodes["node2"].stop_pod(world, pod)
    from_everywhere(nodes, Node.refused, "localservice-app-node2")
    from_everywhere(nodes, reaches, "node1", pods_of("node1"))


def test_requests_reach_a_node_that_joins_until_it_leaves(
    app, nodes, world: World, network: Network, cluster: LocalCluster, core: client.CoreV1Api
):
    with run_node("node4", network, cluster, core) as joined:
        joined.run_pod(world, "app-joined", labels=APP)
        from_everywhere(nodes, reaches, "node4", {"app-joined"})
    world.delete_pod("app-joined")
    from_everywhere(nodes, Node.unknown, "localservice-app-node4")
    from_everywhere(nodes, reaches, "node1", pods_of("node1"))


def test_a_headless_name_stands_for_the_addresses_of_the_pods_on_its_node(world, nodes, controller):
    declare(world, "headless", clusterIP="None")
    addresses = run_pods(world, nodes)
    for name in nodes:
        from_everywhere(nodes, resolves, f"headless-{name}", addresses[name])
    names = {f"headless-{node}": node for node in nodes}
    for sender in nodes.values():
        assert counted(sender.curl(*names)) == dict.fromkeys(names.items(), 20)


@pytest.mark.full
def test_a_node_port_leads_to_its_service_s_node_at_whichever_node_it_is_called(world, nodes, controller):
    declare(world, "ported", type="NodePort")
    run_pods(world, nodes)
    for name in nodes:
        from_everywhere(nodes, reaches, name, pods_of(name), "ported")
        service = world.core.read_namespaced_service(f"ported-{name}", world.namespace)
        for called in nodes.values():
            landings = nodes["node1"].curl(called.machine.address, port=service.spec.ports[0].node_port)
            assert counted(landings) == {(called.machine.address, name): 20}


def test_requests_land_on_the_node_of_pods_that_ask_for_it_themselves(world, nodes, controller):
    for name, node in nodes.items():
        node.run_pod(world, f"echo-on-{name}", {"serviceName": "echo", "port": PORT, "local": True})
    for name in nodes:
        from_everywhere(nodes, reaches, name, {f"echo-on-{name}"}, "echo")


@pytest.mark.full
def test_requests_still_land_while_no_controller_runs_and_reach_new_pods_once_one_does(
    app, nodes, world, controller
):
    controller.kill()
    nodes["node1"].stop_pod(world, "app-node1-a")
    nodes["node1"].run_pod(world, "app-late", labels=APP)
    from_everywhere(nodes, reaches, "node1", {"app-node1-b"})
    controller.start()
    from_everywhere(nodes, reaches, "node1", {"app-node1-b", "app-late"})
