"""What holds through every fault: I1 to I12, judged by what was witnessed and nothing else.

``check`` is for the end of every test.  To add an invariant: a function that yields what violates it, in the
module of its kind (``addresses``, ``writes``, ``processes``), a line in ``INVARIANTS``, and a mutation in
``tests/faults/mutations`` that it catches.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from tests.faults.harness import addresses, processes, writes
from tests.faults.harness.addresses import summary
from tests.faults.harness.evidence import Evidence
from tests.faults.harness.timeline import timeline
from tests.faults.harness.violations import Violation, fenced, own_requests

__all__ = ["INVARIANTS", "Violation", "check", "summary", "violations"]

SHOWN = 40  # violations in one message

# What has to be there to judge by: a check that finds nothing to look at has not been made.
WITNESSED: Mapping[str, Callable[[Evidence], Iterable[object]]] = {
    "transaction of the product": fenced,
    "request of the product": own_requests,
    "pod": lambda evidence: (c for c in evidence.history if c.object["kind"] == "Pod"),
    "address in ZooKeeper": lambda evidence: timeline(evidence).shown,
    "process": lambda evidence: evidence.processes,
    "sample": lambda evidence: (s for process in evidence.processes for s in process.samples),
    "probe": lambda evidence: (p for process in evidence.processes for p in process.probes),
    "log": lambda evidence: "".join(process.log for process in evidence.processes),
    "foreign znode": lambda evidence: evidence.foreign,
    "secret": lambda evidence: "".join(evidence.secrets),
}


@dataclass(frozen=True)
class Invariant:
    """What holds, how it is judged, and what it is judged by (of ``WITNESSED``)."""

    sentence: str
    judges: tuple[Callable[[Evidence], Iterable[Violation]], ...]
    needs: tuple[str, ...]


INVARIANTS: Mapping[str, Invariant] = {
    "I1": Invariant(
        "in time, ZooKeeper, the statuses and the node Services are what the oracle makes of the objects",
        (addresses.converges,),
        ("transaction of the product", "pod", "address in ZooKeeper"),
    ),
    "I2": Invariant(
        "no address of a pod that stays Ready is ever missing",
        (addresses.keeps,),
        ("pod", "address in ZooKeeper"),
    ),
    "I3": Invariant(
        "no address of a pod that ended stays or comes back",
        (addresses.forgets,),
        ("pod", "address in ZooKeeper"),
    ),
    "I4": Invariant(
        "what is others' is not touched",
        (writes.leaves_alone,),
        ("transaction of the product", "request of the product", "foreign znode"),
    ),
    "I5": Invariant(
        "while nothing changes nothing is written",
        (writes.rests, processes.idles),
        ("transaction of the product", "request of the product"),
    ),
    "I6": Invariant(
        "one process writes at a time",
        (writes.one_writes,),
        ("transaction of the product", "process"),
    ),
    "I7": Invariant(
        "requests, memory, threads, files and logs are bounded",
        (processes.stays_bounded,),
        ("request of the product", "sample"),
    ),
    "I8": Invariant(
        "a bad object harms itself alone",
        (addresses.spares, processes.survives),
        ("pod", "address in ZooKeeper", "process"),
    ),
    "I9": Invariant("the probes tell the truth", (processes.answers_truly,), ("probe",)),
    "I10": Invariant(
        "an address comes and goes as often as its pod does",
        (addresses.repeats_nothing,),
        ("transaction of the product", "address in ZooKeeper"),
    ),
    "I11": Invariant(
        "SIGTERM withdraws nothing and gives the Lease back",
        (processes.ends_in_order,),
        ("request of the product", "process"),
    ),
    "I12": Invariant("no secret is shown", (processes.keeps_secrets,), ("secret", "log")),
}


def check(evidence: Evidence) -> None:
    """Raise one AssertionError that lists all that was violated, but for what the test allows by name."""
    unknown = evidence.allow.keys() - INVARIANTS.keys()
    assert not unknown, f"allowed, and no invariants: {', '.join(sorted(unknown))}"
    found = [violation for violation in violations(evidence) if violation.invariant not in evidence.allow]
    if found:
        broken = {violation.invariant for violation in found}
        sentences = [f"{name}: {each.sentence}" for name, each in INVARIANTS.items() if name in broken]
        rest = [f"… and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise AssertionError("\n".join([*sentences, *map(str, found[:SHOWN]), *rest]))


def violations(evidence: Evidence) -> list[Violation]:
    """All that was violated, the earliest first; that nothing was witnessed is a violation, too."""
    lacking = {name for name, look in WITNESSED.items() if not any(True for _ in look(evidence))}
    found = [
        Violation(name, evidence.began, "the evidence", f"nothing was witnessed: no {need}")
        for name, invariant in INVARIANTS.items()
        for need in invariant.needs
        if need in lacking
    ]
    judged = (judge(evidence) for invariant in INVARIANTS.values() for judge in invariant.judges)
    return sorted([*found, *chain.from_iterable(judged)], key=lambda violation: violation.at)
