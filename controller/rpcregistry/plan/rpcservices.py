"""The desired RpcServices of one service name in one namespace, and the endpoints that they list.

The *owner* of the name lists annotated pods: the oldest declared RpcService, else a generated one.  A
declared RpcService with a selector also lists the pods that it selects.  If the endpoints do not fit into one
object, its *parts* list the rest.

Which rows a head is to list, ``plan.rows`` decides.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import count, groupby

import msgspec

from rpcregistry.layouts import Layout
from rpcregistry.model import Condition, Endpoint, RpcService, RpcServiceStatus, ServiceKey
from rpcregistry.names import object_name, part_name
from rpcregistry.plan.conditions import with_condition
from rpcregistry.plan.pods import names_service
from rpcregistry.plan.publication import Place, place, places
from rpcregistry.plan.rows import Absences, ObservedRpcServices, desired_rows, owner_of

ROWS_BYTES = 1024 * 1024  # of one object, as JSON; etcd takes 1.5 MiB, metadata and conditions included

# In place of ``ready``: equal to no status that we write, so that the object is written in any case.
BY_OTHERS = "by others"


class Create(msgspec.Struct, frozen=True):
    """Create a generated RpcService (a part of *head*, if given) and write its status.

    *partial*: more endpoints are to be listed in its parts, which follow once it exists.  *rest*: those of
    them that no other object lists.
    """

    namespace: str
    name: str
    service_name: str
    status: RpcServiceStatus
    head: RpcService | None = None
    partial: bool = False
    rest: tuple[Endpoint, ...] = ()


class SetStatus(msgspec.Struct, frozen=True):
    """Replace the status of an RpcService."""

    service: RpcService
    status: RpcServiceStatus


class Delete(msgspec.Struct, frozen=True):
    """Delete a generated RpcService, after an earlier operation has emptied its status."""

    service: RpcService


Op = Create | SetStatus | Delete


class ProjectionSettings(msgspec.Struct, frozen=True):
    """*endpoints_per_object*: the most rows in one RpcService; *layouts*: how services are written.

    *labels*: those of generated objects, besides ours.
    """

    endpoints_per_object: int = 100
    layouts: tuple[Layout, ...] = ()
    labels: Mapping[str, str] = {}

    def registry_paths(self, service_name: str) -> str:
        """The paths where clients look for the service in ZooKeeper, comma-separated."""
        return ",".join(layout.shown(service_name) for layout in self.layouts)


def plan(
    key: ServiceKey, observed: ObservedRpcServices, absences: Absences, settings: ProjectionSettings, now: str
) -> list[Op]:
    """Return the operations that make the RpcServices of *key* right, in the order to apply them.

    Additions come before removals, so that a pod that moves between objects is listed all the time, wherever
    the operations are cut off.  If objects exchange pods, no order is enough: ``Writes`` then keeps a row
    until another object lists it.
    """
    # 1. Find the owner: the oldest declared RpcService, else the oldest generated one.  If a spec cannot be
    #    decoded, change nothing: we do not know what it asks for.
    if observed.is_unreadable:
        return []
    services = sorted(observed.services, key=lambda service: service.age)
    declared = [service for service in services if not service.generated]
    owner = owner_of(services)
    # 2. Compute the desired rows of each head, including those whose absence is not confirmed.
    rows = desired_rows(key, services, owner, observed, absences)
    named = any(names_service(pod, key.service_name) for pod in observed.pods.values())
    # 3. Without an owner, create the head, and have the parts of a former one list the rest.  Its own parts
    #    need its uid, so they follow in the next plan.
    if owner is None:
        left = [service for service in services if service.generated]
        ops: list[Op] = []
        if named or rows:
            ops = [*_begin(key, rows.get("", []), left, observed, settings, now)]
        elif not absences.unknown:
            ops = [op for part in left for op in _remove(part, settings, now)]
        return _in_order(ops, observed)
    # 4. Choose the heads to keep.  A generated one goes with the last pod that names the service, but not
    #    while the pods are unknown.
    heads = declared or [owner]
    if owner.generated and not named and not rows and not absences.unknown:
        heads = []
    # 5. Distribute the rows over each head and its parts.
    ops = []
    for head in heads:
        parts = [service for service in services if service.is_part and service.owner_uid == head.uid]
        unplaced = observed.unplaced if head is owner else 0
        ops += _spread(head, parts, rows.get(head.name, []), observed.taken, settings, now, unplaced)
    # 6. Empty and delete all other generated RpcServices: those that a declared one replaces, those without
    #    pods, and parts whose head was deleted.
    kept = {head.uid for head in heads}
    for service in services:
        if (
            service.generated
            and service.uid not in kept
            and not (service.is_part and service.owner_uid in kept)
        ):
            ops += _remove(service, settings, now)
    return _in_order(ops, observed)


def _in_order(ops: Sequence[Op], observed: ObservedRpcServices) -> list[Op]:
    """*ops*, ordered over all objects: a row may move from any of them to any other.

    A row that others wrote into an object is not listed there before we have written that object ourselves.
    """
    changed = {op.service.uid for op in ops if isinstance(op, SetStatus)}.intersection(observed.remembered)
    return sorted(
        (
            _by_our_word(op, observed) if not isinstance(op, Create) and op.service.uid in changed else op
            for op in ops
        ),
        key=_additions_first,
    )


def _by_our_word(op: SetStatus | Delete, observed: ObservedRpcServices) -> Op:
    """*op*, of the object as we wrote it last."""
    rows = tuple(observed.rows_of(op.service))
    status = msgspec.structs.replace(op.service.status, endpoints=rows, ready=BY_OTHERS)
    return msgspec.structs.replace(op, service=msgspec.structs.replace(op.service, status=status))


def _begin(
    key: ServiceKey,
    rows: list[Endpoint],
    left: Sequence[RpcService],
    observed: ObservedRpcServices,
    settings: ProjectionSettings,
    now: str,
) -> Iterable[Op]:
    """Create a head, and have the parts *left* by a former one list only those of *rows* that do not fit."""
    first = _Page(settings)
    rest: dict[Place, Endpoint] = {}
    for pod_rows in _by_pod(rows):
        if not first.take(pod_rows):
            rest.update((place(row), row) for row in pod_rows)
    partial = bool(rest)
    for part in left:
        staying = [rest.pop(place(row)) for row in observed.rows_of(part) if place(row) in rest]
        yield from _set_status(part, staying, settings, now) if staying else _remove(part, settings, now)
    name = object_name(key.service_name, observed.taken)
    status = status_of(_blank(key.namespace, name), key.service_name, first.rows, settings, now)
    yield Create(key.namespace, name, key.service_name, status, partial=partial, rest=tuple(rest.values()))


def _blank(namespace: str, name: str) -> RpcService:
    """A generated RpcService that is to be created."""
    return RpcService(namespace=namespace, name=name, uid="", resource_version="", generated=True)


def _spread(
    head: RpcService,
    parts: Sequence[RpcService],
    rows: Iterable[Endpoint],
    taken: Container[str],
    settings: ProjectionSettings,
    now: str,
    unplaced: int,
) -> Iterable[Op]:
    """Distribute *rows* over *head* and its *parts*: a listed pod stays where it is, if it fits."""
    where = {row.pod_uid: service.name for service in (head, *parts) for row in service.status.endpoints}
    pages = {service.name: _Page(settings) for service in (head, *parts)}
    numbers = (n for n in count(1) if part_name(head.name, head.uid, n) not in taken)
    homeless = []
    for pod_rows in _by_pod(rows):
        page = pages.get(where.get(pod_rows[0].pod_uid, ""))
        if page is None or not page.take(pod_rows, stays=True):
            homeless.append(pod_rows)
    for pod_rows in homeless:
        if not any(page.take(pod_rows) for page in pages.values()):
            page = pages[part_name(head.name, head.uid, next(numbers))] = _Page(settings)
            page.take(pod_rows)
    existing = {service.name: service for service in (head, *parts)}
    for name, page in pages.items():
        service = existing.get(name)
        if service is None:
            status = status_of(_blank(head.namespace, name), head.service_name, page.rows, settings, now)
            yield Create(head.namespace, name, head.service_name, status, head)
        elif not page.rows and service is not head:
            yield from _remove(service, settings, now)
        else:
            yield from _set_status(service, page.rows, settings, now, unplaced if service is head else 0)


class _Page:
    """The desired rows of one object, within its limits; a single pod always fits."""

    def __init__(self, settings: ProjectionSettings) -> None:
        self._limit = settings.endpoints_per_object
        self._bytes = 0
        self.rows: list[Endpoint] = []

    def take(self, rows: Sequence[Endpoint], *, stays: bool = False) -> bool:
        """Add a pod's rows if they fit; if it *stays*, only their size counts, not their number."""
        size = sum(map(_size, rows))
        crowded = not stays and len(self.rows) + len(rows) > self._limit
        if self.rows and (crowded or self._bytes + size > ROWS_BYTES):
            return False
        self.rows += rows
        self._bytes += size
        return True


