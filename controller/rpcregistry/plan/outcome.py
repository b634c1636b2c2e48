"""What a plan reads and returns, for one service name in one layout."""

from collections.abc import Collection, Mapping

import msgspec

from rpcregistry.model import Problem
from rpcregistry.plan.ops import Op, Step, Znode


class ObservedZnodes(msgspec.Struct, frozen=True):
    """The service's znode, or the directory of its endpoints, and its ledger entry.

    Layouts with one znode an endpoint have more.  *missing*: the absent directories, topmost first.
    *directories*: those on the way to endpoints that vary by endpoint, by their paths below BASE.
    *children*: ours, by name.  *foreign*: the names of all others.  *previous*: the ledger entry of the
    cluster that this one takes over from.
    """

    znode: Znode | None
    ledger: Znode | None
    missing: tuple[str, ...] = ()
    directories: Collection[str] = ()
    children: Mapping[str, Znode] = {}
    foreign: Collection[str] = ()
    previous: Znode | None = None


class Outcome(msgspec.Struct, frozen=True):
    """The result of a plan.

    *refusal*: why we may not write the path, or not all of it.  *notes*: problems to record as Events.
    *removals*: steps to take after *steps* that only remove; ``znodes.plan`` applies the policy to them.
    *deferred*: names to remove once clients had the time to see the added ones.  *requeue*: plan again then.
    """

    steps: tuple[Step, ...] = ()
    refusal: Problem | None = None
    notes: tuple[Problem, ...] = ()
    deferred: Collection[str] = ()
    requeue: bool = False
    removals: tuple[Step, ...] = ()

    @property
    def at_rest(self) -> bool:
        """Whether nothing is to do, now or later, and nothing is to be said."""
        return not (self.steps or self.refusal or self.notes or self.deferred or self.requeue)

    @property
    def ops(self) -> tuple[Op, ...]:
        """All operations, in order."""
        return tuple(op for step in self.steps for op in step)
