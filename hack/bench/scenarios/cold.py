"""Cold start: pods are there, no RpcService and no znode is; until every znode is right."""

import time
from collections.abc import Mapping, Sequence

from hack.bench import floors
from hack.bench.figures import Figure, Outcome
from hack.bench.population import BarePod, expected, wrong
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage, until


def run(stage: Stage, sizes: Sizes) -> Outcome:
    """Measure it, for the whole population."""
    pods = sizes.population()
    stage.populate(pods)
    return measure("cold", stage, pods)


def measure(scenario: str, stage: Stage, pods: Sequence[BarePod]) -> Outcome:
    """The floor, then the controller, which is stopped again; what it wrote stays."""
    content = expected(pods)
    stage.clear()
    floor = floors.cold_start(stage, pods, content)
    stage.clear()
    before = stage.read()
    with stage.running() as started:
        until(lambda: stage.answers("/healthz"), "the controller does not start")
        serving = time.monotonic() - started
        seconds = until_right(stage, content) - started
        cost = stage.cost_since(before)
        until(lambda: _all_synced(stage, len(content)), "Synced is not written", every=0.5)
        settled = time.monotonic() - started
        whole = stage.cost_since(before)
    return Outcome(
        scenario,
        [
            Figure(f"{len(pods)} pods, {len(content)} services: every znode right", seconds, "s", floor),
            Figure("the same without the interpreter's start", seconds - serving, "s", floor),
            Figure("every Synced condition written", settled, "s"),
            Figure("of it the interpreter's start", serving, "s"),
        ],
        costs={"znodes right": cost, "conditions written": whole},
    )


def until_right(stage: Stage, content: Mapping[str, bytes]) -> float:
    """Wait until the znodes are what they should be, byte for byte; when that was seen to be so.

    They are read once there are enough of them: reading all the time would be measured, too.
    """

    def look() -> float | None:
        if not stage.controller.pid:
            raise RuntimeError(f"the controller has ended: see {stage.controller.log}")
        if stage.znodes.count() != len(content):
            return None
        at = time.monotonic()
        return None if wrong(stage.znodes.content(), content) else at

    return until(look, "the znodes are not right") or 0.0


def _all_synced(stage: Stage, services: int) -> bool:
    return stage.synced() == services
