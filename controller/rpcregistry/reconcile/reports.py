"""Reports of the registry controller: conditions and Events of RpcServices, and Events about the Lease."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import structlog

from rpcregistry.manifests import RPCSERVICES, regarding
from rpcregistry.model import Condition, Problem, RpcService
from rpcregistry.plan import znodes as planning
from rpcregistry.plan.outcome import Outcome
from rpcregistry.plan.publication import Publication
from rpcregistry.reconcile.byname import services_of
from rpcregistry.reconcile.ports import Clock, Events, Source
from rpcregistry.reconcile.refusals import is_refused
from rpcregistry.reconcile.repairs import Repairs

log = structlog.get_logger(__name__)

UNAVAILABLE_AFTER = 10.0  # seconds


class Reports:
    """Reports the outcome of each name.

    It belongs to the registry's thread, but any thread may call ``pauses`` and ``disconnected``.
    *conditions* is called with an RpcService and its desired Synced condition, *concluded* with the outcomes
    of each name, one a layout, once they are written.  *pods_elsewhere*: the pod
    controller does not run in this process.
    """

    def __init__(
        self,
        *,
        services: Source[RpcService],
        repairs: Repairs,
        conditions: Callable[[RpcService, Condition], None],
        concluded: Callable[[str, Sequence[Outcome]], None],
        events: Events,
        clock: Clock,
        pods_elsewhere: bool,
    ) -> None:
        self._pods_elsewhere = pods_elsewhere
        self._services = services
        self._repairs = repairs
        self._conditions = conditions
        self._concluded = concluded
        self._events = events
        self._clock = clock
        # What was logged as left alone; replaced as a whole, and read by any thread.
        self.left: Collection[tuple[str, str]] = ()

    # about a name

    def written(
        self, name: str, wanted: Publication, outcomes: Sequence[Outcome], repaired: Mapping[str, str]
    ) -> None:
        """Report a written name; *repaired*: its repaired paths, and what others had done to them."""
        self._concluded(name, outcomes)
        services = services_of(self._services, name)
        if repaired:
            taking_part = [service for service in services if service.uid not in wanted.refused]
            self._repairs.made(name, taking_part, repaired)
        for service in services:
            for note in (note for outcome in outcomes for note in outcome.notes):
                self._events.record(regarding(RPCSERVICES, service), note, "Publish", warning=True)
            if service.known:
                self._conditions(
                    service, planning.synced(service, wanted, outcomes, self._told_elsewhere(service))
                )

    def failed(self, name: str, wanted: Publication, failure: Exception) -> None:
        """Report why a name has not been written for ``UNAVAILABLE_AFTER``."""
        # A status gets only a lasting reason: a refusal repeats its text, an outage does not.
        reason = str(failure) if is_refused(failure) else ""
        for service in services_of(self._services, name):
            told = self._told_elsewhere(service)
            self._conditions(service, planning.unavailable(service, wanted, UNAVAILABLE_AFTER, reason, told))

    def _told_elsewhere(self, service: RpcService) -> Problem | None:
        """What a pod controller in another process reports of *service*; it takes that back by itself."""
        observed = service.status.condition("Synced") if self._pods_elsewhere else None
        return (
            Problem(observed.reason, observed.message) if observed and observed.reason == "Refused" else None
        )

    def pauses(self, names: Iterable[str]) -> Mapping[str, float]:
        """The seconds to wait before the next repair of each of *names*."""
        return {name: self._repairs.pause(name) for name in names}

    # about the registry as a whole

    def disconnected(self) -> None:
        """Record an Event about the Lease; a lost session changes no RpcService's condition."""
        self._repairs.record_on_lease(
            "RegistryDisconnected",
            "ZooKeeper is not connected: published endpoints stay, changes wait",
            self._clock.now().strftime("%H:%M"),
        )

    def wiped(self) -> None:
        """Report that ZooKeeper has lost what we had published."""
        log.warning("the ledger is empty: ZooKeeper was wiped")
        self._repairs.record_on_lease(
            "RegistryWiped", "ZooKeeper has lost what was published; the controller writes it again"
        )

    def left_alone(self, left: set[tuple[str, str]]) -> None:
        """Log once which paths in the ledger no ``--layout`` covers: the controller leaves them alone."""
        if left.difference(self.left):
            log.warning("left alone: no --layout covers it", services=len(left), first="=".join(min(left)))
        self.left = left
