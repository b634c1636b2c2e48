"""Layouts of a person's own, by docs/templates.md: a child's name and data, out of what an endpoint declares.

What clients find of one is the child, ``NAME DATA``: with ``*`` for what identifies the endpoint and its
data, which is the controller's to choose, and with JSON written in one way.  If the template says where
children lie, it is their path below the base path in place of the name.  Beside the children of a service
they find its static znodes, ``static PATH DATA``, if it has children.

In a directory of several services, a service is known by the digits that stand for it in names.
"""

import json
import re
from calendar import timegm
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from time import strptime
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from tests.faults.harness.oracle.objects import SERVICE
from tests.faults.harness.oracle.services import Endpoint

Template = Mapping[str, Any]
"""What a template file says."""

_PLACEHOLDER = re.compile(r"\$(?:\$|\{(?P<field>(?:(?!:-)[^|{}])+)(?P<default>:-[^|{}]*)?(?P<url>\|url)?\})")
# Three of eight hex digits for ${id}, with the service's in a directory of several; two for ${instance};
# ${digits}.  Anything may stand right beside them.
_CHOSEN = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{16}(-[0-9a-f]{8}){2}|(-[0-9a-f]{8}){1,2})|(?<!\d)[1-9]\d{17}(?!\d)", re.ASCII
)
_OF_A_SERVICE = re.compile(r"[0-9a-f]{8}-([0-9a-f]{16})-[0-9a-f]{8}-[0-9a-f]{8}", re.ASCII)
_LEFT_OUT = object()
_NUMBERS = "port", "weight", "started"
_NO_NAME = re.compile(r"\.{0,2}|.*[/\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff].*", re.DOTALL)

Values = Callable[[str], Any]
"""From a field's name to its value; None where it is not declared."""


def described(template: Template, endpoint: Endpoint) -> str | None:
    """The endpoint's child; None where it lacks a port that the template needs, or can have no name."""
    name, data = template["name"], template.get("data", "")
    if _NEEDS_PORT & {*_fields(name), *_fields(data)} and endpoint.entry.port is None:
        return None
    values = _values(template, endpoint)
    named = [_text(part, values) for part in (*_segments(template), name)]
    if any(map(_NO_NAME.fullmatch, named)):
        return None
    return _shown(template, named, _content(data, values))


def static(template: Template, service: str) -> frozenset[str]:
    """The static znodes of a service."""
    said: Mapping[str, Any] = template.get("static", {})
    values = {"service": service}.__getitem__
    return frozenset(_static(_text(path, values), _content(data, values)) for path, data in said.items())


def is_static(template: Template, below: Sequence[str], data: bytes) -> bool:
    """Whether a znode with these names and *data* is a static one of a service."""
    path = "/".join(below)
    said: Mapping[str, Any] = template.get("static", {})
    services = ((content, _service_in(says, path)) for says, content in said.items())
    return any(
        _found_static(path, content, data) in static(template, service)
        for content, service in services
        if service is not None
    )


def known_as(template: Template, service: str) -> str:
    """How a service is told from others."""
    return sha256(service.encode()).hexdigest()[:16] if _is_shared(template) else service


def place(template: Template, below: Sequence[str]) -> tuple[str | None, str | None]:
    """The service and name of the child whose path below the base path has these names; None: it is none.

    A child that is no service's has none either, or is of the service "" if clients take it for one's.
    """
    *directories, name = below
    segments = _segments(template)
    if len(directories) != len(segments):
        return None, None
    found = zip(segments, directories, strict=True)
    exact = next((pair for pair in found if _is_service(pair[0])), None)
    if exact is None:
        of = _OF_A_SERVICE.search(name)
        # Nothing says which service a segment that has more than it is about.
        may_be = all(map(re.fullmatch, (_pattern(part, None) for part in segments), directories))
        return (of[1] if of else "", name) if may_be else (None, None)
    encoded = exact[0].endswith("|url}")
    service = unquote_plus(exact[1]) if encoded else exact[1]
    matches = all(map(re.fullmatch, (_pattern(part, service) for part in segments), directories))
    return (service, name) if matches and SERVICE.fullmatch(service) else (None, None)


