"""How a pod's change ends, in each layout, and how long its parts took."""

from collections.abc import Sequence
from enum import Enum

import msgspec

from rpcregistry.plan.outcome import Outcome


class Ending(Enum):
    """A znode was written; nothing was to write; the API server or ZooKeeper, or the plan, refuses it."""

    WRITTEN = "written"
    NOTHING = "nothing"
    REFUSED = "refused"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A change of *service* that ended, in one *layout* (``""``: it reached none).

    *at*: when it ended, RFC 3339.  Seconds: *status*, from when the pod's change was seen until a status
    listed it; *wait*, until its write began; *write*, until the znode was written.  Each is 0 if the change
    did not get that far.
    """

    at: str
    service: str
    layout: str
    ending: Ending
    status: float = 0.0
    wait: float = 0.0
    write: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.status + self.wait + self.write


class Waits(msgspec.Struct, frozen=True, order=True):
    """A change of *service* that has not ended, *since* a time of our clock.

    *listed*: a status lists it, so it waits for ZooKeeper; else for the API server.
    """

    since: float
    service: str
    listed: bool


def ending(wrote: bool, outcomes: Sequence[Outcome]) -> Ending | None:
    """How a change ends in a layout once *outcomes* were written; None if something of it is put off.

    *wrote*: whether a znode of the layout was written for it.
    """
    if any(outcome.requeue for outcome in outcomes):
        return None
    if wrote:
        return Ending.WRITTEN
    return Ending.REFUSED if any(outcome.refusal for outcome in outcomes) else Ending.NOTHING
