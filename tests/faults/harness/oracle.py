"""What ZooKeeper should hold, by the README's rules and from the Kubernetes objects alone.

A second opinion: it shares no code with the controller, so that no mistake is made twice.  It knows
one moment and no history: what the objects of one LIST come to once every change has arrived.  What
depends on the past is *undecided* where the objects show it, and else for the caller to allow (pods
that are missing from a LIST, refused writes, ``--policy upsert-only``).  ``tests/test_oracle.py``
compares it with the controller on random worlds.

Not in here: ``--max-znode-bytes``, layouts made by ``--template``.
"""

import json
import re
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from unicodedata import category
from urllib.parse import parse_qsl, quote_plus, unquote, unquote_plus, urlsplit

Manifest = Mapping[str, Any]
"""An object as the API server answers it."""

Found = Mapping[tuple[str, str], Mapping[str, frozenset[str]]]
"""By layout and base path: service to addresses.

An address is ``10.0.0.1:80`` or ``[fd00::1]:80``, or without a port ``10.0.0.1`` or ``fd00::1``, as all are
in the layout kube2zk.  A service without addresses is left out.
"""

Statuses = Mapping[tuple[str, str, str], frozenset["Row"]]
"""By namespace, service name and declared RpcService (``""``: the generated one, with all its parts).

A declared RpcService is there even without endpoints, a generated one only with some.
"""


@dataclass(frozen=True)
class World:
    """The objects of a cluster, and the flags of ``rpcregistry run`` that decide what is published.

    *register*: what ``--require-register-permission`` finds allowed, as (namespace, ServiceAccount, name of
    the RpcService); None without the flag.
    """

    pods: Sequence[Manifest] = ()
    nodes: Sequence[Manifest] = ()
    rpcservices: Sequence[Manifest] = ()
    namespaces: Sequence[Manifest] = ()
    layouts: Sequence[tuple[str, str]] = (("kube2zk", "/rpc_v2"),)
    namespace: Sequence[str] = ()
    pod_label_selector: str = ""
    cross_namespace: str = "union"
    register: Collection[tuple[str, str, str]] | None = None


@dataclass(frozen=True)
class Row:
    """Which endpoint a row of ``status.endpoints`` stands for, and whether it says Ready."""

    pod: str
    uid: str
    ip: str
    port: int | None
    ready: bool


def desired(world: World) -> Found:
    """What each layout should hold."""
    services = _services(world)
    return _found(world, {name: service.published for name, service in services.items()})


def undecided(world: World) -> Found:
    """What each layout may hold or lack, because the objects of one moment do not decide it.

    Pods that are not Ready on a Node that exists and is not Ready are held for a while, if they were
    published; in a namespace that ends no RpcService can be made any more.  What is found is right if it
    equals *desired*, give or take what is undecided.
    """
    silent = {_name(node) for node in world.nodes if not _condition(node, "Ready")}
    ending = {_name(space) for space in world.namespaces if space["metadata"].get("deletionTimestamp")}
    return _found(
        world,
        {
            name: service.unsure(
                lambda e: e.namespace in ending or (not e.ready and e.pod["spec"].get("nodeName") in silent)
            )
            for name, service in _services(world).items()
        },
    )


def statuses(world: World) -> Statuses:
    """Which endpoints each RpcService's status should list, Ready or not."""
    rows: dict[tuple[str, str, str], set[Row]] = {
        (head.namespace, head.service, head.name): set() for head in _heads(world) if not head.generated
    }
    for service in _services(world).values():
        for e in service.endpoints:
            owner = "" if e.head.generated else e.head.name
            row = Row(_name(e.pod), e.pod["metadata"]["uid"], e.ip, e.entry.port, e.ready)
            rows.setdefault((e.namespace, e.entry.service, owner), set()).add(row)
    return {key: frozenset(found) for key, found in rows.items()}


