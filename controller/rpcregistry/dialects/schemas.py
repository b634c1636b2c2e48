"""JSON Schemas of annotations' entries: what is valid, and what to say of what is not.

Almost every entry is valid.  ``Schema.holds`` finds that out faster than jsonschema, which takes
5 MB and is imported for the first mistake only.  It has the last word, and the words.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from rpcregistry.names import is_service_name

_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def is_text(text: object) -> bool:
    """Whether *text* is short, can be written as UTF-8, and is one line that shows all there is in it."""
    return not isinstance(text, str) or (not _UNPRINTABLE.search(text) and len(text.encode()) <= 256)


def _is_service_name(name: object) -> bool:
    return not isinstance(name, str) or is_service_name(name)


FORMATS: Mapping[str, Callable[[object], bool]] = {"service name": _is_service_name, "text": is_text}
TYPES: Mapping[str, type] = {"object": dict, "string": str, "boolean": bool, "integer": int}


class Schema:
    """A JSON Schema of the keywords below; "message" is ours: what to say in place of jsonschema's words."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema

    def holds(self, value: Any) -> bool:
        """Whether *value* is valid."""
        return _holds(self.schema, value)

    def errors(self, value: Any) -> Iterator[Any]:
        """What jsonschema finds in *value*: its ``ValidationError``s."""
        return iter(self.validator.iter_errors(value))

    @cached_property
    def validator(self) -> Any:
        """The schema as jsonschema has it."""
        from jsonschema import Draft202012Validator, FormatChecker, validators

        formats = FormatChecker(formats=())
        for name, check in FORMATS.items():
            formats.checks(name)(check)
        # To JSON Schema 8080.0 is an integer.
        types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: _is(value, "integer"))
        kind: Any = validators.extend(Draft202012Validator, type_checker=types)  # type: ignore[no-untyped-call]
        return kind(self.schema, format_checker=formats)


def _holds(schema: Mapping[str, Any], value: Any) -> bool:
    return all(_KEYWORDS[keyword](schema, wanted, value) for keyword, wanted in schema.items())


def _is(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_type(_: object, wanted: str | list[str], value: Any) -> bool:
    return any(_is(value, name) for name in ([wanted] if isinstance(wanted, str) else wanted))


def _has_properties(_: object, wanted: Mapping[str, Any], value: Any) -> bool:
    return not isinstance(value, dict) or all(
        _holds(schema, value[key]) for key, schema in wanted.items() if key in value
    )


def _has_others(schema: Mapping[str, Any], wanted: Mapping[str, Any], value: Any) -> bool:
    known = schema.get("properties", ())
    return not isinstance(value, dict) or all(
        _holds(wanted, found) for key, found in value.items() if key not in known
    )


_KEYWORDS: Mapping[str, Callable[[Mapping[str, Any], Any, Any], bool]] = {
    "type": _has_type,
    "required": lambda _, keys, value: not isinstance(value, dict) or all(key in value for key in keys),
    "properties": _has_properties,
    "propertyNames": lambda _, names, value: (
        not isinstance(value, dict) or all(_holds(names, key) for key in value)
    ),
    "additionalProperties": _has_others,
    "maxProperties": lambda _, most, value: not isinstance(value, dict) or len(value) <= most,
    "minimum": lambda _, least, value: not _is_number(value) or value >= least,
    "maximum": lambda _, most, value: not _is_number(value) or value <= most,
    "format": lambda _, name, value: FORMATS[name](value),
    "const": lambda _, wanted, value: type(value) is type(wanted) and value == wanted,
    "if": lambda schema, condition, value: not _holds(condition, value) or _holds(schema["then"], value),
    "then": lambda *_: True,
    "message": lambda *_: True,
}
