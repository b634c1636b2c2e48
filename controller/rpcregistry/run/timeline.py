"""The timeline: what changed of services, in words, for people who look."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable

import msgspec

from rpcregistry.model import RpcService
from rpcregistry.plan.journal import Entry
from rpcregistry.plan.repairs import Repair
from rpcregistry.plan.screens.changes import Said, parts_of, said_of, said_of_entry, said_of_repair
from rpcregistry.plan.screens.services import Last, lately
from rpcregistry.runtime.store import Change

MOST = 2_000  # lines
MOST_NOTED = 20_000  # notes that nobody reads: the page may wait for its port
LAGS = 20  # of a service
REPAIRS = 64  # of a service
REPEATED = 3  # repairs lately, from which on somebody changes a service again and again
AT_ONCE = 1.0  # seconds within which several znodes of a service are one repair
WAITING = 100  # lines of a service that wait for their times
SLACK = 1_000  # services that are remembered beside those there are
EARLIER = 1.0  # seconds by which a line may be older than the change that it belongs to

What = Change[RpcService] | Entry | Repair
Noted = tuple[float, What]


class Pending:
    """What was noted last and is not read yet; for any thread.

    Informers note under their lock: so a note is one append, and all that takes time is left to the reader.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()  # protects _noted and _count
        self._noted: deque[Noted] = deque(maxlen=MOST_NOTED)
        self._count = 0

    def note(self, what: What | None) -> None:
        """Note a change of a service, how one ended, a repair, or (None) that anything else changed."""
        at = self._now()
        with self._lock:
            self._count += 1
            if what is not None:
                self._noted.append((at, what))

    @property
    def count(self) -> int:
        """How many notes there were; it only grows."""
        with self._lock:
            return self._count

    def take(self) -> Collection[Noted]:
        """Take out what was noted."""
        with self._lock:
            noted, self._noted = self._noted, deque(maxlen=MOST_NOTED)
        return noted


class Timeline:
    """The last ``MOST`` lines, and of each service the last change; belongs to the page's thread."""

    def __init__(self) -> None:
        self._lines: deque[Said] = deque(maxlen=MOST)
        self._number = 0
        self._waiting: dict[str, deque[int]] = {}  # by service, the numbers of lines without times
        self._last: dict[str, Last] = {}

    def add(self, noted: Iterable[Noted]) -> None:
        """Add what was noted."""
        for at, what in noted:
            if isinstance(what, Entry):
                self._ended(at, what)
            elif isinstance(what, Repair):
                self._repaired(at, what)
            elif not (what.listed and what.old is None):
                self._changed(at, said_of(what.old, what.new))

    def _changed(self, at: float, said: list[Said]) -> None:
        for line in said:
            self._append(at, line)
            if line.kind in ("added", "removed"):
                self._waiting.setdefault(line.service, deque(maxlen=WAITING)).append(self._number)
        counts = {
            kind: sum(line.count for line in said if line.kind == kind) for kind in ("added", "removed")
        }
        if any(counts.values()):
            name = said[0].service
            self._last[name] = msgspec.structs.replace(self.last(name), at=at, **counts)

    def _ended(self, at: float, entry: Entry) -> None:
        said = said_of_entry(entry)
        if said:
            self._append(at, said)
        parts = parts_of(entry)
        if parts is None:
            return
        # The first layout in which it is written counts.
        for number in self._waiting.pop(entry.service, ()):
            age = self._number - number
            # What another process saw, or nobody saw happen, ends without an entry: no later one is its.
            if age < len(self._lines) and at - self._lines[-1 - age].at <= entry.seconds + EARLIER:
                self._lines[-1 - age] = msgspec.structs.replace(self._lines[-1 - age], parts=parts)
        last = self.last(entry.service)
        lags = (*last.lags, round(parts.total, 1))[-LAGS:]
        self._last[entry.service] = msgspec.structs.replace(last, lags=lags, at=last.at or at)

    def _repaired(self, at: float, repair: Repair) -> None:
        last = self.last(repair.service)
        if last.repairs and at - last.repairs[-1] < AT_ONCE:
            return
        self._append(at, said_of_repair(repair))
        repairs = (*last.repairs, at)[-REPAIRS:]
        self._last[repair.service] = msgspec.structs.replace(last, repairs=repairs)

    def repeated(self, now: float) -> dict[str, tuple[float, ...]]:
        """The services that were repaired again and again lately, each with the times."""
        found = {name: lately(last.repairs, now) for name, last in self._last.items() if last.repairs}
        return {name: times for name, times in found.items() if len(times) >= REPEATED}

    def _append(self, at: float, line: Said) -> None:
        self._number += 1
        self._lines.append(msgspec.structs.replace(line, number=self._number, at=at))

    def last(self, name: str) -> Last:
        """The last change of a service."""
        return self._last.get(name, Last())

    def lines(self, service: str = "", kind: str = "") -> list[Said]:
        """The lines of a service, or of all, the newest first."""
        return [
            line
            for line in reversed(self._lines)
            if service in ("", line.service) and kind in ("", line.kind)
        ]

    def forget_all_but(self, names: Collection[str]) -> None:
        """Forget the last changes of services that are gone, once there are many of them."""
        if len(self._last) > len(names) + SLACK:
            self._last = {name: last for name, last in self._last.items() if name in names}
            self._waiting = {name: lines for name, lines in self._waiting.items() if name in names}
