"""In which order the operations of a plan are made, where some may be refused."""

from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from rpcregistry.model import Endpoint, RpcService
from rpcregistry.plan.publication import Place, place, places
from rpcregistry.plan.rpcservices import (
    BY_OTHERS,
    Create,
    Delete,
    Op,
    ProjectionSettings,
    SetStatus,
    added,
    status_of,
)

MOST_REFUSED_CREATES = 10  # of one plan: a quota refuses all the others as well


class Writes:
    """The operations of a plan in the order to make them, where some may be refused.

    Iterate over it, and call ``refused`` if the last operation was refused.  A refusal costs only what the
    operation would add.  Wherever the iteration ends,

    * no row has left an object before the object that is to list it was written;
    * no object was deleted with rows in it.

    At the end, every row that no object should list has left every object that can be written.  *wary*: a
    write of this service was refused before, perhaps after a long wait, so removals come first.

    *unlisted*: desired rows whose operation was not made (yet).  *skipped*: operations that would add were
    not tried, after a slow refusal.
    """

    def __init__(
        self, ops: Sequence[Op], settings: ProjectionSettings, now: str, *, wary: bool = False
    ) -> None:
        self._ops = ops
        self._settings = settings
        self._now = now
        self._wary = wary
        self._in_hand_refused = self._any_refused = self._any_stayed = self._slow = False
        self._refused_creates = 0
        self.skipped = False
        # By uid: the objects as written so far, and the rows whose write was refused last.
        self._services = {op.service.uid: op.service for op in ops if not isinstance(op, Create)}
        self._refused_rows: dict[str, tuple[Endpoint, ...]] = {}
        # What a new head has no room for is listed by no operation yet.
        rest = [row for op in ops if isinstance(op, Create) for row in op.rest]
        self.unlisted = {place(row): row for row in chain(rest, *map(added, ops))}

    def refused(self, *, slow: bool = False) -> None:
        """Note that the last operation was refused; *slow*: after a wait, which the others may take as well.

        If it was slow, this plan adds nothing more: meanwhile pods may have died, and removals must not wait.
        """
        self._in_hand_refused = self._any_refused = True
        self._slow = self._slow or slow

    def __iter__(self) -> Iterator[Op]:
        """Yield the operations; ask for the next one only once the result of the last is known."""
        if self._wary:
            yield from self._removals()
        removed = self._wary
        for op in self._ops:
            if self._slow and added(op):
                self.skipped = True
            else:
                yield from self._attempt(op)
            if self._any_refused and not removed:
                removed = True
                yield from self._removals()
        if self._any_stayed:
            yield from self._removals()

    def _attempt(self, op: Op) -> Iterator[Op]:
        match op:
            case Create():
                if self._refused_creates < MOST_REFUSED_CREATES:
                    yield op
                    if self._was_refused():
                        self._refused_creates += 1
                    else:
                        self._list(op.status.endpoints)
            case SetStatus():
                yield from self._set(op, op.status.endpoints)
            case Delete(service):
                if not self._services[service.uid].status.endpoints:
                    yield op
                    self._was_refused()

    def _removals(self) -> Iterator[Op]:
        """The removals of the operations, without their additions."""
        for op in self._ops:
            if isinstance(op, SetStatus):
                listed = places(self._services[op.service.uid].status.endpoints)
                rows = [row for row in op.status.endpoints if place(row) in listed]
                yield from self._set(op, rows, removing=True)

    def _set(
        self, op: SetStatus, rows: Collection[Endpoint], *, removing: bool = False
    ) -> Iterator[SetStatus]:
        """Have the object list *rows*, a part of those of *op*, and the rows that stay.

        *removing*: not unless this changes its rows.  What else is new can wait, and must not be tried before
        additions: if it is refused after a wait, they would not be tried at all.
        """
        service = self._services[op.service.uid]
        rows = [*rows, *self._staying(service, places(rows))]
        unplaced = op.status.total_endpoints - len(op.status.endpoints)
        status = status_of(service, service.service_name, rows, self._settings, self._now, unplaced)
        same = status == service.status and not service.damaged
        if same or status.endpoints == self._refused_rows.get(service.uid):
            return
        is_ours = service.status.ready != BY_OTHERS and not service.damaged
        if removing and is_ours and status.endpoints == service.status.endpoints:
            return
        yield SetStatus(service, status)
        if self._was_refused():
            self._refused_rows[service.uid] = status.endpoints
        else:
            self._services[service.uid] = msgspec.structs.replace(service, status=status, damaged="")
            written = places(status.endpoints)
            self._list(row for row in op.status.endpoints if place(row) in written)

    def _staying(self, service: RpcService, besides: Container[Place]) -> Iterable[Endpoint]:
        """The rows that stay until another object lists them, updated from their pods.

        Their metadata is not updated: there may be no room for more.
        """
        for row in service.status.endpoints:
            shown = self.unlisted.get(place(row))
            if shown and place(row) not in besides:
                self._any_stayed = True
                yield msgspec.structs.replace(shown, metadata=row.metadata)

    def _was_refused(self) -> bool:
        refused, self._in_hand_refused = self._in_hand_refused, False
        return refused

    def _list(self, rows: Iterable[Endpoint]) -> None:
        for row in rows:
            self.unlisted.pop(place(row), None)


def write_of(op: Op) -> tuple[object, ...]:
    """The identity of a write among those of a key, regardless of its content.

    A status that only removes rows is another write than one that also adds some.
    """
    match op:
        case Create(name=name):
            return "create", name
        case SetStatus(service):
            return "status", service.uid, bool(added(op))
        case Delete(service):
            return "delete", service.uid
