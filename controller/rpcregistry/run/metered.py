"""ZooKeeper with a stopwatch at each call."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rpcregistry.plan.ops import Group, Op, Znode
from rpcregistry.reconcile.ports import ZooKeeper


class MeteredZooKeeper:
    """Calls *zookeeper*, and *answered* with the name and the seconds of each call."""

    def __init__(self, zookeeper: ZooKeeper, answered: Callable[[str, float], None]) -> None:
        self._zookeeper = zookeeper
        self._answered = answered

    @property
    def connected(self) -> bool:
        """As ZooKeeper's."""
        return self._zookeeper.connected

    @property
    def generation(self) -> int:
        """As ZooKeeper's."""
        return self._zookeeper.generation

    def read(self, paths: Iterable[str]) -> dict[str, Znode | None]:
        """As ZooKeeper's."""
        with self._timed("read"):
            return self._zookeeper.read(paths)

    def children(self, path: str) -> list[str]:
        """As ZooKeeper's."""
        with self._timed("list"):
            return self._zookeeper.children(path)

    def listed(self, paths: Iterable[str]) -> dict[str, list[str] | None]:
        """As ZooKeeper's."""
        with self._timed("list"):
            return self._zookeeper.listed(paths)

    def seals(self, groups: Sequence[Group]) -> list[bytes | None]:
        """As ZooKeeper's."""
        with self._timed("compare"):
            return self._zookeeper.seals(groups)

    def commit(self, ops: Sequence[Op]) -> list[int | None]:
        """As ZooKeeper's."""
        with self._timed("commit"):
            return self._zookeeper.commit(ops)

    def make_parents(self, path: str) -> None:
        """As ZooKeeper's."""
        with self._timed("make parents"):
            self._zookeeper.make_parents(path)

    @contextmanager
    def _timed(self, op: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._answered(op, time.monotonic() - began)
