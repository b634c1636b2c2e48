"""Measurements as values, and figures computed from them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """One measured quantity; *floor*: the same of a bare client that does the least work possible."""

    what: str
    value: float
    unit: str
    floor: float | None = None

    @property
    def ratio(self) -> float | None:
        """The value divided by its floor."""
        return self.value / self.floor if self.floor else None


class Cost(msgspec.Struct, frozen=True):
    """Resources that the controller used, and requests that it sent.

    *requests* are the API server's, by verb and resource: those of the load included.
    """

    seconds: float
    controller_cpu_seconds: float
    controller_peak_bytes: int
    apiserver_cpu_seconds: float
    apiserver_allocated_bytes: int
    etcd_cpu_seconds: float
    zookeeper_cpu_seconds: float
    requests: Mapping[str, int]
    response_bytes: int
    watch_bytes: int
    transactions: int
    znode_writes: int
    zookeeper_packets: int


class Series(msgspec.Struct, frozen=True):
    """Latencies in seconds, in the order of their changes; *alone*: the load's own, without controller."""

    name: str
    latencies: Sequence[float]
    load: Sequence[float]
    alone: Sequence[float] = ()


class Outcome(msgspec.Struct, frozen=True):
    """The figures of a scenario."""

    scenario: str
    figures: Sequence[Figure]
    costs: Mapping[str, Cost] = {}
    series: Sequence[Series] = ()
    notes: Sequence[str] = ()


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that *percent* of all do not exceed (nearest rank).

    >>> percentile([3.0, 1.0, 2.0, 4.0], 50), percentile([3.0, 1.0, 2.0, 4.0], 99)
    (2.0, 4.0)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def thirds(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """The first third and the last.

    >>> thirds([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    ([1.0, 2.0], [6.0, 7.0])
    """
    size = max(1, len(values) // 3)
    return values[:size], values[-size:]


def difference(after: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """Subtract the counts of an earlier reading.

    >>> difference({"a": 3, "b": 1, "c": 2}, {"a": 1, "b": 1})
    {'a': 2, 'c': 2}
    """
    grown = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in grown.items() if count}


def quantity(value: float, unit: str) -> str:
    """Format a value for people.

    >>> quantity(0.0123, "s"), quantity(83.25, "s"), quantity(83e6, "bytes"), quantity(12, "")
    ('12.3 ms', '83.2 s', '83.0 MB', '12')
    """
    match unit:
        case "s" if value < 1:
            return f"{value * 1000:.1f} ms"
        case "bytes":
            return f"{value / 1e6:.1f} MB"
        case "":
            return f"{value:g}"
    return f"{value:.1f} {unit}"


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """The table: scenario, what, the controller's figure, the floor, the ratio.

    >>> rows([Outcome("cold", [Figure("znodes right", 6.0, "s", 5.0)])])
    [('cold', 'znodes right', '6.0 s', '5.0 s', '1.20')]
    """
    return [
        (
            outcome.scenario,
            figure.what,
            quantity(figure.value, figure.unit),
            "" if figure.floor is None else quantity(figure.floor, figure.unit),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
        )
        for outcome in outcomes
        for figure in outcome.figures
    ]


def cost_rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """The table of costs: scenario, part, and the controller's memory and CPU, requests, bytes, ZooKeeper."""
    return [
        (
            outcome.scenario,
            part,
            quantity(cost.controller_peak_bytes, "bytes"),
            quantity(cost.controller_cpu_seconds, "s"),
            quantity(cost.apiserver_cpu_seconds, "s"),
            quantity(cost.apiserver_allocated_bytes, "bytes"),
            quantity(cost.etcd_cpu_seconds, "s"),
            quantity(cost.zookeeper_cpu_seconds, "s"),
            str(written(cost.requests, "rpcservices")),
            str(sum(cost.requests.values())),
            quantity(cost.response_bytes + cost.watch_bytes, "bytes"),
            str(cost.znode_writes),
            str(cost.transactions),
        )
        for outcome in outcomes
        for part, cost in outcome.costs.items()
    ]


def written(requests: Mapping[str, int], resource: str) -> int:
    """How many requests wrote a resource or its status.

    >>> written({"POST rpcservices": 2, "PATCH rpcservices/status": 3, "LIST rpcservices": 1}, "rpcservices")
    5
    """
    return sum(
        count
        for name, count in requests.items()
        if name.split()[1].split("/")[0] == resource and name.split()[0] in ("POST", "PUT", "PATCH", "DELETE")
    )


def latency_figures(name: str, latencies: Sequence[float], floor: Sequence[float] | None) -> list[Figure]:
    """p50 and p99 beside those of a floor."""
    return [
        Figure(f"{name}, p{p}", percentile(latencies, p), "s", percentile(floor, p) if floor else None)
        for p in (50, 99)
    ]


def as_json(outcomes: Sequence[Outcome], about: Mapping[str, Any]) -> bytes:
    """All measurements as indented JSON; each figure with its ratio."""
    found = {
        outcome.scenario: {
            **msgspec.to_builtins(outcome),
            "figures": [{**msgspec.to_builtins(figure), "ratio": figure.ratio} for figure in outcome.figures],
        }
        for outcome in outcomes
    }
    return msgspec.json.format(msgspec.json.encode({"about": about, "scenarios": found}), indent=1)
