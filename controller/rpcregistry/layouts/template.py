"""Layouts that are described by a file instead of code: one znode an endpoint.

docs/templates.md is the reference for users.

A template is a mapping (in YAML, say):

    name: ${pod}_${digits}                      # the child's name; needs ${id} or ${digits}
    data: {host: "${ip}", port: "${port}"}      # a mapping or list becomes compact JSON, a string stays text
    directory: ${group:-main}/${service}        # optional: where below BASE; ${service} by default
    protocol: http                              # optional: of endpoints that declare none
    encoding: java-string                       # optional: the data as Java serializes a string
    static: {"config/${service}": {a: 1}}       # optional: other znodes, made if they are missing

``placeholders`` has the language of the texts.  A string that is nothing but one placeholder keeps the
field's type.  What is not declared and has no default is left out of a mapping or list, and empty in a text.

Names change with the data because some clients read a child only once.  An endpoint whose name would hide
its *id* or *digits* between others (``${pod}${digits}``, of the pod ``echo-1``) is refused.  Where
*directory* changes, no client or controller reads the old one any more: ``purge`` first.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import isfinite
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from rpcregistry.layouts import java, marks
from rpcregistry.layouts.directories import SEGMENT, Directory
from rpcregistry.layouts.forms import Address, Child, PerEndpoint, host, missing_port, numeric, started
from rpcregistry.layouts.placeholders import FIELDS, NAMES_ONLY, LookUp, Placeholder, fields, fill, parse
from rpcregistry.model import Endpoint, Problem

Path = tuple[str | int, ...]  # the keys and indexes that lead to a value

_ADDRESS = re.compile(
    r"(?<![0-9A-Za-z.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]*(?::[0-9A-Fa-f]*){2,7})(?![0-9A-Za-z])"
)
_PROTOCOL = re.compile(r"[a-z][a-z0-9+.-]*")
_ENCODINGS: Mapping[str, Callable[[str], bytes]] = {"": str.encode, "java-string": java.string}
_DEEPEST, _LARGEST = 32, 10_000  # levels and values in a template: YAML's aliases may repeat for ever
_BARE = re.compile(rf"(?<!\$)\{{(?:{'|'.join((*FIELDS, *NAMES_ONLY))})\b[^{{}}]*\}}")  # a forgotten dollar
_INTEGERS = range(-(2**63), 2**63)


class Wrong(ValueError):
    """What is wrong with a template, and the *path* of the value that is."""

    def __init__(self, path: Path, message: str) -> None:
        where = ".".join(map(str, path))
        super().__init__(f"{where}: {message}" if where else message)
        self.path = path


class Template(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a template file says."""

    name: str
    data: str | dict[str, Any] | list[Any] = ""
    directory: str | None = None
    below: str = ""  # short for the directory ${service}/<below>
    protocol: str = ""
    encoding: str = ""
    static: dict[str, str | dict[str, Any] | list[Any]] = {}


def layout(says: Any) -> PerEndpoint:
    """The layout that a template describes; raises ``Wrong``.

    >>> layout({"name": "${pod}", "data": "${address}"})
    Traceback (most recent call last):
    rpcregistry.layouts.template.Wrong: name: it has to contain ${id} or ${digits}, which mark our children
    """
    template = _checked(says)
    directory = _directory(template)
    _check_name(template, directory)
    return PerEndpoint(
        partial(_child, template, directory.is_shared, _needs_port([template.name, template.data])),
        slot=_slot,
        directory=directory,
        protocol=template.protocol,
        overlap=True,
        address=_addresses,
        static=partial(_static, template),
        beside=tuple(_beside(template, directory)),
    )


# what a template may say


def _checked(says: Any) -> Template:
    keys = ", ".join(Template.__struct_fields__)
    if not isinstance(says, dict):
        raise Wrong((), f"a template is a mapping with the keys {keys}")
    unknown = next((key for key in says if key not in Template.__struct_fields__), None)
    if unknown is not None:
        raise Wrong((str(unknown),), f"there is no such key; there is {keys}")
    values = iter(range(_LARGEST))
    for key, value in says.items():
        _check_value((key,), value, values)
    if "name" not in says:
        raise Wrong((), "it has no name: write, say, name: ${id}")
    for key in ("name", "directory", "below", "protocol", "encoding"):
        if not isinstance(says.get(key, ""), str):
            raise Wrong((key,), f"{says[key]!r} is no text")
    static = says.get("static", {})
    if not isinstance(static, dict):
        raise Wrong(("static",), "it is no mapping from paths to data")
    for path, value in [(("data",), says.get("data", "")), *((("static", k), v) for k, v in static.items())]:
        if not isinstance(value, str | dict | list):
            raise Wrong(path, f"{value!r} is no mapping, list or text: to write it as text, quote it")
    return _check_words(msgspec.convert(says, Template))


