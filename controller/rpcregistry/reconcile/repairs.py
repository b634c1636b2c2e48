"""Repairs of znodes that others changed: their Events, and the pause before the next one.

Repeated edits are repaired with growing back-off.  If many services are repaired at once, one Event about the
Lease reports them all.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from rpcregistry.manifests import RPCSERVICES, regarding
from rpcregistry.model import Problem, Regarding, RpcService
from rpcregistry.plan.repairs import AT_ONCE, lately, pause
from rpcregistry.reconcile.lately import Lately
from rpcregistry.reconcile.ports import Clock, Events

log = structlog.get_logger(__name__)

NAMED_PATHS = 3  # in one note


class Repairs:
    """The repairs of the last minute.

    ``made`` belongs to the registry's thread; any thread may call the others.

    *lease*: the object of Events about the registry as a whole; None if there is no Lease.
    """

    def __init__(
        self,
        events: Events,
        lease: Callable[[], Regarding | None],
        clock: Clock,
    ) -> None:
        self._events = events
        self._lease = lease
        self._clock = clock
        self._made = Lately()
        self._recorded: dict[
            tuple[str, Problem], float
        ] = {}  # by service: when last; the registry's thread's

    def pause(self, name: str) -> float:
        """The seconds to wait before the next repair of a service."""
        made = self._made.at(name)
        return pause(made, self._clock.monotonic()) if made else 0.0

    def made(self, name: str, services: Collection[RpcService], disturbed: Mapping[str, str]) -> None:
        """Report that *disturbed*, paths and what others did to them, was repaired."""
        now = self._clock.monotonic()
        self._made.note(name, now)
        changes = [f"{path} ({what})" for path, what in sorted(disturbed.items())]
        log.warning("repaired what others changed", service=name, znodes=len(changes), first=changes[0])
        problem = self._problem(
            "Repaired", f"others changed znodes of this service, and they were repaired: {_listed(changes)}"
        )
        self._recorded = {event: at for event, at in self._recorded.items() if lately([at], now)}
        if (name, problem) not in self._recorded and len(self._recorded) >= AT_ONCE:
            self.record_on_lease("Repaired", "others changed znodes of many services, and they were repaired")
            return
        self._recorded[name, problem] = now
        for service in services:
            if not service.is_part:
                self._events.record(regarding(RPCSERVICES, service), problem, "Publish", warning=True)

    def record_on_lease(self, reason: str, message: str, salt: str = "") -> None:
        """Record an Event about no single service; another *salt* repeats it on the same day."""
        lease = self._lease()
        if lease:
            self._events.record(lease, self._problem(reason, message), "Publish", warning=True, salt=salt)

    def _problem(self, reason: str, message: str) -> Problem:
        """With the date in the message: the recorder then repeats an Event on another day only."""
        return Problem(reason, f"{self._clock.now():%Y-%m-%d}: {message}")


def _listed(changes: Sequence[str]) -> str:
    more = f" and {len(changes) - NAMED_PATHS} more" if len(changes) > NAMED_PATHS else ""
    return ", ".join(changes[:NAMED_PATHS]) + more
