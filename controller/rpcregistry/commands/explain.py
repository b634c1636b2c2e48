"""``rpcregistry explain``: the way from a pod to its znode, and where it is stuck.

It works with the rights of a tenant, and says what it could not see.
"""

import sys
from collections.abc import Callable, Sequence

from rpcregistry.commands.printing import cannot_look, report
from rpcregistry.commands.reading import attempt, events, listed
from rpcregistry.errors import Failure
from rpcregistry.kube.client import Kube
from rpcregistry.manifests import PODS, RPCSERVICES
from rpcregistry.model import ObjectKey, Pod, RpcService
from rpcregistry.plan.explain import Evidence, Warned, exit_code, explain, explain_pod
from rpcregistry.plan.findings import Finding
from rpcregistry.plan.overview import closest, of_name

Compare = Callable[[str], Sequence[Finding]]  # compares the znodes of a service; fails with a ``Failure``


def explain_one(kube: Kube, namespace: str, what: str, *, compare: Compare | None, output: str) -> int:
    """Explain *what*, a service, an RpcService or ``pod/NAME``; *namespace* ``""``: in all.

    *compare*: None if ZooKeeper is not to be asked.  Return 0 if it is published as it should be, 1 if not,
    2 if that could not be seen.
    """
    kind, slash, name = what.rpartition("/")
    if slash and kind in ("pod", "pods", "po"):
        return _explain_pod(kube, namespace, name, compare, output)
    name = name if slash and kind in ("rpcservice", "rpcservices", "rpc") else what
    services = attempt(lambda: listed(kube, RPCSERVICES, [namespace]))
    pods = attempt(lambda: listed(kube, PODS, [namespace]))
    if not isinstance(services, str) and not isinstance(pods, str):
        named = {declared.service_name for pod in pods for declared in pod.declarations}
        if name not in named and not of_name(services, name):
            known = {*named, *(service.service_name for service in services)}
            return _unknown(name, namespace, known, mistaken=[p for p in pods if p.problems or p.hints])
    found = explain(_evidence(kube, namespace, name, pods, services, compare))
    report(f"{name} in {_where(namespace)}", found, output)
    return exit_code(found)


def _evidence(
    kube: Kube,
    namespace: str,
    name: str,
    pods: Sequence[Pod] | str,
    services: Sequence[RpcService] | str,
    compare: Compare | None,
) -> Evidence:
    mine = services if isinstance(services, str) else of_name(services, name)
    service = mine[0].service_name if mine and not isinstance(mine, str) else name
    return Evidence(
        service=service,
        namespace=namespace,
        pods=pods,
        services=mine,
        findings=attempt(lambda: compare(service)) if compare else None,
        warnings=_warnings(kube, namespace),
    )


def _warnings(kube: Kube, namespace: str) -> list[Warned]:
    """Our Events about pods and RpcServices; none if they may not be read: they only say more."""
    found = [attempt(lambda kind=kind: events(kube, namespace, kind)) for kind in ("Pod", "RpcService")]  # type: ignore[misc]
    return [warning for some in found if not isinstance(some, str) for warning in some]


def _explain_pod(kube: Kube, namespace: str, name: str, compare: Compare | None, output: str) -> int:
    if not namespace:
        sys.stderr.write("rpcregistry: a pod has a namespace: name it by -n\n")
        return 2
    try:
        pod = kube.get(PODS, ObjectKey(namespace, name))
    except Failure as failure:
        return cannot_look(failure)
    if pod is None:
        pods = attempt(lambda: listed(kube, PODS, [namespace]))
        return _unknown(name, namespace, [] if isinstance(pods, str) else [p.name for p in pods], kind="pod")
    services = attempt(lambda: listed(kube, RPCSERVICES, [namespace]))
    names = {declared.service_name for declared in pod.declarations}
    if not isinstance(services, str):
        names |= {
            service.service_name
            for service in services
            if service.spec.selector and service.spec.selector.matches(pod.labels)
        }
    evidence = [_evidence(kube, namespace, one, [pod], services, compare) for one in sorted(names)]
    warnings = evidence[0].warnings if evidence else _warnings(kube, namespace)
    found = explain_pod(pod, evidence, warnings)
    report(f"pod {pod.key}", found, output)
    return exit_code(found)


def _unknown(
    name: str,
    namespace: str,
    names: Sequence[str] | set[str],
    kind: str = "service",
    mistaken: Sequence[Pod] = (),
) -> int:
    near = closest(name, names)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    elsewhere = "" if not namespace or kind == "pod" else " (-A looks in all namespaces)"
    sys.stderr.write(f"rpcregistry: no {kind} is called {name} in {_where(namespace)}{meant}{elsewhere}\n")
    for pod in mistaken[:1]:
        more = f" (and {len(mistaken) - 1} more)" if len(mistaken) > 1 else ""
        sys.stderr.write(
            f"rpcregistry: the annotation of pod {pod.key}{more} cannot be read in full:"
            f" rpcregistry explain pod/{pod.name} -n {pod.namespace}\n"
        )
    return 1


def _where(namespace: str) -> str:
    return f"namespace {namespace}" if namespace else "all namespaces"
