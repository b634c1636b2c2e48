"""Layouts of a person's own, by docs/templates.md: a child's name and data, out of what an endpoint declares.

What clients find of one is the child, ``NAME DATA``: with ``*`` for what identifies the endpoint and its
data, which is the controller's to choose, and with JSON written in one way.
"""

import json
import re
from calendar import timegm
from collections.abc import Callable, Iterator, Mapping
from time import strptime
from typing import Any
from urllib.parse import quote_plus

from tests.faults.harness.oracle.services import Endpoint

Template = Mapping[str, Any]
"""What a template file says."""

_PLACEHOLDER = re.compile(r"\$(?:\$|\{([^|{}]+)(\|url)?\})")
# Three of eight hex digits for ${id}, two for ${instance}; ${digits}.  Anything may stand right beside them.
_CHOSEN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){1,2}|(?<!\d)[1-9]\d{17}(?!\d)", re.ASCII)
_LEFT_OUT = object()
_NO_NAME = re.compile(r"\.{0,2}|.*[/\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff].*", re.DOTALL)


def is_known(template: Template) -> bool:
    """Whether a template has only what is described here: no directory, static znode or default."""
    return template.keys() <= {"name", "data", "below", "protocol"} and ":-" not in json.dumps(template)


def described(template: Template, endpoint: Endpoint) -> str | None:
    """The endpoint's child; None where it lacks a port that the template needs, or can have no name."""
    name, data = template["name"], template.get("data", "")
    if {"port", "address"} & {*_fields(name), *_fields(data)} and endpoint.entry.port is None:
        return None
    values = _values(template, endpoint)
    named = _text(name, values)
    if _NO_NAME.fullmatch(named):
        return None
    filled = _text(data, values) if isinstance(data, str) else _filled(data, values)
    return _shown(named, filled)


def found(template: Template, name: str, data: bytes) -> str:
    """A child that is there; ``ValueError`` where its data are not of the kind that the template has."""
    return _shown(name, data.decode() if isinstance(template.get("data", ""), str) else json.loads(data))


def is_marked(name: str) -> bool:
    """Whether a child's name has something in it that identifies an endpoint of ours."""
    return _CHOSEN.search(name) is not None


def _shown(name: str, data: Any) -> str:
    text = data if isinstance(data, str) else json.dumps(data, sort_keys=True, ensure_ascii=False)
    return _CHOSEN.sub("*", f"{name} {text}")


def _fields(value: Any) -> Iterator[str]:
    """Yield the names of the fields in it."""
    if isinstance(value, str):
        yield from (field for field, _ in _PLACEHOLDER.findall(value))
    elif isinstance(value, dict):
        yield from _fields([*value, *value.values()])
    elif isinstance(value, list):
        for inner in value:
            yield from _fields(inner)


def _values(template: Template, endpoint: Endpoint) -> Callable[[str], Any]:
    """Looks up the value of a field; None where it is not declared."""
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


def _filled(value: Any, values: Callable[[str], Any]) -> Any:
    """*value* with its placeholders replaced: one that is alone keeps its type, or is left out if empty."""
    if isinstance(value, str):
        alone = _PLACEHOLDER.fullmatch(value)
        if not alone or not alone[1]:
            return _text(value, values)
        found = values(alone[1])
        return _LEFT_OUT if found is None else _text(value, values) if alone[2] else found
    if isinstance(value, dict):
        items = ((_text(key, values), _filled(inner, values)) for key, inner in value.items())
        return {key: inner for key, inner in items if inner is not _LEFT_OUT}
    if isinstance(value, list):
        return [inner for inner in (_filled(each, values) for each in value) if inner is not _LEFT_OUT]
    return value


def _text(text: str, values: Callable[[str], Any]) -> str:
    """A text with its placeholders replaced: what is not declared is empty."""

    def replaced(placeholder: re.Match[str]) -> str:
        if placeholder[1] is None:
            return "$"
        value = values(placeholder[1])
        if not isinstance(value, str):
            value = "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        # As Java's URLEncoder has it.
        return quote_plus(value, safe="*").replace("~", "%7E") if placeholder[2] else value

    return _PLACEHOLDER.sub(replaced, text)
