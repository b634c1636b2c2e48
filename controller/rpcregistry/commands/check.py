"""``rpcregistry check``: whether everything is installed and runs."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

import msgspec

from rpcregistry.commands.printing import report, seconds_since
from rpcregistry.commands.reading import FoundLease, attempt, beat_of, lease_of
from rpcregistry.kube.client import Kube
from rpcregistry.leases import LEASE, NAMESPACE, own_namespace
from rpcregistry.manifests import GROUP, LOCALSERVICES, RPCSERVICES, ApiType
from rpcregistry.plan.explain import Hop, Seen, exit_code
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.status import Look, keeps_up, leader, trouble
from rpcregistry.settings import Target
from rpcregistry.zookeeper.client import ZooKeeper

OPENAPI = "/openapi/v3"
NEWEST: Mapping[ApiType, tuple[str, str]] = {  # fields
    RPCSERVICES: ("status", "origin"),
    LOCALSERVICES: ("spec", "serviceLabels"),
}
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
    found += _kinds(kube)
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


def _kinds(kube: Kube) -> Iterator[Hop]:
    """Whether our kinds are served, as this command knows them."""
    schemas = attempt(lambda: _schemas(kube))
    for resource, (part, field) in NEWEST.items():
        name = f"{resource.plural}.{GROUP}"
        if isinstance(schemas, str):
            yield Hop(seen=Seen.UNSEEN, what=resource.plural, why=f"not looked at: {schemas}")
        elif (found := schemas.get(resource.kind)) is None:
            why = f"the kind {name} is not served"
            yield Hop(seen=Seen.WRONG, what=resource.plural, why=why, next=APPLY)
        elif field not in found.get("properties", {}).get(part, {}).get("properties", {}):
            why = f"{name} is older than this command: it has no {part}.{field}"
            yield Hop(seen=Seen.WRONG, what=resource.plural, why=why, next=APPLY)
        else:
            yield Hop(seen=Seen.RIGHT, what=resource.plural, why=f"{name} is served")


def _schemas(kube: Kube) -> Mapping[str, Any]:
    """The schemas that the API server serves of our group, by kind.

    Everybody may read them; the CRDs, few.
    """
    index = msgspec.json.decode(kube.read("list the schemas", OPENAPI))
    group = f"apis/{RPCSERVICES.api_version}"
    if group not in index["paths"]:
        return {}
    answer = msgspec.json.decode(kube.read(f"read the schemas of {GROUP}", f"{OPENAPI}/{group}"))
    return {name.rpartition(".")[2]: schema for name, schema in answer["components"]["schemas"].items()}


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
