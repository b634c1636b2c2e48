"""Nodes that fall silent: kubelets that hang while their pods go on, machines that hang as a whole."""

from functools import partial

import pytest

from hack.local.nodes import Node, RealCluster
from tests.cluster.world import World
from tests.nodes.pods import STAYS, Pods, ask, eventually, is_ready
from tests.nodes.silence import is_synced, outlast_silence

pytestmark = [pytest.mark.full, pytest.mark.needs_root]


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


@pytest.mark.deep
def test_half_of_a_service_falls_silent_and_is_held_before_it_is_withdrawn(
    pods: Pods, world: World, node1: Node, node2: Node
):
    """One in five may go at once; of more, a second look has to confirm that they are gone."""
    for name in ("a", "b", "c", "d"):
        pods.create(name, service="half", node="node1" if name < "c" else "node2", tolerations=STAYS)
    eventually(lambda: len(pods.servers("half") or ()) == 4)
    here, there = (sorted(str(pods.address(name)) for name in pair) for pair in ("ab", "cd"))
    node2.silence()
    try:
        eventually(lambda: world.synced("half") == ("False", "Held"))
        assert sorted(pods.servers("half") or ()) == sorted(here + there)
        eventually(lambda: sorted(pods.servers("half") or ()) == here)
        assert {ask(node1, address) for address in there} == {"c", "d"}
    finally:
        node2.resume()
    eventually(lambda: sorted(pods.servers("half") or ()) == sorted(here + there))
    eventually(partial(is_synced, world, "half"))


def test_a_machine_that_hangs_as_a_whole_is_withdrawn_and_comes_back(
    pods: Pods, world: World, node1: Node, node2: Node
):
    others = {name: pods.run(name, node="node1") for name in ("a", "b")}
    address = pods.run("c", tolerations=STAYS)
    node2.freeze()
    try:
        assert ask(node1, address) is None
        eventually(lambda: pods.servers("c") is None)
        assert not is_ready(world, "node2")
        assert {name: pods.servers(name) for name in others} == {
            name: [other] for name, other in others.items()
        }
    finally:
        node2.thaw()
    eventually(lambda: pods.servers("c") == [address])
    assert ask(node1, address) == "c"
    assert pods.statuses("c")["server"]["restartCount"] == 0


def test_all_nodes_fall_silent_and_nothing_is_withdrawn(pods: Pods, world: World, real: RealCluster):
    outlast_silence(pods, world, real, is_held)


def is_held(world: World, service: str) -> bool:
    return world.synced(service) == ("False", "Held")
