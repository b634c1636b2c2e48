"""A rolling update as many clients at once see it: all their layouts in one controller."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest

from hack.clients.watcher import Watcher
from tests.clients.journeys import entry, layout_flags, published
from tests.clients.readers import (
    ARMERIA,
    BY_TEMPLATE,
    FULL,
    NERVE_SD,
    PATIENCE,
    SMOKE,
    ZKCLI,
    Reader,
    lists,
    smallest,
)
from tests.cluster.waiting import eventually
from tests.cluster.world import World

PODS, BATCH = 100, 10


@pytest.mark.full
@pytest.mark.parametrize(
    "readers",
    [
        pytest.param((*SMOKE, *FULL, NERVE_SD, ZKCLI), id="of the formats"),
        pytest.param((*ARMERIA, *BY_TEMPLATE), id="Armeria and of templates"),
    ],
)
def test_no_client_lists_fewer_than_the_pods_outside_the_batch_in_hand(
    readers: Sequence[Reader], world: World, start_controller, follow: Callable[[Reader], Watcher]
):
    start_controller(*layout_flags(world, *readers))
    for number in range(PODS):
        world.create_pod(f"old-{number}", entry(), ip=f"172.16.1.{number}")
    for reader in readers:
        eventually(partial(published, world, reader, *(f"172.16.1.{n}" for n in range(PODS))), PATIENCE)
    watchers = {reader: follow(reader) for reader in readers}
    for reader, watcher in watchers.items():
        eventually(partial(lists, watcher, *addresses(reader, "172.16.1")), PATIENCE)

    # Armeria begins with one endpoint, and is told of the others one by one.
    began = {reader: len(watcher.seen()) for reader, watcher in watchers.items()}
    for first in range(0, PODS, BATCH):
        for number in range(first, first + BATCH):
            world.delete_pod(f"old-{number}")
        for number in range(first, first + BATCH):
            world.create_pod(f"new-{number}", entry(), ip=f"172.16.2.{number}")

    for reader, watcher in watchers.items():
        eventually(partial(lists, watcher, *addresses(reader, "172.16.2")), PATIENCE)
    fewest = {reader.id: smallest(watcher, began[reader]) for reader, watcher in watchers.items()}
    assert {client: number for client, number in fewest.items() if number < PODS - BATCH} == {}
    assert [error for watcher in watchers.values() for error in watcher.errors()] == []


def addresses(reader: Reader, network: str) -> list[str]:
    """The endpoints of all pods, as the client shows them."""
    return [reader.address(f"{network}.{number}", 8080) for number in range(PODS)]
