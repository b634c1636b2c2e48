"""The rows that the RpcServices of one service name are to list, and which of them wait for the guard.

A listed endpoint is withdrawn if the pod itself *shows* a state that is not published.  If the pod is merely
absent, the row stays until the absence is confirmed (``plan.guard``).
"""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from rpcregistry.model import Declaration, Endpoint, Pod, RpcService, ServiceKey
from rpcregistry.names import object_name
from rpcregistry.plan.pods import is_listed, is_unheard, keeping
from rpcregistry.plan.publication import Place, place


class ObservedRpcServices(msgspec.Struct, frozen=True):
    """The observed objects of one key.

    *services*: the RpcServices of the name.  *pods*, by name: those that declare the service, that one of
    *services* selects, or that a status names, each ``as_reported``.  *taken*: the names of the namespace's
    RpcServices.  *silent_nodes*: the Nodes of *pods* that report nothing.  *unheard*: the uids of silenced
    pods whose Node cannot be read, so that nobody knows whether they failed.  *remembered*: by uid, the rows
    of an RpcService before others wrote its status, and those of the others' rows that may be true.
    *deleted*: RpcServices that are not there any more, and whose endpoints stay published meanwhile.
    *unplaced*: how many endpoints no object lists, because a write is refused.
    """

    services: Collection[RpcService]
    pods: Mapping[str, Pod]
    taken: Container[str] = ()
    silent_nodes: Container[str] = ()
    unheard: Container[str] = ()
    remembered: Mapping[str, Sequence[Endpoint]] = {}
    deleted: Sequence[RpcService] = ()
    unplaced: int = 0

    @property
    def is_unreadable(self) -> bool:
        """Whether the spec of one of *services* cannot be decoded: nobody can tell what it asks for."""
        return any(service.unreadable for service in self.services)

    def rows_of(self, service: RpcService) -> Sequence[Endpoint]:
        """The rows of *service* by our own word."""
        return self.remembered.get(service.uid, service.status.endpoints)


class Absences(msgspec.Struct, frozen=True):
    """The absences of listed pods, by uid.

    *confirmed*: their pods no longer exist.  *held*: they wait for a confirmation.  *unknown*: the pods
    cannot be read, so none is known to be absent.
    """

    confirmed: Container[str] = ()
    held: Container[str] = ()
    unknown: bool = False


def owner_name(key: ServiceKey, services: Collection[RpcService], taken: Container[str]) -> str:
    """The name of the RpcService that lists annotated pods, or will once it exists."""
    owner = owner_of(services)
    return owner.name if owner else object_name(key.service_name, taken)


def owner_of(services: Iterable[RpcService]) -> RpcService | None:
    """The RpcService that lists annotated pods, if it exists."""
    by_age = sorted(services, key=lambda service: service.age)
    declared = (service for service in by_age if not service.generated)
    generated = (service for service in by_age if service.generated and not service.is_part)
    return next(chain(declared, generated), None)


def desired_rows(
    key: ServiceKey,
    services: Sequence[RpcService],
    owner: RpcService | None,
    observed: ObservedRpcServices,
    absences: Absences,
) -> dict[str, list[Endpoint]]:
    """The desired endpoints of each head, by its name (``""``: a head that has to be created)."""
    home = owner.name if owner else ""
    rows = _shown(key, services, home, observed)
    heads = {service.name for service in services if not service.generated} | {home}
    for service in services:
        for row in observed.rows_of(service):
            head, shown = rows.get(place(row), (None, None))
            absent = is_absent(row, shown, observed)
            if (absent and row.pod_uid not in absences.confirmed) or (
                absences.unknown and not _covers(shown, row)
            ):
                head = head or (service.name if service.name in heads else home)
                # A row stays held until the guard has decided: after a start, it has not looked yet.
                held = row.held or row.pod_uid in absences.held
                rows[place(row)] = head, _with_held(row, held)
    for row in _unheard_of_deleted(observed, rows):
        if row.pod_uid not in absences.confirmed:
            home, _ = rows[place(row)]
            rows[place(row)] = home, _with_held(row, row.held or row.pod_uid in absences.held)
    by_head: dict[str, list[Endpoint]] = {}
    for head, row in rows.values():
        by_head.setdefault(head, []).append(row)
    return by_head


def _unheard_of_deleted(
    observed: ObservedRpcServices, shown: Mapping[Place, tuple[str, Endpoint]]
) -> list[Endpoint]:
    """The rows of deleted RpcServices, and of no other one, whose pods are there and count as absent.

    Who deletes an RpcService says nothing of its pods: what was held stays held.
    """
    listed = {place(row) for service in observed.services for row in observed.rows_of(service)}
    rows = (row for service in observed.deleted for row in service.status.endpoints)
    found = (row for row in rows if place(row) in shown and place(row) not in listed)
    return [row for row in found if is_absent(row, shown[place(row)][1], observed)]


