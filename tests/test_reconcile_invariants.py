"""A plan that breaks an invariant: nothing of it is written, all else is, and it is told."""

import pytest

from rpcregistry.errors import Failure
from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import Child, PerEndpoint
from rpcregistry.model import Endpoint, ObjectKey, RpcService, ServiceKey
from rpcregistry.plan.invariants import Broken
from rpcregistry.reconcile import byname, observing
from rpcregistry.reconcile.reports import UNAVAILABLE_AFTER
from tests.worlds import Held
from tests.worlds.layouts import KUBE2ZK, serve
from tests.worlds.registry import World


def astray(service_name: str, endpoint: Endpoint, cluster_id: str) -> Child:
    """Places the endpoints of one service into the directory of another."""
    place = f"../other/{endpoint.pod_uid}" if service_name == "echo" else endpoint.pod_uid
    return Child(place)


ASTRAY = Layout("astray", "/astray", PerEndpoint(astray, slot=lambda name, cluster: name))


@pytest.fixture
def world() -> World:
    world = World()
    world.layouts = (KUBE2ZK, ASTRAY)
    world.start()
    return world


def reconcile(world: World) -> dict[str, Exception]:
    """Project, and reconcile all names in one batch, as the registry's thread does."""
    world.registry.compare()
    while world.keys:
        world.rpcservices.reconcile(world.keys.pop())
    failures, _ = world.registry.reconcile(["echo", "other"])
    while world.conditions:
        world.synced.reconcile(world.conditions.pop())
    return failures


def test_nothing_of_a_plan_that_breaks_an_invariant_is_written_and_others_are(world: World):
    world.serve(1)
    world.serve(2, service="other")
    failures = reconcile(world)

    assert failures.keys() == {"echo"}
    assert isinstance(failures["echo"], Broken)
    assert not isinstance(failures["echo"], Failure), "it would not be logged as unexpected"
    paths = [path for path in world.zookeeper.znodes if not path.startswith("/rpcregistry/fence")]
    assert sorted(path for path in paths if "rpcregistry" not in path) == [
        "/astray/other",
        "/astray/other/uid-p2",
        "/rpc_v2/other",
    ]
    assert not [path for path in paths if "echo" in path]


def test_a_plan_that_breaks_an_invariant_is_told_in_the_rpcservices_condition(world: World):
    world.serve(1)
    reconcile(world)
    world.clock.seconds += UNAVAILABLE_AFTER + 1
    reconcile(world)

    condition = world.services.get(ObjectKey("default", "echo")).status.condition("Synced")
    assert (condition.status, condition.reason) == ("False", "RegistryUnavailable")
    assert "../other/uid-p1 is not its own" in condition.message
    assert "report it" in condition.message


def test_a_transaction_in_which_two_layouts_meet_is_not_written(world: World):
    world.layouts = (Layout("curator", "/b"), Layout("spring-cloud", "/b"))
    world.start()
    serve(world, 1, 2)
    failures = reconcile(world)

    assert isinstance(failures["echo"], Broken)
    assert not [path for path in world.zookeeper.znodes if path.startswith("/b")]


class Confused(Held[RpcService]):
    """An index that brings the RpcServices of other names, too."""

    def indexed(self, index, value):
        return self.values() if isinstance(value, ServiceKey) else super().indexed(index, value)


def test_no_rpcservice_of_another_service_is_written(world: World):
    world.serve(1)
    world.settle_except(Broken)
    indexes = {**observing.service_indexes(), **byname.service_indexes()}
    confused = Confused(indexes, lambda change: None)
    for service in world.services.values():
        confused.put(service)
    world.services = world.kube.source = confused
    world.start()
    world.serve(2, service="other")
    writes = len(world.kube.writes)

    with pytest.raises(Broken, match="this service"):
        world.rpcservices.reconcile(ServiceKey("default", "other"))
    assert len(world.kube.writes) == writes
