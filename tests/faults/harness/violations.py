"""What breaks an invariant, and what several invariants ask of the evidence."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from tests.faults.harness.audit import WRITES
from tests.faults.harness.evidence import Check, Evidence, Request, Transaction

LEASES = "leases.coordination.k8s.io"


@dataclass(frozen=True)
class Violation:
    """What broke an invariant, when and where, with what was there *before* and *after*."""

    invariant: str
    at: float
    where: str
    what: str
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        states = f" [{self.before or '-'} -> {self.after or '-'}]" if self.before or self.after else ""
        return f"{self.invariant} {clock(self.at)} {self.where}: {self.what}{states}"


def clock(at: float) -> str:
    """A time of day.

    >>> clock(3723.5)
    '01:02:03.500'
    """
    return datetime.fromtimestamp(at, UTC).time().isoformat("milliseconds") if at > 0 else "(never)"


def transactions(evidence: Evidence) -> Iterator[Transaction]:
    """Yield all of ZooKeeper's transactions, of all lives of its data."""
    return chain.from_iterable(log.transactions for log in evidence.logs)


def fence(evidence: Evidence) -> str:
    """Where the product's fence lies."""
    return f"/rpcregistry/fence/{evidence.cluster_id}"


def heartbeat(evidence: Evidence) -> str:
    """Where the product's heartbeat lies."""
    return f"/rpcregistry/heartbeat/{evidence.cluster_id}"


def fenced(evidence: Evidence) -> Iterator[tuple[int, Transaction]]:
    """Yield the versions of the fence that the product checked, and the transactions."""
    path = fence(evidence)
    for transaction in transactions(evidence):
        for op in transaction.ops:
            if isinstance(op, Check) and op.path == path:
                yield op.version, transaction


def own_sessions(evidence: Evidence) -> frozenset[int]:
    """The sessions that are known to be the product's: others of a shared server are other tests'."""
    return frozenset(transaction.session for _, transaction in fenced(evidence))


def own_requests(evidence: Evidence) -> Iterator[Request]:
    """Yield the product's requests about the test's namespaces, about none, and about Leases."""
    spaces = {*evidence.flags.get("namespace", ()), ""}
    for request in evidence.requests:
        ours = len(spaces) == 1 or request.namespace in spaces or request.resource == LEASES
        if ours and request.user == evidence.own_user:
            yield request


def own_writes(evidence: Evidence) -> Iterator[Request]:
    """Yield those of them that write."""
    return (request for request in own_requests(evidence) if request.verb in WRITES)


def name_of(request: Request) -> str:
    """What a request is about."""
    return " ".join([request.resource, "/".join(filter(None, (request.namespace, request.name)))])
