"""Signs of life: what shows, from outside, that controllers keep a registry up.

The heartbeat is where they all leave one, whatever their Lease; a Lease is held by one that cannot reach
ZooKeeper just now, too.  Nobody's clock is read: what lives changes while we watch.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from controller.errors import Rejected, Unknown
from controller.kube import Absent, Kube
from controller.leases import CLUSTER_ID, LEASE, ZOOKEEPER, lease_from
from controller.plan.heartbeat import SURE, Candidate, Look
from controller.reconcile.lookout import Lookout
from controller.runtime.election import Lease

LEASES = "/apis/coordination.k8s.io/v1"
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


def find_leases(kube: Kube, namespaces: Iterable[str]) -> tuple[list[FoundLease], str]:
    """The Leases ``rpcregistry``, and what could not be looked at: "" where that is nothing.

    Those of all namespaces; where these may not be listed, those of *namespaces* that may be read.
    """
    query = {"fieldSelector": f"metadata.name={LEASE}"}
    try:
        listed = msgspec.json.decode(kube.read("list leases", f"{LEASES}/leases", query))
        return [_found(item) for item in listed["items"]], ""
    except Unknown:
        pass
    found, unread = [], []
    for namespace in sorted(set(namespaces)):
        try:
            found.append(_found(kube.raw("GET", f"{LEASES}/namespaces/{namespace}/leases/{LEASE}")))
        except Absent:
            continue
        except Unknown:
            unread.append(namespace)
    looked = sorted(set(namespaces) - set(unread))
    where = f"only those in {', '.join(looked)} were looked at" if looked else "none was looked at"
    return found, f"the Leases of all namespaces may not be listed (list leases.coordination.k8s.io): {where}"


def _found(manifest: dict[str, Any]) -> FoundLease:
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations") or {}
    return FoundLease(
        f"{metadata['namespace']}/{metadata['name']}",
        lease_from(manifest),
        annotations.get(CLUSTER_ID, ""),
        annotations.get(ZOOKEEPER, ""),
    )


class SignsOfLife:
    """Looks at the heartbeat and at Leases again and again, for one thread."""

    def __init__(
        self,
        lookout: Lookout,
        leases: Callable[[], Iterable[FoundLease]],
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
        for found in self._leases():
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
    said = ""
    while True:
        look, who = watching.look()
        if look is Look.CLEAR:
            return watching
        if look is Look.ALIVE and clock() >= until:
            raise Rejected(
                f"{who}: stop the controllers first (kubectl scale --replicas=0), then try again;"
                " --wait 60s waits for them"
            )
        if look is Look.ALIVE:
            watching = signs()
            what = f"{who}: waiting for it to stop, up to {wait:g} s"
        else:
            what = f"{who}, and did not say that it stopped: watching whether it lives, for {SURE:g} s"
        if what != said:
            say(what)
        said = what
        sleep(LOOK_AGAIN)


def to_standard_error(line: str) -> None:
    """Say what takes long: nobody's output."""
    sys.stderr.write(f"rpcregistry: {line}\n")
