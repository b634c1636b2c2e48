"""The scenarios: one module each, with its ``run``."""

from collections.abc import Callable, Mapping

from hack.bench.figures import Outcome
from hack.bench.scenarios import (
    away,
    cold,
    foreign,
    idle,
    localservices,
    neighbour,
    parts,
    propagation,
    rolling,
    warm,
)
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage

# The order counts: each scenario uses the pods of the one before it.
SCENARIOS: Mapping[str, Callable[[Stage, Sizes], Outcome]] = {
    "cold": cold.run,
    "warm": warm.run,
    "propagation": propagation.run,
    "rolling": rolling.run,
    "away": away.run,
    "localservices": localservices.run,
    "parts": parts.run,
    "foreign": foreign.run,
    "neighbour": neighbour.run,
    "idle": idle.run,
}
OF_PEERS = frozenset({"cold", "propagation"})  # what needs nothing that only our controller has
