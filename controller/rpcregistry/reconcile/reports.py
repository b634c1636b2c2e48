"""What is told of the registry: conditions and Events of RpcServices, and Events about it as a whole."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import structlog

from rpcregistry.errors import Partial, Rejected
from rpcregistry.manifests import RPCSERVICES, regarding
from rpcregistry.model import Condition, RpcService
from rpcregistry.plan import znodes as planning
from rpcregistry.plan.invariants import Broken
from rpcregistry.plan.outcome import Outcome
from rpcregistry.plan.publication import Publication
from rpcregistry.reconcile.byname import services_of
from rpcregistry.reconcile.ports import Clock, Events, Source
from rpcregistry.reconcile.repairs import Repairs

log = structlog.get_logger(__name__)

UNAVAILABLE_AFTER = 10.0  # seconds


class Reports:
    """Says what comes of each name.

    The registry's thread calls it; ``pauses`` and ``disconnected`` any thread.
    *conditions* is told what the Synced condition of an RpcService should be.
    """

    def __init__(
        self,
        *,
        services: Source[RpcService],
        repairs: Repairs,
        conditions: Callable[[RpcService, Condition], None],
        events: Events,
        clock: Clock,
    ) -> None:
        self._services = services
        self._repairs = repairs
        self._conditions = conditions
        self._events = events
        self._clock = clock
        self._left: Collection[tuple[str, str]] = ()  # what is left alone, as told

    # about a name

    def written(
        self, name: str, wanted: Publication, outcomes: Sequence[Outcome], repaired: Mapping[str, str]
    ) -> None:
        """Tell what came of a name: *repaired*, paths and what others had done to them, is put back."""
        services = services_of(self._services, name)
        if repaired:
            taking_part = [service for service in services if service.uid not in wanted.refused]
            self._repairs.made(name, taking_part, repaired)
        for service in services:
            for note in (note for outcome in outcomes for note in outcome.notes):
                self._events.record(regarding(RPCSERVICES, service), note, "Publish", warning=True)
            if service.known:
                self._conditions(service, planning.synced(service, wanted, outcomes))

    def failed(self, name: str, failure: Exception) -> None:
        """Report why a name has not been written for ``UNAVAILABLE_AFTER``."""
        # What was refused stays refused, and says the same each time: it belongs into a status.
        refused = isinstance(failure, Rejected | Broken) or (
            isinstance(failure, Partial) and failure.rejected
        )
        reason = str(failure) if refused else ""
        for service in services_of(self._services, name):
            self._conditions(service, planning.unavailable(UNAVAILABLE_AFTER, reason))

    def pauses(self, names: Iterable[str]) -> Mapping[str, float]:
        """The seconds to wait before each of *names* is put back once more."""
        return {name: self._repairs.pause(name) for name in names}

    # about the registry as a whole

    def disconnected(self) -> None:
        """Tell whoever looks at the Lease; of a session that comes and goes no RpcService is told."""
        self._repairs.tell_of_all(
            "RegistryDisconnected",
            "ZooKeeper is not connected: what was published stays, changes wait",
            self._clock.now().strftime("%H:%M"),
        )

    def wiped(self) -> None:
        """Tell that ZooKeeper has lost what we had published."""
        log.warning("the ledger is gone: ZooKeeper was wiped")
        self._repairs.tell_of_all(
            "RegistryWiped", "ZooKeeper has lost what was published: all is written anew"
        )

    def left_alone(self, left: set[tuple[str, str]]) -> None:
        """Say once what the ledger names that no --layout of ours covers: nothing of it is withdrawn."""
        if left.difference(self._left):
            log.warning("left alone: no --layout covers it", services=len(left), first="=".join(min(left)))
        self._left = left