def listed(rpcservices: Iterable[Manifest]) -> Statuses:
    """Which endpoints the statuses of *rpcservices* do list: to compare with ``statuses``."""
    rpcservices = list(rpcservices)
    declared = {
        (_namespace(service), _name(service)) for service in rpcservices if not _is_generated(service)
    }
    rows: dict[tuple[str, str, str], set[Row]] = {}
    for service in rpcservices:
        labels = service["metadata"].get("labels") or {}
        head = labels.get(_PART_OF, "") if _is_generated(service) else _name(service)
        owner = head if (_namespace(service), head) in declared else ""
        found = {
            Row(row["podName"], row["podUID"], row["ip"], row.get("port"), row["ready"])
            for row in (service.get("status") or {}).get("endpoints") or ()
        }
        if found or owner:
            rows.setdefault((_namespace(service), _service_name(service), owner), set()).update(found)
    return {key: frozenset(found) for key, found in rows.items()}


# Objects: what each says by itself.

_MANAGED_BY = ("app.kubernetes.io/managed-by", "rpcregistry")
_PART_OF = "rpcregistry.dev/part-of"
_SERVICE = re.compile(r"(?!zookeeper$)[A-Za-z0-9][A-Za-z0-9._$-]{0,252}")
_NEVER = [
    ip_network(n) for n in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255")
]
_NEVER += [ip_network(n) for n in ("::/128", "::1/128", "fe80::/10", "ff00::/8")]
_NAT64 = ip_network("64:ff9b::/96")


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _namespace(manifest: Manifest) -> str:
    return str(manifest["metadata"]["namespace"])


def _service_name(rpcservice: Manifest) -> str:
    return (rpcservice.get("spec") or {}).get("serviceName") or _name(rpcservice)


def _condition(manifest: Manifest, kind: str) -> bool:
    conditions = (manifest.get("status") or {}).get("conditions") or ()
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def _is_generated(rpcservice: Manifest) -> bool:
    """Whether the controller made it and nobody else owns a field of its spec."""
    meta = rpcservice["metadata"]
    managers = meta.get("managedFields") or ()
    return (meta.get("labels") or {}).get(_MANAGED_BY[0]) == _MANAGED_BY[1] and not any(
        m.get("manager") != "rpcregistry" and "f:spec" in (m.get("fieldsV1") or {}) for m in managers
    )


def _address(pod: Manifest) -> str | None:
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


def _selects(selector: Manifest | None, labels: Mapping[str, str]) -> bool:
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


def _matches(selector: str, labels: Mapping[str, str]) -> bool:
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


# Annotations.  A bad entry costs that entry, a bad text all that it says.


@dataclass(frozen=True)
class _Entry:
    """One service that a pod says it serves, as far as it decides what is published."""

    service: str
    port: int | None = None
    version: str = ""
    group: str = ""
    protocol: str = ""


def _entries(pod: Manifest) -> list[_Entry]:
    """What a pod declares; of the same service and port, the first counts."""
    labels = pod["metadata"].get("labels") or {}
    annotations = pod["metadata"].get("annotations") or {}
    texts: list[tuple[str, Callable[[Any], _Entry | None]]] = []
    if labels.get("rpc-service") == "true":
        texts.append((annotations.get("rpc-service", ""), _rpc_service))
    if labels.get("app.io/label") == "app.io-value":
        texts.append((_unbase64(annotations.get("app.io/annotation", "")), _app_io))
    found: dict[tuple[str, int | None], _Entry] = {}
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


def _rpc_service(item: Any) -> _Entry | None:
    """``{"serviceName": NAME, "port": …, "version": …, …}``; keys that nobody knows are passed over."""
    if not isinstance(item, dict):
        return None
    local = item.get("local", False)
    if not isinstance(local, bool) or (local and "port" not in item):
        return None
    return _entry(item.get("serviceName"), item, item.get("metadata", {}))


def _app_io(item: Any) -> _Entry | None:
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


def _entry(name: Any, details: Mapping[str, Any], metadata: Any) -> _Entry | None:
    """The entry, where all of it is as it should be."""
    if not isinstance(name, str) or not _SERVICE.fullmatch(name):
        return None
    if not all(fits(details[key]) for key, fits in _DETAILS.items() if key in details):
        return None
    if not isinstance(metadata, dict) or len(metadata) > 32:
        return None
    if not all(_is_text(key) and _is_text(value) for key, value in metadata.items()):
        return None
    return _Entry(name, **{key: details[key] for key in _DETAILS if key != "weight" and key in details})


