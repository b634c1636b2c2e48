"""The three hops of a change, pods, RpcServices and ZooKeeper, and what lies between them."""

import msgspec

from rpcregistry.plan.screens.known import Look
from rpcregistry.plan.words import counted

SLOW = 1_000.0  # ms, from which on a latency is shown as slow
VERY_SLOW = 10_000.0


class Hop(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """*level*: ok, warn or bad; *note*: beside the number; *sub*: below it, and after it the time *since*."""

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


def hops(look: Look) -> list[Hop]:
    """The hops, in the order of a change."""
    return [_pods(look), _objects(look), _zookeeper(look)]


def links(look: Look) -> list[Link]:
    """What lies between them."""
    lag = look.lag
    return [
        _link(look, lag.api_p50, lag.api_p99, cut=False),
        _link(look, lag.zk_p50, lag.zk_p99, cut=not look.zookeeper.connected),
    ]


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
        sub += f" · {counted(look.counts.rejected, 'pod')} rejected"
    if unread:
        return Hop(
            level="bad",
            name=name,
            big=f"{source.count:,}",
            note="as last read",
            sub=f"{unread[0].resource}: {unread[0].unknown} · heard",
            since=unread[0].heard,
        )
    if not source.filled:
        return Hop(level="warn", name=name, big=f"{source.count:,}", note="read so far", sub=sub)
    missing = look.held.guards.get("pods", 0)
    level = "warn" if missing or look.counts.silent_nodes else "ok"
    note = f"{missing:,} {'silent or missing' if look.counts.silent_nodes else 'missing'}" if missing else ""
    return Hop(
        level=level, name=name, big=f"{source.count:,}", note=note, sub=f"{sub} · heard", since=source.heard
    )


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
        sub = f"{zookeeper.refused or zookeeper.servers}{waits} · what was published stays · lost"
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
    left = f" · {counted(len(zookeeper.left), 'layout')} left" if zookeeper.left else ""
    return Hop(
        level="warn" if lacking or zookeeper.differ else "ok",
        name="ZooKeeper",
        big=big,
        note=f"{counted(zookeeper.differ, 'znode')} differ" if zookeeper.differ else "",
        sub=f"{zookeeper.servers}{left} · compared",
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

    >>> ms(0.4), ms(11.6), ms(1_234), ms(12_345)
    ('<1 ms', '12 ms', '1.2 s', '12 s')
    """
    if value < 1:
        return "<1 ms"
    if value < 1000:
        return f"{value:.0f} ms"
    return f"{value / 1000:.1f} s" if value < 9_950 else f"{value / 1000:,.0f} s"
