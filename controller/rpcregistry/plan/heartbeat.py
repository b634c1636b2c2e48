"""The heartbeat: a znode that shows how fresh the registry is, and which process keeps it up.

    /rpcregistry/heartbeat/<cluster-id>    {"at":"2026-11-21T02:02:02Z","waiting":0,
                                           "lease":"rpcregistry/rpcregistry","holder":"rpcregistry-5d8_1f",
                                           "seen":{"versions":{"pods":4711, …}, …}, …}

*at*: when the leader wrote it last.  *waiting*: how many services had unwritten changes then.  If the
heartbeat is old, no process keeps the registry up: its contents were true when they were written.

It is also the one sign of life that every controller of a cluster id leaves in the same place, wherever it
runs and whichever Lease it holds.  A heartbeat is *alive* if its znode changes while we watch it: we read no
clock of another machine.

*seen* is what the next process has to know of the API server (``plan.restored``).  Each transaction brings it
up to date, and leaves all else as the last beat wrote it.
"""

from collections.abc import Mapping
from enum import Enum

import msgspec

from rpcregistry.plan.ops import ANY, Op, Set, Znode, write
from rpcregistry.plan.restored import Record

HEARTBEATS = "/rpcregistry/heartbeat"
PERIOD = 10.0  # seconds between two beats
# Of all that this version leaves outside of its process.  It grows where an older version could no longer
# keep up what a newer one wrote.
FORMAT = 1
SURE = 25.0  # seconds without a beat, after which we take the writer for dead
# Seconds after the Lease's last renewal in which its holder may still beat: it renews every 1.5 s, and we
# look as often.  A later beat shows that the holder lives and renews another Lease: our etcd is a copy.
AFTER_RENEWAL = 5.0


class Oldest(msgspec.Struct, frozen=True, rename="camel"):
    """The change that had waited longest: of *service*, for *seconds*.

    *listed*: a status lists it, so it waited for ZooKeeper; else for the API server.
    """

    service: str
    seconds: float
    listed: bool = False


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the znode holds; 0.1.0 writes *at* and *waiting* only.

    *lease* (``NAMESPACE/NAME``) and *holder* name the process that writes it, *version* is its version; the
    others are its flags.  *guard_confirm*: seconds for which absences are held; 0 if unknown.  *format*:
    ``FORMAT`` of that version.  *stopped*: the holder shut down in order, and this was its last write.
    *seen*: how far the API server had come.  *unread*: resources that the holder may not read, and why.
    *oldest*: None if no change waits.
    """

    at: str = ""
    waiting: int = 0
    lease: str = ""
    holder: str = ""
    layouts: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    pod_label_selector: str = ""
    require_register_permission: bool = False
    guard_confirm: float = 0.0
    version: str = ""
    stopped: bool = False
    format: int = FORMAT
    seen: Record = Record()
    unread: Mapping[str, str] = {}
    oldest: Oldest | None = None

    @property
    def too_new(self) -> str:
        """Why this version cannot keep up what the writer left; ``""`` if it can."""
        if self.format <= FORMAT:
            return ""
        return (
            f"version {self.version or 'unknown'} keeps up this registry in format {self.format}, and this"
            f" version can write format {FORMAT} only: run that version or a newer one"
        )


def path(cluster_id: str) -> str:
    """The path of a cluster's heartbeat."""
    return f"{HEARTBEATS}/{cluster_id}"


def decode(data: bytes) -> Heartbeat:
    """Decode a heartbeat; unreadable bytes count as an older version's.

    >>> decode(b'{"at":"2026-11-21T02:02:02Z","waiting":1}').waiting, decode(b"?").lease
    (1, '')
    """
    try:
        return msgspec.json.decode(data, type=Heartbeat)
    except msgspec.MsgspecError:
        return Heartbeat()


def beat(path: str, observed: Znode | None, heartbeat: Heartbeat) -> tuple[Op, ...]:
    """The operation that writes the heartbeat."""
    return write(path, msgspec.json.encode(heartbeat), observed)


def renew(cluster_id: str, heartbeat: Heartbeat) -> Op:
    """The operation that replaces the heartbeat of a cluster, whichever it is; for who holds the fence."""
    return Set(path(cluster_id), msgspec.json.encode(heartbeat), ANY)


class Observation(msgspec.Struct, frozen=True):
    """A heartbeat as this process observed it.

    *znode*: None if there was none.  *since*: when we first saw it so.  *moved*: when we last saw it change,
    or minus infinity.  Both in seconds on the observer's clock.
    """

    znode: Znode | None
    since: float
    moved: float = float("-inf")

    @property
    def found(self) -> Heartbeat | None:
        """Its decoded contents."""
        return decode(self.znode.data) if self.znode else None


def observe(before: Observation | None, znode: Znode | None, now: float) -> Observation:
    """The observation after a read of *znode* at *now*."""
    if before is None:
        return Observation(znode, now)
    return before if before.znode == znode else Observation(znode, now, now)


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """The process *me* that is about to write, and when it *started* to look.

    *lease*: the Lease that it holds, or "".  *predecessor*: the former holder, which lost or released that
    Lease, or "" if unknown.  *still_since*: since when we had seen the Lease unchanged.
    """

    me: str
    started: float
    lease: str = ""
    predecessor: str = ""
    still_since: float = float("-inf")


class Look(Enum):
    """Does another process write?  No (*CLEAR*), yes (*ALIVE*), or not known yet (*WATCH*)."""

    CLEAR = "clear"
    ALIVE = "alive"
    WATCH = "watch"


def judge(seen: Observation, candidate: Candidate, now: float) -> Look:
    """Whether *candidate* may take the fence.

    Two heartbeats cost no wait: an older version's, which names no Lease, and one of our own Lease, whose
    holder has lost it.  Any other has to stand still for ``SURE`` seconds.
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
