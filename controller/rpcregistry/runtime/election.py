"""Leader election: the process leads that holds a Lease and renews it in time.

No two clocks are compared.  A follower takes the Lease over once it saw it unchanged for ``Timing.lease``
seconds.  The leader stops ``Timing.renew`` seconds after it *sent* its last successful renewal; that is
always earlier.  A Lease fences nothing: a write in progress when leadership ends needs a precondition of its
own.

If the server answers, and refuses to have the Lease renewed, leadership ends as early, but the process need
not.  While a fresh look shows that the Lease still names it, nobody else leads: it is *confined*.
"""

import math
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import msgspec
import structlog

from rpcregistry.errors import Conflict, Failure, Fenced, Rejected, Retry, Unanswered
from rpcregistry.model import Lease

log = structlog.get_logger(__name__)

OVER = float("-inf")  # on any clock


class Timing(msgspec.Struct, frozen=True):
    """Seconds: a Lease unchanged for *lease* is free; a leader that cannot renew it for *renew* stops.

    In between, the old leader's last requests end.  Each process looks every *retry* seconds.  So *renew* has
    room for a new connection and an answer of 4 s each.  A leader that is refused the renewal may rely for
    *fresh* on a look that showed the Lease to be its own.
    """

    lease: float = 15.0
    renew: float = 10.0
    retry: float = 1.5
    fresh: float = 5.0


class Wait(msgspec.Struct, frozen=True):
    """Another process holds the Lease; look again in *seconds* at the latest."""

    seconds: float


class Write(msgspec.Struct, frozen=True):
    """Write the Lease: it is ours if that succeeds."""

    lease: Lease


class Lost(msgspec.Struct, frozen=True):
    """The Lease was ours, and another process may hold it now."""

    reason: str


def decide(
    observed: Lease | None, unchanged: float, me: str, *, leading: bool, stamp: str, timing: Timing
) -> Wait | Write | Lost:
    """What process *me* does after it *observed* the Lease (None: there is none) for *unchanged* seconds.

    A deleted Lease is free as late as an unchanged one: its holder may not know yet.  *unchanged* is infinite
    if *me* never saw a Lease: it may have been deleted a moment ago, but *me* cannot know.  If the Lease
    names *me*, and *me* does not lead, it has no holder: a person wrote it, or a late call of our own.
    """
    ours = observed is not None and observed.holder == me
    if leading and observed is not None and not ours:
        return Lost(f"{observed.holder or 'nobody'} holds the Lease")
    released = observed is not None and observed.released
    if not leading and not released and unchanged < timing.lease:
        return Wait(timing.lease - unchanged)
    before = observed or Lease()
    taken_over = observed is not None and not ours
    return Write(
        Lease(
            holder=me,
            seconds=math.ceil(timing.lease),
            acquired=(before.acquired if ours else "") or stamp,
            renewed=stamp,
            transitions=(before.transitions + taken_over) % 2**31,  # an int32
            resource_version=before.resource_version,
        )
    )


class LeaseClient(Protocol):
    """The Lease in the API server.  A failing call should raise an ``errors.Failure`` within a few seconds.

    ``create`` and ``update`` return what was written.  ``update`` fails unless the Lease is still at
    ``resource_version``; it should leave alone all fields that ``Lease`` lacks.  *written_at*: when the last
    write left, on the elector's clock; minus infinity if that is not known.
    """

    @property
    def written_at(self) -> float: ...
    def get(self) -> Lease | None: ...
    def create(self, lease: Lease) -> Lease: ...
    def update(self, lease: Lease) -> Lease: ...


