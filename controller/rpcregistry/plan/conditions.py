"""Conditions as the Kubernetes API conventions have them."""

from typing import Protocol

import msgspec

from rpcregistry.model import Condition
from rpcregistry.plan.held import count_in, is_endless, is_news


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
