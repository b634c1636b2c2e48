"""Which endpoints a layout takes, and what its clients read."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from urllib.parse import quote_plus, unquote_plus

from tests.faults.harness.oracle import templates as templating
from tests.faults.harness.oracle.annotations import Entry
from tests.faults.harness.oracle.objects import SERVICE
from tests.faults.harness.oracle.services import Endpoint
from tests.faults.harness.oracle.templates import Template

_NEEDS_PORT = ("spring-cloud", "dubbo", "serverset", "sofa")


Templates = Mapping[str, Template]
"""The layouts that are not built in, by name."""

NONE: Templates = {}


def written(layout: str, endpoint: Endpoint, templates: Templates = NONE) -> str | None:
    """The endpoint's address in *layout*; None where the layout cannot take it."""
    entry, ip = endpoint.entry, endpoint.ip
    if layout in templates:
        return templating.described(templates[layout], endpoint)
    if layout == "kube2zk":
        return ip
    if layout in _NEEDS_PORT and entry.port is None:
        return None
    if layout in ("dubbo", "sofa") and not _fits_url(entry):
        return None
    if layout == "sofa" and ":" in ip:  # its client reads no IPv6
        return None
    return _joined(ip, entry.port)


def beside(layout: str, service: str, templates: Templates = NONE) -> frozenset[str]:
    """What clients find of a service with endpoints besides these."""
    return templating.static(templates[layout], service) if layout in templates else frozenset()


def known_as(layout: str, service: str, templates: Templates = NONE) -> str:
    """The name under which ``read`` has what clients find of a service."""
    return templating.known_as(templates[layout], service) if layout in templates else service


def _fits_url(entry: Entry) -> bool:
    """Whether clients that decode a URL first and take it apart afterwards read what was meant."""
    return re.fullmatch(r"([a-z][a-z0-9+.-]*)?", entry.protocol) is not None and not any(
        re.search(r"[&=#?%+\s\x00-\x1f\x7f]", text) for text in (entry.version, entry.group)
    )


def _joined(ip: str, port: int | None) -> str:
    if port is None:
        return ip
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def read(
    layout: str, base: str, znodes: Mapping[str, bytes], templates: Templates = NONE
) -> Mapping[str, frozenset[str]]:
    """What a client of *layout* finds below *base*: service to addresses, as in ``Found``.

    What a client cannot read is there as ``"unreadable NAME"``, which no address looks like; what it passes
    over (a provider that is switched off, say) is not.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for path, data in znodes.items():
        service, name = _place(layout, base, path, templates)
        if service is None or (name is None) != (layout == "kube2zk"):
            continue
        try:
            if layout in templates:
                found[service].add(templating.found(templates[layout], _below(base, path), data))
            else:
                found[service].update(_READERS[layout](name or service, data))
        except (ValueError, KeyError, TypeError, AttributeError):
            found[service].add(f"unreadable {name or service}")
    services = {service: addresses for service, addresses in found.items() if addresses}
    if layout in templates:
        contents = {"/".join(_below(base, path)): data for path, data in znodes.items()}
        for service, static in templating.found_static(templates[layout], list(services), contents):
            services[service].add(static)
    return {service: frozenset(addresses) for service, addresses in services.items()}


def owned(layout: str, base: str, path: str, templates: Templates = NONE) -> str | None:
    """The service whose entry at *path* can be the controller's, by its shape; None where it cannot be.

    Directories, which clients make as well, are nobody's.
    """
    service, name = _place(layout, base, path, templates)
    if service is None or not SERVICE.fullmatch(service) or (name is None) != (layout == "kube2zk"):
        return None
    if name is None:
        return service
    is_ours = templating.is_marked(name) if layout in templates else _OURS[layout].search(unquote_plus(name))
    return service if is_ours else None


def is_static(layout: str, base: str, path: str, data: bytes, templates: Templates = NONE) -> bool:
    """Whether a znode with *data* at *path* is one that the layout's template has beside the children."""
    return layout in templates and templating.is_static(templates[layout], _below(base, path), data)


