"""Writing to ZooKeeper: what is there as far as we know, the fence, and one transaction after another."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec
import structlog

from rpcregistry.errors import Conflict, Rejected, Retry
from rpcregistry.layouts import Layout
from rpcregistry.plan import heartbeat
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.invariants import check_transaction
from rpcregistry.plan.ledger import ledger_root
from rpcregistry.plan.ops import Delete, Op, Step, batches
from rpcregistry.reconcile.fence import Fence
from rpcregistry.reconcile.memory import Memory, uncovered
from rpcregistry.reconcile.ports import Clock, ZooKeeper

log = structlog.get_logger(__name__)


class RegistryWriter:
    """The only writer of ZooKeeper in this process, and the memory of what it holds.

    The registry's thread calls it, and after its end the one that has the heartbeat say so.  Any thread may
    read ``memory``, which is replaced as a whole, and ``compared``.
    *clusters*: the ids of those whose paths are ours, our own first.  *heartbeat*: what does not change of
    it.  *require_clear* fails while somebody else may keep the registry up.  *written* is told the layout,
    operation and service name of each znode that was written.
    """

    def __init__(
        self,
        *,
        zookeeper: ZooKeeper,
        layouts: Sequence[Layout],
        clusters: Sequence[str],
        fence: Fence | None,
        heartbeat: Heartbeat,
        require_clear: Callable[[], None],
        written: Callable[[str, str, str], None],
        clock: Clock,
    ) -> None:
        self._zookeeper = zookeeper
        self._layouts = layouts
        self._clusters = clusters
        self._fence = fence
        self._heartbeat = heartbeat
        self._require_clear = require_clear
        self._tell_written = written
        self._clock = clock
        self.memory = Memory(zookeeper, layouts, clusters, clock.monotonic)
        self._generation = -1  # of the connection with which everything was read last
        self._written: set[str] = set()  # names, until they are taken
        self._repaired: dict[str, dict[str, str]] = {}  # by name: paths, and what others had done to them

    # reading

    @property
    def compared(self) -> bool:
        """Whether everything was read since the connection was made."""
        return self._generation == self._zookeeper.generation

    def read_anew(self, listed: Iterable[str]) -> tuple[set[str], bool]:
        """Read everything of what is *listed* and of what the ledger has.

        Return these names, and whether ZooKeeper was wiped: it has lost what we published.
        """
        generation = self._zookeeper.generation
        for layout in self._layouts:
            self._zookeeper.make_parents(layout.path("x"))
            self._zookeeper.make_parents(f"{ledger_root(layout)}/x")
        fresh = self.memory.anew()
        names = fresh.ledgered().union(listed)
        try:
            fresh.read(names)
        except Rejected:
            fresh.forget(names)
            for name in names:
                with suppress(Rejected):  # a znode that may not be read costs no other
                    fresh.read([name])
        wiped = bool(self.memory.claimed() and not fresh.claimed())
        if not wiped:
            fresh.note_since(self.memory)
        self.memory = fresh
        self._generation = generation
        return names, wiped

    def uncovered(self) -> set[tuple[str, str]]:
        """What the ledger names, layouts and paths, that no layout of ours covers."""
        return uncovered(self._zookeeper, self._layouts, self._clusters)

    def read(self, names: Collection[str]) -> None:
        """Read what is not known of *names*, to write them; fails where that may not, or cannot, be done."""
        if not self._zookeeper.connected:
            raise Retry("ZooKeeper is not connected")
        self._require_clear()
        self.memory.read(names)

    # writing

    def write(self, steps: Iterable[tuple[tuple[str, Layout], Step]]) -> None:
        """Write *steps*, each of a name in a layout, in their order and as many at once as fit.

        Any prefix of them is safe, so it does not matter which transaction is the last one.
        """
        for batch in batches(steps):
            ops = [op for _, step in batch for op in step]
            check_transaction(ops)
            try:
                self._transact(ops)
            except Conflict:
                raise  # nothing was done
            except Retry:
                # Perhaps it was done: what is found to differ may be our own.
                self.memory.forget({name for (name, _), _ in batch})
                raise
            for (name, layout), step in batch:
                self._note(name, layout, step)

    def take_written(self) -> set[str]:
        """The names for which something was written since this was asked last."""
        written, self._written = self._written, set()
        return written

    def take_repaired(self, name: str) -> Mapping[str, str]:
        """Which paths of *name* were put back, and what others had done to them."""
        return self._repaired.pop(name, {})

    def beat(self, waiting: int, stopped: bool) -> None:
        """Tell readers how fresh the registry is: so many names are *waiting*."""
        if self._fence is None:
            return
        path = heartbeat.path(self._clusters[0])
        self._zookeeper.make_parents(path)
        observed = self._zookeeper.read([path])[path]
        says = msgspec.structs.replace(
            self._heartbeat, at=self._clock.stamp(), waiting=waiting, stopped=stopped
        )
        self._commit(heartbeat.beat(path, observed, says))

    def _note(self, name: str, layout: Layout, step: Step) -> None:
        """Note what was written, while it is known which of it was a repair."""
        self._written.add(name)
        for op in step:
            if op.path in self.memory.disturbed and not isinstance(op, Delete):
                self._repaired.setdefault(name, {})[op.path] = self.memory.disturbed[op.path]
            if op.path not in layout.parents(name) and not op.path.startswith(ledger_root(layout)):
                self._tell_written(layout.name, type(op).__name__.lower(), name)

    def _transact(self, ops: Sequence[Op]) -> None:
        """Write *ops* in one transaction, and remember what they left behind."""
        for op, version in zip(ops, self._commit(ops), strict=True):
            log.info(type(op).__name__.lower(), path=op.path)
            self.memory.remember(op, version)

    def _commit(self, ops: Sequence[Op]) -> list[int | None]:
        self.memory.expect(ops)
        try:
            fence = [self._fence.check()] if self._fence else []
            return self._zookeeper.commit([*fence, *ops])[len(fence) :]
        except Conflict as conflict:
            path = getattr(conflict, "path", "")
            if self._fence:
                self._fence.gone(path)
            if path:
                self._zookeeper.make_parents(path)
            raise
