"""Cold start: pods exist, but no RpcService and no znode; until every znode is right."""

import time

from hack.bench import floors
from hack.bench.figures import Figure, Outcome
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage, until


def run(stage: Stage, sizes: Sizes) -> Outcome:
    """Measure it, for the whole population."""
    stage.populate(sizes.population())
    return measure("cold", stage)


def measure(scenario: str, stage: Stage) -> Outcome:
    """Measure the floor, then the controller, and stop it; its writes stay."""
    services = len(stage.population.expected())
    stage.clear()
    before = stage.read()
    floor = floors.cold_start(stage)
    bare = stage.cost_since(before)
    stage.clear()
    before = stage.read()
    what = f"{len(stage.population.pods)} pods, {services} services: every znode right"
    with stage.running() as started:
        if not stage.is_ours:
            figures = [Figure(what, stage.until_right() - started, "s", floor)]
            return Outcome(
                scenario, figures, costs={"the floor": bare, "znodes right": stage.cost_since(before)}
            )
        until(lambda: stage.answers("/healthz"), "the controller does not start")
        serving = time.monotonic() - started
        seconds = stage.until_right() - started
        cost = stage.cost_since(before)
        stage.until_up_to_date()
        synced = time.monotonic() - started
        whole = stage.cost_since(before)
    return Outcome(
        scenario,
        [
            Figure(what, seconds, "s", floor),
            Figure("the same without the interpreter's start", seconds - serving, "s", floor),
            Figure("every Synced condition written", synced, "s"),
            Figure(
                "the API server's CPU until then, beside until every znode is right",
                whole.apiserver_cpu_seconds,
                "s",
                cost.apiserver_cpu_seconds,
            ),
        ],
        costs={"the floor": bare, "znodes right": cost, "conditions written": whole},
    )
