"""Which names ZooKeeper shows as they were: compared in groups, of which it sends what a digest needs."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from zlib import crc32

from rpcregistry.plan.ops import Group
from rpcregistry.reconcile.ports import ZooKeeper

GROUP = 64  # names at most, on average, of which one digest says whether any differs


class Grouped:
    """All names, in groups that are compared together: made anew only if the names are others.

    It belongs to the registry's thread.
    """

    def __init__(self) -> None:
        self._made_of: tuple[int, Collection[str]] = 0, ()
        self._groups: Mapping[int, Sequence[str]] = {}

    def part(self, names: Collection[str], parts: int, part: int) -> dict[int, Sequence[str]]:
        """The groups of *names* in one of so many *parts*, by number."""
        if (parts, names) != self._made_of:
            self._made_of, self._groups = (parts, names), groups(names, parts)
        return {number: members for number, members in self._groups.items() if number % parts == part}


def groups(names: Collection[str], parts: int) -> Mapping[int, Sequence[str]]:
    """*names* in groups, by number: modulo *parts* it is the group's part.  A name that comes changes one.

    >>> groups(["c", "b", "a"], 2)
    {1: ['a', 'b', 'c']}
    """
    count = parts << (len(names) // (parts * GROUP)).bit_length()
    found: dict[int, list[str]] = {}
    for name in sorted(names):
        found.setdefault(crc32(name.encode()) % count, []).append(name)
    return found


class Seals:
    """What ZooKeeper said of each group when it was compared last.

    It belongs to the registry's thread.  *paths_of* returns the paths of names; once it would return others,
    ``forget_paths`` is called.
    """

    def __init__(self, zookeeper: ZooKeeper, paths_of: Callable[[Iterable[str]], Group]) -> None:
        self._zookeeper = zookeeper
        self._paths_of = paths_of
        self._paths: dict[int, tuple[Collection[str], Group]] = {}  # by number, with the names
        self._seals: dict[int, bytes | None] = {}

    def forget_paths(self) -> None:
        """Ask for the paths of names anew."""
        self._paths.clear()

    def differing(self, groups: Mapping[int, Collection[str]]) -> set[int]:
        """Which *groups* may differ in ZooKeeper from when each was asked about last.

        Those with own writes are among them.  The caller reads them after this, never before: what comes in
        between is in the read, and differs next time.
        """
        for number, names in groups.items():
            if number not in self._paths or self._paths[number][0] != names:
                self._paths[number] = names, self._paths_of(names)
        found = self._zookeeper.seals([self._paths[number][1] for number in groups])
        seals = dict(zip(groups, found, strict=True))
        differing = {number for number, seal in seals.items() if not seal or self._seals.get(number) != seal}
        self._seals.update(seals)
        return differing
