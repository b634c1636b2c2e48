"""I4, I5, I6: who wrote what."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from tests.faults.harness import oracle, zklog
from tests.faults.harness.evidence import Create, Delete, Evidence, Process, SetAcl, SetData, Transaction
from tests.faults.harness.violations import (
    LEASES,
    Violation,
    fence,
    fenced,
    heartbeat,
    name_of,
    own_sessions,
    own_writes,
    transactions,
)

OWNED = "/rpcregistry/owned"
MAY_WRITE = {
    "rpcservices.rpcregistry.dev",
    "rpcservices.rpcregistry.dev/status",
    "localservices.rpcregistry.dev",
    "localservices.rpcregistry.dev/status",
    "services",
    "pods",
    "pods/status",
    "events.events.k8s.io",
    "subjectaccessreviews.authorization.k8s.io",  # these two ask, and write nothing
    "selfsubjectreviews.authentication.k8s.io",
    LEASES,
}


def leaves_alone(evidence: Evidence) -> Iterator[Violation]:
    """I4: znodes and objects of others are not touched, and no kind of object that is not ours."""
    ours = own_sessions(evidence)
    for log in evidence.logs:
        for transaction in log.transactions:
            for op in transaction.ops:
                if isinstance(op, Create | SetData | Delete | SetAcl):
                    foreign = (
                        op.path in evidence.foreign and transaction.session not in evidence.other_sessions
                    )
                    why = "is somebody else's" if foreign else ""
                    if why or (transaction.session in ours and (why := _not_ours(evidence, op))):
                        what = f"{type(op).__name__} in transaction {transaction.zxid:#x}: it {why}"
                        before = evidence.foreign.get(op.path, b"").decode(errors="replace")
                        yield Violation(
                            "I4", transaction.at, op.path, what, before, str(getattr(op, "data", ""))
                        )
    for request in own_writes(evidence):
        thing = (request.resource, request.namespace, request.name)
        if request.code < 300 and (thing in evidence.foreign_objects or request.resource not in MAY_WRITE):
            yield Violation("I4", request.at, name_of(request), f"{request.verb} of somebody else's object")


def _not_ours(evidence: Evidence, op: Create | SetData | Delete | SetAcl) -> str:
    """Why an operation of the product's touches what is not its own; empty where it does not."""
    path, own = op.path, [fence(evidence), heartbeat(evidence)]
    made = [base for _, base in evidence.layouts] + [f"{OWNED}/{layout}" for layout, _ in evidence.layouts]
    is_directory = isinstance(op, Create) and not op.data
    if path in own or (is_directory and any(zklog.is_below(below, path) for below in [*own, *made])):
        return ""
    for layout, base in evidence.layouts:
        if path.startswith(f"{OWNED}/{layout}/"):
            cluster = path.rpartition("/")[2].partition("@")[2]
            fits = _is_of(evidence, path) and cluster in ("", evidence.cluster_id)
            return "" if fits else "is the ledger's entry of another base path or cluster"
        if path != base and zklog.is_below(path, base):
            templates = evidence.flags.get("templates", {})
            fits = is_directory or _is_owned(evidence, layout, base, path)
            fits |= isinstance(op, Create) and oracle.is_static(layout, base, path, op.data, templates)
            return "" if fits else "has not the shape of ours"
    return "lies outside of all that is ours"


def rests(evidence: Evidence) -> Iterator[Violation]:
    """I5: while nothing changes nothing is written, but for Leases and the heartbeat."""
    ours, beat = own_sessions(evidence), heartbeat(evidence)
    for begin, end in evidence.quiet:
        for transaction in transactions(evidence):
            paths = {path for op in transaction.ops for path, _ in zklog.changes(op)} - {beat}
            if transaction.session in ours and begin <= transaction.at <= end and paths:
                what = f"was written in transaction {transaction.zxid:#x} while nothing changed"
                yield Violation("I5", transaction.at, ", ".join(sorted(paths)[:3]), what)
        for request in own_writes(evidence):
            if request.resource != LEASES and begin <= request.at <= end:
                what = f"{request.verb} ({request.code}) while nothing changed"
                yield Violation("I5", request.at, name_of(request), what)


def one_writes(evidence: Evidence) -> Iterator[Violation]:
    """I6: every write looks at the fence, and by the order of the log no two processes take turns.

    Who takes over changes the fence, in a session of his; from then on no older session writes, and one that
    another followed does not write again.
    """
    fence_path = fence(evidence)
    checked = {id(transaction): version for version, transaction in fenced(evidence)}
    taken = Take(0, evidence.began, None, frozenset())
    sessions: dict[int, float] = {}  # by when they were first seen
    writers: list[tuple[int, int]] = []  # versions and sessions, in the order in which they wrote
    for transaction in transactions(evidence):
        for op in transaction.ops:
            if isinstance(op, Create | SetData) and op.path == fence_path:
                version = op.version if isinstance(op, SetData) else 0
                taken = Take(version, transaction.at, transaction.session, frozenset(sessions))
        sessions.setdefault(transaction.session, transaction.at)
        path = next(_published(evidence, transaction), None)
        if path is None:
            continue
        writer = checked.get(id(transaction), -1), transaction.session
        why = _not_the_one(evidence, writer, sessions[transaction.session], taken, writers)
        if why:
            where = f"{path} in transaction {transaction.zxid:#x}"
            yield Violation("I6", transaction.at, where, f"was written by session {writer[1]:#x}, {why}")
        if writer not in writers[-1:]:
            writers.append(writer)


class Take(NamedTuple):
    """The fence got *version*, in a *session*, when there had been those *before*."""

    version: int
    at: float
    session: int | None
    before: frozenset[int]


def _not_the_one(
    evidence: Evidence, writer: tuple[int, int], since: float, taken: Take, writers: Sequence[tuple[int, int]]
) -> str:
    """Why *writer*, a version of the fence and a session, is not the one that may write; empty if it is.

    *since*: when the session began.  What a process had sent may arrive after its end, in a session of its.
    """
    version, session = writer
    if version < 0:
        return "without a look at the fence"
    if session != taken.session and session in taken.before:
        return f"which is older than version {taken.version} of the fence, of another session"
    if writer in writers[:-1]:
        return "and another session had written since it wrote last"
    if taken.session is not None and not any(_ran(p, taken.at, since) for p in evidence.processes):
        return f"begun when the process that took version {taken.version} of the fence had ended"
    return ""


def _published(evidence: Evidence, transaction: Transaction) -> Iterator[str]:
    """Yield the paths of services and of the ledger that others than the harness wrote."""
    if transaction.session in evidence.other_sessions:
        return
    for op in transaction.ops:
        for path, _ in zklog.changes(op):
            entry = path.startswith(f"{OWNED}/") and _is_of(evidence, path)
            if entry or any(_is_owned(evidence, layout, base, path) for layout, base in evidence.layouts):
                yield path


def _is_owned(evidence: Evidence, layout: str, base: str, path: str) -> bool:
    return oracle.owned(layout, base, path, evidence.flags.get("templates", {})) is not None


def _is_of(evidence: Evidence, path: str) -> bool:
    """Whether an entry of the ledger, which all tests share, is of a service of this one."""
    service = unquote(path.rpartition("/")[2].partition("@")[0])
    return any(zklog.is_below(service, base) for _, base in evidence.layouts)


def _ran(process: Process, then: float, later: float) -> bool:
    """Whether a process ran at both times."""
    return process.started <= then and (process.ended is None or process.ended >= later)
