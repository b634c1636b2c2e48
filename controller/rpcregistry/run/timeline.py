"""The timeline: what changed of services, in words, for people who look."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable

import msgspec

from rpcregistry.model import RpcService
from rpcregistry.plan.journal import Entry
from rpcregistry.plan.screens.changes import Said, parts_of, said_of, said_of_entry
from rpcregistry.plan.screens.services import Last
from rpcregistry.runtime.store import Change

MOST = 2_000  # lines
LAGS = 20  # of a service
SLACK = 1_000  # services that are remembered beside those there are

Noted = tuple[float, Change[RpcService] | Entry | None]


class Pending:
    """What was noted and is not read yet; for any thread.

    Informers note under their lock: so a note is one append, and all that takes time is left to the reader.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()  # protects _noted and _count
        self._noted: list[Noted] = []
        self._count = 0

    def note(self, what: Change[RpcService] | Entry | None) -> None:
        """Note a change of a service, how one ended, or (None) that anything else changed."""
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

    def take(self) -> list[Noted]:
        """Take out what was noted."""
        with self._lock:
            noted, self._noted = self._noted, []
        return noted


class Timeline:
    """The last ``MOST`` lines, and of each service the last change; belongs to the page's thread."""

    def __init__(self) -> None:
        self._lines: deque[Said] = deque(maxlen=MOST)
        self._number = 0
        self._last: dict[str, Last] = {}

    def add(self, noted: Iterable[Noted]) -> None:
        """Add what was noted."""
        for at, what in noted:
            if isinstance(what, Entry):
                self._ended(at, what)
            elif what is not None and not (what.listed and what.old is None):
                self._changed(at, said_of(what.old, what.new))

    def _changed(self, at: float, said: list[Said]) -> None:
        for line in said:
            self._append(at, line)
        counts = {
            kind: sum(line.count for line in said if line.kind == kind) for kind in ("added", "removed")
        }
        if any(counts.values()):
            name = said[0].service
            lags = self.last(name).lags
            self._last[name] = Last(at, counts["added"], counts["removed"], lags)

    def _ended(self, at: float, entry: Entry) -> None:
        said = said_of_entry(entry)
        if said:
            self._append(at, said)
        parts = parts_of(entry)
        if parts is None:
            return
        for index in range(len(self._lines) - 1, -1, -1):
            line = self._lines[index]
            if line.service == entry.service and line.kind in ("added", "removed"):
                # The first layout in which it is written counts; the changes before have theirs already.
                if line.parts is not None or at - line.at > entry.seconds + 60:
                    break
                self._lines[index] = msgspec.structs.replace(line, parts=parts)
        last = self.last(entry.service)
        lags = (*last.lags, round(parts.total, 1))[-LAGS:]
        self._last[entry.service] = msgspec.structs.replace(last, lags=lags, at=last.at or at)

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
