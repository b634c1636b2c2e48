"""A controller: a queue of keys, what adds to it, and the threads that reconcile them."""

from collections.abc import Callable, Collection, Hashable, Iterable
from functools import partial
from typing import Generic, Protocol, TypeVar

from rpcregistry.manifests import Named
from rpcregistry.runtime.crew import Crew
from rpcregistry.runtime.store import Change
from rpcregistry.runtime.worker import Meter, work
from rpcregistry.runtime.workqueue import Workqueue

K = TypeVar("K", bound=Hashable)
T = TypeVar("T", bound=Named)


class Watched(Protocol[T]):
    """A source of changes."""

    def subscribe(self, on_change: Callable[[Change[T]], None]) -> None: ...


class Controller(Generic[K]):
    """Reconciles the keys of a queue, each by one thread at a time.

    *name*: of its threads, one for each of the queue's workers.  *kind*: the name in the metrics.
    *every_key*: the keys of a resync.  *delay*: seconds that a key waits for more changes.
    """

    def __init__(
        self,
        name: str,
        queue: Workqueue[K],
        reconcile: Callable[[K], bool],
        *,
        kind: str = "",
        every_key: Callable[[], Iterable[K]] = tuple,
        delay: float = 0.0,
    ) -> None:
        self._name = name
        self._queue = queue
        self._reconcile = reconcile
        self._kind = kind or name
        self._every_key = every_key
        self._delay = delay

    def watch(self, source: Watched[T], keys: Callable[[Change[T]], Collection[K]]) -> None:
        """Have the *keys* of each change reconciled."""
        source.subscribe(lambda change: self.add(keys(change)))

    def add(self, keys: Iterable[K]) -> None:
        """Have *keys* reconciled."""
        if not self._delay:
            self._queue.add_all(keys)
            return
        for key in keys:
            self._queue.add_after(key, self._delay)

    def resync(self) -> None:
        """Reconcile every key once more."""
        self.add(self._every_key())

    @property
    def depth(self) -> int:
        """How many keys are due."""
        return self._queue.depth

    @property
    def failing(self) -> int:
        """How many keys failed in their last attempt."""
        return self._queue.failing

    def start(self, crew: Crew, meter: Meter, stopped: Callable[[], bool]) -> None:
        """Start its threads."""
        workers = self._queue.workers
        for number in range(workers):
            name = self._name if workers == 1 else f"{self._name}-{number}"
            target = partial(work, self._kind, self._queue, self._reconcile, meter, stopped)
            crew.start(name, target)

    def stop(self) -> None:
        """Close the queue, so that its threads end."""
        self._queue.close()
