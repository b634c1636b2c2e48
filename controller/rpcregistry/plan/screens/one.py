"""One service: its endpoints, the pods that are none, and what clients read beside what they should."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec

from rpcregistry.errors import Failure
from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import PerEndpoint, PerService
from rpcregistry.model import Endpoint, ObjectKey, Pod, Problem, RpcService
from rpcregistry.plan.explain import why_not
from rpcregistry.plan.findings import DRIFT
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.publication import PublicationSettings
from rpcregistry.plan.screens.changes import Said
from rpcregistry.plan.screens.services import Facts, Row, has, row
from rpcregistry.plan.verify import Cluster, findings_of_znodes

MOST_BYTES = 20_000  # of a znode
MOST_CHILDREN = 200
SHOULD_BE = "should be "
MAY_NOT = "may not register it: see Rejected pods"


class EndpointRow(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """An endpoint.  *published*: yes, held, or why not."""

    namespace: str
    pod: str
    node: str
    address: str
    version: str
    group: str
    protocol: str
    weight: int | None
    metadata: Mapping[str, str]
    published: str
    state: str
    since: str


class Outside(msgspec.Struct, frozen=True, rename="camel"):
    """A pod that names the service and is no endpoint of it, or not in sync with what it says."""

    namespace: str
    pod: str
    node: str
    why: str
    mistake: bool


class Child(msgspec.Struct, frozen=True, rename="camel"):
    """One znode of several; *data*: what it holds, as text."""

    name: str
    data: str
    ours: bool


class Read(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What clients read in one layout.

    *known*: whether this is known; after a write without an answer it is not, until ZooKeeper is read again.
    *is_*: the znode's bytes as text, or ""; *should_be*: what it ought to hold, if that differs.
    *differences*: in words.  *bytes*: of the one znode, or of all.  *read_at*: when it was read from
    ZooKeeper last, None if never.
    """

    layout: str
    path: str
    known: bool
    exists: bool
    read_at: float | None
    version: int
    bytes: int
    is_: str = msgspec.field(name="is")
    should_be: str
    cut: bool
    children: Sequence[Child]
    more_children: int
    differences: Sequence[str]


