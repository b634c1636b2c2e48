"""Provider URLs as names of znodes: what the layouts of Dubbo and SOFARPC have in common."""

import re
from collections.abc import Mapping
from urllib.parse import quote_plus, unquote_plus

from rpcregistry.model import Endpoint, Problem

MARK = "rpcregistry"  # the parameter that carries our mark

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_VALUE = re.compile(r"[^&=#?%+\s\x00-\x1f\x7f]+")  # both clients split on '&' and '=' after decoding


def encode(url: str) -> str:
    """*url* as a name, byte for byte as ``java.net.URLEncoder`` encodes it.

    >>> encode("dubbo://10.0.0.1:20880/a.B?x=~*")
    'dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa.B%3Fx%3D%7E*'
    """
    return quote_plus(url, safe="*").replace("~", "%7E")


def decode(name: str) -> str:
    """The reverse of ``encode``.

    >>> decode("com.foo.Outer%24Inner")
    'com.foo.Outer$Inner'
    """
    return unquote_plus(name)


def problem(endpoint: Endpoint) -> Problem | None:
    """What of the endpoint no URL can carry."""
    if not _SCHEME.fullmatch(endpoint.protocol):
        return Problem("InvalidName", f"the protocol {endpoint.protocol!r} cannot be a URL's scheme")
    for field, value in (("version", endpoint.version), ("group", endpoint.group)):
        if value and not _VALUE.fullmatch(value):
            return Problem("InvalidName", f"the {field} {value!r} cannot stand in a URL")
    return None


def metadata(endpoint: Endpoint) -> Mapping[str, str]:
    """The metadata that a URL can carry; the rest is left out."""
    return {
        key: value
        for key, value in endpoint.metadata.items()
        if _VALUE.fullmatch(key) and _VALUE.fullmatch(value)
    }


def parameters(fields: Mapping[str, str]) -> str:
    """A URL's parameters, sorted by key."""
    return "&".join(f"{key}={value}" for key, value in sorted(fields.items()))
