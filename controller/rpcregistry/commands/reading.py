"""What commands read of a cluster and its registry, each with the reason if it cannot be read."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from rpcregistry.errors import Absent, Failure
from rpcregistry.kube.client import Kube
from rpcregistry.leases import CLUSTER_ID, LEASE, ZOOKEEPER
from rpcregistry.manifests import (
    EVENTS,
    LEASES,
    RPCSERVICES,
    Named,
    Resource,
    annotations_of,
    read_lease,
    regarding_lease,
)
from rpcregistry.model import HELD, MANAGED_BY, Lease, Regarding, RpcService
from rpcregistry.plan import heartbeat
from rpcregistry.plan.explain import Warned
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.held import named
from rpcregistry.plan.overview import closest, of_name
from rpcregistry.reconcile import ports

T = TypeVar("T", bound=Named)
V = TypeVar("V")


def attempt(read: Callable[[], V]) -> V | str:
    """What *read* returns, or in one line why it failed."""
    try:
        return read()
    except Failure as failure:
        return " ".join(str(failure).split())


def listed(kube: Kube, resource: Resource[T], namespaces: Sequence[str], selector: str = "") -> list[T]:
    """All objects of *namespaces* (of all, if there are none); a ``Failure`` if one may not be read."""
    found: list[T] = []
    for namespace in namespaces or ("",):
        found += kube.list(resource, namespace, selector).items
    return found


def services_named(
    kube: Kube, namespaces: Sequence[str], names: Collection[str]
) -> tuple[list[RpcService], list[str]]:
    """All RpcServices of *namespaces*, and which of *names* are none of theirs, as standard error then says.

    A ``Failure`` if they may not be read.
    """
    services = listed(kube, RPCSERVICES, namespaces)
    unknown = [name for name in names if not of_name(services, name)]
    for name in unknown:
        near = closest(name, (service.service_name for service in services))
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        sys.stderr.write(f"rpcregistry: no service is called {name}{meant}\n")
    return services, unknown


class Raw(Protocol):
    """Reads the API server: see ``Kube``."""

    def raw(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any: ...


class FoundLease(msgspec.Struct, frozen=True):
    """A Lease of controllers, with what they write on it; *regarding*: as an Event names it."""

    regarding: Regarding
    lease: Lease
    annotations: Mapping[str, str]

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "FoundLease":
        """The Lease in *manifest*."""
        return cls(regarding_lease(manifest), read_lease(manifest), annotations_of(manifest))

    @property
    def name(self) -> str:
        """``NAMESPACE/NAME``."""
        return f"{self.regarding.namespace}/{self.regarding.name}"

    @property
    def held(self) -> tuple[frozenset[str], int]:
        """The services that it names as held, and how many more there are."""
        return named(self.annotations.get(HELD, ""))

    @property
    def cluster_id(self) -> str:
        """The cluster whose registry its holder keeps up; ``""`` if it does not say."""
        return self.annotations.get(CLUSTER_ID, "")

    @property
    def zookeeper(self) -> str:
        """The ZooKeeper servers that its holder writes to; ``""`` if it does not say."""
        return self.annotations.get(ZOOKEEPER, "")

    def is_of(self, cluster_id: str, zookeeper: str) -> bool:
        """Whether a controller of this registry may hold it: it names no other registry."""
        return self.cluster_id in ("", cluster_id) and self.zookeeper in ("", zookeeper)


def lease_of(kube: Raw, namespace: str, name: str = LEASE) -> FoundLease | None:
    """The Lease *name* in *namespace*; None if there is none."""
    try:
        return FoundLease.of(kube.raw("GET", LEASES.path(namespace, name)))
    except Absent:
        return None


def beat_of(zookeeper: ports.ZooKeeper, cluster_id: str) -> Heartbeat | None:
    """The heartbeat of a cluster; None if there is none."""
    path = heartbeat.path(cluster_id)
    znode = zookeeper.read([path])[path]
    return heartbeat.decode(znode.data) if znode else None


def events(kube: Kube, namespace: str, kind: str, *, warnings: bool = True) -> list[Warned]:
    """Our Events about objects of a *kind* in *namespace* (``""``: all), the newest first."""
    fields = f"reportingController={MANAGED_BY[1]},regarding.kind={kind}"
    query = {"fieldSelector": fields + (",type=Warning" if warnings else "")}
    found = msgspec.json.decode(kube.read("list events", EVENTS.path(namespace), query))
    items: list[dict[str, Any]] = sorted(
        found["items"], key=lambda item: item.get("eventTime") or "", reverse=True
    )
    return [
        Warned(item["regarding"]["name"], item.get("reason") or "", item.get("note") or "") for item in items
    ]
