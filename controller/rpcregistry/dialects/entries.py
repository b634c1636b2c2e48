"""What every dialect is made of: strict JSON, parts of JSON Schemas, and what to say of mistakes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from rpcregistry.dialects.schemas import Schema
from rpcregistry.model import Declaration

MOST_MISTAKES = 8  # reported for an entry


@dataclass(frozen=True, eq=False)
class Dialect:
    """*name* is what RPC processes choose it by.  *label* goes with *annotation*.

    *decode* turns the annotation into JSON; *declaration* reads one entry of that.  Both raise
    ``ValueError``.  *encode* and *entry* are their inverses.  *keys*: those of an entry; empty where any key
    says something.
    """

    name: str
    label: tuple[str, str]
    annotation: str
    decode: Callable[[str], str]
    declaration: Callable[[Any], Declaration]
    encode: Callable[[str], str]
    entry: Callable[[Declaration], Any]
    keys: tuple[str, ...] = ()


class Invalid(ValueError):
    """*mistakes*: what is wrong with an entry, by JSON pointer within the entry."""

    def __init__(self, mistakes: Mapping[str, str]) -> None:
        super().__init__(mistakes)
        self.mistakes = mistakes


# JSON, strictly


@dataclass(frozen=True)
class Repeated:
    """What an object is read as that has *key* more than once: readers disagree on what it says."""

    key: str


def parse(text: str) -> Any:
    """*text* as JSON; ``ValueError`` for what only Python takes for that.

    An object with a key twice is a ``Repeated``.
    """
    return json.loads(text, parse_constant=_refuse, parse_int=_integer, object_pairs_hook=_object)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _integer(digits: str) -> int | float:
    """Longer than 64 bits is a float: too large for everything, and not slow to read or to show."""
    return int(digits) if len(digits) < 20 else float(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Repeated:
    read: dict[str, Any] = {}
    for key, value in pairs:
        if key in read:
            return Repeated(key)
        read[key] = value
    return read


def shown(value: Any) -> str:
    """*value* as JSON, cut short, with what cannot be seen escaped: safe in a log and on a terminal."""
    text = json.dumps(value, default=_as_json, skipkeys=True, ensure_ascii=False)
    return cut("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text), 60)


def _as_json(value: object) -> Any:
    """What is no JSON: *value* may be an RPC process's own."""
    return {value.key: "..."} if isinstance(value, Repeated) else repr(value)


def cut(text: str, length: int) -> str:
    """*text*, of *length* characters at most."""
    return text if len(text) <= length else text[: length - 1] + "…"


# Parts of schemas

TEXT = {
    "type": "string",
    "format": "text",
    "message": "is not a text of at most 256 bytes without control characters",
}
SERVICE_NAME = {
    "type": "string",
    "format": "service name",
    "message": (
        "is not a service name: 1 to 253 of A-Z a-z 0-9 . _ $ -,"
        ' the first of them a letter or a digit, and not "zookeeper"'
    ),
}
DETAILS = {
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "version": TEXT,
    "group": TEXT,
    "protocol": TEXT,
    "weight": {"type": "integer", "minimum": 0, "maximum": 10000},
}
METADATA = {
    "type": "object",
    "maxProperties": 32,
    "propertyNames": TEXT,
    "additionalProperties": TEXT,
    "message": "has more than 32 keys",
}


def check(schema: Schema, value: Any, pointer: str = "") -> None:
    """Raise ``Invalid`` with the first mistakes in *value*, which lies at *pointer* in the entry."""
    if schema.holds(value):
        return
    mistakes: dict[str, str] = {}
    for error in islice(schema.errors(value), MOST_MISTAKES):
        path = "".join(f"/{_escaped(part)}" for part in error.absolute_path)
        mistakes.setdefault(pointer + path, _what(error))
    if mistakes:
        raise Invalid(mistakes)


def _escaped(part: str | int) -> str:
    return cut(json.dumps(str(part))[1:-1].replace("~", "~0").replace("/", "~1"), 60)


def _what(error: Any) -> str:
    if isinstance(error.instance, Repeated):
        return f"the key {shown(error.instance.key)} is there twice"
    if error.validator != "type" and isinstance(error.schema, Mapping) and "message" in error.schema:
        return f"{shown(error.instance)} {error.schema['message']}"
    return str(error.message).replace(repr(error.instance), shown(error.instance), 1)


def details_of(declared: Declaration) -> dict[str, Any]:
    """What *declared* says of the service beside its name, as an entry has it."""
    details = ((key, getattr(declared, key)) for key in DETAILS)
    return {key: value for key, value in details if value not in ("", None)}
