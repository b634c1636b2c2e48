"""A part of the process: one controller of ``--controllers``, with its sources, queues and guards."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rpcregistry.layouts import Layout
from rpcregistry.model import LocalService, ObjectKey, Problem
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.reconcile.guard import Guard
from rpcregistry.run.sources import Source
from rpcregistry.runtime.crew import Crew
from rpcregistry.runtime.worker import Meter
from rpcregistry.telemetry.metrics import Reading


class Works(Protocol):
    """The workers of a queue: a ``Controller``, or a loop of its own."""

    @property
    def depth(self) -> int: ...
    @property
    def failing(self) -> int: ...
    def resync(self) -> None: ...
    def start(self, crew: Crew, meter: Meter, stopped: Callable[[], bool]) -> None: ...
    def stop(self) -> None: ...


class Znodes(Protocol):
    """What a part knows of ZooKeeper, for those who only look; for any thread."""

    def found(self, name: str) -> int | None:
        """How many endpoints of ours clients find of a service; None: not known, or not compared yet."""

    def views(self, name: str) -> Sequence[tuple[Layout, ObservedZnodes | None]] | None:
        """The znodes of a service, by layout, None where not known; None before all was compared."""

    def read_at(self, layout: Layout, name: str) -> float | None:
        """When the znodes of a service in *layout* were read last, by the monotonic clock; None: never."""

    @property
    def left(self) -> Collection[tuple[str, str]]:
        """The layout names and paths in the ledger that no ``--layout`` covers."""

    @property
    def compared(self) -> float | None: ...
    @property
    def beaten(self) -> float | None: ...
    @property
    def differ(self) -> int: ...


class NodeServices(Protocol):
    """What a part knows of the Services of LocalServices; for any thread."""

    def problems(self, local: ObjectKey) -> Mapping[str, Problem]: ...
    def held(self, local: LocalService) -> set[str]: ...


def nothing() -> None:
    """Do nothing: a part's default callback."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a part runs, all of it complete.

    *sources* have to be listed before the part starts.  *counted*: the works whose depth is the part's.

    *early* is called once the process leads, before the lists are complete.  *forget* is called before each
    resync, *begin* after the first one and before any worker starts.  *stopped* is called after the end of
    all threads, if the process stops in order.

    *guards*, by what they guard.  *may_look*: whether they can already judge what is absent.
    *silent_nodes*: how many Nodes are silent, while something is held without time limit for that.
    *readings*: gauges of the part's own, by name.  *why_not_ready*: what keeps the part from its work, or
    None.  *znodes* and *node_services*: what the page shows of them, None if the part knows nothing of it.
    """

    name: str
    sources: Sequence[Source[Any]]
    works: Sequence[Works]
    counted: Sequence[Works]
    guards: Mapping[str, Guard[Any]] = field(default_factory=dict)
    forget: Callable[[], None] = nothing
    begin: Callable[[], None] = nothing
    may_look: Callable[[], bool] = lambda: True
    silent_nodes: Callable[[], int] = lambda: 0
    early: Callable[[Crew], None] = lambda _: None
    why_not_ready: Callable[[], str | None] = lambda: None
    stopped: Callable[[], None] = nothing
    readings: Mapping[str, Reading] = field(default_factory=dict)
    znodes: Znodes | None = None
    node_services: NodeServices | None = None

    @property
    def filled(self) -> bool:
        """Whether all its sources were listed."""
        return all(source.filled for source in self.sources)

    @property
    def depth(self) -> int:
        """How many keys are due."""
        return sum(works.depth for works in self.counted)

    @property
    def failing(self) -> int:
        """How many keys failed in their last attempt."""
        return sum(works.failing for works in self.works)

    @property
    def held(self) -> int:
        """How many absences wait for their confirmation."""
        return sum(len(guard.held) for guard in self.guards.values())

    def resync(self) -> None:
        """Reconcile every key once more, and have the guards look."""
        self.forget()
        for works in self.works:
            works.resync()
        self.look()

    def look(self) -> None:
        """Have the guards look soon; if they cannot judge yet, they will look by themselves."""
        if self.may_look():
            for guard in self.guards.values():
                guard.wake()

    def start(self, crew: Crew, meter: Meter, stopping: threading.Event) -> None:
        """Start its threads, once it is ``filled``."""
        self.resync()
        self.begin()
        for guard in self.guards.values():
            crew.start(f"{self.name}-guard", guard.run)
        for works in self.works:
            works.start(crew, meter, stopping.is_set)

    def stop(self) -> None:
        """Let its threads end."""
        for works in self.works:
            works.stop()
        for guard in self.guards.values():
            guard.stop()
