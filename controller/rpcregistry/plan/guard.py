"""Whether what is absent may be withdrawn now, or has to wait; and what a person lets go.

Mirrors that trusted one empty or filtered answer have emptied whole registries.  So an absence that
a second quorum LIST confirms still has to be small, or to last, before it counts.

A person cuts a hold short by a new *word*, any text, in the release annotation.  No clock of a person's
machine says when it was given: what counts is that it is not the word that was there when the hold began.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

import msgspec

Id = TypeVar("Id", bound=Hashable)

FEW_ENDPOINTS = 10
SMALL_SHARE = 5  # one in five: 20 %

LEASE = "Lease"  # what carries a word for several services; all others are named by their uid
Words = Mapping[str, str]  # the release annotation of each object that stands for a subject; "" for none


class Verdict(msgspec.Struct, Generic[Id], frozen=True):
    """*withdraw* now; *hold*, and look again at the time given (seconds, the caller's clock)."""

    withdraw: frozenset[Id]
    hold: Mapping[Id, float]


def lease_word(value: str, services: Collection[str]) -> str:
    """The word that the Lease's annotation has for *services*: for all, or for those named behind it.

    >>> [lease_word(value, ["echo"]) for value in ("w1", "w1 other echo", "w1 other", "")]
    ['w1', 'w1 other echo', '', '']
    """
    named = value.split()[1:]
    return value if not named or not set(named).isdisjoint(services) else ""


def is_released(since: Words, now: Words) -> bool:
    """Whether the words *now* let go what is held since they were *since*: one is new, and not empty.

    What carries a word and did not stand for the subject when its hold began says nothing new.
    """
    return any(word not in ("", since.get(carrier, word)) for carrier, word in now.items())


def judge(
    absent: Mapping[Id, int],
    total: int,
    since: Mapping[Id, float],
    released: Iterable[Id],
    now: float,
    confirm: float,
    besides: int,
) -> Verdict[Id]:
    """Judge *absent*: what is missing, to how many endpoints each stands for.

    *total*: all endpoints listed; *since*: when each was first held; *released*: what a person let
    go; *confirm*: how long a large absence has to last, in seconds; *besides*: how many endpoints were
    withdrawn a moment ago or are about to be missing, too.  A large loss that comes in small pieces is
    no small one.

    >>> judge({"a": 1}, 3, {}, (), 0.0, 30.0, 0).withdraw
    frozenset({'a'})
    >>> judge({"a": 1, "b": 1}, 3, {"a": 0.0}, (), 5.0, 30.0, 0).hold
    {'a': 30.0, 'b': 35.0}
    """
    weight = sum(absent.values()) + besides
    if weight <= FEW_ENDPOINTS and weight <= max(1, total // SMALL_SHARE):
        return Verdict(frozenset(absent), {})
    until = {subject: since.get(subject, now) + confirm for subject in absent}
    gone = frozenset(released) & absent.keys()
    withdraw = gone | {subject for subject, end in until.items() if end <= now}
    return Verdict(withdraw, {subject: end for subject, end in until.items() if subject not in withdraw})
