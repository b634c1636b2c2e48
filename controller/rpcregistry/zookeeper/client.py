"""ZooKeeper: reads znodes, and writes them in transactions.

kazoo returns a transaction's failure as a value; here it is raised.  Each failure is translated once
(``failures``), and callers retry.  If the answer to a write was lost, only reading shows whether it was made.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.protocol.paths import normpath
from kazoo.protocol.states import EventType, WatchedEvent

from rpcregistry.errors import Retry
from rpcregistry.plan.ops import Check, Create, Delete, Group, Op, Set, Znode
from rpcregistry.zookeeper.bulk import (
    CHILDREN,
    DATA,
    FIRST,
    MultiRead,
    MultiSeal,
    SetWatches,
    next_count,
    send,
    watchers_of,
)
from rpcregistry.zookeeper.connection import ANSWER_TIMEOUT, Connection
from rpcregistry.zookeeper.failures import ROLLED_BACK, Overtaken, TooLarge, failure, is_error, op_failure

IN_FLIGHT = 64  # requests of one call; kazoo blocks its callers when about 270 wait to be sent
FEW = 4  # znodes that cost less one by one than by three requests for all
LARGEST_TRANSACTION = 800 * 1024  # bytes; at 1 MiB the server drops the connection
OVERHEAD = 64  # bytes of an op, besides its path and its data


class ZooKeeper(Connection):
    """A connection that reads znodes and writes transactions; for any number of threads.

    *on_changed* gets the path of a znode that changed since it was read, once until it is read again.  It
    gets none of the changes while there was no connection: compare all when ``generation`` grew.  kazoo's
    thread calls it, so it must not block.  All else is as for ``Connection``.
    """

    def __init__(
        self, servers: str, *, on_changed: Callable[[str], None] | None = None, **options: Any
    ) -> None:
        self._on_changed = on_changed
        super().__init__(servers, **options)

    def read(self, paths: Iterable[str]) -> dict[str, Znode | None]:
        """Read the znodes at *paths*, None if missing, and watch each: its next change is notified."""
        unread, found = self._in_bulk("read", DATA, paths)
        found = {path: _znode(*answer) if answer else None for path, answer in found.items()}
        watcher = self._notify_change if self._on_changed else None
        while unread:
            answers = self._ask(
                "read", unread, lambda client, path: client.get_async(self._root + path, watcher)
            )
            found.update((path, _znode(*answer) if answer else None) for path, answer in answers.items())
            # Reading a missing znode sets no watch, but exists() does.  If it exists by now, read again.
            missing = [path for path in unread if found[path] is None and watcher]
            stats = self._ask(
                "look for", missing, lambda client, path: client.exists_async(self._root + path, watcher)
            )
            unread = [path for path, stat in stats.items() if stat]
        return found

    def children(self, path: str) -> list[str]:
        """The names of a znode's children; none if there is no such znode."""
        answers = self._ask("list", [path], lambda client, path: client.get_children_async(self._root + path))
        return answers[path] or []

    def listed(self, paths: Iterable[str]) -> dict[str, list[str] | None]:
        """The names of the znodes' children, None if missing; the next change of each list is notified."""
        unread, found = self._in_bulk("list", CHILDREN, paths)
        watcher = self._notify_change if self._on_changed else None
        return found | self._ask(
            "list", unread, lambda client, path: client.get_children_async(self._root + path, watcher)
        )

    def make_parents(self, path: str) -> None:
        """Create the missing znodes above *path*, the chroot's included: persistent, without data."""
        missing = []
        parent = (self._root + path).rpartition("/")[0]
        while parent and not self._ask("look for", [parent], KazooClient.exists_async)[parent]:
            missing.append(parent)
            parent = parent.rpartition("/")[0]
        for parent in reversed(missing):
            with suppress(Overtaken):
                self._ask("create", [parent], KazooClient.create_async)

    def commit(self, ops: Sequence[Op]) -> list[int | None]:
        """Write all of *ops* or none; return each znode's new version, None for a check or delete.

        Raises ``Overtaken`` if a znode is not as an op expects it; ``Fenced`` if a leading ``Check`` finds
        another version; ``Rejected`` if ZooKeeper will never accept it; ``Retry`` if it may or may not have
        been written.
        """
        if not ops:
            return []
        size = sum(map(_size, ops))
        verb = f"commit {len(ops)} ops from"
        if size > LARGEST_TRANSACTION:
            raise TooLarge(f"{verb} {ops[0].path}: {size} bytes, more than {LARGEST_TRANSACTION}")
        client = self._ready()
        with self._translated(client, verb, ops[0].path):
            results = self._submit(client.transaction(), ops).get(timeout=ANSWER_TIMEOUT)
        errors = [(op, result) for op, result in zip(ops, results, strict=True) if is_error(result)]
        for op, error in errors:
            if not isinstance(error, ROLLED_BACK):
                raise op_failure(op, error, leading=op is ops[0]) from error
        if errors:
            raise Retry(f"{verb} {ops[0].path}: rolled back, and the server gives no reason")
        return [_version(op, result) for op, result in zip(ops, results, strict=True)]

    def _submit(self, transaction: TransactionRequest, ops: Iterable[Op]) -> Any:
        for op in ops:
            path = self._root + op.path
            match op:
                case Create(_, data):
                    transaction.create(path, data)
                case Set(_, data, version):
                    transaction.set_data(path, data, version)
                case Delete(_, version):
                    transaction.delete(path, version)
                case Check(_, version):
                    transaction.check(path, version)
        return transaction.commit_async()

    def _ask(
        self, verb: str, paths: Sequence[str], send: Callable[[KazooClient, str], Any]
    ) -> dict[str, Any]:
        """Send a request for each path, up to 64 at once; return the answers, None if there is no znode."""
        client = self._ready()
        answers: dict[str, Any] = dict.fromkeys(paths)
        waiting: deque[tuple[str, Any]] = deque()

        def take() -> None:
            path, result = waiting.popleft()
            with self._translated(client, verb, path), suppress(NoNodeError):
                answers[path] = result.get(timeout=ANSWER_TIMEOUT)

        for path in paths:
            with self._translated(client, verb, path):
                waiting.append((path, send(client, path)))
            if len(waiting) == IN_FLIGHT:
                take()
        while waiting:
            take()
        return answers

    # in bulk

    def _in_bulk(self, verb: str, what: int, paths: Iterable[str]) -> tuple[list[str], dict[str, Any]]:
        """Read *what* of *paths* in bulk, where that costs less; return the paths left, and the answers.

        What is still watched is read without another watch.  Few others cost less one by one.
        """
        left, client = list(dict.fromkeys(paths)), self._ready()
        if not self._bulk.works:
            return left, {}
        with self._translated(client, verb, ", ".join(left[:1])):
            rooted = {path: normpath(self._root + path) for path in left}
        watchers = watchers_of(client, what)
        bare = {path: at for path, at in rooted.items() if self._on_changed and at not in watchers}
        watched = {path: at for path, at in rooted.items() if path not in bare}
        answers = self._read_many(client, verb, what, watched, watch=False)
        if len(bare) < FEW:
            return list(bare), answers
        return [], answers | self._read_many(client, verb, what, bare, watch=True)

    def _read_many(
        self, client: KazooClient, verb: str, what: int, rooted: Mapping[str, str], *, watch: bool
    ) -> dict[str, Any]:
        """Read *what* of paths, given with the chroot, too, and *watch* them; None if there is no znode."""
        answers: dict[str, Any] = {}
        left, count = list(rooted), FIRST
        while left:
            paths, left = left[:count], left[count:]
            at = [rooted[path] for path in paths]
            begun = time.monotonic()
            with self._translated(client, verb, paths[0]):
                # Watch first: then each change is in the answer, or notified.
                if watch:
                    self._watch(client, what, at)
                results, size = send(client, MultiRead(what, at)).get(timeout=ANSWER_TIMEOUT)
            count = next_count(count, time.monotonic() - begun, size)
            for path, result in zip(paths, results, strict=True):
                answers[path] = None if isinstance(result, NoNodeError) else result
                if is_error(answers[path]):
                    raise failure(verb, path, result)
        return answers

    def seals(self, groups: Sequence[Group]) -> list[bytes | None]:
        """A digest of what the server says of each group; None if it does not read in bulk.

        None, too, where a path is not watched any more.
        """
        client, count = self._ready(), FIRST
        seals: list[bytes | None] = []
        for group in groups:
            if not (self._bulk.works and self._watches(client, group)):
                seals.append(None)
                continue
            left = list(dict.fromkeys((*group.znodes, *group.children)))
            seal = blake2b("\0".join(left).encode(), digest_size=16)
            while left:
                paths, left = left[:count], left[count:]
                begun = time.monotonic()
                with self._translated(client, "compare", paths[0]):
                    at = [self._root + path for path in paths]
                    answer, size = send(client, MultiSeal(DATA, at)).get(timeout=ANSWER_TIMEOUT)
                count = next_count(count, time.monotonic() - begun, size)
                seal.update(answer)
            seals.append(seal.digest())
        return seals

    def _watches(self, client: KazooClient, group: Group) -> bool:
        """Whether each path of *group* is watched; no path that kazoo would normalise is found."""
        znodes, children = watchers_of(client, DATA), watchers_of(client, CHILDREN)
        return all(self._root + path in znodes for path in group.znodes) and all(
            self._root + path in children for path in group.children
        )

    def _watch(self, client: KazooClient, what: int, at: Sequence[str]) -> None:
        """Watch *what* of znodes, and the coming of those whose data is asked for and that are missing."""
        results, _ = send(client, MultiRead(what, at)).get(timeout=ANSWER_TIMEOUT)
        here = [path for path, result in zip(at, results, strict=True) if not is_error(result)]
        missing = [path for path, result in zip(at, results, strict=True) if isinstance(result, NoNodeError)]
        request = (
            SetWatches(client, self._notify_change, data=here, missing=missing)
            if what == DATA
            else SetWatches(client, self._notify_change, children=here)
        )
        try:
            send(client, request).get(timeout=ANSWER_TIMEOUT)
        except KazooException:
            self._give_up(client)  # it takes them for watched
            raise

    def _notify_change(self, event: WatchedEvent) -> None:
        # kazoo ends the watches of a lost connection by an event NONE, which has no path.
        if self._on_changed and event.type != EventType.NONE:
            self._on_changed(event.path.removeprefix(self._root))


def _version(op: Op, result: Any) -> int | None:
    match op:
        case Create():
            return 0
        case Set():
            return int(result.version)
    return None


def _size(op: Op) -> int:
    data = op.data if isinstance(op, Create | Set) else b""
    return len(op.path) + len(data) + OVERHEAD


def _znode(data: bytes | None, stat: Any) -> Znode:
    return Znode(data or b"", stat.version, stat.numChildren, bool(stat.ephemeralOwner))
