"""Nodes that fall silent while their pods go on: kubelets that hang, and what Kubernetes makes of it."""

from functools import partial

import pytest

from hack.local.nodes import Node, RealCluster
from tests.cluster.world import Recorder, World
from tests.nodes.pods import STAYS, Pods, ask, eventually, is_ready

pytestmark = [pytest.mark.deep, pytest.mark.needs_root]


def test_one_node_falls_silent_and_comes_back(pods: Pods, world: World, node1: Node, node2: Node):
    """Of pods that still serve, one is deleted by force, one evicted, and one outlasts it all."""
    other = pods.run("other", node="node1", tolerations=STAYS)
    forced = pods.run("forced", tolerations=STAYS, terminationGracePeriodSeconds=60)
    evicted = pods.run("evicted")
    stays = pods.run("stays", tolerations=STAYS)
    node2.silence()
    try:
        pods.delete("forced", grace_period_seconds=0)
        eventually(lambda: pods.servers("forced") is None)
        assert ask(node1, forced) == "forced"
        eventually(lambda: not is_ready(world, "node2"))
        eventually(lambda: pods.servers("evicted") is None)
        assert world.pod("evicted")["metadata"]["deletionTimestamp"]
        eventually(lambda: pods.servers("stays") is None)
        assert [ask(node1, address) for address in (evicted, stays)] == ["evicted", "stays"]
        assert pods.servers("other") == [other]
    finally:
        node2.resume()
    eventually(lambda: pods.servers("stays") == [stays])
    eventually(lambda: pods.names() == {"other", "stays"})
    eventually(lambda: ask(node1, forced) is None)


def test_all_nodes_fall_silent_and_nothing_is_withdrawn(pods: Pods, world: World, real: RealCluster):
    addresses = {name: pods.run(f"on-{name}", node=name, tolerations=STAYS) for name in real.nodes}
    seen = {name: Recorder(world.zk, f"{world.base}/on-{name}") for name in real.nodes}
    for node in real.nodes.values():
        node.silence()
    try:
        for name in real.nodes:
            eventually(partial(is_held, world, f"on-{name}"))
    finally:
        for node in real.nodes.values():
            node.resume()
    for name in real.nodes:
        eventually(partial(is_synced, world, f"on-{name}"))
    assert {name: recorder.states for name, recorder in seen.items()} == {
        name: [[address]] for name, address in addresses.items()
    }


def is_held(world: World, service: str) -> bool:
    return world.synced(service) == ("False", "Held")


def is_synced(world: World, service: str) -> bool:
    return world.synced(service) == ("True", "InRegistry")
