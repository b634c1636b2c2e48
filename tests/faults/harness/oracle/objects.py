"""Objects of Kubernetes: what each says by itself, and which labels a selector selects."""

import re
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

Manifest = Mapping[str, Any]
"""An object as the API server answers it."""


_MANAGED_BY = ("app.kubernetes.io/managed-by", "rpcregistry")
PART_OF = "rpcregistry.dev/part-of"
SERVICE = re.compile(r"(?!zookeeper$)[A-Za-z0-9][A-Za-z0-9._$-]{0,252}")
_NEVER = [
    ip_network(n) for n in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255")
]
_NEVER += [ip_network(n) for n in ("::/128", "::1/128", "fe80::/10", "ff00::/8")]
_NAT64 = ip_network("64:ff9b::/96")


def name_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def namespace_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["namespace"])


def service_name_of(rpcservice: Manifest) -> str:
    return (rpcservice.get("spec") or {}).get("serviceName") or name_of(rpcservice)


def has_condition(manifest: Manifest, kind: str) -> bool:
    conditions = (manifest.get("status") or {}).get("conditions") or ()
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def is_generated(rpcservice: Manifest) -> bool:
    """Whether the controller made it and nobody else owns a field of its spec."""
    meta = rpcservice["metadata"]
    managers = meta.get("managedFields") or ()
    return (meta.get("labels") or {}).get(_MANAGED_BY[0]) == _MANAGED_BY[1] and not any(
        m.get("manager") != "rpcregistry" and "f:spec" in (m.get("fieldsV1") or {}) for m in managers
    )


def address_of(pod: Manifest) -> str | None:
    """The first address in its status that clients can be sent to."""
    status = pod.get("status") or {}
    reported = [status.get("podIP"), *(entry.get("ip") for entry in status.get("podIPs") or ())]
    return next((text for text in reported if text and _usable(text)), None)


def _usable(text: str) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            address = IPv4Address(int(address) & 0xFFFFFFFF)
        else:
            address = address.ipv4_mapped or address
    return not any(address in network for network in _NEVER if network.version == address.version)


# Label selectors, as an RpcService has them and as a flag has them.


def selects(selector: Manifest | None, labels: Mapping[str, str]) -> bool:
    """Whether an RpcService's selector selects; an empty one selects nothing."""
    wanted = ((selector or {}).get("matchLabels") or {}).items()
    terms = (selector or {}).get("matchExpressions") or ()
    return (
        bool(wanted or terms)
        and wanted <= labels.items()
        and all(_holds(term["operator"], labels.get(term["key"]), term.get("values") or ()) for term in terms)
    )


def _holds(operator: str, value: str | None, values: Collection[str]) -> bool:
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None


def matches(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether ``--pod-label-selector`` lets a pod with *labels* through."""
    terms = re.split(r",(?![^(]*\))", selector) if selector.strip() else []
    return all(_term_holds(term.strip(), labels) for term in terms)


def _term_holds(term: str, labels: Mapping[str, str]) -> bool:
    if found := re.fullmatch(r"(\S+)\s+(in|notin)\s*\((.*)\)", term):
        values = [value.strip() for value in found[3].split(",")]
        return _holds("In" if found[2] == "in" else "NotIn", labels.get(found[1]), values)
    if found := re.fullmatch(r"([^\s!=]+)\s*(!=|==?)\s*(\S*)", term):
        return _holds("NotIn" if found[2] == "!=" else "In", labels.get(found[1]), [found[3]])
    return _holds("DoesNotExist" if term.startswith("!") else "Exists", labels.get(term.lstrip("! ")), ())
