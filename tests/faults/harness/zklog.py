"""ZooKeeper's transaction log: every state that its tree was in, as the server itself wrote it down.

``read`` parses ``dataDir/version-2``; ``states`` replays it.  No client and no watch comes in between: a
watch merges states, the log does not.  Formats, of ZooKeeper 3.4 to 3.9:

* ``log.<zxid>``: ``persistence/FileTxnLog.java``; what each type of transaction holds:
  ``server/util/SerializeUtils.java`` and ``zookeeper.jute``.  While the server writes, the last entry may be
  torn; behind it are zeros.
* ``snapshot.<zxid>``: ``persistence/FileSnap.java`` and ``server/DataTree.java``.  Replay begins with one
  where the log does not reach back: a member of an ensemble that was away for long is sent a snapshot and
  not what it missed.  With the default ``autopurge.purgeInterval`` a server deletes no log.
"""

import struct
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from zlib import adler32

from tests.faults.harness.evidence import (
    Check,
    CloseSession,
    Create,
    Delete,
    Failed,
    Log,
    Op,
    OpenSession,
    SetAcl,
    SetData,
    Transaction,
)

LOG_HEADER, SNAPSHOT_HEADER = b"ZKLG\0\0\0\2", b"ZKSN\0\0\0\2"
FILE_HEADER = 16  # bytes: those, and an id
END_OF_RECORD = b"B"
COUNTER = 0xFFFFFFFF  # of a zxid; the rest is the epoch, which is 0 for ever outside an ensemble

# ZooDefs.OpCode
ERROR, CREATE, DELETE, SET_DATA, SET_ACL, CHECK, MULTI = -1, 1, 2, 5, 7, 13, 14
CREATE2, RECONFIG, CREATE_CONTAINER, DELETE_CONTAINER, CREATE_TTL = 15, 16, 19, 20, 21
OPEN_SESSION, CLOSE_SESSION = -10, -11


class Corrupt(Exception):
    """A file that no server leaves behind: nothing that was read can be relied on."""


@dataclass(frozen=True)
class State:
    """What a transaction *changed* (None: deleted), and the *tree* since, which the next one changes."""

    transaction: Transaction
    changed: Mapping[str, bytes | None]
    tree: Mapping[str, bytes]


def read(data_dir: Path) -> Log:
    """Read what a server, running or not, has in its ``dataDir``; raise Corrupt."""
    directory = data_dir / "version-2"
    logs, snapshots = (sorted(directory.glob(f"{kind}.*"), key=_number) for kind in ("log", "snapshot"))
    found = [transaction for file in logs for transaction in parse_log(file.read_bytes())]
    gaps = (at for at, pair in enumerate(pairwise(found), 1) if _misses(pair[0].zxid, pair[1].zxid))
    transactions = found[max(gaps, default=0) :]
    first = transactions[0].zxid if transactions else 1
    if first in (1, COUNTER + 2):  # the first of an ensemble is of its first epoch
        return Log({}, _with_ephemerals(transactions, {}))
    before = [file for file in snapshots if not _misses(_number(file), first)]
    if not before:
        raise Corrupt(f"{directory}: the log begins at {first:#x}, and no snapshot leads there")
    start = parse_snapshot(before[-1].read_bytes())
    owners = {path: owner for path, (_, owner) in start.items() if owner}
    return Log({path: data for path, (data, _) in start.items()}, _with_ephemerals(transactions, owners))


def states(log: Log, prefix: str = "/") -> Iterator[State]:
    """Yield a state of the znodes at and below *prefix* for each transaction that changed any of them.

    >>> made = Transaction(1, 0.0, 7, (Create("/a", b"1"), Create("/b", b"")))
    >>> gone = Transaction(2, 0.0, 7, (Delete("/a"),))
    >>> [dict(state.tree) for state in states(Log({}, [made, gone]), "/a")]
    [{'/a': b'1'}, {}]
    """
    tree = {path: data for path, data in log.start.items() if is_below(path, prefix)}
    for transaction in log.transactions:
        touched = {
            path: data for op in transaction.ops for path, data in changes(op) if is_below(path, prefix)
        }
        if touched:
            _apply(touched, tree)
            yield State(transaction, touched, MappingProxyType(tree))


