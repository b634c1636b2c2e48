"""Whether a pod is an endpoint, and of which services."""

from collections.abc import Container, Iterable, Sequence

import msgspec

from rpcregistry.dialects import LONGEST_MESSAGE
from rpcregistry.model import UNREPORTED, Endpoint, Pod, Problem
from rpcregistry.plan.publication import Place


def keeping(pod: Pod, published: Container[str]) -> Pod:
    """*pod*, where those of its refused addresses count that are *published* by an earlier version."""
    kept = tuple(ip for ip in pod.refused_ips if ip in published)
    return msgspec.structs.replace(pod, ips=(*kept, *pod.ips)) if kept else pod


def refused_address(pod: Pod) -> Problem | None:
    """What to report of a pod whose addresses clients cannot be sent to; None if it has one that they can."""
    if pod.ips or not pod.refused_ips:
        return None
    message = (
        f"{', '.join(pod.refused_ips)}: clients are never sent to such an address; one that was published "
        "before stays until the pod goes"
    )
    return Problem("AddressRefused", message)


def is_finished(pod: Pod) -> bool:
    """Whether all its containers have stopped for good."""
    return pod.phase in ("Succeeded", "Failed")


def is_listed(pod: Pod) -> bool:
    """Whether the pod is an endpoint at all, Ready or not.

    We withdraw a terminating pod at once: it still answers, but it is about to stop.  A finished pod (an
    evicted one is Failed) may keep its address in the API long after another pod got it.
    """
    return bool(pod.ips) and not pod.terminating and not is_finished(pod)


def names_service(pod: Pod, service_name: str) -> bool:
    """Whether the pod declares *service_name* and is not finished.

    Pods without an address and terminating ones count: a rolling update must not delete the RpcService
    between two pods.
    """
    return not is_finished(pod) and any(d.service_name == service_name for d in pod.declarations)


def left_services(old: Pod, new: Pod | None) -> set[str]:
    """The services of which a watch event shows that the pod *old* is no endpoint (any more)."""
    if is_finished(old):
        return set()
    serves = (
        {d.service_name for d in new.declarations} if new and new.uid == old.uid and is_listed(new) else ()
    )
    return {d.service_name for d in old.declarations}.difference(serves)


def asks_locality(pod: Pod, service_name: str) -> bool:
    """Whether the pod asks for node-local routing to the service and is not finished."""
    return not is_finished(pod) and any(
        declared.local and declared.service_name == service_name for declared in pod.declarations
    )


def as_reported(pod: Pod, deleted: Container[str]) -> Pod:
    """The pod as anybody can still report it, if the Nodes *deleted* are gone: on these, none is Ready.

    Its phase says why, in its row, too: a later process has no other sign that this Node was ever there.
    """
    if pod.ready and pod.node_name in deleted:
        return msgspec.structs.replace(pod, ready=False, silenced=True, phase=UNREPORTED)
    return pod


def is_withdrawn_with_node(row: Endpoint) -> bool:
    """Whether the pod of *row* was Ready, and was withdrawn because its Node had been deleted."""
    return not row.ready and row.phase == UNREPORTED


def is_unheard(pod: Pod, silent: Container[str], held: bool) -> bool:
    """Whether the pod may serve although it is not Ready: its Node does not report it.

    *silent*: the Nodes that report nothing.  *held*: the pod is held already.  Its kubelet may report it some
    seconds after the Node is Ready again; until then the pod stays unheard.
    """
    return pod.silenced and (held or pod.node_name in silent)


def newest_of(service_name: str, pods: Iterable[Pod], besides: Container[str]) -> list[Pod]:
    """The pods that name the service, and those with the uids *besides*, the newest first."""
    named = [pod for pod in pods if names_service(pod, service_name) or pod.uid in besides]
    # Those that have not started yet are the newest.
    return sorted(named, key=lambda pod: (not pod.started_at, pod.started_at, pod.name), reverse=True)


def silent_on(pod: Pod, service_name: str, besides: Container[Place] = ()) -> Pod:
    """The pod without what it declares of one service, but for the endpoints *besides*."""
    others = tuple(
        d for d in pod.declarations if d.service_name != service_name or (pod.uid, d.port) in besides
    )
    return msgspec.structs.replace(pod, declarations=others)


def in_one(problems: Sequence[Problem]) -> Problem:
    """*problems* of one pod as one: the first ones, as many as an Event holds, and the count of the rest.

    >>> in_one([Problem("R", message) for message in ("a", "b", "c" * 900, "d")]).message
    'a; b; and 2 more'
    """
    told = problems[0].message
    for number, problem in enumerate(problems[1:], start=1):
        if len(told) + len(problem.message) > LONGEST_MESSAGE:
            told += f"; and {len(problems) - number} more"
            break
        told += f"; {problem.message}"
    return Problem(problems[0].reason, told)


def addressed(pod: Pod | None) -> tuple[str, frozenset[str]] | None:
    """The pod's address and its service names, if the pod is a Ready endpoint; else None.

    A change of the pod that does not change this need not change a znode.
    """
    if pod is None or not is_listed(pod) or not pod.ready:
        return None
    return pod.ips[0], frozenset(declaration.service_name for declaration in pod.declarations)
