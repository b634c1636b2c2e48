"""``rpcregistry purge``: on uninstall, withdraw all that the ledger names.

What the ledger does not name stays, and so do directories and the fence: clients watch the one, and the
other keeps a controller that was only paused from writing it all again.
"""

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime

import msgspec

from controller.errors import Rejected
from controller.kube import Kube
from controller.layouts import LAYOUTS
from controller.layouts.forms import PerEndpoint
from controller.leases import LEASE, KubeLease, own_namespace
from controller.plan import heartbeat
from controller.plan.ledger import Layout
from controller.plan.ops import Delete, Op, batches
from controller.plan.outcome import Outcome
from controller.plan.publication import Publication, Settings
from controller.plan.znodes import plan
from controller.reconcile.fence import Fence
from controller.reconcile.memory import Memory, uncovered
from controller.reconcile.ports import Registry
from controller.zk import ZooKeeper
from controller.zkaccess import Access

LOOK_AGAIN = 0.5  # seconds between two looks at a Lease that somebody may renew


class Claim(msgspec.Struct, frozen=True):
    """A service path that the ledger says is ours; *layout* is None where nobody knows it."""

    name: str
    path: str
    layout: Layout | None


def purge_registry(
    *,
    kubeconfig: str | None,
    context: str | None,
    timeout: float,
    zk_servers: str,
    zk_access: Access,
    cluster_id: str,
    lease_namespace: str,
    templates: Mapping[str, PerEndpoint],
    yes: bool,
) -> int:
    """Show what would go, and withdraw it where *yes*; return the exit code: 1 where something is left.

    *timeout*: how many seconds ZooKeeper may take to answer first.
    """
    kube = Kube.from_config(kubeconfig, context)
    lease = KubeLease(kube, lease_namespace or own_namespace(), LEASE)
    settings = Settings(cluster_id or kube.cluster_id())
    with ZooKeeper.connected_to(zk_servers, timeout, zk_access) as zookeeper:
        require_free(lease, time.monotonic, time.sleep)
        claims = sorted(
            claimed(zookeeper, settings.clusters, templates), key=lambda claim: (claim.name, claim.path)
        )
        for claim in claims:
            known = (
                "" if claim.layout else f"  (left: no layout {claim.name!r} is known; give its --template)"
            )
            sys.stdout.write(f"{claim.name}  {claim.path}{known}\n")
        if yes:
            fence = Fence(
                zookeeper, settings.cluster_id, lambda: require_free(lease, time.monotonic, time.sleep)
            )
            withdraw(zookeeper, fence, claims, settings)
    going = sum(claim.layout is not None for claim in claims)
    sys.stdout.write(f"{going} services {'withdrawn' if yes else 'would be withdrawn: confirm with --yes'}\n")
    return 1 if yes and any(claim.layout is None for claim in claims) else 0


def require_free(lease: KubeLease, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    """Fail where somebody holds the Lease: it is renewed while we look, for as long as it lasts."""
    seen = lease.get()
    if seen is None or not seen.holder:
        return
    until = clock() + seen.seconds
    while clock() < until:
        sleep(LOOK_AGAIN)
        found = lease.get()
        if found is None or not found.holder:
            return
        if found.resource_version != seen.resource_version:
            raise Rejected(f"{found.holder} holds the Lease: stop the controllers first")


def claimed(
    registry: Registry, clusters: Collection[str], templates: Mapping[str, PerEndpoint]
) -> Iterator[Claim]:
    """What the ledger says is ours, of whatever layout and base path."""
    for name, path in uncovered(registry, (), clusters):
        layout = Layout(name, path.rpartition("/")[0], templates.get(name))
        yield Claim(name, path, layout if name in {*LAYOUTS, *templates} else None)


def withdraw(registry: Registry, fence: Fence, claims: Collection[Claim], settings: Settings) -> None:
    """Remove the znodes of *claims*, their entries in the ledger, and our heartbeat."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for claim in claims:
        if claim.layout is None:
            continue
        for grace_over in (False, True):  # what was withdrawn is remembered, and then forgotten
            outcome = _plan(registry, claim.layout, claim.path.rpartition("/")[2], settings, now, grace_over)
            for batch in batches(("", step) for step in outcome.steps):
                _commit(registry, fence, [op for _, step in batch for op in step])
    path = heartbeat.path(settings.cluster_id)
    found = registry.read([path])[path]
    if found:
        _commit(registry, fence, [Delete(path, found.version)])


def _plan(
    registry: Registry, layout: Layout, service_name: str, settings: Settings, now: str, grace_over: bool
) -> Outcome:
    memory = Memory(registry, [layout], settings.clusters)
    memory.read([service_name])
    view = memory.view(layout, service_name)
    return plan(layout, service_name, Publication(), view, settings, now, grace_over)


def _commit(registry: Registry, fence: Fence, ops: list[Op]) -> None:
    registry.commit([fence.check(), *ops])
