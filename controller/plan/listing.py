"""Where RpcServices do not list what the pods say: compared with the rows that ``plan.rpcservices`` wants."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

import msgspec

from controller.model import Endpoint, LabelSelector, ObjectKey, Pod, RpcService, ServiceKey
from controller.plan import rpcservices
from controller.plan.findings import Finding


def findings_of_pods(
    pods: Sequence[Pod], services: Sequence[RpcService], besides: Collection[str] = ()
) -> Iterator[Finding]:
    """A finding for each pod, service and state; names *besides* may lack an RpcService."""
    index = _Index(pods, services)
    for key in index.keys:
        observed = index.observed(key)
        if observed.services or key.service_name not in besides:
            yield from _of_key(key, observed)


def owners(pods: Sequence[Pod], services: Sequence[RpcService]) -> dict[ServiceKey, str]:
    """The RpcServices that list annotated pods, or will: what pods have to be allowed to register."""
    index = _Index(pods, services)
    observed = {key: index.observed(key) for key in index.keys}
    return {key: rpcservices.owner_name(key, seen.services, seen.taken) for key, seen in observed.items()}


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

    def observed(self, key: ServiceKey) -> rpcservices.Observed:
        services = self._services.get(key, [])
        pods = {pod.name: pod for pod in self._declaring.get(key, ())}
        for service in services:
            if service.spec.selector and not service.is_part:
                pods |= {pod.name: pod for pod in self._selected(key.namespace, service.spec.selector)}
        for name in {row.pod_name for service in services for row in service.status.endpoints} - pods.keys():
            pod = self._pods.get(ObjectKey(key.namespace, name))
            if pod:
                pods[name] = pod
        return rpcservices.Observed(services, pods, self._taken[key.namespace], _AnyNode())

    def _selected(self, namespace: str, selector: LabelSelector) -> Iterator[Pod]:
        """The pods that a selector matches: looked for among those that have its first label."""
        first = next(iter(selector.match_labels.items()), None)
        among = self._labelled[namespace, *first] if first else self._in[namespace]
        return (pod for pod in among if selector.matches(pod.labels))


class _AnyNode:
    """All nodes, as if none were Ready.

    That alone keeps nothing: only a row that the controller itself holds is taken to wait for its Node.
    So Nodes need not be read.
    """

    def __contains__(self, name: object) -> bool:
        return True


def _of_key(key: ServiceKey, observed: rpcservices.Observed) -> Iterator[Finding]:
    """What is wrong with the rows of one name in one namespace: a finding a pod and state."""
    rows = {
        (row.pod_uid, row.port): (service.name, row)
        for service in observed.services
        for row in service.status.endpoints
    }
    held = {uid for (uid, _), (_, row) in rows.items() if row.held}
    # We look twice: what is absent by then, and not held, should not be listed.
    absences = rpcservices.Absences(confirmed={uid for uid, _ in rows} - held, held=held)
    desired = {(row.pod_uid, row.port): row for row in rpcservices.wanted_rows(key, observed, absences)}
    pods = {identity: row.pod_name for identity, (_, row) in rows.items()}
    pods |= {identity: row.pod_name for identity, row in desired.items()}
    found: dict[tuple[str, str], str] = {}
    for identity, pod in pods.items():
        home, listed = rows.get(identity, ("", None))
        state, detail = _state_of(key, desired.get(identity), listed, home, observed)
        if state:
            found.setdefault((f"{key}/{pod}", state), detail)
    for (path, state), detail in found.items():
        yield Finding("", path, state, detail)


def _state_of(
    key: ServiceKey,
    desired: Endpoint | None,
    listed: Endpoint | None,
    home: str,
    observed: rpcservices.Observed,
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
            why = _why_gone(observed.pods.get(listed.pod_name), listed, key.service_name)
            return "listed but gone", f"RpcService {home} lists it, and {why}"
        case Endpoint(), Endpoint() if desired != listed:
            return "listed wrongly", f"RpcService {home}: {_differing(desired, listed)}"
        case Endpoint(held=True), _:
            return "held", "it is absent, and published until that is confirmed"
    return "", ""


def _port(row: Endpoint) -> str:
    return "" if row.port is None else f" on port {row.port}"


def _why_gone(pod: Pod | None, row: Endpoint, service_name: str) -> str:
    if pod is None or pod.uid != row.pod_uid:
        return "the pod is gone"
    if pod.terminating:
        return "the pod is terminating"
    if pod.phase in rpcservices.FINISHED:
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
