"""Pods come and go while something goes wrong that no test was written for; the judge says what is wrong.

Each is replayed by its seed: ``python -m tests.faults.harness --scenario NAME --seed N``.
"""

import random

import pytest

from tests.cluster.world import World
from tests.faults.harness.scenarios import SCENARIOS
from tests.faults.harness.stand import Stand

OTHER = random.randrange(10**6)  # another one each time


@pytest.fixture(autouse=True)
def two_namespaces(other_namespace: str) -> None:
    """One never sees the other's trouble."""


def run(stand: Stand, world: World, scenario: str, seed: int) -> None:
    print(f"{scenario}, seed {seed}")
    SCENARIOS[scenario](stand, world, seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", [1, pytest.param(OTHER, id="another")])
def test_nothing_goes_wrong(stand: Stand, world: World, seed: int):
    run(stand, world, "churn", seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, pytest.param(OTHER, id="another")])
def test_servers_and_replicas_die_and_hang(stand: Stand, world: World, seed: int):
    run(stand, world, "churn-with-faults", seed)


@pytest.mark.deep
@pytest.mark.allows(
    I1="what a restored server lists is not believed before a person says so",
    I9="/readyz says that a person has to decide",
)
@pytest.mark.parametrize("scenario", ["churn-with-restore", "churn-with-bumped-restore"])
def test_a2_etcd_goes_back_to_an_older_state(stand: Stand, world: World, scenario: str):
    run(stand, world, scenario, 1)
    stand.heal()
    stand.check()


@pytest.mark.deep
@pytest.mark.allows(
    I1="a status that others write several times a second is written anew every 30 s at least"
)
@pytest.mark.parametrize("seed", [1, 2, 3, 4, pytest.param(OTHER, id="another")])
def test_a3_a6_others_write_into_statuses_what_the_schema_accepts(stand: Stand, world: World, seed: int):
    run(stand, world, "random-status-edits", seed)
    stand.heal()
    stand.check()
