"""From a pod to what a real client lists: through add, change, remove and restart, never an empty list."""

import json
from collections.abc import Callable

import pytest

from tests.clients.journeys import entry, layout_flags, published
from tests.clients.readers import (
    ARMERIA,
    BY_TEMPLATE,
    FULL,
    NERVE_SD,
    OTHERWISE,
    PATIENCE,
    ZKCLI,
    Reader,
    latest,
    lists,
    parameters,
    smallest,
    unbroken,
)
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World


@pytest.mark.parametrize("reader", parameters(full=(*FULL, NERVE_SD, ZKCLI, *ARMERIA, *BY_TEMPLATE)))
def test_a_client_lists_the_right_endpoints_through_add_change_remove_and_restart(
    reader: Reader, world: World, start_controller: Callable[..., Controller], follow
):
    controller = start_controller(*layout_flags(world, reader))
    a, b, c = (reader.address(f"172.16.0.{number}", 8080) for number in (1, 2, 3))
    other_port, moved = reader.address("172.16.0.2", 8081), reader.address("172.16.0.4", 8081)
    world.create_pod("a", entry(), ip="172.16.0.1")
    eventually(lambda: published(world, reader, "172.16.0.1"), PATIENCE)
    watcher = follow(reader)
    eventually(lambda: lists(watcher, a), PATIENCE)

    world.create_pod("b", entry(), ip="172.16.0.2")
    eventually(lambda: lists(watcher, a, b), PATIENCE)
    world.annotate("a", json.dumps([entry(**OTHERWISE)]))
    eventually(
        lambda: all(reader.sees.items() <= shown.get(a, {}).items() for shown in latest(watcher)), PATIENCE
    )
    world.annotate("b", json.dumps([entry(port=8081)]))
    eventually(lambda: lists(watcher, a, other_port), PATIENCE)
    world.set_status("b", "172.16.0.4")  # the same pod in another sandbox
    eventually(lambda: lists(watcher, a, moved), PATIENCE)

    controller.stop()
    controller.start()
    eventually(controller.leads, PATIENCE)
    world.create_pod("c", entry(), ip="172.16.0.3")
    eventually(lambda: lists(watcher, a, moved, c), PATIENCE)
    world.delete_pod("a")
    eventually(lambda: lists(watcher, moved, c), PATIENCE)

    assert smallest(watcher) == 1
    changed = [] if reader.blinks else [a]
    assert all(unbroken(watcher, address) for address in (*changed, b, other_port, moved, c))
    assert watcher.errors() == []
