"""Whether to withdraw what is absent now, or to hold it; and whether a person released it.

Controllers that trusted one empty or filtered answer have emptied whole registries.  So even if a second
quorum LIST confirms an absence, it has to be small, or to last, before it counts.

A person ends a hold by a new *word*, any text, in the release annotation.  We do not compare clocks to learn
when the person wrote it: a word is new if it differs from the one at the hold's beginning.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

import msgspec

from rpcregistry.plan.silence import LEAST

Id = TypeVar("Id", bound=Hashable)

FEW_ENDPOINTS = 10
SMALL_SHARE = 5  # one in five: 20 %

LEASE = "Lease"  # carries words for several services; all other carriers are named by their uid
Words = Mapping[str, str]  # the release annotation of each object that stands for a subject; "" for none


class Verdict(msgspec.Struct, Generic[Id], frozen=True):
    """*withdraw*: now.  *hold*: until the given time, in seconds on the caller's clock; then look again.

    Infinity: without time limit.
    """

    withdraw: frozenset[Id]
    hold: Mapping[Id, float]


def lease_word(value: str, services: Collection[str]) -> str:
    """The Lease's word for *services*: it is for all, or for those that are named behind it.

    >>> [lease_word(value, ["echo"]) for value in ("w1", "w1 other echo", "w1 other", "")]
    ['w1', 'w1 other echo', '', '']
    """
    named = value.split()[1:]
    return value if not named or not set(named).isdisjoint(services) else ""


def is_released(since: Words, now: Words) -> bool:
    """Whether one of the words *now* is new and not empty; *since*: the words when the hold began.

    If a carrier did not stand for the subject when its hold began, its word is not new.
    """
    return any(word not in ("", since.get(carrier, word)) for carrier, word in now.items())


def counts_of(text: str) -> dict[str, int]:
    """The counts by name that *text* has: ``NAME=COUNT …``.

    >>> counts_of("pods=3 registry=11 ?")
    {'pods': 3, 'registry': 11}
    """
    pairs = (word.partition("=") for word in text.split())
    return {name: int(count) for name, _, count in pairs if count.isdecimal() and len(count) < 10}


def text_of(counts: Mapping[str, int]) -> str:
    """*counts* as a text, without those that are 0.

    >>> text_of({"registry": 11, "pods": 3, "nodes": 0})
    'pods=3 registry=11'
    """
    return " ".join(f"{name}={count}" for name, count in sorted(counts.items()) if count)


def judge(
    absent: Mapping[Id, int],
    total: int,
    since: Mapping[Id, float],
    released: Iterable[Id],
    now: float,
    confirm: float,
    besides: int,
    begins: Mapping[Id, float] = {},
) -> Verdict[Id]:
    """Decide which of *absent* to withdraw: each missing subject, with its number of endpoints.

    *total*: all endpoints listed.  *since*: when each was first held.  *released*: the subjects that a person
    released.  *confirm*: how long a large absence has to last, in seconds.  *besides*: how many other
    endpoints were withdrawn a moment ago or are about to be missing.  They count, since a large loss may come
    in small pieces.  *begins*: the subjects that are there but not heard of, with the time when their wait
    begins (``plan.silence``).  They wait even if they are few, so that a common silence can show.

    >>> judge({"a": 1}, 3, {}, (), 0.0, 30.0, 0).withdraw
    frozenset({'a'})
    >>> judge({"a": 1, "b": 1}, 3, {"a": 0.0}, (), 5.0, 30.0, 0).hold
    {'a': 30.0, 'b': 35.0}
    >>> judge({"a": 1}, 3, {}, (), 5.0, 30.0, 0, begins={"a": 2.0}).hold
    {'a': 17.0}
    """
    weight = sum(absent.values()) + besides
    few = weight <= FEW_ENDPOINTS and weight <= max(1, total // SMALL_SHARE)

    def ends(subject: Id) -> float:
        begin = begins.get(subject)
        if begin is None:
            return now if few else since.get(subject, now) + confirm
        return begin + LEAST if few else max(begin, since.get(subject, now)) + max(confirm, LEAST)

    until = {subject: ends(subject) for subject in absent}
    let_go = frozenset(released)
    withdraw = frozenset(subject for subject, end in until.items() if end <= now or subject in let_go)
    return Verdict(withdraw, {subject: end for subject, end in until.items() if subject not in withdraw})
