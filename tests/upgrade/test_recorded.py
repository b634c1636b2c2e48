"""This version takes over what older ones left behind, and writes nothing where nothing changed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.release import version as current
from tests.cluster.waiting import eventually
from tests.faults.harness.ground import Ground
from tests.faults.harness.stand import Stand
from tests.upgrade import estate
from tests.upgrade.recorded import CLUSTER, Recorded, namespace_of
from tests.upgrade.versions import COMMITS, RECORDED

VERSIONS = [*COMMITS, *({current()} - COMMITS.keys())]


def test_every_version_has_a_recorded_state():
    assert {file.parent.name for file in RECORDED.glob("*/state.json")} == set(VERSIONS)


@pytest.fixture(params=VERSIONS)
def left(ground: Ground, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stand]:
    """A stand on which everything lies as that version left it."""
    state = Recorded.load(RECORDED / request.param / "state.json")
    state.put_objects_back(ground.cluster.etcd_url)
    namespace = namespace_of(request.param)
    with Stand(ground, [namespace], tmp_path) as made:
        state.put_znodes_back(made.zk)
        yield made
        for replica in made.replicas:
            replica.stop()
    ground.core.delete_namespace(namespace)
    for number in (1, 2):
        ground.core.delete_node(f"{namespace}-{number}")


@pytest.mark.full
def test_what_a_version_left_behind_stays_as_it_is(left: Stand):
    world = left.world()
    before = estate.Left.of(left, world, "all")
    assert len(before.znodes) > 3 * estate.BIG
    assert estate.held(world) == estate.HELD

    controller = left.start(*estate.flags("all"), "--cluster-id", CLUSTER)
    eventually(controller.leads)
    estate.pass_by(world, "all", "passing")

    assert estate.Left.of(left, world, "all").without("passing").differences(before) == set()
    assert estate.held(world) == estate.HELD
