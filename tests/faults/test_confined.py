"""Only renewals of the Lease are refused: who leads goes on to withdraw while nobody else has the Lease."""

from functools import partial

import pytest

from hack.local.http_proxy import HttpProxy
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.kubelet import Replica, ask
from tests.faults.test_leadership import TAKEOVER, follows, holder
from tests.faults.test_refused import refuse

LEASE = "/leases/rpcregistry"
CODES = [
    pytest.param(429, id="429"),
    pytest.param(403, id="403"),
    pytest.param(500, id="500"),
]


def is_confined(replica: Replica) -> bool:
    return "nothing is added" in ask(replica.port, "/readyz")[1]


def addresses(*numbers: int) -> list[str]:
    return [f"10.0.0.{number}" for number in numbers]


def serve(world: World, *numbers: int, service: str = "echo") -> None:
    for number in numbers:
        world.create_pod(f"p{number}", service, ip=f"10.0.0.{number}")


def serves(world: World, *numbers: int) -> bool:
    return world.servers("echo") == addresses(*numbers)


def writes(api: HttpProxy, since: int) -> list[tuple[str, str]]:
    """What was written through the proxy, but for attempts at the Lease."""
    asked = [(method, path.partition("?")[0]) for method, path in api.requests[since:] if method != "GET"]
    return [found for found in asked if not found[1].endswith(LEASE)]


@pytest.mark.full
@pytest.mark.allows(I1="whoever came or went last is right only once the Lease is renewed")
@pytest.mark.parametrize("code", CODES)
def test_while_nobody_else_can_have_the_lease_the_dead_leave_and_nothing_else_happens(
    world: World, api: HttpProxy, through_api, start_controller, code: int
):
    leader = start_controller(kubeconfig=through_api)
    serve(world, 1, 2, 3, 4)
    serve(world, 9, service="lonely")
    eventually(lambda: world.servers("echo") == addresses(1, 2, 3, 4))
    eventually(lambda: world.servers("lonely") == addresses(9))
    refuse(api, "PATCH", LEASE, code)
    eventually(lambda: is_confined(leader), timeout=30)
    eventually(lambda: "rpcregistry_leader 0.0" in ask(leader.port, "/metrics")[1])
    since = len(api.requests)

    serve(world, 5)
    serve(world, 6, service="new")
    world.delete_pod("p9")
    for number in (1, 2, 3):  # each is seen to go after what came before it
        world.delete_pod(f"p{number}")
        eventually(partial(serves, world, *range(number + 1, 5)))
    world.delete_pod("p4")
    eventually(lambda: "4" in str(world.servers("echo")) and is_confined(leader))
    assert world.servers("echo") == addresses(4)
    assert world.servers("lonely") == addresses(9)
    assert world.data("new") is None
    assert writes(api, since) == []
    assert len(leader.lives) == 1

    api.reset()
    eventually(lambda: world.servers("echo") == addresses(5), timeout=60)
    eventually(lambda: "rpcregistry_leader 1.0" in ask(leader.port, "/metrics")[1])
    eventually(lambda: world.servers("new") == addresses(6))
    eventually(lambda: world.data("lonely") is None)
    eventually(lambda: world.events("NotRenewed", "rpcregistry"))
    assert len(leader.lives) == 1


@pytest.mark.full
def test_another_replica_takes_the_lease_and_who_had_it_ends(
    world: World, api: HttpProxy, through_api, start_controller
):
    first = start_controller(kubeconfig=through_api, restarts=False)
    serve(world, 1, 2)
    eventually(lambda: world.servers("echo") == addresses(1, 2))
    second = start_controller(wait=False)
    eventually(lambda: follows(second))
    before = holder(world)
    refuse(api, "PATCH", LEASE, 403)
    eventually(second.leads, timeout=TAKEOVER)
    assert first.wait(10) == 1
    assert "holds the Lease" in first.text()
    assert holder(world) != before
    serve(world, 3)
    world.delete_pod("p1")
    eventually(lambda: world.servers("echo") == addresses(2, 3))


@pytest.mark.deep
def test_without_an_answer_to_its_renewals_a_leader_ends(
    world: World, api: HttpProxy, through_api, start_controller
):
    leader = start_controller(kubeconfig=through_api, restarts=False)
    serve(world, 1, 2)
    eventually(lambda: serves(world, 1, 2))
    refuse(api, "PATCH", LEASE, 403)
    eventually(lambda: is_confined(leader), timeout=30)
    refuse(api, "PATCH", LEASE, None)
    assert leader.wait(10) == 1
    assert serves(world, 1, 2)