# Services: who lists which pods, and which of them are published.


@dataclass(frozen=True)
class _Head:
    """An RpcService that lists endpoints, or will once it is made.

    *rank* orders those of one service: declared before generated, then by age; what is not there yet is last.
    """

    namespace: str
    service: str
    name: str
    generated: bool
    rank: tuple[bool, bool, str, str]
    spec: Manifest = field(compare=False)


@dataclass(frozen=True)
class _Endpoint:
    head: _Head
    pod: Manifest
    entry: _Entry
    ip: str

    @property
    def namespace(self) -> str:
        return self.head.namespace

    @property
    def ready(self) -> bool:
        return _condition(self.pod, "Ready")

    @property
    def started(self) -> bool:
        """Whether its containers have all been started once: what Kubernetes calls Running."""
        return self.ready or self.pod["status"].get("phase") == "Running"

    @property
    def everything(self) -> bool:
        return bool(self.head.spec.get("publishNotReadyAddresses"))


@dataclass(frozen=True)
class _Service:
    """All RpcServices of one name; *heads*: those that may publish, the first one first."""

    heads: Sequence[_Head]
    endpoints: Sequence[_Endpoint]

    @cached_property
    def threshold(self) -> int:
        asked = (head.spec.get("protectThreshold") or 0 for head in self.heads if not head.generated)
        return next(filter(None, asked), 0)

    @property
    def allowed(self) -> list[_Endpoint]:
        return [e for e in self.endpoints if e.head in self.heads]

    @property
    def published(self) -> list[_Endpoint]:
        counted = [e for e in self.allowed if e.started]
        protected = sum(e.ready for e in counted) * 100 < self.threshold * len(counted)
        return [e for e in self.allowed if e.ready or e.everything or (protected and e.started)]

    def unsure(self, doubtful: Callable[[_Endpoint], bool]) -> list[_Endpoint]:
        """The *doubtful* endpoints; all, where one of them may decide on others."""
        found = list(filter(doubtful, self.endpoints))
        alone = self.threshold == 0 and len(self.allowed) == len(self.endpoints)
        return found if alone or not found else list(self.endpoints)


def _heads(world: World) -> list[_Head]:
    """The RpcServices there are, but for parts, by rank."""
    heads = []
    for service in world.rpcservices:
        meta, generated = service["metadata"], _is_generated(service)
        watched = not world.namespace or _namespace(service) in world.namespace
        if watched and not (generated and _PART_OF in meta["labels"]):
            rank = (generated, False, meta.get("creationTimestamp") or "", meta["uid"])
            where = _namespace(service), _service_name(service), _name(service)
            heads.append(_Head(*where, generated, rank, service.get("spec") or {}))
    return sorted(heads, key=lambda head: head.rank)


def _services(world: World) -> Mapping[str, _Service]:
    """Every service that a declared RpcService or a pod names."""
    there = _heads(world)
    named: dict[str, set[_Head]] = defaultdict(set)
    endpoints: dict[str, list[_Endpoint]] = defaultdict(list)
    for head in there:
        if not head.generated:
            named[head.service].add(head)
    for pod in world.pods:
        ip = None if pod["metadata"].get("deletionTimestamp") else _address(pod)
        for head, entry in _memberships(world, there, pod):
            named[head.service].add(head)
            if ip:
                endpoints[head.service].append(_Endpoint(head, pod, entry, ip))
    return {
        name: _Service(_may_publish(sorted(heads, key=lambda head: head.rank), world), endpoints[name])
        for name, heads in named.items()
    }


