"""The values of the cache, and which of two values of a key wins.

Each value has a version, and the newest version wins.  So values may arrive in any order, and more than once:
processes that received the same values hold the same ones.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

_VERSION = re.compile(r"([0-9]{1,20})-([0-9a-f]{1,32})")


class Key(NamedTuple):
    """The key of a value; types go from 0 to 2³¹ - 1."""

    type: int
    name: str


class Version(NamedTuple):
    """The version of a value: *counter* grows with each set, and *writer* differs between processes.

    >>> Version.parse("1732154522000000-5e4f") < Version.parse("1732154522000001-0a1b")
    True
    """

    counter: int
    writer: str

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Parse the ``str`` of a version; raises ``ValueError``."""
        found = _VERSION.fullmatch(text)
        if not found:
            raise ValueError(f"no version: {text!r}")
        return cls(int(found[1]), found[2])

    def __str__(self) -> str:
        return f"{self.counter}-{self.writer}"


class Entry(NamedTuple):
    """A value, ordered by its version first."""

    version: Version
    value: str


Entries = Mapping[Key, Entry]


def newer(arriving: Entries, held: Entries) -> dict[Key, Entry]:
    """Those of *arriving* that are newer than what is *held*, or new.

    >>> key, first, second = Key(0, "k"), Entry(Version(1, "a"), "x"), Entry(Version(1, "b"), "y")
    >>> newer({key: second}, {key: first}) == {key: second}, newer({key: first}, {key: second})
    (True, {})
    """
    return {key: entry for key, entry in arriving.items() if key not in held or entry > held[key]}


class Cache:
    """The values in memory; for any thread.

    *writer* has to be unique to this process: 1 to 32 hexadecimal digits.  *now* returns microseconds since
    1970.
    """

    def __init__(self, writer: str, now: Callable[[], int]) -> None:
        self._writer = writer
        self._now = now
        self._lock = threading.Lock()
        self._held: dict[Key, Entry] = {}
        self._newest = 0  # the highest counter seen

    def set(self, values: Mapping[Key, str]) -> Entries:
        """Store *values* with a new version, which is above all seen so far."""
        with self._lock:
            # The time, so that processes that cannot reach each other agree, too.  At least one above all
            # counters seen, so that a process replaces each value that it saw, whatever the clocks say.
            self._newest = max(self._now(), self._newest + 1)
            version = Version(self._newest, self._writer)
            entries = {key: Entry(version, value) for key, value in values.items()}
            self._held.update(entries)
        return entries

    def take(self, entries: Entries) -> None:
        """Store those of another process's *entries* that are newer than ours."""
        with self._lock:
            counters = (entry.version.counter for entry in entries.values())
            self._newest = max(self._newest, max(counters, default=0))
            self._held.update(newer(entries, self._held))

    def entries(self) -> Entries:
        """All entries."""
        with self._lock:
            return dict(self._held)

    def of(self, type_: int, names: Iterable[str] = ()) -> Mapping[str, Entry]:
        """The values of a type by name; only those of *names*, if given."""
        wanted = [Key(type_, name) for name in names]
        with self._lock:
            keys = wanted or [key for key in self._held if key.type == type_]
            return {key.name: self._held[key] for key in keys if key in self._held}