def _check_words(template: Template) -> Template:
    if template.encoding not in _ENCODINGS:
        raise Wrong(("encoding",), f"there is no encoding {template.encoding!r}; there is java-string")
    if template.encoding and not isinstance(template.data, str):
        raise Wrong(("data",), f"the encoding {template.encoding} is of a text, and this is none")
    if template.protocol and not _PROTOCOL.fullmatch(template.protocol):
        message = f"{template.protocol!r} is no protocol, like http; no placeholder is filled in it"
        raise Wrong(("protocol",), f"{message}: write ${{protocol:-http}} where it is used")
    paths: list[tuple[Path, str]] = [
        (("name",), template.name),
        (("directory",), template.directory or ""),
        (("below",), template.below),
        *((("static", path), path) for path in template.static),
    ]
    for path, text in paths:
        if bare := _BARE.search(text):
            raise Wrong(path, f"{bare[0]} is no placeholder: write ${bare[0]}")
    return template


def _check_value(path: Path, value: Any, values: Iterator[int]) -> None:
    """Check that a value is JSON, of a bearable size, and that each placeholder in it can be filled."""
    if len(path) > _DEEPEST or next(values, None) is None:
        raise Wrong(path[:3], "it is too large: does it contain itself?")
    match value:
        case str():
            _check_text(path, value)
        case dict():
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise Wrong((*path, str(key)), f"the key {key!r} is no text: quote it")
                _check_text((*path, key), key)
                _check_value((*path, key), inner, values)
        case list():
            for index, inner in enumerate(value):
                _check_value((*path, index), inner, values)
        case _ if not _is_json(value):
            raise Wrong(path, f"{value} is nothing that JSON has: quote it")


def _is_json(value: Any) -> bool:
    match value:
        case None | bool():
            return True
        case int():
            return value in _INTEGERS
        case float():
            return isfinite(value)
        case _:
            return False


def _check_text(path: Path, text: str) -> None:
    try:
        text.encode()
        found = fields(parse(text))
    except UnicodeEncodeError as error:
        raise Wrong(path, f"{text!r} is no text: {error.reason}") from error
    except ValueError as error:
        raise Wrong(path, str(error)) from error
    allowed = NAMES_ONLY if path == ("name",) else ()
    wrong = sorted(found.intersection(NAMES_ONLY).difference(allowed))
    if wrong:
        raise Wrong(path, f"${{{wrong[0]}}} is made from the data, so only the name can have it")


def _directory(template: Template) -> Directory:
    if template.below and template.directory is not None:
        raise Wrong(("below",), f"it is a part of the directory: write {template.directory}/{template.below}")
    if "$" in template.below:
        instead = f"write directory: ${{service}}/{template.below}"
        raise Wrong(("below",), f"no placeholder is filled in it: {instead}")
    default = f"${{service}}/{template.below}" if template.below else "${service}"
    text = default if template.directory is None else template.directory
    try:
        return Directory.parse(text)
    except ValueError as error:
        raise Wrong(("below",) if template.below else ("directory",), str(error)) from error


_SAMPLE = Endpoint(pod_name="x", pod_uid="", ip="", ips=(), ready=False)


def _check_name(template: Template, directory: Directory) -> None:
    """Check that names can be made, and that children are known by them."""
    named = fields(parse(template.name))
    wanted = {"id"} if directory.is_shared else set(NAMES_ONLY)
    if not named & wanted:
        if named & set(NAMES_ONLY):
            message = "in a directory of several services it has to contain ${id}, not ${digits}"
            raise Wrong(("name",), message)
        raise Wrong(("name",), "it has to contain ${id} or ${digits}, which mark our children")
    scope = "x" if directory.is_shared else ""
    sample = {"id": marks.mark("", _SAMPLE, b"", scope), "digits": marks.number("", _SAMPLE, b"")}
    name = fill(parse(template.name), lambda field: sample.get(field, "x"))
    if not SEGMENT.fullmatch(name):
        raise Wrong(("name",), f"{template.name!r} is no name of a znode: it gives, say, {name!r}")
    if not _is_clear(name, "", sample, directory.is_shared):
        message = f"{template.name!r} hides whose a child is: put a '-' or '_' before and after ${{id}}"
        raise Wrong(("name",), message)


def _beside(template: Template, directory: Directory) -> Iterator[Directory]:
    """The paths of the static znodes, which must not be endpoints'."""
    for path, value in template.static.items():
        try:
            fixed = Directory.parse(path)
        except ValueError as error:
            raise Wrong(("static", path), str(error)) from error
        if not path or fixed.varies:
            message = "the path of a static znode has segments, and no placeholder but ${service}"
            raise Wrong(("static", path), message)
        found = fixed.constant("x")
        depth = found.count("/") + 1 - len(directory.segments)
        if depth > 0 and directory.leads_to("x", found):
            raise Wrong(("static", path), "it lies among the endpoints, where clients would take it for one")
        wrong = sorted(_fields(value) - {"service"})
        if wrong:
            message = f"${{{wrong[0]}}} is an endpoint's; a static znode knows ${{service}} only"
            raise Wrong(("static", path), message)
        if "service" in _fields(value) - _fields(path):
            message = "its path is one for all services, so its data cannot have ${service}"
            raise Wrong(("static", path), message)
        yield fixed


