"""Which LocalServices the pods ask for, and what the status of one says.

A pod that declares a service with ``"local": true`` asks for node-local routing to it: a *generated*
LocalService, whose selector is a label that the controller puts on those pods.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from rpcregistry.model import (
    LOCAL_LABELS,
    Condition,
    KubeService,
    LocalService,
    LocalServiceSpec,
    LocalServiceStatus,
    Node,
    NodeServiceRow,
    Pod,
    Problem,
    ServicePort,
)
from rpcregistry.names import label_value, local_service_name, node_service_name
from rpcregistry.plan.conditions import with_condition
from rpcregistry.plan.held import nodes_message
from rpcregistry.plan.nodeservices import owns
from rpcregistry.plan.pods import asks_locality, is_listed

MOST_ROWS = 500
MOST_ADDRESSES = 20
MOST_EXAMPLES = 3


class Create(msgspec.Struct, frozen=True):
    """Create a generated LocalService."""

    namespace: str
    name: str
    spec: LocalServiceSpec


class SetSpec(msgspec.Struct, frozen=True):
    """Replace the ports of a generated LocalService; *only_removes*: none of them is new."""

    local: LocalService
    spec: LocalServiceSpec
    only_removes: bool = False


class Delete(msgspec.Struct, frozen=True):
    """Delete a generated LocalService."""

    local: LocalService


Op = Create | SetSpec | Delete


def write_of(op: Op) -> tuple[object, ...]:
    """The identity of a write among those of a key, regardless of its content."""
    match op:
        case Create(name=name):
            return "create", name
        case SetSpec(local, _, only_removes):
            return "spec", local.uid, only_removes
        case Delete(local):
            return "delete", local.uid


def without_additions(op: Op) -> SetSpec | None:
    """*op* without the ports that it adds; None if it adds none, or does nothing else."""
    if not isinstance(op, SetSpec):
        return None
    before = op.local.spec.ports
    ports = tuple(port for port in op.spec.ports if port in before)
    if not ports or ports == op.spec.ports or len(ports) == len(before):
        return None
    return SetSpec(op.local, msgspec.structs.replace(op.spec, ports=ports), only_removes=True)


def local_label(name: str) -> str:
    """The name of the label that a generated LocalService selects.

    >>> local_label("echo")
    'local-service.rpcregistry.dev/echo'
    """
    return LOCAL_LABELS + label_value(name)


def project(
    namespace: str,
    service_name: str,
    rpc_service: str,
    pods: Iterable[Pod],
    observed: LocalService | None,
    may_remove: bool,
) -> Op | None:
    """Return the operation on the LocalService of an RpcService, given the *pods* that declare the service.

    The controller never changes a LocalService that a person declared.  *may_remove*: whether none of the
    pods that asked for it is merely absent.
    """
    if observed and (not observed.generated or observed.deleting):
        return None
    ports = sorted(
        {
            declared.port
            for pod in pods
            if asks_locality(pod, service_name)
            for declared in pod.declarations
            if declared.local and declared.service_name == service_name and declared.port
        }
    )
    if not ports:
        return Delete(observed) if observed and may_remove else None
    name = local_service_name(rpc_service)
    spec = LocalServiceSpec(selector={local_label(name): "true"}, ports=_ports(ports))
    if observed is None:
        return Create(namespace, name, spec)
    if not may_remove:
        kept = {port.port for port in observed.spec.ports}
        spec = msgspec.structs.replace(spec, ports=_ports(sorted({*ports, *kept})))
    return SetSpec(observed, spec) if unkept(spec, observed.spec) else None


def _ports(numbers: Collection[int]) -> tuple[ServicePort, ...]:
    """The ports; several ones get names, which a Service then needs."""
    several = len(numbers) > 1
    return tuple(
        ServicePort(port=number, name=f"port-{number}" if several else "", target_port=number)
        for number in numbers
    )


def unkept(wanted: LocalServiceSpec, observed: LocalServiceSpec) -> list[str]:
    """The fields of *observed* that are not as *wanted*; those that we do not set count for nothing."""
    return [
        f"spec.{name}" for name in ("ports", "selector") if getattr(observed, name) != getattr(wanted, name)
    ]


def status(
    local: LocalService,
    nodes: Iterable[Node],
    services: Mapping[str, KubeService],
    pods: Iterable[Pod],
    node_label: str,
    problems: Mapping[str, Problem],
    held: Collection[str],
    endless: str,
    now: str,
) -> LocalServiceStatus:
    """The status of a LocalService.

    *nodes*: all of the cluster.  *services*: those that the LocalService owns, by name.  *pods*: those that
    it selects.  *problems*: by node.  *held*: absent nodes that keep their Service until their absence is
    confirmed; *endless*: why that has no time limit, or ``""``.
    """
    matching = sorted(node.name for node in nodes if local.matches(node))
    ready: dict[str, list[str]] = {}
    for pod in pods:
        # Count as kube-proxy does: without the label, the node Service does not select the pod yet.
        labelled = pod.labels.get(node_label) == label_value(pod.node_name)
        if pod.ready and pod.node_name and labelled and is_listed(pod):
            ready.setdefault(pod.node_name, []).append(pod.ips[0])
    rows, ready_nodes, cut = [], 0, False
    for node in matching:
        service = services.get(node_service_name(local.name, node))
        if service is None or service.node_name != node or not owns(local, service):
            continue
        addresses = sorted(set(ready.get(node, ())))
        ready_nodes += bool(addresses)
        cut = cut or len(addresses) > MOST_ADDRESSES
        rows.append(
            NodeServiceRow(
                node=node,
                service=service.name,
                cluster_ip=msgspec.json.decode(service.spec, type=_ClusterIP).cluster_ip,
                endpoints=tuple(addresses[:MOST_ADDRESSES]),
            )
        )
    # A Service that has to go may be kept by a refused delete: it routes on.
    left = {service.node_name for service in services.values() if owns(local, service)}.difference(matching)
    lacking = {node: problem for node, problem in problems.items() if node in set(matching)}
    keeping = {node: problem for node, problem in problems.items() if node in left}
    condition = _synced(len(matching), lacking, keeping, held, endless)
    return LocalServiceStatus(
        observed_generation=local.generation,
        nodes=len(matching),
        ready_nodes=ready_nodes,
        services=tuple(rows[:MOST_ROWS]),
        truncated=cut or len(rows) > MOST_ROWS,
        conditions=with_condition(local, condition, now),
    )


class _ClusterIP(msgspec.Struct):
    cluster_ip: str = msgspec.field(name="clusterIP", default="")


def _synced(
    nodes: int,
    lacking: Mapping[str, Problem],
    keeping: Mapping[str, Problem],
    held: Collection[str],
    endless: str,
) -> Condition:
    """*lacking*: the problems of nodes that match; *keeping*: of others that have a Service."""
    if problems := [*lacking.values(), *keeping.values()]:
        reasons = sorted({problem.reason for problem in problems})
        examples = sorted(problem.message for problem in problems)
        more = f" (and {len(examples) - MOST_EXAMPLES} more)" if len(examples) > MOST_EXAMPLES else ""
        wrong = []
        if lacking:
            wrong.append(f"{len(lacking)} of {nodes} nodes lack their Service, or have an outdated one")
        if keeping:
            wrong.append(f"{len(keeping)} nodes that do not match still have a Service")
        said = "; ".join(text[:250] for text in examples[:MOST_EXAMPLES])
        message = f"{', and '.join(wrong)}: {said}{more}"
        return Condition(type="Synced", status="False", reason=reasons[0], message=message)
    if held:
        message = nodes_message(len(held), endless)
        return Condition(type="Synced", status="False", reason="Held", message=message)
    return Condition(
        type="Synced", status="True", reason="Synced", message="each node that matches has its Service"
    )
