"""What people see of holds on the Lease, and how they release them there."""

import threading
from collections.abc import Callable, Collection, Mapping

import msgspec

from rpcregistry.model import HELD, RELEASE, Problem, Regarding
from rpcregistry.plan import held as planning
from rpcregistry.plan.guard import LEASE, Words, lease_word
from rpcregistry.reconcile.ports import Clock, Events, LeaseNotes


class WithoutObject(msgspec.Struct, frozen=True):
    """What of a service is held without an object: so many (of what the guard counts), *until* when.

    *until*: seconds, on the guard's clock.
    """

    count: int
    until: float


class HeldOnLease:
    """The Lease's annotations and Events about holds; any thread may call it.

    *guarded*: the kinds of which this process ``show``s what is held without an object.  *lease*: what Events
    are about, None while there is no Lease.
    """

    def __init__(
        self,
        *,
        guarded: Collection[str],
        notes: LeaseNotes,
        lease: Callable[[], Regarding | None],
        events: Events,
        clock: Clock,
    ) -> None:
        self._guarded = guarded
        self._notes = notes
        self._lease = lease
        self._events = events
        self._clock = clock
        self._lock = threading.Lock()  # protects _shown and _told, until the Lease is to say so
        self._shown: dict[str, Collection[str]] = {}  # by what is gone: the services
        # By what is gone, and service: the count in the last Event.
        self._told: dict[tuple[str, str], int] = {}

    def words(self, services: Collection[str]) -> Words:
        """The Lease's word for *services*; none before the Lease was seen, so that an old one is not new."""
        annotations = self._notes.annotations
        return {} if annotations is None else {LEASE: lease_word(annotations.get(RELEASE, ""), services)}

    def show(self, gone: str, held: Mapping[str, WithoutObject], leaving: Collection[str] = ()) -> None:
        """Have the Lease name the services that are *held*, and tell of new ones.

        *gone*: what is missing, a key of ``plan.held.GONE``; *leaving*: services that are let go, and not
        withdrawn yet.
        """
        with self._lock:
            self._shown[gone] = {*held, *leaving}
            names = self._found().union(*self._shown.values())
            self._notes.annotate(HELD, planning.annotation(names))
            self._tell(gone, held)

    def _found(self) -> frozenset[str]:
        """What an earlier process had the Lease name, until each of our guards has looked for itself."""
        annotations = self._notes.annotations
        if annotations is None or self._shown.keys() >= set(self._guarded):
            return frozenset()
        return planning.named(annotations.get(HELD, ""))[0]

    def _tell(self, gone: str, held: Mapping[str, WithoutObject]) -> None:
        """Tell what came to be held, and what has grown tenfold since it was told."""
        lease = self._lease()
        if lease is None:
            return
        told = {name: self._told.get((gone, name), 0) for name in held}
        news = {name: item for name, item in held.items() if planning.is_news(told[name], item.count)}
        counts = {name: item.count for name, item in news.items()}
        others = {key: count for key, count in self._told.items() if key[0] != gone}
        self._told = others | {(gone, name): count for name, count in (told | counts).items()}
        if news:
            seconds = max(item.until for item in news.values()) - self._clock.monotonic()
            problem = Problem("Held", planning.note(gone, counts, self._clock.stamp(seconds)))
            self._events.record(lease, problem, "Withdraw", warning=True)
