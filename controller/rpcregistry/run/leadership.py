"""Which process may write: the Lease, and a look whether another process keeps the same registry up.

A Lease stops only processes that look at the same Lease.  A controller that was started elsewhere (from a
laptop, in another namespace, in a copy of the cluster) holds another Lease, and nothing stops it.  The fence
would separate the two, but would cut off the right one.  So a process reads the heartbeat before it takes the
fence.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog

from rpcregistry.errors import Failure, Fenced, Rejected, Retry
from rpcregistry.kube.client import Kube
from rpcregistry.kube.requests import LEASE_TIMEOUTS
from rpcregistry.leases import CLUSTER_ID, NAMESPACE, ZOOKEEPER, KubeLease, heard_namespace, own_namespace
from rpcregistry.plan.heartbeat import SURE, Candidate, Heartbeat, Look, Observation
from rpcregistry.plan.ledger import ledger_root, service_name_of
from rpcregistry.reconcile.lookout import LOOK_EVERY, Lookout
from rpcregistry.runtime.crew import Crew
from rpcregistry.runtime.election import Elector
from rpcregistry.settings import RunSettings
from rpcregistry.telemetry.audit import audit
from rpcregistry.zookeeper.client import ZooKeeper

log = structlog.get_logger(__name__)

COMPARE_AGAIN = 1.0  # seconds
TICK = 0.2  # seconds between two looks at a watched heartbeat
WITH_ZOOKEEPER = 1.0  # seconds that a connection takes, which is made meanwhile
WITHOUT_ZOOKEEPER = 5.0  # seconds, after which we write statuses although we cannot look
NOTHING_SEEN = Observation(None, 0.0)


def make_lease(
    settings: RunSettings, cluster_id: str, identity: str, zookeeper: ZooKeeper | None
) -> KubeLease:
    """The Lease to hold, with annotations that name the registry; *zookeeper* has been started."""
    namespace = settings.lease_namespace or own_namespace() or _heard_namespace(cluster_id, zookeeper)
    kube = Kube.from_config(
        settings.target.kubeconfig, settings.target.context, connections=2, timeouts=LEASE_TIMEOUTS
    )
    lease = KubeLease(kube, namespace, identity=identity)
    lease.annotate(CLUSTER_ID, cluster_id)
    if zookeeper:
        lease.annotate(ZOOKEEPER, settings.target.zk_servers)
    return lease


def _heard_namespace(cluster_id: str, zookeeper: ZooKeeper | None) -> str:
    """The namespace of the Lease that the heartbeat names, for a process outside of a cluster."""
    if zookeeper and zookeeper.wait(WITHOUT_ZOOKEEPER):
        return heard_namespace(Lookout(zookeeper, cluster_id, time.monotonic))
    return NAMESPACE  # ``_look`` still notices a heartbeat that can be read later


class Leadership:
    """Decides when this process may write; its threads belong to *crew*, and end once *stopping* is set.

    ``clear`` is set once no other process keeps the registry up: this one writes nothing to ZooKeeper before.
    *zookeeper* is None if this process writes nothing there.
    """

    def __init__(
        self,
        *,
        settings: RunSettings,
        kube: Kube,
        lease: KubeLease,
        zookeeper: ZooKeeper | None,
        cluster_id: str,
        identity: str,
        crew: Crew,
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._kube = kube
        self.lease = lease
        self._zookeeper = zookeeper
        self._cluster_id = cluster_id
        self._identity = identity
        self._crew = crew
        self._stopping = stopping
        self._led = threading.Event()  # this process leads: the lookout may end
        self._lookout = Lookout(zookeeper, cluster_id, time.monotonic) if zookeeper else None
        self.clear = threading.Event()
        self._uncompared = ""  # why the API server is not compared yet; of the thread that looks
        self.trouble = ""  # why we cannot look; replaced by the thread that looks
        self._begin: list[Callable[[], None]] = []  # grows before ``run``
        self._found: list[Callable[[Heartbeat], None]] = []  # so does this
        self._elector = Elector(self.lease, identity, on_elected=self._elected, on_lost=self._lost_lease)

    @property
    def leading(self) -> bool:
        """Whether this process leads, so that no other one can."""
        return not self._settings.leader_elect or self._elector.leading

    @property
    def confined(self) -> str:
        """Why this process only withdraws: the Lease is ours, and cannot be renewed; else ``""``."""
        reason = self._elector.confined if self._settings.leader_elect else ""
        return f"the Lease cannot be renewed, so nothing is added: {reason}" if reason else ""

    def renewed(self) -> float | None:
        """When the Lease was renewed last, in seconds of the monotonic clock; None if it never was."""
        return self._elector.renewed

    def subscribe(self, begin: Callable[[], None]) -> None:
        """Call *begin* once this process leads; before ``run``."""
        self._begin.append(begin)

    def on_found(self, judge: Callable[[Heartbeat], None]) -> None:
        """Call *judge* with the heartbeat that was found once this process may write, and before it does.

        If it raises a ``Failure``, it is called again.
        """
        self._found.append(judge)

    def run(self) -> None:
        """Become the leader and remain it as long as possible; the loss ends *crew*."""
        if not self._settings.leader_elect:
            self._crew.start("lease", partial(self.lease.keep, self._stopping))
            self._look()
            return
        if self._lookout:
            self._crew.start("lookout", partial(self._lookout.run, self._led.is_set, self._stopping))
            self._wait_for_format(self._lookout)
        self._crew.start("lease-watch", self._elector.watch)
        self._elector.run()

    def require_clear(self) -> None:
        """Raise a ``Failure`` until it is known that no other process keeps the registry up."""
        if not self.clear.is_set():
            raise Rejected(self.trouble) if self.trouble else Retry("looking for other controllers")

    def renew(self) -> None:
        """Renew the Lease now; raises an ``errors.Failure`` unless it is ours afterwards."""
        if self._settings.leader_elect:
            self._elector.renew()

    def release(self) -> None:
        """Release the Lease; call it after the last write."""
        self._elector.release()

    # becoming the leader

    def _elected(self) -> None:
        self._crew.start("look", self._look)

    def _lost_lease(self, reason: str) -> None:
        """End the process: another one may lead now."""
        log.error("the Lease is lost", reason=reason)
        self._end(reason)

    def _wait_for_format(self, lookout: Lookout) -> None:
        """Do not contend for the Lease while a newer version keeps up what this one cannot write."""
        if self._zookeeper:
            self._zookeeper.wait(WITH_ZOOKEEPER)
        while not self._stopping.is_set():
            try:
                found = lookout.look().found
            except Failure:  # ``_look`` looks again
                return
            reason = found.too_new if found else ""
            if reason and reason != self.trouble:
                self._say_not_leading(reason)
            self.trouble = reason
            if not reason:
                return
            self._stopping.wait(LOOK_EVERY)

    def _look(self) -> None:
        """Begin once no other process keeps the registry up; if one does, end this process.

        While ZooKeeper is away, we cannot look: then statuses are still written, and the registry waits.
        """
        candidate = self._candidate()
        patience = candidate.started + WITHOUT_ZOOKEEPER
        begun = watching = False
        while not self._stopping.is_set():
            look, seen = self._judge(candidate)
            if seen.found and seen.found.too_new:
                self._end(self._say_not_leading(seen.found.too_new))
                return
            if look is Look.ALIVE:
                self._yield_to(seen.found or Heartbeat())
                return
            if look is Look.CLEAR and not self._compare(seen.found or Heartbeat()):
                look = None
            if not begun and (look is Look.CLEAR or (look is None and time.monotonic() > patience)):
                for begin in self._begin:
                    begin()
                begun = True
            if look is Look.CLEAR:
                self._led.set()
                self.clear.set()
                self._note_takeover(seen.found)
                return
            if look is Look.WATCH and not watching:
                found = seen.found or Heartbeat()
                log.info("watching the heartbeat", lease=found.lease, holder=found.holder, seconds=SURE)
                watching = True
            self._stopping.wait(TICK if look else TICK / 10)

    def _compare(self, found: Heartbeat) -> bool:
        """Have the API server compared with what *found* says of it; return whether that could be done."""
        try:
            if self.lease.seen is None:
                with suppress(Rejected):
                    self.lease.get()
            for judge in self._found:
                judge(found)
        except Failure as failure:
            if str(failure) != self._uncompared:
                log.warning("the API server cannot be compared with the heartbeat yet", reason=str(failure))
            self._uncompared = str(failure)
            self._stopping.wait(COMPARE_AGAIN)
            return False
        self.lease.compared()
        return True

    def _candidate(self) -> Candidate:
        return Candidate(
            me=self._identity,
            started=time.monotonic(),
            lease=self.lease.full_name,
            predecessor=self._elector.predecessor,
            still_since=self._elector.still_since,
        )

    def _judge(self, candidate: Candidate) -> tuple[Look | None, Observation]:
        """Judge the heartbeat; None and ``NOTHING_SEEN`` while it cannot be read."""
        if self._lookout is None:
            return Look.CLEAR, NOTHING_SEEN
        try:
            verdict = self._lookout.judge(candidate)
        except Failure as failure:
            # Log a refusal: nothing else reports it, unlike a ZooKeeper that is away.
            trouble = f"ZooKeeper refuses: {failure}" if isinstance(failure, Rejected) else ""
            if trouble and trouble != self.trouble:
                log.warning("nothing is written to ZooKeeper", reason=trouble)
            self.trouble = trouble
            return None, NOTHING_SEEN
        self.trouble = ""
        return verdict

    def _yield_to(self, found: Heartbeat) -> None:
        self._end(
            self._say_not_leading(
                f"{found.holder or 'another controller'} (Lease {found.lease or 'unknown'}) keeps up the"
                f" registry of cluster {self._cluster_id} in ZooKeeper {self._settings.target.zk_servers};"
                " stop that one, or give this one a --cluster-id of its own"
            )
        )

    def _say_not_leading(self, reason: str) -> str:
        message = f"{self._identity} does not lead: {reason}"
        if self.lease.regarding is None:
            with suppress(Failure):  # there is none yet, so nobody could look at its Events
                self.lease.get()
        log.error("not leading", reason=audit(self._kube, self.lease.regarding, "NotLeading", message))
        return message

    def _end(self, reason: str) -> None:
        self._crew.fail(Fenced(reason))

    # Events

    def _note_takeover(self, found: Heartbeat | None) -> None:
        if found and found.holder not in ("", self._identity) and not found.stopped:
            self._crew.start("takeover", partial(self._record_takeover, found))

    def _record_takeover(self, found: Heartbeat) -> None:
        note = (
            f"{self._identity} took over from {found.holder} (Lease {found.lease}), which did not stop in"
            f" order: cluster {self._cluster_id}, ZooKeeper {self._settings.target.zk_servers},"
            f" {self._count()}"
        )
        log.warning("took over", reason=audit(self._kube, self.lease.regarding, "TookOver", note))

    def _count(self) -> str:
        """How many services the ledger names, in the layouts of this process."""
        if self._zookeeper is None:
            return "no services"
        names = {self._cluster_id}
        try:
            entries = [
                service_name_of(layout, entry, names)
                for layout in self._settings.target.layouts
                for entry in self._zookeeper.children(ledger_root(layout))
            ]
        except Failure:
            return "an unknown number of services"
        return f"{sum(entry is not None for entry in entries)} services"
