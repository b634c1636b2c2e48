"""When each Node turned Ready or not Ready, was deleted, or came back, as this process saw it."""

import threading
from collections.abc import Callable, Collection, Iterable
from math import inf

import msgspec

from rpcregistry.model import Node
from rpcregistry.plan.silence import LEAST
from rpcregistry.reconcile.ports import Change


class Turn(msgspec.Struct, frozen=True):
    """A Node is *there* and *ready*, or not, since *at*; *seen*: a watch event showed that it was deleted."""

    there: bool
    ready: bool
    at: float
    seen: bool = False


class NodeTurns:
    """The last turn of each Node; for any thread.

    Lost with the process.  The next one dates each turn from when it first sees the Node, so it waits longer.
    A Node that was deleted before it knows only by rows (``take_up``).  It takes other Ready pods of such a
    Node for Ready: it withdraws less.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # protects _turns
        self._turns: dict[str, Turn] = {}

    def note(self, change: Change[Node]) -> bool:
        """Note what a watch or a LIST shows; return whether the Node came back after its deletion."""
        node = change.new or change.old
        if node is None:
            return False
        if change.new:
            return self._set(node.name, there=True, ready=node.ready)
        return self._set(node.name, there=False, ready=False, seen=not change.listed)

    def note_read(self, nodes: Iterable[Node]) -> None:
        """Note Nodes that were read just now: their watch may be behind."""
        for node in nodes:
            self._set(node.name, there=True, ready=node.ready)

    def note_missing(self, name: str) -> None:
        """Note that a Node was read and is not there; one that was never seen says nothing."""
        with self._lock:
            is_known = name in self._turns
        if is_known:
            self._set(name, there=False, ready=False)

    def take_up(self, name: str) -> None:
        """Note that an earlier process held or withdrew pods because this Node was deleted.

        Nobody knows since when.  The wait for its pods never begins: this process did not see the Node, so
        they stay held, or withdrawn, until they are deleted or the Node is back.
        """
        with self._lock:
            self._turns.setdefault(name, Turn(there=False, ready=False, at=inf))

    def _set(self, name: str, *, there: bool, ready: bool, seen: bool = False) -> bool:
        with self._lock:
            before = self._turns.get(name)
            if before is None or (before.there, before.ready) != (there, ready):
                self._turns[name] = Turn(there, ready, self._clock(), seen)
            elif seen and not before.seen:
                self._turns[name] = msgspec.structs.replace(before, seen=True)
            return before is not None and there and not before.there

    def silent_among(self, names: Iterable[str]) -> set[str]:
        """Which of these Nodes do not report their pods: not Ready, deleted, or back for a moment only.

        A Node that is Ready again may be seen before its pods.
        """
        back = self._clock() - LEAST
        with self._lock:
            found = [(name, self._turns[name]) for name in names if name in self._turns]
        return {name for name, turn in found if not turn.ready or turn.at > back}

    def deleted_among(self, names: Iterable[str], *, by_event: bool = False) -> set[str]:
        """Which of these Nodes were seen, and then deleted; *by_event*: as a watch event showed."""
        with self._lock:
            found = [(name, self._turns[name]) for name in names if name in self._turns]
        return {name for name, turn in found if not turn.there and (turn.seen or not by_event)}

    def at(self, name: str) -> float:
        """When the Node turned last; minus infinity if it was never seen."""
        with self._lock:
            turn = self._turns.get(name)
        return turn.at if turn else -inf

    def retain_only(self, names: Collection[str]) -> None:
        """Forget the deleted Nodes that are not among *names*."""
        with self._lock:
            self._turns = {name: turn for name, turn in self._turns.items() if turn.there or name in names}
