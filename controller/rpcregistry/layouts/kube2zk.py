"""The layout of kube2zk: one persistent znode a service, ``BASE/<serviceName>``, with JSON in it.

    {"config":["keepalive 32"],"servers":["10.0.0.1","10.0.0.2"]}

*config* holds directives for nginx's ``upstream``, *servers* addresses without ports.  Source of the
format: zhaohuabing/kube2zk d2a9b457, ``register.go`` (Go's ``encoding/json``, which escapes ``<``, ``>``,
``&``, U+2028 and U+2029).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from rpcregistry.layouts.forms import Config, PerService, Rendered, numeric
from rpcregistry.model import Endpoint, Problem

DEFAULT_CONFIG = (
    "zone kg 8M",
    "kg_round_robin broken_tries=2 health_checks=5 max_uri_slots=0",
    "keepalive 32",
)

_GO_ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


class Content(msgspec.Struct, frozen=True):
    """What a znode of this layout holds; *others*: keys of other writers, as JSON."""

    config: tuple[str, ...] | None = None
    servers: tuple[str, ...] = ()
    others: Mapping[str, bytes] = {}


def parse(data: bytes) -> Content | None:
    """Decode the znode; None if it is no JSON of this layout.

    >>> parse(b'{"config":null,"servers":["10.0.0.1"],"x":1}')
    Content(config=None, servers=('10.0.0.1',), others={'x': b'1'})
    """
    try:
        # Decode as text first: msgspec does not check raw values for UTF-8, and we write them again.
        fields = msgspec.json.decode(data.decode(), type=dict[str, msgspec.Raw])
        return Content(
            config=_strings(fields.pop("config", None)),
            servers=_strings(fields.pop("servers", None)) or (),
            others={key: bytes(value) for key, value in fields.items()},
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _strings(value: msgspec.Raw | None) -> tuple[str, ...] | None:
    return None if value is None else msgspec.json.decode(value, type=tuple[str, ...] | None)


def encode(content: Content) -> bytes:
    r"""The znode's bytes.

    >>> encode(Content(("a<b",), ("10.0.0.1",)))
    b'{"config":["a\\u003cb"],"servers":["10.0.0.1"]}'
    """
    fields = [
        ("config", _dump(content.config)),
        ("servers", _dump(content.servers)),
        *((key, value.decode()) for key, value in content.others.items()),
    ]
    return ("{" + ",".join(f"{_dump(key)}:{value}" for key, value in fields) + "}").encode()


def _dump(value: Sequence[str] | str | None) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).translate(_GO_ESCAPES)


def servers(endpoints: Iterable[Endpoint], keep: Iterable[str] = ()) -> tuple[str, ...]:
    """The distinct addresses in numeric order, IPv4 first; *keep* are addresses that must stay.

    A text that is no address is left out, even if another writer put it there.
    """
    listed = {*(endpoint.ip for endpoint in endpoints), *keep}
    numbered = sorted((number, address) for address in listed if (number := numeric(address)))
    return tuple(address for _, address in numbered)


def render(
    endpoints: Iterable[Endpoint],
    config: Config,
    observed: bytes | None,
    kept: Config,
    keep: Callable[[str], bool],
) -> Rendered:
    """What the znode should hold: see ``PerService``."""
    content = parse(observed) if observed is not None else Content()
    notes: tuple[Problem, ...] = ()
    if content is None:
        content = Content()
        notes = (Problem("ContentReplaced", "the znode held no JSON of layout kube2zk; it was replaced"),)
    chosen = next((lines for lines in (config, content.config, kept) if lines is not None), DEFAULT_CONFIG)
    listed = servers(endpoints, filter(keep, content.servers))
    return Rendered(encode(Content(chosen, listed, content.others)), chosen, notes)


def withdrawn(observed: bytes | None, kept: Config) -> Rendered:
    """The content of a withdrawn znode that has children, so it cannot be deleted; keeps the config."""
    content = (parse(observed) if observed is not None else None) or Content(kept)
    config = content.config if content.config is not None else kept
    return Rendered(encode(msgspec.structs.replace(content, servers=())), config)


def addresses(data: bytes) -> tuple[str, ...]:
    """The addresses that the znode holds."""
    content = parse(data)
    return content.servers if content else ()


LAYOUT = PerService(render, withdrawn, addresses)
