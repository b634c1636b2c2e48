"""The *ledger*: our own record in ZooKeeper of the service paths we wrote, outside of those paths.

A znode that it does not name is not ours to withdraw.  One entry a service path, written in the same
transaction as the path's first znode and removed with its last, so a crash leaves none behind.

An entry's name is base path and service name, quoted.  In a layout with one znode a service, that is one
entry for all clusters: to create it is to claim the path.  In a layout with one znode an endpoint,
clusters publish side by side: the name ends with ``@`` and the cluster id.
"""

from collections.abc import Collection
from functools import lru_cache
from urllib.parse import quote, unquote

import msgspec

from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import PerEndpoint, PerService

OWNED = "/rpcregistry/owned"
FENCES = "/rpcregistry/fence"


def ledger_root(layout: Layout) -> str:
    """The path under which the layout's entries lie."""
    return f"{OWNED}/{layout.name}"


def ledger_path(layout: Layout, service_name: str, cluster_id: str) -> str:
    """The path of a service's entry."""
    path = f"{layout.base.rstrip('/')}/{service_name}"  # not as the layout writes names: it is read back
    entry = f"{ledger_root(layout)}/{_quoted(path)}"
    return entry if isinstance(layout.form, PerService) else f"{entry}@{cluster_id}"


def service_name_of(layout: Layout, entry: str, clusters: Collection[str]) -> str | None:
    """Whose entry a child of ``ledger_root`` is; None for another base path's, or other clusters'.

    >>> service_name_of(Layout("kube2zk", "/rpc_v2"), "%2Frpc_v2%2Fecho", ["c1"])
    'echo'
    """
    path, cluster = entry_parts(entry)
    base, _, name = path.rpartition("/")
    foreign = isinstance(layout.form, PerEndpoint) and cluster not in clusters
    return None if foreign or base != layout.base.rstrip("/") else name


@lru_cache(maxsize=32768)  # asked for several times in every plan
def _quoted(path: str) -> str:
    return quote(path, safe="")


@lru_cache(maxsize=32768)  # each comparison asks for all
def entry_parts(entry: str) -> tuple[str, str]:
    """The service's path and the cluster id (or ``""``) in the name of a ledger entry.

    >>> entry_parts("%2Fdubbo%2Fa.B@c1")
    ('/dubbo/a.B', 'c1')
    """
    path, _, cluster = entry.partition("@")
    return unquote(path), cluster


class Ledger(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A ledger entry.

    *cluster*: whose path it is; *namespaces*: whose RpcServices list endpoints there; *config*: the
    kube2zk layout's lines, kept while the path is withdrawn; *withdrawn_at*: since when, RFC 3339.
    """

    cluster: str
    namespaces: tuple[str, ...] = ()
    config: tuple[str, ...] | None = None
    withdrawn_at: str = ""

    def encode(self) -> bytes:
        """The entry's bytes: compact JSON."""
        return msgspec.json.encode(self)


def decode_ledger(data: bytes) -> Ledger:
    """Decode a ledger entry; an unreadable one belongs to no known cluster, so not to us."""
    try:
        return msgspec.json.decode(data, type=Ledger)
    except msgspec.MsgspecError:
        return Ledger(cluster="(an unreadable ledger entry)")