def end(log: Log, prefix: str = "/") -> dict[str, bytes]:
    """The znodes at and below *prefix* after the last transaction."""
    tree = dict(log.start)
    for transaction in log.transactions:
        for op in transaction.ops:
            _apply(dict(changes(op)), tree)
    return {path: data for path, data in tree.items() if is_below(path, prefix)}


def sessions(log: Log) -> dict[int, tuple[float, float | None]]:
    """When each session began, and ended where it did."""
    found: dict[int, tuple[float, float | None]] = {}
    for transaction in log.transactions:
        match transaction.ops:
            case (OpenSession(),):
                found[transaction.session] = (transaction.at, None)
            case (CloseSession(),):
                began, _ = found.get(transaction.session, (transaction.at, None))
                found[transaction.session] = (began, transaction.at)
    return found


def changes(op: Op) -> Iterator[tuple[str, bytes | None]]:
    """Yield the znodes that an operation gave other data; None: it is deleted."""
    match op:
        case Create(path, data) | SetData(path, data):
            yield path, data
        case Delete(path):
            yield path, None
        case CloseSession(paths):
            yield from ((path, None) for path in paths)


def is_below(path: str, prefix: str) -> bool:
    """Whether *path* is *prefix* or below it.

    >>> is_below("/a/b", "/a"), is_below("/ab", "/a"), is_below("/ab", "/")
    (True, False, True)
    """
    return path == prefix or path.startswith(f"{prefix.rstrip('/')}/")


def parse_log(content: bytes) -> Iterator[Transaction]:
    """Yield the transactions of one file up to its end, its padding, or its torn entry; raise Corrupt.

    >>> list(parse_log(LOG_HEADER + bytes(8) + bytes(64)))
    []
    """
    if content[: len(LOG_HEADER)] != LOG_HEADER[: len(content)]:
        raise Corrupt(f"a log begins with {content[:8]!r}")
    at = FILE_HEADER
    while len(content) >= at + 12:
        checksum, length = struct.unpack_from(">qi", content, at)
        begin, at = at + 12, at + 12 + length + len(END_OF_RECORD)
        entry = content[begin : begin + length]
        if length == 0 or content[at - 1 : at] != END_OF_RECORD:
            return
        if adler32(entry) != checksum:
            raise Corrupt(f"an entry at byte {begin} does not match its checksum")
        yield _transaction(_Jute(entry))


def parse_snapshot(content: bytes) -> dict[str, tuple[bytes, int]]:
    """The znodes of a snapshot: data, and the session of an ephemeral one or 0; raise Corrupt."""
    if not content.startswith(SNAPSHOT_HEADER):
        raise Corrupt(f"a snapshot begins with {content[:8]!r}")
    jute = _Jute(content, FILE_HEADER)
    for _ in range(jute.integer()):
        jute.long(), jute.integer()  # sessions and their timeouts
    for _ in range(jute.integer()):
        jute.long(), jute.acl()
    found: dict[str, tuple[bytes, int]] = {}
    while (path := jute.string()) != "/":  # which ends the list; the root is written as ""
        data, _ = jute.buffer(), jute.take(8 + 4 * 8 + 3 * 4)  # ACL, zxids and times, versions
        found[path or "/"] = data, jute.long()
        jute.long()  # of the last change of its children
    return found


