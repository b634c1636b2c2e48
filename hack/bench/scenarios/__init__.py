"""What is measured: one module a scenario, ``run(stage, size)`` in each."""

from collections.abc import Callable, Mapping

from hack.bench.figures import Outcome
from hack.bench.scenarios import cold, propagation, warm
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage

# In this order: what one leaves behind, the pods and what was written for them, is where the next begins.
SCENARIOS: Mapping[str, Callable[[Stage, Sizes], Outcome]] = {
    "cold": cold.run,
    "warm": warm.run,
    "propagation": propagation.run,
}
