"""The names of the metrics that the process exposes, and those that an expression of PromQL reads."""

import re

from rpcregistry.telemetry.metrics import GAUGES, Metrics

SUFFIXES = ("_bucket", "_count", "_sum")
WORDS = re.compile(r'"[^"]*"|\b((?:rpcregistry|process|python)_\w+)')


def exposed() -> set[str]:
    """All of them, ``up`` aside; of a histogram its series, too."""
    metrics = Metrics()
    metrics.measure(
        {name: (lambda: {"x": 1.0}) if label else lambda: 1.0 for name, (_, label) in GAUGES.items()}
    )
    lines = [line.split() for line in metrics.render().decode().splitlines() if line.startswith("# TYPE ")]
    histograms = {name for _, _, name, kind in lines if kind == "histogram"}
    return {name for _, _, name, _ in lines} | {f"{name}{end}" for name in histograms for end in SUFFIXES}


def used(expression: str) -> set[str]:
    """The names in an expression that have a prefix of ours or of the client library.

    >>> sorted(used('rate(rpcregistry_a_total{job="rpcregistry_x"}[5m]) / process_open_fds'))
    ['process_open_fds', 'rpcregistry_a_total']
    """
    return {name for name in WORDS.findall(expression) if name}
