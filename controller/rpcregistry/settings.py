"""Flags and environment variables as values: durations, sizes, addresses, layouts.

Platform engineers type Kubernetes' and Go's formats, so those are ours: ``1h30m``, ``100ms`` (Go, package
time), ``512KiB`` or ``512Ki`` (Kubernetes quantities), ``kube2zk=/rpc_v2``.  A wrong text raises a
``ValueError`` that says what to write instead.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import IPv6Address, ip_address
from itertools import permutations
from pathlib import Path

import msgspec

from rpcregistry.layouts import LAYOUTS, Layout, templatefile
from rpcregistry.layouts.forms import PerEndpoint
from rpcregistry.model import MANAGED_BY
from rpcregistry.names import is_label_name, is_label_value
from rpcregistry.plan.publication import Adopt, CrossNamespace, Policy, PublicationSettings
from rpcregistry.zookeeper.access import Access

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s|us|µs|ns))+")
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_SIZE = re.compile(r"(\d+)\s*(|K|M|G|Ki|Mi|Gi|KiB|MiB|GiB|KB|MB|GB|B)")
LONGEST_DURATION = 10 * 366 * 86400.0
_MULTIPLES = {"": 1, "B": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster and ZooKeeper that a command acts on, and how it publishes services there."""

    kubeconfig: str | None
    context: str | None
    namespaces: tuple[str, ...]
    zk_servers: str
    zk_access: Access
    layouts: tuple[Layout, ...]
    cluster_id: str
    from_cluster: str
    cross_namespace: CrossNamespace
    adopt: Adopt
    max_znode_bytes: int

    def publication(self, cluster_id: str, policy: Policy = Policy.SYNC) -> PublicationSettings:
        """The rules by which plans publish for the cluster *cluster_id*."""
        return PublicationSettings(
            cluster_id=cluster_id,
            cross_namespace=self.cross_namespace,
            policy=policy,
            adopt=self.adopt,
            max_znode_bytes=self.max_znode_bytes,
            from_cluster=self.from_cluster,
        )


class Shown(msgspec.Struct, frozen=True):
    """A flag, its value as text, and what gave it: flag, environment or default."""

    flag: str
    value: str
    origin: str


class PageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The page: where it listens (``""``: nowhere), under which names, who may look, and all flags."""

    address: str = ""
    hosts: tuple[str, ...] = ()
    auth: str = "none"
    shown: tuple[Shown, ...] = ()


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of ``rpcregistry run``; durations are in seconds."""

    target: Target
    pod_label_selector: str
    controllers: tuple[str, ...]
    node_label: str
    require_register_permission: bool
    leader_elect: bool
    lease_namespace: str
    dry_run: bool
    once: bool
    batch_window: float
    resync_period: float
    compare_period: float
    policy: Policy
    guard_confirm: float
    ownership_grace: timedelta
    endpoints_per_object: int
    services_per_namespace: int
    generated_labels: Mapping[str, str]
    bind_address: str
    page: PageSettings = PageSettings()


def duration(text: str) -> float:
    """Parse a duration in Go's notation; return seconds.

    >>> duration("1h0m0s"), duration("100ms"), duration("0")
    (3600.0, 0.1, 0.0)
    """
    if text == "0":
        return 0.0
    if re.fullmatch(r"[0-9.]+", text):
        raise ValueError(f"{text!r} has no unit: write {text}s for seconds, or like 100ms or 1h30m")
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration: write it like 30s, 100ms or 1h30m (units: h, m, s, ms)")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PIECE.findall(text))
    if seconds > LONGEST_DURATION:
        raise ValueError(f"{text!r} is too long: write {LONGEST_DURATION / 3600:.0f}h or less")
    return seconds


def positive_duration(text: str) -> float:
    """Parse a ``duration`` that is not 0."""
    seconds = duration(text)
    if not seconds:
        raise ValueError("it has to be more than 0: write it like 30s")
    return seconds


