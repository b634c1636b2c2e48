"""The metrics, in groups, with their texts as ``/metrics`` has them."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.metrics import MetricWrapperBase

from hack.reference.markdown import MADE, table
from rpcregistry.telemetry.metrics import GAUGES, Metrics

# What to look at first, and so on; each metric is in one group, without its "rpcregistry_".
GROUPS: Mapping[str, Sequence[str]] = {
    "What to look at first": (
        "leader", "zookeeper_connected", "oldest_waiting_seconds", "services_unsynced",
        "services_nobody_ready", "held", "source_unknown",
    ),
    "How fast": (
        "propagation_seconds", "status_seconds", "write_seconds", "changes_ended", "queue_depth",
        "reconcile", "reconcile_seconds", "keys_refused",
    ),
    "What there is, and its limits": (
        "services", "endpoints", "largest_service_endpoints", "localservices", "node_services",
        "invalid_pods", "largest_znode_bytes", "largest_znode_limit_bytes", "ledger_services",
        "memory_limit_bytes",
    ),
    "What it reads": (
        "source_filled", "source_objects", "source_heard_timestamp_seconds", "watch_restarts",
        "kube_requests", "kube_request_seconds",
    ),
    "What it writes, and what others do": (
        "registry_writes", "repairs", "drift", "compared_timestamp_seconds", "heartbeat_timestamp_seconds",
        "lease_renewed_timestamp_seconds", "zookeeper_request_seconds", "zookeeper_connections",
        "guard_held", "nodes_silent", "restored", "events_waiting", "events_dropped",
    ),
    "The process": ("build", "ui_requests"),
}  # fmt: skip
ENDINGS = {"counter": "_total", "info": "_info"}
PROCESS = """
`process_…` has memory, CPU and files (`process_open_fds`, `process_max_fds`), `python_info` the interpreter.
"""
TEXT = f"""\
# Metrics

{MADE}
`/metrics` on `--bind-address` (`:8080`) has them in Prometheus' text format. No label grows with services or
pods. Times end in `_timestamp_seconds` and are Unix times. A follower has the gauges of what it reads; those
of writing stand still there.

- A `reason` is one of [`Synced`'s](reasons-and-events.md).
- `result`: `done`, `conflict`, `retry`, `rejected`, `error` (a fault of the program).
- `ending`: `written`, `nothing` (nothing was to write), `refused`.
- `guard`: `pods`, `registry`, `nodes`. `kind`: `edited`, `deleted`. `op`: `create`, `set`, `delete`.
- `code`: the HTTP status, or `none` without an answer.
- `route`: a path of [the page](http.md#the-pages-json), or `none` for a request that was not let in.

[Runbooks](../runbooks.md) says which alert rests on which of them.
"""


def page() -> str:
    """The page; a metric that is in no group is an error."""
    described = dict(_described())
    parts = []
    for title, names in GROUPS.items():
        rows = [described.pop(f"rpcregistry_{name}") for name in names]
        parts.append(f"\n## {title}\n\n{table(['metric', 'labels', ''], rows)}")
    assert not described, f"in no group: {', '.join(described)}"
    return TEXT + "".join(parts) + PROCESS


def _described() -> Iterator[tuple[str, Sequence[str]]]:
    """The row of each metric, by its name without what its kind adds to it."""
    for name, (text, label) in GAUGES.items():
        yield name, [f"`{name}`", f"`{label}`" if label else "", text]
    for metric in vars(Metrics()).values():
        if isinstance(metric, MetricWrapperBase):
            (described,) = metric.describe()
            ending = ENDINGS.get(described.type, "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            yield described.name, [f"`{described.name}{ending}`", labels, described.documentation]
