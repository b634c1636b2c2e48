"""Runs the parts as one process: the Lease, threads, start, stop, probes."""

import gc
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import structlog
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, wait_random_exponential

from rpcregistry.errors import Failure, Rejected
from rpcregistry.kube.client import Kube
from rpcregistry.kube.requests import CONTROLLER_TIMEOUTS
from rpcregistry.model import RELEASE, Problem
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.restored import ALL, UNTIL_RELEASED
from rpcregistry.reconcile.memory import Memory
from rpcregistry.reconcile.registration import ALLOWED_FOR
from rpcregistry.reconcile.withdrawn import Withdrawn
from rpcregistry.run import PARTS
from rpcregistry.run.dryrun import DryRunLeadership, DryRunLease, to_standard_output
from rpcregistry.run.leadership import Leadership, make_lease
from rpcregistry.run.part import Part
from rpcregistry.run.readings import readings
from rpcregistry.run.shared import Relay, Shared
from rpcregistry.runtime.crew import Crew
from rpcregistry.runtime.stop import Stop
from rpcregistry.settings import RunSettings
from rpcregistry.telemetry.events import POSTERS
from rpcregistry.telemetry.metrics import Metrics
from rpcregistry.telemetry.probes import Health, serve
from rpcregistry.zookeeper.client import ZooKeeper

if TYPE_CHECKING:
    from rpcregistry.page.server import PageServer

log = structlog.get_logger(__name__)

SWITCH = 0.001  # seconds that a thread with a received answer waits for one that computes
TICK = 0.2  # seconds between two polls of the stop flag
IDLE = 10  # polls in a row without work, after which a dry run has shown all
SHUTDOWN = 4.0  # seconds
TELL_EVERY = 3600.0  # seconds between two Events that say the same


def run_controllers(settings: RunSettings) -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    with Stop() as stop:
        sys.setswitchinterval(SWITCH)
        metrics, probes = Metrics(), Probes()
        target = settings.target
        kube = Kube.from_config(
            target.kubeconfig,
            target.context,
            timeouts=CONTROLLER_TIMEOUTS,
            answered=metrics.kube_answered,
        )
        serve(settings.bind_address, metrics, Health(probes.why_not_live, probes.why_not_ready))
        cluster_id = settings.target.cluster_id or _patiently(kube.cluster_id, stop, probes)
        if cluster_id is None:
            return 0
        process = make_process(settings, kube, cluster_id, metrics)
        probes.follow(process)
        return process.run(stop)


class Probes:
    """The answers of the probes, before and after the process is made.  One thread serves them."""

    def __init__(self) -> None:
        # Each is replaced as a whole by the main thread.
        self.waiting = "the cluster id is not read yet"
        self._process: Process | None = None

    def follow(self, process: "Process") -> None:
        """Answer with the state of *process* from now on."""
        self._process = process

    def why_not_live(self) -> str | None:
        """Only what a restart would mend."""
        return self._process.why_not_live() if self._process else None

    def why_not_ready(self) -> str | None:
        """What keeps the process from its work."""
        return self._process.why_not_ready() if self._process else self.waiting


