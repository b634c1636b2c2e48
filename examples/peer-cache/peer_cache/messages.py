"""Converts entries to the messages of sync.proto, and messages to entries.

The messages have no field for versions, and a client that knows only the proto needs none.  So types below
zero have the versions: type -1-T those of type T, under the same keys.
"""

from collections.abc import Iterable, Iterator

from peer_cache.entries import Cache, Entries, Entry, Key, Version
from peer_cache.sync_pb2 import SyncData

# In a GetAll, any type below zero asks for the versions, too.
WITH_VERSIONS = [SyncData(type=-1)]


def values(entries: Entries) -> Iterator[SyncData]:
    """The values of *entries*, one message a type."""
    yield from _by_type((key.type, key.name, entry.value) for key, entry in entries.items())


def versions(entries: Entries) -> Iterator[SyncData]:
    """The versions of *entries*, one message a type."""
    yield from _by_type((~key.type, key.name, str(entry.version)) for key, entry in entries.items())


def parse(messages: Iterable[SyncData]) -> tuple[dict[Key, str], dict[Key, Entry]]:
    """Split *messages* into values without a version, and values with one.

    Raises ``ValueError`` if a version has no value, or cannot be parsed.
    """
    given = {Key(data.type, name): text for data in messages for name, text in data.data.items()}
    unversioned = {key: text for key, text in given.items() if key.type >= 0}
    versioned = {}
    for key, text in given.items():
        if key.type < 0:
            of = Key(~key.type, key.name)
            if of not in unversioned:
                raise ValueError(f"a version of no value: type {of.type}, key {of.name!r}")
            versioned[of] = Entry(Version.parse(text), unversioned.pop(of))
    return unversioned, versioned


def answer(cache: Cache, asked: Iterable[SyncData]) -> Iterator[SyncData]:
    """The values in *cache* of each type in *asked*: of the keys that it names, or all if it names none."""
    for data in asked:
        if data.type >= 0:
            held = {name: entry.value for name, entry in cache.of(data.type, data.data).items()}
        else:
            held = {name: str(entry.version) for name, entry in cache.of(~data.type, data.data).items()}
        yield SyncData(type=data.type, data=held)


def _by_type(rows: Iterable[tuple[int, str, str]]) -> Iterator[SyncData]:
    types: dict[int, dict[str, str]] = {}
    for type_, name, text in rows:
        types.setdefault(type_, {})[name] = text
    for type_, texts in sorted(types.items()):
        yield SyncData(type=type_, data=texts)
