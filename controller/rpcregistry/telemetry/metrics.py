"""Metrics, in Prometheus' text format."""

from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The process's metrics, in a registry of their own; for any thread: the library locks each."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._reconciled = Counter(
            "rpcregistry_reconcile",
            "Keys reconciled, by what came of it.",
            ["controller", "result"],
            registry=registry,
        )
        self._reconcile_seconds = Histogram(
            "rpcregistry_reconcile_seconds",
            "How long reconciling took; registry: a batch of keys.",
            ["controller"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue_depth = Gauge(
            "rpcregistry_queue_depth", "Keys that wait to be reconciled.", ["controller"], registry=registry
        )
        self._propagation_seconds = Histogram(
            "rpcregistry_propagation_seconds",
            "From a pod's change being seen to its znode being written.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._registry_writes = Counter(
            "rpcregistry_registry_writes",
            "Znodes written in ZooKeeper.",
            ["layout", "op"],
            registry=registry,
        )
        self._watch_restarts = Counter(
            "rpcregistry_watch_restarts",
            "Watches of the API server begun again.",
            ["resource", "reason"],
            registry=registry,
        )
        self._services = Gauge(
            "rpcregistry_services", "Service names listed by RpcServices.", registry=registry
        )
        self._endpoints = Gauge(
            "rpcregistry_endpoints", "Endpoints listed by RpcServices.", registry=registry
        )
        self._held = Gauge(
            "rpcregistry_held", "Absences that withdraw nothing before they are confirmed.", registry=registry
        )
        self._source_unknown = Gauge(
            "rpcregistry_source_unknown",
            "1 while the API server refuses to be read: nothing of that resource is withdrawn.",
            ["resource"],
            registry=registry,
        )
        self._keys_refused = Gauge(
            "rpcregistry_keys_refused",
            "Keys of which a write was refused, or failed, when it was tried last.",
            ["controller"],
            registry=registry,
        )
        self._events_waiting = Gauge(
            "rpcregistry_events_waiting", "Events that are not posted yet.", registry=registry
        )
        self._events_dropped = Counter(
            "rpcregistry_events_dropped",
            "Events for which there was no room: their namespace had too many waiting.",
            registry=registry,
        )
        self._leader = Gauge("rpcregistry_leader", "1 while this process leads.", registry=registry)
        self._connected = Gauge(
            "rpcregistry_zookeeper_connected", "1 while ZooKeeper is connected.", registry=registry
        )
        self._connections = Counter(
            "rpcregistry_zookeeper_connections", "Connections made to ZooKeeper.", registry=registry
        )

    def reconciled(self, controller: str, result: str, seconds: float) -> None:
        """Count a key that a worker reconciled in *seconds*."""
        self._reconciled.labels(controller, result).inc()
        self._reconcile_seconds.labels(controller).observe(seconds)

    def propagated(self, seconds: float) -> None:
        """Observe that a pod's change is in ZooKeeper, *seconds* after we saw it."""
        self._propagation_seconds.observe(seconds)

    def registry_written(self, layout: str, op: str) -> None:
        """Count a write of a znode; *op*: create, set or delete."""
        self._registry_writes.labels(layout, op).inc()

    def watch_restarted(self, resource: str, reason: str) -> None:
        """Count a restart of the watch of *resource*."""
        self._watch_restarts.labels(resource, reason).inc()

    def event_dropped(self) -> None:
        """Count an Event for which there was no room."""
        self._events_dropped.inc()

    def leading(self, leads: bool) -> None:
        """Note whether this process leads."""
        self._leader.set(leads)

    def connected(self, connected: bool) -> None:
        """Note whether ZooKeeper is connected."""
        self._connected.set(connected)
        if connected:
            self._connections.inc()

    def measure(
        self,
        queues: Mapping[str, Callable[[], float]],
        services: Callable[[], float],
        endpoints: Callable[[], float],
        held: Callable[[], float],
        events: Callable[[], float],
        *,
        refused: Mapping[str, Callable[[], float]],
        unknown: Mapping[str, Callable[[], float]],
    ) -> None:
        """Set the functions that each scrape calls.

        *queues*: depths, and *refused*: refused keys, by controller; *unknown*: 1 or 0 by resource.
        *events*: how many wait.
        """
        for gauge, functions in (
            (self._queue_depth, queues),
            (self._keys_refused, refused),
            (self._source_unknown, unknown),
        ):
            for label, function in functions.items():
                gauge.labels(label).set_function(function)
        self._services.set_function(services)
        self._endpoints.set_function(endpoints)
        self._held.set_function(held)
        self._events_waiting.set_function(events)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
