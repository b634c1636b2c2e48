"""The way from a pod to its znode, hop by hop: where a service is stuck, why, and what to type.

Who asks may not see all of it.  A hop that could not be seen is neither right nor wrong.
"""

from collections.abc import Iterable, Sequence
from enum import Enum

import msgspec

from rpcregistry.model import ObjectKey, Pod, RpcService
from rpcregistry.plan.findings import Finding
from rpcregistry.plan.overview import NEXT, UNKNOWN, row
from rpcregistry.plan.pods import is_finished, is_withdrawn_with_node, names_service
from rpcregistry.plan.words import counted

MOST_PODS = 10  # named in a hop


class Seen(Enum):
    """How a hop is."""

    RIGHT = "right"
    WRONG = "wrong"
    UNSEEN = "unseen"


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """*what* it is about, and *why* it is so; *details*, a line each; *next*: what to type, or ``""``."""

    seen: Seen
    what: str
    why: str
    details: tuple[str, ...] = ()
    next: str = ""


class Warned(msgspec.Struct, frozen=True):
    """A Warning Event of ours about a pod or RpcService *name*."""

    name: str
    reason: str
    note: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that could be read about one service of one namespace (of several, if its *services* lie there).

    Each is a text if it could not be read: why.  *findings* of ZooKeeper are None if it was not asked;
    *warnings*: our Events about pods and RpcServices.
    """

    service: str
    namespace: str
    pods: Sequence[Pod] | str
    services: Sequence[RpcService] | str
    findings: Sequence[Finding] | str | None = None
    warnings: Sequence[Warned] = ()


def explain(evidence: Evidence) -> list[Hop]:
    """The hops of a service, from its pods to ZooKeeper."""
    return [_pods(evidence), *_objects(evidence), _zookeeper(evidence)]


def exit_code(hops: Iterable[Hop]) -> int:
    """0: published as it should be; 1: it is not; 2: that could not be seen."""
    seen = {hop.seen for hop in hops}
    return 1 if Seen.WRONG in seen else 2 if Seen.UNSEEN in seen else 0


# pods


def why_not(pod: Pod) -> str:
    """Why a pod that names a service is not published; ``""`` if it should be."""
    if pod.terminating:
        return "it is terminating"
    if is_finished(pod):
        return f"it has {pod.phase}"
    if not pod.ips:
        return "it has no address yet" + ("" if pod.node_name else ": it is not scheduled to a node")
    if not pod.ready:
        return "it is not Ready" + (": its node is silent" if pod.silenced else "")
    return ""


def _pods(evidence: Evidence) -> Hop:
    if isinstance(evidence.pods, str):
        return Hop(seen=Seen.UNSEEN, what="pods", why=f"not looked at: {evidence.pods}")
    naming = _serving(evidence)
    warned = {warning.name: warning for warning in _told(evidence)}
    ready = [pod for pod in naming if not why_not(pod)]
    details = [f"{pod.key}: {why}" for pod in naming if (why := why_not(pod))]
    details += [
        f"{pod.key}: {warned[pod.name].reason}: {warned[pod.name].note}"
        for pod in naming
        if pod.name in warned
    ]
    mistaken = [pod for pod in evidence.pods if pod in naming or not pod.declarations]
    mistaken = [pod for pod in mistaken if pod.problems or pod.hints]
    details += [
        f"{pod.key}{'' if pod in naming else ', which names no service that can be read'}: {said.message}"
        for pod in mistaken
        for said in (*pod.problems, *pod.hints)
    ]
    cut = _cut(details)
    denied = any(pod.name in warned for pod in naming)
    if not naming:
        why = f"no pod names {evidence.service}"
        next_ = f"kubectl describe pod {mistaken[0].name} -n {mistaken[0].namespace}" if mistaken else ""
        return Hop(
            seen=Seen.WRONG, what="pods", why=why, details=cut, next=next_ or "rpcregistry render FILE"
        )
    why = f"{counted(len(naming), 'pod')} {'names' if len(naming) == 1 else 'name'} it, {len(ready)} Ready"
    if ready and not denied:
        return Hop(seen=Seen.RIGHT, what="pods", why=why, details=cut)
    first = naming[0] if denied or not ready else ready[0]
    return Hop(
        seen=Seen.WRONG,
        what="pods",
        why=why if ready else f"{why}: clients find nobody",
        details=cut,
        next=f"kubectl describe pod {first.name} -n {first.namespace}",
    )


def _told(evidence: Evidence) -> list[Warned]:
    """The Events that still count: the API server keeps them for an hour, and much may be mended by then."""
    services = () if isinstance(evidence.services, str) else evidence.services
    listed = {line.pod_name for service in services for line in service.status.endpoints}
    # The pod itself shows what is wrong with its annotation now.
    return [
        found
        for found in evidence.warnings
        if found.name not in listed and found.reason not in ("InvalidAnnotation", "IgnoredAnnotation")
    ]


def _serving(evidence: Evidence) -> list[Pod]:
    """The pods that name the service, or that one of its RpcServices selects."""
    services = () if isinstance(evidence.services, str) else evidence.services
    selectors = [(found.namespace, found.spec.selector) for found in services if found.spec.selector]
    return [
        pod
        for pod in evidence.pods
        if isinstance(pod, Pod)
        and (
            any(declared.service_name == evidence.service for declared in pod.declarations)
            or any(ns == pod.namespace and selector.matches(pod.labels) for ns, selector in selectors)
        )
    ]


# RpcServices, and what they say of the registry


def _objects(evidence: Evidence) -> list[Hop]:
    if isinstance(evidence.services, str):
        unseen = f"not looked at: {evidence.services}"
        return [Hop(seen=Seen.UNSEEN, what="RpcService", why=unseen)]
    if not evidence.services:
        named = not isinstance(evidence.pods, str) and any(
            names_service(pod, evidence.service) for pod in evidence.pods
        )
        why = "there is none, though pods name it" if named else "there is none"
        said = tuple(f"{found.name}: {found.reason}: {found.note}" for found in evidence.warnings)
        return [Hop(seen=Seen.WRONG, what="RpcService", why=why, details=_cut(said), next=NEXT[UNKNOWN])]
    return [_listed(evidence, evidence.services), _synced(evidence.services)]


def _listed(evidence: Evidence, services: Sequence[RpcService]) -> Hop:
    found = row(services)
    objects = ", ".join(found.objects[:3]) + (
        f" and {len(found.objects) - 3} more" if len(found.objects) > 3 else ""
    )
    origin = f" ({' and '.join(found.origins)})" if found.origins else ""
    held = f", {found.held} held" if found.held else ""
    why = f"{objects}{origin}: {found.ready}/{found.total} Ready{held}"
    rows = {(at.namespace, line.pod_uid) for at in services for line in at.status.endpoints}
    lacking = [
        f"{pod.key}: it serves this, and no status lists it"
        for pod in _serving(evidence)
        if not isinstance(evidence.pods, str) and not why_not(pod) and (pod.namespace, pod.uid) not in rows
    ]
    unknown = [str(service.key) for service in services if not service.known]
    if unknown:
        why = f"{why}; no controller has looked at {', '.join(unknown)} yet"
    wrong = bool(lacking or unknown)
    details = _cut([*lacking, *_unreported_rows(services)])
    next_ = ""
    if lacking:  # an Event says why, or it is the controller's trouble
        told = {pod.name for pod in _serving(evidence)} & {found.name for found in _told(evidence)}
        first = services[0]
        describe = f"kubectl describe rpcservice {first.name} -n {first.namespace}"
        next_ = describe if told else "rpcregistry status"
    return Hop(
        seen=Seen.WRONG if wrong else Seen.RIGHT,
        what="RpcService",
        why=why,
        details=details,
        next=NEXT[UNKNOWN] if unknown else next_,
    )


def _unreported_rows(services: Iterable[RpcService]) -> list[str]:
    rows = [(service.namespace, line) for service in services for line in service.status.endpoints]
    held = "held: the pod is missing"
    withdrawn = "withdrawn: the pod's Node was deleted"
    return [
        f"{ObjectKey(namespace, line.pod_name)} ({line.ip}): {held if line.held else withdrawn}"
        for namespace, line in rows
        if line.held or is_withdrawn_with_node(line)
    ]


def _synced(services: Sequence[RpcService]) -> Hop:
    found = row(services)
    since = f", since {found.since}" if found.since else ""
    if found.synced:
        return Hop(seen=Seen.RIGHT, what="registry", why=f"{found.reason}: {found.message}{since}")
    return Hop(
        seen=Seen.WRONG,
        what="registry",
        why=f"{found.reason}: {found.message}{since}",
        next=found.next,
    )


# ZooKeeper itself


def _zookeeper(evidence: Evidence) -> Hop:
    if evidence.findings is None:
        why = "not asked: what the registry says counts; --zk-servers has it asked"
        return Hop(seen=Seen.RIGHT, what="ZooKeeper", why=why)
    if isinstance(evidence.findings, str):
        return Hop(
            seen=Seen.UNSEEN, what="ZooKeeper", why=f"not looked at: {evidence.findings}", next=NEXT[UNKNOWN]
        )
    bad = [f for f in evidence.findings if f.layout and f.state not in ("held", "foreign")]
    if not bad:
        return Hop(seen=Seen.RIGHT, what="ZooKeeper", why="its znodes are as they should be")
    details = _cut([f"{found.path} ({found.layout}): {found.state}: {found.detail}" for found in bad])
    return Hop(
        seen=Seen.WRONG,
        what="ZooKeeper",
        why=f"{counted(len(bad), 'znode')} not as they should be",
        details=details,
        next=f"rpcregistry verify --service {evidence.service}",
    )


# one pod


def explain_pod(pod: Pod, evidence: Sequence[Evidence], warnings: Sequence[Warned]) -> list[Hop]:
    """The hops of one pod: what it says, then those of each service that it names (*evidence*)."""
    said = [f"{problem.reason}: {problem.message}" for problem in (*pod.problems, *pod.hints)]
    told = [_told(found) for found in evidence] or [list(warnings)]
    said += [f"{found.reason}: {found.note}" for some in told for found in some if found.name == pod.name]
    details = _cut(dict.fromkeys(said))
    describe = f"kubectl describe pod {pod.name} -n {pod.namespace}"
    if not evidence:
        why = "it names no RPC service that can be read, and no RpcService selects it"
        return [Hop(seen=Seen.WRONG, what=f"pod {pod.key}", why=why, details=details, next=describe)]
    names = ", ".join(found.service for found in evidence)
    reason = why_not(pod)
    first = Hop(
        seen=Seen.WRONG if reason or said else Seen.RIGHT,
        what=f"pod {pod.key}",
        why=f"it serves {names}" + (f", and is not published: {reason}" if reason else ""),
        details=details,
        next=describe if reason or said else "",
    )
    hops = [first]
    for found in evidence:
        hops += _of_pod(pod, found, published=not reason)
    return hops


def _of_pod(pod: Pod, evidence: Evidence, *, published: bool) -> list[Hop]:
    """The hops of one of its services, as far as they concern the pod."""
    only = msgspec.structs.replace(evidence, pods=[pod])
    objects = _objects(only)
    if not published:  # it is right that no status lists it
        objects = objects[1:] or objects
    return [
        msgspec.structs.replace(hop, what=f"{hop.what} of {evidence.service}")
        for hop in (*objects, _zookeeper(evidence))
    ]


def _cut(lines: Iterable[str]) -> tuple[str, ...]:
    found = list(lines)
    more = [f"and {len(found) - MOST_PODS} more"] if len(found) > MOST_PODS else []
    return (*found[:MOST_PODS], *more)
