"""Layouts that are described by a file instead of code: one znode an endpoint, in a directory a service.

A template is a mapping (in YAML, say):

    name: ${pod}_${digits}                     # the child's name; needs ${id} or ${digits}
    data: {host: "${ip}", port: "${port}"}     # a mapping or list becomes compact JSON, a string stays text
    below: services                            # optional: the directory is BASE/<service>/<below>
    protocol: http                             # optional: of endpoints that declare none

A ``${field}`` stands for what an endpoint declares; ``${field|url}`` encodes it as Java's URLEncoder does,
and ``$$`` is a dollar.  A string that is nothing but one placeholder keeps the field's type; what is not
declared is left out of a mapping, and empty in a text.  There is no more to it: no code, no conditions.

    service, pod, node, version, group, protocol      text
    ip, host, address                                 the address; in brackets where IPv6; host:port
    port, weight, started                             numbers; *started* in milliseconds since 1970
    metadata, metadata.KEY                            all of it, or the value of one key
    instance                                          identifies the endpoint, and never changes
    id, digits (in *name* only)                       the same, and change with *data*

Names change with the data because some clients read a child only once.  An endpoint whose name would hide
its *id* or *digits* between others (``${pod}${digits}``, of the pod ``echo-1``) is refused.  Where *below*
changes, no client or controller reads the old directory any more: ``purge`` first.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from rpcregistry.layouts import marks, urls
from rpcregistry.layouts.forms import Address, Child, PerEndpoint, host, missing_port, numeric, started
from rpcregistry.model import Endpoint, Problem

_PLACEHOLDER = re.compile(
    r"\$(?:\$|\{(?P<field>[a-z]+(?:\.[^|{}]+)?)(?P<url>\|url)?\}|(?P<wrong>.?))", re.DOTALL
)
_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]+")

_ADDRESS = re.compile(
    r"(?<![0-9A-Za-z.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]*(?::[0-9A-Fa-f]*){2,7})(?![0-9A-Za-z])"
)

_NEED_PORT = {"port", "address"}
_IN_NAMES = {"id", "digits"}


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


_FIELDS = frozenset(_values("", Endpoint(pod_name="", pod_uid="", ip="", ips=(), ready=False), ""))


class Template(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a template file says."""

    name: str
    data: str | dict[str, Any] | list[Any] = ""
    below: str = ""
    protocol: str = ""


def layout(fields: Any) -> PerEndpoint:
    """The layout that a template describes; ``ValueError`` says what is wrong with it.

    >>> layout({"name": "${pod}", "data": "${address}"})
    Traceback (most recent call last):
    ValueError: name: it has to contain ${id} or ${digits}, which mark our children
    """
    template = msgspec.convert(fields, Template)
    named, used = set(_fields(template.name)), set(_fields(template.data))
    for field in sorted(named | used):
        if field not in _FIELDS | _IN_NAMES and not field.startswith("metadata."):
            raise ValueError(f"there is no field {field!r}")
    if used & _IN_NAMES:
        raise ValueError("data: ${id} and ${digits} are made from it, so they cannot be in it")
    if not named & _IN_NAMES:
        raise ValueError("name: it has to contain ${id} or ${digits}, which mark our children")
    if template.below and not all(map(_SEGMENT.fullmatch, template.below.split("/"))):
        raise ValueError(f"below: {template.below!r} is no path")
    return PerEndpoint(
        partial(_child, template, bool((named | used) & _NEED_PORT)),
        slot=_slot,
        below=template.below,
        protocol=template.protocol,
        overlap=True,
        address=_addresses,
    )


def _addresses(name: str, data: bytes) -> Address:
    """All IP addresses in a child, as clients that are told of each child may read any; None without one.

    >>> _addresses("a_10.0.0.1", b"tcp://[fd00::1]:80?until=12:30:00") == _addresses("fd00::1 10.0.0.1", b"")
    True
    """
    found = _ADDRESS.findall(unquote_plus(f"{name} {data.decode(errors='replace')}"))
    return frozenset(filter(None, map(numeric, found))) or None


def _slot(name: str, cluster_id: str) -> str | None:
    """As ``marks.slot``; of either kind, so that a template may change from one to the other."""
    return marks.slot(name, cluster_id) or marks.number_slot(name, cluster_id)


def _fields(value: Any) -> Iterator[str]:
    """The names of the fields in it."""
    match value:
        case str():
            for found in _PLACEHOLDER.finditer(value):
                if found["wrong"] is not None:
                    raise ValueError(f"{value!r}: write a placeholder ${{field}}, and a dollar $$")
                if found["field"]:
                    yield found["field"]
        case dict():
            for key, inner in value.items():
                yield from _fields(key)
                yield from _fields(inner)
        case list():
            for inner in value:
                yield from _fields(inner)


def _child(
    template: Template, needs_port: bool, service_name: str, endpoint: Endpoint, cluster_id: str
) -> Child | Problem:
    if needs_port and endpoint.port is None:
        return missing_port(endpoint)

    values = _values(service_name, endpoint, cluster_id)

    def look_up(field: str) -> Any:
        return values[field] if "." not in field else endpoint.metadata.get(field.partition(".")[2])

    filled = _fill(template.data, look_up)
    data = filled.encode() if isinstance(template.data, str) else msgspec.json.encode(filled)
    values["id"] = marks.mark(cluster_id, endpoint, data)
    values["digits"] = marks.number(cluster_id, endpoint, data)
    name = _text(template.name, look_up)
    if not _SEGMENT.fullmatch(name):
        return Problem("InvalidName", f"the znode of {endpoint.pod_name} cannot be called {name!r}")
    if _slot(name, cluster_id) not in {_slot(values[field], cluster_id) for field in _IN_NAMES}:
        message = (
            f"the znode of {endpoint.pod_name} would be called {name!r}, which hides whose it is: "
            "in the template, put a '-' or '_' before and after ${id} or ${digits}"
        )
        return Problem("InvalidName", message)
    return Child(name, data)


def _fill(value: Any, look_up: Callable[[str], Any], within: bool = False) -> Any:
    """*value* with its placeholders replaced; an undeclared field is None."""
    match value:
        case str() if (
            within and (whole := _PLACEHOLDER.fullmatch(value)) and whole["field"] and not whole["url"]
        ):
            return look_up(whole["field"])
        case str():
            return _text(value, look_up)
        case dict():
            filled = {_text(key, look_up): _fill(inner, look_up, within=True) for key, inner in value.items()}
            return {key: inner for key, inner in filled.items() if inner is not None}
        case list():
            found = (_fill(inner, look_up, within=True) for inner in value)
            return [inner for inner in found if inner is not None]
        case _:
            return value


def _text(value: str, look_up: Callable[[str], Any]) -> str:
    def replace(found: re.Match[str]) -> str:
        if not found["field"]:
            return "$"
        declared = look_up(found["field"])
        text = "" if declared is None else _as_text(declared)
        return urls.encode(text) if found["url"] else text

    return _PLACEHOLDER.sub(replace, value)


def _as_text(declared: Any) -> str:
    return declared if isinstance(declared, str) else msgspec.json.encode(declared).decode()