def _memberships(world: World, there: Sequence[_Head], pod: Manifest) -> Iterator[tuple[_Head, _Entry]]:
    """The RpcServices that are to list the pod, as soon as it has an address, and as what."""
    space, labels = _namespace(pod), pod["metadata"].get("labels") or {}
    if (world.namespace and space not in world.namespace) or not _matches(world.pod_label_selector, labels):
        return
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return
    account = pod["spec"].get("serviceAccountName") or "default"
    here = [head for head in there if head.namespace == space]
    joined = set()
    for entry in _entries(pod):
        name = entry.service
        made = _Head(space, name, name, True, (True, True, space, ""), {})
        head = next((head for head in here if head.service == name), made)
        if world.register is None or (space, account, head.name) in world.register:
            joined.add(name)
            yield head, entry
    for head in here:
        # A pod joins what it does not name itself, and of two RpcServices of one name the older one.
        if not head.generated and head.service not in joined and _selects(head.spec.get("selector"), labels):
            joined.add(head.service)
            keys = head.spec.keys() & {"port", "version", "group", "protocol"}
            yield head, _Entry(head.service, **{key: head.spec[key] for key in keys})


def _may_publish(heads: Sequence[_Head], world: World) -> Sequence[_Head]:
    """All of them, or with ``--cross-namespace=deny`` those of the first one's namespace."""
    if world.cross_namespace == "union":
        return heads
    return [head for head in heads if head.namespace == heads[0].namespace]


# Layouts: which endpoints they take, and what their clients read.

_NEEDS_PORT = ("spring-cloud", "dubbo", "serverset", "sofa")


def _found(world: World, endpoints: Mapping[str, Iterable[_Endpoint]]) -> Found:
    return {
        (layout, base): {
            name: found
            for name, chosen in endpoints.items()
            if (found := frozenset(filter(None, (_written(layout, e) for e in chosen))))
        }
        for layout, base in world.layouts
    }


def _written(layout: str, endpoint: _Endpoint) -> str | None:
    """The endpoint's address in *layout*; None where the layout cannot take it."""
    entry, ip = endpoint.entry, endpoint.ip
    if layout == "kube2zk":
        return ip
    if layout in _NEEDS_PORT and entry.port is None:
        return None
    if layout in ("dubbo", "sofa") and not _fits_url(entry):
        return None
    if layout == "sofa" and ":" in ip:  # its client reads no IPv6
        return None
    return _joined(ip, entry.port)


def _fits_url(entry: _Entry) -> bool:
    """Whether clients that decode a URL first and take it apart afterwards read what was meant."""
    return re.fullmatch(r"([a-z][a-z0-9+.-]*)?", entry.protocol) is not None and not any(
        re.search(r"[&=#?%+\s\x00-\x1f\x7f]", text) for text in (entry.version, entry.group)
    )


def _joined(ip: str, port: int | None) -> str:
    if port is None:
        return ip
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def read(layout: str, base: str, znodes: Mapping[str, bytes]) -> Mapping[str, frozenset[str]]:
    """What a client of *layout* finds below *base*: service to addresses, as in ``Found``.

    What a client cannot read is there as ``"unreadable NAME"``, which no address looks like; what it passes
    over (a provider that is switched off, say) is not.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for path, data in znodes.items():
        service, name = _place(layout, base, path)
        if service is None or (name is None) != (layout == "kube2zk"):
            continue
        try:
            found[service].update(_READERS[layout](name or service, data))
        except (ValueError, KeyError, TypeError, AttributeError):
            found[service].add(f"unreadable {name or service}")
    return {service: frozenset(addresses) for service, addresses in found.items() if addresses}


def owned(layout: str, base: str, path: str) -> str | None:
    """The service whose entry at *path* can be the controller's, by its shape; None where it cannot be.

    Directories, which clients make as well, are nobody's.
    """
    service, name = _place(layout, base, path)
    if service is None or not _SERVICE.fullmatch(service) or (name is None) != (layout == "kube2zk"):
        return None
    return service if name is None or _OURS[layout].search(unquote_plus(name)) else None


def _place(layout: str, base: str, path: str) -> tuple[str | None, str | None]:
    """Which service's directory *path* is in, and the child's name; no child: the service's own znode."""
    root = base.rstrip("/") + "/"
    below = path.removeprefix(root).split("/") if path.startswith(root) else []
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
