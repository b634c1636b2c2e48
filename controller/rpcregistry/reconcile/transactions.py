"""Writing to ZooKeeper: the cache of its znodes, the fence, and one transaction after another."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import msgspec
import structlog

from rpcregistry.errors import Conflict, Rejected, Retry
from rpcregistry.layouts import Layout
from rpcregistry.plan import heartbeat
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.invariants import check_transaction
from rpcregistry.plan.ledger import ledger_root
from rpcregistry.plan.ops import OPS_A_TRANSACTION, Create, Delete, Op, Step, batches
from rpcregistry.plan.restored import Record
from rpcregistry.reconcile.cache import ZnodeCache
from rpcregistry.reconcile.fence import Fence
from rpcregistry.reconcile.ports import Clock, ZooKeeper
from rpcregistry.reconcile.uncovered import uncovered

log = structlog.get_logger(__name__)

QUICK = 1.0  # seconds for a transaction


class RegistryWriter:
    """The only writer of ZooKeeper in this process, with the cache of its znodes.

    The registry's thread calls it.  After that thread's end, the one that writes the last heartbeat does.
    Any thread may read ``compared``, and ``cache``, which is replaced as a whole.

    *clusters*: the ids of the clusters whose paths are ours, our own first.  *heartbeat*: returns what it
    says now, but for what ``beat`` is told; *seen*: how far the API server has come.
    *require_clear* fails while another process may keep the registry up.  *written* is called with the
    layout, operation and service name of each znode written, and what others had done to it, or ``""``.
    """

    def __init__(
        self,
        *,
        zookeeper: ZooKeeper,
        layouts: Sequence[Layout],
        clusters: Sequence[str],
        fence: Fence | None,
        heartbeat: Callable[[], Heartbeat],
        seen: Callable[[], Record],
        require_clear: Callable[[], None],
        written: Callable[[str, str, str, str], None],
        clock: Clock,
    ) -> None:
        self._zookeeper = zookeeper
        self._layouts = layouts
        self._clusters = clusters
        self._fence = fence
        self._heartbeat = heartbeat
        self._seen = seen
        self._beaten: Heartbeat | None = None  # the last beat; None: ZooKeeper has none, or refuses it
        self._require_clear = require_clear
        self._on_written = written
        self._clock = clock
        self.cache = ZnodeCache(zookeeper, layouts, clusters, clock.monotonic)
        self._generation = -1  # of the connection that read everything last
        self._most = OPS_A_TRANSACTION  # operations in one: fewer while answers are late
        self._written: set[str] = set()  # names, until ``take_written``
        self._repaired: dict[str, dict[str, str]] = {}  # by name: paths, and what others did to them

    # reading

    @property
    def compared(self) -> bool:
        """Whether the current connection has read everything once."""
        return self._generation == self._zookeeper.generation

    def read_anew(self, listed: Iterable[str]) -> tuple[set[str], bool]:
        """Read everything of the names *listed* and of those in the ledger.

        Return these names, and whether ZooKeeper was wiped: it has lost what we published.
        """
        generation = self._zookeeper.generation
        for layout in self._layouts:
            self._zookeeper.make_parents(f"{layout.base.rstrip('/')}/x")
            self._zookeeper.make_parents(f"{ledger_root(layout)}/x")
        fresh = self.cache.anew()
        names = fresh.ledgered().union(listed)
        try:
            fresh.read(names)
        except Rejected:
            fresh.forget(names)
            for name in names:
                with suppress(Rejected):  # a znode that may not be read costs no other
                    fresh.read([name])
        wiped = bool(self.cache.claimed() and not fresh.claimed())
        if not wiped:
            fresh.note_since(self.cache)
        self.cache = fresh
        self._generation = generation
        return names, wiped

    def uncovered(self) -> set[tuple[str, str]]:
        """The layout names and paths in the ledger that no ``--layout`` covers."""
        return uncovered(self._zookeeper, self._layouts, self._clusters)

    def read(self, names: Collection[str]) -> None:
        """Read what is unknown or stale of *names*; raises a ``Failure`` while we may not write them."""
        if not self._zookeeper.connected:
            raise Retry("ZooKeeper is not connected")
        self._require_clear()
        self.cache.read(names)

    # writing

    def write(self, steps: Iterable[tuple[tuple[str, Layout], Step]]) -> None:
        """Write *steps*, each of a name in a layout, in their order, in as few transactions as fit.

        Any prefix of them is safe, so any transaction may be the last one.  One that was not answered is not
        sent again as it was: what is too much for a slow server or link would be too much for ever.
        """
        for batch in batches(_once(steps), self._most):
            ops = [op for _, step in batch for op in step]
            check_transaction(ops)
            begun = self._clock.monotonic()
            try:
                self._transact(ops)
            except Conflict:
                raise  # the server wrote nothing
            except Retry:
                # The server may have written it: forget, lest the next read take our own write for an edit.
                self.cache.forget({name for (name, _), _ in batch})
                self._most = max(1, len(ops) // 2)
                raise
            if self._clock.monotonic() - begun < QUICK:
                self._most = min(OPS_A_TRANSACTION, 2 * self._most)
            for (name, layout), step in batch:
                self._note(name, layout, step)

    def take_written(self) -> set[str]:
        """The names for which we wrote something since the last call."""
        written, self._written = self._written, set()
        return written

    def take_repaired(self, name: str) -> Mapping[str, str]:
        """The repaired paths of *name*, and what others had done to them."""
        return self._repaired.pop(name, {})

    def beat(self, waiting: int, stopped: bool) -> None:
        """Write the heartbeat: so many names are *waiting*, or this process has *stopped*."""
        if self._fence is None:
            return
        path = heartbeat.path(self._clusters[0])
        self._zookeeper.make_parents(path)
        observed = self._zookeeper.read([path])[path]
        says = msgspec.structs.replace(
            self._heartbeat(), at=self._clock.stamp(), waiting=waiting, stopped=stopped
        )
        self._beaten = None
        self._commit(heartbeat.beat(path, observed, says))
        self._beaten = says

    def _note(self, name: str, layout: Layout, step: Step) -> None:
        """Note a written step, and which of its writes were repairs."""
        self._written.add(name)
        for op in step:
            done = "" if isinstance(op, Delete) else self.cache.disturbed.get(op.path, "")
            if done:
                self._repaired.setdefault(name, {})[op.path] = done
            if not (layout.is_directory(name, op.path) or op.path.startswith(ledger_root(layout))):
                self._on_written(layout.name, type(op).__name__.lower(), name, done)

    def _transact(self, ops: Sequence[Op]) -> None:
        """Write *ops* in one transaction, and note the results in the cache."""
        for op, version in zip(ops, self._commit_seen(ops), strict=True):
            log.info(type(op).__name__.lower(), path=op.path)
            self.cache.remember(op, version)

    def _commit_seen(self, ops: Sequence[Op]) -> list[int | None]:
        """Write *ops*, and in the heartbeat how far the API server had come that they rest on.

        A process may be killed before its next beat, and the API server restored to a state between the two.
        The next process has to notice that.  If the heartbeat is missing or refused, all else is written.
        """
        if self._beaten is None:
            return self._commit(ops)
        says = msgspec.structs.replace(self._beaten, seen=self._seen())
        try:
            return self._commit([*ops, heartbeat.renew(self._clusters[0], says)])[: len(ops)]
        except (Conflict, Rejected):  # the server wrote nothing
            versions = self._commit(ops)
            self._beaten = None
            return versions

    def _commit(self, ops: Sequence[Op]) -> list[int | None]:
        self.cache.expect(ops)
        try:
            fence = [self._fence.check()] if self._fence else []
            return self._zookeeper.commit([*fence, *ops])[len(fence) :]
        except Conflict as conflict:
            path = getattr(conflict, "path", "")
            if self._fence:
                self._fence.lost(path)
            if path:
                self._zookeeper.make_parents(path)
            raise


def _once(
    steps: Iterable[tuple[tuple[str, Layout], Step]],
) -> Iterator[tuple[tuple[str, Layout], Step]]:
    """*steps*, in which each directory that several services lie in is made by the first of them only."""
    made: set[str] = set()
    for (name, layout), step in steps:
        again = {op.path for op in step if op.path in made and layout.is_directory(name, op.path)}
        made |= {op.path for op in step if isinstance(op, Create)}
        left = tuple(op for op in step if op.path not in again)
        if left:
            yield (name, layout), left
