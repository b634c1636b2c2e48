"""What the cache holds, and which of two values of a key stays.

Every value has a version, and the newest version stays.  So the order in which values arrive, and how
often, makes no difference: processes that have seen the same values hold the same ones.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

_VERSION = re.compile(r"([0-9]{1,20})-([0-9a-f]{1,32})")


class Key(NamedTuple):
    """What a value is set under; types go from 0 to 2³¹ - 1."""

    type: int
    name: str


class Version(NamedTuple):
    """Which set it was: *counter* grows from one set to the next, and *writer* tells processes apart.

    >>> Version.parse("1732154522000000-5e4f") < Version.parse("1732154522000001-0a1b")
    True
    """

    counter: int
    writer: str

    @classmethod
    def parse(cls, text: str) -> "Version":
        """The version that ``str`` gave; raises ``ValueError``."""
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
    """Those of *arriving* that replace what is *held*, or that are not held at all.

    >>> key, first, second = Key(0, "k"), Entry(Version(1, "a"), "x"), Entry(Version(1, "b"), "y")
    >>> newer({key: second}, {key: first}) == {key: second}, newer({key: first}, {key: second})
    (True, {})
    """
    return {key: entry for key, entry in arriving.items() if key not in held or entry > held[key]}


class Cache:
    """The values in memory; to be used from any thread.

    *writer* has to be this process's alone: 1 to 32 hexadecimal digits.  *now* tells the time in whole
    microseconds since 1970.
    """

    def __init__(self, writer: str, now: Callable[[], int]) -> None:
        self._writer = writer
        self._now = now
        self._lock = threading.Lock()
        self._held: dict[Key, Entry] = {}
        self._newest = 0  # no counter that was seen is above it

    def set(self, values: Mapping[Key, str]) -> Entries:
        """Give *values* a version, which is above every one seen so far, and hold them."""
        with self._lock:
            # The time, so that processes that do not hear of each other agree, too; one more than was
            # seen, so that whoever saw a value replaces it, wherever the clocks are.
            self._newest = max(self._now(), self._newest + 1)
            version = Version(self._newest, self._writer)
            entries = {key: Entry(version, value) for key, value in values.items()}
            self._held.update(entries)
        return entries

    def take(self, entries: Entries) -> None:
        """Hold those of *entries*, which another process gave a version, that are newer than what is held."""
        with self._lock:
            counters = (entry.version.counter for entry in entries.values())
            self._newest = max(self._newest, max(counters, default=0))
            self._held.update(newer(entries, self._held))

    def entries(self) -> Entries:
        """Everything that is held now."""
        with self._lock:
            return dict(self._held)

    def of(self, type_: int, names: Iterable[str] = ()) -> Mapping[str, Entry]:
        """What is held of a type, by name; only of *names*, where there are any."""
        wanted = [Key(type_, name) for name in names]
        with self._lock:
            keys = wanted or [key for key in self._held if key.type == type_]
            return {key.name: self._held[key] for key in keys if key in self._held}