def _size(row: Endpoint) -> int:
    """The bytes of a row in the API server: Go's JSON escapes the special characters of HTML."""
    text = msgspec.json.encode(row)
    return len(text) + 5 * sum(map(text.count, (b"<", b">", b"&")))


def _by_pod(rows: Iterable[Endpoint]) -> Iterable[list[Endpoint]]:
    ordered = sorted(rows, key=lambda row: (row.pod_name, row.pod_uid, *_row_order(row)))
    return [list(pod_rows) for _, pod_rows in groupby(ordered, key=lambda row: row.pod_uid)]


def _remove(service: RpcService, settings: ProjectionSettings, now: str) -> Iterable[Op]:
    """Empty the status, then delete: the deletion of an RpcService with rows withdraws nothing."""
    if service.status.endpoints:
        yield from _set_status(service, [], settings, now)
    if not service.deleting:
        yield Delete(service)


def _set_status(
    service: RpcService, rows: Iterable[Endpoint], settings: ProjectionSettings, now: str, unplaced: int = 0
) -> Iterable[SetStatus]:
    status = status_of(service, service.service_name, rows, settings, now, unplaced)
    # An older version wrote no origin, and an older CRD keeps none: that alone is no reason to write.
    shown = status if service.status.origin else msgspec.structs.replace(status, origin="")
    if shown != service.status or service.damaged:
        yield SetStatus(service, status)