def namespace(text: str) -> str:
    """Check a namespace's name (DNS-1123 label); ``""`` means all."""
    if text and (len(text) > 63 or not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", text)):
        several = "; repeat the flag for several, or separate them by spaces in its variable"
        advice = several if re.search(r"[,\s]", text) else ""
        raise ValueError(f"{text!r} is no namespace's name: a-z, 0-9 and '-', at most 63{advice}")
    return text


def label_name(text: str) -> str:
    """Check a label's name: at most 63 characters, after an optional DNS name and ``/``."""
    if not is_label_name(text):
        raise ValueError(f"{text!r} is no label's name: write it like rpcregistry.dev/node")
    return text


def labels(text: str) -> Mapping[str, str]:
    """Parse ``KEY=VALUE,…``, labels for objects that we generate.

    >>> labels("team=shop,example.com/tier=")
    {'team': 'shop', 'example.com/tier': ''}
    """
    found: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        key, separator, value = pair.strip().partition("=")
        if not separator or not is_label_name(key) or not is_label_value(value):
            raise ValueError(f"{pair!r} is no label: write it KEY=VALUE, for example team=shop")
        if key == MANAGED_BY[0] or key.startswith("rpcregistry.dev/"):
            raise ValueError(f"{key!r} is a label of the controller's own: choose another")
        found[key] = value
    return found


def cluster_id(text: str) -> str:
    """Check the id of one of the clusters that write to the same ZooKeeper: one segment of a path."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,253}", text) or text in (".", ".."):
        raise ValueError(f"{text!r} is no cluster id: A-Z, a-z, 0-9, '.', '_' and '-', at most 253")
    return text


def size(text: str) -> int:
    """Parse a number with a unit; return bytes.

    >>> size("512KiB"), size("1Mi"), size("1000")
    (524288, 1048576, 1000)
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no size: write it like 512KiB or 1MiB (units: B, KiB, MiB, K, M)")
    number, unit = match.groups()
    if not int(number):
        raise ValueError("it has to be more than 0: write it like 512KiB")
    return int(number) * _MULTIPLES[unit.removesuffix("B") if len(unit) > 1 else unit]


def bind_address(text: str) -> str:
    """Parse an address to listen at, and return ``HOST:PORT``; a port alone means all addresses, as in Go.

    >>> bind_address("8080"), bind_address(":8080"), bind_address("[::1]:8080")
    ('0.0.0.0:8080', '0.0.0.0:8080', '[::1]:8080')
    """
    host, port = _split_port(text if ":" in text else f":{text}")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{text!r} is no HOST:PORT: write it like 0.0.0.0:8080, [::1]:8080 or :8080")
    if host:
        _check_host(host, text)
    return f"{host or '0.0.0.0'}:{int(port)}"  # noqa: S104  the user asked for all addresses


def page_address(text: str) -> str:
    """Parse an address to listen at, as ``bind_address``; ``none`` and ``""`` mean nowhere.

    A variable needs the word: an empty one counts as not set.
    """
    return bind_address(text) if text not in ("", "none") else ""


def is_loopback(address: str) -> bool:
    """Whether ``HOST:PORT`` is reached from this machine (or pod) alone.

    >>> [is_loopback(f"{host}:8081") for host in ("127.0.0.1", "[::1]", "localhost", "0.0.0.0")]
    [True, True, True, False]
    """
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_name(text: str) -> str:
    """Check a name by which browsers call the page: as in a Host header, without a port."""
    if not _HOST.fullmatch(text) and not _is_ipv6(text.strip("[]")):
        raise ValueError(f"{text!r} is no host's name: write it like registry.example.com, without a port")
    return text


def zk_servers(text: str) -> str:
    """Check an ensemble, ``HOST:PORT,…[/CHROOT]``; the default port is 2181.

    >>> zk_servers("zk1:2181, [::1]:2181/a/")
    'zk1:2181,[::1]:2181/a'
    """
    if "://" in text:
        raise ValueError(f"{text!r}: write HOST:PORT,… without {text.partition('://')[0]}://")
    hosts, slash, chroot = text.partition("/")
    servers = ",".join(_server(server.strip()) for server in hosts.split(","))
    return servers + (_chroot(chroot) if slash else "")


def _server(text: str) -> str:
    if not text:
        raise ValueError("a server is missing: write HOST:PORT,… like zk1:2181,zk2:2181")
    if re.search(r"\s|;", text):
        raise ValueError(f"{text!r}: separate servers by commas, like zk1:2181,zk2:2181")
    host, port = _split_port(text)
    if not host:
        raise ValueError(f"{text!r} has no host: write HOST:PORT, like zk1:2181")
    _check_host(host, text)
    if host != text and (not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536):
        raise ValueError(f"{text!r}: {port!r} is no port: write 1 to 65535, like {host}:2181")
    return text


def _split_port(text: str) -> tuple[str, str]:
    """Split ``HOST:PORT``, whose host may be an IPv6 address in brackets."""
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if rest and not rest.startswith(":"):
            raise ValueError(f"{text!r}: a port follows the bracket after ':', like [::1]:2181")
        return host + bracket, rest[1:]
    if text.count(":") > 1:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, like [::1]:2181")
    host, _, port = text.partition(":")
    return host, port


def _check_host(host: str, text: str) -> None:
    if not (_is_ipv6(host[1:-1]) if host.startswith("[") else _HOST.fullmatch(host)):
        raise ValueError(f"{text!r}: {host!r} is no host's name or address")


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _chroot(text: str) -> str:
    """Check a chroot, given without its first ``/``; return it with that, or ``""`` for none."""
    path = text.rstrip("/")
    if "," in path:
        raise ValueError(f"the chroot '/{text}' comes once, after the last server: zk1:2181,zk2:2181/chroot")
    segments = path.split("/") if path else []
    if not all(segment.isprintable() and segment.strip() for segment in segments) or {".", ".."} & {
        *segments
    }:
        raise ValueError(
            f"the chroot '/{text}' has a segment that ZooKeeper refuses: empty, '.', '..' or blank"
        )
    if segments[:1] == ["zookeeper"]:
        raise ValueError(f"the chroot '/{text}' is ZooKeeper's own: choose another")
    return f"/{path}" if path else ""


def layout(text: str, templates: Mapping[str, PerEndpoint]) -> Layout:
    """Parse ``NAME=BASEPATH``; *templates* are layouts besides the built-in ones.

    >>> layout("kube2zk=/rpc_v2/", {}).base
    '/rpc_v2'
    """
    name, separator, base = text.partition("=")
    if not separator:
        raise ValueError(f"{text!r} is no layout: write it NAME=BASEPATH, for example kube2zk=/rpc_v2")
    if "," in text:
        raise ValueError(
            f"{text!r}: one layout each: repeat --layout, or separate them by spaces in RPCREGISTRY_LAYOUT"
        )
    if name not in {*LAYOUTS, *templates}:
        raise ValueError(
            f"there is no layout {name!r}; there is {', '.join([*LAYOUTS, *templates])}, and one of your own"
            f" by --template {name or 'NAME'}=FILE"
        )
    if base in ("", "/"):
        raise ValueError(f"{text!r} has no base path: write {name}=/{name}")
    return Layout(name, base_path(base), templates.get(name))


def template(text: str) -> tuple[str, PerEndpoint]:
    """Parse ``NAME=FILE``, a layout of the user's own; the file is YAML (``layouts.templatefile``)."""
    name, _, file = text.partition("=")
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) or not file:
        raise ValueError(f"{text!r} is no template: write it NAME=FILE; a name has a-z, 0-9 and '-'")
    if name in LAYOUTS:
        raise ValueError(f"there is a layout {name!r} already: choose another name")
    try:
        return name, templatefile.load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def check_bases(layouts: Sequence[Layout]) -> None:
    """Refuse a base path within another: clients of one layout cannot read another's znodes."""
    for one, other in permutations(layouts, 2):
        if f"{other.base}/".startswith(f"{one.base}/"):
            raise ValueError(f"two layouts need two base paths, neither within the other: {one.base}")


def base_path(text: str) -> str:
    """Check a znode path below which to publish; it need not exist yet."""
    if not text.startswith("/"):
        raise ValueError(f"the base path {text!r} has to start with '/': write '/{text or 'rpc_v2'}'")
    path = text.rstrip("/")
    segments = path.split("/")[1:]
    if not path or not all(re.fullmatch(r"[A-Za-z0-9._-]+", segment) for segment in segments):
        raise ValueError(f"the base path {text!r} needs one or more segments of A-Za-z0-9._-, like /rpc_v2")
    if segments[0] in ("zookeeper", "rpcregistry") or any(segment in (".", "..") for segment in segments):
        raise ValueError(f"the base path {text!r} is reserved: choose another, for example /rpc_v2")
    return path
