"""Marks in the names of znodes that stand for one endpoint each.

The name alone identifies the cluster (the *mark*) and the endpoint (the *slot*) of a znode.  Some clients
read a znode's data only once.  For them the name also identifies the data (the *content*), and changes with
it.

    <mark>-<slot>[-<content>]    8 hexadecimal digits each
    <mark>-<service>-<slot>-<content>    if services share a directory: 16 digits name the service
    <mark><slot><content>        7, 5 and 6 decimal digits, for clients that read a number (below 10^18)
"""

import re
from functools import lru_cache
from hashlib import sha256

from rpcregistry.model import Endpoint
from rpcregistry.names import digest


def mark(cluster_id: str, endpoint: Endpoint, content: bytes | None = None, service_name: str = "") -> str:
    """The mark and slot for a name; pass *content* if the name has to change with the data.

    *service_name*: for a directory in which other services may have endpoints, too.
    """
    parts = [_head(cluster_id, service_name), digest(_place(endpoint))]
    if content is not None:
        parts.append(sha256(content).hexdigest()[:8])
    return "-".join(parts)


def slot(name: str, cluster_id: str, service_name: str = "") -> str | None:
    """The slot in the znode's *name*, if it carries the cluster's mark, and the service's; else None.

    >>> slot("echo-1-" + digest("c1") + "-0123abcd", "c1")
    '0123abcd'
    """
    found = _marked(cluster_id, service_name).findall(name)
    return found[-1] if found else None


def number(cluster_id: str, endpoint: Endpoint, content: bytes) -> str:
    """As ``mark`` with *content*, in decimal digits."""
    return _cluster_number(cluster_id) + _digits(_place(endpoint).encode(), 5) + _digits(content, 6)


def number_slot(name: str, cluster_id: str) -> str | None:
    """As ``slot``, for a name that carries a ``number``."""
    found = _numbered(cluster_id).findall(name)
    return found[-1] if found else None


def is_shared(name: str, cluster_id: str) -> bool:
    """Whether the znode's *name* carries the cluster's mark and any service's."""
    return re.search(rf"(?<![0-9a-f]){digest(cluster_id)}-[0-9a-f]{{16}}-[0-9a-f]{{8}}-", name) is not None


def _head(cluster_id: str, service_name: str) -> str:
    service = f"-{sha256(service_name.encode()).hexdigest()[:16]}" if service_name else ""
    return digest(cluster_id) + service


@lru_cache(maxsize=4096)  # of one or two clusters, and asked for every child in every plan
def _marked(cluster_id: str, service_name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![0-9a-f]){_head(cluster_id, service_name)}-([0-9a-f]{{8}})(?![0-9a-f])")


@lru_cache
def _numbered(cluster_id: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\d){_cluster_number(cluster_id)}(\d{{5}})\d{{6}}(?!\d)")


def _place(endpoint: Endpoint) -> str:
    return f"{endpoint.pod_uid}/{endpoint.port}"


def _cluster_number(cluster_id: str) -> str:
    return str(1_000_000 + int(_digits(cluster_id.encode(), 12)) % 9_000_000)  # no superfluous zeros


def _digits(content: bytes, count: int) -> str:
    return f"{int(sha256(content).hexdigest(), 16) % 10**count:0{count}}"
