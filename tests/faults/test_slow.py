"""An API server that takes long to answer."""

import pytest

from hack.local.http_proxy import HttpProxy
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.test_leadership import LEASE, holder, leases

SLOW = 4.0  # seconds


def renewed(world: World) -> object:
    return leases(world).read_namespaced_lease(LEASE, world.namespace).spec.renew_time


def renewals(world: World, count: int) -> None:
    """Wait for so many renewals."""
    for _ in range(count):
        before = renewed(world)
        eventually(lambda seen=before: renewed(world) != seen, timeout=30)


@pytest.mark.full
@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(False, id="on a connection that is there", marks=pytest.mark.deep),
        pytest.param(True, id="on a new connection"),
    ],
)
def test_a_leader_keeps_its_lease_while_each_answer_takes_four_seconds(
    world: World, api: HttpProxy, through_api, start_controller, cut: bool
):
    leader = start_controller(kubeconfig=through_api)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ["10.0.0.1"])
    before = holder(world)
    renewals(world, 1)
    api.latency = SLOW
    if cut:
        api.cut_all()
    renewals(world, 3)
    assert holder(world) == before
    assert len(leader.lives) == 1
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2"], timeout=60)
    assert len(leader.lives) == 1
    api.reset()
    renewals(world, 2)  # the answer that is under way keeps a release waiting


@pytest.mark.deep
def test_a_process_starts_while_each_connection_takes_four_seconds(
    world: World, api: HttpProxy, through_api, start_controller
):
    api.latency = SLOW
    world.create_pod("a", "echo", ip="10.0.0.1")
    leader = start_controller(kubeconfig=through_api, wait=False)
    eventually(lambda: world.servers("echo") == ["10.0.0.1"], timeout=90)
    assert len(leader.lives) == 1
    api.reset()
    renewals(world, 2)