def wanted_rows(key: ServiceKey, observed: ObservedRpcServices, absences: Absences) -> list[Endpoint]:
    """All desired rows of *key*, over all its RpcServices."""
    services = sorted(observed.services, key=lambda service: service.age)
    by_head = desired_rows(key, services, owner_of(services), observed, absences)
    return [row for rows in by_head.values() for row in rows]


def suspects(key: ServiceKey, observed: ObservedRpcServices) -> dict[str, int]:
    """The absent listed pods, confirmed or not: each uid with its number of rows."""
    rows = _shown(key, sorted(observed.services, key=lambda service: service.age), "", observed)
    weights: dict[str, int] = {}
    for service in observed.services:
        for row in observed.rows_of(service):
            _, shown = rows.get(place(row), ("", None))
            if is_absent(row, shown, observed):
                weights[row.pod_uid] = weights.get(row.pod_uid, 0) + 1
    for row in _unheard_of_deleted(observed, rows):
        weights[row.pod_uid] = weights.get(row.pod_uid, 0) + 1
    return weights


def is_absent(row: Endpoint, shown: Endpoint | None, observed: ObservedRpcServices) -> bool:
    """Whether the pod of a listed *row* is absent; if not, it shows its state.

    *shown* is the row as the pods show it now.  A pod that its Node does not report counts as absent
    (``is_unheard``).  What it shows by itself counts: that it terminates, has finished, or does not declare
    the service any more.  Another pod of the same name shows that the listed one was deleted.
    """
    pod = observed.pods.get(row.pod_name)
    if pod is None:
        return True
    unheard = is_unheard(pod, observed.silent_nodes, row.held or pod.uid in observed.unheard)
    return shown is not None and row.ready and not shown.ready and unheard


def _covers(shown: Endpoint | None, row: Endpoint) -> bool:
    return shown is not None and shown.ready >= row.ready


def _with_held(row: Endpoint, held: bool) -> Endpoint:
    return row if row.held == held else msgspec.structs.replace(row, held=held)


def _shown(
    key: ServiceKey, services: Sequence[RpcService], home: str, observed: ObservedRpcServices
) -> dict[Place, tuple[str, Endpoint]]:
    """The rows that the pods show, with their heads, by uid and port."""
    rows: dict[Place, tuple[str, Endpoint]] = {}
    for found in observed.pods.values():
        pod = keeping(found, _published_of(found, observed)) if found.refused_ips else found
        if is_listed(pod):
            head, declarations = _membership(pod, key, services, home)
            for declaration in declarations:
                rows.setdefault((pod.uid, declaration.port), (head, endpoint_of(pod, declaration)))
    return rows


def _published_of(pod: Pod, observed: ObservedRpcServices) -> set[str]:
    """The addresses under which *pod* is listed."""
    rows = (row for service in observed.services for row in observed.rows_of(service))
    return {row.ip for row in rows if row.pod_uid == pod.uid}


def _membership(
    pod: Pod, key: ServiceKey, services: Iterable[RpcService], home: str
) -> tuple[str, Sequence[Declaration]]:
    declarations = [d for d in pod.declarations if d.service_name == key.service_name]
    if declarations:
        return home, declarations
    for service in services:
        spec = service.spec
        if spec.selector and not service.is_part and spec.selector.matches(pod.labels):
            return service.name, [
                Declaration(
                    service_name=key.service_name,
                    version=spec.version,
                    port=spec.port,
                    group=spec.group,
                    protocol=spec.protocol,
                    weight=spec.weight,
                    metadata=spec.metadata,
                )
            ]
    return home, []


def declared_rows(pod: Pod, service_name: str) -> list[Endpoint]:
    """The rows of a pod for what it declares of one service; none without an address."""
    return [endpoint_of(pod, d) for d in pod.declarations if pod.ips and d.service_name == service_name]


def endpoint_of(pod: Pod, declaration: Declaration) -> Endpoint:
    """The row of a pod with an address."""
    return Endpoint(
        pod_name=pod.name,
        pod_uid=pod.uid,
        ip=pod.ips[0],
        ips=pod.ips,
        port=declaration.port,
        node_name=pod.node_name,
        host_ip=pod.host_ip,
        version=declaration.version,
        group=declaration.group,
        protocol=declaration.protocol,
        weight=declaration.weight,
        ready=pod.ready,
        phase=pod.phase,
        started_at=pod.started_at,
        metadata=declaration.metadata,
    )
