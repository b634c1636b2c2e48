"""Conditions as the Kubernetes API conventions have them."""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from rpcregistry.model import Condition, Problem, RpcService
from rpcregistry.plan.held import count_in, is_endless, is_news, pods_message

# Why an RpcService is not in the registry as it should be.  Of several reasons, Synced shows the first.
REASONS = (
    "Unreadable",
    "Refused",
    "Held",
    "OwnedElsewhere",
    "TooLarge",
    "InvalidName",
    "MissingPort",
    "RegistryUnavailable",
)
FOUND_BY_PODS = REASONS[:3]  # what the pod controller finds, whether or not a registry runs


class Status(Protocol):
    """The status of any kind."""

    @property
    def conditions(self) -> tuple[Condition, ...]: ...
    def condition(self, type_: str) -> Condition | None: ...


class Conditioned(Protocol):
    """An object with conditions in its status."""

    @property
    def generation(self) -> int: ...
    @property
    def status(self) -> Status: ...


def first_of(problems: Iterable[Problem | None]) -> Problem | None:
    """The problem that Synced shows, the earliest of those with the same reason; None if there is none."""
    return min(filter(None, problems), key=lambda problem: REASONS.index(problem.reason), default=None)


def not_synced(problem: Problem) -> Condition:
    """The Synced condition that shows *problem*."""
    return Condition(type="Synced", status="False", reason=problem.reason, message=problem.message)


def found_by_pods(service: RpcService, unwritten: Problem | None, endless: str = "") -> list[Problem]:
    """What the pod controller finds of *service*.

    *unwritten*: what it reports of refused writes; *endless*: why a hold has no time limit.
    """
    problems = [unwritten] if unwritten else []
    if service.unreadable:
        problems.append(Problem("Unreadable", f"its spec cannot be read: {service.unreadable}"))
    held = sum(row.held for row in service.status.endpoints)
    if held:
        problems.append(Problem("Held", pods_message(held, endless)))
    return problems


def with_condition(service: Conditioned, condition: Condition, now: str) -> tuple[Condition, ...]:
    """The object's conditions with *condition* in them; its transition time moves only with its status."""
    observed = service.status.condition(condition.type)
    moved = observed is None or observed.status != condition.status
    stamped = msgspec.structs.replace(
        condition,
        last_transition_time=now if moved or observed is None else observed.last_transition_time,
        observed_generation=service.generation,
    )
    others = [entry for entry in service.status.conditions if entry.type != condition.type]
    return tuple(sorted([*others, stamped], key=lambda entry: entry.type))


def says_the_same(observed: Condition, wanted: Condition) -> bool:
    """Whether *wanted* reports nothing new to a reader of *observed*.

    The count of held pods may change all the time; it is news when it has grown tenfold, or if the hold has a
    time limit no more, or again.
    """
    if observed.status == wanted.status == "True":
        return True  # in an older version's words, perhaps: an upgrade writes nothing
    if (observed.status, observed.reason) != (wanted.status, wanted.reason):
        return False
    if wanted.reason != "Held":
        return True
    grown = is_news(count_in(observed.message), count_in(wanted.message))
    return not grown and is_endless(observed.message) == is_endless(wanted.message)


def held_by(found: Conditioned) -> Condition | None:
    """The condition of *found* that reports a hold, or None."""
    condition = found.status.condition("Synced")
    return condition if condition and condition.reason == "Held" else None
