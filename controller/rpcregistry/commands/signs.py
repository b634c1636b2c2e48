"""Signs of life: whether controllers run for a registry, seen from outside.

Every controller writes the heartbeat, whichever Lease it has.  A controller that cannot reach ZooKeeper still
holds its Lease.  We compare no clocks: what lives changes while we watch.
"""

import sys
from collections.abc import Callable, Iterable

import msgspec

from rpcregistry.commands.reading import FoundLease, lease_of
from rpcregistry.errors import Rejected, Unknown
from rpcregistry.kube.client import Kube
from rpcregistry.leases import LEASE
from rpcregistry.manifests import LEASES
from rpcregistry.model import Lease
from rpcregistry.plan.heartbeat import SURE, Candidate, Look
from rpcregistry.reconcile.lookout import Lookout

LOOK_AGAIN = 0.5  # seconds


class Leases(msgspec.Struct, frozen=True):
    """The Leases that were *found*.  *unseen* says which we may not read, "" if none.

    *blind*: we may read none at all.
    """

    found: tuple[FoundLease, ...]
    unseen: str = ""
    blind: bool = False


def find_leases(kube: Kube, namespaces: Iterable[str]) -> Leases:
    """Find the Leases ``rpcregistry`` of all namespaces; of *namespaces* only, if we may not list all."""
    query = {"fieldSelector": f"metadata.name={LEASE}"}
    try:
        listed = msgspec.json.decode(kube.read("list leases", LEASES.path(), query))
        return Leases(tuple(map(FoundLease.of, listed["items"])))
    except Unknown:
        pass
    found: list[FoundLease | None] = []
    unread = []
    for namespace in sorted(set(namespaces)):
        try:
            found.append(lease_of(kube, namespace))
        except Unknown:
            unread.append(namespace)
    looked = sorted(set(namespaces) - set(unread))
    where = f"only those in {', '.join(looked)} were looked at" if looked else "none was looked at"
    unseen = f"the Leases of all namespaces may not be listed (list leases.coordination.k8s.io): {where}"
    return Leases(tuple(filter(None, found)), unseen, blind=not looked)


class SignsOfLife:
    """Watches the heartbeat and Leases by repeated ``look``; for one thread.

    *leases* returns this registry's Leases, given the name of the one in the heartbeat.
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
        self._seen: dict[str, tuple[Lease, float]] = {}  # by name: the Lease as first seen, and when
        self._candidate = Candidate(me="", started=clock())

    def look(self) -> tuple[Look, str]:
        """Return whether a controller lives, and which; ``Rejected`` if it is of a version too new for us."""
        look, seen = self._lookout.judge(self._candidate)
        if seen.found and seen.found.too_new:
            raise Rejected(seen.found.too_new)
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
            # Only the heartbeat can show it: a controller that has just taken a Lease will beat soon.
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
        # We cannot wait for hours: a Lease of such a duration counts as held until somebody deletes it.
        return Look.ALIVE if lease.seconds > SURE else Look.CLEAR


def require_nobody(
    signs: Callable[[], SignsOfLife],
    wait: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    say: Callable[[str], None],
) -> SignsOfLife:
    """Return once no controller shows signs of life; ``Rejected`` if one does after *wait* seconds."""
    until = clock() + wait
    watching = signs()
    said: set[str] = set()
    lived = float("-inf")  # when a controller last showed a sign of life
    while True:
        look, who = watching.look()
        if look is Look.CLEAR:
            return watching
        if look is Look.ALIVE:
            lived = clock()
        # If none has lived lately, go on watching: within SURE seconds that shows whether one does.
        if clock() >= until and clock() - lived < SURE:
            raise Rejected(
                f"{who}: stop the controllers first (kubectl scale --replicas=0), then try again;"
                " --wait 60s waits for them"
            )
        if look is Look.ALIVE:
            watching = signs()  # watch anew from here on: it may stop now
            what = f"{who}: waiting for it to stop, up to {wait:g} s"
        elif lived == float("-inf"):
            what = f"{who}: watching for {SURE:g} s whether a controller lives"
        else:
            what = ""  # it lived a moment ago, and we printed that
        if what and what not in said:
            say(what)
            said.add(what)
        sleep(LOOK_AGAIN)


def to_standard_error(line: str) -> None:
    """Print a progress message, which is no output of the command."""
    sys.stderr.write(f"rpcregistry: {line}\n")
