"""How much is written in one transaction, if ZooKeeper answers late or not."""

from collections.abc import Sequence

import pytest

from rpcregistry.errors import Retry
from rpcregistry.plan.ops import Op
from rpcregistry.reconcile.transactions import QUICK
from tests.builders import pod
from tests.worlds import ZooKeeperInMemory
from tests.worlds.registry import World

SERVICES = 20


class SlowZooKeeper(ZooKeeperInMemory):
    """Answers a transaction in time if it is small enough."""

    def __init__(self, world: World, most: int, seconds: float) -> None:
        super().__init__()
        self.world = world
        self.most = most
        self.seconds = seconds  # for each that it answers
        self.sizes: list[int] = []

    def commit(self, ops: Sequence[Op]) -> list[int | None]:
        self.sizes.append(len(ops))
        if len(ops) > self.most:
            raise Retry("no answer within 5 s")
        self.world.clock.seconds += self.seconds
        return super().commit(ops)


@pytest.mark.parametrize("seconds", [0.0, QUICK], ids=["a small one is quick", "a small one is slow, too"])
def test_what_is_too_much_to_be_answered_in_time_is_written_bit_by_bit(seconds: float):
    world = World()
    world.zookeeper = SlowZooKeeper(world, most=9, seconds=seconds)
    world.start()
    for number in range(SERVICES):
        world.pods.put(pod(number, f"s{number}"))
    attempts = 0
    while attempts < SERVICES:
        try:
            world.settle()
        except Retry:
            attempts += 1
            world.names |= world.registry.every_name()  # as the queue does
            continue
        break
    assert all(world.servers(f"s{number}") for number in range(SERVICES))
    if seconds:
        failed = [size for size in world.zookeeper.sizes if size > 9]
        assert len(failed) <= 5, "once it knows how much is answered in time, it sends no more"


def test_once_all_is_answered_quickly_transactions_are_large_again():
    world = World()
    world.zookeeper = SlowZooKeeper(world, most=0, seconds=0.0)
    world.start()
    world.pods.put(pod(0, *(f"s{number}" for number in range(SERVICES))))
    for _ in range(10):
        with pytest.raises(Retry):
            world.settle()
        world.names |= world.registry.every_name()
    smallest = world.zookeeper.sizes[-1]
    world.zookeeper.most = 10_000
    for name in "abc":
        world.pods.put(pod(name, *(f"s{number}" for number in range(SERVICES))))
        world.names |= world.registry.every_name()
        world.settle()
    assert world.zookeeper.sizes[-1] > SERVICES > smallest