class One(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All of one service; *total*: the endpoints that the query asks for, *next* as in ``services.Page``."""

    row: Row
    total: int
    endpoints: Sequence[EndpointRow]
    next: int | None
    nodes: int
    unpublished: int
    not_endpoints: Sequence[Outside]
    registry: Sequence[Read] | None
    changes: Sequence[Said]
    commands: Sequence[str]


def one(
    services: Sequence[RpcService],
    pods: Iterable[Pod],
    facts: Facts,
    views: Sequence[tuple[Layout, ObservedZnodes | None]] | None,
    read_at: Callable[[Layout], float | None],
    settings: PublicationSettings,
    changes: Sequence[Said],
    denied: Collection[ObjectKey],
    *,
    q: str = "",
    state: str = "",
    limit: int = 200,
    after: int = 0,
) -> One:
    """The service that *services* are; *pods*: those that name it or are in its statuses.

    *views*: its znodes, None where they are not known, or for all if this process does not read them;
    *read_at*: when it read those of a layout.
    *denied*: the pods that may not register what they declare.  *state* ``unpublished``: only such
    endpoints.
    """
    seen = row(services, facts)
    every = [(one.namespace, found) for one in services for found in one.status.endpoints]
    wanted = q.strip().lower()
    chosen = [
        (namespace, found)
        for namespace, found in every
        if (not wanted or has(found, wanted)) and (state != "unpublished" or not found.ready)
    ]
    chosen.sort(key=lambda pair: (pair[1].ready, pair[1].pod_name))
    end = after + limit
    pods = list(pods)
    silent = {pod.uid for pod in pods if pod.silenced}
    layouts = [layout for layout, _ in views or ()]
    cluster, waits = settings.cluster_id, seen.reason in ("Waiting", "RegistryUnavailable")
    written = [
        (layout, None if view is None else _written(layout, seen.name, view, cluster))
        for layout, view in (views or () if waits else ())
    ]

    def shown(namespace: str, found: Endpoint) -> EndpointRow:
        late = "Not known here" if waits and views is None else ""
        late = late or _not_written(seen.name, found, written, cluster)
        return _endpoint(seen.name, namespace, found, layouts, late, silent=found.pod_uid in silent)

    return One(
        row=seen,
        total=len(chosen),
        endpoints=[shown(namespace, found) for namespace, found in chosen[after:end]],
        next=end if end < len(chosen) else None,
        nodes=len({found.node_name for _, found in every if found.node_name}),
        unpublished=sum(not found.ready for _, found in every),
        not_endpoints=outside(pods, {found.pod_uid for _, found in every}, denied),
        registry=None if views is None else _registry(seen.name, services, pods, views, read_at, settings),
        changes=changes,
        commands=_commands(seen),
    )


def _written(layout: Layout, name: str, view: ObservedZnodes, cluster: str) -> Collection[str | None]:
    """The endpoints that a layout's znodes hold: addresses, or slots."""
    if isinstance(layout.form, PerService):
        return layout.form.addresses(view.znode.data) if view.znode else ()
    return {layout.form.slot_of(name, child, cluster) for child in view.children}


def _not_written(
    name: str, found: Endpoint, written: Iterable[tuple[Layout, Collection[str | None] | None]], cluster: str
) -> str:
    """Why an endpoint of a service that waits is not in ZooKeeper, as far as is known; ``""`` if it is."""
    for layout, there in written:
        if there is None:
            return "Not known: ZooKeeper did not answer"
        if isinstance(layout.form, PerService):
            key: str | None = found.ip
        else:
            placed = layout.form.place(name, found, cluster)
            key = None if isinstance(placed, Problem) else layout.form.slot_of(name, placed.name, cluster)
        if key is not None and key not in there:
            return "Not yet: it waits for ZooKeeper"
    return ""


def _endpoint(
    name: str, namespace: str, found: Endpoint, layouts: Iterable[Layout], late: str, *, silent: bool
) -> EndpointRow:
    published, state = (late, "warn") if late else ("Published", "ok")
    if found.held:
        published, state = f"Held: its {'Node is silent' if silent else 'pod is missing'}", "hold"
    elif not found.ready:
        published, state = "No: not Ready", "none"
    for layout in layouts:
        if isinstance(layout.form, PerEndpoint) and found.ready:
            placed = layout.form.place(name, found, "")
            if isinstance(placed, Problem):
                published, state = f"Not in {layout.name}: {placed.message}", "warn"
    return EndpointRow(
        namespace=namespace,
        pod=found.pod_name,
        node=found.node_name,
        address=found.address,
        version=found.version,
        group=found.group,
        protocol=found.protocol,
        weight=found.weight,
        metadata=found.metadata,
        published=published,
        state=state,
        since=found.started_at,
    )


def outside(
    pods: Iterable[Pod], listed: Collection[str], denied: Collection[ObjectKey] = ()
) -> list[Outside]:
    """The pods that name a service and are no endpoint of it, or say something that is wrong, and why."""
    found = []
    for pod in pods:
        why = "" if pod.uid in listed else why_not(pod) or "no status lists it yet"
        mistakes = [problem.message for problem in (*pod.problems, *pod.hints)]
        if why and pod.key in denied:
            why, mistakes = "", [*mistakes, f"ServiceAccount {pod.service_account or 'default'} {MAY_NOT}"]
        if why or mistakes:
            text = "; ".join([*([why] if why else []), *mistakes])
            found.append(Outside(pod.namespace, pod.name, pod.node_name, text, bool(mistakes)))
    return sorted(found, key=lambda each: (not each.mistake, each.namespace, each.pod))


def _registry(
    name: str,
    services: Sequence[RpcService],
    pods: Sequence[Pod],
    views: Sequence[tuple[Layout, ObservedZnodes | None]],
    read_at: Callable[[Layout], float | None],
    settings: PublicationSettings,
) -> list[Read]:
    cluster = Cluster(pods, services)
    return [_read(layout, name, view, read_at(layout), cluster, settings) for layout, view in views]


def _read(
    layout: Layout,
    name: str,
    view: ObservedZnodes | None,
    read_at: float | None,
    cluster: Cluster,
    settings: PublicationSettings,
) -> Read:
    known, view = view is not None, view or ObservedZnodes(None, None)
    try:
        findings = list(findings_of_znodes(layout, cluster, {name: view}, settings)) if known else []
        differences = [
            f"{found.path.rpartition('/')[2]}: {found.state}"
            for found in findings
            if found.state in (*DRIFT, "would be adopted")
        ]
    except Failure as failure:
        findings, differences = [], [f"cannot be compared: {failure}"]
    path, znode = layout.directory(name), view.znode
    different = [found.detail for found in findings if found.path == path and found.state == "different"]
    alone = isinstance(layout.form, PerService)
    children = _children(view) if not alone else []
    data = znode.data if znode and alone else b""
    size = len(data) if alone else sum(len(child.data) for child in view.children.values())
    return Read(
        layout=layout.name,
        path=path,
        known=known,
        exists=znode is not None,
        read_at=read_at,
        version=znode.version if znode else 0,
        bytes=size,
        is_=text_of(data),
        should_be=text_of(different[0].removeprefix(SHOULD_BE).encode()) if different and alone else "",
        cut=len(data) > MOST_BYTES,
        children=children[:MOST_CHILDREN],
        more_children=max(0, len(children) - MOST_CHILDREN),
        differences=differences,
    )


def _children(view: ObservedZnodes) -> list[Child]:
    ours = [Child(name, text_of(znode.data), True) for name, znode in sorted(view.children.items())]
    return [*ours, *(Child(name, "", False) for name in sorted(view.foreign))]


def text_of(data: bytes) -> str:
    r"""Bytes that anybody may have written, as lines of text: JSON with a value a line, else as it is.

    >>> text_of(b'{"servers":["10.0.0.1"]}')
    '{\n  "servers": [\n    "10.0.0.1"\n  ]\n}'
    >>> text_of(b"\xff<b>")
    '\\xff<b>'
    """
    data = data[:MOST_BYTES]
    text = data.decode(errors="backslashreplace")
    with suppress(msgspec.MsgspecError):
        return msgspec.json.format(data, indent=2).decode() if data[:1] in (b"{", b"[") else text
    return text


def _commands(seen: Row) -> list[str]:
    namespace, _, name = seen.objects[0].partition("/")
    return [
        f"kubectl -n {namespace} describe rpcservice {name}",
        f"rpcregistry explain {seen.name} -n {namespace}",
        f"rpcregistry verify --service {seen.name}",
    ]
