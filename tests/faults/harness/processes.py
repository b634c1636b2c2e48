"""I7, I9, I11, I12, and of I5 and I8: what each process took, said, and left behind."""

import base64
from collections.abc import Iterable, Iterator

from tests.faults.harness.evidence import Evidence, Fault, OpenSession, Process, Sample
from tests.faults.harness.timeline import Want, timeline
from tests.faults.harness.violations import (
    LEASES,
    Violation,
    clock,
    fenced,
    name_of,
    own_requests,
    own_writes,
    transactions,
)

WINDOW = 10.0  # seconds over which a rate is taken
BURST = 40  # requests
SESSIONS_PER_SECOND, SESSIONS_BURST = 3.0, 20
LOG_BURST, LOG_OF_A_WRITE = 256 * 1024, 1024  # bytes
STOP_WITHIN = 10.0
GRACE = 20.0  # seconds: a session's timeout, and the next look
LAST = 30.0  # seconds in which a process that is to end for a fault does


def stays_bounded(evidence: Evidence) -> Iterator[Violation]:
    """I7: what fails or lists is asked for at a bounded rate; memory, threads, files, logs are bounded."""
    limits = evidence.limits
    asked = [r.at for r in own_requests(evidence) if r.code >= 400 or r.verb in ("list", "watch")]
    for at, count in _bursts(asked, BURST + limits.retries_per_second * WINDOW):
        what = f"{count} requests that failed or listed in {WINDOW:g} s"
        yield Violation("I7", at, "API server", what)
    opened = [
        transaction.at
        for transaction in transactions(evidence)
        if isinstance(transaction.ops[0], OpenSession) and transaction.session not in evidence.other_sessions
    ]
    for at, count in _bursts(opened, SESSIONS_BURST + SESSIONS_PER_SECOND * WINDOW):
        yield Violation("I7", at, "ZooKeeper", f"{count} sessions were opened in {WINDOW:g} s")
    for process in evidence.processes:
        for name in ("rss", "threads", "descriptors"):
            at, most = max(((getattr(s, name), s.at) for s in process.samples), default=(0, 0.0))[::-1]
            if most > getattr(limits, name):
                what = f"{most:,} {name}, where {getattr(limits, name):,} is the limit"
                yield Violation("I7", at, f"process {process.pid}", what)
        yield from _loud(evidence, process)


def _loud(evidence: Evidence, process: Process) -> Iterator[Violation]:
    """Where it logs more than it does."""
    done = [transaction.at for _, transaction in fenced(evidence) for _ in transaction.ops]
    done += [request.at for request in own_writes(evidence)]
    for first, last in _windows(process):
        seconds, logged = last.at - first.at, last.log - first.log
        writes = sum(first.at <= at <= last.at for at in done)
        if logged > LOG_BURST + evidence.limits.log_per_second * seconds + LOG_OF_A_WRITE * writes:
            what = f"logged {logged:,} bytes in {seconds:.1f} s, in which it wrote {writes} times"
            yield Violation("I7", last.at, f"process {process.pid}", what)


def idles(evidence: Evidence) -> Iterator[Violation]:
    """I5: while nothing changes it takes no CPU to speak of."""
    for begin, end in evidence.quiet:
        for process in evidence.processes:
            samples = [sample for sample in process.samples if begin <= sample.at <= end]
            seconds = samples[-1].at - samples[0].at if samples else 0
            if seconds >= WINDOW / 2:
                rate = (samples[-1].cpu - samples[0].cpu) / seconds
                if rate > evidence.limits.quiet_cpu:
                    what = f"took {rate:.2f} s of CPU a second while nothing changed"
                    yield Violation("I5", samples[-1].at, f"process {process.pid}", what)


def survives(evidence: Evidence) -> Iterator[Violation]:
    """I8: no process ends for an object that is bad."""
    reasons = [fault for fault in evidence.faults if fault.kind != "object" and fault.services is None]
    for process in evidence.processes:
        ended = process.ended
        if ended is None or process.expected_end or process.code == 0:
            continue
        if not any(fault.began <= ended <= fault.ended + LAST for fault in reasons):
            what = f"ended by itself with {process.code}, and nothing that it needs was broken"
            yield Violation("I8", ended, f"process {process.pid}", what, after=process.log[-300:])


def answers_truly(evidence: Evidence) -> Iterator[Violation]:
    """I9: ``/healthz`` fails only for what a restart mends; ``/readyz`` says when the work cannot be done."""
    for process in evidence.processes:
        yield from _unwell(evidence, process)
        yield from _blind(evidence, process)
        yield from _unready(evidence, process)
    for fault in evidence.faults:
        if fault.kind == "zookeeper" and fault.services is None:
            yield from _unmoved(evidence, fault)


def _unwell(evidence: Evidence, process: Process) -> Iterator[Violation]:
    """Where a restart is asked for without a need: the process goes on."""
    paused = [fault for fault in evidence.faults if fault.kind == "process"]
    for probe in process.probes:
        if probe.healthz == 200 or probe.at < process.started + GRACE:
            continue
        ends = process.ended is not None and not process.expected_end and process.ended <= probe.at + LAST
        ends = ends or (process.terminated is not None and process.terminated <= probe.at)
        if not ends and not any(f.began - 1 <= probe.at <= f.ended + GRACE for f in paused):
            what = f"/healthz said {probe.healthz}, and the process went on"
            yield Violation("I9", probe.at, f"process {process.pid}", what)


