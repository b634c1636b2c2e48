"""The nouns.  Values only: frozen, compared by content, never changed after they were made."""

from collections.abc import Mapping

import msgspec


class ObjectKey(msgspec.Struct, frozen=True, order=True):
    """Which object of a kind; a cluster-scoped one has the namespace ``""``."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class ServiceKey(msgspec.Struct, frozen=True, order=True):
    """All RpcServices of one service name in one namespace: what the pod controller reconciles as one."""

    namespace: str
    service_name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service_name}"


class Problem(msgspec.Struct, frozen=True, order=True):
    """What a user got wrong: *reason* is CamelCase and stable, *message* says what and where."""

    reason: str
    message: str


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """One service that a pod says it serves."""

    service_name: str
    version: str = ""
    port: int | None = None
    group: str = ""
    protocol: str = ""
    weight: int | None = None
    metadata: Mapping[str, str] = {}
    local: bool = False


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod, reduced to what decides whether and how it is published.

    *ips* holds the usable addresses of its status, the primary first; *started_at* is RFC 3339 or
    ``""``; *declarations* and *problems* are what its annotations say (``dialects.read``).
    """

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str] = {}
    node_name: str = ""
    host_ip: str = ""
    ips: tuple[str, ...] = ()
    phase: str = ""
    ready: bool = False
    terminating: bool = False
    started_at: str = ""
    service_account: str = ""
    declarations: tuple[Declaration, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster node."""

    name: str
    uid: str
    ready: bool
    labels: Mapping[str, str] = {}

    @property
    def key(self) -> ObjectKey:
        return ObjectKey("", self.name)
