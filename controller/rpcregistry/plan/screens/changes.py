"""Changes of services as people read them: which addresses came and went, and how long that took."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from rpcregistry.model import Endpoint, RpcService
from rpcregistry.plan.journal import Ending, Entry
from rpcregistry.plan.repairs import Repair

MOST_NAMED = 20  # addresses of one change; more are counted
KINDS = ("added", "removed", "synced", "repaired", "gone", "refused")


class Parts(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """How long a change took until it was in *layout*: in the API server, waiting, in ZooKeeper (ms)."""

    layout: str
    api_ms: float
    wait_ms: float
    zk_ms: float

    @property
    def total(self) -> float:
        return self.api_ms + self.wait_ms + self.zk_ms


class Said(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One line of the changes.  *kind*: one of ``KINDS``; *count*: addresses, if *address* names none."""

    number: int = 0
    at: float = 0.0
    service: str
    namespace: str = ""
    kind: str
    address: str = ""
    pod: str = ""
    node: str = ""
    text: str = ""
    count: int = 1
    parts: Parts | None = None


def said_of(old: RpcService | None, new: RpcService | None) -> list[Said]:
    """The lines about one change of one RpcService."""
    service = new or old
    if service is None:
        return []
    before, after = _published(old), _published(new)
    rows = dict(_rows(new))
    found = [*_named(service, "added", [(a, r, "is Ready") for a, r in after.items() if a not in before])]
    gone = [(a, r, _why(rows.get(a))) for a, r in before.items() if a not in after]
    found += _named(service, "removed", gone)
    was, now = (one.status.condition("Synced") if one else None for one in (old, new))
    if now and (was is None or (was.status, was.reason) != (now.status, now.reason)):
        found.append(_line(service, "synced", text=now.reason if now.status == "True" else now.message))
    if new is None and old and not old.is_part:
        found.append(_line(service, "gone", text="its RpcService was deleted"))
    return found


def said_of_entry(entry: Entry) -> Said | None:
    """The line about a change that ended without a status that lists it; None if there is nothing to say."""
    if entry.ending is Ending.REFUSED:
        where = entry.layout or "the API server"
        return Said(service=entry.service, kind="refused", text=f"refused in {where}")
    return None


def said_of_repair(repair: Repair) -> Said:
    """The line about a znode that was put back."""
    what = f"others had {repair.done} its znode in {repair.layout}"
    return Said(service=repair.service, kind="repaired", text=what)


def parts_of(entry: Entry) -> Parts | None:
    """How long a written change took; None if nothing was written."""
    if entry.ending is not Ending.WRITTEN:
        return None
    return Parts(entry.layout, *(round(1000 * part, 1) for part in (entry.status, entry.wait, entry.write)))


def _rows(service: RpcService | None) -> Iterator[tuple[str, Endpoint]]:
    for row in service.status.endpoints if service else ():
        yield row.address, row


def _published(service: RpcService | None) -> dict[str, Endpoint]:
    return {address: row for address, row in _rows(service) if row.ready}


def _why(row: Endpoint | None) -> str:
    return "is not Ready" if row else "ended"


def _named(service: RpcService, kind: str, changed: Sequence[tuple[str, Endpoint, str]]) -> Iterable[Said]:
    for address, row, text in changed[:MOST_NAMED]:
        yield _line(service, kind, address=address, pod=row.pod_name, node=row.node_name, text=text)
    if len(changed) > MOST_NAMED:
        yield _line(service, kind, text="and more", count=len(changed) - MOST_NAMED)


def _line(service: RpcService, kind: str, text: str = "", count: int = 1, **fields: Any) -> Said:
    return Said(
        service=service.service_name, namespace=service.namespace, kind=kind, text=text, count=count, **fields
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value below which *share* of *values* lie; None if there are none.

    >>> quantile([5, 1, 3], 0.5), quantile([], 0.99)
    (3, None)
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