def _blind(evidence: Evidence, process: Process) -> Iterator[Violation]:
    """Where it says that it is ready and cannot have read anything."""
    for fault in evidence.faults:
        if fault.kind == "apiserver" and fault.services is None and fault.began <= process.started:
            for probe in process.probes:
                if probe.readyz == 200 and probe.at < fault.ended:
                    what = "/readyz said 200, though it has never reached the API server"
                    yield Violation("I9", probe.at, f"process {process.pid}", what)


def _unready(evidence: Evidence, process: Process) -> Iterator[Violation]:
    """Where it says in the end that it is not ready, and nothing is broken any more."""
    end = process.terminated or process.ended or evidence.ended
    last = [probe for probe in process.probes if process.started + GRACE < probe.at < end][-1:]
    for probe in last:
        broken = any(f.began <= probe.at <= f.ended + f.recovery for f in evidence.faults)
        if probe.readyz != 200 and not broken:
            what = f"/readyz said {probe.readyz} in the end, and nothing was broken: {probe.page}"
            yield Violation("I9", probe.at, f"process {process.pid}", what)


def _unmoved(evidence: Evidence, fault: Fault) -> Iterator[Violation]:
    """Where nobody says that ZooKeeper is away: who leads should, and only he."""
    probes = [
        probe
        for process in evidence.processes
        for probe in process.probes
        if max(fault.began, process.started) + GRACE < probe.at < fault.ended and probe.readyz
    ]
    if probes and all(probe.readyz == 200 for probe in probes):
        what = f"/readyz said 200 all the time while ZooKeeper was away: {fault.note}"
        yield Violation("I9", probes[0].at, "all processes", what)


def ends_in_order(evidence: Evidence) -> Iterator[Violation]:
    """I11: SIGTERM ends a process in 10 s, with its Lease given back and nothing withdrawn."""
    for process in evidence.processes:
        began, where = process.terminated, f"process {process.pid}"
        if began is None:
            continue
        ended = evidence.ended if process.ended is None else process.ended
        if ended > began + STOP_WITHIN or process.code != 0:
            yield Violation(
                "I11", began, where, f"SIGTERM: {ended - began:.1f} s later it ended with {process.code}"
            )
        holder = _holder(evidence, began)
        if holder and f'"{holder}"' in process.log and _holder(evidence, ended + 1) == holder:
            yield Violation("I11", ended, where, "ended and has not given the Lease back", holder, holder)
        times = timeline(evidence)
        for address, changes in times.shown.items():
            for change in changes:
                gone = change.own and not change.present and began <= change.at <= ended
                if gone and times.span(address, change.at).want is Want.MUST:
                    what = f"was withdrawn while process {process.pid} ended, at {clock(change.at)}"
                    yield Violation("I11", change.at, str(address), what, "found", "not found")


def _holder(evidence: Evidence, at: float) -> str:
    """Who held the Lease, as the product's last write of it until *at* says; "": nobody."""
    written = [
        request.sent["spec"]["holderIdentity"] or ""
        for request in own_writes(evidence)
        if request.resource == LEASES and request.code < 300 and request.at <= at
        if "holderIdentity" in request.sent.get("spec", {})
    ]
    return written[-1] if written else ""


def keeps_secrets(evidence: Evidence) -> Iterator[Violation]:
    """I12: no secret stands in a log, a command line, or anything that is shown, in base64 neither."""
    texts = {f"the log of process {p.pid}": p.log for p in evidence.processes}
    texts |= {f"the command line of process {p.pid}": " ".join(p.command) for p in evidence.processes}
    texts |= {f"{r.verb} {name_of(r)}": f"{r.sent}" for r in own_writes(evidence) if r.sent}
    for where, text in {**texts, **evidence.texts}.items():
        for number, secret in enumerate(evidence.secrets):
            encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
            if secret in text or encoded in text:
                yield Violation("I12", evidence.ended, where, f"shows secret number {number}")


def _windows(process: Process) -> Iterator[tuple[Sample, Sample]]:
    """Yield each sample with the last one that is older by a ``WINDOW``."""
    for index, last in enumerate(process.samples):
        older = [sample for sample in process.samples[:index] if sample.at <= last.at - WINDOW]
        if older:
            yield older[-1], last


def _bursts(times: Iterable[float], limit: float) -> Iterator[tuple[float, int]]:
    """Yield when more than *limit* things had happened within a ``WINDOW``, and how many; once a burst.

    >>> list(_bursts([0, 1, 2, 3, 50], 2))
    [(2, 3)]
    """
    recent: list[float] = []
    for at in sorted(times):
        was_over = len(recent) > limit
        recent = [*(other for other in recent if other > at - WINDOW), at]
        if len(recent) > limit and not was_over:
            yield at, len(recent)
