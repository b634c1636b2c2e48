"""An upgrade, and the way back, while pods change: old and new controllers take over from each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.stand import Stand
from tests.upgrade import estate
from tests.upgrade.versions import package

OLDEST = "0.1.0"
FORMS = [
    pytest.param("both forms", marks=pytest.mark.full),
    pytest.param("all", marks=pytest.mark.deep),
]


@contextmanager
def nothing_is_written(stand: Stand, world: World, layouts: str, marker: str, *but: str) -> Iterator[None]:
    """The controller that takes over meanwhile writes nothing of what was there before, *but* objects."""
    before = estate.Left.of(stand, world, layouts).without(*but)
    yield
    estate.pass_by(world, layouts, marker)
    assert estate.Left.of(stand, world, layouts).without(marker, *but).differences(before) == set()


def change(world: World, number: int) -> None:
    """Pods come, go, and come back under their name with another address."""
    world.delete_pod(f"big-{number}")
    world.create_pod(f"more-{number}", estate.ECHO, estate.GREETER, ip=f"10.0.4.{number}")
    world.delete_pod("echo-1")
    world.create_pod("echo-1", estate.ECHO, estate.GREETER, ip=f"10.0.5.{number}")
    changed = {f"10.0.4.{number}", f"10.0.5.{number}"}
    eventually(lambda: changed <= set(world.servers("echo") or ()))
    eventually(lambda: f"10.0.1.{number}" not in (world.servers("big") or ()))


def release(world: World) -> None:
    """Let go what is held, in the words of every version: a time, which is a new word, too."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name in world.rpcservices():
        if name.startswith("gone"):
            world.kubectl(
                "annotate", "rpcservice", name, f"rpcregistry.dev/release={now}", "-n", world.namespace
            )
    eventually(lambda: estate.held(world) == 0)


@pytest.mark.parametrize("layouts", FORMS)
def test_there_and_back(stand: Stand, world: World, layouts: str):
    old, flags = package(OLDEST), estate.flags(layouts)
    estate.build(world, f"{world.namespace}-")
    first = stand.start(*flags, package=old)
    eventually(lambda: stand.is_right() and estate.is_built(world))
    estate.hold(world, first)
    estate.pass_by(world, layouts, "first")

    with nothing_is_written(stand, world, layouts, "second"):
        assert first.stop() == 0
        second = stand.start(*flags)
    change(world, 1)
    estate.pass_by(world, layouts, "third")

    # 0.1.0 takes the mark from what is held and sets it anew, in the statuses only; and it gives the children
    # that were made meanwhile the names, and the conditions the words, that it would have given them.
    held = [name for name in world.rpcservices() if name.startswith("gone")]
    changed = ("echo", "com.example.Greeter", "second", "third")
    with nothing_is_written(stand, world, layouts, "fourth", *held, *changed):
        assert second.stop() == 0
        stand.start(*flags, package=old)
    change(world, 2)
    release(world)


@pytest.mark.parametrize("layouts", FORMS)
def test_an_old_and_a_new_replica_lead_in_turn(stand: Stand, world: World, layouts: str):
    flags = estate.flags(layouts)
    estate.build(world, f"{world.namespace}-")
    replicas = [stand.start(*flags, package=package(OLDEST)), stand.start(*flags)]
    eventually(lambda: stand.is_right() and estate.is_built(world))
    for turn in range(4):
        (leader,) = [replica for replica in replicas if replica.leads()]
        life = leader.lives[-1]
        leader.crash()
        stand.bury(life)
        change(world, turn)
        eventually(stand.is_right)
