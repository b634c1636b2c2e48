"""Notices: what somebody who looks has to know first, and what to type."""

import msgspec

from rpcregistry.plan import obstacles
from rpcregistry.plan.restored import UNTIL_RELEASED
from rpcregistry.plan.screens.hops import VERY_SLOW, ms
from rpcregistry.plan.screens.known import Look
from rpcregistry.plan.words import counted

NAMED = 3  # services, in a command


class Notice(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """*kind*: bad, hold, warn or info; *since* and *until*: what its clock shows; *command*: to type."""

    kind: str
    title: str
    text: str
    command: str = ""
    until: float | None = None
    since: float | None = None


def notices(look: Look) -> list[Notice]:
    """What somebody who looks has to know first, the most pressing first."""
    found = (
        _restored(look), _unread(look), _away(look), _held(look), _repeated(look),
        _waits(look) or _slow(look), _trouble(look), _left(look), _follower(look),
    )  # fmt: skip
    return [notice for notice in found if notice]


def _restored(look: Look) -> Notice | None:
    if not look.restored:
        return None
    return Notice(
        kind="bad",
        title=obstacles.sentence(UNTIL_RELEASED),
        text=f"{obstacles.sentence(look.restored)} If what it lists now is right, let go:",
        command=obstacles.RELEASE_ALL,
    )


def _unread(look: Look) -> Notice | None:
    unread = {source.resource: source.unknown for source in look.sources if source.unknown}
    if not unread:
        return None
    return Notice(
        kind="bad",
        title=obstacles.sentence(obstacles.unread(unread)),
        text="; ".join(f"{resource}: {why}" for resource, why in unread.items()),
        command=obstacles.to_read(unread),
        since=min((source.heard or 0.0 for source in look.sources if source.unknown), default=0.0) or None,
    )


def _away(look: Look) -> Notice | None:
    if not (look.registry and look.leads) or look.zookeeper.connected:
        return None
    oldest = f", the oldest for {look.oldest.seconds:.0f} s" if look.oldest else ""
    waits = (
        f" {counted(look.waiting, 'change')} wait{oldest}; what waits is written as soon as it is back."
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
    how = "without time limit" if held.endless else "until that is confirmed"
    title, release = f"{_what_is_held(look)} held, and still published.", f"rpcregistry release {names}"
    if look.counts.silent_nodes:
        return Notice(
            kind="hold",
            title=title,
            text=f"{look.counts.silent_nodes:,} of {counted(look.counts.nodes, 'Node')} report nothing. What"
            f" runs there may serve all the same, so it stays {how}. Look at the Nodes; {release} withdraws"
            " what is really gone.",
            command="kubectl get nodes",
            until=held.until,
        )
    return Notice(
        kind="hold",
        title=title,
        text="Their pods or nodes are missing, though nobody saw them go. A list that is wrong must not empty"
        f" the registry, so they stay {how}. If they are really gone, let go now:",
        command=release,
        until=held.until,
    )


def _what_is_held(look: Look) -> str:
    endpoints, guards, services = look.counts.held, look.held.guards, len(look.held.services)
    where = f" of {counted(services, 'service')}" if services else ""
    published = counted(endpoints, "endpoint") if endpoints else counted(guards.get("pods", 0), "pod")
    found = [f"{published}{where}"] if endpoints or guards.get("pods") else []
    if guards.get("registry"):
        found.append(f"{counted(guards['registry'], 'service')} without an RpcService")
    if guards.get("nodes"):
        found.append(f"the Services of {counted(guards['nodes'], 'Node')}")
    return ", ".join(found)


def _repeated(look: Look) -> Notice | None:
    if not look.repeated:
        return None
    first, *more = sorted(look.repeated, key=lambda each: (-each.times, each.service))
    others = f" and of {counted(len(more), 'other service')}" if more else ""
    pause = f" The next change is put back {first.pause:.0f} s after this one." if first.pause else ""
    return Notice(
        kind="warn",
        title=f"Others change what clients read of {first.service}{others} again and again.",
        text=f"{first.times} times in ten minutes, and each time it was put back.{pause}"
        " Find the other writer: until then clients see what it writes for a moment.",
        command=f"rpcregistry verify --service {first.service}",
    )


def _waits(look: Look) -> Notice | None:
    """A change that takes long, while nothing above says why."""
    oldest = look.oldest
    known = look.restored or any(each.unknown for each in look.sources) or not look.zookeeper.connected
    if not look.leads or known or oldest is None or oldest.seconds < obstacles.SLOW:
        return None
    return Notice(
        kind="warn",
        title=f"Changes take long: {obstacles.waits(oldest)}.",
        text=f"{counted(look.waiting, 'change')} wait. What was published stays until then.",
        command=f"rpcregistry explain {oldest.service} -A",
    )


def _left(look: Look) -> Notice | None:
    left = look.zookeeper.left
    if not (left and look.leads):
        return None
    said = ", ".join(f"{layout} ({counted(number, 'service')})" for layout, number in sorted(left.items()))
    return Notice(
        kind="info",
        title=f"{counted(len(left), 'layout')} left: {said}.",
        text="This controller wrote there, and no --layout covers it any more: clients still read it, and"
        " nobody keeps it up. Give the --layout again, or see what lies there:",
        command="rpcregistry verify",
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
