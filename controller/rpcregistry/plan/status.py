"""Is all well?  The state of the whole registry as hops: each with what it is, why, and what to type."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from rpcregistry.model import Lease, LocalService, Pod, RpcService
from rpcregistry.plan import obstacles
from rpcregistry.plan.conditions import held_by
from rpcregistry.plan.explain import Hop, Seen, Warned
from rpcregistry.plan.findings import DRIFT, Counts, Finding
from rpcregistry.plan.heartbeat import Heartbeat, Oldest
from rpcregistry.plan.held import is_endless
from rpcregistry.plan.overview import NEXT, Row, rows, totals, unsynced
from rpcregistry.plan.restored import Record
from rpcregistry.plan.words import counted

MOST_NAMED = 5  # in a line
OVERDUE = 30.0  # seconds after its last renewal in which a Lease that nobody renews may still be held
STALE = 60.0  # seconds after which a heartbeat that is written every 10 s has stopped


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """All that could be read of a registry.  Each is a text if it could not be read: why.

    *lease* and *beat* are None if there is none; *renewed* and *beaten*: how many seconds ago, by the clock
    of this machine.  *noted*: held services that only the Lease names.  *kinds*: for each kind why it cannot
    be read, or ``""``.  *pods*: all that name services, or seem to.  *findings*: of one comparison, in which
    changes in progress show, too.  *differ*: which flags of the controllers are not those of the command.
    """

    lease: Lease | str | None
    lease_name: str
    renewed: float = 0.0
    noted: Sequence[str] = ()
    beat: Heartbeat | str | None
    beaten: float = 0.0
    services: Sequence[RpcService] | str
    locals: Sequence[LocalService] | str
    kinds: Mapping[str, str]
    pods: Sequence[Pod] | str = ()
    findings: Sequence[Finding] | str
    counts: Counts = Counts()
    differ: Sequence[str] = ()
    events: Sequence[Warned] = ()


def status(look: Look, until: Callable[[str], str]) -> list[Hop]:
    """The hops; *until* says when a hold that began at an RFC 3339 time ends."""
    return [
        leader(look),
        keeps_up(look),
        *trouble(look),
        _kinds(look),
        *_mistakes(look),
        _services(look),
        _sync(look),
        *_held(look, until),
        _registry(look),
        *_events(look),
    ]


def leader(look: Look) -> Hop:
    """Who leads."""
    lease = look.lease
    if isinstance(lease, str):
        return Hop(
            seen=Seen.UNSEEN, what="leader", why=f"the Lease {look.lease_name} cannot be read: {lease}"
        )
    if lease is None or not lease.holder:
        beat = look.beat
        if isinstance(beat, Heartbeat) and beat.holder and not beat.stopped and look.beaten <= STALE:
            return Hop(seen=Seen.RIGHT, what="leader", why=f"{beat.holder}, without a leader election")
        why = "nobody leads" + ("" if lease else f": there is no Lease {look.lease_name}")
        where = look.lease_name.partition("/")[0]
        return Hop(seen=Seen.WRONG, what="leader", why=why, next=f"kubectl get pods -n {where}")
    why = f"{lease.holder} (Lease {look.lease_name}, renewed {ago(look.renewed)})"
    if look.renewed > OVERDUE:
        where = look.lease_name.partition("/")[0]
        return Hop(
            seen=Seen.WRONG,
            what="leader",
            why=f"{why}: it does not renew the Lease",
            next=f"kubectl get pods -n {where}",
        )
    return Hop(seen=Seen.RIGHT, what="leader", why=why)


def keeps_up(look: Look) -> Hop:
    """Whether somebody keeps ZooKeeper up."""
    beat = look.beat
    pods = f"kubectl get pods -n {look.lease_name.partition('/')[0]}"
    if isinstance(beat, str):
        return Hop(
            seen=Seen.UNSEEN, what="heartbeat", why=f"not looked at: {beat}", next=NEXT["RegistryUnavailable"]
        )
    if beat is None:
        return Hop(
            seen=Seen.WRONG,
            what="heartbeat",
            why="ZooKeeper has none of this cluster: no controller has written there",
            next=pods,
        )
    waiting = f"{counted(beat.waiting, 'change')} waiting"
    if beat.stopped:
        why = f"the last controller stopped at {beat.at}: nobody keeps the registry up"
        return Hop(seen=Seen.WRONG, what="heartbeat", why=why, next=pods)
    why = f"written {ago(look.beaten)} by {beat.holder or 'an older version'}, {waiting}"
    if look.beaten > STALE:
        why = f"{why}: it has stopped, so changes do not reach ZooKeeper"
        return Hop(seen=Seen.WRONG, what="heartbeat", why=why, next=pods)
    return Hop(seen=Seen.RIGHT, what="heartbeat", why=why)


def trouble(look: Look) -> list[Hop]:
    """What keeps the controller from its work, as the heartbeat says; empty if it has stopped since."""
    beat = look.beat
    if not isinstance(beat, Heartbeat) or beat.stopped or look.beaten > STALE:
        return []
    return [*_unread(beat.unread), *_restored(beat.seen), *_slow(beat.oldest)]


def _unread(unread: Mapping[str, str]) -> list[Hop]:
    if not unread:
        return []
    details = tuple(f"{resource}: {reason}" for resource, reason in unread.items())
    why, next_ = obstacles.unread(unread), obstacles.to_read(unread)
    return [Hop(seen=Seen.WRONG, what="reads", why=why, details=details, next=next_)]


def _restored(seen: Record) -> list[Hop]:
    if not seen.restored:
        return []
    return [
        Hop(
            seen=Seen.WRONG,
            what="restored",
            why=obstacles.restored(seen.restored),
            next=obstacles.RELEASE_ALL,
        )
    ]


def _slow(oldest: Oldest | None) -> list[Hop]:
    if oldest is None or oldest.seconds < obstacles.SLOW:
        return []
    next_ = f"rpcregistry explain {oldest.service} -A"
    return [Hop(seen=Seen.WRONG, what="changes", why=obstacles.waits(oldest), next=next_)]


def _mistakes(look: Look) -> list[Hop]:
    if isinstance(look.pods, str):
        return []  # the hop of the kinds has the reason
    found = [pod for pod in look.pods if pod.problems or pod.hints]
    if not found:
        return []
    said = [f"{pod.key}: {(*pod.problems, *pod.hints)[0].message}" for pod in found[:MOST_NAMED]]
    more = [f"and {len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
    return [
        Hop(
            seen=Seen.WRONG if any(pod.problems for pod in found) else Seen.RIGHT,
            what="pods",
            why=f"{counted(len(found), 'pod')} with an annotation that cannot be read, or not in full",
            details=(*said, *more),
            next=f"rpcregistry explain pod/{found[0].name} -n {found[0].namespace}",
        )
    ]


def _kinds(look: Look) -> Hop:
    bad = {kind: why for kind, why in look.kinds.items() if why}
    if not bad:
        return Hop(seen=Seen.RIGHT, what="kinds", why=f"{', '.join(look.kinds)} can be read")
    missing = any("kubectl apply" in why for why in bad.values())
    return Hop(
        seen=Seen.WRONG if missing else Seen.UNSEEN,
        what="kinds",
        why=f"{', '.join(bad)} cannot be read",
        details=tuple(f"{kind}: {why}" for kind, why in bad.items()),
        next="kubectl apply -f crds/" if missing else f"kubectl auth can-i list {min(bad)} -A",
    )


def _services(look: Look) -> Hop:
    if isinstance(look.services, str):
        return Hop(seen=Seen.UNSEEN, what="services", why=f"not looked at: {look.services}")
    found = rows(look.services)
    local = "" if isinstance(look.locals, str) else f"; {counted(len(look.locals), 'LocalService')}"
    nobody = [one.service for one in found if one.total and not one.ready]
    return Hop(
        seen=Seen.RIGHT,
        what="services",
        why=f"{totals(found)}{local}",
        details=(f"nobody is Ready: {_named(nobody)}",) if nobody else (),
        next=f"rpcregistry explain {nobody[0]}" if nobody else "",
    )


def _sync(look: Look) -> Hop:
    if isinstance(look.services, str):
        return Hop(seen=Seen.UNSEEN, what="sync", why="not looked at")
    found = rows(look.services)
    locals_ = () if isinstance(look.locals, str) else look.locals
    bad = unsynced([*found, *locals_])
    if not bad:
        return Hop(seen=Seen.RIGHT, what="sync", why="each service is in the registry")
    return Hop(
        seen=Seen.WRONG,
        what="sync",
        why=f"{counted(sum(map(len, bad.values())), 'service')} not in sync",
        details=tuple(f"{reason} ({len(names)}): {_named(names)}" for reason, names in bad.items()),
        next=_next(found, locals_),
    )


def _next(found: Sequence[Row], locals_: Sequence[LocalService]) -> str:
    """What to type about the first of what is not in sync."""
    following = next((one.next for one in found if one.synced is not True), "")
    if following:
        return following
    bad = (local for local in locals_ if (one := local.status.condition("Synced")) and one.status != "True")
    return next((f"kubectl describe localservice {one.name} -n {one.namespace}" for one in bad), "")


def _held(look: Look, until: Callable[[str], str]) -> list[Hop]:
    details: list[str] = []
    which: list[str] = []
    typed: list[str] = []
    if not isinstance(look.services, str):
        for one in rows(look.services):
            if one.held or one.reason == "Held":
                which.append(one.service)
                ends = one.message.partition(";")[0] if is_endless(one.message) else until(one.since)
                details.append(f"{one.service}: {counted(one.held, 'endpoint')}, {ends}")
                typed.append(one.next)
    for local in () if isinstance(look.locals, str) else look.locals:
        condition = held_by(local)
        if condition:
            which.append(local.name)
            details.append(f"localservice {local.key}: {until(condition.last_transition_time)}")
            typed.append(f"rpcregistry release {local.name}")
    only = sorted(set(look.noted) - set(which))
    details += [f"{name}: it has no object that could show it" for name in only]
    typed += [f"rpcregistry release {name}" for name in only]
    if not details:
        return []
    # Nobody is told to release what the Nodes or the API server may show again.
    others = [one for one in typed if not one.startswith("rpcregistry release")]
    next_ = others[0] if others else typed[0] if len(typed) == 1 else "rpcregistry release"
    why = (
        f"{counted(len(details), 'service')} with something that is absent and stays until that is confirmed"
    )
    return [Hop(seen=Seen.WRONG, what="held", why=why, details=tuple(details), next=next_)]


def _registry(look: Look) -> Hop:
    if isinstance(look.findings, str):
        return Hop(seen=Seen.UNSEEN, what="registry", why=f"not compared: {look.findings}")
    found = Counter(finding.state for finding in look.findings)
    drift = {state: found[state] for state in DRIFT if found[state]}
    said = ", ".join(f"{number:,} {state}" for state, number in found.items())
    layouts = Counter(finding.layout for finding in look.findings if finding.state == "left")
    left = tuple(
        f"left: {counted(number, 'znode')} of {layout}, which no --layout covers; clients still read them"
        for layout, number in layouts.items()
    )
    if drift:
        why = f"{said} ({look.counts}); changes in progress may be among them"
        return Hop(
            seen=Seen.WRONG,
            what="registry",
            why=why,
            details=(*look.differ, *left),
            next="rpcregistry verify",
        )
    why = f"in sync: {look.counts}" + (f" ({said})" if said else "")
    return Hop(seen=Seen.RIGHT, what="registry", why=why, details=(*look.differ, *left))


def _events(look: Look) -> list[Hop]:
    """What the controller told about the registry as a whole lately; the API server forgets it in an hour."""
    if not look.events:
        return []
    details = tuple(f"{found.reason}: {found.note}" for found in look.events[:MOST_NAMED])
    return [Hop(seen=Seen.RIGHT, what="lately", why="Events about the Lease", details=details)]


def ago(seconds: float) -> str:
    """How long ago, for people.

    >>> ago(3.2), ago(150), ago(7300), ago(-2)
    ('3 s ago', '2 min ago', '2 h ago', 'just now')
    """
    if seconds < 1:
        return "just now"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
