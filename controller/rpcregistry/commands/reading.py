"""What commands read of a cluster and its registry, each with the reason if it cannot be read."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from rpcregistry.errors import Absent, Failure
from rpcregistry.kube.client import Kube
from rpcregistry.leases import LEASE
from rpcregistry.manifests import EVENTS, LEASES, Named, Resource, annotations_of, read_lease
from rpcregistry.model import HELD, MANAGED_BY, Lease
from rpcregistry.plan import heartbeat
from rpcregistry.plan.explain import Warned
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.held import named
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


class FoundLease(msgspec.Struct, frozen=True):
    """The Lease, and the services that it shows as held."""

    lease: Lease
    held: tuple[str, ...]


def lease_of(kube: Kube, namespace: str) -> FoundLease | None:
    """The Lease in *namespace*; None if there is none."""
    try:
        manifest = kube.raw("GET", LEASES.path(namespace, LEASE))
    except Absent:
        return None
    names, _ = named(annotations_of(manifest).get(HELD, ""))
    return FoundLease(read_lease(manifest), tuple(sorted(names)))


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
