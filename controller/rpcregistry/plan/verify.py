"""Where pods, RpcServices and znodes disagree.

The comparison uses the controllers' own plans: RpcServices are compared with the rows that
``plan.rows`` wants (``plan.listing``), and znodes with the writes that ``plan.znodes`` wants.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import PerEndpoint, PerService
from rpcregistry.model import Pod, RpcService
from rpcregistry.plan import znodes
from rpcregistry.plan.conditions import held_by
from rpcregistry.plan.findings import Finding
from rpcregistry.plan.ledger import decode_ledger
from rpcregistry.plan.listing import Statuses
from rpcregistry.plan.ops import Create, Delete, Op, Set
from rpcregistry.plan.outcome import ObservedZnodes, Outcome
from rpcregistry.plan.pods import is_finished
from rpcregistry.plan.publication import (
    ALL_LISTED,
    Adopt,
    Publication,
    PublicationSettings,
    Unlisted,
    publication,
)
from rpcregistry.watch import Unreadable

RESTORED = "the API server was restored to an older state: nothing changes before a release or a watch event"

MOST_SHOWN = 10  # addresses in a detail

Views = Sequence[tuple[Layout, Mapping[str, ObservedZnodes]]]  # by layout, and by service name


class Cluster(msgspec.Struct, frozen=True):
    """The objects of *namespaces* (all, if there are none).

    *unreadable*: RpcServices and pods that could not be decoded.  *held*: the names of services whose removal
    a guard holds without an RpcService that says so.  *restored*: the API server counts as restored, so every
    difference waits for a release.
    """

    pods: Sequence[Pod]
    services: Sequence[RpcService]
    namespaces: Collection[str] = ()
    unreadable: Sequence[Unreadable] = ()
    held: Collection[str] = ()
    restored: bool = False

    def only(self, names: Collection[str]) -> "Cluster":
        """The cluster as far as it concerns the services *names*."""
        pods = [
            msgspec.structs.replace(
                pod, declarations=tuple(d for d in pod.declarations if d.service_name in names)
            )
            for pod in self.pods
        ]
        services = [service for service in self.services if service.service_name in names]
        return msgspec.structs.replace(self, pods=pods, services=services)

    @property
    def named(self) -> set[str]:
        """The services that pods declare, whether or not a controller has seen the pods."""
        return {
            declaration.service_name
            for pod in self.pods
            if not is_finished(pod)
            for declaration in pod.declarations
        }

    @property
    def waiting(self) -> set[str]:
        """The names of services with a hold."""
        return {service.service_name for service in self.services if held_by(service)} | set(self.held)


def findings_of(
    cluster: Cluster, views: Views, settings: PublicationSettings, kept_up: bool
) -> list[Finding]:
    """All deviations; *kept_up*: controllers have run for this cluster.

    Before that, a service that is to be adopted is one finding, and its pods are none.
    """
    statuses = Statuses(cluster.pods, cluster.services)
    unlisted = statuses.unlisted()
    of_znodes = (
        finding
        for layout, names in views
        for finding in findings_of_znodes(layout, cluster, names, settings, unlisted)
    )
    found = list(dict.fromkeys(of_znodes))  # services may share a directory, and what is foreign in it
    adopted = {finding.path.rpartition("/")[2] for finding in found if finding.state == "would be adopted"}
    return [*_of_objects(cluster), *statuses.findings(() if kept_up else adopted), *found]


def _of_objects(cluster: Cluster) -> Iterator[Finding]:
    """The holds that RpcServices report, and the objects that cannot be decoded."""
    for unreadable in cluster.unreadable:
        yield Finding("", str(unreadable.key), "unreadable", unreadable.message)
    for service in cluster.services:
        condition = held_by(service)
        if condition and not any(row.held for row in service.status.endpoints):
            yield Finding("", str(service.key), "held", condition.message)


def findings_of_znodes(
    layout: Layout,
    cluster: Cluster,
    views: Mapping[str, ObservedZnodes],
    settings: PublicationSettings,
    unlisted: Mapping[str, Unlisted] = {},
) -> Iterator[Finding]:
    """The deviations of the services in *views*, by name.

    A service is frozen if the ledger names a namespace that was not read, or not in full.  *unlisted*, by
    name: endpoints that no status lists; if they are published, they stay.
    """
    by_name: dict[str, list[RpcService]] = defaultdict(list)
    for service in cluster.services:
        by_name[service.service_name].append(service)
    named, waiting = cluster.named, cluster.waiting
    blurred = {unreadable.key.namespace for unreadable in cluster.unreadable}
    for name, view in sorted(views.items()):
        claims = [decode_ledger(entry.data) for entry in (view.ledger, view.previous) if entry]
        published = {namespace for claim in claims for namespace in claim.namespaces}
        unseen = bool(cluster.namespaces) and not published <= set(cluster.namespaces)
        frozen = unseen or bool(published & blurred)
        wanted = publication(by_name.get(name, []), frozen, settings, unlisted=unlisted.get(name, ALL_LISTED))
        awaited = name in named and settings.adopt is not Adopt.NEVER
        found = _of_view(layout, name, wanted, view, settings, awaited)
        if cluster.restored:
            found = [msgspec.structs.replace(each, state="held", detail=RESTORED) for each in found]
        elif name in waiting and not wanted.frozen:
            kept = _of_view(
                layout, name, msgspec.structs.replace(wanted, frozen=True), view, settings, awaited
            )
            found = [*kept, *_held(found, kept)]
        yield from found


def _held(found: Iterable[Finding], kept: Iterable[Finding]) -> Iterator[Finding]:
    """The held removals: findings that a frozen plan (*kept*) does not have."""
    others = {finding.path for finding in kept}
    for finding in found:
        if finding.path not in others:
            detail = "its removal waits until what is absent is confirmed"
            yield Finding(finding.layout, finding.path, "held", detail)


def _of_view(
    layout: Layout,
    name: str,
    wanted: Publication,
    view: ObservedZnodes,
    settings: PublicationSettings,
    awaited: bool,
) -> list[Finding]:
    path = layout.directory(name)
    outcome = znodes.plan(layout, name, wanted, view, settings, "", due=view.children)
    found: list[Finding] = []
    if outcome.refusal and (wanted.endpoints or wanted.services or wanted.refused):
        reason = f"{outcome.refusal.reason}: {outcome.refusal.message}"
        found.append(Finding(layout.name, path, "refused", reason))
    if isinstance(layout.form, PerService):
        found += _of_znode(layout, path, outcome, view, wanted, awaited)
    else:
        found += _of_children(layout, name, outcome, view)
    return found


def _of_znode(
    layout: Layout, path: str, outcome: Outcome, view: ObservedZnodes, wanted: Publication, awaited: bool
) -> Iterator[Finding]:
    """Findings about the one znode of a service; *awaited*: pods declare it, so it will be published."""
    writes = [op for op in outcome.ops if op.path == path]
    if outcome.refusal and wanted.endpoints:
        return
    if view.ledger is None and view.znode and awaited and not wanted.services and not view.znode.ephemeral:
        detail = "it existed before, and pods name it, but no RpcService does yet"
        yield Finding(layout.name, path, "would be adopted", f"{detail}{_losses(layout, view, wanted)}")
    elif view.ledger is None and view.znode and not wanted.endpoints:
        yield Finding(layout.name, path, "foreign", "not ours")
    elif wanted.frozen and not writes:
        return
    elif view.ledger is None and view.znode:
        detail = "it existed before, and an RpcService publishes it now"
        yield Finding(layout.name, path, "would be adopted", f"{detail}{_losses(layout, view, wanted)}")
    elif not (wanted.endpoints or wanted.unlisted) and outcome.ops:
        yield Finding(layout.name, path, "orphaned", "the ledger names it, and no RpcService publishes it")
    else:
        yield from _of_writes(layout, writes)


def _losses(layout: Layout, view: ObservedZnodes, wanted: Publication) -> str:
    """Which addresses the adoption would withdraw, as the end of a detail; ``""`` if none."""
    if wanted.frozen or view.znode is None or not isinstance(layout.form, PerService):
        return ""
    stay = {row.ip for row in (*wanted.endpoints, *wanted.unlisted)}
    lost = [address for address in layout.form.addresses(view.znode.data) if address not in stay]
    if not lost:
        return ""
    named = ", ".join(lost[:MOST_SHOWN])
    more = f" and {len(lost) - MOST_SHOWN:,} more" if len(lost) > MOST_SHOWN else ""
    return f"; it will lose {named}{more}: no Ready pod of the service has such an address"


def _of_children(layout: Layout, name: str, outcome: Outcome, view: ObservedZnodes) -> Iterator[Finding]:
    """Findings about a service's endpoints, and about static znodes that are missing."""
    static = {path for path in view.missing if layout.content(name, path)}
    yield from _of_writes(
        layout, [op for op in outcome.ops if layout.is_child(name, op.path) or op.path in static]
    )
    for child in sorted(view.foreign):
        yield Finding(layout.name, f"{layout.directory(name)}/{child}", "foreign", "not ours")


def _of_writes(layout: Layout, writes: Iterable[Op]) -> Iterator[Finding]:
    for op in writes:
        match op:
            case Create(path, _):
                yield Finding(layout.name, path, "missing", "an RpcService publishes it")
            case Set(path, data, _):
                yield Finding(
                    layout.name, path, "different", f"should be {data.decode(errors='backslashreplace')}"
                )
            case Delete(path, _):
                yield Finding(layout.name, path, "orphaned", "no RpcService publishes it any more")


def ours(layout: Layout, view: ObservedZnodes, settings: PublicationSettings) -> int:
    """The number of a service's znodes that are ours."""
    if isinstance(layout.form, PerEndpoint):
        return len(view.children)
    owner = decode_ledger(view.ledger.data).cluster if view.ledger else ""
    return int(view.znode is not None and owner in settings.clusters)
