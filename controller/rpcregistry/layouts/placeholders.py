"""The placeholders of templates: texts in which ``${field}`` stands for what an endpoint declares.

    ${field}                the field, or nothing if it is not declared
    ${field:-default}       the field, or *default* if it is not declared
    ${field|filter}         the field as the filter encodes it, a default included: ${field:-default|filter}
    $$                      a dollar

There is no more to it: no code, no conditions.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from rpcregistry.layouts import urls

FIELDS = (
    *("service", "pod", "node", "version", "group", "protocol"),
    *("ip", "host", "address", "port", "weight", "started", "metadata", "instance"),
)
NAMES_ONLY = ("id", "digits")  # made from the data, so only names can have them
NUMBERS = ("port", "weight", "started")
FILTERS: Mapping[str, Callable[[str], str]] = {"url": urls.encode}

_PLACEHOLDER = re.compile(
    r"""\$(?: (?P<dollar>\$) | \{ (?P<field> [a-z]+ (?:\.(?:(?!:-)[^|{}])+)? )
              (?: :- (?P<default>[^|{}]*) )? (?: \| (?P<filter>[^|{}]*) )? \} )?""",
    re.VERBOSE,
)


class Placeholder(msgspec.Struct, frozen=True):
    """One ``${…}``; *default*: what stands for an undeclared field, a number if the field is one."""

    field: str
    default: str | int | None = None
    filter: str = ""

    def value(self, look_up: "LookUp") -> Any:
        """The field, or its default; None if neither is there."""
        declared = look_up(self.field)
        found = self.default if declared is None else declared
        return FILTERS[self.filter](as_text(found)) if self.filter and found is not None else found


LookUp: TypeAlias = Callable[[str], Any]  # from a field's name to its value; None: not declared
Parts: TypeAlias = tuple[str | Placeholder, ...]


@lru_cache(maxsize=4096)  # a template has few texts, and each endpoint fills them again
def parse(text: str) -> Parts:
    """Take a text apart into plain text and placeholders; ``ValueError`` says what is wrong with it.

    >>> parse("a$$${port:-80}")
    ('a$', Placeholder(field='port', default=80, filter=''))
    """
    parts: list[str | Placeholder] = []
    plain, end = "", 0
    for found in _PLACEHOLDER.finditer(text):
        plain += text[end : found.start()]
        end = found.end()
        if found["dollar"]:
            plain += "$"
            continue
        if not found["field"]:
            raise ValueError(
                f"{text[found.start() :]!r}: write a placeholder ${{field}}, ${{field:-default}} or "
                "${field|filter}, and a dollar $$"
            )
        parts += [plain, _placeholder(found["field"], found["default"], found["filter"])]
        plain = ""
    parts.append(plain + text[end:])
    return tuple(part for part in parts if part != "")


def _placeholder(field: str, default: str | None, encode: str | None) -> Placeholder:
    if field not in (*FIELDS, *NAMES_ONLY) and not field.startswith("metadata."):
        raise ValueError(
            f"there is no field {field!r}; there is {', '.join(FIELDS)}, metadata.KEY; "
            f"and in a name {' and '.join(NAMES_ONLY)}"
        )
    if encode is not None and encode not in FILTERS:
        raise ValueError(
            f"${{{field}|{encode}}}: there is no filter {encode!r}; there is {', '.join(FILTERS)}, "
            "and a default is written ${weight:-1}"
        )
    if default is None or field not in (*NUMBERS, "metadata", *NAMES_ONLY):
        return Placeholder(field, default, encode or "")
    if field not in NUMBERS:
        raise ValueError(f"${{{field}:-{default}}}: {field} can have no default")
    if not re.fullmatch(r"[0-9]{1,18}", default):
        raise ValueError(f"${{{field}:-{default}}}: {field} is a number, so its default has to be one")
    return Placeholder(field, int(default), encode or "")


def fields(parts: Parts) -> set[str]:
    """The names of the fields in it."""
    return {part.field for part in parts if isinstance(part, Placeholder)}


def fill(parts: Parts, look_up: LookUp) -> str:
    """The text with its placeholders replaced; an undeclared field is empty."""
    return "".join(part if isinstance(part, str) else as_text(part.value(look_up)) for part in parts)


def as_text(value: Any) -> str:
    """A field's value within a text."""
    match value:
        case None:
            return ""
        case str():
            return value
        case _:
            return msgspec.json.encode(value).decode()
