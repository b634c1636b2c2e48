"""The list of services: rows, those that need a look first, filters and search."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from rpcregistry.layouts import Layout
from rpcregistry.model import Endpoint, RpcService
from rpcregistry.plan import overview

# What a row is, the most pressing first: how it looks, and its place in the list.
LEVELS = ("bad", "hold", "warn", "part", "ok")
STATES = ("look", "held", "nobody", "partly", "declared")
SORTS = ("problems", "name", "namespace", "ready", "found", "lag", "changed")
BAD = ("Unreadable", "Refused", "OwnedElsewhere", "TooLarge", "InvalidName")
LATELY = 600.0  # seconds for which the page shows that a service was repaired
NOBODY = "no endpoint is Ready: clients find nobody"


class Last(msgspec.Struct, frozen=True, gc=False):
    """The last change of a service: *at* which time, how many addresses came and went, and the last lags.

    *repairs*: when its znodes were put back after others had changed them, the last times.
    """

    at: float = 0.0
    added: int = 0
    removed: int = 0
    lags: tuple[float, ...] = ()
    repairs: tuple[float, ...] = ()


def lately(times: Iterable[float], now: float) -> tuple[float, ...]:
    """Those of *times* that are no longer ago than ``LATELY``."""
    return tuple(at for at in times if now - at < LATELY)


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """A service.  *found*: the endpoints that clients find in ZooKeeper; None if that is not known here.

    *ready*: those of pods that are there; *held*: those that stay published though their pods are missing.
    *reason*: that of ``Synced``, or ``Waiting`` while a change is not written.  *level*: one of ``LEVELS``.
    *since*: when ``Synced`` changed last, RFC 3339.  *lag_ms*: of the last change, None if there was none.
    *repaired_at*: when what others had changed in ZooKeeper was put back last.
    """

    name: str
    namespaces: tuple[str, ...]
    ready: int
    total: int
    held: int
    found: int | None
    level: str
    reason: str
    message: str
    declared: bool
    layouts: tuple[str, ...]
    objects: tuple[str, ...]
    since: str
    changed_at: float | None
    added: int
    removed: int
    lag_ms: float | None
    lags: tuple[float, ...]
    repaired_at: float | None

    @property
    def nobody(self) -> bool:
        return self.total > 0 and not self.ready and not self.held

    @property
    def is_well(self) -> bool:
        """Whether nobody has to look at it."""
        return self.level in ("part", "ok")


class Facts(msgspec.Struct, frozen=True):
    """What is known of services besides their objects, each by name.

    *found*: the endpoints that clients find, None if this process does not know; *waits*: whether a change is
    not written yet; *last*: its last change.
    """

    layouts: Sequence[Layout]
    found: Callable[[str], int | None]
    waits: Callable[[str], bool]
    last: Callable[[str], Last]


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows: *q* is searched for, *state* is one of ``STATES``, *after* rows are left out."""

    q: str = ""
    state: str = ""
    namespace: str = ""
    layout: str = ""
    sort: str = "problems"
    limit: int = 200
    after: int = 0


class Page(msgspec.Struct, frozen=True, rename="camel"):
    """The rows that a query asks for, of *total*; *next*: how many to leave out for the next ones."""

    total: int
    services: Sequence[Row]
    next: int | None
    counts: Mapping[str, int]
    namespaces: Sequence[str]
    layouts: Sequence[str]


def grouped(services: Iterable[RpcService]) -> dict[str, list[RpcService]]:
    """The RpcServices of each service name."""
    found: dict[str, list[RpcService]] = {}
    for service in services:
        found.setdefault(service.service_name, []).append(service)
    return found


