"""Where RpcServices differ from their pods: compared with the rows that ``plan.rows`` wants."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from rpcregistry.model import Endpoint, LabelSelector, ObjectKey, Pod, RpcService, ServiceKey
from rpcregistry.plan.conditions import held_by
from rpcregistry.plan.findings import Finding
from rpcregistry.plan.held import is_endless
from rpcregistry.plan.pods import as_reported, is_finished, is_withdrawn_with_node
from rpcregistry.plan.publication import Unlisted
from rpcregistry.plan.rows import Absences, ObservedRpcServices, owner_name, wanted_rows

RowId = tuple[str, int | None]


class Statuses:
    """The desired and the listed rows of each key."""

    def __init__(self, pods: Sequence[Pod], services: Sequence[RpcService]) -> None:
        index = _Index(pods, services)
        observed = ((key, index.observed(key)) for key in index.keys)
        self._keys = [(key, seen, _rows(key, seen)) for key, seen in observed]

    def findings(self, besides: Collection[str] = ()) -> Iterator[Finding]:
        """A finding for each pod, service and state; names *besides* may lack an RpcService."""
        for key, observed, rows in self._keys:
            if observed.services or key.service_name not in besides:
                yield from _findings(key, observed, rows)

    def unlisted(self) -> dict[str, Unlisted]:
        """By service name, the endpoints that no status lists and one should: if published, they stay."""
        found: dict[str, Unlisted] = {}
        for key, observed, rows in self._keys:
            lacking = tuple(row for identity, row in rows.desired.items() if identity not in rows.listed)
            if lacking:
                others = found.get(key.service_name, Unlisted())
                uids = (service.uid for service in observed.services if not service.known)
                found[key.service_name] = Unlisted((*others.endpoints, *lacking), {*others.services, *uids})
        return found


class _Rows(msgspec.Struct, frozen=True):
    """Rows by pod uid and port; *listed* ones with the name of their RpcService."""

    desired: Mapping[RowId, Endpoint]
    listed: Mapping[RowId, tuple[str, Endpoint]]


def owners(pods: Sequence[Pod], services: Sequence[RpcService]) -> dict[ServiceKey, str]:
    """The RpcService of each key that lists annotated pods, or will; pods need its ``register`` right."""
    index = _Index(pods, services)
    observed = {key: index.observed(key) for key in index.keys}
    return {key: owner_name(key, seen.services, seen.taken) for key, seen in observed.items()}


class _Index:
    """Looks up what ``plan.rpcservices`` observes for a key."""

    def __init__(self, pods: Sequence[Pod], services: Sequence[RpcService]) -> None:
        self._pods = {pod.key: pod for pod in pods}
        self._services: dict[ServiceKey, list[RpcService]] = defaultdict(list)
        self._taken: dict[str, set[str]] = defaultdict(set)
        self._declaring: dict[ServiceKey, list[Pod]] = defaultdict(list)
        self._in: dict[str, list[Pod]] = defaultdict(list)
        self._labelled: dict[tuple[str, str, str], list[Pod]] = defaultdict(list)
        for service in services:
            self._services[service.service_key].append(service)
            self._taken[service.namespace].add(service.name)
        for pod in pods:
            self._in[pod.namespace].append(pod)
            for name in {declaration.service_name for declaration in pod.declarations}:
                self._declaring[ServiceKey(pod.namespace, name)].append(pod)
            for label, value in pod.labels.items():
                self._labelled[pod.namespace, label, value].append(pod)

    @property
    def keys(self) -> list[ServiceKey]:
        return sorted(self._services.keys() | self._declaring.keys())

    def observed(self, key: ServiceKey) -> ObservedRpcServices:
        services = self._services.get(key, [])
        pods = {pod.name: pod for pod in self._declaring.get(key, ())}
        for service in services:
            if service.spec.selector and not service.is_part:
                pods |= {pod.name: pod for pod in self._selected(key.namespace, service.spec.selector)}
        for name in {row.pod_name for service in services for row in service.status.endpoints} - pods.keys():
            pod = self._pods.get(ObjectKey(key.namespace, name))
            if pod:
                pods[name] = pod
        # The controller may hold a Ready pod, or have withdrawn it, because the pod's Node was deleted.  Of a
        # hold, the condition says so, too.
        unreported = {
            row.pod_uid
            for service in services
            for row in service.status.endpoints
            if is_withdrawn_with_node(row) or (row.held and held_by(service))
        }
        pods = {
            name: as_reported(pod, {pod.node_name}) if pod.uid in unreported else pod
            for name, pod in pods.items()
        }
        return ObservedRpcServices(services, pods, self._taken[key.namespace], _AnyNode())

    def _selected(self, namespace: str, selector: LabelSelector) -> Iterator[Pod]:
        """The pods that a selector matches, searched among those with its first label."""
        first = next(iter(selector.match_labels.items()), None)
        among = self._labelled[namespace, *first] if first else self._in[namespace]
        return (pod for pod in among if selector.matches(pod.labels))


class _AnyNode:
    """A set with every node, as if all were silent.

    So ``verify`` need not read Nodes.  It alone keeps no row: only a row that the controller holds counts as
    waiting for its Node.
    """

    def __contains__(self, name: object) -> bool:
        return True


def _rows(key: ServiceKey, observed: ObservedRpcServices) -> _Rows:
    listed = {
        (row.pod_uid, row.port): (service.name, row)
        for service in observed.services
        for row in service.status.endpoints
    }
    held = {uid for (uid, _), (_, row) in listed.items() if row.held}
    # ``verify`` looks twice, so an absent pod without a hold should not be listed any more.
    absences = Absences(confirmed={uid for uid, _ in listed} - held, held=held)
    desired = wanted_rows(key, observed, absences)
    return _Rows({(row.pod_uid, row.port): row for row in desired}, listed)


def _findings(key: ServiceKey, observed: ObservedRpcServices, rows: _Rows) -> Iterator[Finding]:
    pods = {identity: row.pod_name for identity, (_, row) in rows.listed.items()}
    pods |= {identity: row.pod_name for identity, row in rows.desired.items()}
    found: dict[tuple[str, str], str] = {}
    for identity, pod in pods.items():
        home, listed = rows.listed.get(identity, ("", None))
        state, detail = _state_of(key, rows.desired.get(identity), listed, home, observed)
        if state:
            found.setdefault((f"{key}/{pod}", state), detail)
    for (path, state), detail in found.items():
        yield Finding("", path, state, detail)


def _state_of(
    key: ServiceKey,
    desired: Endpoint | None,
    listed: Endpoint | None,
    home: str,
    observed: ObservedRpcServices,
) -> tuple[str, str]:
    """State and detail of one row; *home*: the RpcService that lists it."""
    match desired, listed:
        case Endpoint(), None:
            names = ", ".join(sorted(service.name for service in observed.services))
            others = (
                f"RpcService {names} does not list it" if names else "there is no RpcService of that name"
            )
            return "not listed", f"it serves {key.service_name}{_port(desired)}, and {others}"
        case None, Endpoint():
            why = _why_not_served(observed.pods.get(listed.pod_name), listed, key.service_name)
            return "listed but gone", f"RpcService {home} lists it{_at(listed)}, and {why}"
        case Endpoint(), Endpoint() if desired != listed:
            return "listed wrongly", f"RpcService {home}: {_differing(desired, listed)}"
        case Endpoint(held=True), _:
            said = next((held_by(service) for service in observed.services if service.name == home), None)
            if said and is_endless(said.message):
                return "held", f"it is not heard of, and published: {said.message}"
            return "held", "it is absent, and published until that is confirmed"
    return "", ""


def _port(row: Endpoint) -> str:
    return "" if row.port is None else f" on port {row.port}"


def _at(row: Endpoint) -> str:
    return f" at {row.ip}" if row.ip else ""


def _why_not_served(pod: Pod | None, row: Endpoint, service_name: str) -> str:
    if pod is None or pod.uid != row.pod_uid:
        return "the pod was deleted"
    if pod.terminating:
        return "the pod is terminating"
    if is_finished(pod):
        return f"the pod has {pod.phase}"
    if not pod.ips:
        return "the pod has no address"
    return f"the pod does not serve {service_name}{_port(row)}"


def _differing(desired: Endpoint, listed: Endpoint) -> str:
    fields = zip(
        Endpoint.__struct_encode_fields__,
        msgspec.structs.astuple(desired),
        msgspec.structs.astuple(listed),
        strict=True,
    )
    return "; ".join(
        f"{name} is {seen!r}, should be {should!r}" for name, should, seen in fields if should != seen
    )
