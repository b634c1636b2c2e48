"""``rpcregistry status``: is all well, and if not, what is wrong and what to type."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from rpcregistry.commands.printing import report, seconds_since
from rpcregistry.commands.progress import Progress
from rpcregistry.commands.reading import FoundLease, attempt, beat_of, events, lease_of, listed
from rpcregistry.commands.report import Inspection
from rpcregistry.commands.verify import Inspector
from rpcregistry.commands.whereabouts import Whereabouts
from rpcregistry.errors import Retry
from rpcregistry.kube.client import Kube
from rpcregistry.leases import LEASE, NAMESPACE, own_namespace
from rpcregistry.manifests import LOCALSERVICES, NODES, PODS, RPCSERVICES
from rpcregistry.model import Pod
from rpcregistry.plan.explain import exit_code
from rpcregistry.plan.findings import Counts
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.scope import Scope, differences
from rpcregistry.plan.status import Look, status
from rpcregistry.settings import Target
from rpcregistry.zookeeper.client import ZooKeeper


def show_status(
    kube: Kube, target: Target, scope: Scope, *, lease_namespace: str, timeout: float, output: str
) -> int:
    """Print the state; return 0 if all is well, 1 if something is not, 2 if something could not be seen.

    *timeout*: seconds to wait for the connection to ZooKeeper.
    """
    where = attempt(lambda: Whereabouts.of(kube, target.cluster_id, target.zk_servers, target.layouts))
    if isinstance(where, str):
        sys.stderr.write(f"rpcregistry: cannot look: {where} (or give --cluster-id)\n")
        return 2
    with ExitStack() as stack:
        progress = stack.enter_context(Progress())
        progress("connecting to ZooKeeper …")
        zookeeper = attempt(
            lambda: stack.enter_context(ZooKeeper.connected_to(target.zk_servers, timeout, target.zk_access))
        )
        beat = (
            zookeeper if isinstance(zookeeper, str) else attempt(lambda: beat_of(zookeeper, where.cluster_id))
        )
        inspector = _inspector(kube, target, scope, where.cluster_id, zookeeper)
        progress("reading pods and RpcServices …")
        read = attempt(inspector.read)
        inspection = read if isinstance(read, str) else attempt(lambda: inspector.compare(*read, progress))
        pods = read if isinstance(read, str) else read[0].pods
        look = _look(kube, target, scope, lease_namespace, beat, pods, inspection)
    confirm = beat.guard_confirm if isinstance(beat, Heartbeat) else 0.0
    found = status(look, _until(confirm))
    report(where.describe(), found, output)
    return exit_code(found)


def _inspector(
    kube: Kube, target: Target, scope: Scope, cluster_id: str, zookeeper: ZooKeeper | str
) -> Inspector:
    def connect() -> ZooKeeper:
        if isinstance(zookeeper, str):
            raise Retry(zookeeper)
        return zookeeper

    return Inspector(
        kube=kube,
        connect=connect,
        layouts=target.layouts,
        scope=scope,
        settings=target.publication(cluster_id),
    )


def _look(
    kube: Kube,
    target: Target,
    scope: Scope,
    lease_namespace: str,
    beat: Heartbeat | str | None,
    pods: Sequence[Pod] | str,
    inspection: Inspection | str,
) -> Look:
    heard = beat.lease.partition("/")[0] if isinstance(beat, Heartbeat) else ""
    namespace = lease_namespace or own_namespace() or heard or NAMESPACE
    lease = attempt(lambda: lease_of(kube, namespace))
    services = attempt(lambda: listed(kube, RPCSERVICES, target.namespaces))
    locals_ = attempt(lambda: listed(kube, LOCALSERVICES, target.namespaces))
    one_of = target.namespaces[0] if target.namespaces else ""
    readable = attempt(lambda: kube.reader(PODS, one_of).newest_resource_version())
    nodes = attempt(lambda: kube.reader(NODES).newest_resource_version())
    told = attempt(lambda: events(kube, namespace, "Lease", warnings=False))
    return Look(
        lease=lease.lease if isinstance(lease, FoundLease) else lease,
        lease_name=f"{namespace}/{LEASE}",
        renewed=_since(lease.lease.renewed) if isinstance(lease, FoundLease) else 0.0,
        noted=sorted(lease.held[0]) if isinstance(lease, FoundLease) else (),
        beat=beat,
        beaten=_since(beat.at) if isinstance(beat, Heartbeat) else 0.0,
        services=services,
        locals=locals_,
        kinds={
            PODS.plural: _why(readable),
            "nodes": _why(nodes),
            "rpcservices": _why(services),
            "localservices": _why(locals_),
        },
        pods=pods,
        findings=inspection.findings if not isinstance(inspection, str) else inspection,
        counts=inspection.counts if not isinstance(inspection, str) else Counts(),
        differ=list(map(str, differences(scope, beat))) if isinstance(beat, Heartbeat) else (),
        events=[] if isinstance(told, str) else told,
    )


def _why(read: object) -> str:
    return read if isinstance(read, str) else ""


def _since(stamp: str) -> float:
    seconds = seconds_since(stamp)
    return 0.0 if seconds is None else seconds


def _until(confirm: float) -> Callable[[str], str]:
    """Say when a hold ends that began at a time, given for how long absences are held."""

    def until(since: str) -> str:
        began = seconds_since(since)
        if began is None or not confirm:
            return f"held since {since}" if since else "held"
        ends = (datetime.now(UTC) + timedelta(seconds=confirm - began)).strftime("%Y-%m-%dT%H:%M:%SZ")
        if began > confirm + 10:
            return f"held since {since}, without time limit while Nodes are silent or pods cannot be read"
        return f"held since {since}, withdrawn at {ends} unless the pods are there again"

    return until
