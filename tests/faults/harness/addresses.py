"""I1, I2, I3, I8, I10: what clients find of each pod."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from tests.faults.harness import oracle
from tests.faults.harness.evidence import Evidence
from tests.faults.harness.timeline import NEVER, Address, Shown, Want, Wanted, timeline
from tests.faults.harness.violations import Violation, clock, own_requests

WATCH_LAG = 3.0  # seconds: the harness may hear of a change after the product
FLAPS = 60.0  # seconds: what came and went so lately may come and go once more


def converges(evidence: Evidence) -> Iterator[Violation]:
    """I1: what is to be found, or not, is so by the time it is due, and all of it in the end."""
    yield from _late(evidence, "I1")
    times = timeline(evidence)
    for address in times.addresses:
        span, shown = times.spans(address)[-1], times.is_shown(address, evidence.ended)
        if (span.want is Want.MUST and not shown) or (span.want is Want.NOT and shown):
            what = "is still found in the end" if shown else "is not found in the end"
            yield Violation("I1", evidence.ended, str(address), f"{what}, {_since(span)}")
    should, does = oracle.statuses(times.final), oracle.listed(times.final.rpcservices)
    for key in sorted(should.keys() | does.keys()):
        if should.get(key) != does.get(key):
            before, after = (", ".join(sorted(map(_row, rows.get(key, ())))) for rows in (should, does))
            where = f"rpcservice {'/'.join(filter(None, key))}"
            yield Violation("I1", evidence.ended, where, "its status lists others", before, after)
    for (space, local, node), wanted, there in oracle.wrong_node_services(times.final):
        what = f"its Services for node {node} are others"
        yield Violation("I1", evidence.ended, f"localservice {space}/{local}", what, f"{wanted}", f"{there}")


def keeps(evidence: Evidence) -> Iterator[Violation]:
    """I2: an address that is to be found is never taken away.

    One that was to be found before, and then not, may be taken away late.
    """
    times = timeline(evidence)
    for address, change, span in _own_changes(evidence, present=False):
        again = any(s.want is Want.MUST and s.until <= span.since for s in times.spans(address))
        late = again and change.at <= times.due(address.service, span.since)
        if span.want is Want.MUST and not late:
            what = f"was withdrawn in transaction {change.zxid:#x}, {_since(span)}"
            yield Violation("I2", change.at, str(address), what, "found", "not found")


def forgets(evidence: Evidence) -> Iterator[Violation]:
    """I3: an address whose pod ended goes, and does not come back.

    One that flapped may come late, but no later than it is due.
    """
    yield from _late(evidence, "I3")
    times = timeline(evidence)
    for address, change, span in _own_changes(evidence, present=True):
        again = any(not c.present and span.since <= c.at < change.at for c in times.shown[address])
        flapped = any(
            s.want is Want.NOT and span.since - FLAPS < s.since < span.since for s in times.spans(address)
        )
        overdue = change.at > times.due(address.service, span.since)
        if span.want is Want.NOT and (overdue or (again and not flapped)):
            done = "came back" if again else "was published"
            what = f"{done} in transaction {change.zxid:#x}, {_since(span)}"
            yield Violation("I3", change.at, str(address), what, "not found", "found")


def _own_changes(evidence: Evidence, present: bool) -> Iterator[tuple[Address, Shown, Wanted]]:
    """Yield what the product published, or withdrew, and what was wanted of it as far as it could know."""
    times = timeline(evidence)
    for address, changes in times.shown.items():
        for change in changes:
            span = times.span(address, change.at)
            # Nobody can guess an address: if a pod has it later, the harness heard of that pod late.
            known = span.since == NEVER or span.until - WATCH_LAG <= change.at
            heard = known and span.until < evidence.ended
            if change.own and change.present is present and not heard:
                yield address, change, span


def spares(evidence: Evidence) -> Iterator[Violation]:
    """I8: what may harm some services harms no others."""
    yield from _late(evidence, "I8")


def summary(evidence: Evidence) -> Mapping[str, tuple[int, int]]:
    """How often the product published and withdrew each address, and made and deleted each RpcService.

    By names without namespaces, so that runs in different ones can be compared.
    """
    counts: dict[str, tuple[int, int]] = {}
    for address, changes in timeline(evidence).shown.items():
        own = [change.present for change in changes if change.own]
        if own:
            counts[str(address)] = (own.count(True), own.count(False))
    objects: Counter[tuple[str, str]] = Counter(
        (f"rpcservice {request.name}", request.verb)
        for request in own_requests(evidence)
        if request.resource == "rpcservices.rpcregistry.dev" and request.code < 300
    )
    for name in {name for name, verb in objects if verb in ("create", "delete")}:
        counts[name] = objects[name, "create"], objects[name, "delete"]
    return counts


def repeats_nothing(evidence: Evidence) -> Iterator[Violation]:
    """I10: each address comes and goes as often as in an undisturbed run.

    Without such a run: at most as often as its pods had it come and go, and others put it there or took it.
    """
    if evidence.reference is None:
        yield from _unexplained(evidence)
        return
    counts = summary(evidence)
    for name in sorted(counts.keys() | evidence.reference.keys()):
        undisturbed, now = evidence.reference.get(name, (0, 0)), counts.get(name, (0, 0))
        if undisturbed != now:
            what = "came and went another number of times than undisturbed"
            yield Violation("I10", evidence.ended, name, what, f"{undisturbed}", f"{now}")


def _unexplained(evidence: Evidence) -> Iterator[Violation]:
    times = timeline(evidence)
    for address, changes in times.shown.items():
        for present, done in ((True, "published"), (False, "withdrawn")):
            own = [change for change in changes if change.own and change.present is present]
            others = sum(change.present is not present and not change.own for change in changes)
            allowed = others + _turns(times.spans(address), Want.MUST if present else Want.NOT)
            if len(own) > allowed:
                what = f"was {done} {len(own)} times, and {allowed} are explained"
                yield Violation("I10", own[-1].at, str(address), what)


def _turns(spans: Sequence[Wanted], to: Want) -> int:
    """How often an address turned *to* what it is to be; while it is undecided it may turn either way."""
    return sum(
        before.want is not after.want and after.want in (to, Want.MAY) for before, after in pairwise(spans)
    )


def _late(evidence: Evidence, invariant: str) -> Iterator[Violation]:
    """What is not as it should be when that is due, where it is the *invariant* that has it so."""
    times = timeline(evidence)
    for address in times.addresses:
        for span in times.spans(address):
            due = times.due(address.service, span.since)
            if due >= min(span.until, evidence.ended) or span.want is Want.MAY:
                continue
            if times.is_shown(address, due) is (span.want is Want.MUST):
                continue
            fault = times.confined(address.service, span.since, due)
            if invariant == ("I8" if fault else "I3" if span.ended else "I1"):
                missing = "is not found" if span.want is Want.MUST else "is still found"
                beside = f", beside a fault of others ({fault.kind} {fault.note})" if fault else ""
                what = f"{missing} {due - span.since:.1f} s later, {_since(span)}{beside}"
                yield Violation(invariant, due, str(address), what)


def _since(span: Wanted) -> str:
    if span.since == NEVER:
        return "which no pod has had"
    wanted = {Want.MUST: "to be found", Want.MAY: "undecided", Want.NOT: "not to be found"}[span.want]
    return f"{wanted} since {clock(span.since)}"


def _row(row: oracle.Row) -> str:
    return f"{row.pod}={row.ip}:{row.port}{'' if row.ready else ' (not ready)'}"
