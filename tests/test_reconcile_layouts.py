"""The registry controller with several layouts at once, on a world in memory."""

import json

import msgspec
import pytest

from rpcregistry.errors import Conflict, Retry
from rpcregistry.model import ObjectKey
from rpcregistry.plan import heartbeat
from rpcregistry.plan.ops import Create, Delete
from rpcregistry.plan.restored import Record
from rpcregistry.reconcile.cache import REARM
from tests.builders import declared, pod_key
from tests.worlds.layouts import CURATOR, DUBBO, KUBE2ZK, everywhere, instances, providers, serve
from tests.worlds.registry import CONFIRM, World

BEAT = heartbeat.path("c1")


@pytest.fixture
def world() -> World:
    world = World()
    world.layouts = (KUBE2ZK, DUBBO, CURATOR)
    world.start()
    return world


def test_each_layout_holds_what_the_statuses_list(world: World):
    serve(world, 1, 2)
    world.settle()

    assert everywhere(world, 2)
    status = world.services.get(ObjectKey("default", "echo")).status
    assert status.registry_paths == "/rpc_v2/echo,/dubbo/echo/providers,/services/echo"
    assert status.condition("Synced").reason == "InRegistry"


def test_a_second_process_writes_nothing(world: World):
    serve(world, 1, 2)
    world.settle()
    commits = len(world.zookeeper.commits)
    world.start()
    world.settle()

    assert not [op for ops in world.zookeeper.commits[commits:] for op in ops]


def test_what_comes_is_written_before_what_goes(world: World):
    serve(world, 1, 2)
    world.settle()
    commits = len(world.zookeeper.commits)
    serve(world, 3)
    world.pods.drop(pod_key(1))
    world.settle()

    def written(kind: type) -> list[int]:
        found = enumerate(world.zookeeper.commits[commits:])
        return [at for at, ops in found for op in ops if type(op) is kind and op.path.startswith("/dubbo")]

    assert everywhere(world, 2)
    assert max(written(Create)) < min(written(Delete))


def test_a_missing_port_shows_and_costs_no_other_layout(world: World):
    world.serve(1)
    world.settle()

    condition = world.services.get(ObjectKey("default", "echo")).status.condition("Synced")
    assert (condition.status, condition.reason) == ("False", "MissingPort")
    assert (world.servers(), len(instances(world)), providers(world)) == (["10.0.0.1"], 1, [])


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(
            lambda znodes: [znodes.pop(path) for path in list(znodes) if "/providers" in path],
            id="its directory",
        ),
        pytest.param(
            lambda znodes: [znodes.pop(path) for path in list(znodes) if path.startswith("/dubbo")],
            id="all of it",
        ),
        pytest.param(
            lambda znodes: [znodes.pop(path) for path in list(znodes) if "/providers/" in path],
            id="its endpoints",
        ),
    ],
)
def test_what_others_remove_is_put_back(world: World, break_it):
    serve(world, 1, 2)
    world.settle()
    before = {
        path: data for path, (data, _) in world.zookeeper.znodes.items() if path != "/rpcregistry/fence/c1"
    }
    break_it(world.zookeeper.znodes)
    world.names.update(world.registry.path_changed("/dubbo/echo/providers"))
    world.names.update(world.registry.path_changed("/dubbo/echo"))
    for path in before:
        if "/providers/" in path:
            world.names.update(world.registry.path_changed(path))
    world.clock.sleep(REARM)
    world.names.update(world.registry.unwatched())
    world.settle()

    assert everywhere(world, 2)


def test_what_others_write_over_is_put_back(world: World):
    serve(world, 1)
    world.settle()
    (name,) = instances(world)
    path = f"/services/echo/{name}"
    world.names.add("echo")
    world.settle()
    ours = world.zookeeper.znodes[path][0]
    world.zookeeper.znodes[path] = (b"theirs", 7)
    world.names.update(world.registry.path_changed(path))
    world.settle()

    assert world.zookeeper.znodes[path] == (ours, 8)


def test_a_wiped_zookeeper_is_filled_again(world: World):
    serve(world, 1, 2)
    world.settle()
    world.zookeeper.znodes.clear()
    world.compared = False
    world.settle()

    assert everywhere(world, 2)


def test_an_rpcservice_that_vanishes_withdraws_no_endpoint(world: World):
    serve(world, 1, 2)
    world.settle()
    world.services.drop(ObjectKey("default", "echo"))
    world.registry.reconcile(["echo"])
    assert everywhere(world, 2)

    serve(world, 3)
    world.settle()
    assert everywhere(world, 3)


def test_endpoints_that_are_missing_are_held_in_each_layout(world: World):
    serve(world, *range(1, 21))
    world.settle()
    for number in range(1, 11):
        world.pods.drop(pod_key(number), listed=True)
    world.settle()
    assert everywhere(world, 20)

    world.clock.seconds += CONFIRM + 1
    world.settle()
    assert everywhere(world, 10)


def test_a_layout_that_is_not_asked_for_any_more_is_left_as_it_is(world: World):
    serve(world, 1)
    world.settle()
    before = providers(world)
    world.layouts = (KUBE2ZK,)
    world.start()
    world.pods.drop(pod_key(1))
    world.settle()

    assert (world.servers(), providers(world)) == (None, before)


