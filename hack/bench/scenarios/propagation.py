"""Propagation: a pod's status is patched; until another client reads its address in ZooKeeper."""

from collections import deque
from collections.abc import Sequence

from hack.bench import floors
from hack.bench.figures import Figure, Outcome, Series, latency_figures, percentile, thirds
from hack.bench.http import Sent
from hack.bench.population import BarePod, address, by_service, expected, spread, turning_ready
from hack.bench.scenarios.cold import until_right
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage, until
from hack.bench.znodes import Spectator

FIRST_NEW_ADDRESS = 4_000_000  # none that a population has


def run(stage: Stage, sizes: Sizes) -> Outcome:
    """Idle, and under each rate: over many services, and over one."""
    population = sizes.population()
    many = [pod for pod in population if _number(pod.service) < sizes.services_changed]
    one = spread(sizes.large_service, 1, "one")
    stage.populate(one)
    changes = Changes()
    figures: list[Figure] = []
    series: list[Series] = []
    costs = {}
    alone = _alone(stage, many, sizes, changes)
    with stage.running():
        right = expected([*population, *one])
        right.update(expected([changes.as_changed(pod) for pod in [*population, *one]]))
        until_right(stage, right)
        until(lambda: stage.synced() == len(right), "Synced is not written", every=0.5)
    floor = _idle_floor(stage, many, sizes, changes)
    with stage.running():
        until(lambda: stage.answers("/readyz"), "the controller does not become ready")
        until_right(stage, expected([changes.as_changed(pod) for pod in [*population, *one]]))
        idle = floors.one_at_a_time(stage, many, changes.addresses(many, sizes.idle_changes))
        figures += latency_figures("idle", idle, floor)
        series.append(Series("idle", idle, (), floor))
        for rate, seconds in sizes.rates:
            for pods, where in ((many, f"{len(by_service(many))} services"), (one, "one service")):
                name = f"{rate:g}/s over {where}"
                before = stage.read()
                found = under_load(stage, pods, changes, rate, seconds)
                costs[name] = stage.cost_since(before)
                loads = [answer.answered - answer.sent for answer in found.load]
                figures += latency_figures(name, found.latencies, alone[rate])
                figures += _steadiness(name, found.latencies, loads, alone[rate])
                series.append(Series(name, found.latencies, loads, alone[rate]))
    return Outcome(
        "propagation",
        figures,
        costs=costs,
        series=series,
        notes=[
            "idle: the floor is a bare pipeline of one watch, one status PUT and one set",
            "under load: the floor is what the load's own patches take while nobody else works",
        ],
    )


class Changes:
    """Gives pods new addresses, each only once, and remembers the last one of each pod."""

    def __init__(self) -> None:
        self._next = FIRST_NEW_ADDRESS
        self._last: dict[str, str] = {}

    def addresses(self, pods: Sequence[BarePod], count: int) -> list[str]:
        """*count* new addresses, for *pods* in turn."""
        found = []
        for turn in range(count):
            found.append(address(self._next))
            self._last[pods[turn % len(pods)].name] = found[-1]
            self._next += 1
        return found

    def as_changed(self, pod: BarePod) -> BarePod:
        """The pod at the address that it has by now."""
        return BarePod(pod.name, pod.service, self._last.get(pod.name, pod.ip), pod.node, pod.labels)


class UnderLoad:
    """What came of a load: its own requests, and how long each change took to be seen."""

    def __init__(self, load: Sequence[Sent], latencies: Sequence[float]) -> None:
        self.load = load
        self.latencies = latencies


def under_load(
    stage: Stage, pods: Sequence[BarePod], changes: Changes, rate: float, seconds: float
) -> UnderLoad:
    """Change pods in turn, *rate* times a second, and wait until the last change was seen."""
    new = changes.addresses(pods, int(rate * seconds))
    asked = [turning_ready(pods[turn % len(pods)], ip) for turn, ip in enumerate(new)]
    observer = Observer(pods, new)
    spectator = Spectator(stage.cluster.zk_servers, by_service(pods), observer.seen)
    try:
        load = stage.api.paced(asked, rate)
        until(observer.done, "not every change is seen in ZooKeeper", every=0.01)
    finally:
        spectator.close()
    return UnderLoad(load, [at - sent.sent for at, sent in zip(observer.times(), load, strict=True)])


class Observer:
    """Notes when each change was seen.  One that a later change of its pod replaced is seen with that."""

    def __init__(self, pods: Sequence[BarePod], addresses: Sequence[str]) -> None:
        self._at: dict[int, float] = {}
        self._addresses = addresses
        self._turn_of = {ip: turn for turn, ip in enumerate(addresses)}
        # The changes of each pod that were not seen yet, for every pod's place in turn.
        self._unseen = [deque(range(place, len(addresses), len(pods))) for place in range(len(pods))]

    def seen(self, _: str, servers: list[str] | None, at: float) -> None:
        """A service's servers were read."""
        for turn in [self._turn_of[ip] for ip in servers or () if ip in self._turn_of]:
            unseen = self._unseen[turn % len(self._unseen)]
            while unseen and unseen[0] <= turn:
                self._at[unseen.popleft()] = at

    def done(self) -> bool:
        """Whether every change was seen."""
        return len(self._at) == len(self._addresses)

    def times(self) -> list[float]:
        """When each was seen, in their order."""
        return [self._at[turn] for turn in range(len(self._addresses))]


def _number(service: str | None) -> int:
    return int((service or "").rpartition("s")[2])


def _alone(stage: Stage, pods: Sequence[BarePod], sizes: Sizes, changes: Changes) -> dict[float, list[float]]:
    """What the load's patches take without a controller, by rate."""
    found = {}
    for rate, seconds in sizes.rates:
        new = changes.addresses(pods, int(rate * min(seconds, 20)))
        asked = [turning_ready(pods[turn % len(pods)], ip) for turn, ip in enumerate(new)]
        found[rate] = [answer.answered - answer.sent for answer in stage.api.paced(asked, rate)]
    return found


def _idle_floor(stage: Stage, pods: Sequence[BarePod], sizes: Sizes, changes: Changes) -> list[float]:
    pipeline = floors.Pipeline(stage, [changes.as_changed(pod) for pod in pods])
    try:
        return floors.one_at_a_time(stage, pods, changes.addresses(pods, sizes.idle_changes))
    finally:
        pipeline.close()


def _steadiness(
    name: str, latencies: Sequence[float], loads: Sequence[float], alone: Sequence[float]
) -> list[Figure]:
    """Whether a backlog grows, and what the controller does to the load's own requests."""
    first, last = thirds(latencies)
    return [
        Figure(
            f"{name}: p50 of the last third, beside the first",
            percentile(last, 50),
            "s",
            percentile(first, 50),
        ),
        Figure(
            f"{name}: the load's own p99, beside alone", percentile(loads, 99), "s", percentile(alone, 99)
        ),
    ]
