"""Whether a guard's holds have a time limit, while many Nodes are silent; and what is told of that."""

from collections.abc import Hashable, Iterable, Mapping
from math import inf
from typing import Generic, TypeVar

import structlog

from rpcregistry.plan import silence
from rpcregistry.reconcile.guard import Hold
from rpcregistry.reconcile.held import HeldOnLease
from rpcregistry.reconcile.ports import Clock

Id = TypeVar("Id", bound=Hashable)

log = structlog.get_logger(__name__)

NODES_DELETED = "their Nodes were deleted before this process began"


class Silences(Generic[Id]):
    """The state of the Nodes as a guard sees it, and its holds without time limit.

    It belongs to the guard's thread, but any thread may call ``why`` and ``count``: what these read is
    replaced as a whole.
    Lost with the process: the next one begins as if most Nodes were silent (``silence.at_start``).
    """

    def __init__(self, clock: Clock, lease: HeldOnLease) -> None:
        self._clock = clock
        self._lease = lease
        self._state = silence.at_start(clock.monotonic())
        self._endless: frozenset[Id] = frozenset()
        self._is_told = False

    @property
    def ends(self) -> float:
        """When the common silence ends by itself; infinity if it does not."""
        return self._state.ends

    @property
    def count(self) -> int:
        """How many Nodes are silent, while something is held without time limit for that."""
        return len(self._state.silent) if self._endless and self._state.common else 0

    def observe(self, ready: Mapping[str, bool], holds: bool) -> None:
        """Note which of the existing Nodes that count are Ready; *holds*: whether anything is held."""
        self._state = silence.observe(self._state, ready, holds, self._clock.monotonic())

    def wait_begins(self, turned: float) -> float:
        """When the wait begins for what depends on a Node that turned at that time."""
        return self._state.wait_begins(turned)

    def why(self, subjects: Iterable[Id]) -> str:
        """Why some of *subjects* are held without time limit; ``""`` if none is."""
        if self._endless.isdisjoint(subjects):
            return ""
        return str(self._state) if self._state.common else NODES_DELETED

    def decided(self, held: Mapping[Id, Hold]) -> frozenset[Id]:
        """Note the guard's holds; return those that have no time limit any more, or have one again.

        A common silence is told once, as soon as something is held for it.
        """
        endless = frozenset(subject for subject, hold in held.items() if hold.until == inf)
        changed, self._endless = endless ^ self._endless, endless
        is_told = self._is_told
        self._is_told = self._state.common and (is_told or bool(endless))
        if self._is_told and not is_told:
            log.warning("Nodes are silent", silent=len(self._state.silent), nodes=self._state.nodes)
            self._lease.record_silence(str(self._state))
        elif is_told and not self._is_told:
            log.info("Nodes are heard of again", silent=len(self._state.silent), nodes=self._state.nodes)
        return changed
