"""The registry controller's copy of the znodes that it read or wrote."""

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import msgspec

from rpcregistry.errors import Rejected
from rpcregistry.layouts import Layout, marks
from rpcregistry.layouts.forms import PerEndpoint, PerService
from rpcregistry.names import is_service_name
from rpcregistry.plan.ledger import OWNED, Ledger, decode_ledger, ledger_path, ledger_root, service_name_of
from rpcregistry.plan.ops import Create, Delete, Group, Op, Set, Znode
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.reconcile.ports import ZooKeeper
from rpcregistry.reconcile.seals import Seals
from rpcregistry.reconcile.stalepaths import StalePaths

EDITED, DELETED = "edited", "deleted"
REARM = 0.3  # seconds after which we read a znode that we wrote, to set its watch again


class _Place(msgspec.Struct, frozen=True):
    """Where a layout with one znode an endpoint writes the service *name*.

    *base*: the layout's base path; *root*: the directory of the endpoints, or *base* if there are several;
    *levels*: the segments below *base* that lead to them.
    """

    name: str
    form: PerEndpoint
    base: str
    root: str
    levels: Sequence[str | re.Pattern[str]]


def _place(layout: Layout, form: PerEndpoint, name: str) -> _Place:
    return _Place(name, form, layout.base.rstrip("/"), layout.directory(name), form.directory.levels(name))


class Sizes(msgspec.Struct, frozen=True):
    """Bytes of the *largest* znode, services in the *ledger*, unrepaired changes of others by layout."""

    largest: int = 0
    ledger: int = 0
    drift: Mapping[str, int] = {}


