"""The heartbeat: a znode by which whoever reads the registry can tell how fresh it is.

    /rpcregistry/heartbeat/<cluster-id>    {"at":"2026-11-21T02:02:02Z","waiting":0}

*at* is when the leader wrote it last, *waiting* how many services had changes then that were not written yet.
Old, it means that nobody keeps the registry up: what it holds was true when it was written.
"""

import msgspec

from controller.plan.ops import Op, Znode, write

HEARTBEATS = "/rpcregistry/heartbeat"


class Heartbeat(msgspec.Struct, frozen=True):
    """What the znode holds."""

    at: str
    waiting: int


def path(cluster_id: str) -> str:
    """Where the heartbeat of a cluster lies."""
    return f"{HEARTBEATS}/{cluster_id}"


def beat(path: str, observed: Znode | None, now: str, waiting: int) -> tuple[Op, ...]:
    """What writes the heartbeat."""
    return write(path, msgspec.json.encode(Heartbeat(now, waiting)), observed)