def found(template: Template, below: Sequence[str], data: bytes) -> str:
    """A child that is there; ``ValueError`` where its data are not of the kind that the template has."""
    if template.get("encoding") == "java-string":
        return _shown(template, below, _java_string(data))
    return _shown(template, below, _read(template.get("data", ""), data))


def found_static(
    template: Template, services: Collection[str], znodes: Mapping[str, bytes]
) -> Iterator[tuple[str, str]]:
    """Yield the static znodes in *znodes*, by paths below the base path, each with whose it is.

    *services*: of which there are children, as they are ``known_as``.
    """
    for says, content in template.get("static", {}).items():
        names = {_service_in(says, path): path for path in znodes}
        for service, path in names.items():
            whose = (
                services if service == "" else {known_as(template, service)} & {*services} if service else ()
            )
            for each in whose:
                yield each, _found_static(path, content, znodes[path])


def _found_static(path: str, says: Any, data: bytes) -> str:
    try:
        return _static(path, _read(says, data))
    except ValueError:
        return f"unreadable {path}"


def is_marked(name: str) -> bool:
    """Whether a child's name has something in it that identifies an endpoint of ours."""
    return _CHOSEN.search(name) is not None


def _segments(template: Template) -> list[str]:
    """The directory of children below the base path."""
    below = template.get("below")
    directory: str = template.get("directory", f"${{service}}/{below}" if below else "${service}")
    return directory.split("/") if directory else []


def _is_service(segment: str) -> bool:
    placeholder = _PLACEHOLDER.fullmatch(segment)
    return placeholder is not None and placeholder["field"] == "service"


def _is_shared(template: Template) -> bool:
    return not any(map(_is_service, _segments(template)))


def _pattern(text: str, service: str | None) -> str:
    """What a name or path looks like: anything where a group or version is, or a *service* that is None."""
    parts, end = [], 0
    for placeholder in _PLACEHOLDER.finditer(text):
        parts.append(re.escape(text[end : placeholder.start()]))
        end = placeholder.end()
        if placeholder["field"] is None:
            parts.append(re.escape("$"))
        elif placeholder["field"] == "service" and service is not None:
            parts.append(re.escape(_text(placeholder[0], {"service": service}.__getitem__)))
        else:
            parts.append("([^/]*)")
    return "".join([*parts, re.escape(text[end:])])


def _service_in(says: str, path: str) -> str | None:
    """The service whose static znode at *says* has this path; "" where all have one; None: it is no such."""
    match = re.fullmatch(_pattern(says, None), path)
    if not match or not match.groups():
        return "" if match else None
    service = unquote_plus(match[1]) if next(_fields_of(says))["url"] else match[1]
    return service if re.fullmatch(_pattern(says, service), path) else None


def _shown(template: Template, below: Sequence[str], data: Any) -> str:
    where = "/".join(below) if "directory" in template else below[-1]
    masked = _CHOSEN.sub("*", _as_text(data))
    if not isinstance(data, str):
        masked = _as_text(json.loads(masked))  # in the order of the keys that are shown
    return f"{_CHOSEN.sub('*', where)} {masked}"


def _static(path: str, data: Any) -> str:
    return f"static {path} {_as_text(data)}"


def _as_text(data: Any) -> str:
    return data if isinstance(data, str) else json.dumps(data, sort_keys=True, ensure_ascii=False)


def _read(says: Any, data: bytes) -> Any:
    return data.decode() if isinstance(says, str) else json.loads(data)


