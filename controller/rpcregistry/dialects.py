"""What a pod's annotations declare, and how to write that.

A *dialect* is one way of writing "this pod serves that service" on a pod: a label that says that the
pod speaks it, and an annotation that is, or hides, a JSON array with one entry a service.  A pod may
speak several at once.  To add a dialect, write a schema, a function from an entry to a
``Declaration`` and one back, and list it in ``DIALECTS``.

What is read is written by strangers.  A bad entry costs that entry, a bad text costs what the text
declares, and each becomes a ``Problem`` that says what is wrong and where.
"""

import json
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from jsonschema import Draft202012Validator, FormatChecker, validators
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator

from rpcregistry.model import Declaration, Problem
from rpcregistry.names import is_service_name

REASON = "InvalidAnnotation"
LONGEST_TEXT = 16 * 1024  # bytes of JSON
MOST_ENTRIES = 32
MOST_MISTAKES = 8  # told of an entry
LONGEST_MESSAGE = 900  # characters: an Event's note holds 1,000

_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def read(
    labels: Mapping[str, str], annotations: Mapping[str, str]
) -> tuple[tuple[Declaration, ...], tuple[Problem, ...]]:
    """What a pod with these labels and annotations declares, and what is wrong with it.

    >>> text = '[{"serviceName": "a", "port": 80}, {"serviceName": "b", "port": 70000}]'
    >>> declarations, problems = read({"rpc-service": "true"}, {"rpc-service": text})
    >>> [(declaration.service_name, declaration.port) for declaration in declarations]
    [('a', 80)]
    >>> [problem.message for problem in problems]
    ['rpc-service: /1/port: 70000 is greater than the maximum of 65535']
    """
    declarations: dict[tuple[str, int | None], Declaration] = {}
    problems: list[Problem] = []
    for dialect in DIALECTS:
        label, value = dialect.label
        if labels.get(label) != value or dialect.annotation not in annotations:
            continue
        for index, found in enumerate(_read(dialect, annotations[dialect.annotation])):
            if isinstance(found, str):
                problems.append(_problem(dialect, found))
            elif (found.service_name, found.port) in declarations:
                port = "without a port" if found.port is None else f"at port {found.port}"
                problems.append(
                    _problem(dialect, f"/{index}: {found.service_name} {port} is declared already")
                )
            else:
                declarations[found.service_name, found.port] = found
    return tuple(declarations.values()), tuple(problems)


@dataclass(frozen=True, eq=False)
class Dialect:
    """*label* goes with *annotation*, which *decode* turns into JSON; *declaration* reads one entry of that.

    Both functions raise ``ValueError``.  *encode* and *entry* are their inverses.
    """

    label: tuple[str, str]
    annotation: str
    decode: Callable[[str], str]
    declaration: Callable[[Any], Declaration]
    encode: Callable[[str], str]
    entry: Callable[[Declaration], Any]


def write(
    dialect: Dialect,
    annotation: str | None,
    declarations: Iterable[Declaration],
    without: Container[tuple[str, int | None]] = (),
) -> str | None:
    """The annotation with an entry for each of *declarations*, after those that are there; None if empty.

    The entries of the services and ports in *without* are left out; all others stay as they are, to the
    byte, even those that cannot be read.  Raises ``ValueError`` where the annotation is no array.

    >>> text = write(RPC_SERVICE, '[{"serviceName": "a"}, 7]', [Declaration(service_name="b", port=80)])
    >>> text
    '[{"serviceName": "a"},7,{"serviceName":"b","port":80}]'
    >>> write(RPC_SERVICE, text, (), without={("b", 80), ("a", None)}), write(RPC_SERVICE, None, ())
    ('[7]', None)
    """
    try:
        text = dialect.decode(annotation) if annotation else "[]"
        entries = msgspec.json.decode(text, type=list[msgspec.Raw])
    except ValueError as error:
        raise ValueError(f"{dialect.annotation}: {error}") from error
    entries = [raw for raw in entries if _service_and_port(dialect, raw) not in without]
    entries += [msgspec.Raw(msgspec.json.encode(dialect.entry(declared))) for declared in declarations]
    return dialect.encode(msgspec.json.encode(entries).decode()) if entries else None


def _service_and_port(dialect: Dialect, raw: msgspec.Raw) -> tuple[str, int | None] | None:
    try:
        declared = dialect.declaration(_parse(bytes(raw).decode()))
    except (ValueError, RecursionError):
        return None
    return declared.service_name, declared.port


class _Invalid(ValueError):
    """*mistakes*: what is wrong with an entry, by JSON pointer within the entry."""

    def __init__(self, mistakes: Mapping[str, str]) -> None:
        super().__init__(mistakes)
        self.mistakes = mistakes


def _problem(dialect: Dialect, what: str) -> Problem:
    return Problem(REASON, _cut(f"{dialect.annotation}: {what}", LONGEST_MESSAGE))


