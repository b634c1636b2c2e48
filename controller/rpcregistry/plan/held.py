"""The texts about holds: on the Lease, for those without an object, and when to repeat a count."""

import re
from collections.abc import Collection, Mapping

import msgspec

from rpcregistry.plan.restored import ALL

MOST_NAMED = 50  # services, in the annotation
NAMED_IN_NOTE = 3
GROWN = 10  # times
MISSING = {  # by the kind of the missing object
    "RpcService": "no RpcService lists {count} published endpoints",
    "LocalService": "no LocalService is there for {count} Services",
}


def annotation(names: Collection[str]) -> str | None:
    """The Lease's annotation that names held services: a JSON list, which ends with how many more there are.

    >>> annotation(["b", "a"]), annotation([])
    ('["a","b"]', None)
    """
    listed: list[str | int] = [*sorted(names)[:MOST_NAMED]]
    more = len(names) - len(listed)
    return msgspec.json.encode([*listed, *([more] if more else [])]).decode() if listed else None


def named(text: str) -> tuple[frozenset[str], int]:
    """Decode such an annotation: the services that it names, and how many more there are.

    >>> named('["a",7]') == (frozenset({"a"}), 7), named("of a person's") == (frozenset(), 0)
    (True, True)
    """
    try:
        listed = msgspec.json.decode(text, type=list[str | int])
    except msgspec.MsgspecError:
        return frozenset(), 0
    names = frozenset(entry for entry in listed if isinstance(entry, str))
    return names, sum(entry for entry in listed if isinstance(entry, int))


def note(kind: str, counts: Mapping[str, int], until: str) -> str:
    """The message of an Event about services whose *kind* of object is missing; *counts*: held, by name.

    *until*: ``""`` if the hold does not end by itself, because the API server was restored.
    """
    names = sorted(counts)
    more = f" and {len(names) - NAMED_IN_NOTE} more services" if len(names) > NAMED_IN_NOTE else ""
    which = names[0] if len(names) == 1 else "--all"
    what = f"{', '.join(names[:NAMED_IN_NOTE])}{more}: {MISSING[kind].format(count=sum(counts.values()))}"
    if not until:
        return f"{what} any more; they stay, since the API server was restored; {ALL}"
    return f"{what} any more; they stay until {until}; `rpcregistry release {which}` withdraws them now"


ENDLESS = "held without time limit"


def pods_message(count: int, endless: str) -> str:
    """The message of a condition about so many held pods; *endless*: why there is no time limit, or ``""``.

    >>> pods_message(9, "Nodes are silent (3 of 3)").partition(";")[0]
    '9 listed pods are held without time limit: Nodes are silent (3 of 3)'
    """
    what = f"{ENDLESS}: {endless}" if endless else "absent and stay published until that is confirmed"
    return f"{count} listed pods are {what}; `rpcregistry release` withdraws them now"


def nodes_message(count: int, endless: str) -> str:
    """The message of a condition about the Services of so many absent nodes, as ``pods_message``."""
    what = f"are {ENDLESS}: {endless}" if endless else "keep their Services until that is confirmed"
    return f"{count} nodes are absent and {what}; `rpcregistry release` removes them now"


def silence_note(silence: str) -> str:
    """The message of an Event about a common silence of Nodes."""
    return (
        f"{silence}: what runs there is held without time limit, until they report again; "
        "`rpcregistry release --all` withdraws it now"
    )


def is_endless(message: str) -> bool:
    """Whether a condition's message is about holds without time limit."""
    return ENDLESS in message


def is_news(reported: int, count: int) -> bool:
    """Whether to report *count* after *reported*: the first one, and one that is ten times as large."""
    return 0 < count >= GROWN * reported


def recounted(message: str, count: int) -> str:
    """The message with the *count* of now: an object keeps that with which its hold began.

    >>> recounted("2 listed pods are held without time limit", 12)
    '12 listed pods are held without time limit'
    """
    return re.sub(r"^\d+(?= )", str(count), message)


def count_in(message: str) -> int:
    """The count with which a message of ours begins; 0 if it has none.

    >>> count_in("11 listed pods are absent"), count_in("the registry holds what the status lists")
    (11, 0)
    """
    match = re.match(r"\d+(?= )", message)
    return int(match[0]) if match else 0
