"""Makes names that Kubernetes accepts from names that it does not: readable, and never two the same.

Sources: RFC 1123 as Kubernetes reads it (k8s.io/apimachinery, pkg/util/validation).
"""

import re
from collections.abc import Container
from hashlib import sha256

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_SERVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._$-]{0,252}")


def is_service_name(name: str) -> bool:
    """Whether RPC clients may look a service up by *name*: it becomes a segment of a znode's path.

    >>> is_service_name("com.foo.Bar$Baz"), is_service_name("../esc"), is_service_name("zookeeper")
    (True, False, False)
    """
    return _SERVICE_NAME.fullmatch(name) is not None and name != "zookeeper"


def is_subdomain(name: str) -> bool:
    """Whether *name* can be an object's name (DNS-1123 subdomain, at most 253 characters)."""
    return len(name) <= 253 and _SUBDOMAIN.fullmatch(name) is not None


def is_label_name(name: str) -> bool:
    """Whether *name* can be a label's: at most 63 characters, perhaps with a DNS name and ``/`` before it."""
    prefix, slash, local = name.rpartition("/")
    return _LABEL.fullmatch(local) is not None and (not slash or is_subdomain(prefix))


def is_label_value(value: str) -> bool:
    """Whether *value* can be a label's: empty, or at most 63 characters."""
    return not value or _LABEL.fullmatch(value) is not None


def digest(text: str) -> str:
    """Eight hex digits that distinguish *text* from others."""
    return sha256(text.encode()).hexdigest()[:8]


def label_value(text: str) -> str:
    """*text* as a label's value: itself if it fits into 63 characters, else its head and a digest."""
    return text if len(text) <= 63 else f"{text[:54]}-{digest(text)}"


def object_name(service_name: str, taken: Container[str]) -> str:
    """The name of the RpcService generated for *service_name*; *taken* are others' names.

    >>> object_name("echo", ()), object_name("echo", ("echo",)), object_name("com.foo.Bar", ())
    ('echo', 'echo-092c79e8', 'com.foo.bar-cbd95f93')
    """
    if is_subdomain(service_name) and service_name not in taken:
        return service_name
    labels = (re.sub(r"[^a-z0-9]+", "-", label).strip("-") for label in service_name.lower().split("."))
    slug = ".".join(label for label in labels if label)[:244].rstrip("-.")
    return f"{slug}-{digest(service_name)}"


def node_service_name(local_service: str, node: str) -> str:
    """The name of a LocalService's Service for a node: a DNS-1035 label.

    >>> node_service_name("app", "node1"), node_service_name("app", "ip-10-0-0-1.ec2.internal")
    ('app-node1', 'app-ip-10-0-0-1-ec2-internal-1fd1bb3d')
    """
    name = f"{local_service}-{node}"
    if _DNS_LABEL.fullmatch(name):
        return name
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    slug = slug if slug[:1].isalpha() else f"s-{slug}"
    # Digest both names with a separator: app on b.c is not app-b on c.
    return f"{slug[:54].rstrip('-')}-{digest(f'{local_service}/{node}')}"


def local_service_name(rpc_service: str) -> str:
    """The name of an RpcService's LocalService: the same, if it fits into 63 characters."""
    return rpc_service if len(rpc_service) <= 63 else f"{rpc_service[:54].rstrip('-.')}-{digest(rpc_service)}"


def part_name(head: str, head_uid: str, number: int) -> str:
    """The name of the *number*-th further RpcService that carries *head*'s endpoints."""
    return f"{head[:244].rstrip('-.')}-{digest(f'{head_uid}/{number}')}"
