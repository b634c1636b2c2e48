"""Two pods of one address, as those have that use their node's network: it stays while one of them serves."""

from collections.abc import Callable
from functools import partial

import pytest

from hack.clients.watcher import Watcher
from tests.clients.journeys import entry, layout_flags, published
from tests.clients.readers import (
    BY_TEMPLATE,
    FULL,
    NERVE_SD,
    PATIENCE,
    SMOKE,
    ZKCLI,
    Reader,
    lists,
    unbroken,
)
from tests.cluster.waiting import eventually
from tests.cluster.world import World

READERS = (*SMOKE, *FULL, NERVE_SD, ZKCLI, *BY_TEMPLATE)  # Armeria forgets the address: docs/clients.md


@pytest.mark.full
def test_an_address_of_two_pods_is_listed_while_one_of_them_is_left(
    world: World, start_controller, follow: Callable[[Reader], Watcher]
):
    start_controller(*layout_flags(world, *READERS))
    shared, early, late = (f"172.16.0.{number}" for number in (1, 2, 3))
    world.create_pod("first", entry(), ip=shared)
    world.create_pod("early", entry(), ip=early)
    for reader in READERS:
        eventually(partial(published, world, reader, shared, early), PATIENCE)
    watchers = {reader: follow(reader) for reader in READERS}

    def all_list(*ips: str) -> None:
        for reader, watcher in watchers.items():
            eventually(partial(lists, watcher, *(reader.address(ip, 8080) for ip in ips)), PATIENCE)

    all_list(shared, early)
    world.create_pod("second", entry(), ip=shared)
    world.create_pod("late", entry(), ip=late)  # once it is listed, the second pod is published, too
    all_list(shared, early, late)
    world.delete_pod("first")
    world.delete_pod("early")
    all_list(shared, late)

    for reader, watcher in watchers.items():
        assert unbroken(watcher, reader.address(shared, 8080)), reader.id
        assert reader.errors(watcher) == [], reader.id
