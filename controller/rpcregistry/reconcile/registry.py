"""The registry controller: keeps ZooKeeper equal to what RpcService statuses list."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

import structlog

from rpcregistry.errors import Conflict, Fenced, Partial, Rejected, Retry
from rpcregistry.layouts import Layout
from rpcregistry.model import RpcService
from rpcregistry.plan import znodes as planning
from rpcregistry.plan.invariants import Broken, check_transaction
from rpcregistry.plan.ledger import Ledger
from rpcregistry.plan.outcome import Outcome
from rpcregistry.plan.publication import Publication, PublicationSettings, publication
from rpcregistry.reconcile.byname import services_of
from rpcregistry.reconcile.memory import REARM
from rpcregistry.reconcile.missing import Missing
from rpcregistry.reconcile.ports import Change, Clock, Source
from rpcregistry.reconcile.reports import UNAVAILABLE_AFTER, Reports
from rpcregistry.reconcile.settling import Settling
from rpcregistry.reconcile.transactions import RegistryWriter
from rpcregistry.reconcile.troubles import Troubles
from rpcregistry.reconcile.unwritten import Unwritten

log = structlog.get_logger(__name__)


class RegistryReconciler:
    """Makes the znodes of a service name equal to what the RpcServices of that name list.

    One thread calls ``reconcile``, ``compare…`` and ``beat``; any thread tells of a change.  *settling*: how
    far the statuses of a name can be relied on; *is_unlooked*: whether some of a name must not be.  *grace*:
    how long what was withdrawn stays in the ledger.  *enqueue* is called with the names to look at again.
    """

    def __init__(
        self,
        *,
        writer: RegistryWriter,
        missing: Missing,
        reports: Reports,
        services: Source[RpcService],
        settling: Settling,
        is_unlooked: Callable[[str], bool],
        layouts: Sequence[Layout],
        settings: PublicationSettings,
        grace: timedelta,
        enqueue: Callable[[Iterable[str]], None],
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._missing = missing
        self._reports = reports
        self._services = services
        self._settling = settling
        self._is_unlooked = is_unlooked
        self._layouts = layouts
        self._settings = settings
        self._grace = grace
        self._enqueue = enqueue
        self._clock = clock
        self._troubles: Troubles[str, Exception] = Troubles()  # by layouts' paths
        self._failing: dict[str, _Failing] = {}  # of the thread that reconciles, as the next one
        self._answered_at = float("-inf")
        self._unwritten = Unwritten()  # names whose own change is not written yet
        self._put_off: dict[str, Collection[str]] = {}  # by service path
        self._part = 0  # of all names, that was compared last
        self.guard = missing.guard

    # what changes mean

    def note_service(self, change: Change[RpcService]) -> None:
        """Take in what nobody lists any more, and what is to be written."""
        self._missing.note(change)
        if _asks_anew(change):
            self._unwritten.note(_names(change), self._clock.monotonic())

    def service_names(self, change: Change[RpcService]) -> set[str]:
        """The names that an RpcService's change touches."""
        old, new = change.old, change.new
        turned_known = old and new and old.known != new.known
        return _names(change) if turned_known or _asks_anew(change) else set()

    def path_changed(self, path: str) -> Mapping[str, float]:
        """The names to look at again, in so many seconds: a znode of theirs changed, by whomever."""
        return self._reports.pauses(self._writer.memory.changed(path))

    def unwatched(self, seconds: float = REARM) -> Mapping[str, float]:
        """The names to look at again, to be told of others' changes to what we wrote *seconds* ago.

        With the seconds until then.
        """
        return self._reports.pauses(self._writer.memory.unwatched(seconds))

    def disconnected(self) -> None:
        """ZooKeeper is not connected any more."""
        self._reports.disconnected()

    # comparing

    def compare(self) -> set[str]:
        """Read everything anew, and return every name there is: listed by an RpcService or in the ledger."""
        names, wiped = self._writer.read_anew(self._listed_names())
        if wiped:
            self._reports.wiped()
        self._reports.left_alone(self._writer.uncovered())
        self._missing.keep(names)
        self.guard.poke()  # whatever it finds, the Lease shall not go on naming what an earlier process held
        return names

    def compare_next(self, parts: int) -> set[str]:
        """The names of the next of so many *parts*, to be read anew: comparing all at once takes long."""
        self._part = (self._part + 1) % parts
        names = self._listed_names() | self._writer.memory.claimed()
        if self._part == 0:
            self._writer.memory.expect_nothing()
            self._reports.left_alone(self._writer.uncovered())
            self._missing.keep(names)
        part = {name for name in names if crc32(name.encode()) % parts == self._part}
        self._writer.memory.doubt(part)
        return part

    def _listed_names(self) -> set[str]:
        return {service.service_name for service in self._services.store.values()}

    @property
    def compared(self) -> bool:
        """Whether everything was compared since the connection was made."""
        return self._writer.compared

    # reconciling

    def reconcile(self, names: Sequence[str]) -> tuple[dict[str, Exception], set[str]]:
        """Make the znodes of *names* right; return those that failed, and those for which it wrote.

        All are written in as few transactions as fit; where one cannot be, each of its names is
        tried alone, so that a name that is refused costs no other.  So is each layout of a name.
        """
        # Before anything is read: what changes from here on is another change, which this write may lack.
        taken = self._unwritten.take(names)
        alone = [name for name in names if self._troubles.get(name)]
        failures = self._one_by_one(alone) | self._at_once([name for name in names if name not in alone])
        self._unwritten.put_back({name: since for name, since in taken.items() if name in failures})
        now = self._clock.monotonic()
        for name in names:
            before = self._failing.pop(name, None)
            if name in failures:
                self._failing[name] = _Failing(before.since if before else now, now, failures[name])
        if len(failures) < len(names):
            self._answered_at = now
        self.report_late()
        return failures, self._writer.take_written()

    def report_late(self) -> None:
        """Report the names whose own change has failed for a while, whenever it is tried again.

        Where ZooKeeper answers again, those that got no answer wait for their turn, which is no failure.
        """
        now = self._clock.monotonic()
        for name, failing in self._failing.items():
            turn = not _is_refused(failing.error) and self._answered_at > failing.at
            late = now - failing.since >= UNAVAILABLE_AFTER and name in self._unwritten
            if late and not turn and not failing.reported:
                failing.reported = True
                self._reports.failed(name, failing.error)

    def beat(self, stopped: bool = False) -> None:
        """Tell readers how fresh the registry is; called by the thread that reconciles, or after its end."""
        self._writer.beat(len(self._unwritten), stopped)

    def _at_once(self, names: Sequence[str]) -> dict[str, Exception]:
        try:
            self._write(names)
        except Fenced:
            raise
        except Exception as failure:  # noqa: BLE001  (what one name does to it costs no other)
            self._writer.memory.doubt(names)
            if isinstance(failure, Retry) and not isinstance(failure, Conflict):
                return dict.fromkeys(names, failure)
            log.debug("one by one", services=len(names), reason=str(failure))
            return self._one_by_one(names)
        return {}

    def _one_by_one(self, names: Iterable[str]) -> dict[str, Exception]:
        failures: dict[str, Exception] = {}
        for name in names:
            try:
                self._write_alone(name)
            except Fenced:
                raise
            except Exception as failure:  # noqa: BLE001
                self._writer.memory.doubt([name])
                failures[name] = failure
        return failures

    def _write_alone(self, name: str) -> None:
        """Write each layout of *name* by itself, but for those that were refused a moment ago.

        Fails with ``Partial`` where one is refused, once all others are written.
        """
        # 1. Decide on all of them: what two layouts would write to one path is written by none.
        self._writer.read([name])
        wanted, outcomes = self._plan_all(name)
        check_transaction([op for outcome in outcomes for op in outcome.ops])
        # 2. Write each.  What is refused has a back-off of its own.
        trouble = self._troubles.get(name)
        refused: dict[Hashable, Exception] = {}
        for layout, outcome in zip(self._layouts, outcomes, strict=True):
            path, now = layout.path(name), self._clock.monotonic()
            waiting = trouble and trouble.waiting(path, now)
            if waiting:
                refused[path] = waiting
                continue
            try:
                self._writer.write(((name, layout), step) for step in outcome.steps)
            except (Fenced, Retry):
                raise
            except Rejected as failure:
                refused[path] = failure
                trouble = self._troubles.begin(name, now)
                trouble.refused(path, failure, now)
                log.warning("refused", service=name, layout=layout.name, reason=str(failure))
            except Exception as failure:  # noqa: BLE001  (what one layout does to it costs no other)
                refused[path] = failure
        # 3. Say so, as after any other write, or what is refused.
        if not refused:
            self._troubles.end(name)
            self._conclude(name, wanted, outcomes)
            self._writer.memory.settle([name])
            return
        for layout, outcome in zip(self._layouts, outcomes, strict=True):
            if layout.path(name) not in refused:
                self._defer(layout, name, outcome)
        self._requeue(name, outcomes)
        first = next(iter(refused.values()))
        if trouble and isinstance(first, Rejected):
            trouble.keep(set(refused))
            raise Partial(str(first), trouble.seconds_left(self._clock.monotonic()), rejected=True) from first
        raise first

    def _write(self, names: Sequence[str]) -> None:
        # 1. Read what is doubted, and decide on all names before anything is written: a name that cannot be
        #    planned fails here, and reconcile then tries each alone.
        self._writer.read(names)
        planned = [(name, *self._plan_all(name)) for name in names]
        # 2. Write in the plans' order, as many steps at once as fit.
        self._writer.write(
            ((name, layout), step)
            for name, _, outcomes in planned
            for layout, outcome in zip(self._layouts, outcomes, strict=True)
            for step in outcome.steps
        )
        # 3. Say so only once all is written: a condition must not be ahead of the znodes.
        for name, wanted, outcomes in planned:
            self._conclude(name, wanted, outcomes)
        # 4. What others had done to them is put back.  Not before: a write that failed is a repair next time.
        self._writer.memory.settle(names)

    def _plan_all(self, name: str) -> tuple[Publication, list[Outcome]]:
        wanted = self._publication(name)
        return wanted, [self._plan(layout, name, wanted) for layout in self._layouts]

    def _publication(self, name: str) -> Publication:
        services = services_of(self._services, name)
        missing = self._missing.unconfirmed(name)
        holder = min((namespace for _, namespace, uid in missing if not uid), default="")
        frozen = bool(missing) or self._is_frozen(name)
        return publication(services, frozen, self._settings, holder, self._settling.unlisted(name))

    def _plan(self, layout: Layout, name: str, wanted: Publication) -> Outcome:
        return planning.plan(
            layout,
            name,
            wanted,
            self._writer.memory.view(layout, name),
            self._settings,
            self._clock.stamp(),
            all(map(self._grace_over, self._writer.memory.claims(layout, name))),
            self._put_off.get(layout.path(name), ()),
        )

    def _conclude(self, name: str, wanted: Publication, outcomes: Sequence[Outcome]) -> None:
        """Report what came of a name, and requeue it if something is left to do."""
        for layout, outcome in zip(self._layouts, outcomes, strict=True):
            self._defer(layout, name, outcome)
        self._reports.written(name, wanted, outcomes, self._writer.take_repaired(name))
        self._requeue(name, outcomes)
        self._missing.concluded(name)

    def _defer(self, layout: Layout, name: str, outcome: Outcome) -> None:
        self._put_off.pop(layout.path(name), None)
        if outcome.put_off:
            self._put_off[layout.path(name)] = outcome.put_off

    def _requeue(self, name: str, outcomes: Iterable[Outcome]) -> None:
        if any(outcome.again for outcome in outcomes):
            self._enqueue([name])

    def _grace_over(self, ledger: Ledger) -> bool:
        if not ledger.withdrawn_at:
            return False
        try:
            return datetime.fromisoformat(ledger.withdrawn_at) + self._grace <= self._clock.now()
        except ValueError:
            return False

    def _is_frozen(self, name: str) -> bool:
        """Whether something about the name is unknown: then nothing of it is removed."""
        unknown = self._services.unknown is not None or self._is_unlooked(name)
        return unknown or self._missing.is_out_of_sight(name) or self._settling.is_unsettled(name)


def _is_refused(error: Exception) -> bool:
    return isinstance(error, Rejected | Broken) or (isinstance(error, Partial) and error.rejected)


@dataclass
class _Failing:
    """A name that is not written: *since* when, when it was last tried, and what came of that."""

    since: float
    at: float
    error: Exception
    reported: bool = False


def _names(change: Change[RpcService]) -> set[str]:
    return {service.service_name for service in (change.old, change.new) if service}


def _asks_anew(change: Change[RpcService]) -> bool:
    """Whether something else is to be published than before."""
    return change.old is None or change.new is None or _asks(change.old) != _asks(change.new)


def _asks(service: RpcService) -> Any:
    """What of an RpcService decides on what is published."""
    return service.status.endpoints, service.spec, service.generated, service.unreadable
