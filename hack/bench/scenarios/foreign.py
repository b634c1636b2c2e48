"""Cold start among as many pods that declare nothing."""

import msgspec

from hack.bench.figures import Outcome
from hack.bench.population import BarePod, address
from hack.bench.scenarios import cold
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage


def run(stage: Stage, sizes: Sizes) -> Outcome:
    """Make them, and start cold."""
    own = sizes.population()
    foreign = [BarePod(f"foreign-{n}", None, address(1_000_000 + n)) for n in range(len(own))]
    stage.populate([*own, *foreign])
    found = cold.measure("foreign", stage)
    return msgspec.structs.replace(found, notes=[f"{len(foreign)} of the pods declare nothing"])
