"""Metrics, in Prometheus' text format: docs/reference/metrics.md lists them.

No label grows with services or pods.
"""

import platform
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

# They would double the output.
disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

# What is read at each scrape: the text, and the label if there are several.
GAUGES: Mapping[str, tuple[str, str]] = {
    "rpcregistry_queue_depth": ("Keys that wait to be reconciled.", "controller"),
    "rpcregistry_keys_refused": (
        "Keys of which a write was refused, or failed, when it was tried last.",
        "controller",
    ),
    "rpcregistry_services": ("Service names that RpcServices list.", ""),
    "rpcregistry_services_unsynced": ("RpcServices whose Synced condition is not True.", "reason"),
    "rpcregistry_services_nobody_ready": ("Service names that have endpoints, none of them Ready.", ""),
    "rpcregistry_endpoints": ("Endpoints that RpcServices list.", ""),
    "rpcregistry_largest_service_endpoints": ("Endpoints of the largest service.", ""),
    "rpcregistry_localservices": ("LocalServices.", ""),
    "rpcregistry_node_services": ("Services that LocalServices control, one a node.", ""),
    "rpcregistry_invalid_pods": ("Pods with a mistake in their annotations.", ""),
    "rpcregistry_held": ("Absences that withdraw nothing before they are confirmed.", ""),
    "rpcregistry_guard_held": (
        "The same for each guard: of listed pods (pods), of RpcServices (registry), of what node Services "
        "depend on (nodes).",
        "guard",
    ),
    "rpcregistry_nodes_silent": (
        "Nodes that are not Ready, while they are so many that their pods are held without time limit.",
        "",
    ),
    "rpcregistry_restored": (
        "1 while the API server counts as restored to an older state: what it lacks is not withdrawn.",
        "",
    ),
    "rpcregistry_oldest_waiting_seconds": (
        "For how long the oldest change has waited that is not in ZooKeeper yet; it shows what is stuck.",
        "",
    ),
    "rpcregistry_compared_timestamp_seconds": (
        "When the last part of all znodes was compared with what is published.",
        "",
    ),
    "rpcregistry_heartbeat_timestamp_seconds": ("When this process wrote the heartbeat last.", ""),
    "rpcregistry_drift": (
        "Znodes that others changed, and that were not repaired yet when ZooKeeper was compared last.",
        "layout",
    ),
    "rpcregistry_largest_znode_bytes": ("Size of the largest znode.", ""),
    "rpcregistry_largest_znode_limit_bytes": ("--max-znode-bytes: no larger znode is published.", ""),
    "rpcregistry_ledger_services": (
        "Services in the ledger, withdrawn ones of the grace period included.",
        "",
    ),
    "rpcregistry_lease_renewed_timestamp_seconds": ("When this process renewed the Lease last.", ""),
    "rpcregistry_source_filled": ("1 once all objects of the resource were listed.", "resource"),
    "rpcregistry_source_objects": ("Objects of the resource in memory.", "resource"),
    "rpcregistry_source_heard_timestamp_seconds": (
        "When the API server was last heard; it sends something about once a minute.",
        "resource",
    ),
    "rpcregistry_source_unknown": (
        "1 while the API server refuses to be read: nothing of that resource is withdrawn.",
        "resource",
    ),
    "rpcregistry_events_waiting": ("Events that are not posted yet.", ""),
    "rpcregistry_memory_limit_bytes": ("The most memory that the container may use; +Inf: any.", ""),
}

Reading = Callable[[], float | Mapping[str, float]]  # by label, if the gauge has one


