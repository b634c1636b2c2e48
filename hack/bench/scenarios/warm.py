"""Warm start: all is right already; until the controller is ready, without a write."""

import time

from hack.bench import floors
from hack.bench.figures import Figure, Outcome, written
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage, until

AFTERWARDS = 3.0  # seconds in which a needless write would come


def run(stage: Stage, sizes: Sizes) -> Outcome:
    """Measure it, for the whole population; raises if the controller wrote anything."""
    stage.populate(sizes.population())
    with stage.running():
        stage.until_up_to_date()
    floor = floors.lists(stage)
    before = stage.read()
    with stage.running() as started:
        until(lambda: stage.answers("/readyz"), "the controller does not become ready")
        seconds = time.monotonic() - started
        cost = stage.cost_since(before)
        time.sleep(AFTERWARDS)
        after = stage.cost_since(before)
    for what, count in (
        ("RpcServices", written(after.requests, "rpcservices")),
        ("znodes", after.znode_writes),
    ):
        if count:
            raise RuntimeError(f"warm start: {count} writes of {what}, where none is needed")
    return Outcome(
        "warm",
        [
            Figure("ready", seconds, "s", floor),
            Figure("writes", 0, ""),
        ],
        costs={"ready": cost, f"{AFTERWARDS:g} s later": after},
    )
