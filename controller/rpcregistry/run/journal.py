"""The journal: what became of each change of a pod, and how long it took to reach clients."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rpcregistry.errors import Partial, Rejected
from rpcregistry.model import ServiceKey
from rpcregistry.plan.journal import Ending, Entry, Waits, ending
from rpcregistry.plan.outcome import Outcome
from rpcregistry.reconcile.ports import Clock

MOST = 2_000  # entries


@dataclass
class _Leg:
    """A change on its way to one layout: times of our clock, None while it has not got there."""

    seen: float
    listed: float
    begun: float | None = None
    wrote: float | None = None


class Journal:
    """Follows changes of pods until they end, and keeps the last ``MOST`` endings; for any thread.

    A change is *seen*, then *looked* at by the pod controller, then *listed* by a status, then written in
    each of *layouts*, in that order.  However it ends, its clock stops.  If another change of a service comes
    before, both are one, which began with the first.  *ended* is called with each entry.
    """

    def __init__(self, layouts: Iterable[str], ended: Callable[[Entry], None], clock: Clock) -> None:
        self._layouts = tuple(dict.fromkeys(layouts))
        self._ended = ended
        self._clock = clock
        self._lock = threading.Lock()  # protects all that follows
        self._seen: dict[ServiceKey, float] = {}
        self._looked: dict[ServiceKey, float] = {}
        self._listed: dict[str, dict[str, _Leg]] = {}  # by service name and layout, as the next one
        self._writing: dict[str, dict[str, _Leg]] = {}
        self._entries: deque[Entry] = deque(maxlen=MOST)

    def begin(self) -> None:
        """Forget what was seen until now: another process wrote that."""
        with self._lock:
            for waiting in (self._seen, self._looked, self._listed, self._writing):
                waiting.clear()

    # the pod controller

    def seen(self, keys: Iterable[ServiceKey]) -> None:
        """Note that addresses of *keys* changed."""
        now = self._clock.monotonic()
        with self._lock:
            for key in keys:
                self._seen.setdefault(key, now)

    @contextmanager
    def looking(self, key: ServiceKey) -> Iterator[None]:
        """While the pod controller reconciles *key*: what was seen before ends, unless a status lists it."""
        with self._lock:
            if key in self._seen:
                self._looked.setdefault(key, self._seen.pop(key))
        try:
            yield
        except Exception as error:
            if isinstance(error, Rejected) or (isinstance(error, Partial) and error.rejected):
                self._end_look(key, Ending.REFUSED)
            else:
                self._look_again(key)
            raise
        self._end_look(key, Ending.NOTHING)

    def _look_again(self, key: ServiceKey) -> None:
        with self._lock:
            if key in self._looked:
                self._seen[key] = self._looked.pop(key)

    def _end_look(self, key: ServiceKey, how: Ending) -> None:
        with self._lock:
            seen = self._looked.pop(key, None)
        if seen is not None:
            status = self._clock.monotonic() - seen
            self._end([Entry(self._clock.stamp(), key.service_name, "", how, status=status)])

    # the registry

    def listed(self, keys: Iterable[ServiceKey]) -> None:
        """Note that a status of *keys* changed, so that their names are to be written."""
        now = self._clock.monotonic()
        with self._lock:
            for key in keys:
                seen = self._looked.pop(key, None)
                if seen is not None:
                    legs = self._listed.setdefault(key.service_name, {})
                    for layout in self._layouts:
                        legs.setdefault(layout, _Leg(seen, now))

    def begun(self, names: Iterable[str]) -> None:
        """Note that the writing of *names* begins: a later change is another one."""
        now = self._clock.monotonic()
        with self._lock:
            for name in names:
                if name in self._listed:
                    legs = self._writing[name] = self._listed.pop(name)
                    for leg in legs.values():
                        leg.begun = leg.begun or now

    def written(self, name: str, layout: str) -> None:
        """Note that a znode of *name* was written."""
        now = self._clock.monotonic()
        with self._lock:
            leg = self._writing.get(name, {}).get(layout)
            if leg:
                leg.wrote = now

    def concluded(self, name: str, outcomes: Sequence[tuple[str, Outcome]]) -> None:
        """Note that all *outcomes*, each with its layout, of a name were written."""

        def how(layout: str, leg: _Leg) -> Ending | None:
            return ending(leg.wrote is not None, [outcome for other, outcome in outcomes if other == layout])

        self._leave(name, how)

    def failed(self, name: str, *, refused: bool) -> None:
        """Note that *name* could not be written, or not in each layout."""

        def how(_: str, leg: _Leg) -> Ending | None:
            if leg.wrote is not None:
                return Ending.WRITTEN
            return Ending.REFUSED if refused else None

        self._leave(name, how)

    def _leave(self, name: str, how: Callable[[str, _Leg], Ending | None]) -> None:
        entries = []
        with self._lock:
            for layout, leg in self._writing.pop(name, {}).items():
                ends = how(layout, leg)
                if ends:
                    entries.append(self._entry(name, layout, leg, ends))
                else:
                    # It waits on, and had begun before a change that came meanwhile.
                    self._listed.setdefault(name, {})[layout] = leg
        self._end(entries)

    def _entry(self, name: str, layout: str, leg: _Leg, ends: Ending) -> Entry:
        begun = leg.begun or leg.listed
        write = leg.wrote - begun if leg.wrote is not None else 0.0
        return Entry(
            self._clock.stamp(), name, layout, ends, leg.listed - leg.seen, begun - leg.listed, write
        )

    def _end(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            with self._lock:
                self._entries.append(entry)
            self._ended(entry)

    # what it knows

    def entries(self, service: str = "") -> list[Entry]:
        """The last endings, the newest first; those of one *service*, if given."""
        with self._lock:
            entries = list(self._entries)
        return [entry for entry in reversed(entries) if service in ("", entry.service)]

    def oldest(self) -> Waits | None:
        """The oldest change that has not ended, since it was seen; None if there is none."""
        with self._lock:
            waiting = [
                Waits(since, key.service_name, listed=False)
                for found in (self._seen, self._looked)
                for key, since in found.items()
            ]
            waiting += [
                Waits(leg.seen, name, listed=True)
                for found in (self._listed, self._writing)
                for name, legs in found.items()
                for leg in legs.values()
            ]
        return min(waiting, default=None)
