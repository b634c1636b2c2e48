"""``rpcregistry verify``: whether the registry holds what the RpcServices list."""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from controller.errors import Failure
from controller.kube import Kube
from controller.manifests import RPCSERVICES
from controller.model import RpcService
from controller.plan import znodes
from controller.zk import ZooKeeper

CONNECT_TIMEOUT = 15.0


class Finding(msgspec.Struct, frozen=True, order=True, rename="camel"):
    """One path that is not as it should be.

    *state*: ``missing``, ``different``, ``orphaned`` (the ledger names it, no RpcService does),
    ``would be adopted``, ``refused``, or ``foreign`` (nobody we know; no drift).
    """

    layout: str
    path: str
    state: str
    detail: str = ""


def verify_registry(
    *, output: str, kubeconfig: str | None, namespaces: tuple[str, ...], zk_servers: str, **options: Any
) -> int:
    """Print what differs; return the exit code: 0 in sync, 1 drift, 2 could not look."""
    try:
        findings = list(_look(kubeconfig, namespaces, zk_servers, **options))
    except Failure as failure:
        sys.stderr.write(f"rpcregistry: cannot look: {' '.join(str(failure).split())}\n")
        return 2
    if output == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode({"findings": findings})).decode() + "\n")
    else:
        _print(findings)
    return 1 if any(finding.state != "foreign" for finding in findings) else 0


def _look(
    kubeconfig: str | None,
    namespaces: tuple[str, ...],
    zk_servers: str,
    layouts: Sequence[znodes.Layout],
    **options: Any,
) -> Iterator[Finding]:
    kube = Kube.from_config(kubeconfig)
    services = [
        service for namespace in namespaces or ("",) for service in kube.list(RPCSERVICES, namespace).items
    ]
    settings = znodes.Settings(**{**options, "cluster_id": options["cluster_id"] or kube.cluster_id()})
    with ZooKeeper.connected_to(zk_servers, CONNECT_TIMEOUT) as zookeeper:
        for layout in layouts:
            names = {service.service_name for service in services}
            entries = {layout.service_name(entry): entry for entry in zookeeper.children(layout.ledger_root)}
            ledgered = {name for name in entries if name}
            present = set(zookeeper.children(layout.base))
            paths = {name: layout.path(name) for name in names | ledgered | present}
            observed = zookeeper.read(
                [path for name in paths for path in (paths[name], layout.ledger_path(paths[name]))]
            )
            yield from findings_of(layout, services, paths, observed, settings, namespaces)


def findings_of(
    layout: znodes.Layout,
    services: Sequence[RpcService],
    paths: Mapping[str, str],
    observed: Mapping[str, znodes.Znode | None],
    settings: znodes.Settings,
    namespaces: Collection[str],
) -> Iterator[Finding]:
    """What is not as it should be among *paths* (by service name), as they were *observed*.

    *services* are those of *namespaces* (all, where none is given): what the ledger says of others stays.
    """
    by_name: dict[str, list[RpcService]] = {}
    for service in services:
        by_name.setdefault(service.service_name, []).append(service)
    for name, path in sorted(paths.items()):
        view = znodes.Observed(observed.get(path), observed.get(layout.ledger_path(path)))
        if name not in by_name and view.ledger is None:
            if view.znode:
                yield Finding(layout.name, path, "foreign", "nothing of ours")
            continue
        published = znodes.decode_ledger(view.ledger.data).namespaces if view.ledger else ()
        unseen = bool(namespaces) and not set(published) <= set(namespaces)
        wanted = znodes.publication(by_name.get(name, []), unseen, settings)
        outcome = znodes.plan(layout, name, wanted, view, settings, "")
        finding = _finding(outcome, view, wanted, path)
        if finding:
            yield Finding(layout.name, path, *finding)


def _finding(
    outcome: znodes.Outcome, view: znodes.Observed, wanted: znodes.Publication, path: str
) -> tuple[str, str] | None:
    writes = [op for op in outcome.ops if op.path == path]
    if outcome.refusal:
        return "refused", f"{outcome.refusal.reason}: {outcome.refusal.message}"
    if wanted.frozen and not writes:
        return None
    if view.ledger is None and view.znode and not wanted.endpoints:
        return "foreign", "nothing of ours"
    if view.ledger is None and view.znode:
        return "would be adopted", "it was there before, and an RpcService publishes it now"
    if not wanted.endpoints and outcome.ops:
        return "orphaned", "the ledger names it, and no RpcService publishes it"
    for op in writes:
        match op:
            case znodes.Create():
                return "missing", "an RpcService publishes it"
            case znodes.Set(_, data, _):
                return "different", f"should be {data.decode()}"
    return None


def _print(findings: Iterable[Finding]) -> None:
    table = Table("LAYOUT", "PATH", "STATE", "DETAIL", box=None, pad_edge=False)
    for finding in sorted(findings):
        table.add_row(finding.layout, finding.path, finding.state, finding.detail)
    if table.row_count:
        Console(markup=False).print(table)
    else:
        Console().print("in sync")