class Metrics:
    """The process's metrics, in a registry of their own; for any thread: the library locks each."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._build = Info(
            "rpcregistry_build", "The versions of the program and of Python.", registry=registry
        )
        self._build.info({"version": version("rpcregistry"), "python": platform.python_version()})
        self._readings: Mapping[str, Reading] = {}  # replaced as a whole
        registry.register(_Readings(lambda: self._readings))

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def seconds(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=_SECONDS, registry=registry)

        self._reconciled = counter(
            "rpcregistry_reconcile", "Keys reconciled, by what came of it.", "controller", "result"
        )
        self._reconcile_seconds = seconds(
            "rpcregistry_reconcile_seconds",
            "How long reconciling took; registry: a batch of keys.",
            "controller",
        )
        self._propagation_seconds = seconds(
            "rpcregistry_propagation_seconds",
            "From a pod's change being seen to its last znode written; one that ends otherwise is left out.",
            "layout",
        )
        self._status_seconds = seconds(
            "rpcregistry_status_seconds", "The part of it until a status listed the change."
        )
        self._write_seconds = seconds(
            "rpcregistry_write_seconds",
            "The part of it from when its write began; what is left is waiting.",
            "layout",
        )
        self._ended = counter(
            "rpcregistry_changes_ended", "Pods' changes that reached their end, by which.", "ending"
        )
        self._registry_writes = counter(
            "rpcregistry_registry_writes", "Znodes written in ZooKeeper.", "layout", "op"
        )
        self._repairs = counter(
            "rpcregistry_repairs", "Znodes repaired that others had changed.", "layout", "kind"
        )
        self._watch_restarts = counter(
            "rpcregistry_watch_restarts", "Watches of the API server begun again.", "resource", "reason"
        )
        self._events_dropped = counter(
            "rpcregistry_events_dropped", "Events that were refused, or for which there was no room."
        )
        self._kube_requests = counter(
            "rpcregistry_kube_requests", "Requests to the API server.", "verb", "code"
        )
        self._kube_seconds = seconds(
            "rpcregistry_kube_request_seconds", "Until the API server's answer began.", "verb"
        )
        self._page_requests = counter(
            "rpcregistry_ui_requests", "Requests to the page, by the path's template.", "route", "code"
        )
        self._zookeeper_seconds = seconds(
            "rpcregistry_zookeeper_request_seconds", "Until ZooKeeper's answer.", "op"
        )
        self._leader = Gauge(
            "rpcregistry_leader",
            "1 while this process leads; 0 while it only withdraws, since the Lease cannot be renewed.",
            registry=registry,
        )
        self._connected = Gauge(
            "rpcregistry_zookeeper_connected", "1 while ZooKeeper is connected.", registry=registry
        )
        self._connections = counter("rpcregistry_zookeeper_connections", "Connections made to ZooKeeper.")

    def reconciled(self, controller: str, result: str, seconds: float) -> None:
        """Count a key that a worker reconciled in *seconds*."""
        self._reconciled.labels(controller, result).inc()
        self._reconcile_seconds.labels(controller).observe(seconds)

    def change_ended(self, ending: str) -> None:
        """Count a pod's change that ended."""
        self._ended.labels(ending).inc()

    def propagated(self, layout: str, *, seconds: float, status: float, write: float) -> None:
        """Observe that a pod's change is in ZooKeeper, *seconds* after we saw it, and two parts of them."""
        self._propagation_seconds.labels(layout).observe(seconds)
        self._status_seconds.observe(status)
        self._write_seconds.labels(layout).observe(write)

    def registry_written(self, layout: str, op: str) -> None:
        """Count a write of a znode; *op*: create, set or delete."""
        self._registry_writes.labels(layout, op).inc()

    def repaired(self, layout: str, kind: str) -> None:
        """Count a repair of a znode; *kind*: what others had done to it."""
        self._repairs.labels(layout, kind).inc()

    def watch_restarted(self, resource: str, reason: str) -> None:
        """Count a restart of the watch of *resource*."""
        self._watch_restarts.labels(resource, reason).inc()

    def event_dropped(self) -> None:
        """Count an Event that is not posted."""
        self._events_dropped.inc()

    def kube_answered(self, verb: str, code: str, seconds: float) -> None:
        """Count a request to the API server; *code*: the HTTP status, or ``none`` without an answer."""
        self._kube_requests.labels(verb, code).inc()
        self._kube_seconds.labels(verb).observe(seconds)

    def page_answered(self, route: str, code: int) -> None:
        """Count an answer of the page; *route*: a path's template, or ``none`` before it was looked at."""
        self._page_requests.labels(route, code).inc()

    def zookeeper_answered(self, op: str, seconds: float) -> None:
        """Observe a call of ZooKeeper, which may be several requests."""
        self._zookeeper_seconds.labels(op).observe(seconds)

    def leading(self, leads: bool) -> None:
        """Note whether this process leads."""
        self._leader.set(leads)

    def connected(self, connected: bool) -> None:
        """Note whether ZooKeeper is connected."""
        self._connected.set(connected)
        if connected:
            self._connections.inc()

    def measure(self, readings: Mapping[str, Reading]) -> None:
        """Set the functions that each scrape calls, by the names of ``GAUGES``."""
        self._readings = readings

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Readings(Collector):
    """The gauges that are read at each scrape."""

    def __init__(self, readings: Callable[[], Mapping[str, Reading]]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, read in self._readings().items():
            text, label = GAUGES[name]
            family = GaugeMetricFamily(name, text, labels=[label] if label else [])
            value = read()
            found = value if isinstance(value, Mapping) else {"": value}
            for key, number in found.items():
                family.add_metric([key] if label else [], number)
            yield family
