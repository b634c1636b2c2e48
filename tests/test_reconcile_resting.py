"""A comparison reads and plans only what changed; what it does not plan needs none."""

from collections.abc import Callable

import msgspec
import pytest

from rpcregistry.errors import Retry
from rpcregistry.layouts import Layout
from rpcregistry.model import Declaration, ObjectKey
from tests.builders import pod_key
from tests.worlds.registry import World

PARTS = 3


def compare(world: World) -> set[str]:
    """Compare all, and work off what differs; return it."""
    due = set().union(*(world.registry.compare_next(PARTS) for _ in range(PARTS)))
    world.names |= due
    world.settle()
    return due


@pytest.fixture
def world() -> World:
    """Two services in two layouts, at rest."""
    world = World()
    world.layouts = (Layout("kube2zk", "/rpc_v2"), Layout("dubbo", "/dubbo"))
    world.start()
    for number, name in ((1, "echo"), (2, "echo"), (3, "other")):
        world.serve(number, declarations=(Declaration(service_name=name, port=80),))
    world.settle()
    assert compare(world) == {"echo", "other"}, "nothing was compared before"
    compare(world)
    return world


def test_what_is_at_rest_is_neither_read_nor_planned(world: World):
    reads, commits = world.zookeeper.reads, list(world.zookeeper.commits)
    assert compare(world) == set()
    assert (world.zookeeper.reads, world.zookeeper.commits) == (reads, commits)


def change_data(world: World) -> None:
    world.zookeeper.znodes["/rpc_v2/echo"] = (b"{}", 7)


def lose_a_child(world: World) -> None:
    del world.zookeeper.znodes[
        f"/dubbo/echo/providers/{world.zookeeper.children('/dubbo/echo/providers')[0]}"
    ]


def lose_the_ledger(world: World) -> None:
    del world.zookeeper.znodes["/rpcregistry/owned/kube2zk/%2Frpc_v2%2Fecho"]


@pytest.mark.parametrize("edit", [change_data, lose_a_child, lose_the_ledger])
def test_what_nobody_told_of_is_put_back_within_one_comparison(world: World, edit: Callable[[World], None]):
    before = dict(world.zookeeper.znodes)
    edit(world)
    assert "echo" in compare(world)
    assert {path: data for path, (data, _) in world.zookeeper.znodes.items()} == {
        path: data for path, (data, _) in before.items()
    }
    compare(world)
    assert compare(world) == set()


def test_a_foreign_child_is_read_and_left(world: World):
    world.zookeeper.znodes["/dubbo/echo/providers/theirs"] = (b"", 0)
    assert "echo" in compare(world)
    assert "/dubbo/echo/providers/theirs" in world.zookeeper.znodes
    assert compare(world) == set()


def test_a_condition_that_somebody_removed_is_written_again(world: World):
    service = world.services.get(ObjectKey("default", "echo"))
    status = msgspec.structs.replace(service.status, conditions=())
    world.services.put(msgspec.structs.replace(service, status=status))
    assert compare(world) == {"echo"}
    assert world.services.get(service.key).status.condition("Synced").status == "True"


def test_before_zookeeper_3_6_all_is_read_and_planned(world: World):
    world.zookeeper.in_bulk = False
    for _ in range(3):
        assert compare(world) == {"echo", "other"}


def test_while_only_withdrawals_are_allowed_all_is_planned(world: World):
    world.confined = True
    for _ in range(2):
        assert compare(world) == {"echo", "other"}
    world.confined = False
    assert compare(world) == {"echo", "other"}
    assert compare(world) == set()


def test_while_statuses_cannot_be_read_all_is_planned_once(world: World):
    world.services.unknown = "no permission"
    assert compare(world) == {"echo", "other"}
    world.services.unknown = None
    assert compare(world) == {"echo", "other"}
    assert compare(world) == set()


def test_what_time_decides_is_planned_each_time(world: World):
    """A service without endpoints keeps its name in the ledger for the ownership grace."""
    world.pods.drop(pod_key(3))
    world.settle()
    for _ in range(4):
        assert "other" in compare(world)
    world.clock.seconds += 25 * 3600
    compare(world)
    assert not [path for path in world.zookeeper.znodes if path.endswith("%2Fother")]


def test_a_part_that_could_not_be_compared_is_compared_next(world: World, monkeypatch: pytest.MonkeyPatch):
    change_data(world)
    seals, failures = world.zookeeper.seals, [Retry("no answer")] * PARTS

    def failing(groups):
        if failures:
            raise failures.pop()
        return seals(groups)

    monkeypatch.setattr(world.zookeeper, "seals", failing)
    for _ in range(PARTS):
        with pytest.raises(Retry):
            world.registry.compare_next(PARTS)
    assert "echo" in compare(world)
