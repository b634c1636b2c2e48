"""What planning begins with and what comes of it, for one service name in one layout."""

from collections.abc import Collection, Mapping

import msgspec

from rpcregistry.model import Problem
from rpcregistry.plan.ops import Op, Step, Znode


class ObservedZnodes(msgspec.Struct, frozen=True):
    """What was read: the service's znode, or the directory of its endpoints, and its ledger entry.

    For layouts with one znode an endpoint also: the directories that are *missing*, the topmost first;
    our *children*, by name; the names of *foreign* ones; and the ledger's *previous* entry, of the cluster
    that this one takes over from.
    """

    znode: Znode | None
    ledger: Znode | None
    missing: tuple[str, ...] = ()
    children: Mapping[str, Znode] = {}
    foreign: Collection[str] = ()
    previous: Znode | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What to write; *refusal*: why the path is not (fully) ours to write; *notes*: what to tell.

    *removals*: steps after *steps* that only take away, before the policy is asked.  *put_off*: names to
    remove once clients had the time to see what is added; *again*: plan anew then.
    """

    steps: tuple[Step, ...] = ()
    refusal: Problem | None = None
    notes: tuple[Problem, ...] = ()
    put_off: Collection[str] = ()
    again: bool = False
    removals: tuple[Step, ...] = ()

    @property
    def ops(self) -> tuple[Op, ...]:
        """All operations, in order."""
        return tuple(op for step in self.steps for op in step)
