"""Signs of life: what shows, from outside, that controllers keep a registry up.

The heartbeat is where they all leave one, whatever their Lease; a Lease is held by one that cannot reach
ZooKeeper just now, too.  Nobody's clock is read: what lives changes while we watch.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from rpcregistry.errors import Absent, Rejected, Unknown
from rpcregistry.kube.client import Kube
from rpcregistry.leases import CLUSTER_ID, LEASE, ZOOKEEPER
from rpcregistry.manifests import LEASES, annotations_of, read_lease
from rpcregistry.model import Lease
from rpcregistry.plan.heartbeat import SURE, Candidate, Look
from rpcregistry.reconcile.lookout import Lookout

LOOK_AGAIN = 0.5  # seconds


class FoundLease(msgspec.Struct, frozen=True):
    """A Lease *name* (``NAMESPACE/NAME``), and which registry its holder says that it keeps up ("": none)."""

    name: str
    lease: Lease
    cluster_id: str = ""
    zookeeper: str = ""

    def is_of(self, cluster_id: str, zookeeper: str) -> bool:
        """Whether it may be a controller's of this registry: unless it names another one."""
        return self.cluster_id in ("", cluster_id) and self.zookeeper in ("", zookeeper)


class Leases(msgspec.Struct, frozen=True):
    """The Leases that were *found*, and what could not be looked at: *unseen*, "" where that is nothing.

    *blind*: not one could be looked at.
    """

    found: tuple[FoundLease, ...]
    unseen: str = ""
    blind: bool = False


def find_leases(kube: Kube, namespaces: Iterable[str]) -> Leases:
    """The Leases ``rpcregistry`` of all namespaces; where those may not be listed, those of *namespaces*."""
    query = {"fieldSelector": f"metadata.name={LEASE}"}
    try:
        listed = msgspec.json.decode(kube.read("list leases", LEASES.path(), query))
        return Leases(tuple(_found(item) for item in listed["items"]))
    except Unknown:
        pass
    found, unread = [], []
    for namespace in sorted(set(namespaces)):
        try:
            found.append(_found(kube.raw("GET", LEASES.path(namespace, LEASE))))
        except Absent:
            continue
        except Unknown:
            unread.append(namespace)
    looked = sorted(set(namespaces) - set(unread))
    where = f"only those in {', '.join(looked)} were looked at" if looked else "none was looked at"
    unseen = f"the Leases of all namespaces may not be listed (list leases.coordination.k8s.io): {where}"
    return Leases(tuple(found), unseen, blind=not looked)


def _found(manifest: dict[str, Any]) -> FoundLease:
    metadata, annotations = manifest["metadata"], annotations_of(manifest)
    return FoundLease(
        f"{metadata['namespace']}/{metadata['name']}",
        read_lease(manifest),
        annotations.get(CLUSTER_ID, ""),
        annotations.get(ZOOKEEPER, ""),
    )


class SignsOfLife:
    """Looks at the heartbeat and at Leases again and again, for one thread.

    *leases*: those of this registry, given the name of the one that its heartbeat names.
    """

    def __init__(
        self,
        lookout: Lookout,
        leases: Callable[[str], Leases],
        clock: Callable[[], float],
    ) -> None:
        self._lookout = lookout
        self._leases = leases
        self._clock = clock
        self._seen: dict[str, tuple[Lease, float]] = {}  # by the Lease's name: as it was first seen, and when
        self._candidate = Candidate(me="", started=clock())

    def look(self) -> tuple[Look, str]:
        """Whether somebody lives, and who: "" where nobody can be named."""
        look, seen = self._lookout.judge(self._candidate)
        holder = seen.found.holder if seen.found else ""
        who = (
            f"{holder} holds the Lease {seen.found.lease}"
            if seen.found and holder
            else "its heartbeat goes on"
        )
        if look is Look.ALIVE:
            return look, who
        who = f"{who}, and did not say that it stopped"
        leases = self._leases(seen.found.lease if seen.found else "")
        if leases.blind and self._clock() - max(seen.since, self._candidate.started) < SURE:
            # Nothing but the heartbeat can tell: one who has just taken a Lease will beat soon.
            look, who = Look.WATCH, "no Lease can be looked at"
        for found in leases.found:
            holds = f"{found.lease.holder} holds the Lease {found.name}"
            match self._judge(found):
                case Look.ALIVE:
                    return Look.ALIVE, holds
                case Look.WATCH:
                    look, who = Look.WATCH, holds
        return look, who

    def _judge(self, found: FoundLease) -> Look:
        lease, now = found.lease, self._clock()
        if not lease.holder:
            self._seen.pop(found.name, None)
            return Look.CLEAR
        first, since = self._seen.setdefault(found.name, (lease, now))
        if (first.holder, first.renewed) != (lease.holder, lease.renewed):
            return Look.ALIVE
        if now - since < min(lease.seconds, SURE):
            return Look.WATCH
        # Nobody waits for hours: a Lease that lasts that long is held until somebody deletes it.
        return Look.ALIVE if lease.seconds > SURE else Look.CLEAR


def require_nobody(
    signs: Callable[[], SignsOfLife],
    wait: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    say: Callable[[str], None],
) -> SignsOfLife:
    """Return once nothing shows that a controller lives; ``Rejected`` if one does after *wait* seconds."""
    until = clock() + wait
    watching = signs()
    said: set[str] = set()
    lived = float("-inf")  # when somebody was last seen to live
    while True:
        look, who = watching.look()
        if look is Look.CLEAR:
            return watching
        if look is Look.ALIVE:
            lived = clock()
        if clock() >= until and clock() - lived < SURE:
            raise Rejected(
                f"{who}: stop the controllers first (kubectl scale --replicas=0), then try again;"
                " --wait 60s waits for them"
            )
        if look is Look.ALIVE:
            watching = signs()
            what = f"{who}: waiting for it to stop, up to {wait:g} s"
        elif lived == float("-inf"):
            what = f"{who}: watching for {SURE:g} s whether a controller lives"
        else:
            what = ""  # it lived a moment ago, and that was said
        if what and what not in said:
            say(what)
            said.add(what)
        sleep(LOOK_AGAIN)


def to_standard_error(line: str) -> None:
    """Say what takes long: nobody's output."""
    sys.stderr.write(f"rpcregistry: {line}\n")
