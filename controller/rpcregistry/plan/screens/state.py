"""The state of the whole: three hops with what lies between them, and notices with what to type."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from rpcregistry.plan.journal import Ending, Entry
from rpcregistry.plan.screens.changes import quantile
from rpcregistry.plan.screens.services import Row
from rpcregistry.plan.words import counted

SLOW = 1_000.0  # ms, from which on a latency is shown as slow
VERY_SLOW = 10_000.0
NAMED = 3  # services, in a command


class Source(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A kind that is read.  *unknown*: why it cannot be read, or ""; *heard*: when it was heard last."""

    resource: str
    filled: bool
    count: int
    unknown: str = ""
    heard: float | None = None


class ZooKeeper(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """*since*: when it was connected, or lost; *refused*: why it is not, or what it refuses, or ""."""

    connected: bool
    since: float
    servers: str
    refused: str = ""
    compared: float | None = None
    heartbeat: float | None = None
    differ: int = 0


class Held(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is held: by *guards*, how much; *until* when; None: nothing is, or without time limit."""

    count: int
    guards: Mapping[str, int]
    until: float | None
    endless: bool
    services: Sequence[str]


class Counts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """*written*: the endpoints that clients find; None if this process does not know."""

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


class Hop(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """*level*: ok, warn or bad; *note*: beside the number; *sub*: below it."""

    level: str
    name: str
    big: str
    note: str = ""
    sub: str = ""
    since: float | None = None


class Link(msgspec.Struct, frozen=True, rename="camel"):
    """What lies between two hops."""

    level: str
    big: str
    sub: str
    since: float | None = None


class Notice(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """*kind*: bad, hold, warn or info; *since* and *until*: what its clock shows; *command*: to type."""

    kind: str
    title: str
    text: str
    command: str = ""
    until: float | None = None
    since: float | None = None


class Setting(Protocol):
    """A flag, its value, and where that came from."""

    @property
    def flag(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def origin(self) -> str: ...


class Known(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is known of the process, and shown as it is."""

    version: str
    python: str
    memory: float
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
    held: Held
    counts: Counts
    lag: Lag
    replicas: Sequence[tuple[str, bool]]
    settings: Sequence[Setting]


class Look(Known, frozen=True, kw_only=True):
    """The same, with what something is concluded from."""

    leads: bool
    trouble: str
    restored: str


class State(Known, frozen=True, kw_only=True):
    """The answer of ``api/state``: with what is concluded."""

    role: str
    filled: bool
    hops: Sequence[Hop]
    links: Sequence[Link]
    notices: Sequence[Notice]


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


def state(look: Look) -> State:
    """What the page shows on top of every screen, and on the one of the controller."""
    return State(
        **{name: getattr(look, name) for name in Known.__struct_fields__},
        role="leader" if look.leads else "waiting",
        filled=all(source.filled for source in look.sources),
        hops=[_pods(look), _objects(look), _zookeeper(look)],
        links=[
            _link(look, look.lag.api_p50, look.lag.api_p99, cut=False),
            _link(look, look.lag.zk_p50, look.lag.zk_p99, cut=not look.zookeeper.connected),
        ],
        notices=notices(look),
    )


def _pods(look: Look) -> Hop:
    name = "Pods, as the API server lists them"
    source = next((source for source in look.sources if source.resource == "pods"), None)
    if source is None:
        return Hop(level="ok", name=name, big="Not read", sub="another process runs the pod controller")
    unread = [each for each in look.sources if each.unknown]
    sub = f"nodes {look.counts.nodes:,}"
    if look.counts.silent_nodes:
        sub = f"{look.counts.silent_nodes:,} of {look.counts.nodes:,} nodes are silent"
    elif look.counts.rejected:
        sub += f" · {counted(look.counts.rejected, 'pod')} with a mistake"
    if unread:
        return Hop(
            level="bad",
            name=name,
            big=f"{source.count:,}",
            note="as last read",
            sub=f"{unread[0].resource}: {unread[0].unknown}",
            since=unread[0].heard,
        )
    if not source.filled:
        return Hop(level="warn", name=name, big=f"{source.count:,}", note="read so far", sub=sub)
    missing = look.held.guards.get("pods", 0)
    level = "warn" if missing or look.counts.silent_nodes else "ok"
    note = f"{missing:,} missing" if missing else ""
    return Hop(level=level, name=name, big=f"{source.count:,}", note=note, sub=sub, since=source.heard)


def _objects(look: Look) -> Hop:
    counts = look.counts
    big = f"{counted(counts.services, 'service')} · {counted(counts.endpoints, 'endpoint')}"
    queue = look.queues.get("rpcservice", 0)
    sub = f"{counts.services - counts.declared:,} generated · {counts.declared:,} declared"
    return Hop(level="ok", name="RpcServices", big=big, sub=f"{sub} · queue {queue:,}")


def _zookeeper(look: Look) -> Hop:
    zookeeper, counts = look.zookeeper, look.counts
    if not look.registry:
        return Hop(level="ok", name="ZooKeeper", big="Not written", sub="another process writes the registry")
    if not look.leads:
        return Hop(
            level="ok", name="ZooKeeper", big="Not looked at", sub="this replica waits; the leader writes"
        )
    if not zookeeper.connected:
        waits = f" · {counted(look.waiting, 'change')} wait" if look.waiting else ""
        sub = f"{zookeeper.refused or zookeeper.servers}{waits} · what was published stays"
        return Hop(level="bad", name="ZooKeeper", big="Not connected", sub=sub, since=zookeeper.since)
    if zookeeper.refused:
        return Hop(level="bad", name="ZooKeeper", big="Refuses", sub=zookeeper.refused)
    if counts.written is None or zookeeper.compared is None:
        return Hop(level="ok", name="ZooKeeper", big="Comparing", sub=zookeeper.servers)
    wanted = counts.ready + counts.held
    lacking = counts.written < wanted and not look.waiting
    big = (
        f"{counts.written:,} of {wanted:,} written"
        if counts.written < wanted
        else f"{counts.written:,} written"
    )
    if zookeeper.differ:
        note = f"{counted(zookeeper.differ, 'znode')} differ"
        return Hop(level="warn", name="ZooKeeper", big=big, note=note, sub=zookeeper.servers)
    return Hop(
        level="warn" if lacking else "ok",
        name="ZooKeeper",
        big=big,
        sub=zookeeper.servers,
        since=zookeeper.compared,
    )


def _link(look: Look, p50: float | None, p99: float | None, cut: bool) -> Link:
    if not look.leads:
        return Link("ok", "", "leader only")
    if cut and look.registry:
        return Link("bad", "cut", "", look.zookeeper.since)
    if p50 is None or p99 is None:
        return Link("ok", "", "idle")
    return Link("warn" if p50 >= SLOW else "ok", ms(p50), f"p99 {ms(p99)}")


def ms(value: float) -> str:
    """A duration in milliseconds, for people.

    >>> ms(0.4), ms(11.6), ms(12_345)
    ('<1 ms', '12 ms', '12 s')
    """
    if value < 1:
        return "<1 ms"
    return f"{value:,.0f} ms" if value < VERY_SLOW else f"{value / 1000:,.0f} s"


def notices(look: Look) -> list[Notice]:
    """What somebody who looks has to know first, the most pressing first."""
    found = (
        _restored(look), _unread(look), _away(look), _held(look), _slow(look), _trouble(look), _follower(look)
    )  # fmt: skip
    return [notice for notice in found if notice]


def _restored(look: Look) -> Notice | None:
    if not look.restored:
        return None
    return Notice(
        kind="bad",
        title="The API server was restored to an older state: nothing is withdrawn.",
        text=f"{look.restored}. If what it lists now is right, let go:",
        command="rpcregistry release --all",
    )


def _unread(look: Look) -> Notice | None:
    unread = [source for source in look.sources if source.unknown]
    if not unread:
        return None
    first = unread[0]
    return Notice(
        kind="bad",
        title="What the API server does not show is unknown, not gone: nothing is withdrawn.",
        text=f"{', '.join(source.resource for source in unread)} cannot be read: {first.unknown}",
        command=f"kubectl auth can-i list {first.resource} -A",
        since=first.heard,
    )


def _away(look: Look) -> Notice | None:
    if not (look.registry and look.leads) or look.zookeeper.connected:
        return None
    waits = (
        f" {counted(look.waiting, 'change')} wait, and are written as soon as it is back."
        if look.waiting
        else ""
    )
    return Notice(
        kind="bad",
        title="ZooKeeper is away. Nothing is withdrawn; clients go on with what they know.",
        text=f"{look.zookeeper.refused or look.zookeeper.servers}.{waits} Only ZooKeeper needs mending.",
        since=look.zookeeper.since,
    )


def _held(look: Look) -> Notice | None:
    held = look.held
    if not held.count:
        return None
    names = " ".join(held.services) if 0 < len(held.services) <= NAMED else "--all"
    where = f" of {counted(len(held.services), 'service')}" if held.services else ""
    how = "without time limit" if held.endless else "until that is confirmed"
    return Notice(
        kind="hold",
        title=f"{counted(held.count, 'endpoint')}{where} held, and still published.",
        text="Their pods or nodes are missing, though nobody saw them go. A list that is wrong must not empty"
        f" the registry, so they stay {how}. If they are really gone, let go now:",
        command=f"rpcregistry release {names}",
        until=held.until,
    )


def _slow(look: Look) -> Notice | None:
    lag = look.lag
    if not look.leads or lag.all_p50 is None or lag.all_p50 < VERY_SLOW:
        return None
    api = lag.api_p50 or 0.0
    where = "the API server" if api >= (lag.zk_p50 or 0.0) else "ZooKeeper"
    return Notice(
        kind="warn",
        title=f"Changes take {ms(lag.all_p50)}, most of it in {where}.",
        text="The changes below show which part of each one takes long.",
    )


def _trouble(look: Look) -> Notice | None:
    if not look.trouble:
        return None
    return Notice(
        kind="warn", title="This process does not write.", text=look.trouble, command="rpcregistry status"
    )


def _follower(look: Look) -> Notice | None:
    if look.leads:
        return None
    who = f"The leader is {look.leader}." if look.leader else "Nobody leads at the moment."
    return Notice(
        kind="info",
        title=f"This replica is waiting to lead. {who}",
        text="Services and endpoints below are live. What ZooKeeper holds, latencies and what is held are the"
        " leader's to tell.",
        command="rpcregistry ui",
    )
