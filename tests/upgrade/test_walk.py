"""An upgrade, and the way back, while pods change: old and new controllers take over from each other."""

from collections.abc import Iterator
from contextlib import contextmanager

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
def nothing_is_written(stand: Stand, world: World, layouts: str, marker: str) -> Iterator[None]:
    """Who takes over meanwhile writes nothing of what was there before."""
    before = estate.Left.of(stand, world, layouts)
    yield
    estate.pass_by(world, marker)
    assert estate.Left.of(stand, world, layouts).without(marker) == before


def change(stand: Stand, world: World, number: int) -> None:
    """Pods come, go, and come back under their name with another address."""
    world.delete_pod(f"big-{number}")
    world.create_pod(f"more-{number}", estate.ECHO, estate.GREETER, ip=f"10.0.4.{number}")
    world.delete_pod("echo-1")
    world.create_pod("echo-1", estate.ECHO, estate.GREETER, ip=f"10.0.5.{number}")
    eventually(stand.is_right)


@pytest.mark.parametrize("layouts", FORMS)
def test_there_and_back(stand: Stand, world: World, layouts: str):
    old, flags = package(OLDEST), estate.flags(layouts)
    estate.build(world, f"{world.namespace}-")
    first = stand.start(*flags, package=old)
    eventually(lambda: stand.is_right() and estate.is_built(world))
    estate.hold(world, first)
    estate.pass_by(world, "first")

    with nothing_is_written(stand, world, layouts, "second"):
        assert first.stop() == 0
        second = stand.start(*flags)
    change(stand, world, 1)
    estate.pass_by(world, "third")

    with nothing_is_written(stand, world, layouts, "fourth"):
        assert second.stop() == 0
        third = stand.start(*flags, package=old)
    change(stand, world, 2)
    assert third.stop() == 0


@pytest.mark.parametrize("layouts", FORMS)
def test_an_old_and_a_new_replica_lead_in_turn(stand: Stand, world: World, layouts: str):
    flags = estate.flags(layouts)
    estate.build(world, f"{world.namespace}-")
    replicas = [stand.start(*flags, package=package(OLDEST)), stand.start(*flags)]
    eventually(lambda: stand.is_right() and estate.is_built(world))
    for turn in range(4):
        (leader,) = [replica for replica in replicas if replica.leads()]
        leader.crash()
        stand.bury(leader.lives[-2])
        change(stand, world, turn)
