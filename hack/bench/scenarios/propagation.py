"""Propagation: a pod's status is patched; until another client reads its address in ZooKeeper."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hack.bench import floors
from hack.bench.changes import UnderLoad, durations, one_at_a_time, under_load
from hack.bench.figures import Cost, Figure, Outcome, Series, latency_figures, percentile, thirds
from hack.bench.population import BarePod, by_service, spread, turning_ready
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage

MOST_LATE = 1.25  # times as long as planned
LOAD_ALONE = 20.0  # seconds: for how long the load is measured alone, at most


def run(stage: Stage, sizes: Sizes) -> Outcome:
    """Idle, and under each rate: over many services, and over one."""
    population = sizes.population()
    one = spread(sizes.large_service, 1, "one")
    stage.populate([*population, *one])
    changed = list(by_service(population))[: sizes.services_changed]
    many = [pod for pod in population if pod.service in changed]
    with stage.running():
        stage.until_up_to_date()
    floor = _idle_floor(stage, many, sizes.idle_changes)
    alone = {rate: _alone(stage, many, rate, min(seconds, LOAD_ALONE)) for rate, seconds in sizes.rates}
    saturated = [rate for rate, found in alone.items() if found.saturates]
    costs = {}
    with stage.running():
        stage.until_up_to_date()
        before = stage.change_seconds()
        idle = one_at_a_time(stage, many, sizes.idle_changes)
        figures = latency_figures("idle", idle, floor)
        if stage.is_ours:
            figures += _parts(idle, before, stage.change_seconds())
        series = [Series("idle", idle, (), floor)]
        for rate, seconds in sizes.rates:
            for pods, where in ((many, f"{len(changed)} services"), (one, "one service")):
                name = f"{rate:g}/s over {where}"
                reading = stage.read()
                found = under_load(stage, pods, rate, seconds)
                costs[name] = stage.cost_since(reading)
                figures += _figures(name, found, alone[rate])
                figures += _cpu(name, costs[name], int(rate * seconds), alone[rate])
                series.append(Series(name, found.latencies, found.load, alone[rate].load))
    return Outcome(
        "propagation",
        figures,
        costs=costs,
        series=series,
        notes=[
            "idle: the floor is a bare pipeline of one watch, one status PUT and one set",
            "under load: the floor is what the load's own patches take while nobody else works",
            *(f"{rate:g}/s: the load alone is more than this machine takes: no ratios" for rate in saturated),
        ],
    )


class Alone(NamedTuple):
    """The load without a controller, in seconds: each request, and the API server's CPU for one of them.

    *saturates*: requests could not be sent at the rate, since the server did not keep up.
    """

    load: Sequence[float]
    cpu: float
    saturates: bool


def _alone(stage: Stage, pods: Sequence[BarePod], rate: float, seconds: float) -> Alone:
    """Measure the load's patches without a controller."""
    moved = stage.population.move(pods, int(rate * seconds))
    before = stage.read()
    sent = stage.api.paced(list(map(turning_ready, moved)), rate)
    cpu = stage.cost_since(before).apiserver_cpu_seconds / len(sent)
    took = sent[-1].answered - sent[0].sent
    return Alone(durations(sent), cpu, took > MOST_LATE * len(sent) / rate)


def _idle_floor(stage: Stage, pods: Sequence[BarePod], changes: int) -> list[float]:
    pipeline = floors.Pipeline(stage, pods)
    try:
        return one_at_a_time(stage, pods, changes)
    finally:
        pipeline.close()


def _parts(
    latencies: Sequence[float],
    before: Mapping[str, tuple[float, float]],
    after: Mapping[str, tuple[float, float]],
) -> list[Figure]:
    """The means of a change's parts, by the controller's own metrics; together they are the mean latency."""
    took = {
        part: (after[part][0] - seconds) / (after[part][1] - count)
        for part, (seconds, count) in before.items()
    }
    parts = {
        "until the status lists it": took["status"],
        "until the registry controller writes": took["propagation"] - took["status"] - took["write"],
        "the transaction": took["write"],
        "outside of the controller": sum(latencies) / len(latencies) - took["propagation"],
    }
    return [Figure(f"idle, mean of a part: {part}", seconds, "s") for part, seconds in parts.items()]


def _cpu(name: str, cost: Cost, changes: int, alone: Alone) -> list[Figure]:
    """The CPU of a change; the API server's includes the load's own patch, which is its floor."""
    used = {
        "controller": (cost.controller_cpu_seconds, None),
        "API server": (cost.apiserver_cpu_seconds, alone.cpu),
        "etcd": (cost.etcd_cpu_seconds, None),
        "ZooKeeper": (cost.zookeeper_cpu_seconds, None),
    }
    return [
        Figure(f"{name}: CPU of the {program} a change", seconds / changes, "s", floor)
        for program, (seconds, floor) in used.items()
    ]


def _figures(name: str, found: UnderLoad, alone: Alone) -> list[Figure]:
    """Latencies, whether a backlog grows, and how the controller slows the load's own requests."""
    first, last = thirds(found.latencies)
    floor = None if alone.saturates else alone.load
    return [
        *latency_figures(name, found.latencies, floor),
        Figure(
            f"{name}: p50 of the last third, beside the first",
            percentile(last, 50),
            "s",
            percentile(first, 50),
        ),
        Figure(
            f"{name}: the load's own p99, beside alone",
            percentile(found.load, 99),
            "s",
            percentile(floor, 99) if floor else None,
        ),
    ]
