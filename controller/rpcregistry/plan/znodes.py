"""Which writes make ZooKeeper equal to what the RpcServices list, for one service name in one layout.

The operations of one *step* are one transaction.  If the steps are cut off anywhere, the next plan continues
from there.
"""

from collections.abc import Collection, Iterable

import msgspec

from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import PerEndpoint, PerService
from rpcregistry.model import Condition, Problem, RpcService
from rpcregistry.names import is_service_name
from rpcregistry.plan.conditions import first_of, found_by_pods, not_synced
from rpcregistry.plan.invariants import check
from rpcregistry.plan.ledger import ledger_path
from rpcregistry.plan.one_each import OneEach
from rpcregistry.plan.one_znode import OneZnode
from rpcregistry.plan.outcome import ObservedZnodes, Outcome
from rpcregistry.plan.publication import Publication, PublicationSettings


def plan(
    layout: Layout,
    service_name: str,
    wanted: Publication,
    observed: ObservedZnodes,
    settings: PublicationSettings,
    now: str,
    grace_over: bool = False,
    due: Collection[str] = (),
    spared: Collection[str] = (),
) -> Outcome:
    """Return the writes that make one service path equal to *wanted*.

    *grace_over*: the ledger's entry was withdrawn longer ago than the ownership grace.  *due*: the names that
    an earlier plan ``deferred``.  *spared*: items (``plan.leftovers``) that stay, though *wanted* lacks them.
    Raises ``Broken`` if the steps break an invariant.
    """
    if not is_service_name(service_name):
        return Outcome(refusal=Problem("InvalidName", "the service name cannot be a znode's name"))
    match layout.form:
        case PerService() as form:
            path, entry = layout.path(service_name), ledger_path(layout, service_name, settings.cluster_id)
            outcome = OneZnode(form, path, entry, wanted, observed, settings, spared).plan(now, grace_over)
        case PerEndpoint() as form:
            outcome = OneEach(form, layout, service_name, wanted, observed, settings, due, spared).plan()
    # The policy is applied here only: both forms always plan removals.
    steps = (*outcome.steps, *(outcome.removals if settings.policy.removes else ()))
    check(layout, service_name, settings, observed, steps)
    return msgspec.structs.replace(outcome, steps=steps, removals=())


def synced(
    service: RpcService, wanted: Publication, outcomes: Iterable[Outcome], told: Problem | None = None
) -> Condition:
    """The Synced condition of an RpcService once *outcomes*, one a layout, were written.

    *told*: what a pod controller in another process reported.
    """
    problem = first_of([told, *_known_before(service, wanted), *(outcome.refusal for outcome in outcomes)])
    if problem:
        return not_synced(problem)
    return Condition(
        type="Synced",
        status="True",
        reason="InRegistry",
        message="the registry holds what the status lists",
    )


def unavailable(
    service: RpcService,
    wanted: Publication,
    seconds: float,
    reason: str = "",
    told: Problem | None = None,
) -> Condition:
    """The Synced condition of an RpcService whose change has waited for ZooKeeper for so many *seconds*."""
    message = (
        f"a change has waited for ZooKeeper for more than {seconds:.0f} s; it holds what was written before"
    )
    if reason:
        message += f": {reason}"
    late = Problem("RegistryUnavailable", message)
    return not_synced(first_of([told, *_known_before(service, wanted), late]) or late)


def _known_before(service: RpcService, wanted: Publication) -> list[Problem | None]:
    """What keeps the service from the registry before anything is written."""
    found = found_by_pods(service, wanted.unwritten.get(service.namespace), wanted.endless)
    return [*found, wanted.refused.get(service.uid)]