def _read(dialect: Dialect, annotation: str) -> tuple[Declaration | str, ...]:
    """For each entry what it declares, or what is wrong with it; or one text on what is wrong with all."""
    try:
        text = dialect.decode(annotation)
    except ValueError as error:
        return (str(error),)
    size = len(text.encode(errors="surrogatepass"))
    if size > LONGEST_TEXT:
        return (f"{size} bytes are more than the maximum of {LONGEST_TEXT}",)
    return _read_json(dialect, text)


@lru_cache(maxsize=1024)  # the pods of a Deployment share their annotation's text
def _read_json(dialect: Dialect, text: str) -> tuple[Declaration | str, ...]:
    try:
        entries = _parse(text)
        if not isinstance(entries, list):
            return (f"{_shown(entries)} is not an array",)
        if len(entries) > MOST_ENTRIES:
            return (f"{len(entries)} entries are more than the maximum of {MOST_ENTRIES}",)
        return tuple(_read_entry(dialect, index, entry) for index, entry in enumerate(entries))
    except RecursionError:
        return ("nested too deeply",)
    except ValueError as error:
        return (f"not JSON: {error}",)


def _read_entry(dialect: Dialect, index: int, entry: Any) -> Declaration | str:
    try:
        return dialect.declaration(entry)
    except _Invalid as invalid:
        return "; ".join(f"/{index}{pointer}: {what}" for pointer, what in invalid.mistakes.items())


# JSON, strictly


@dataclass(frozen=True)
class _Repeated:
    """What an object is read as that has *key* more than once: readers disagree on what it says."""

    key: str


