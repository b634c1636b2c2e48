"""A part of the process: one controller of ``--controllers``, with all that it takes."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rpcregistry.reconcile.guard import Guard
from rpcregistry.run.sources import Source
from rpcregistry.runtime.crew import Crew
from rpcregistry.runtime.worker import Meter


class Works(Protocol):
    """What works a queue: a ``Controller``, or a loop of its own."""

    @property
    def depth(self) -> int: ...
    @property
    def failing(self) -> int: ...
    def resync(self) -> None: ...
    def start(self, crew: Crew, meter: Meter, stopped: Callable[[], bool]) -> None: ...
    def stop(self) -> None: ...


def nothing() -> None:
    """For a part that has nothing to do at some point."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a part runs, all of it complete.

    *sources* have to be listed before it starts.  *counted*: whose depth is the part's.  *forget* is called
    before each resync, *begin* after the first one and before anything works.  *may_look*: whether the guards
    can tell what is absent by now.  *early* is called as soon as the process leads, whatever was listed by
    then.  *why_not_ready*: what keeps the part from its work, or None.  *stopped*
    is called once all threads have ended, where the process ends in order.
    """

    name: str
    sources: Sequence[Source[Any]]
    works: Sequence[Works]
    counted: Sequence[Works]
    guards: Sequence[Guard[Any]] = ()
    forget: Callable[[], None] = nothing
    begin: Callable[[], None] = nothing
    may_look: Callable[[], bool] = lambda: True
    early: Callable[[Crew], None] = lambda _: None
    why_not_ready: Callable[[], str | None] = lambda: None
    stopped: Callable[[], None] = nothing

    @property
    def filled(self) -> bool:
        """Whether all that it reads was listed."""
        return all(source.filled for source in self.sources)

    @property
    def depth(self) -> int:
        """How many keys are due."""
        return sum(works.depth for works in self.counted)

    @property
    def failing(self) -> int:
        """How many keys failed when they were worked last."""
        return sum(works.failing for works in self.works)

    @property
    def held(self) -> int:
        """How much is absent, and waits for its confirmation."""
        return sum(len(guard.held) for guard in self.guards)

    def resync(self) -> None:
        """Look at everything once more."""
        self.forget()
        for works in self.works:
            works.resync()
        self.look()

    def look(self) -> None:
        """Have the guards look soon; those that cannot tell yet will look by themselves."""
        if self.may_look():
            for guard in self.guards:
                guard.poke()

    def start(self, crew: Crew, meter: Meter, stopping: threading.Event) -> None:
        """Start its threads, once it is ``filled``."""
        self.resync()
        self.begin()
        for guard in self.guards:
            crew.start(f"{self.name}-guard", guard.run)
        for works in self.works:
            works.start(crew, meter, stopping.is_set)

    def stop(self) -> None:
        """Let its threads end."""
        for works in self.works:
            works.stop()
        for guard in self.guards:
            guard.stop()
