"""``rpcregistry purge``: on uninstall, withdraw all that the ledger names.

It leaves all other znodes.  Directories stay, since clients watch them.  The fence stays, since it keeps a
paused controller from writing all of it again.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import msgspec

from rpcregistry.commands.signs import Leases, SignsOfLife, find_leases, require_nobody, to_standard_error
from rpcregistry.commands.whereabouts import Whereabouts
from rpcregistry.errors import Failure, Rejected
from rpcregistry.kube.client import Kube
from rpcregistry.layouts import LAYOUTS, Layout
from rpcregistry.layouts.forms import PerEndpoint
from rpcregistry.leases import KubeLease, heard_namespace, own_namespace
from rpcregistry.plan import heartbeat
from rpcregistry.plan.heartbeat import Look
from rpcregistry.plan.ops import Delete, Op, batches
from rpcregistry.plan.outcome import Outcome
from rpcregistry.plan.publication import Publication, PublicationSettings
from rpcregistry.plan.znodes import plan
from rpcregistry.reconcile import ports
from rpcregistry.reconcile.cache import ZnodeCache
from rpcregistry.reconcile.fence import Fence
from rpcregistry.reconcile.lookout import Lookout
from rpcregistry.reconcile.uncovered import uncovered
from rpcregistry.runtime.clock import SystemClock
from rpcregistry.telemetry.audit import audit
from rpcregistry.zookeeper.access import Access
from rpcregistry.zookeeper.client import ZooKeeper


class Claim(msgspec.Struct, frozen=True):
    """A service path that the ledger says is ours; *layout* is None if no layout has that name."""

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
    wait: float,
    yes: bool,
) -> int:
    """Show what this cluster published, and with *yes* withdraw it; return 1 if something is left, else 0.

    *timeout*: seconds to wait for the connection to ZooKeeper; *wait*: seconds to wait for controllers to
    stop.  Raises ``Rejected`` while a controller runs.
    """
    kube = Kube.from_config(kubeconfig, context)
    settings = PublicationSettings(cluster_id or kube.cluster_id())
    where = Whereabouts.of(kube, settings.cluster_id, zk_servers).describe()
    with ZooKeeper.connected_to(zk_servers, timeout, zk_access) as zookeeper:
        claims = sorted(
            claimed(zookeeper, settings.clusters, templates), key=lambda claim: (claim.name, claim.path)
        )
        _show(where, claims)
        lookout = Lookout(zookeeper, settings.cluster_id, time.monotonic)
        lease = KubeLease(kube, lease_namespace or own_namespace() or heard_namespace(lookout))
        leases = _leases(kube, zk_servers, settings.cluster_id, lease)

        def signs() -> SignsOfLife:
            return SignsOfLife(lookout, leases, time.monotonic)

        watched = require_nobody(signs, wait, time.monotonic, time.sleep, to_standard_error)
        if yes:
            fence = Fence(zookeeper, settings.cluster_id, lambda: _require_still(watched))
            withdraw(zookeeper, fence, claims, settings)
            _leave_event(kube, lease, f"withdrew {_count(claims)}: {where}")
    going = sum(claim.layout is not None for claim in claims)
    sys.stdout.write(f"{going} services {'withdrawn' if yes else 'would be withdrawn: confirm with --yes'}\n")
    return 1 if yes and any(claim.layout is None for claim in claims) else 0


def _show(where: str, claims: Sequence[Claim]) -> None:
    sys.stdout.write(f"{where}: {_count(claims)}\n")
    for claim in claims:
        known = "" if claim.layout else f"  (left: no layout {claim.name!r} is known; give its --template)"
        sys.stdout.write(f"{claim.name}  {claim.path}{known}\n")
    sys.stdout.flush()  # the next step may take a while


def _count(claims: Collection[Claim]) -> str:
    """Count the services by layout.

    >>> _count([Claim("dubbo", "/d/a", None), Claim("dubbo", "/d/b", None)])
    '2 services (dubbo 2)'
    """
    layouts = Counter(claim.name for claim in claims)
    each = ", ".join(f"{name} {number}" for name, number in sorted(layouts.items()))
    return f"{len(claims)} services{f' ({each})' if each else ''}"


def _leases(kube: Kube, zk_servers: str, cluster_id: str, own: KubeLease) -> Callable[[str], Leases]:
    """Return a function that finds the Leases of this registry; it prints once which it cannot read."""
    said: set[str] = set()

    def say(line: str) -> None:
        if line and line not in said:
            to_standard_error(line)
        said.add(line)

    def look(named: str) -> Leases:
        """*named*, the Lease in the heartbeat, is ours, even if its holder spells ZooKeeper otherwise."""
        leases = find_leases(kube, [own.full_name.partition("/")[0]])
        say(leases.unseen)
        ours = []
        for found in leases.found:
            if found.name == named or found.is_of(cluster_id, zk_servers):
                ours.append(found)
            elif found.lease.holder and found.cluster_id == cluster_id:
                other = f"it names ZooKeeper {found.zookeeper}"
                say(f"the Lease {found.name} is taken for another registry's: {other}")
        return msgspec.structs.replace(leases, found=tuple(ours))

    return look


def _require_still(signs: SignsOfLife) -> None:
    look, who = signs.look()
    if look is not Look.CLEAR:
        raise Rejected(f"{who}: a controller was started meanwhile: stop it first")


def _leave_event(kube: Kube, lease: KubeLease, note: str) -> None:
    """Record an Event on the Lease, if there is one, and print the same."""
    try:
        lease.get()
    except Failure as failure:
        to_standard_error(f"no Event is left on the Lease {lease.full_name}: {failure}")
    sys.stdout.write(f"{audit(kube, lease.regarding, 'Purged', note)}\n")


def claimed(
    zookeeper: ports.ZooKeeper, clusters: Collection[str], templates: Mapping[str, PerEndpoint]
) -> Iterator[Claim]:
    """Yield what the ledger says is ours, of all layouts and base paths."""
    for name, path in uncovered(zookeeper, (), clusters):
        layout = Layout(name, path.rpartition("/")[0], templates.get(name))
        yield Claim(name, path, layout if name in {*LAYOUTS, *templates} else None)


def withdraw(
    zookeeper: ports.ZooKeeper, fence: Fence, claims: Collection[Claim], settings: PublicationSettings
) -> None:
    """Remove the znodes of *claims*, their entries in the ledger, and our heartbeat."""
    now = SystemClock().stamp()
    for claim in claims:
        if claim.layout is None:
            continue
        for grace_over in (
            False,
            True,
        ):  # the first pass marks ledger entries withdrawn, the second deletes them
            outcome = _plan(zookeeper, claim.layout, claim.path.rpartition("/")[2], settings, now, grace_over)
            for batch in batches(("", step) for step in outcome.steps):
                _commit(zookeeper, fence, [op for _, step in batch for op in step])
    path = heartbeat.path(settings.cluster_id)
    found = zookeeper.read([path])[path]
    if found:
        _commit(zookeeper, fence, [Delete(path, found.version)])


def _plan(
    zookeeper: ports.ZooKeeper,
    layout: Layout,
    service_name: str,
    settings: PublicationSettings,
    now: str,
    grace_over: bool,
) -> Outcome:
    cache = ZnodeCache(zookeeper, [layout], settings.clusters)
    cache.read([service_name])
    view = cache.view(layout, service_name)
    return plan(layout, service_name, Publication(), view, settings, now, grace_over)


def _commit(zookeeper: ports.ZooKeeper, fence: Fence, ops: list[Op]) -> None:
    zookeeper.commit([fence.check(), *ops])
