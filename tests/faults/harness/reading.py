"""What a stand reads: flags, a log, a tree, a status."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from tests.faults.harness import oracle
from tests.faults.harness.evidence import Log

TIMEOUT = 5.0  # seconds: ZooKeeper's answer to the harness


def parsed(flags: Sequence[str]) -> Mapping[str, list[str]]:
    """The values of flags, given as ``--flag value`` or ``--flag=value``.

    >>> parsed(["--layout", "a=/a", "--layout=b=/b", "--dry-run"])
    {'--layout': ['a=/a', 'b=/b'], '--dry-run': []}
    """
    found: dict[str, list[str]] = {}
    flag = ""
    for word in flags:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            found.setdefault(flag, []).extend([value] if equals else [])
        else:
            found[flag].append(word)
    return found


def within(log: Log, chroot: str, since: float) -> Log | None:
    """What a log says of a chroot, with paths as its clients see them; None where it ends before *since*.

    What another test did is no part of it, but for sessions: they have no path.
    """
    if log.transactions and log.transactions[-1].at < since:
        return None

    def counts(path: str) -> bool:
        return path.startswith(f"{chroot}/")

    start = {path[len(chroot) :]: data for path, data in log.start.items() if counts(path)}
    kept = []
    for transaction in log.transactions:
        ops = tuple(
            replace(op, path=op.path[len(chroot) :]) if hasattr(op, "path") else op
            for op in transaction.ops
            if not hasattr(op, "path") or counts(op.path)
        )
        if ops:
            kept.append(replace(transaction, ops=ops))
    return Log(start, kept)


def subtree(zk: KazooClient, base: str) -> dict[str, bytes]:
    """All znodes from *base* on."""
    found: dict[str, bytes] = {}
    waiting = [base]
    while waiting:
        path = waiting.pop()
        try:
            found[path] = zk.get_async(path).get(timeout=TIMEOUT)[0]
            waiting += [f"{path}/{name}" for name in zk.get_children_async(path).get(timeout=TIMEOUT)]
        except NoNodeError:
            found.pop(path, None)
    return found


def agrees(
    found: Mapping[str, frozenset[str]],
    desired: Mapping[str, frozenset[str]],
    undecided: Mapping[str, frozenset[str]],
) -> bool:
    """Whether a layout holds what it should, give or take what is undecided; all by service."""
    nothing: frozenset[str] = frozenset()
    return all(
        (found.get(name, nothing) ^ desired.get(name, nothing)) <= undecided.get(name, nothing)
        for name in {*found, *desired}
    )


def is_in_sync(rpcservice: oracle.Manifest) -> bool:
    """Whether it says that it is published as it is to be, so that nothing of it waits to be told."""
    conditions = (rpcservice.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Synced" and c["status"] == "True" for c in conditions)
