"""``rpcregistry check``: whether everything is installed and runs."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

import msgspec

from rpcregistry.commands.printing import report, seconds_since
from rpcregistry.commands.reading import FoundLease, attempt, beat_of, lease_of
from rpcregistry.errors import Absent, Failure
from rpcregistry.kube.client import Kube
from rpcregistry.leases import LEASE, NAMESPACE, own_namespace
from rpcregistry.manifests import GROUP, LOCALSERVICES, RPCSERVICES
from rpcregistry.plan.explain import Hop, Seen, exit_code
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.status import Look, keeps_up, leader, trouble
from rpcregistry.settings import Target
from rpcregistry.zookeeper.client import ZooKeeper

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NEWEST = {RPCSERVICES.plural: ("status", "origin"), LOCALSERVICES.plural: ("spec", "serviceLabels")}  # fields
AGAIN = 1.0  # seconds
APPLY = "kubectl apply -f crds/"


def check(
    kube: Kube, target: Target, *, lease_namespace: str, timeout: float, wait: float, output: str
) -> int:
    """Print each check; return 0 if all hold, 1 if one does not, 2 if one could not be made.

    *timeout*: seconds to wait for the connection to ZooKeeper; *wait*: seconds to wait until all hold.
    """
    deadline = time.monotonic() + wait
    found = checks(kube, target, lease_namespace, timeout)
    while exit_code(found) and time.monotonic() < deadline:
        time.sleep(AGAIN)
        found = checks(kube, target, lease_namespace, timeout)
    report("", found, output)
    return exit_code(found)


def checks(kube: Kube, target: Target, lease_namespace: str, timeout: float) -> list[Hop]:
    """Make each check once."""
    found = [_api(kube)]
    if found[0].seen is not Seen.RIGHT:
        return found
    found += [_kind(kube, plural) for plural in NEWEST]
    with ExitStack() as stack:
        zookeeper = attempt(
            lambda: stack.enter_context(ZooKeeper.connected_to(target.zk_servers, timeout, target.zk_access))
        )
        beat: Heartbeat | str | None
        if isinstance(zookeeper, str):
            seen, why, beat = Seen.WRONG, zookeeper, zookeeper
        else:
            seen, why = Seen.RIGHT, f"{target.zk_servers} answers"
            beat = attempt(lambda: beat_of(zookeeper, target.cluster_id or kube.cluster_id()))
    found.append(Hop(seen=seen, what="ZooKeeper", why=why))
    found += _controllers(kube, lease_namespace, beat, answers=seen is Seen.RIGHT)
    return [
        msgspec.structs.replace(hop, next="") if hop.next == "rpcregistry check" else hop for hop in found
    ]


def _api(kube: Kube) -> Hop:
    answer = attempt(lambda: msgspec.json.decode(kube.read("read the version", "/version")))
    if isinstance(answer, str):
        return Hop(seen=Seen.WRONG, what="API server", why=answer, next="kubectl cluster-info")
    return Hop(
        seen=Seen.RIGHT, what="API server", why=f"{kube.server} ({kube.context}) is {answer['gitVersion']}"
    )


def _kind(kube: Kube, plural: str) -> Hop:
    name = f"{plural}.{GROUP}"
    try:
        crd = kube.raw("GET", f"{CRDS}/{name}")
    except Absent:
        return Hop(seen=Seen.WRONG, what=plural, why=f"there is no kind {name}", next=APPLY)
    except Failure as failure:
        return Hop(seen=Seen.UNSEEN, what=plural, why=f"not looked at: {failure}")
    conditions = {found["type"]: found["status"] for found in crd.get("status", {}).get("conditions") or ()}
    if conditions.get("Established") != "True":
        return Hop(
            seen=Seen.WRONG, what=plural, why=f"{name} is not served yet", next=f"kubectl describe crd {name}"
        )
    part, field = NEWEST[plural]
    if field not in _properties(crd, part):
        why = f"{name} is older than this command: it has no {part}.{field}"
        return Hop(seen=Seen.WRONG, what=plural, why=why, next=APPLY)
    return Hop(seen=Seen.RIGHT, what=plural, why=f"{name} is served")


def _properties(crd: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    versions: Sequence[Mapping[str, Any]] = crd["spec"]["versions"]
    schema = versions[0].get("schema", {}).get("openAPIV3Schema", {})
    found: Mapping[str, Any] = schema.get("properties", {}).get(part, {}).get("properties", {})
    return found


def _controllers(
    kube: Kube, lease_namespace: str, beat: Heartbeat | str | None, *, answers: bool
) -> list[Hop]:
    heard = beat.lease.partition("/")[0] if isinstance(beat, Heartbeat) else ""
    namespace = lease_namespace or own_namespace() or heard or NAMESPACE
    lease = attempt(lambda: lease_of(kube, namespace))
    look = Look(
        lease=lease.lease if isinstance(lease, FoundLease) else lease,
        lease_name=f"{namespace}/{LEASE}",
        renewed=seconds_since(lease.lease.renewed) or 0.0 if isinstance(lease, FoundLease) else 0.0,
        beat=beat,
        beaten=seconds_since(beat.at) or 0.0 if isinstance(beat, Heartbeat) else 0.0,
        services=(),
        locals=(),
        kinds={},
        findings=(),
    )
    found = [leader(look), *([keeps_up(look)] if answers else []), *trouble(look)]
    ours, theirs = version("rpcregistry"), beat.version if isinstance(beat, Heartbeat) else ""
    if theirs and theirs != ours:
        why = f"this command is {ours}, the controller {theirs}"
        found.append(Hop(seen=Seen.RIGHT, what="versions", why=why))
    elif theirs:
        found.append(Hop(seen=Seen.RIGHT, what="versions", why=f"command and controller are {ours}"))
    return found