class Elector:
    """Becomes the leader, once, and remains it until it cannot renew the Lease in time.

    Two threads run it, ``run`` and ``watch``: the second one notices if the first is stuck in a call.  It
    calls *on_elected* and *on_lost* at most once each; neither may block.  *on_lost* gets the reason for
    which leadership ended, and should end the process.  ``release`` does not call it.

    *identity* must be new for each process.
    """

    def __init__(
        self,
        leases: LeaseClient,
        identity: str,
        *,
        on_elected: Callable[[], None],
        on_lost: Callable[[str], None],
        timing: Timing = Timing(),  # noqa: B008  (it is frozen)
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._leases = leases
        self._identity = identity
        self._on_elected = on_elected
        self._on_lost = on_lost
        self._timing = timing
        self._clock = clock
        self._now = now
        self._stopped = threading.Event()
        # Two locks, since a call may hang: ``leading`` must not wait for it.
        self._turn = threading.Lock()  # protects what follows, to still_since; held during calls
        self._observed: Lease | None = None
        self._observed_at = float("-inf")  # when it was first seen in this state
        self._up_to_date = False  # whether _observed is what our own write returned
        self._said: tuple[str, dict[str, str]] | None = None  # what was logged last
        self._last_holder = ""  # the last holder seen, other than us
        # Both are set once, before *on_elected* is called.
        self.predecessor = ""  # the process that we took it over from, or that released it; "" if unknown
        self.still_since = float("-inf")  # since when it was unchanged as we took it
        self._state = threading.Lock()  # protects what follows; never held during a call
        self._until: float | None = None  # when leadership ends unless it is renewed; None before it began
        self._confined_until = OVER  # when the process has to end, if it does not lead then
        self._refusal = ""  # why the Lease was not renewed, if the server refused it
        self._over = False

    @property
    def renewed(self) -> float | None:
        """When the Lease was renewed last, on the clock; None before the first time."""
        with self._state:
            return None if self._until is None else self._until - self._timing.renew

    @property
    def leading(self) -> bool:
        """Whether this process leads now.  After a long pause it does not."""
        with self._state:
            return not self._over and self._until is not None and self._clock() < self._until

    @property
    def confined(self) -> str:
        """Why this process only holds the Lease, and does not lead; ``""`` if it leads, or holds none."""
        with self._state:
            now = self._clock()
            if self._over or self._until is None or now < self._until or now >= self._confined_until:
                return ""
            return self._refusal

    @property
    def _holding(self) -> bool:
        """Whether this process leads, or is confined."""
        with self._state:
            return not self._over and self._until is not None and self._clock() < self._end

    @property
    def _end(self) -> float:
        """When the process has to end unless the Lease is renewed, or looked at; under ``_state``."""
        return self._confined_until if self._until is None else max(self._until, self._confined_until)

    def run(self) -> None:
        """Become the leader and renew the Lease, until it is lost or released."""
        try:
            while not self._stopped.is_set():
                self._stopped.wait(self.step())
        except BaseException as error:
            self._lose(f"cannot go on: {error!r}")
            raise

    def watch(self) -> None:
        """End leadership if the Lease was not renewed in time, even while ``run`` is stuck."""
        while not self._stopped.is_set():
            self._stopped.wait(self.check())

    def renew(self) -> None:
        """Renew the Lease now; raises an ``errors.Failure`` unless it is ours afterwards."""
        with self._turn:
            if self.leading:
                self._attempt()
            if not self.leading:
                raise Fenced("the Lease is not ours")

    def release(self) -> None:
        """Release the Lease, so that another process need not wait until it is free.

        Call it once nothing that only the leader may do is in progress.
        """
        with self._state:
            held = not self._over and self._until is not None
            self._over = True
        self._stopped.set()
        if not held or not self._turn.acquire(timeout=self._timing.retry):
            return
        try:
            lease = self._observed if self._up_to_date else self._leases.get()
            if lease and lease.holder == self._identity:
                stamp = self._stamp()
                given_up = msgspec.structs.replace(
                    lease, holder="", released_by=self._identity, seconds=1, renewed=stamp
                )
                self._leases.update(given_up)
                log.info("released the Lease")
        except Failure as failure:
            log.warning("could not release the Lease", reason=str(failure))
        finally:
            self._turn.release()

    def step(self) -> float:
        """Look at the Lease and write it if need be; return the seconds until the next look.

        A call that took long shortens them: on a slow connection, a leader has no time to lose.
        """
        began = self._clock()
        with self._turn:
            try:
                pause = self._attempt()
            except Failure as failure:
                event = "cannot renew the Lease" if self._holding else "cannot get the Lease"
                self._say(log.warning, event, reason=str(failure))
                pause = self._timing.retry * random.uniform(0.8, 1.0)
        return max(0.0, pause - (self._clock() - began)) if self._holding else pause

    def check(self) -> float:
        """End leadership if it was not renewed in time; return the seconds until the next look."""
        with self._state:
            left = self._timing.retry if self._until is None else self._end - self._clock()
        if left <= 0:
            self._lose(f"it could not be renewed for {self._timing.renew:g} s")
        return min(max(left, 0.0), self._timing.retry)

    def _attempt(self) -> float:
        try:
            return self._look_and_write()
        except (Conflict, Unanswered):  # perhaps a person only put a label on it, or an old connection broke
            return self._look_and_write()

    def _look_and_write(self) -> float:
        """Read the Lease, unless it is known to be as we wrote it, then do what ``decide`` says."""
        looked_at, self._up_to_date = None if self._up_to_date else self._clock(), False
        if looked_at is not None:
            try:
                self._observe(self._leases.get())
            except Failure:
                self._confine("", OVER)
                raise
        match decide(
            self._observed,
            self._clock() - self._observed_at,
            self._identity,
            leading=self._holding,
            stamp=self._stamp(),
            timing=self._timing,
        ):
            case Wait(seconds):
                self._say(log.info, "following", holder=self._observed.holder if self._observed else "")
                return min(seconds, self._timing.retry * random.uniform(0.8, 1.0))
            case Lost(reason):
                self._lose(reason)
            case Write(lease):
                if not self._holding:
                    self._note_predecessor()
                self._lead(self._write(lease, looked_at) + self._timing.renew)
        return self._timing.retry

    def _write(self, lease: Lease, looked_at: float | None) -> float:
        """Write the Lease; return when that was sent.  *looked_at*: when it was read, just now."""
        sent = self._clock()
        try:
            self._observe(
                self._leases.update(lease) if lease.resource_version else self._leases.create(lease)
            )
        except Conflict:
            raise
        except Unanswered:  # who knows what the Lease says now
            self._confine("", OVER)
            raise
        except (Rejected, Retry) as refusal:
            if looked_at is not None and lease.resource_version:
                self._confine(str(refusal), looked_at + self._timing.fresh)
            raise
        self._up_to_date = True
        return max(sent, self._leases.written_at)

    def _confine(self, refusal: str, until: float) -> None:
        """Note until when a *refusal* to have the Lease renewed need not end the process."""
        with self._state:
            self._refusal, self._confined_until = refusal, until
        self.check()

    def _note_predecessor(self) -> None:
        before = self._observed or Lease()
        self.predecessor = before.holder or before.released_by or self._last_holder
        self.still_since = self._observed_at

    def _observe(self, lease: Lease | None) -> None:
        """Note the Lease, and since when it has this content."""
        if lease and lease.holder not in ("", self._identity):
            self._last_holder = lease.holder
        if lease is None or self._observed is None:
            changed = lease is not self._observed
        else:
            same_version = msgspec.structs.replace(self._observed, resource_version=lease.resource_version)
            changed = lease != same_version
        if changed:
            self._observed_at = self._clock()
        self._observed = lease

    def _lead(self, until: float) -> None:
        self.check()  # a late answer does not restore leadership
        with self._state:
            if self._over or until <= self._clock():
                return
            elected = self._until is None
            self._until = until
        self._say(log.info, "holding the Lease", identity=self._identity)
        if elected:
            self._on_elected()

    def _lose(self, reason: str) -> None:
        with self._state:
            lost = not self._over and self._until is not None
            self._over = True
        self._stopped.set()
        if lost:
            log.error("lost the Lease", reason=reason)
            self._on_lost(reason)

    def _say(self, write: Callable[..., None], event: str, **about: str) -> None:
        """Log *event*, unless the last line said the same."""
        if self._said != (event, about):
            self._said = event, about
            write(event, **about)

    def _stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
