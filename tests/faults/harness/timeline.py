"""What ZooKeeper should have held at each time, and what it did hold.

Both are said of an ``Address``: that clients of one layout find a pod under a service's name.  What should
be is the oracle's answer to each state of the cluster in the history; what was is what the oracle's readers
find in each state of the tree in ZooKeeper's log.  A pod that ended stays ended, whatever an older etcd says
of it, and one that a LIST lacks although nobody deleted it is still there.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

from tests.faults.harness import oracle, zklog
from tests.faults.harness.evidence import Evidence, Fault, Json
from tests.faults.harness.violations import fenced

NEVER = float("-inf")
DECIDE = "Pod", "Node", "RpcService", "Namespace"  # the kinds that decide on addresses
RESTART = 60.0  # seconds: a start, the look at others' heartbeat, the supervisor's back-off


class Address(NamedTuple):
    """Clients of *layout* below *base* find *address* (as the oracle writes it) under *service*."""

    layout: str
    base: str
    service: str
    address: str

    def __str__(self) -> str:
        return f"{self.layout}:{self.base.rstrip('/')}/{self.service} {self.address}"


class Want(Enum):
    """Whether an address has to be found, may be, or must not be."""

    MUST = "must"
    MAY = "may"
    NOT = "not"


class Wanted(NamedTuple):
    """What holds of an address from *since* until *until*; *ended*: no pod that is there has its IP."""

    since: float
    until: float
    want: Want
    ended: bool = False


class Shown(NamedTuple):
    """An address came (*present*) or went at *at*; *own*: by the product; *zxid*: which transaction."""

    at: float
    present: bool
    own: bool
    zxid: int


@dataclass(frozen=True)
class Timeline:
    """One test's addresses over time."""

    wanted: Mapping[Address, Sequence[Wanted]]
    shown: Mapping[Address, Sequence[Shown]]
    final: oracle.World
    faults: Sequence[Fault]
    prompt: float
    until: float

    @property
    def addresses(self) -> list[Address]:
        """All that were ever wanted or shown."""
        return sorted({*self.wanted, *self.shown})

    def spans(self, address: Address) -> Sequence[Wanted]:
        """What was wanted of an address, from the beginning of time to the end of the test."""
        never = Wanted(NEVER, self.until, Want.NOT, ended=True)
        return self.wanted.get(address) or (never,)

    def span(self, address: Address, at: float) -> Wanted:
        """What was wanted of an address at one time."""
        spans = self.spans(address)
        return spans[max(bisect_right([span.since for span in spans], at) - 1, 0)]

    def is_shown(self, address: Address, at: float) -> bool:
        """Whether clients found it at one time."""
        shown = self.shown.get(address, ())
        index = bisect_right([change.at for change in shown], at) - 1
        return index >= 0 and shown[index].present

    def due(self, service: str, since: float) -> float:
        """By when what changed of a service at *since* has to be done: soon, or soon after the last fault."""
        due = since + self.prompt
        for fault in self.faults:
            harms = fault.services is None or service in fault.services
            if harms and fault.began <= due:
                due = max(due, fault.ended + fault.recovery)
        return due

    def confined(self, service: str, begin: float, end: float) -> Fault | None:
        """A fault of that time that must not have harmed the service."""
        return next(
            (
                fault
                for fault in self.faults
                if fault.services is not None
                and service not in fault.services
                and fault.began <= end
                and fault.ended >= begin
            ),
            None,
        )


@lru_cache(maxsize=1)
def timeline(evidence: Evidence) -> Timeline:
    """What was and what should have been; made once for all who ask about the same evidence."""
    wanted, final = _wanted(evidence)
    return Timeline(
        wanted=wanted,
        shown=_shown(evidence),
        final=final,
        faults=sorted([*evidence.faults, *_without_process(evidence)], key=lambda fault: fault.began),
        prompt=evidence.prompt,
        until=evidence.ended,
    )


def _without_process(evidence: Evidence) -> Iterator[Fault]:
    """Nobody writes before a process has begun to, or after one has ended until another has begun to.

    That one is at work is seen by its first write: a leader writes a heartbeat.
    """
    writes = sorted(transaction.at for _, transaction in fenced(evidence))
    moments = {evidence.began, *(process.started for process in evidence.processes)}
    for moment in moments | {process.ended for process in evidence.processes if process.ended is not None}:
        later = writes[bisect_right(writes, moment) :]
        at_work = min([moment + RESTART, *later[:1]])
        yield Fault("start", moment, at_work, recovery=evidence.prompt)


# what should have been


def _wanted(evidence: Evidence) -> tuple[dict[Address, list[Wanted]], oracle.World]:
    spans: dict[Address, list[Wanted]] = defaultdict(list)
    world = oracle.World()
    for at, world in worlds(evidence):
        must, may = _addresses(oracle.desired(world)), _addresses(oracle.undecided(world))
        living = {ip for pod in world.pods for ip in _ips(pod)}
        for address in {*spans, *must, *may}:
            want = Want.MAY if address in may else Want.MUST if address in must else Want.NOT
            before = spans[address]
            if not before:
                before.append(Wanted(NEVER, at, Want.NOT, ended=True))
            elif before[-1].want is want:
                continue
            before[-1] = before[-1]._replace(until=at)
            ended = want is Want.NOT and _ip(address.address) not in living
            before.append(Wanted(at, evidence.ended, want, ended))
    return spans, world


