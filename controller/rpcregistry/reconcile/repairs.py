"""What others changed of ours and was put back: who is told of it, and how soon it is put back again.

Somebody who goes on changing it is not answered ever faster, and what happens to many services at once is
told once, about the Lease.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from rpcregistry.manifests import RPCSERVICES, regarding
from rpcregistry.model import Problem, Regarding, RpcService
from rpcregistry.plan.repairs import AT_ONCE, lately, pause
from rpcregistry.reconcile.ports import Clock, Events

log = structlog.get_logger(__name__)

NAMED_PATHS = 3  # in one note
REMEMBERED = 64  # of one service: more than a period has
MOST_SERVICES = 1000  # whose repairs are remembered


class _Made:
    """When each service was put back lately; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _at
        self._at: dict[str, tuple[float, ...]] = {}

    def note(self, name: str, now: float) -> None:
        """*name* was put back; where services are many, the one that was put back first is forgotten."""
        with self._lock:
            self._at[name] = (*self._at.get(name, ()), now)[-REMEMBERED:]
            if len(self._at) > MOST_SERVICES:
                del self._at[next(iter(self._at))]

    def at(self, name: str) -> tuple[float, ...]:
        """When it was, the earliest first."""
        with self._lock:
            return self._at.get(name, ())


class Repairs:
    """The repairs of the last minute.

    ``made`` belongs to the registry's thread; any thread may call the others.

    *lease*: what Events about the registry as a whole are about, where there is a Lease.
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
        self._made = _Made()
        self._told: dict[tuple[str, Problem], float] = {}  # of which service, and when last; the thread's

    def pause(self, name: str) -> float:
        """The seconds to wait before a service is put back once more."""
        made = self._made.at(name)
        return pause(made, self._clock.monotonic()) if made else 0.0

    def made(self, name: str, services: Collection[RpcService], disturbed: Mapping[str, str]) -> None:
        """Tell that *disturbed*, paths and what others did to them, was put back."""
        now = self._clock.monotonic()
        self._made.note(name, now)
        changes = [f"{path} ({what})" for path, what in sorted(disturbed.items())]
        log.warning("put back what others changed", service=name, znodes=len(changes), first=changes[0])
        problem = self._problem("Repaired", f"others changed this, and it was put back: {_listed(changes)}")
        self._told = {told: at for told, at in self._told.items() if lately([at], now)}
        if (name, problem) not in self._told and len(self._told) >= AT_ONCE:
            self.tell_of_all("Repaired", "others changed znodes of many services, and they were put back")
            return
        self._told[name, problem] = now
        for service in services:
            if not service.is_part:
                self._events.record(regarding(RPCSERVICES, service), problem, "Publish", warning=True)

    def tell_of_all(self, reason: str, message: str, salt: str = "") -> None:
        """Tell what is about no single service; on the same day again with another *salt*."""
        lease = self._lease()
        if lease:
            self._events.record(lease, self._problem(reason, message), "Publish", warning=True, salt=salt)

    def _problem(self, reason: str, message: str) -> Problem:
        """With the day in it: the same is told once, and anew on another day."""
        return Problem(reason, f"{self._clock.now():%Y-%m-%d}: {message}")


def _listed(changes: Sequence[str]) -> str:
    more = f" and {len(changes) - NAMED_PATHS} more" if len(changes) > NAMED_PATHS else ""
    return ", ".join(changes[:NAMED_PATHS]) + more
