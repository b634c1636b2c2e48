"""The other lists: LocalServices and their nodes, and pods whose annotations say something wrong."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from rpcregistry.model import LocalService, Node, Pod, Problem
from rpcregistry.names import node_service_name

MOST_NAMED = 10  # nodes, in a row
LEVELS = ("bad", "hold", "none", "ok")  # of nodes, the most pressing first


class LocalRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A LocalService; *lacking*: the first nodes without a Ready pod."""

    namespace: str
    name: str
    nodes: int
    ready: int
    synced: bool | None
    reason: str
    message: str
    lacking: Sequence[str]
    generated: bool


class LocalNode(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A node of a LocalService, and its Service.  *level*: one of ``LEVELS``."""

    node: str
    service: str
    cluster_ip: str
    endpoints: Sequence[str]
    level: str
    why: str


class LocalOne(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All of one LocalService."""

    row: LocalRow
    selector: Mapping[str, str]
    ports: Sequence[int]
    truncated: bool
    nodes: Sequence[LocalNode]


class Rejected(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One mistake in a pod's annotations.  *where*: the annotation and the JSON pointer, if known."""

    namespace: str
    pod: str
    node: str
    reason: str
    where: str
    what: str
    hint: bool


class Denied(msgspec.Struct, frozen=True, order=True, rename="camel"):
    """A ServiceAccount that may not register what *pods* declare.  *commands*: what gives it the right."""

    namespace: str
    service_account: str
    rpc_service: str
    pods: Sequence[str]
    commands: Sequence[str]


def local_row(local: LocalService) -> LocalRow:
    """The row of a LocalService, from its status."""
    condition = local.status.condition("Synced")
    lacking = [row.node for row in local.status.services if not row.endpoints]
    return LocalRow(
        namespace=local.namespace,
        name=local.name,
        nodes=local.status.nodes,
        ready=local.status.ready_nodes,
        synced=None if condition is None else condition.status == "True",
        reason=condition.reason if condition else "NotLookedAt",
        message=condition.message if condition and condition.status != "True" else "",
        lacking=lacking[:MOST_NAMED],
        generated=local.generated,
    )


def local_rows(locals_: Iterable[LocalService]) -> list[LocalRow]:
    """A row for each LocalService, those that need a look first."""
    rows = [local_row(local) for local in locals_]
    return sorted(rows, key=lambda row: (row.synced is True, row.ready >= row.nodes, row.namespace, row.name))


def local_one(
    local: LocalService, nodes: Iterable[Node], problems: Mapping[str, Problem], held: Collection[str]
) -> LocalOne:
    """One LocalService by node; *problems* and *held*: of its Services, by node."""
    rows = {row.node: row for row in local.status.services}
    names = {node.name for node in nodes if local.matches(node)} | rows.keys() | set(held)
    found = []
    for name in sorted(names):
        row = rows.get(name)
        level, why = _of_node(name, bool(row and row.endpoints), row is not None, problems, held)
        found.append(
            LocalNode(
                node=name,
                service=row.service if row else node_service_name(local.name, name),
                cluster_ip=row.cluster_ip if row else "",
                endpoints=row.endpoints if row else (),
                level=level,
                why=why,
            )
        )
    return LocalOne(
        row=local_row(local),
        selector=local.spec.selector,
        ports=[port.port for port in local.spec.ports],
        truncated=local.status.truncated,
        nodes=found,
    )


def _of_node(
    name: str, ready: bool, listed: bool, problems: Mapping[str, Problem], held: Collection[str]
) -> tuple[str, str]:
    problem = problems.get(name)
    if problem:
        return "bad", f"{problem.reason}: {problem.message}"
    if name in held:
        return "hold", "Held: the Node is missing from the list"
    if ready:
        return "ok", "Ready"
    return "none", "no Ready pod of it on this node" if listed else "no Service yet"


def rejected(pods: Iterable[Pod]) -> list[Rejected]:
    """Each mistake and each likely typing error in pods' annotations, mistakes first."""
    found = [
        _rejected(pod, problem, hint)
        for pod in pods
        for hint, problems in ((False, pod.problems), (True, pod.hints))
        for problem in problems
    ]
    return sorted(found, key=lambda each: (each.hint, each.namespace, each.pod, each.where))


def _rejected(pod: Pod, problem: Problem, hint: bool) -> Rejected:
    where, what = pointed(problem.message)
    return Rejected(
        namespace=pod.namespace,
        pod=pod.name,
        node=pod.node_name,
        reason=problem.reason,
        where=where,
        what=what,
        hint=hint,
    )


def denied(
    pods: Iterable[Pod], subjects: Collection[tuple[str, str, str]], owner_name: Callable[[str, str], str]
) -> list[Denied]:
    """Those of *subjects* (namespace, ServiceAccount, RpcService) whose pods declare the service.

    *owner_name*: the RpcService that lists the pods of a namespace that declare a service name.
    """
    accounts = {(namespace, account) for namespace, account, _ in subjects}
    found: dict[tuple[str, str, str], list[str]] = {}
    for pod in pods:
        account = pod.service_account or "default"
        if (pod.namespace, account) in accounts:
            for name in {owner_name(pod.namespace, one.service_name) for one in pod.declarations}:
                if (pod.namespace, account, name) in subjects:
                    found.setdefault((pod.namespace, account, name), []).append(pod.name)
    return [Denied(*subject, sorted(names), _grant(*subject)) for subject, names in sorted(found.items())]


def _grant(namespace: str, account: str, name: str) -> list[str]:
    role = f"register-{name}"
    return [
        f"kubectl -n {namespace} create role {role} --verb=register"
        f" --resource=rpcservices.rpcregistry.dev --resource-name={name}",
        f"kubectl -n {namespace} create rolebinding {role}-{account} --role={role}"
        f" --serviceaccount={namespace}:{account}",
    ]


def pointed(message: str) -> tuple[str, str]:
    """Where a mistake is, the annotation and the JSON pointer, and what it is.

    >>> pointed("rpc-service: /0/port: 99999 is too much"), pointed("the label is missing: add it")
    (('rpc-service /0/port', '99999 is too much'), ('', 'the label is missing: add it'))
    """
    where: list[str] = []
    rest = message
    while (found := rest.partition(": "))[1] and " " not in found[0]:
        where, rest = [*where, found[0]], found[2]
    return " ".join(where), rest