def _fields(value: Any) -> set[str]:
    """The names of the fields in it."""
    match value:
        case str():
            return fields(parse(value))
        case dict():
            return {name for pair in value.items() for inner in pair for name in _fields(inner)}
        case list():
            return {name for inner in value for name in _fields(inner)}
        case _:
            return set()


# what it makes of an endpoint


def _values(service_name: str, endpoint: Endpoint, cluster_id: str) -> dict[str, Any]:
    """The value of each field; None if it is not declared."""
    return {
        "service": service_name,
        "pod": endpoint.pod_name,
        "node": endpoint.node_name or None,
        "version": endpoint.version or None,
        "group": endpoint.group or None,
        "protocol": endpoint.protocol or None,
        "ip": endpoint.ip,
        "host": host(endpoint),
        "address": f"{host(endpoint)}:{endpoint.port}",
        "port": endpoint.port,
        "weight": endpoint.weight,
        "started": started(endpoint),
        "metadata": dict(sorted(endpoint.metadata.items())) or None,
        "instance": marks.mark(cluster_id, endpoint),
    }


def _child(
    template: Template,
    is_shared: bool,
    needs_port: bool,
    service_name: str,
    endpoint: Endpoint,
    cluster_id: str,
) -> Child | Problem:
    if needs_port and endpoint.port is None:
        return missing_port(endpoint)

    values = _values(service_name, endpoint, cluster_id)

    def look_up(field: str) -> Any:
        return values[field] if "." not in field else endpoint.metadata.get(field.partition(".")[2])

    try:
        data = _encoded(template.data, look_up, template.encoding)
        scope = service_name if is_shared else ""
        values["id"] = marks.mark(cluster_id, endpoint, data, scope)
        values["digits"] = marks.number(cluster_id, endpoint, data)
        name = fill(parse(template.name), look_up)
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which no JSON that we read has
        return Problem("InvalidName", f"{endpoint.pod_name} declares what is no text")
    if not SEGMENT.fullmatch(name):
        return Problem("InvalidName", f"the znode of {endpoint.pod_name} cannot be called {name!r}")
    if not _is_clear(name, cluster_id, values, is_shared, service_name):
        message = (
            f"the znode of {endpoint.pod_name} would be called {name!r}, which hides whose it is: "
            "in the template, put a '-' or '_' before and after ${id} or ${digits}"
        )
        return Problem("InvalidName", message)
    return Child(name, data)


def _needs_port(value: Any) -> bool:
    """Whether it has a placeholder that is wrong without a port."""
    match value:
        case str():
            return any(
                part.field == "address" or (part.field == "port" and part.default is None)
                for part in parse(value)
                if isinstance(part, Placeholder)
            )
        case dict():
            return any(_needs_port(inner) for pair in value.items() for inner in pair)
        case list():
            return any(map(_needs_port, value))
        case _:
            return False


def _is_clear(
    name: str, cluster_id: str, values: Mapping[str, Any], is_shared: bool, service_name: str = "x"
) -> bool:
    """Whether *name* shows the endpoint of its ``${id}`` or ``${digits}``."""
    if is_shared:
        whole = marks.slot(values["id"], cluster_id, service_name)
        return marks.slot(name, cluster_id, service_name) == whole
    return _slot(name, cluster_id) in {_slot(values[field], cluster_id) for field in NAMES_ONLY}


def _slot(name: str, cluster_id: str) -> str | None:
    """As ``marks.slot``; of either kind, so that a template may change from one to the other."""
    return marks.slot(name, cluster_id) or marks.number_slot(name, cluster_id)


def _addresses(name: str, data: bytes) -> Address:
    """All IP addresses in a child, as clients that are told of each child may read any; None without one.

    >>> _addresses("a_10.0.0.1", b"tcp://[fd00::1]:80?until=12:30:00") == _addresses("fd00::1 10.0.0.1", b"")
    True
    """
    found = _ADDRESS.findall(unquote_plus(f"{name} {data.decode(errors='replace')}"))
    return frozenset(filter(None, map(numeric, found))) or None


def _static(template: Template, service_name: str) -> Mapping[str, bytes]:
    def look_up(_: str) -> str:
        return service_name

    return {
        fill(parse(path), look_up): _encoded(value, look_up, "") for path, value in template.static.items()
    }


def _encoded(value: Any, look_up: LookUp, encoding: str) -> bytes:
    if isinstance(value, str):
        return _ENCODINGS[encoding](fill(parse(value), look_up))
    return msgspec.json.encode(_filled(value, look_up))


def _filled(value: Any, look_up: LookUp) -> Any:
    """*value* with its placeholders replaced; ``UNSET`` for an undeclared field."""
    match value:
        case str():
            match parse(value):
                case (Placeholder() as whole,):
                    found = whole.value(look_up)
                    return msgspec.UNSET if found is None else found
                case parts:
                    return fill(parts, look_up)
        case dict():
            pairs = ((fill(parse(key), look_up), _filled(inner, look_up)) for key, inner in value.items())
            return {key: inner for key, inner in pairs if inner is not msgspec.UNSET}
        case list():
            inner = (_filled(each, look_up) for each in value)
            return [each for each in inner if each is not msgspec.UNSET]
        case _:
            return value