@pytest.mark.parametrize("number", range(10))
def test_a_crash_before_any_write_leaves_no_orphan(world: World, number: int):
    world.zookeeper.writes_left = number
    steps = [
        lambda: serve(world, 1, 2),
        lambda: serve(world, 3),
        lambda: world.pods.drop(pod_key(1)),
        lambda: serve(world, 2, ips=("10.0.0.99",)),
    ]
    for step in steps:
        step()
        try:
            world.settle()
        except Retry:
            world.start()
    world.zookeeper.writes_left = None
    world.start()
    world.settle()
    world.clock.seconds += CONFIRM + 1
    world.settle()

    assert everywhere(world, 2)
    assert world.servers() == ["10.0.0.3", "10.0.0.99"]


def test_a_service_of_many_endpoints_is_written_in_several_transactions(world: World):
    serve(world, *range(1, 201), ips=("10.0.0.1",), namespace="default")
    world.services.put(declared("mine"))
    world.settle()
    providers_of = [ops for ops in world.zookeeper.commits if any("/providers/" in op.path for op in ops)]

    assert len(providers(world)) == 200
    assert all(len(ops) <= 501 for ops in providers_of)


def test_the_heartbeat_tells_when_it_was_written_and_what_waits(world: World):
    serve(world, 1)
    world.settle()
    world.registry.beat()
    first = world.zookeeper.znodes[BEAT]
    world.zookeeper.connected = False
    serve(world, 2)
    with pytest.raises(Retry):
        world.settle()
    world.zookeeper.connected = True
    world.clock.seconds += 10
    world.registry.beat()
    second = world.zookeeper.znodes[BEAT]

    assert [json.loads(data)["waiting"] for data, _ in (first, second)] == [0, 1]
    assert json.loads(first[0])["at"] < json.loads(second[0])["at"]


def test_what_is_written_says_in_the_heartbeat_how_far_the_api_server_had_come(world: World):
    """A process that is killed before the next heartbeat leaves that, too."""
    serve(world, 1)
    world.settle()
    world.registry.beat()
    before = heartbeat.decode(world.zookeeper.znodes[BEAT][0])
    world.seen = Record(versions={"pods": 42}, lease_uid="u", lease_version=43)
    serve(world, 2)
    world.settle()
    after = heartbeat.decode(world.zookeeper.znodes[BEAT][0])

    assert [ops for ops in world.zookeeper.commits if {op.path for op in ops} == {BEAT}] == [
        [Create(BEAT, msgspec.json.encode(before))]
    ]
    assert after == msgspec.structs.replace(before, seen=world.seen)


@pytest.mark.parametrize("trouble", ["deleted", "refused"])
def test_a_heartbeat_that_cannot_be_written_costs_no_write(world: World, trouble: str):
    serve(world, 1)
    world.settle()
    world.registry.beat()
    if trouble == "deleted":
        del world.zookeeper.znodes[BEAT]
    else:
        world.zookeeper.refused.add(BEAT)
    serve(world, 2)
    world.settle()
    assert everywhere(world, 2)
    refusals = world.zookeeper.refusals
    serve(world, 3)
    world.settle()
    assert (everywhere(world, 3), world.zookeeper.refusals) == (True, refusals), "not asked again"
    world.zookeeper.refused.clear()
    world.registry.beat()
    world.seen = Record(versions={"pods": 42})
    serve(world, 4)
    world.settle()
    assert heartbeat.decode(world.zookeeper.znodes[BEAT][0]).seen == world.seen


def test_an_endpoint_in_several_layouts_is_one_to_the_guard(world: World):
    mine = declared("mine")
    world.services.put(mine)
    serve(world, *range(1, 5))
    for number in range(5, 30):
        world.serve(number, service="other")
    world.settle()
    world.pods._items = {k: v for k, v in world.pods._items.items() if int(k.name[1:]) > 4}
    world.services.drop(ObjectKey("default", "mine"))
    world.settle()

    assert everywhere(world, 0), "four of twenty-nine, though they stand in three layouts"


def test_what_nobody_told_of_is_found_within_as_many_parts_as_there_are(world: World):
    serve(world, 1, 2)
    world.settle()
    world.names.add("echo")
    world.settle()
    for path in list(world.zookeeper.znodes):
        if "/providers/" in path or path == "/rpc_v2/echo":
            del world.zookeeper.znodes[path]
        elif path.startswith("/services/echo/"):
            world.zookeeper.znodes[path] = (b"theirs", 7)
    for _ in range(10):
        world.names |= world.registry.compare_next(10)
    world.settle()

    assert everywhere(world, 2)
    assert not [data for data, _ in world.zookeeper.znodes.values() if data == b"theirs"]


def test_what_came_to_be_since_all_was_compared_is_read_after_a_lost_answer(world: World, monkeypatch):
    world.settle()
    serve(world, 1)
    world.settle()
    conflicts = []
    commit = world.zookeeper.commit

    def counted(ops):
        try:
            return commit(ops)
        except Conflict as conflict:
            conflicts.append(conflict)
            raise

    monkeypatch.setattr(world.zookeeper, "commit", counted)
    world.zookeeper.lose_answer = True
    serve(world, 1, 2)
    with pytest.raises(Retry):
        world.settle()
    world.names.add("echo")
    world.settle()
    assert everywhere(world, 2)
    assert not conflicts