def _patiently(read: Callable[[], str], stop: Stop, probes: Probes) -> str | None:
    """Call *read* until it succeeds, and return its result; None if the process has to stop before."""

    def log_retry(state: RetryCallState) -> None:
        reason = str(state.outcome.exception() if state.outcome else "")
        if reason != probes.waiting:
            log.warning("not ready", reason=reason)
        probes.waiting = reason

    def sleep(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not stop.requested:
            time.sleep(min(TICK, seconds))

    retrying = Retrying(
        retry=retry_if_exception_type(Failure),
        wait=wait_random_exponential(multiplier=0.5, max=5),
        stop=lambda _: stop.requested,
        before_sleep=log_retry,
        sleep=sleep,
    )
    try:
        return retrying(read)
    except RetryError:
        return None


def make_process(settings: RunSettings, kube: Kube, cluster_id: str, metrics: Metrics) -> "Process":
    """Make all objects of the process, in one pass, so that each is complete.

    Only the connection to ZooKeeper is started: the heartbeat there may name the namespace of the Lease.
    """
    crew, stopping = Crew(), threading.Event()
    identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    connection: Relay[bool] = Relay()
    changed: Relay[str] = Relay()
    zookeeper = ZooKeeper(
        settings.target.zk_servers,
        on_connection=connection,
        on_changed=changed,
        access=settings.target.zk_access,
    )
    writes = "registry" in settings.controllers
    connection.subscribe(metrics.connected)
    if writes:
        zookeeper.start()
    lease = (
        DryRunLease()
        if settings.dry_run
        else make_lease(settings, cluster_id, identity, zookeeper if writes else None)
    )
    memory = Memory(lease, Withdrawn(lease, lambda: leadership.renew()))
    memory.add(lease.check)
    lease.on_went_back(memory.went_back)
    leadership = (
        DryRunLeadership(lease)
        if isinstance(lease, DryRunLease)
        else Leadership(
            settings=settings,
            kube=kube,
            lease=lease,
            zookeeper=zookeeper if writes else None,
            cluster_id=cluster_id,
            identity=identity,
            crew=crew,
            stopping=stopping,
        )
    )
    memory.hold_while(lambda: bool(leadership.confined))
    shared = Shared(
        settings=settings,
        kube=kube,
        zookeeper=zookeeper,
        connection=connection,
        changed=changed,
        cluster_id=cluster_id,
        identity=identity,
        leadership=leadership,
        memory=memory,
        metrics=metrics,
        stopping=stopping,
    )
    return Process(shared, crew, [make(shared) for name, make in PARTS.items() if shared.runs(name)])


class Process:
    """The parts of one process, and their threads.

    The process reads everything from the start, so that a new leader need not wait.  A part writes nothing
    before this process leads and all sources of the part were listed.
    """

    def __init__(self, shared: Shared, crew: Crew, parts: Sequence[Part]) -> None:
        self._shared = shared
        self._crew = crew
        self._parts = parts
        needed = {source.name: source for part in parts for source in part.sources}
        self._sources = list(needed.values())
        self._started = threading.Event()
        self._missing: dict[str, str | None] = {}  # kinds, as last reported; belongs to the main thread
        self._confined = ""  # why this process only withdraws, as last reported; of the main thread
        self._word: str | None = None  # on the Lease, once read; belongs to the thread that reads the Lease
        self._told = float(
            "-inf"
        )  # when the last Event said that the API server was restored; of the main thread
        for source in self._sources:
            source.subscribe_listed(partial(self._listed, source.name))
        shared.leadership.on_found(self._judge)
        shared.leadership.subscribe(self._begin)
        shared.memory.subscribe(self._remembered)
        shared.leadership.lease.on_annotations(self._annotated)
        shared.metrics.measure(readings(shared, parts, self._sources))
        self._page = self._make_page()

    def _make_page(self) -> "PageServer | None":
        """The page, if there is one; only then is it imported, since that takes memory."""
        if self._shared.settings.dry_run or not self._shared.settings.page.address:
            return None
        from rpcregistry.run.page import make_page

        return make_page(self._shared, self._parts, self._sources)

    def run(self, stop: Stop) -> int:
        """Run until *stop* is requested, the Lease is lost or a thread fails; return the exit code."""
        shared = self._shared
        if self._page:
            self._page.start()
        for source in self._sources:
            source.start(self._crew)
        for number in range(POSTERS):
            self._crew.start(f"events-{number}", self._shared.events.run)
        self._crew.start("lead", self._shared.leadership.run)
        idle = 0
        while not stop.requested and not self._crew.wait(TICK):
            self._report_missing_kinds()
            self._report_restored()
            self._report_confined()
            if shared.settings.dry_run:
                idle = idle + 1 if self._is_idle() else 0
                if idle == IDLE:
                    ends = "" if shared.settings.once else "; Ctrl-C ends it"
                    to_standard_output(f"dry run: {shared.diff}{ends}")
                    if shared.settings.once:
                        break
        self._shut_down()
        return 1 if self._crew.failure else 0

    def _is_idle(self) -> bool:
        """Whether all is listed and compared, and nothing is due."""
        parts, shared = self._parts, self._shared
        begun = self._started.is_set() and all(part.may_look() for part in parts)
        return begun and not shared.traffic.busy and not any(part.depth for part in parts)

    def _report_missing_kinds(self) -> None:
        """Record an Event about the Lease for each kind that the API server does not serve (any more)."""
        shared, missing = self._shared, {source.name: source.kind_missing for source in self._sources}
        lease = shared.leadership.lease.regarding
        if missing == self._missing or not (lease and shared.began.is_set()):
            return
        for name, reason in missing.items():
            if reason and not self._missing.get(name):
                problem = Problem("KindMissing", f"{shared.clock.stamp()}: {reason}")
                shared.events.record(lease, problem, "Watch", warning=True)
        self._missing = missing

    def _report_restored(self) -> None:
        """Record an Event about the Lease each hour for which the API server counts as restored."""
        shared, now = self._shared, time.monotonic()
        lease, reason = shared.leadership.lease.regarding, shared.memory.restored
        if not reason:
            self._told = float("-inf")
        elif lease and shared.began.is_set() and now - self._told >= TELL_EVERY:
            self._told = now
            note = f"{shared.clock.stamp()}: {UNTIL_RELEASED}: {reason}; {ALL}"
            shared.events.record(lease, Problem("Restored", note), "Hold", warning=True)

    def _report_confined(self) -> None:
        """Report that this process only withdraws, and the end of that, after which all is looked at anew."""
        shared, reason = self._shared, self._shared.leadership.confined
        if bool(reason) == bool(self._confined):
            return
        self._confined = reason
        shared.metrics.leading(not reason)
        lease = shared.leadership.lease.regarding
        if reason:
            log.error("only withdrawing", reason=reason)
            if lease:  # posted once the Lease can be renewed
                problem = Problem("NotRenewed", f"{shared.clock.stamp()}: {reason}")
                shared.events.record(lease, problem, "Lead", warning=True)
        else:
            log.info("leading again")
            self._remembered()

    def _judge(self, found: Heartbeat) -> None:
        """Compare the API server with what *found* says of it; raises a ``Retry`` if it does not answer."""
        memory, lease = self._shared.memory, self._shared.leadership.lease
        memory.judge(found.seen, lease.before(found.holder), lease.annotations or {})
        for source in self._sources:
            with suppress(Rejected):  # it is unknown; once it can be read, its LIST is compared
                source.reach(memory.floor(source.name))
        self._shared.services.compare(found.seen.newest)
        memory.compared()

    def _remembered(self) -> None:
        """Look at everything anew: the API server counts as restored, or does not any more.

        Or we lead again after a time in which we only withdrew.
        """
        for part in self._parts:
            self._resync(part)

    def _begin(self) -> None:
        """Lead: start the parts, each once its sources were listed."""
        shared = self._shared
        log.info("leading", identity=shared.identity, cluster=shared.cluster_id)
        shared.metrics.leading(True)
        shared.journal.begin()
        shared.began.set()
        for part in self._parts:
            part.early(self._crew)
        self._crew.start("start", self._start)
        self._crew.start("resync", self._resync_periodically)

    def _start(self) -> None:
        frozen = False
        for part in self._parts:
            while not part.filled:
                if self._shared.stopping.wait(TICK / 10):
                    return
            if not frozen:
                # The listed objects stay: exempt them from collections, which stop all threads.
                gc.collect()
                gc.freeze()
                frozen = True
            part.start(self._crew, self._shared.metrics, self._shared.stopping)
        self._started.set()

    def _listed(self, name: str) -> None:
        """Resync the parts that read *name*: its LIST may lack objects, or end an unknown state."""
        for part in self._parts:
            if any(source.name == name for source in part.sources):
                self._resync(part)

    def _annotated(self, annotations: Mapping[str, str]) -> None:
        """Have all guards look if the Lease has a new release word."""
        word = annotations.get(RELEASE, "")
        self._shared.memory.note_word(word)
        if word != self._word:
            self._word = word
            for part in self._parts:
                part.look()

    def _resync_periodically(self) -> None:
        settings = self._shared.settings
        period = settings.resync_period or threading.TIMEOUT_MAX
        if settings.require_register_permission:
            period = min(period, ALLOWED_FOR)  # no watch shows that a permission was granted or revoked
        while not self._shared.stopping.wait(period):
            for part in self._parts:
                self._resync(part)

    def _resync(self, part: Part) -> None:
        if self._shared.began.is_set() and part.filled:
            part.resync()

    def _shut_down(self) -> None:
        """Finish the writes in progress and release the Lease; withdraw nothing."""
        deadline = time.monotonic() + SHUTDOWN
        shared = self._shared
        shared.stopping.set()
        if self._page:
            self._page.stop(0)
        for part in self._parts:
            part.stop()
        for source in self._sources:
            source.stop()
        shared.kube.stop()
        shared.events.stop()
        late = self._crew.join(deadline, time.monotonic, besides=("lead", "lease-watch"))
        if late:
            log.warning("still running", threads=late)
        if not self._crew.failure:
            for part in self._parts:
                part.stopped()
        shared.leadership.release()
        shared.zookeeper.close()

    def why_not_live(self) -> str | None:
        """Only what a restart would mend."""
        failure = self._crew.failure
        return f"a thread failed: {failure}" if failure else None

    def why_not_ready(self) -> str | None:
        """What keeps the process from its work."""
        for source in self._sources:
            if not source.filled:
                return source.unknown or source.missing
            if source.kind_missing:
                return source.kind_missing
        restored = self._shared.memory.restored
        reasons = (
            self._shared.leadership.trouble,
            self._shared.leadership.confined,
            restored and f"{UNTIL_RELEASED}: {restored}; {ALL}",
            *(part.why_not_ready() for part in self._parts),
        )
        return next(filter(None, reasons), None)
