"""How many endpoints each guard withdrew a moment ago, in this process and those before it."""

import threading
from collections import deque
from collections.abc import Callable

from rpcregistry.plan.guard import counts_of, text_of
from rpcregistry.reconcile.ports import LeaseNotes

WITHDRAWN = "rpcregistry.dev/withdrawn"  # on the Lease: GUARD=ENDPOINTS …


class Withdrawn:
    """The endpoints that each guard withdrew within the time of a confirmation; for any thread.

    The Lease keeps it beyond the process: otherwise, each of several leaders in a row could withdraw "few".
    What an earlier process noted counts from when this one asks first.  ``note`` has *renew* write it at
    once; without a leader election, it is written within a few seconds.  *now*: in seconds on any one clock.
    """

    def __init__(self, notes: LeaseNotes, renew: Callable[[], None]) -> None:
        self._notes = notes
        self._renew = renew
        self._lock = threading.Lock()  # protects what follows; held while the Lease is annotated
        # By guard: when, and how many endpoints; None before the first look.
        self._recent: dict[str, deque[tuple[float, int]]] | None = None
        self._shown = ""

    def within(self, guard: str, now: float, seconds: float) -> int:
        """How many endpoints *guard* withdrew in the last *seconds*."""
        with self._lock:
            recent = self._of(guard, now)
            while recent and recent[0][0] + seconds <= now:
                recent.popleft()
            self._show()
            return sum(count for _, count in recent)

    def ends(self, guard: str, now: float, seconds: float) -> float:
        """When the oldest of them are *seconds* old; infinity if there are none."""
        with self._lock:
            recent = self._of(guard, now)
            return recent[0][0] + seconds if recent else float("inf")

    def note(self, guard: str, now: float, count: int) -> None:
        """Note what *guard* is about to withdraw; raises a ``Failure`` if the Lease cannot be written."""
        with self._lock:
            self._of(guard, now).append((now, count))
            self._show()
        self._renew()

    def _of(self, guard: str, now: float) -> deque[tuple[float, int]]:
        if self._recent is None:
            self._shown = (self._notes.annotations or {}).get(WITHDRAWN, "")
            noted = counts_of(self._shown)
            self._recent = {name: deque([(now, count)]) for name, count in noted.items()}
        return self._recent.setdefault(guard, deque())

    def _show(self) -> None:
        counts = {name: sum(count for _, count in recent) for name, recent in (self._recent or {}).items()}
        if text_of(counts) != self._shown:
            self._shown = text_of(counts)
            self._notes.annotate(WITHDRAWN, self._shown or None)
