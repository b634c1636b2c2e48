"""What is known of the process and of the whole: the values of which hops and notices are made."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from rpcregistry.plan.heartbeat import Oldest
from rpcregistry.plan.journal import Ending, Entry
from rpcregistry.plan.screens.changes import quantile
from rpcregistry.plan.screens.services import Row


class Source(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A kind that is read.  *unknown*: why it cannot be read, or ""; *heard*: when it was heard last.

    *restarts*: how often its watches were begun again, by reason; the server ends each after some minutes.
    """

    resource: str
    filled: bool
    count: int
    unknown: str = ""
    heard: float | None = None
    restarts: Mapping[str, int] = {}


class ZooKeeper(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """*since*: when it was connected, or lost; *refused*: why it is not, or what it refuses, or "".

    *left*: by ``LAYOUT=PATH`` that no ``--layout`` covers, how many services of ours lie there.
    """

    connected: bool
    since: float
    servers: str
    refused: str = ""
    compared: float | None = None
    heartbeat: float | None = None
    differ: int = 0
    left: Mapping[str, int] = {}


class Repeated(msgspec.Struct, frozen=True, rename="camel"):
    """A *service* that others changed and we put back *times* lately; the next time after *pause* seconds."""

    service: str
    times: int
    pause: float


class Held(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is held: by *guards*, how much; *until* when; None: nothing is, or without time limit."""

    count: int
    guards: Mapping[str, int]
    until: float | None
    endless: bool
    services: Sequence[str]


class Counts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """*written*: the endpoints that clients find; None if this process does not know.

    *rejected*: pods with a mistake, or that may not register what they declare.
    """

    services: int = 0
    endpoints: int = 0
    ready: int = 0
    written: int | None = None
    need_look: int = 0
    held: int = 0
    nobody_ready: int = 0
    partly_ready: int = 0
    declared: int = 0
    rejected: int = 0
    locals: int = 0
    pods: int = 0
    nodes: int = 0
    silent_nodes: int = 0


class Lag(msgspec.Struct, frozen=True, rename="camel"):
    """Latencies of the last changes (ms): until a status listed them, and from there into ZooKeeper."""

    changes: int = 0
    api_p50: float | None = None
    api_p99: float | None = None
    zk_p50: float | None = None
    zk_p99: float | None = None
    all_p50: float | None = None
    all_p99: float | None = None
    buckets: Sequence[tuple[float, int]] = ()


class Setting(Protocol):
    """A flag, its value, and where that came from."""

    @property
    def flag(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def origin(self) -> str: ...


class Known(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is known of the process, and shown as it is.

    *memory*: what it takes, and *memory_limit*: the most that it may take, None: any (MB).
    """

    version: str
    python: str
    memory: float
    memory_limit: float | None
    identity: str
    leader: str
    lease: str
    since: float | None
    cluster: str
    registry: bool
    sources: Sequence[Source]
    zookeeper: ZooKeeper
    queues: Mapping[str, int]
    refused: Mapping[str, int]
    waiting: int
    oldest: Oldest | None
    held: Held
    repeated: Sequence[Repeated]
    counts: Counts
    lag: Lag
    replicas: Sequence[tuple[str, bool]]
    settings: Sequence[Setting]


class Look(Known, frozen=True, kw_only=True):
    """The same, with what something is concluded from."""

    leads: bool
    trouble: str
    restored: str


def counts_of(rows: Sequence[Row], **others: int) -> Counts:
    """The sums of all rows, and *others* as they are."""
    written = [row.found for row in rows if row.found is not None]
    return Counts(
        services=len(rows),
        endpoints=sum(row.total for row in rows),
        ready=sum(row.ready for row in rows),
        written=sum(written) if written or not rows else None,
        need_look=sum(not row.is_well for row in rows),
        held=sum(row.held for row in rows),
        nobody_ready=sum(row.nobody for row in rows),
        partly_ready=sum(0 < row.ready < row.total for row in rows),
        declared=sum(row.declared for row in rows),
        **others,
    )


BUCKETS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 10_000.0)


def lag_of(entries: Sequence[Entry]) -> Lag:
    """The latencies of what was written; *entries*: the last changes."""
    written = [entry for entry in entries if entry.ending is Ending.WRITTEN]
    api = [1000 * entry.status for entry in written]
    zk = [1000 * (entry.wait + entry.write) for entry in written]
    all_ = [1000 * entry.seconds for entry in written]
    below = [sum(value <= bound for value in all_) for bound in BUCKETS]
    buckets = [
        (bound, count - before) for bound, count, before in zip(BUCKETS, below, [0, *below], strict=False)
    ]
    return Lag(
        changes=len(written),
        api_p50=quantile(api, 0.5),
        api_p99=quantile(api, 0.99),
        zk_p50=quantile(zk, 0.5),
        zk_p99=quantile(zk, 0.99),
        all_p50=quantile(all_, 0.5),
        all_p99=quantile(all_, 0.99),
        buckets=buckets if written else (),
    )
