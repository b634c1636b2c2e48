"""Silent nodes where Kubernetes waits as long as it does by default: 50 s for a Node, 300 s for its pods."""

import pytest

from hack.local.nodes import BY_DEFAULT, Node, RealCluster
from tests.cluster.world import World
from tests.nodes.pods import Pods, ask, eventually, is_ready
from tests.nodes.silence import outlast_silence

pytestmark = [
    pytest.mark.deep,
    pytest.mark.needs_root,
    pytest.mark.parametrize("real", [pytest.param(BY_DEFAULT, id="by default")], indirect=True),
]
PATIENCE = 600.0  # seconds


def test_all_nodes_fall_silent_and_nothing_is_withdrawn(pods: Pods, world: World, real: RealCluster):
    """Kubelets renew their Leases at different times, so the Nodes turn not Ready one after the other."""
    outlast_silence(pods, world, real, is_silent, PATIENCE)


def test_one_node_falls_silent_its_pods_are_evicted_and_end_with_its_return(
    pods: Pods, world: World, node1: Node, node2: Node
):
    others = {name: pods.run(name, node="node1") for name in ("a", "b")}
    address = pods.run("evicted")
    node2.silence()
    try:
        eventually(lambda: pods.servers("evicted") is None, PATIENCE)
        assert not is_ready(world, "node2")
        assert "deletionTimestamp" not in world.pod("evicted")["metadata"]
        assert ask(node1, address) == "evicted"
        eventually(lambda: "deletionTimestamp" in world.pod("evicted")["metadata"], PATIENCE)
        assert ask(node1, address) == "evicted"
    finally:
        node2.resume()
    eventually(lambda: "evicted" not in pods.names(), PATIENCE)
    assert ask(node1, address) is None
    assert {name: pods.servers(name) for name in (*others, "evicted")} == {
        **{name: [other] for name, other in others.items()},
        "evicted": None,
    }


def is_silent(world: World, service: str) -> bool:
    """Whether the service is held, and the nodes are said to be the cause."""
    conditions = world.rpcservices()[service]["status"]["conditions"]
    return any(c["reason"] == "Held" and "Nodes are silent" in c["message"] for c in conditions)
