"""The heartbeat: a znode that tells how fresh the registry is, and who keeps it up.

    /rpcregistry/heartbeat/<cluster-id>    {"at":"2026-11-21T02:02:02Z","waiting":0,
                                           "lease":"rpcregistry/rpcregistry","holder":"rpcregistry-5d8_1f", …}

*at* is when the leader wrote it last, *waiting* how many services had changes then that were not written yet.
Old, it means that nobody keeps the registry up: what it holds was true when it was written.

It is also the only sign of life that every controller of a cluster id leaves in one place, wherever it runs
and whichever Lease it holds.  A heartbeat is *alive* when its znode changes while somebody watches it: no
clock of another machine is read.
"""

from enum import Enum

import msgspec

from rpcregistry.plan.ops import Op, Znode, write

HEARTBEATS = "/rpcregistry/heartbeat"
PERIOD = 10.0  # seconds between two beats
SURE = 25.0  # seconds without a beat, after which nobody beats any more
# A Lease that is renewed every 2 s stands still: its holder beat last no later than this, as a look every 2
# s sees it.  One that beats later lives, and renews another Lease: the etcd that holds ours is a copy.
AFTER_RENEWAL = 5.0


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the znode holds; of an older version's, *at* and *waiting* only.

    *lease* (``NAMESPACE/NAME``) and *holder* say who writes it, the others with which flags.  *stopped*:
    the holder ended in order, and wrote this last.
    """

    at: str = ""
    waiting: int = 0
    lease: str = ""
    holder: str = ""
    layouts: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    pod_label_selector: str = ""
    require_register_permission: bool = False
    stopped: bool = False


def path(cluster_id: str) -> str:
    """Where the heartbeat of a cluster lies."""
    return f"{HEARTBEATS}/{cluster_id}"


def decode(data: bytes) -> Heartbeat:
    """What a heartbeat says; what cannot be read is an older version's.

    >>> decode(b'{"at":"2026-11-21T02:02:02Z","waiting":1}').waiting, decode(b"?").lease
    (1, '')
    """
    try:
        return msgspec.json.decode(data, type=Heartbeat)
    except msgspec.MsgspecError:
        return Heartbeat()


def beat(path: str, observed: Znode | None, heartbeat: Heartbeat) -> tuple[Op, ...]:
    """What writes the heartbeat."""
    return write(path, msgspec.json.encode(heartbeat), observed)


class Sighting(msgspec.Struct, frozen=True):
    """A heartbeat as it was seen: *znode*, None where there was none, *since* when (the watcher's seconds).

    *moved*: when it was last seen to change; minus infinity where it never was.
    """

    znode: Znode | None
    since: float
    moved: float = float("-inf")

    @property
    def found(self) -> Heartbeat | None:
        """What it says."""
        return decode(self.znode.data) if self.znode else None


def sight(before: Sighting | None, znode: Znode | None, now: float) -> Sighting:
    """What is known once the heartbeat was read *now*."""
    if before is None:
        return Sighting(znode, now)
    return before if before.znode == znode else Sighting(znode, now, now)


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """The process that is to write, *me*, and when it began to look.

    *lease*: the one that it holds, or "" where it holds none; *predecessor*: from whom it took that over,
    or who gave it back, or "" where nobody knows; *still_since*: since when it had seen that Lease
    unchanged then.
    """

    me: str
    started: float
    lease: str = ""
    predecessor: str = ""
    still_since: float = float("-inf")


class Look(Enum):
    """What the heartbeat says of others: nobody writes (*CLEAR*), somebody does (*ALIVE*), or *WATCH* on."""

    CLEAR = "clear"
    ALIVE = "alive"
    WATCH = "watch"


def judge(seen: Sighting, candidate: Candidate, now: float) -> Look:
    """Whether *candidate* may take the fence.

    A heartbeat of an older version says nothing about its Lease, and one of our own Lease has ended with its
    holder's lease: neither costs a second.  Any other has to be still for ``SURE``.
    """
    found = seen.found
    if found is None or found.stopped:
        return Look.CLEAR
    if candidate.lease and _is_predecessors(found, candidate):
        if seen.moved <= candidate.still_since + AFTER_RENEWAL:
            return Look.CLEAR
    elif candidate.lease and not found.lease:
        return Look.CLEAR
    if seen.moved >= candidate.started:
        return Look.ALIVE
    return Look.CLEAR if now - seen.since >= SURE else Look.WATCH


def _is_predecessors(found: Heartbeat, candidate: Candidate) -> bool:
    return found.lease == candidate.lease and found.holder in {candidate.me, candidate.predecessor} - {""}
