"""Somebody forgets to apply the CRDs: the new controller publishes all the same, and does not go round."""

from pathlib import Path

import pytest

from tests.cluster.waiting import eventually
from tests.faults.harness.ground import Ground
from tests.faults.harness.stand import Stand
from tests.upgrade import estate
from tests.upgrade.versions import checkout


@pytest.mark.full
def test_a_new_controller_publishes_under_old_crds(tmp_path: Path):
    with Ground(tmp_path / "ground", crds=checkout("0.1.0") / "crds") as ground:
        ground.make_namespace("forgotten")
        with Stand(ground, ["forgotten"], tmp_path) as stand:
            world = stand.world()
            estate.build(world, "forgotten-")
            controller = stand.start(*estate.flags("both forms"))
            eventually(lambda: stand.is_right() and estate.is_built(world))
            estate.pass_by(world, "both forms", "first")

            before = estate.Left.of(stand, world, "both forms")
            estate.pass_by(world, "both forms", "second")
            after = estate.Left.of(stand, world, "both forms").without("second")
            assert after.differences(before) == set()
            assert controller.stop() == 0
            stand.check()