def status_of(
    service: RpcService,
    service_name: str,
    rows: Iterable[Endpoint],
    settings: ProjectionSettings,
    now: str,
    unplaced: int = 0,
) -> RpcServiceStatus:
    """The status of *service* with *rows*; its totals also count *unplaced* endpoints."""
    endpoints = tuple(sorted(rows, key=_row_order))
    ready = sum(endpoint.ready for endpoint in endpoints)
    status = RpcServiceStatus(
        observed_generation=service.generation,
        service_name=service_name,
        origin="generated" if service.generated else "declared",
        ready_endpoints=ready,
        registry_paths=settings.registry_paths(service_name),
        endpoints=endpoints,
        conditions=with_condition(service, _availability(ready, len(endpoints)), now),
    )
    return with_unplaced(status, unplaced)


def with_unplaced(status: RpcServiceStatus, unplaced: int) -> RpcServiceStatus:
    """*status* with so many endpoints in its totals that no object lists."""
    total = len(status.endpoints) + unplaced
    return msgspec.structs.replace(status, ready=f"{status.ready_endpoints}/{total}", total_endpoints=total)


def _availability(ready: int, total: int) -> Condition:
    if ready:
        return Condition(type="EndpointsAvailable", status="True", reason="EndpointsReady")
    if total:
        return Condition(
            type="EndpointsAvailable",
            status="False",
            reason="NoReadyEndpoints",
            message="none of the pods that serve this is Ready",
        )
    return Condition(
        type="EndpointsAvailable", status="False", reason="NoEndpoints", message="no pod serves this"
    )


def _row_order(row: Endpoint) -> tuple[str, int]:
    return (row.pod_name, -1 if row.port is None else row.port)


def _additions_first(op: Op) -> int:
    match op:
        case Create():
            return 0
        case SetStatus():
            return 1 if added(op) else 2
        case Delete():
            return 3


def added(op: Op) -> list[Endpoint]:
    """The rows that *op* adds to an object."""
    match op:
        case Create(status=status):
            return list(status.endpoints)
        case SetStatus(service, status):
            listed = places(service.status.endpoints)
            return [row for row in status.endpoints if place(row) not in listed]
        case Delete():
            return []
