"""The thinnest journey of clients that read our templates, or our layouts otherwise than the formats' own."""

from collections.abc import Callable
from functools import partial

import pytest

from hack.clients.watcher import Watcher
from tests.clients.journeys import entry, layout_flags, published
from tests.clients.readers import ARMERIA, BY_TEMPLATE, PATIENCE, Reader, lists, smallest, unbroken
from tests.cluster.waiting import eventually
from tests.cluster.world import World


@pytest.mark.full
def test_all_follow_a_pod_that_comes_one_that_moves_and_one_that_goes(
    world: World, start_controller, follow: Callable[[Reader], Watcher]
):
    readers = (*ARMERIA, *BY_TEMPLATE)
    start_controller(*layout_flags(world, *readers))
    a, b, moved = (f"172.16.0.{number}:8080" for number in (1, 2, 3))
    world.create_pod("a", entry(), ip="172.16.0.1")
    for reader in readers:
        eventually(partial(published, world, reader, "172.16.0.1"), PATIENCE)
    watchers = {reader: follow(reader) for reader in readers}

    def all_list(*addresses: str) -> None:
        for watcher in watchers.values():
            eventually(partial(lists, watcher, *addresses), PATIENCE)

    all_list(a)
    world.create_pod("b", entry(), ip="172.16.0.2")
    all_list(a, b)
    world.set_status("b", "172.16.0.3")  # the same pod in another sandbox
    all_list(a, moved)
    world.delete_pod("a")
    all_list(moved)

    for reader, watcher in watchers.items():
        assert watcher.errors() == [], reader.id
        assert smallest(watcher) >= 1, reader.id
        assert all(unbroken(watcher, address) for address in (a, b, moved)), reader.id
