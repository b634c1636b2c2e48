"""What each scrape of the metrics reads of a process."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rpcregistry.manifests import LOCALSERVICES, SERVICES
from rpcregistry.model import KubeService, RpcService
from rpcregistry.reconcile.nodeservices import controlled
from rpcregistry.run.part import Part
from rpcregistry.run.shared import Shared
from rpcregistry.run.sources import Source
from rpcregistry.telemetry.cgroup import memory_limit
from rpcregistry.telemetry.metrics import Reading


def readings(shared: Shared, parts: Sequence[Part], sources: Sequence[Source[Any]]) -> Mapping[str, Reading]:
    """The functions behind the gauges, by name; those of ``GAUGES`` that this process has."""
    services = shared.services.store.values
    found: dict[str, Reading] = {
        "rpcregistry_queue_depth": lambda: {part.name: part.depth for part in parts},
        "rpcregistry_keys_refused": lambda: {part.name: part.failing for part in parts},
        "rpcregistry_held": lambda: sum(part.held for part in parts),
        "rpcregistry_guard_held": lambda: {
            name: len(guard.held) for part in parts for name, guard in part.guards.items()
        },
        "rpcregistry_nodes_silent": lambda: max((part.silent_nodes() for part in parts), default=0),
        "rpcregistry_restored": lambda: float(bool(shared.memory.restored)),
        "rpcregistry_services": lambda: len(by_name(services())),
        "rpcregistry_services_unsynced": lambda: unsynced(services()),
        "rpcregistry_services_nobody_ready": lambda: nobody_ready(services()),
        "rpcregistry_largest_service_endpoints": lambda: max(
            map(_size, by_name(services()).values()), default=0
        ),
        "rpcregistry_endpoints": lambda: _size(services()),
        "rpcregistry_oldest_waiting_seconds": lambda: oldest.seconds if (oldest := shared.oldest()) else 0.0,
        "rpcregistry_invalid_pods": lambda: sum(bool(pod.problems) for pod in shared.pods.store.values()),
        "rpcregistry_events_waiting": lambda: shared.events.waiting,
        "rpcregistry_source_filled": lambda: {source.name: float(source.filled) for source in sources},
        "rpcregistry_source_unknown": lambda: {
            source.name: float(source.unknown is not None) for source in sources
        },
        "rpcregistry_source_objects": lambda: {source.name: len(source.store) for source in sources},
        "rpcregistry_source_heard_timestamp_seconds": lambda: {
            source.name: _timestamp(source.heard) for source in sources if source.heard is not None
        },
        "rpcregistry_memory_limit_bytes": memory_limit,
        "rpcregistry_largest_znode_limit_bytes": lambda: shared.settings.target.max_znode_bytes,
    }
    by_kind = {source.name: source for source in sources}
    if LOCALSERVICES.plural in by_kind:
        found["rpcregistry_localservices"] = lambda: len(by_kind[LOCALSERVICES.plural].store)
        found["rpcregistry_node_services"] = lambda: _node_services(by_kind[SERVICES.plural])
    renewed = shared.leadership.renewed
    found["rpcregistry_lease_renewed_timestamp_seconds"] = lambda: _timestamp(renewed())
    for part in parts:
        found |= part.readings
    return found


def _timestamp(monotonic: float | None) -> float:
    """The Unix time of a time of our clock; 0 if it never was."""
    return 0.0 if monotonic is None else time.time() - (time.monotonic() - monotonic)


def timestamps(at: Callable[[], float | None]) -> Reading:
    """A reading of when something happened, as Unix time."""
    return lambda: _timestamp(at())


def by_name(services: Sequence[RpcService]) -> Mapping[str, Sequence[RpcService]]:
    """The RpcServices of each service name."""
    found: dict[str, list[RpcService]] = {}
    for service in services:
        found.setdefault(service.service_name, []).append(service)
    return found


def unsynced(services: Sequence[RpcService]) -> Mapping[str, float]:
    """How many RpcServices are not in sync, by reason."""
    conditions = (service.status.condition("Synced") for service in services)
    return Counter(found.reason for found in conditions if found and found.status != "True")


def nobody_ready(services: Sequence[RpcService]) -> int:
    """How many services have endpoints, and none Ready."""
    rows = ([row for one in found for row in one.status.endpoints] for found in by_name(services).values())
    return sum(bool(found) and not any(row.ready for row in found) for found in rows)


def _size(services: Sequence[RpcService]) -> int:
    return sum(len(service.status.endpoints) for service in services)


def _node_services(services: Source[KubeService]) -> int:
    return sum(bool(controlled(service)) for service in services.store.values())