class ZnodeCache:
    """Reads each znode once; watch events and our own writes keep it up to date.

    Belongs to the registry's thread, with these exceptions.  Any thread may call ``changed`` and
    ``unwatched``.  The guard's thread calls ``claimed``, ``claims`` and ``size``; the page's calls ``found``,
    ``knows``, ``view`` and ``read_at``, and may see half of a write.

    *clusters*: the ids of the clusters whose paths are ours, our own first.
    """

    def __init__(
        self,
        zookeeper: ZooKeeper,
        layouts: Sequence[Layout],
        clusters: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
        stale: StalePaths | None = None,
    ) -> None:
        self._zookeeper = zookeeper
        self._layouts = layouts
        self._clusters = clusters
        # The guard's and the page's threads read this and _listed, by one ``get`` or ``copy`` each: CPython
        # does that in one step, and no value is ever changed.  A plan would take a lock once a znode.
        self._znodes: dict[str, Znode | None] = {}
        self._listed: dict[str, frozenset[str]] = {}  # by directory: the names of all children
        self._began_with: dict[str, frozenset[str]] = {}  # by directory: the names in the first listing
        self._read_at: dict[str, float] = {}  # when each path, but for children, was read last; as above
        self._clock = clock
        self._stale = stale or StalePaths(clock)
        # By directory: the services that may have endpoints in it, if their names do not say.  As above: any
        # thread reads it by one ``get``.
        self._shared: dict[str, frozenset[str]] = {}
        self._claimed: dict[str, str] = {}  # by the path of each ledger entry: its service; as above
        self._largest: int | None = None  # bytes of a znode; None: it may be another since
        self._seals = Seals(zookeeper, self._group)
        # By path: what others did to a znode, found by a read that differs from what we knew.
        self.disturbed: dict[str, str] = {}

    def anew(self) -> "ZnodeCache":
        """Make an empty cache that shares our stale paths, so that watch events reach both."""
        return ZnodeCache(self._zookeeper, self._layouts, self._clusters, self._clock, self._stale)

    def changed(self, path: str) -> set[str]:
        """Note that a znode or its children changed; return the service names to reconcile."""
        return self._names_of(path) if self._stale.note_changed(path) else set()

    def unwatched(self, seconds: float = REARM) -> set[str]:
        """Names whose own writes are older than *seconds* and must be re-read to re-arm their watches."""
        return {name for path in self._stale.unwatched(seconds) for name in self._names_of(path)}

    def _names_of(self, path: str) -> set[str]:
        found: set[str | None] = set()
        for layout in self._layouts:
            root, _, child = path.rpartition("/")
            base = layout.base.rstrip("/") + "/"
            if root == ledger_root(layout):
                found.add(service_name_of(layout, child, self._clusters))
            elif path.startswith(base):
                found.add(layout.service_at(path[len(base) :]))
            if isinstance(layout.form, PerEndpoint) and layout.form.directory.is_shared:
                found.update(self._sharing(layout.form, path))
        return {name for name in found if name}

    def _sharing(self, form: PerEndpoint, path: str) -> Iterator[str]:
        """The names that a change of a shared directory, or of a child in one, concerns."""
        yield from self._shared.get(path, ())
        directory, _, child = path.rpartition("/")
        for name in self._shared.get(directory, ()):
            if any(form.slot_of(name, child, cluster) for cluster in self._clusters):
                yield name

    # reading

    def ledgered(self) -> set[str]:
        """List the ledger, and return its service names.

        Also list the layouts' directories: paths absent from these listings are not read.  If another writer
        creates one later, our own create fails with a ``Conflict``.
        """
        for layout in self._layouts:
            base = layout.base.rstrip("/")
            with suppress(Rejected):  # writing there needs no right to list it
                self._began_with[base] = frozenset(self._zookeeper.children(base or "/"))
            self._began_with[ledger_root(layout)] = frozenset(self._zookeeper.children(ledger_root(layout)))
        return {
            name
            for layout in self._layouts
            for entry in self._began_with[ledger_root(layout)]
            if (name := service_name_of(layout, entry, self._clusters))
        }

    def _never_was(self, path: str) -> bool:
        while path:
            path, _, name = path.rpartition("/")
            # A later listing counts more: the directory may exist by now.
            names = self._listed.get(path, self._began_with.get(path))
            if names is not None:
                return name not in names
        return False

    def read(self, names: Collection[str]) -> None:
        """Read the unknown and the stale paths of *names*."""
        places = self._places(names)
        stale = {place.root for place in places if place.root in self._stale}
        self._read_at.update(dict.fromkeys(self._take(self._paths(names)), self._clock()))
        stale |= self._explore(places, stale)
        directories = dict.fromkeys(path for place in places for path in self._directories(place))
        relist = [path for path in directories if path in stale or path not in self._listed]
        unlisted = [path for path in relist if self._znodes.get(path)]
        found = self._zookeeper.listed(unlisted) if unlisted else {}
        for path in relist:
            listed = frozenset(found.get(path) or ())
            for name in self._listed.get(path, frozenset()) - listed:
                self._drop(f"{path}/{name}")
                self.disturbed[f"{path}/{name}"] = DELETED
            self._list(path, listed)
        self._take([path for place in places for path in self._children(place)])
        for place in places:
            if place.form.directory.is_shared:
                for path in self._directories(place):
                    self._shared[path] = self._shared.get(path, frozenset()) | {place.name}

    def _explore(self, places: Sequence[_Place], stale: Collection[str]) -> set[str]:
        """Read the ways to directories that vary by endpoint; return those that were stale.

        *stale*: the base paths that were, before they were read.
        """
        varying = [place for place in places if place.form.directory.varies]
        stale = set(stale)
        for depth in range(max((len(place.levels) for place in varying), default=0)):
            deeper = [place for place in varying if depth < len(place.levels)]
            ahead = [place for place in deeper if isinstance(place.levels[depth], str)]
            paths = {f"{path}/{place.levels[depth]}" for place in ahead for path in self._reach(place, depth)}
            lists = {
                path
                for place in deeper
                if not isinstance(place.levels[depth], str)
                for path in self._reach(place, depth)
                if path in stale or path in self._stale or path not in self._listed
            }
            stale |= {path for path in (*paths, *lists) if path in self._stale}
            self._take(paths)
            self._stale.mark_read(lists)
            for path, found in (self._zookeeper.listed(lists) if lists else {}).items():
                self._list(path, frozenset(found or ()))
            reached = {path for place in deeper for path in self._reach(place, depth + 1)}
            stale |= {path for path in reached if path in self._stale}
            self._take(reached)
        return stale

    def _reach(self, place: _Place, depth: int) -> list[str]:
        """The known directories of a service after so many levels below its layout's base path."""
        reached = [place.base]
        for level in place.levels[:depth]:
            if isinstance(level, str):
                reached = [f"{path}/{level}" for path in reached]
            else:
                reached = [
                    f"{path}/{name}"
                    for path in reached
                    for name in sorted(self._listed.get(path, ()))
                    if level.fullmatch(name)
                ]
            reached = [path for path in reached if self._znodes.get(path, True)]
        return reached

    def _take(self, paths: Iterable[str]) -> list[str]:
        """Read those of *paths* that are unknown or stale; return what had to be read."""
        unread = [path for path in paths if path not in self._znodes or path in self._stale]
        found: dict[str, Znode | None] = {
            path: None for path in unread if path not in self._stale and self._never_was(path)
        }
        unread = [path for path in unread if path not in found]
        self._stale.mark_read(unread)
        if unread:
            found |= self._zookeeper.read(unread)
        for path, znode in found.items():
            self._note(path, self._znodes.get(path), znode, self)
        for path, znode in found.items():
            self._put(path, znode)
        return unread

    def _put(self, path: str, znode: Znode | None) -> None:
        self._forget_sums()
        self._znodes[path] = znode
        if znode is None:
            self._claimed.pop(path, None)
        elif path.startswith(OWNED) and path not in self._claimed:
            root, _, entry = path.rpartition("/")
            layouts = (layout for layout in self._layouts if ledger_root(layout) == root)
            names = (service_name_of(layout, entry, self._clusters) for layout in layouts)
            self._claimed.update((path, name) for name in names if name)

    def _list(self, path: str, names: frozenset[str]) -> None:
        self._forget_sums()
        self._listed[path] = names

    def _forget_sums(self) -> None:
        """Compute anew what idle comparisons need not: something is read or written."""
        self._largest = None
        self._seals.forget_paths()

    def _drop(self, path: str) -> None:
        self._forget_sums()
        self._znodes.pop(path, None)
        self._claimed.pop(path, None)

    def _note(self, path: str, known: Znode | None, found: Znode | None, earlier: "ZnodeCache") -> None:
        differs = known and (found is None or found.data != known.data)
        if known and differs and not known.ephemeral and earlier._is_claimed(path):
            self.disturbed[path] = EDITED if found else DELETED

    def _is_claimed(self, path: str) -> bool:
        """Whether the ledger, as last read, says that *path* is ours, so that only we may change it."""
        return any(
            claim.cluster in self._clusters
            for layout in self._layouts
            if path.startswith((f"{layout.base.rstrip('/')}/", f"{ledger_root(layout)}/"))
            for name in self._names_of(path)
            for claim in self.claims(layout, name)
        )

    def note_since(self, earlier: "ZnodeCache") -> None:
        """Note as disturbed what differs from the *earlier* cache, of all that we have read since."""
        for path, known in earlier._znodes.items():
            if path in self._znodes or path.rpartition("/")[0] in self._listed:
                self._note(path, known, self._znodes.get(path), earlier)

    def forget_disturbed(self, names: Iterable[str]) -> None:
        """Forget what others did to *names*: the caller has repaired it."""
        restored = set(names)
        for path in [path for path in self.disturbed if self._names_of(path) & restored]:
            del self.disturbed[path]

    def forget(self, names: Iterable[str]) -> None:
        """Drop everything known of *names*, so that the next read fetches it."""
        names = list(names)
        for place in self._places(names):
            self._stale.add(*self._ways(place))
            for path in self._directories(place):
                for name in self._listed.pop(path, ()):
                    self._drop(f"{path}/{name}")
        for path in self._paths(names):
            self._drop(path)
            self._stale.add(path)

    def mark_stale(self, names: Collection[str]) -> None:
        """Have the next read fetch everything of *names*; keep what is known until then."""
        self._stale.add(*self._all_paths(names))

    def differing(self, groups: Mapping[int, Collection[str]]) -> set[int]:
        """Which *groups* of names may differ in ZooKeeper from when each was asked about last (``Seals``)."""
        return self._seals.differing(groups)

    def _group(self, names: Iterable[str]) -> Group:
        paths = self._all_paths(names)
        return Group(
            [path for path in paths if path in self._znodes or path not in self._listed],
            [path for path in paths if path in self._listed and self._znodes.get(path, True)],
        )

    def _all_paths(self, names: Iterable[str]) -> list[str]:
        """All paths of *names*, as far as they are known."""
        names = list(names)
        places = self._places(names)
        below = [path for place in places for path in (*self._ways(place), *self._children(place))]
        return list(dict.fromkeys((*self._paths(names), *sorted(below))))

    def expect_nothing(self) -> None:
        """Expect no more events of our own writes: unwatched ones fire none, and would add up."""
        self._stale.expect_nothing()

    def expect(self, ops: Iterable[Op]) -> None:
        """Expect these paths' watch events: they are our own writes."""
        self._stale.expect(path for op in ops for path in (op.path, op.path.rpartition("/")[0]))

    def remember(self, op: Op, version: int | None) -> None:
        """Note an own write, and the *version* that it left behind."""
        directory, _, name = op.path.rpartition("/")
        listed = self._listed.get(directory)
        match op:
            case Create(path, data) if listed is not None:
                self._list(directory, listed | {name})
                self._put(path, Znode(data, 0))
                self._stale.add(path)  # never read, so it has no watch
            case Create(path, data) | Set(path, data, _) if version is not None:
                if isinstance(op, Create):
                    self._stale.unwatch(path)  # as above; its content is known, so the read can wait
                before = self._znodes.get(path)
                self._put(path, Znode(data, version, before.children if before else 0))
            case Delete(path, _) if listed is not None:
                self._drop(path)
                self._list(directory, listed - {name})
            case Delete(path, _):
                self._put(path, None)
            case _:
                self._drop(op.path)

    def _paths(self, names: Iterable[str]) -> list[str]:
        """All paths of *names*, except those of endpoints and on the ways that vary by endpoint."""
        paths = (
            path
            for name in names
            if is_service_name(name)
            for layout in self._layouts
            for path in (layout.directory(name), *layout.parents(name), *self._entries(layout, name))
        )
        return list(dict.fromkeys(paths))  # services may have directories in common

    def _entries(self, layout: Layout, name: str) -> list[str]:
        return list(dict.fromkeys(ledger_path(layout, name, cluster) for cluster in self._clusters))

    def _places(self, names: Iterable[str]) -> list[_Place]:
        return [
            _place(layout, form, name)
            for name in names
            if is_service_name(name)
            for layout in self._layouts
            if isinstance(form := layout.form, PerEndpoint)
        ]

    def _directories(self, place: _Place) -> Sequence[str]:
        """The directories of a service's endpoints; one that does not vary need not exist."""
        if not place.form.directory.varies:
            return (place.root,)
        return self._reach(place, len(place.levels))

    def _ways(self, place: _Place) -> set[str]:
        """The known directories on the ways that vary by endpoint."""
        if not place.form.directory.varies:
            return set()
        return {path for depth in range(len(place.levels) + 1) for path in self._reach(place, depth)}

    def _children(self, place: _Place) -> list[str]:
        """The paths of our children."""
        return [f"{path}/{name}" for path in self._directories(place) for name in self._ours(place, path)]

    def _ours(self, place: _Place, directory: str) -> list[str]:
        listed = self._listed.get(directory, ())
        slot_of = place.form.slot_of
        return [
            name for name in listed if any(slot_of(place.name, name, cluster) for cluster in self._clusters)
        ]

    # asking

    def view(self, layout: Layout, name: str) -> ObservedZnodes:
        """The known znodes of a service in a layout, as a plan takes them."""
        entry, *previous = (self._znodes.get(path) for path in self._entries(layout, name))
        match layout.form:
            case PerService():
                return ObservedZnodes(self._znodes.get(layout.path(name)), entry)
            case PerEndpoint() as form:
                place = _place(layout, form, name)
                within = len(place.root) + 1
                children = {
                    path[within:]: znode
                    for path in self._children(place)
                    if (znode := self._znodes.get(path))
                }
                return ObservedZnodes(
                    self._znodes.get(place.root),
                    entry,
                    missing=tuple(path for path in layout.parents(name) if not self._znodes.get(path)),
                    directories={path[within:] for path in self._ways(place)},
                    children=children,
                    foreign=self._foreign(place, children),
                    previous=next(iter(previous), None),
                )

    def _foreign(self, place: _Place, children: Collection[str]) -> set[str]:
        """The names in the service's directories that are nobody's of ours."""
        within = len(place.root) + 1
        names = {
            f"{path}/{name}"[within:]
            for path in self._directories(place)
            for name in self._listed.get(path, ())
        }
        if place.form.directory.is_shared:
            marked = {name for name in names if any(marks.is_shared(name, c) for c in self._clusters)}
            return names - marked
        return names.difference(children)

    def read_at(self, layout: Layout, name: str) -> float | None:
        """When the service's znode, or the directory of its endpoints, was read last; None: never."""
        return self._read_at.get(layout.directory(name))

    def claims(self, layout: Layout, name: str) -> list[Ledger]:
        """The ledger's entries of a service in a layout."""
        found = (self._znodes.get(path) for path in self._entries(layout, name))
        return [decode_ledger(entry.data) for entry in found if entry]

    def claimed(self) -> set[str]:
        """The service names in the ledger."""
        return set(self._claimed.copy().values())

    def sizes(self) -> Sizes:
        """How much the cache has; belongs to the registry's thread."""
        if self._largest is None:
            self._largest = max((len(znode.data) for znode in self._znodes.values() if znode), default=0)
        paths = list(self.disturbed)
        below = {layout.name: layout.base.rstrip("/") + "/" for layout in self._layouts}
        return Sizes(
            largest=self._largest,
            ledger=len(self.claimed()),
            drift={name: sum(path.startswith(base) for path in paths) for name, base in below.items()},
        )

    def size(self, name: str) -> int:
        """How many endpoints of a name are published, in the layout that has the most."""
        return max((self._count(layout, name) for layout in self._layouts), default=0)

    def knows(self, layout: Layout, name: str) -> bool:
        """Whether it is known what a layout holds of a service: not after a write without an answer."""
        path = layout.directory(name)
        return path in self._znodes or (path not in self._stale and self._never_was(path))

    def found(self, name: str) -> int | None:
        """As ``size``, of the layouts in which the ledger says that the service is ours; None: not known."""
        if is_service_name(name) and not all(self.knows(layout, name) for layout in self._layouts):
            return None
        ours = (
            layout
            for layout in self._layouts
            if any(
                claim.cluster in self._clusters and not claim.withdrawn_at
                for claim in self.claims(layout, name)
            )
        )
        return max((self._count(layout, name) for layout in ours), default=0)

    def _count(self, layout: Layout, name: str) -> int:
        match layout.form:
            case PerService(addresses=addresses):
                znode = self._znodes.get(layout.path(name))
                return len(addresses(znode.data)) if znode else 0
            case PerEndpoint() as form:
                place = _place(layout, form, name)
                return len(self._children(place))