def _place(layout: str, base: str, path: str, templates: Templates) -> tuple[str | None, str | None]:
    """Which service's directory *path* is in, and the child's name; no child: the service's own znode."""
    below = _below(base, path)
    if layout in templates:
        return templating.place(templates[layout], below) if below else (None, None)
    match layout, below:
        case "dubbo", [directory, "providers", name]:
            # Consumers look for the encoded name of their interface, and nowhere else.
            service = unquote_plus(directory)
            return (service if quote_plus(service, safe="*") == directory else None), name
        case "sofa", [service, "providers", name]:
            return service, name
        case "dubbo" | "sofa", _:
            return None, None
        case _, [service, name]:
            return service, name
        case _, [service] if service:
            return service, None
    return None, None


def _below(base: str, path: str) -> list[str]:
    """The names on the way from *base* to *path*; none where it is not below."""
    root = base.rstrip("/") + "/"
    return path.removeprefix(root).split("/") if path.startswith(root) else []


def _kube2zk(_: str, data: bytes) -> Iterator[str]:
    for server in json.loads(data)["servers"] or ():
        ip_address(server)
        yield server


def _curator(_: str, data: bytes) -> Iterator[str]:
    instance = json.loads(data)
    strict = {
        "name",
        "id",
        "address",
        "port",
        "sslPort",
        "payload",
        "registrationTimeUTC",
        "serviceType",
        "uriSpec",
    }
    if not instance.keys() - {"enabled"} <= strict:  # readers before 2.12 fail on any other
        raise ValueError(instance.keys())
    if instance.get("enabled", True):
        yield _joined(instance["address"], instance["port"])


def _spring_cloud(name: str, data: bytes) -> Iterator[str]:
    instance = json.loads(data)
    payload = instance["payload"]
    if payload["@class"] != "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance":
        raise ValueError(payload["@class"])
    if instance["port"] is None or not all(isinstance(v, str) for v in payload["metadata"].values()):
        raise ValueError(name)
    if payload["metadata"].get("instance_status", "UP") == "UP":
        yield from _curator(name, data)


def _serverset(name: str, data: bytes) -> Iterator[str]:
    if not name.startswith("member_"):
        return
    member = json.loads(data)
    if not re.fullmatch(r"member_(0\d{9}|[1-9]\d{9,})", name) or not isinstance(
        member["additionalEndpoints"], dict
    ):
        raise ValueError(name)
    if member["status"] == "ALIVE":
        yield _joined(member["serviceEndpoint"]["host"], int(member["serviceEndpoint"]["port"]))


def _provider(name: str) -> tuple[str, Mapping[str, str]]:
    """A provider URL's address and parameters, as both clients take it apart: decoded first, then split."""
    found = re.fullmatch(
        r"([a-z][a-z0-9+.-]*)://(\[[^\]]+\]|[^:/?]+):(\d+)(?:/[^?]*)?(?:\?(.*))?", unquote_plus(name)
    )
    if not found:
        raise ValueError(name)
    parameters = dict(part.partition("=")[::2] for part in (found[4] or "").split("&"))
    return f"{found[2]}:{found[3]}", parameters


def _dubbo(name: str, _: bytes) -> Iterator[str]:
    address, parameters = _provider(name)
    if parameters.get("enabled", "true") != "false":
        yield address


def _sofa(name: str, _: bytes) -> Iterator[str]:
    address, parameters = _provider(name)
    if "uniqueId" in parameters:  # without one it equals no consumer's
        yield address


_READERS: Mapping[str, Callable[[str, bytes], Iterator[str]]] = {
    "kube2zk": _kube2zk,
    "curator": _curator,
    "spring-cloud": _spring_cloud,
    "dubbo": _dubbo,
    "serverset": _serverset,
    "sofa": _sofa,
}

_HEX = r"[0-9a-f]{8}"
_OURS: Mapping[str, re.Pattern[str]] = {
    "curator": re.compile(rf".-{_HEX}-{_HEX}(-{_HEX})?$"),  # earlier versions wrote no third part
    "spring-cloud": re.compile(rf".-{_HEX}-{_HEX}(-{_HEX})?$"),
    "dubbo": re.compile(rf"[?&]rpcregistry={_HEX}-{_HEX}(&|$)"),
    "serverset": re.compile(r"^member_[1-9]\d{17}$"),
    "sofa": re.compile(rf"[?&]rpcregistry={_HEX}-{_HEX}(&|$)"),
}