def worlds(evidence: Evidence) -> Iterator[tuple[float, oracle.World]]:
    """Yield when a change may decide on addresses, and how all was since; and how all is in the end."""
    there: dict[str, dict[str, Json]] = {kind: {} for kind in oracle.KINDS}
    matters: dict[str, Any] = {}
    ended: set[str] = set()
    nodes_seen: set[str] = set()

    def world() -> oracle.World:
        objects = {kind: found.values() for kind, found in there.items()}
        lost = nodes_seen - {node["metadata"]["name"] for node in objects["Node"]}
        return oracle.world_of(objects, layouts=evidence.layouts, lost_nodes=lost, **evidence.flags)

    for change in sorted(evidence.history, key=lambda change: change.at):
        kind, uid = change.object["kind"], change.object["metadata"]["uid"]
        if kind not in there or uid in ended or (change.type == "LOST" and kind in DECIDE):
            continue
        before = matters.pop(uid, None)
        if change.type in ("DELETED", "LOST"):
            ended.add(uid)
            there[kind].pop(uid, None)
        else:
            there[kind][uid] = change.object
            if kind == "Node":
                nodes_seen.add(change.object["metadata"]["name"])
            matters[uid] = _what_matters(change.object)
        if kind in DECIDE and (before is None or before != matters.get(uid)):
            yield change.at, world()
    yield evidence.ended, world()


def _what_matters(manifest: Json) -> Any:
    """What of an object can change the oracle's answer, and a little more: it is asked often."""
    meta = {
        key: value
        for key, value in manifest["metadata"].items()
        if key not in ("managedFields", "resourceVersion", "generation")
    }
    match manifest["kind"]:
        case "Node":
            conditions = (manifest.get("status") or {}).get("conditions") or ()
            return [c["status"] for c in conditions if c["type"] == "Ready"]
        case "RpcService":
            managers = manifest["metadata"].get("managedFields") or ()
            owners = {m.get("manager") for m in managers if "f:spec" in (m.get("fieldsV1") or {})}
            return meta, owners, manifest.get("spec")
        case "Namespace":
            return "deletionTimestamp" in meta
    return meta, manifest.get("spec"), manifest.get("status")


def _addresses(found: oracle.Found) -> set[Address]:
    return {
        Address(layout, base, service, address)
        for (layout, base), services in found.items()
        for service, addresses in services.items()
        for address in addresses
    }


def _ips(pod: Json) -> set[str]:
    status = pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed") or pod["metadata"].get("deletionTimestamp"):
        return set()
    return {status.get("podIP") or "", *(entry.get("ip") or "" for entry in status.get("podIPs") or ())}


def _ip(address: str) -> str:
    """An address without its port; of what a template has made, the first that looks like one.

    >>> _ip("10.0.0.1:80"), _ip("10.0.0.1"), _ip("[fd00::1]:80"), _ip("fd00::1"), _ip("p-* 10.0.0.1:80")
    ('10.0.0.1', '10.0.0.1', 'fd00::1', 'fd00::1', '10.0.0.1')
    """
    if " " in address:
        return next(iter(re.findall(r"\d+(?:\.\d+){3}", address)), "")
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


# what was


def _shown(evidence: Evidence) -> dict[Address, list[Shown]]:
    shown: dict[Address, list[Shown]] = defaultdict(list)
    for layout, base in evidence.layouts:
        found: set[Address] = set()
        part_of = _part if layout not in evidence.flags.get("templates", {}) else _whole
        for log in evidence.logs:
            # What the life of the data before this one left behind is lost, and not by the product.
            begun = log.transactions[0].at if log.transactions else evidence.began
            parts: dict[str, dict[str, bytes]] = defaultdict(dict)
            for path, content in log.start.items():
                if zklog.is_below(path, base):
                    parts[part_of(path, base)][path] = content
            now = {a for part in parts.values() for a in _read(evidence, layout, base, part)}
            _note(shown, found, now, Shown(begun, False, False, 0))
            found = now
            for state in zklog.states(log, base):
                transaction = state.transaction
                own = transaction.session not in evidence.other_sessions
                touched = {part_of(path, base) for path in state.changed}
                before = {a for part in touched for a in _read(evidence, layout, base, parts[part])}
                for path, data in state.changed.items():
                    if data is None:
                        parts[part_of(path, base)].pop(path, None)
                    else:
                        parts[part_of(path, base)][path] = data
                after = {a for part in touched for a in _read(evidence, layout, base, parts[part])}
                _note(shown, before, after, Shown(transaction.at, False, own, transaction.zxid))
                found = (found - before) | after
    return shown


def _note(shown: dict[Address, list[Shown]], before: set[Address], after: set[Address], what: Shown) -> None:
    for address in before ^ after:
        shown[address].append(what._replace(present=address in after))


def _part(path: str, base: str) -> str:
    """Which of the directories below *base* a path is in: readers look at each by itself."""
    return path.removeprefix(base.rstrip("/")).lstrip("/").partition("/")[0]


def _whole(*_: str) -> str:
    """As ``_part``, for a layout in which what a reader finds of a service may lie in several directories."""
    return ""


def _read(evidence: Evidence, layout: str, base: str, znodes: Mapping[str, bytes]) -> Iterator[Address]:
    ours = {path: data for path, data in znodes.items() if path not in evidence.foreign}
    templates = evidence.flags.get("templates", {})
    for service, addresses in oracle.read(layout, base, ours, templates).items():
        for address in addresses:
            yield Address(layout, base, service, address)
