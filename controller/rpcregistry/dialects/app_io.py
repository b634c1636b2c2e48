"""``app.io/annotation``: base64 of a JSON array of keys and values, as a registry would hold them."""

import json
import math
import re
from base64 import b64decode, b64encode
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from rpcregistry.dialects.entries import (
    DETAILS,
    METADATA,
    SERVICE_NAME,
    Dialect,
    Invalid,
    Repeated,
    check,
    details_of,
    parse,
    shown,
)
from rpcregistry.dialects.schemas import Schema, is_text
from rpcregistry.model import Declaration

_schema = Schema(
    {
        "type": "object",
        "required": ["k", "v"],
        "properties": {"k": {"type": "string"}, "v": {"type": ["string", "object"]}},
    }
)
_name = Schema(SERVICE_NAME)
_known_details = Schema({"properties": DETAILS})
_metadata = Schema(METADATA)


def _base64(annotation: str) -> str:
    try:
        return b64decode("".join(annotation.split()), validate=True).decode()
    except ValueError as error:
        raise ValueError(f"not base64 of UTF-8: {error}") from error


def _as_base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _declaration(entry: Any) -> Declaration:
    """``{"k": NAME, "v": VALUE}``: what a registry's key and value would be.

    NAME may be the key's whole path, ``/…/NAME/providers[/URL]`` with the URL quoted.  VALUE is an
    object or its JSON, a URL, or any text.  What VALUE does not say, the URL in the key may.
    """
    check(_schema, entry)
    name, url = _split_key(entry["k"])
    check(_name, name, "/k")
    details = _url_details(url, "/k") | _value_details(entry["v"])
    known = {key: value for key, value in details.items() if key in DETAILS}
    metadata = {key: _as_text(value) for key, value in details.items() if key not in DETAILS}
    check(_known_details, known, "/v")
    check(_metadata, metadata, "/v")
    return Declaration(service_name=name, metadata=metadata, **known)


def _entry(declared: Declaration) -> Any:
    """VALUE is the JSON of an object: readers in typed languages want a string there.

    There is no room in it for ``local``, nor for metadata under the name of a detail.
    """
    return {
        "k": declared.service_name,
        "v": json.dumps({**declared.metadata, **details_of(declared)}, ensure_ascii=False),
    }


def _split_key(key: str) -> tuple[str, str]:
    """The service's name, and the URL if there is one.

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
            details = parse(value)
        except ValueError as error:
            raise Invalid({"/v": f"not JSON: {error}"}) from error
    else:
        details = _url_details(value, "/v") or ({"value": value} if value and is_text(value) else {})
    if isinstance(details, Repeated):
        raise Invalid({"/v": f"the key {shown(details.key)} is there twice"})
    return dict(details)


def _as_text(value: Any) -> Any:
    """Numbers and booleans as their JSON; all else unchanged."""
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
        raise Invalid({pointer: f"{shown(url)} is not a provider's URL"}) from error
    return {key: value for key, value in details.items() if value is not None}


APP_IO = Dialect(
    "app.io",
    ("app.io/label", "app.io-value"),
    "app.io/annotation",
    _base64,
    _declaration,
    _as_base64,
    _entry,
)