def _parse(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse, parse_int=_integer, object_pairs_hook=_object)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _integer(digits: str) -> int | float:
    """Longer than 64 bits is a float: too large for everything, and not slow to read or to show."""
    return int(digits) if len(digits) < 20 else float(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Repeated:
    read: dict[str, Any] = {}
    for key, value in pairs:
        if key in read:
            return _Repeated(key)
        read[key] = value
    return read


def _shown(value: Any) -> str:
    """*value* as JSON of ASCII characters, cut short: safe in a log and on a terminal."""
    return _cut(json.dumps(value, default=lambda repeated: {repeated.key: "..."}), 60)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


# Schemas.  "message" is ours: what to say in place of the validator's own words.

_formats = FormatChecker(formats=())


@_formats.checks("service name")
def _is_service_name(name: object) -> bool:
    return not isinstance(name, str) or is_service_name(name)


@_formats.checks("text")
def _is_text(text: object) -> bool:
    """Whether *text* is short, can be written as UTF-8, and is one line that shows all there is in it."""
    return not isinstance(text, str) or (not _UNPRINTABLE.search(text) and len(text.encode()) <= 256)


def _is_integer(_checker: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# To JSON Schema 8080.0 is an integer.
_types = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
_Validator: type[Validator] = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, type_checker=_types
)


def _compiled(schema: dict[str, Any]) -> Validator:
    _Validator.check_schema(schema)
    return _Validator(schema, format_checker=_formats)


_TEXT = {
    "type": "string",
    "format": "text",
    "message": "is not a text of at most 256 bytes without control characters",
}
_SERVICE_NAME = {
    "type": "string",
    "format": "service name",
    "message": (
        "is not a service name: 1 to 253 of A-Z a-z 0-9 . _ $ -,"
        ' the first of them a letter or a digit, and not "zookeeper"'
    ),
}
_DETAILS = {
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "version": _TEXT,
    "group": _TEXT,
    "protocol": _TEXT,
    "weight": {"type": "integer", "minimum": 0, "maximum": 10000},
}
_METADATA = {
    "type": "object",
    "maxProperties": 32,
    "propertyNames": _TEXT,
    "additionalProperties": _TEXT,
    "message": "has more than 32 keys",
}


def _check(validator: Validator, value: Any, pointer: str = "") -> None:
    """Raise ``_Invalid`` with the first mistakes in *value*, which lies at *pointer* in the entry."""
    mistakes: dict[str, str] = {}
    for error in islice(validator.iter_errors(value), MOST_MISTAKES):
        path = "".join(f"/{_escaped(part)}" for part in error.absolute_path)
        mistakes.setdefault(pointer + path, _what(error))
    if mistakes:
        raise _Invalid(mistakes)


def _escaped(part: str | int) -> str:
    return _cut(json.dumps(str(part))[1:-1].replace("~", "~0").replace("/", "~1"), 60)


def _what(error: ValidationError) -> str:
    if isinstance(error.instance, _Repeated):
        return f"the key {_shown(error.instance.key)} is there twice"
    if error.validator != "type" and isinstance(error.schema, Mapping) and "message" in error.schema:
        return f"{_shown(error.instance)} {error.schema['message']}"
    return error.message.replace(repr(error.instance), _shown(error.instance), 1)


# The dialects

_rpc_service = _compiled(
    {
        "type": "object",
        "required": ["serviceName"],
        "properties": {
            "serviceName": _SERVICE_NAME,
            **_DETAILS,
            "metadata": _METADATA,
            "local": {"type": "boolean"},
        },
        "if": {"properties": {"local": {"const": True}}, "required": ["local"]},
        "then": {"required": ["port"], "message": 'needs a port, because of "local": true'},
    }
)


def _rpc_service_declaration(entry: Any) -> Declaration:
    """``{"serviceName": NAME, "port": …, "metadata": {…}, …}``."""
    _check(_rpc_service, entry)
    details = {key: entry[key] for key in (*_DETAILS, "metadata", "local") if key in entry}
    return Declaration(service_name=entry["serviceName"], **details)


def _rpc_service_entry(declared: Declaration) -> Any:
    local = {"local": True} if declared.local else {}
    metadata = {"metadata": declared.metadata} if declared.metadata else {}
    return {"serviceName": declared.service_name, **_details(declared), **metadata, **local}


def _details(declared: Declaration) -> dict[str, Any]:
    details = ((key, getattr(declared, key)) for key in _DETAILS)
    return {key: value for key, value in details if value not in ("", None)}


_key_value = _compiled(
    {
        "type": "object",
        "required": ["k", "v"],
        "properties": {"k": {"type": "string"}, "v": {"type": ["string", "object"]}},
    }
)
_key_value_name = _compiled(_SERVICE_NAME)
_key_value_details = _compiled({"properties": _DETAILS})
_key_value_metadata = _compiled(_METADATA)


def _base64(annotation: str) -> str:
    try:
        return b64decode("".join(annotation.split()), validate=True).decode()
    except ValueError as error:
        raise ValueError(f"not base64 of UTF-8: {error}") from error


def _as_base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _key_value_declaration(entry: Any) -> Declaration:
    """``{"k": NAME, "v": VALUE}``: what a registry's key and value would be.

    NAME may be the key's whole path, ``/…/NAME/providers[/URL]`` with the URL quoted.  VALUE is an
    object or its JSON, a URL, or any text.  What VALUE does not say, the URL in the key may.
    """
    _check(_key_value, entry)
    name, url = _split_key(entry["k"])
    _check(_key_value_name, name, "/k")
    details = _url_details(url, "/k") | _value_details(entry["v"])
    known = {key: value for key, value in details.items() if key in _DETAILS}
    metadata = {key: _as_text(value) for key, value in details.items() if key not in _DETAILS}
    _check(_key_value_details, known, "/v")
    _check(_key_value_metadata, metadata, "/v")
    return Declaration(service_name=name, metadata=metadata, **known)


def _key_value_entry(declared: Declaration) -> Any:
    """VALUE is the JSON of an object: readers in typed languages want a string there.

    There is no room in it for ``local``, nor for metadata under the name of a detail.
    """
    return {
        "k": declared.service_name,
        "v": json.dumps({**declared.metadata, **_details(declared)}, ensure_ascii=False),
    }


def _split_key(key: str) -> tuple[str, str]:
    """The service's name, and the URL where there is one.

    >>> _split_key("echo"), _split_key("/dubbo/com.foo.Bar/providers/dubbo%3A%2F%2F10.0.0.1%3A20880")
    (('echo', ''), ('com.foo.Bar', 'dubbo://10.0.0.1:20880'))
    """
    match key.split("/"):
        case ["", *_, name, "providers"]:
            return unquote(name), ""
        case ["", *_, name, "providers", url]:
            return unquote(name), unquote(url)
        case _:
            return key, ""


def _value_details(value: Any) -> dict[str, Any]:
    if not isinstance(value, str):
        details = value
    elif value.lstrip().startswith("{"):
        try:
            details = _parse(value)
        except ValueError as error:
            raise _Invalid({"/v": f"not JSON: {error}"}) from error
    else:
        details = _url_details(value, "/v") or ({"value": value} if value and _is_text(value) else {})
    if isinstance(details, _Repeated):
        raise _Invalid({"/v": f"the key {_shown(details.key)} is there twice"})
    return dict(details)


def _as_text(value: Any) -> Any:
    """Numbers and booleans as their JSON; what is neither is left as it is."""
    return json.dumps(value) if isinstance(value, int | float) and math.isfinite(value) else value


def _url_details(url: str, pointer: str) -> dict[str, Any]:
    """What a provider's URL says, except its address: addresses come from the pod's status only.

    >>> _url_details("dubbo://10.0.0.1:20880/com.foo.Bar?group=g&weight=7&side=provider", "/v")
    {'port': 20880, 'group': 'g', 'protocol': 'dubbo', 'weight': 7}
    """
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url):
        return {}
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        details = {
            "port": parts.port,
            "version": query.get("version"),
            "group": query.get("group"),
            "protocol": parts.scheme,
            "weight": int(query["weight"]) if "weight" in query else None,
        }
    except ValueError as error:
        raise _Invalid({pointer: f"{_shown(url)} is not a provider's URL"}) from error
    return {key: value for key, value in details.items() if value is not None}


RPC_SERVICE = Dialect(
    ("rpc-service", "true"), "rpc-service", str, _rpc_service_declaration, str, _rpc_service_entry
)
APP_IO = Dialect(
    ("app.io/label", "app.io-value"),
    "app.io/annotation",
    _base64,
    _key_value_declaration,
    _as_base64,
    _key_value_entry,
)
DIALECTS = (RPC_SERVICE, APP_IO)