class _Jute:
    """A reader of ZooKeeper's encoding: big-endian, a length before all that has one, -1 for null."""

    def __init__(self, content: bytes, at: int = 0) -> None:
        self._content = content
        self._at = at

    def take(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) < count:
            raise Corrupt(f"{count} bytes are missing at {self._at}")
        self._at += count
        return taken

    def integer(self) -> int:
        return int.from_bytes(self.take(4), signed=True)

    def long(self) -> int:
        return int.from_bytes(self.take(8), signed=True)

    def boolean(self) -> bool:
        return self.take(1) != b"\0"

    def buffer(self) -> bytes:
        return self.take(max(self.integer(), 0))

    def string(self) -> str:
        return self.buffer().decode()

    def acl(self) -> list[tuple[int, str, str]]:
        return [(self.integer(), self.string(), self.string()) for _ in range(self.integer())]

    @property
    def exhausted(self) -> bool:
        return self._at == len(self._content)


def _transaction(jute: _Jute) -> Transaction:
    session, _, zxid, milliseconds, kind = (
        jute.long(),
        jute.integer(),
        jute.long(),
        jute.long(),
        jute.integer(),
    )
    if kind == MULTI:
        parts = [(jute.integer(), jute.buffer()) for _ in range(jute.integer())]
        ops = tuple(_op(part, _Jute(data), session) for part, data in parts)
        # Where one of them failed, the server logs it, and performs none.
        ops = tuple(op for op in ops if isinstance(op, Failed))[:1] or ops
    else:
        ops = (_op(kind, jute, session),)
    return Transaction(zxid, milliseconds / 1000, session, ops)


def _op(kind: int, jute: _Jute, session: int) -> Op:
    """One operation; what follows it in the entry is a digest of the tree."""
    match kind:
        case _ if kind in (CREATE, CREATE2, CREATE_TTL, CREATE_CONTAINER):
            path, data, _ = jute.string(), jute.buffer(), jute.acl()
            return Create(path, data, session if kind in (CREATE, CREATE2) and jute.boolean() else 0)
        case _ if kind in (DELETE, DELETE_CONTAINER):
            return Delete(jute.string())
        case _ if kind in (SET_DATA, RECONFIG):
            return SetData(jute.string(), jute.buffer(), jute.integer())
        case _ if kind == SET_ACL:
            return SetAcl(jute.string())
        case _ if kind == CHECK:  # the log has the version that a write would have left
            return Check(jute.string(), jute.integer() - 1)
        case _ if kind == OPEN_SESSION:
            return OpenSession(jute.integer() / 1000)
        case _ if kind == CLOSE_SESSION:
            return CloseSession(() if jute.exhausted else tuple(jute.string() for _ in range(jute.integer())))
        case _ if kind == ERROR:
            return Failed(jute.integer())
    raise Corrupt(f"a transaction of the unknown type {kind}")


def _with_ephemerals(transactions: list[Transaction], owners: Mapping[str, int]) -> tuple[Transaction, ...]:
    """Servers before 3.7 do not list which znodes end with a session: it is those that it made."""
    owned = dict(owners)
    completed = []
    for transaction in transactions:
        ops: tuple[Op, ...] = transaction.ops
        if isinstance(ops[0], CloseSession):
            own = (path for path, owner in owned.items() if owner == transaction.session)
            ops = (CloseSession(tuple(sorted({*ops[0].paths, *own}))),)
        completed.append(replace(transaction, ops=ops))
        for op in ops:
            if isinstance(op, Create) and op.owner:
                owned[op.path] = op.owner
            else:
                for path, data in changes(op):
                    if data is None:
                        owned.pop(path, None)
    return tuple(completed)


def _apply(changed: Mapping[str, bytes | None], tree: MutableMapping[str, bytes]) -> None:
    for path, data in changed.items():
        if data is None:
            tree.pop(path, None)
        else:
            tree[path] = data


def _misses(zxid: int, later: int) -> bool:
    """Whether there were transactions between two.

    Every write that a server agreed to or refused is numbered; each new leader begins an epoch, and counts
    from 1 in it.
    """
    if zxid & ~COUNTER == later & ~COUNTER:
        return later != zxid + 1
    return later < zxid or later & COUNTER > 1


def _number(file: Path) -> int:
    return int(file.suffix[1:], 16)
