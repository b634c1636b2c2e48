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
) -> Outcome:
    """Return the writes that make one service path equal to *wanted*.

    *grace_over*: the ledger's entry was withdrawn longer ago than the ownership grace.  *due*: the names that
    an earlier plan ``deferred``.  Raises ``Broken`` if the steps break an invariant.
    """
    if not is_service_name(service_name):
        return Outcome(refusal=Problem("InvalidName", "the service name cannot be a znode's name"))
    match layout.form:
        case PerService() as form:
            path, entry = layout.path(service_name), ledger_path(layout, service_name, settings.cluster_id)
            outcome = OneZnode(form, path, entry, wanted, observed, settings).plan(now, grace_over)
        case PerEndpoint() as form:
            outcome = OneEach(form, layout, service_name, wanted, observed, settings, due).plan()
    # The policy is applied here only: both forms always plan removals.
    steps = (*outcome.steps, *(outcome.removals if settings.policy.removes else ()))
    check(layout, service_name, settings, observed, steps)
    return msgspec.structs.replace(outcome, steps=steps, removals=())


def synced(service: RpcService, wanted: Publication, outcomes: Iterable[Outcome]) -> Condition:
    """The Synced condition of an RpcService once *outcomes*, one a layout, were written.

    Of several reasons the first counts: Unreadable, Refused, Held, OwnedElsewhere, and what a layout says.
    """
    if service.unreadable:
        return _false(Problem("Unreadable", f"its spec cannot be read: {service.unreadable}"))
    unwritten = wanted.unwritten.get(service.namespace)
    if unwritten:
        return _false(unwritten)
    held = sum(row.held for row in service.status.endpoints)
    if held:
        message = (
            f"{held} listed pods are absent and stay published until that is confirmed; "
            "`rpcregistry release` withdraws them now"
        )
        return _false(Problem("Held", message))
    refusals = [wanted.refused.get(service.uid), *(outcome.refusal for outcome in outcomes)]
    refusal = next(filter(None, refusals), None)
    if refusal:
        return _false(refusal)
    return Condition(
        type="Synced",
        status="True",
        reason="InRegistry",
        message="the registry holds what the status lists",
    )


def _false(problem: Problem) -> Condition:
    return Condition(type="Synced", status="False", reason=problem.reason, message=problem.message)


def unavailable(seconds: float, reason: str = "") -> Condition:
    """The Synced condition of an RpcService whose change has waited for ZooKeeper for so many *seconds*."""
    message = (
        f"a change has waited for ZooKeeper for more than {seconds:.0f} s; it holds what was written before"
    )
    if reason:
        message += f": {reason}"
    return Condition(type="Synced", status="False", reason="RegistryUnavailable", message=message)
