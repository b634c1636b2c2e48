"""What the command line and the environment say, as values: durations, sizes, layouts.

Formats are Kubernetes' and Go's, because that is what platform engineers type: ``1h30m``, ``100ms``
(Go, package time), ``512KiB`` or ``512Ki`` (Kubernetes quantities), ``kube2zk=/rpc_v2``.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import permutations
from pathlib import Path

import msgspec
import yaml

from controller.layouts import LAYOUTS
from controller.layouts.forms import PerEndpoint
from controller.layouts.template import layout as from_template
from controller.names import is_subdomain
from controller.plan.ledger import Layout
from controller.zkaccess import Access

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s|us|µs|ns))+")
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")
_SIZE = re.compile(r"(\d+)\s*(|K|M|G|Ki|Mi|Gi|KiB|MiB|GiB|KB|MB|GB|B)")
LONGEST_DURATION = 10 * 366 * 86400.0
_MULTIPLES = {"": 1, "B": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of ``rpcregistry run``; durations are in seconds, *max_znode_bytes* in bytes."""

    kubeconfig: str | None
    context: str | None
    namespaces: tuple[str, ...]
    pod_label_selector: str
    controllers: tuple[str, ...]
    node_label: str
    zk_servers: str
    zk_access: Access
    layouts: tuple[Layout, ...]
    cluster_id: str
    from_cluster: str
    cross_namespace: str
    require_register_permission: bool
    leader_elect: bool
    lease_namespace: str
    dry_run: bool
    batch_window: float
    resync_period: float
    compare_period: float
    policy: str
    adopt: str
    guard_confirm: float
    ownership_grace: timedelta
    endpoints_per_object: int
    max_znode_bytes: int
    bind_address: str


def duration(text: str) -> float:
    """Seconds, from Go's notation of a duration.

    >>> duration("1h0m0s"), duration("100ms"), duration("0")
    (3600.0, 0.1, 0.0)
    """
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration: write it like 30s, 100ms or 1h30m")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PIECE.findall(text))
    if seconds > LONGEST_DURATION:
        raise ValueError(f"{text!r} is too long: write {LONGEST_DURATION / 3600:.0f}h or less")
    return seconds


def positive_duration(text: str) -> float:
    """Seconds, as ``duration`` reads them, but not 0."""
    seconds = duration(text)
    if not seconds:
        raise ValueError("it has to be more than 0")
    return seconds


def namespace(text: str) -> str:
    """A namespace's name (DNS-1123 label); ``""`` stands for all."""
    if text and (len(text) > 63 or not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", text)):
        raise ValueError(f"{text!r} is no namespace's name: a-z, 0-9 and '-', at most 63")
    return text


def label_name(text: str) -> str:
    """The name of a label: at most 63 characters, perhaps with a DNS name and ``/`` before it."""
    prefix, _, name = text.rpartition("/")
    if not re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", name) or (
        text != name and not is_subdomain(prefix)
    ):
        raise ValueError(f"{text!r} is no label's name: write it like rpcregistry.dev/node")
    return text


def cluster_id(text: str) -> str:
    """What tells this cluster from others that write to the same ZooKeeper: one segment of a path."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,253}", text) or text in (".", ".."):
        raise ValueError(f"{text!r} is no cluster id: A-Z, a-z, 0-9, '.', '_' and '-', at most 253")
    return text


def size(text: str) -> int:
    """Bytes, from a number with a unit.

    >>> size("512KiB"), size("1Mi"), size("1000")
    (524288, 1048576, 1000)
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no size: write it like 512KiB or 1MiB")
    number, unit = match.groups()
    return int(number) * _MULTIPLES[unit.removesuffix("B") if len(unit) > 1 else unit]


def layout(text: str, templates: Mapping[str, PerEndpoint]) -> Layout:
    """A layout and its base path, from ``NAME=BASEPATH``; *templates* are known besides the built-in ones.

    >>> layout("kube2zk=/rpc_v2/", {}).base
    '/rpc_v2'
    """
    name, separator, base = text.partition("=")
    if not separator:
        raise ValueError(f"{text!r} is no layout: write it NAME=BASEPATH, for example kube2zk=/rpc_v2")
    if name not in {*LAYOUTS, *templates}:
        raise ValueError(f"there is no layout {name!r}; there is {', '.join([*LAYOUTS, *templates])}")
    return Layout(name, base_path(base), templates.get(name))


def template(text: str) -> tuple[str, PerEndpoint]:
    """A layout of the user's own, from ``NAME=FILE``; the file is YAML (``layouts.template``)."""
    name, _, file = text.partition("=")
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) or not file:
        raise ValueError(f"{text!r} is no template: write it NAME=FILE; a name has a-z, 0-9 and '-'")
    if name in LAYOUTS:
        raise ValueError(f"there is a layout {name!r} already: choose another name")
    try:
        return name, from_template(yaml.safe_load(Path(file).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def check_bases(layouts: Sequence[Layout]) -> None:
    """Clients of one layout cannot read what another one writes: no base path lies within another."""
    for one, other in permutations(layouts, 2):
        if f"{other.base}/".startswith(f"{one.base}/"):
            raise ValueError(f"two layouts need two base paths, neither within the other: {one.base}")


def base_path(text: str) -> str:
    """A znode path under which services are written; it need not exist yet."""
    if not text.startswith("/"):
        raise ValueError(f"the base path {text!r} has to start with '/': write '/{text}'")
    path = text.rstrip("/")
    segments = path.split("/")[1:]
    if not path or not all(re.fullmatch(r"[A-Za-z0-9._-]+", segment) for segment in segments):
        raise ValueError(f"the base path {text!r} needs one or more segments of A-Za-z0-9._-")
    if segments[0] in ("zookeeper", "rpcregistry") or any(segment in (".", "..") for segment in segments):
        raise ValueError(f"the base path {text!r} is reserved: choose another, for example /rpc_v2")
    return path