def _java_string(data: bytes) -> str:
    """What Java reads out of it (Java Object Serialization Specification, 6.4.2)."""
    short = data.startswith(b"\xac\xed\x00\x05\x74")
    head = 7 if short else 13
    text = data[head:]
    if not (short or data.startswith(b"\xac\xed\x00\x05\x7c")) or int.from_bytes(data[5:head]) != len(text):
        raise ValueError(data)
    halves = text.replace(b"\xc0\x80", b"\x00").decode("utf-8", "surrogatepass")
    return halves.encode("utf-16", "surrogatepass").decode("utf-16")


_NEEDS_PORT = {("port", False), ("address", False), ("address", True)}


def _fields(value: Any) -> Iterator[tuple[str, bool]]:
    """Yield the names of the fields in it, and whether they have a default."""
    if isinstance(value, str):
        yield from ((found["field"], found["default"] is not None) for found in _fields_of(value))
    elif isinstance(value, dict):
        yield from _fields([*value, *value.values()])
    elif isinstance(value, list):
        for inner in value:
            yield from _fields(inner)


def _values(template: Template, endpoint: Endpoint) -> Values:
    entry, pod = endpoint.entry, endpoint.pod
    host = f"[{endpoint.ip}]" if ":" in endpoint.ip else endpoint.ip
    values = {
        "service": entry.service,
        "pod": pod["metadata"]["name"],
        "node": pod["spec"].get("nodeName"),
        "ip": endpoint.ip,
        "host": host,
        "address": f"{host}:{entry.port}",
        "port": entry.port,
        "version": entry.version or None,
        "group": entry.group or None,
        "protocol": entry.protocol or template.get("protocol") or None,
        "weight": entry.weight,
        "started": _started(pod),
        "metadata": entry.metadata or None,
        **dict.fromkeys(("instance", "id", "digits"), "*"),
    }

    def value(field: str) -> Any:
        name, dot, key = field.partition(".")
        return entry.metadata.get(key) if dot else values[name]

    return value


def _started(pod: Mapping[str, Any]) -> int:
    """When the last of its containers was started, in milliseconds since 1970; 0 before."""
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    running = [((container.get("state") or {}).get("running") or {}) for container in containers]
    at = max((run["startedAt"] for run in running if run.get("startedAt")), default=None)
    return timegm(strptime(at, "%Y-%m-%dT%H:%M:%SZ")) * 1000 if at else 0


def _fields_of(text: str) -> Iterator[re.Match[str]]:
    return (found for found in _PLACEHOLDER.finditer(text) if found["field"])


def _content(says: Any, values: Values) -> Any:
    return _text(says, values) if isinstance(says, str) else _filled(says, values)


def _filled(value: Any, values: Values) -> Any:
    """*value* with its placeholders replaced: one that is alone keeps its type, or is left out if empty."""
    if isinstance(value, str):
        alone = _PLACEHOLDER.fullmatch(value)
        if not alone or not alone["field"]:
            return _text(value, values)
        found = _value(alone, values)
        return _LEFT_OUT if found is None else found
    if isinstance(value, dict):
        items = ((_text(key, values), _filled(inner, values)) for key, inner in value.items())
        return {key: inner for key, inner in items if inner is not _LEFT_OUT}
    if isinstance(value, list):
        return [inner for inner in (_filled(each, values) for each in value) if inner is not _LEFT_OUT]
    return value


def _text(text: str, values: Values) -> str:
    """A text with its placeholders replaced: what is not declared is empty."""

    def replaced(placeholder: re.Match[str]) -> str:
        return "$" if placeholder["field"] is None else _plain(_value(placeholder, values))

    return _PLACEHOLDER.sub(replaced, text)


def _value(placeholder: re.Match[str], values: Values) -> Any:
    """What a placeholder stands for; None if the field is not declared, and has no default."""
    field, default = placeholder["field"], placeholder["default"]
    value = values(field)
    if value is None and default is not None:
        value = int(default[2:]) if field in _NUMBERS else default[2:]
    if value is None or not placeholder["url"]:
        return value
    return quote_plus(_plain(value), safe="*").replace("~", "%7E")  # as Java's URLEncoder has it


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
