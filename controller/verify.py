"""``rpcregistry verify``: whether the registry holds what the RpcServices list."""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from controller.errors import Failure
from controller.kube import Kube
from controller.layouts.forms import PerService
from controller.manifests import PODS, RPCSERVICES
from controller.model import RpcService
from controller.names import is_service_name
from controller.plan import znodes
from controller.plan.ledger import Layout, decode_ledger
from controller.plan.ops import Create, Delete, Set
from controller.plan.outcome import Observed, Outcome
from controller.plan.publication import Publication, Settings, publication
from controller.plan.rpcservices import FINISHED
from controller.reconcile.memory import Memory, uncovered
from controller.zk import ZooKeeper
from controller.zkaccess import Access

NO_DRIFT = ("foreign", "left")


class Finding(msgspec.Struct, frozen=True, order=True, rename="camel"):
    """One path that is not as it should be.

    *state*: ``missing``, ``different``, ``orphaned`` (the ledger names it, no RpcService does),
    ``would be adopted``, ``refused``, or, which is no drift, ``foreign`` (nobody we know) and ``left`` (the
    ledger names it, and no ``--layout`` covers it).
    """

    layout: str
    path: str
    state: str
    detail: str = ""


def verify_registry(
    *,
    output: str,
    kubeconfig: str | None,
    context: str | None,
    **options: Any,
) -> int:
    """Print what differs; return the exit code: 0 in sync, 1 drift, 2 could not look."""
    try:
        findings = list(_look(Kube.from_config(kubeconfig, context), **options))
    except Failure as failure:
        sys.stderr.write(f"rpcregistry: cannot look: {' '.join(str(failure).split())}\n")
        return 2
    if output == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode({"findings": findings})).decode() + "\n")
    else:
        _print(findings)
    return 1 if any(finding.state not in NO_DRIFT for finding in findings) else 0


def _look(
    kube: Kube,
    namespaces: tuple[str, ...],
    zk_servers: str,
    zk_access: Access,
    timeout: float,
    layouts: Sequence[Layout],
    **options: Any,
) -> Iterator[Finding]:
    services = [
        service for namespace in namespaces or ("",) for service in kube.list(RPCSERVICES, namespace).items
    ]
    named = {
        declaration.service_name
        for namespace in namespaces or ("",)
        for pod in kube.list(PODS, namespace).items
        if pod.phase not in FINISHED
        for declaration in pod.declarations
    }
    settings = Settings(**{**options, "cluster_id": options["cluster_id"] or kube.cluster_id()})
    with ZooKeeper.connected_to(zk_servers, timeout, zk_access) as zookeeper:
        memory = Memory(zookeeper, layouts, settings.clusters)
        for layout in layouts:
            present = set(zookeeper.children(layout.base))
            for name in sorted(name for name in present if not is_service_name(name)):
                yield Finding(layout.name, layout.path(name), "foreign", "nothing of ours")
            names = {service.service_name for service in services} | set(filter(is_service_name, present))
            entries = (
                layout.service_name(entry, settings.clusters)
                for entry in zookeeper.children(layout.ledger_root)
            )
            names |= {name for name in entries if name}
            memory.read(names)
            views = {name: memory.view(layout, name) for name in names}
            yield from findings_of(layout, services, views, settings, namespaces, named)
        for name, path in sorted(uncovered(zookeeper, layouts, settings.clusters)):
            missing = f"--layout {name}={path.rpartition('/')[0]}"
            yield Finding(name, path, "left", f"the ledger names it, and there is no {missing}")


def findings_of(
    layout: Layout,
    services: Sequence[RpcService],
    views: Mapping[str, Observed],
    settings: Settings,
    namespaces: Collection[str],
    named: Collection[str],
) -> Iterator[Finding]:
    """What is not as it should be among the services of *views* (by name), as they were observed.

    *services* are those of *namespaces* (all, where none is given): what the ledger says of others stays.
    *named*: the services that pods name, whether or not a controller has seen them yet.
    """
    by_name: dict[str, list[RpcService]] = {}
    for service in services:
        by_name.setdefault(service.service_name, []).append(service)
    for name, view in sorted(views.items()):
        path = layout.directory(name)
        claims = [decode_ledger(entry.data) for entry in (view.ledger, view.previous) if entry]
        published = {namespace for claim in claims for namespace in claim.namespaces}
        unseen = bool(namespaces) and not published <= set(namespaces)
        wanted = publication(by_name.get(name, []), unseen, settings)
        outcome = znodes.plan(layout, name, wanted, view, settings, "", due=view.children)
        if outcome.refusal and (wanted.endpoints or name in by_name):
            reason = f"{outcome.refusal.reason}: {outcome.refusal.message}"
            yield Finding(layout.name, path, "refused", reason)
        if isinstance(layout.form, PerService):
            awaited = name in named and settings.adopt != "never"
            yield from _of_znode(layout, path, outcome, view, wanted, awaited)
        else:
            yield from _of_children(layout, path, outcome, view)


def _of_znode(
    layout: Layout, path: str, outcome: Outcome, view: Observed, wanted: Publication, awaited: bool
) -> Iterator[Finding]:
    """What is wrong with the one znode of a service; *awaited*: one that pods will have published."""
    writes = [op for op in outcome.ops if op.path == path]
    if outcome.refusal and wanted.endpoints:
        return
    if view.ledger is None and view.znode and awaited and not wanted.services and not view.znode.ephemeral:
        detail = "it was there before, and pods name it, though no RpcService does yet"
        yield Finding(layout.name, path, "would be adopted", detail)
    elif view.ledger is None and view.znode and not wanted.endpoints:
        yield Finding(layout.name, path, "foreign", "nothing of ours")
    elif wanted.frozen and not writes:
        return
    elif view.ledger is None and view.znode:
        detail = "it was there before, and an RpcService publishes it now"
        yield Finding(layout.name, path, "would be adopted", detail)
    elif not wanted.endpoints and outcome.ops:
        yield Finding(layout.name, path, "orphaned", "the ledger names it, and no RpcService publishes it")
    else:
        yield from _of_writes(layout, writes)


def _of_children(layout: Layout, path: str, outcome: Outcome, view: Observed) -> Iterator[Finding]:
    """What is wrong in the directory of a service's endpoints."""
    within = f"{path}/"
    yield from _of_writes(layout, [op for op in outcome.ops if op.path.startswith(within)])
    for name in sorted(view.foreign):
        yield Finding(layout.name, within + name, "foreign", "nothing of ours")


def _of_writes(layout: Layout, writes: Iterable[Create | Set | Delete | Any]) -> Iterator[Finding]:
    for op in writes:
        match op:
            case Create(path, _):
                yield Finding(layout.name, path, "missing", "an RpcService publishes it")
            case Set(path, data, _):
                yield Finding(layout.name, path, "different", f"should be {data.decode()}")
            case Delete(path, _):
                yield Finding(layout.name, path, "orphaned", "no RpcService publishes it any more")


def _print(findings: Iterable[Finding]) -> None:
    table = Table("LAYOUT", "PATH", "STATE", "DETAIL", box=None, pad_edge=False)
    for finding in sorted(findings):
        table.add_row(finding.layout, finding.path, finding.state, finding.detail)
    if table.row_count:
        Console(markup=False).print(table)
    else:
        Console().print("in sync")
