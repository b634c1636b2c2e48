"""What a pod's annotations declare.  A bad entry costs that entry, a bad text all that it says."""

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unicodedata import category
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.faults.harness.oracle.objects import SERVICE, Manifest


@dataclass(frozen=True)
class Entry:
    """One service that a pod says it serves."""

    service: str
    port: int | None = None
    version: str = ""
    group: str = ""
    protocol: str = ""
    weight: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def entries_of(pod: Manifest) -> list[Entry]:
    """What a pod declares; of the same service and port, the first counts."""
    labels = pod["metadata"].get("labels") or {}
    annotations = pod["metadata"].get("annotations") or {}
    texts: list[tuple[str, Callable[[Any], Entry | None]]] = []
    if labels.get("rpc-service") == "true":
        texts.append((annotations.get("rpc-service", ""), _rpc_service))
    if labels.get("app.io/label") == "app.io-value":
        texts.append((_unbase64(annotations.get("app.io/annotation", "")), _app_io))
    found: dict[tuple[str, int | None], Entry] = {}
    for text, entry in texts:
        for item in _array(text):
            if declared := entry(item):
                found.setdefault((declared.service, declared.port), declared)
    return list(found.values())


def _unbase64(text: str) -> str:
    try:
        return b64decode("".join(text.split()), validate=True).decode()
    except ValueError:
        return ""


def _array(text: str) -> Sequence[Any]:
    """A JSON array of at most 32 entries in at most 16 KiB; empty where it is anything else."""
    try:
        found = _json(text) if len(text.encode()) <= 16 * 1024 else None
    except (ValueError, RecursionError):
        return ()
    return found if isinstance(found, list) and len(found) <= 32 else ()


def _json(text: str) -> Any:
    def unique(
        pairs: Sequence[tuple[str, Any]],
    ) -> Any:  # a key that is there twice makes an object of no shape
        return dict(pairs) if len({key for key, _ in pairs}) == len(pairs) else Ellipsis

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    # 20 digits are too large for every number here, and more are slow to read.
    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_int=lambda n: int(n[:20]))


def _rpc_service(item: Any) -> Entry | None:
    """``{"serviceName": NAME, "port": …, "version": …, …}``; keys that nobody knows are passed over."""
    if not isinstance(item, dict):
        return None
    local = item.get("local", False)
    if not isinstance(local, bool) or (local and "port" not in item):
        return None
    return _entry(item.get("serviceName"), item, item.get("metadata", {}))


def _app_io(item: Any) -> Entry | None:
    """``{"k": NAME or /…/NAME/providers[/URL], "v": an object, its JSON, a URL, or any text}``."""
    match item:
        case {"k": str(key), "v": str() | dict() as value}:
            name, url = key, ""
            if found := re.fullmatch(r"/(?:.*/)?([^/]*)/providers(?:/([^/]*))?", key, re.DOTALL):
                name, url = unquote(found[1]), unquote(found[2] or "")
            try:
                details = {**_from_url(url), **(_from_text(value) if isinstance(value, str) else value)}
            except (ValueError, TypeError, RecursionError):
                return None
            rest = {key: value for key, value in details.items() if key not in _DETAILS}
            return _entry(name, details, {key: _as_text(value) for key, value in rest.items()})
    return None


def _from_text(text: str) -> Mapping[str, Any]:
    if text.lstrip().startswith("{"):
        found: Mapping[str, Any] = _json(text)
        return {**found}
    return _from_url(text) or ({"value": text} if text and _is_text(text) else {})


def _from_url(text: str) -> Mapping[str, Any]:
    """What a provider's URL says, but for its address."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        return {}
    url = urlsplit(text)
    query: Mapping[str, Any] = dict(parse_qsl(url.query))
    found = {key: query[key] for key in query.keys() & {"version", "group", "weight"}}
    found |= {"protocol": url.scheme, "port": url.port}
    if "weight" in found:
        found["weight"] = int(found["weight"])
    return {key: value for key, value in found.items() if value is not None}


def _as_text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, int | float) and abs(value) < float("inf") else value


def _is_text(value: Any) -> bool:
    """At most 256 bytes, without control characters."""
    return (
        isinstance(value, str)
        and not any(category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value)
        and len(value.encode()) <= 256
    )


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


_DETAILS: Mapping[str, Callable[[Any], bool]] = {
    "port": lambda value: _is_whole(value, 1, 65535),
    "version": _is_text,
    "group": _is_text,
    "protocol": _is_text,
    "weight": lambda value: _is_whole(value, 0, 10000),
}


def _entry(name: Any, details: Mapping[str, Any], metadata: Any) -> Entry | None:
    """The entry, where all of it is as it should be."""
    if not isinstance(name, str) or not SERVICE.fullmatch(name):
        return None
    if not all(fits(details[key]) for key, fits in _DETAILS.items() if key in details):
        return None
    if not isinstance(metadata, dict) or len(metadata) > 32:
        return None
    if not all(_is_text(key) and _is_text(value) for key, value in metadata.items()):
        return None
    return Entry(name, metadata=metadata, **{key: details[key] for key in _DETAILS if key in details})
