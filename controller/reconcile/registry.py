"""The registry controller: keeps ZooKeeper equal to what RpcService statuses list."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

import structlog

from controller.errors import Conflict, Fenced, Rejected, Retry
from controller.manifests import RPCSERVICES, regarding
from controller.model import Condition, Regarding, RpcService
from controller.plan import znodes as planning
from controller.plan.invariants import Broken
from controller.plan.ledger import Layout, Ledger
from controller.plan.outcome import Outcome
from controller.plan.publication import Publication, Settings, publication
from controller.reconcile.byname import services_of
from controller.reconcile.memory import REARM
from controller.reconcile.missing import Missing
from controller.reconcile.ports import Change, Clock, Events, Source
from controller.reconcile.repairs import Repairs
from controller.reconcile.settling import Settling
from controller.reconcile.transactions import RegistryWriter
from controller.reconcile.unwritten import Unwritten

log = structlog.get_logger(__name__)

UNAVAILABLE_AFTER = 10.0


class RegistryReconciler:
    """Makes the znodes of a service name equal to what the RpcServices of that name list.

    One thread calls ``reconcile``; any thread calls ``note_…`` with a change.  *settling*: how far the
    statuses of a name can be relied on.
    *conditions* is told what the Synced condition of an RpcService should be.  *lease*: what Events about the
    registry as a whole are about.
    """

    def __init__(
        self,
        writer: RegistryWriter,
        missing: Missing,
        services: Source[RpcService],
        settling: Settling,
        layouts: Sequence[Layout],
        settings: Settings,
        grace: timedelta,
        clock: Clock,
        enqueue: Callable[[Iterable[str]], None],
        conditions: Callable[[RpcService, Condition], None],
        events: Events,
        lease: Callable[[], Regarding | None],
    ) -> None:
        self._writer = writer
        self._missing = missing
        self._services = services
        self._settling = settling
        self._layouts = layouts
        self._settings = settings
        self._grace = grace
        self._clock = clock
        self._enqueue = enqueue
        self._conditions = conditions
        self._events = events
        self._put_off: dict[str, Collection[str]] = {}  # by service path
        self._left: set[tuple[str, str]] = set()  # what the ledger names and no layout covers, as told
        self._repairs = Repairs(events, lease, clock)
        self._part = 0  # of all names, that was compared last
        self._unwritten = Unwritten()  # names whose own change is not written yet
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
        return self._pauses(self._writer.memory.changed(path))

    def unwatched(self, seconds: float = REARM) -> Mapping[str, float]:
        """The names to look at again, to be told of others' changes to what we wrote *seconds* ago.

        With the seconds until then.
        """
        return self._pauses(self._writer.memory.unwatched(seconds))

    def _pauses(self, names: Iterable[str]) -> Mapping[str, float]:
        return {name: self._repairs.pause(name) for name in names}

    def disconnected(self) -> None:
        """Tell whoever looks at the Lease; of a session that comes and goes no RpcService is told."""
        self._repairs.tell_of_all(
            "RegistryDisconnected",
            "ZooKeeper is not connected: what was published stays, changes wait",
            self._clock.now().strftime("%H:%M"),
        )

    def compare(self) -> set[str]:
        """Read everything anew, and return every name there is: listed by an RpcService or in the ledger.

        Called by the thread that reconciles.
        """
        names, wiped = self._writer.read_anew(self._listed_names())
        if wiped:
            log.warning("the ledger is gone: ZooKeeper was wiped")
            self._repairs.tell_of_all(
                "RegistryWiped", "ZooKeeper has lost what was published: all is written anew"
            )
        self._tell_left()
        self._missing.keep(names)
        self.guard.poke()  # whatever it finds, the Lease shall not go on naming what an earlier process held
        return names

    def compare_next(self, parts: int) -> set[str]:
        """The names of the next of so many *parts*, to be read anew: comparing all at once takes long."""
        self._part = (self._part + 1) % parts
        names = self._listed_names() | self._writer.memory.claimed()
        if self._part == 0:
            self._writer.memory.expect_nothing()
            self._tell_left()
            self._missing.keep(names)
        part = {name for name in names if crc32(name.encode()) % parts == self._part}
        self._writer.memory.doubt(part)
        return part

    def _listed_names(self) -> set[str]:
        return {service.service_name for service in self._services.store.values()}

    def _tell_left(self) -> None:
        """Say once what the ledger names that no --layout of ours covers: nothing of it is withdrawn."""
        left = self._writer.uncovered()
        if left - self._left:
            log.warning("left alone: no --layout covers it", services=len(left), first="=".join(min(left)))
        self._left = left

    @property
    def compared(self) -> bool:
        """Whether everything was compared since the connection was made."""
        return self._writer.compared

    # reconciling

    def reconcile(self, names: Sequence[str]) -> tuple[dict[str, Exception], set[str]]:
        """Make the znodes of *names* right; return those that failed, and those for which it wrote.

        All are written in as few transactions as fit; where one cannot be, each of its names is
        tried alone, so that a name that is refused costs no other.
        """
        failures: dict[str, Exception] = {}
        # Before anything is read: what changes from here on is another change, which this write may lack.
        taken = self._unwritten.take(names)
        try:
            self._write(names)
        except Fenced:
            raise
        except Exception as failure:  # noqa: BLE001  (what one name does to it costs no other)
            self._writer.memory.doubt(names)
            if isinstance(failure, Retry) and not isinstance(failure, Conflict):
                failures = dict.fromkeys(names, failure)
            else:
                log.debug("one by one", services=len(names), reason=str(failure))
                failures = self._one_by_one(names)
        self._unwritten.put_back({name: since for name, since in taken.items() if name in failures})
        self._tell_unavailable(failures)
        return failures, self._writer.take_written()

    def _one_by_one(self, names: Iterable[str]) -> dict[str, Exception]:
        failures: dict[str, Exception] = {}
        for name in names:
            try:
                self._write([name])
            except Fenced:
                raise
            except Exception as failure:  # noqa: BLE001
                self._writer.memory.doubt([name])
                failures[name] = failure
        return failures

    def _write(self, names: Sequence[str]) -> None:
        # 1. Read what is doubted, and decide on all names before anything is written: a name that cannot be
        #    planned fails here, and reconcile then tries each alone.
        self._writer.read(names)
        planned = [(name, *self._plan(name)) for name in names]
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

    def _plan(self, name: str) -> tuple[Publication, list[Outcome]]:
        services = services_of(self._services, name)
        missing = self._missing.unconfirmed(name)
        holder = min((namespace for _, namespace, uid in missing if not uid), default="")
        frozen = bool(missing) or self._is_frozen(name)
        wanted = publication(services, frozen, self._settings, holder, self._settling.unlisted(name))
        now = self._clock.stamp()
        outcomes = [
            planning.plan(
                layout,
                name,
                wanted,
                self._writer.memory.view(layout, name),
                self._settings,
                now,
                all(map(self._grace_over, self._writer.memory.claims(layout, name))),
                self._put_off.get(layout.path(name), ()),
            )
            for layout in self._layouts
        ]
        return wanted, outcomes

    def _conclude(self, name: str, wanted: Publication, outcomes: Sequence[Outcome]) -> None:
        """Tell what came of a name, and have it back where something is left to do."""
        for layout, outcome in zip(self._layouts, outcomes, strict=True):
            self._put_off.pop(layout.path(name), None)
            if outcome.put_off:
                self._put_off[layout.path(name)] = outcome.put_off
        services = services_of(self._services, name)
        repaired = self._writer.take_repaired(name)
        if repaired:
            taking_part = [service for service in services if service.uid not in wanted.refused]
            self._repairs.made(name, taking_part, repaired)
        for service in services:
            for note in (note for outcome in outcomes for note in outcome.notes):
                self._events.record(regarding(RPCSERVICES, service), note, "Publish", warning=True)
            if service.known:
                self._conditions(service, planning.synced(service, wanted, outcomes))
        if any(outcome.again for outcome in outcomes):
            self._enqueue([name])
        self._missing.concluded(name)

    def _grace_over(self, ledger: Ledger) -> bool:
        if not ledger.withdrawn_at:
            return False
        try:
            return datetime.fromisoformat(ledger.withdrawn_at) + self._grace <= self._clock.now()
        except ValueError:
            return False

    def _is_frozen(self, name: str) -> bool:
        """Whether something about the name is unknown: then nothing of it is removed."""
        unknown = self._services.unknown is not None
        return unknown or self._missing.is_out_of_sight(name) or self._settling.is_unsettled(name)

    def beat(self, stopped: bool = False) -> None:
        """Tell readers how fresh the registry is; called by the thread that reconciles, or after its end."""
        self._writer.beat(len(self._unwritten), stopped)

    def _tell_unavailable(self, failures: Mapping[str, Exception]) -> None:
        for name, failure in failures.items():
            # What was refused stays refused, and says the same each time: it belongs into a status.
            reason = str(failure) if isinstance(failure, Rejected | Broken) else ""
            waiting = self._clock.monotonic() - self._unwritten.since(name, self._clock.monotonic())
            if waiting >= UNAVAILABLE_AFTER:
                for service in services_of(self._services, name):
                    self._conditions(service, planning.unavailable(UNAVAILABLE_AFTER, reason))


def _names(change: Change[RpcService]) -> set[str]:
    return {service.service_name for service in (change.old, change.new) if service}


def _asks_anew(change: Change[RpcService]) -> bool:
    """Whether something else is to be published than before."""
    return change.old is None or change.new is None or _asks(change.old) != _asks(change.new)


def _asks(service: RpcService) -> Any:
    """What of an RpcService decides on what is published."""
    return service.status.endpoints, service.spec, service.generated
