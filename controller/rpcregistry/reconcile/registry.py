"""The registry controller: keeps ZooKeeper equal to what RpcService statuses list."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog

from rpcregistry.errors import Conflict, Fenced, Partial, Rejected, Retry
from rpcregistry.layouts import Layout
from rpcregistry.model import Pod, RpcService
from rpcregistry.plan import znodes as planning
from rpcregistry.plan.invariants import check_transaction
from rpcregistry.plan.ledger import Ledger
from rpcregistry.plan.ops import Step
from rpcregistry.plan.outcome import ObservedZnodes, Outcome
from rpcregistry.plan.publication import Publication, PublicationSettings, publication, without_additions
from rpcregistry.reconcile.byname import services_of
from rpcregistry.reconcile.cache import REARM, Sizes
from rpcregistry.reconcile.initialsync import InitialSync
from rpcregistry.reconcile.memory import Memory
from rpcregistry.reconcile.missing import Missing
from rpcregistry.reconcile.ports import Change, Clock, Source
from rpcregistry.reconcile.refusals import is_refused
from rpcregistry.reconcile.reports import UNAVAILABLE_AFTER, Reports
from rpcregistry.reconcile.resting import Besides, Resting
from rpcregistry.reconcile.seals import Grouped
from rpcregistry.reconcile.spared import Spared
from rpcregistry.reconcile.transactions import RegistryWriter
from rpcregistry.reconcile.troubles import Troubles
from rpcregistry.reconcile.unwritten import Unwritten

log = structlog.get_logger(__name__)


class RegistryReconciler:
    """Makes the znodes of a service name equal to what the RpcServices of that name list.

    One thread calls ``reconcile``, ``compare…`` and ``beat``; any thread reports a change.  *initial_sync*:
    which names are not reconciled yet, and what their statuses lack.  *is_unlooked*: whether the pod
    controller has not checked some status of a name.  *latest*: the RpcServices that *services* relies on, as
    they are now.  *grace*: how long a withdrawn path stays in the ledger.
    *enqueue* is called with the names to reconcile again.  *confined*: whether to withdraw only.
    *unwritten*: the names with a change that is not written yet.
    """

    def __init__(
        self,
        *,
        writer: RegistryWriter,
        missing: Missing,
        reports: Reports,
        services: Source[RpcService],
        latest: Source[RpcService],
        memory: Memory,
        initial_sync: InitialSync,
        is_unlooked: Callable[[str], bool],
        layouts: Sequence[Layout],
        settings: PublicationSettings,
        grace: timedelta,
        enqueue: Callable[[Iterable[str]], None],
        confined: Callable[[], bool],
        unwritten: Unwritten,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._missing = missing
        self._reports = reports
        self._services = services
        self._latest = latest
        self._memory = memory
        self._confined = confined
        self._resting = Resting(self._besides)
        self._spared = Spared(missing, memory, confined, settings.cluster_id)
        self._initial_sync = initial_sync
        self._is_unlooked = is_unlooked
        self._layouts = layouts
        self._settings = settings
        self._grace = grace
        self._enqueue = enqueue
        self._clock = clock
        self._troubles: Troubles[str, Exception] = Troubles()  # by layouts' paths
        self._failing: dict[str, _Failing] = {}  # belongs to the thread that reconciles, as the next one
        self._answered_at = float("-inf")
        self._unwritten = unwritten
        self._deferred: dict[
            str, Collection[str]
        ] = {}  # by service path; if lost, they are put off once more
        self._part = 0  # of all names: the part compared last
        self._grouped = Grouped()
        self.guard = missing.guard

    # what changes mean

    def note_service(self, change: Change[RpcService]) -> None:
        """Note the endpoints that lost their RpcService, and the names to write."""
        self._missing.note(change)
        if _asks_anew(change):
            self._unwritten.note(_names(change), self._clock.monotonic())

    def pod_names(self, change: Change[Pod]) -> set[str]:
        """The names of which a pod is seen to leave something that an earlier process published."""
        return self._missing.note_pod(change)

    def every_name(self) -> set[str]:
        """All names: those of RpcServices and those in the ledger; for any thread."""
        return self._listed_names() | self._writer.cache.claimed()

    def service_names(self, change: Change[RpcService]) -> set[str]:
        """The names that an RpcService's change touches."""
        old, new = change.old, change.new
        turned_known = old and new and old.known != new.known
        return _names(change) if turned_known or _asks_anew(change) else set()

    def path_changed(self, path: str) -> Mapping[str, float]:
        """The names to reconcile since the znode *path* changed, each with the seconds to wait before."""
        return self._reports.pauses(self._writer.cache.changed(path))

    def unwatched(self, seconds: float = REARM) -> Mapping[str, float]:
        """Names whose own writes are older than *seconds* and must be re-read to re-arm their watches.

        Each with the seconds to wait before that.
        """
        return self._reports.pauses(self._writer.cache.unwatched(seconds))

    def disconnected(self) -> None:
        """Report that the connection to ZooKeeper is lost."""
        self._reports.disconnected()

    # comparing

    def compare(self) -> set[str]:
        """Read everything anew; return all names: those of RpcServices and those in the ledger."""
        names, wiped = self._writer.read_anew(self._listed_names())
        if wiped:
            self._reports.wiped()
        self._reports.left_alone(self._writer.uncovered())
        self._missing.retain_only(names)
        self.guard.wake()  # its look also clears from the Lease what only an earlier process held
        return names

    def compare_next(self, parts: int) -> set[str]:
        """Compare the next of so many *parts* of all names; return those to plan: all at once take long.

        Their znodes may have changed, or what their last plan read besides, or it left something to do.
        They are read anew.
        """
        part = (self._part + 1) % parts
        names = self.every_name()
        if part == 0:
            self._writer.cache.expect_nothing()
            self._reports.left_alone(self._writer.uncovered())
            self._missing.retain_only(names)
            self._resting.retain_only(names)
        groups = self._grouped.part(names, parts, part)
        differing = self._writer.cache.differing(groups)
        due = {
            name
            for group, members in groups.items()
            for name in members
            if group in differing or name not in self._resting
        }
        self._writer.cache.mark_stale(due)
        self._part = part  # if a request fails, the same part is compared again
        return due

    def _listed_names(self) -> set[str]:
        return {service.service_name for service in self._services.store.values()}

    def sizes(self) -> Sizes:
        """How much is in ZooKeeper."""
        return self._writer.cache.sizes()

    def found(self, name: str) -> int | None:
        """How many endpoints of ours clients find, in the layout that has the most; None: not known."""
        return self._writer.cache.found(name)

    def views(self, name: str) -> list[tuple[Layout, ObservedZnodes | None]]:
        """The znodes of a service, by layout; None: not known."""
        cache = self._writer.cache
        return [
            (layout, cache.view(layout, name) if cache.knows(layout, name) else None)
            for layout in self._layouts
        ]

    def read_at(self, layout: Layout, name: str) -> float | None:
        """When the znodes of a service in *layout* were read last; None: never."""
        return self._writer.cache.read_at(layout, name)

    @property
    def left(self) -> Collection[tuple[str, str]]:
        """The layout names and paths in the ledger that no ``--layout`` covers."""
        return self._reports.left

    @property
    def compared(self) -> bool:
        """Whether the current connection has compared everything once."""
        return self._writer.compared

    # reconciling

    def reconcile(self, names: Sequence[str]) -> tuple[dict[str, Exception], set[str]]:
        """Make the znodes of *names* right; return the failures by name, and the names it wrote for.

        It writes all changed names in as few transactions as fit, then all others.  If that fails, it tries
        each name alone, so that a refused name costs no other; and each layout of a name alone, for the same
        reason.
        """
        # Before the first read: a later change is another one, which this write may lack.
        taken = self._unwritten.take(names)
        alone = {name: self._troubles.get(name) is not None for name in names}
        failures = self._one_by_one(name for name in names if alone[name])
        together = [name for name in names if not alone[name]]
        # Changes first: what else is due, such as watches to set again, has to be read before.
        failures |= self._at_once([name for name in together if name in taken])
        failures |= self._at_once([name for name in together if name not in taken])
        self._unwritten.put_back({name: since for name, since in taken.items() if name in failures})
        now = self._clock.monotonic()
        for name in names:
            before = self._failing.pop(name, None)
            if name in failures and name in taken:
                self._failing[name] = _Failing(before.since if before else now, now, failures[name])
        if len(failures) < len(names):
            self._answered_at = now
        self.report_late()
        return failures, self._writer.take_written()

    def report_late(self) -> None:
        """Report the names whose change has failed for a while, whether or not its retry is due.

        Once ZooKeeper answers again, a name that got no answer waits for its turn: that is no failure.
        """
        now = self._clock.monotonic()
        for name, failing in self._failing.items():
            turn = not is_refused(failing.error) and self._answered_at > failing.at
            late = now - failing.since >= UNAVAILABLE_AFTER and name in self._unwritten
            if late and not turn and not failing.reported:
                failing.reported = True
                self._reports.failed(name, self._publication(name), failing.error)

    def beat(self, stopped: bool = False) -> None:
        """Write the heartbeat; for the thread that reconciles, or after its end."""
        self._writer.beat(len(self._unwritten), stopped)

    def _at_once(self, names: Sequence[str]) -> dict[str, Exception]:
        if not names:
            return {}
        try:
            self._write(names)
        except Fenced:
            raise
        except Exception as failure:  # noqa: BLE001  (one name's error costs no other)
            self._writer.cache.mark_stale(names)
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
                self._writer.cache.mark_stale([name])
                failures[name] = failure
        return failures

    def _write_alone(self, name: str) -> None:
        """Write each layout of *name* by itself, except those that were refused a moment ago.

        If one is refused, it writes all others, then raises ``Partial``.
        """
        # 1. Plan all layouts first: if two of them would write one path, none is written.
        self._writer.read([name])
        wanted, outcomes = self._plan_all(name)
        check_transaction([op for outcome in outcomes for op in outcome.ops])
        # 2. Write each layout.  A refused one has a back-off of its own.
        refused: dict[Hashable, Exception] = {}
        for layout, outcome in zip(self._layouts, outcomes, strict=True):
            path = layout.path(name)
            failure = self._write_layout(name, layout, path, outcome.steps)
            if failure:
                refused[path] = failure
            if isinstance(failure, Rejected):
                # It costs only what it would add: remove what is to go.
                removals = self._plan(layout, name, without_additions(wanted)).steps
                failure = self._write_layout(name, layout, (path, "removals"), removals)
                if failure:
                    refused[path, "removals"] = failure
        trouble = self._troubles.get(name)
        # 3. Report success as after any other write; else raise the first refusal.
        if not refused:
            self._troubles.end(name)
            self._conclude(name, wanted, outcomes)
            self._writer.cache.forget_disturbed([name])
            return
        for layout, outcome in zip(self._layouts, outcomes, strict=True):
            if layout.path(name) not in refused:
                self._defer(layout, name, outcome)
        self._requeue(name, outcomes)
        first = next(iter(refused.values()))
        if trouble and isinstance(first, Rejected):
            trouble.retain_only(set(refused))
            raise Partial(str(first), trouble.seconds_left(self._clock.monotonic()), rejected=True) from first
        raise first

    def _write_layout(
        self, name: str, layout: Layout, write: Hashable, steps: Sequence[Step]
    ) -> Exception | None:
        """Write *steps*, unless the back-off of *write* still runs; return why they are not written."""
        now, trouble = self._clock.monotonic(), self._troubles.get(name)
        waiting = trouble.waiting(write, now) if trouble and steps else None
        if waiting:
            return waiting
        try:
            self._writer.write(((name, layout), step) for step in steps)
        except (Fenced, Retry):
            raise
        except Rejected as failure:
            if self._troubles.begin(name, now).refused(write, failure, now):
                log.warning("refused", service=name, layout=layout.name, reason=str(failure))
            return failure
        except Exception as failure:  # noqa: BLE001  (one layout's error costs no other)
            return failure
        return None

    def _write(self, names: Sequence[str]) -> None:
        # 1. Read what is stale, and plan all names before the first write: a name that cannot be planned
        #    fails here, and reconcile then tries each name alone.
        self._writer.read(names)
        planned = [(name, *self._plan_all(name)) for name in names]
        # 2. Write in the plans' order, as many steps in one transaction as fit.
        self._writer.write(
            ((name, layout), step)
            for name, _, outcomes in planned
            for layout, outcome in zip(self._layouts, outcomes, strict=True)
            for step in outcome.steps
        )
        # 3. Report only once all is written: a condition must not be ahead of the znodes.
        for name, wanted, outcomes in planned:
            self._conclude(name, wanted, outcomes)
        # 4. Forget what others did, now that it is repaired.  If a write failed, its retry is still a repair.
        self._writer.cache.forget_disturbed(names)

    def _plan_all(self, name: str) -> tuple[Publication, list[Outcome]]:
        self._resting.begin(name)
        full = self._publication(name)
        wanted = self._spared.wanted(full)
        return wanted, [self._plan(layout, name, wanted, full) for layout in self._layouts]

    def _publication(self, name: str) -> Publication:
        # 1. What the pod controller reports of statuses, before these: it reports after it wrote them.  A
        #    report that ends meanwhile must not be missed beside the statuses that it was about.
        unlisted, is_frozen = self._initial_sync.unlisted(name), self._is_frozen(name)
        services = services_of(self._services, name)
        # 2. What is missing, after these: it is noted as an RpcService leaves what is relied on.
        shown = {row.pod_uid for row in unlisted.endpoints}  # stay anyway, so they freeze nothing
        missing = {subject for subject in self._missing.unconfirmed(name) if subject[2] not in shown}
        holder = min((namespace for _, namespace, uid in missing if not uid), default="")
        listed = (row for service in services for row in service.status.endpoints)
        self._spared.note(name, listed, unlisted.endpoints, bool(missing))
        return publication(services, is_frozen, self._settings, holder, unlisted)

    def _plan(
        self, layout: Layout, name: str, wanted: Publication, full: Publication | None = None
    ) -> Outcome:
        """Plan a name in a layout; *full*: what *wanted* would be if the API server was not restored."""
        view = self._writer.cache.view(layout, name)
        outcome = planning.plan(
            layout,
            name,
            wanted,
            view,
            self._settings,
            self._clock.stamp(),
            all(map(self._grace_over, self._writer.cache.claims(layout, name))),
            self._deferred.get(layout.path(name), ()),
            self._spared.of(layout, name, view, wanted),
        )
        if outcome.refusal or full is None or full is wanted:
            return outcome
        refusal = self._spared.refusal(layout, name, view, full, wanted)
        return msgspec.structs.replace(outcome, refusal=refusal)

    def _conclude(self, name: str, wanted: Publication, outcomes: Sequence[Outcome]) -> None:
        """Report the outcome of a name, and requeue it if something is left to do."""
        for layout, outcome in zip(self._layouts, outcomes, strict=True):
            self._defer(layout, name, outcome)
        self._reports.written(name, wanted, outcomes, self._writer.take_repaired(name))
        self._requeue(name, outcomes)
        self._missing.concluded(name)
        self._resting.end(name, all(outcome.at_rest for outcome in outcomes) and not self._waits(name))

    def _waits(self, name: str) -> bool:
        """Whether the guard, or a time that passes, may decide something about *name*."""
        claims = (claim for layout in self._layouts for claim in self._writer.cache.claims(layout, name))
        return bool(self._missing.of(name)) or any(claim.withdrawn_at for claim in claims)

    def _besides(self, name: str) -> Besides | None:
        """What a plan and the report of *name* read besides znodes; None while that is more than this."""
        services = services_of(self._services, name)
        latest = {service.key: service for service in services_of(self._latest, name)}
        relied = {service.key: service for service in services}
        if relied != latest or self._memory.restored or self._confined():
            return None
        return (
            *services,
            self._services.unknown,
            self._is_unlooked(name),
            self._initial_sync.is_pending(name),
            self._initial_sync.unlisted(name),
        )

    def _defer(self, layout: Layout, name: str, outcome: Outcome) -> None:
        self._deferred.pop(layout.path(name), None)
        if outcome.deferred:
            self._deferred[layout.path(name)] = outcome.deferred

    def _requeue(self, name: str, outcomes: Iterable[Outcome]) -> None:
        if any(outcome.requeue for outcome in outcomes):
            self._enqueue([name])

    def _grace_over(self, ledger: Ledger) -> bool:
        if not ledger.withdrawn_at:
            return False
        try:
            return datetime.fromisoformat(ledger.withdrawn_at) + self._grace <= self._clock.now()
        except ValueError:
            return False

    def _is_frozen(self, name: str) -> bool:
        """Whether something about the name is unknown, so that nothing of it may be removed."""
        unknown = self._services.unknown is not None or self._is_unlooked(name)
        return unknown or self._missing.has_unwatched_namespaces(name) or self._initial_sync.is_pending(name)


@dataclass
class _Failing:
    """A name that is not written: *since* when, *at* which time it was last tried, and the last *error*."""

    since: float
    at: float
    error: Exception
    reported: bool = False


def _names(change: Change[RpcService]) -> set[str]:
    return {service.service_name for service in (change.old, change.new) if service}


def _asks_anew(change: Change[RpcService]) -> bool:
    """Whether the change affects what is published."""
    return change.old is None or change.new is None or _asks(change.old) != _asks(change.new)


def _asks(service: RpcService) -> Any:
    """The parts of an RpcService that affect what is published."""
    return service.status.endpoints, service.spec, service.generated, service.unreadable