def row(services: Sequence[RpcService], facts: Facts) -> Row:
    """The row of *services*, all RpcServices of one name."""
    seen = overview.row(services)
    last, waits = facts.last(seen.service), facts.waits(seen.service)
    # What is held is listed as Ready: it stays published.
    held = sum(one.ready and one.held for service in services for one in service.status.endpoints)
    nobody = seen.total > 0 and not seen.ready
    reason = "Waiting" if waits and seen.reason in ("InRegistry", overview.UNKNOWN) else seen.reason
    message = "a change waits for ZooKeeper" if reason == "Waiting" else seen.message
    if seen.synced and reason != "Waiting":
        message = NOBODY if nobody else ""
    return Row(
        name=seen.service,
        namespaces=seen.namespaces,
        ready=seen.ready - held,
        total=seen.total,
        held=held,
        found=facts.found(seen.service),
        level=_level(seen, waits, nobody),
        reason=reason,
        message=message,
        declared="declared" in seen.origins,
        layouts=tuple(
            layout.name
            for layout in facts.layouts
            if any(path.startswith(f"{layout.base.rstrip('/')}/") for path in seen.paths)
        ),
        objects=seen.objects,
        since=seen.since,
        changed_at=last.at or None,
        added=last.added,
        removed=last.removed,
        lag_ms=last.lags[-1] if last.lags else None,
        lags=last.lags,
        repaired_at=last.repairs[-1] if last.repairs else None,
    )


def _level(seen: overview.Row, waits: bool, nobody: bool) -> str:
    if seen.reason in BAD or (nobody and not seen.held):
        return "bad"
    if seen.held or seen.reason == "Held":
        return "hold"
    if seen.synced is False:
        return "warn"
    return "part" if seen.ready < seen.total or waits else "ok"


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """How many services there are in each of ``STATES``, and in all."""
    found = dict.fromkeys(("all", *STATES), 0)
    for one in rows:
        found["all"] += 1
        for state in STATES:
            found[state] += _is(one, state)
    return found


def _is(one: Row, state: str) -> bool:
    match state:
        case "look":
            return not one.is_well
        case "held":
            return one.held > 0 or one.reason == "Held"
        case "nobody":
            return one.nobody
        case "partly":
            return 0 < one.ready < one.total
        case _:
            return one.declared


def page(services: Iterable[RpcService], facts: Facts, query: Query) -> Page:
    """The rows that *query* asks for; the counts are those of the search without its state."""
    by_name = grouped(services)
    every = {name: row(found, facts) for name, found in by_name.items()}
    found = [one for name, one in every.items() if _fits(one, by_name[name], query)]
    chosen = [one for one in found if not query.state or _is(one, query.state)]
    chosen.sort(key=_order(query.sort))
    end = query.after + query.limit
    return Page(
        total=len(chosen),
        services=chosen[query.after : end],
        next=end if end < len(chosen) else None,
        counts=counts(found),
        namespaces=sorted({namespace for one in every.values() for namespace in one.namespaces}),
        layouts=[layout.name for layout in facts.layouts],
    )


def _fits(one: Row, services: Sequence[RpcService], query: Query) -> bool:
    if query.namespace and query.namespace not in one.namespaces:
        return False
    if query.layout and query.layout not in one.layouts:
        return False
    return not query.q or matches(query.q, services)


def matches(text: str, services: Sequence[RpcService]) -> bool:
    """Whether a service's name or namespace, or a pod, node or address of it has *text* (see ``has``)."""
    wanted = text.strip().lower()
    if any(wanted in one.service_name.lower() or wanted in one.namespace.lower() for one in services):
        return True
    return any(has(row, wanted) for one in services for row in one.status.endpoints)


def has(row: Endpoint, wanted: str) -> bool:
    """Whether the pod's or node's name has *wanted* in it, or the address begins with it."""
    names = wanted in row.pod_name.lower() or wanted in row.node_name.lower()
    return (
        names
        or f"{row.ip}:{row.port or ''}".startswith(wanted)
        or any(ip.startswith(wanted) for ip in row.ips)
    )


def _order(sort: str) -> Callable[[Row], tuple[object, ...]]:
    match sort:
        case "name":
            return lambda one: (one.name,)
        case "namespace":
            return lambda one: (one.namespaces, one.name)
        case "ready":
            return lambda one: (one.ready / one.total if one.total else 1.0, one.name)
        case "found":
            return lambda one: (-(one.found or 0), one.name)
        case "lag":
            return lambda one: (-(one.lag_ms or 0.0), one.name)
        case "changed":
            return lambda one: (-(one.changed_at or 0.0), one.name)
        case _:
            return lambda one: (LEVELS.index(one.level) if not one.is_well else len(LEVELS), one.name)
