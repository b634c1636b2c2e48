"""Small worlds in memory, for what is decided between two writes; the real ones are in tests/cluster."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import msgspec

from rpcregistry.errors import Conflict, Failure, Fenced, Rejected, Retry, Unknown
from rpcregistry.manifests import Named, Resource
from rpcregistry.model import ObjectKey, Problem, Regarding
from rpcregistry.plan.invariants import clashes
from rpcregistry.plan.ledger import FENCES
from rpcregistry.plan.ops import ANY, Check, Create, Delete, Group, Op, Set, Znode
from rpcregistry.reconcile.withdrawn import Withdrawn
from rpcregistry.runtime.store import Change

T = TypeVar("T", bound=Named)


class Clock:
    """Time that passes when a test says so: seconds, and the wall clock that goes with them."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_795_000_000 + self.seconds, UTC)

    def stamp(self, later: float = 0.0) -> str:
        return (self.now() + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Held(Generic[T]):
    """A source whose objects a test puts in and takes out; ``listed`` is what a second look finds."""

    def __init__(
        self, indexes: Mapping[str, Callable[[T], Iterable[Hashable]]], changed: Callable[[Change[T]], None]
    ) -> None:
        self._indexes = indexes
        self._changed = changed
        self._items: dict[ObjectKey, T] = {}
        self.unknown: str | None = None
        self.unknown_namespace = ""  # all
        self.elsewhere: list[T] = []  # what only the second look finds
        self.store = self

    def get(self, key: ObjectKey) -> T | None:
        return self._items.get(key)

    def values(self) -> list[T]:
        return list(self._items.values())

    def indexed(self, index: str, value: Hashable) -> list[T]:
        return [item for item in self._items.values() if value in self._indexes[index](item)]

    def unknown_in(self, namespace: str) -> str | None:
        return self.unknown if self.unknown_namespace in ("", namespace) else None

    def second_look(self) -> list[T]:
        if self.unknown:
            raise Unknown(self.unknown)
        return [*self._items.values(), *self.elsewhere]

    def observe(self, written: T) -> None:
        self.put(written, ours=True)

    def lacks(self, found: T) -> bool:
        return found.key not in self._items

    def put(self, item: T, ours: bool = False) -> None:
        old = self._items.get(item.key)
        self._items[item.key] = item
        if old != item:
            self._changed(Change(old, item, ours=ours))

    def drop(self, key: ObjectKey, listed: bool = False) -> None:
        self._changed(Change(self._items.pop(key), None, listed=listed))


class ZooKeeperInMemory:
    """Znodes with versions and transactions.  ``writes_left`` transactions succeed, the next ones fail."""

    def __init__(self) -> None:
        self.znodes: dict[str, tuple[bytes, int]] = {}
        self.children_of: dict[str, int] = {}
        self.ephemeral: set[str] = set()
        self.connected = True
        self.generation = 1
        self.commits: list[list[Op]] = []
        self.writes_left: int | None = None
        self.refused: set[str] = set()  # for writing
        self.refusals = 0
        self.unreadable: set[str] = set()
        self.cursed: set[str] = set()  # writing there fails in a way that nobody foresaw
        self.lose_answer = False
        self.meanwhile: list[Callable[[], None]] = []  # happens before the next transaction is answered
        self.reads = 0  # of so many paths
        self.in_bulk = True  # as servers since 3.6

    def read(self, paths: Iterable[str]) -> dict[str, Znode | None]:
        paths = list(paths)
        self.reads += len(paths)
        if self.unreadable.intersection(paths):
            raise Rejected("no permission")
        return {path: self._znode(path) for path in paths}

    def _znode(self, path: str) -> Znode | None:
        if path not in self.znodes:
            return None
        data, version = self.znodes[path]
        return Znode(data, version, self.children_of.get(path, 0), path in self.ephemeral)

    def children(self, path: str) -> list[str]:
        return [found.rpartition("/")[2] for found in self.znodes if found.rpartition("/")[0] == path]

    def listed(self, paths: Iterable[str]) -> dict[str, list[str] | None]:
        return {path: self.children(path) if path in self.znodes else None for path in paths}

    def make_parents(self, path: str) -> None:
        pass

    def seals(self, groups: Sequence[Group]) -> list[bytes | None]:
        return [self._seal({*group.znodes, *group.children}) if self.in_bulk else None for group in groups]

    def _seal(self, paths: Iterable[str]) -> bytes:
        return repr([(at, self.znodes.get(at), sorted(self.children(at))) for at in sorted(paths)]).encode()

    def commit(self, ops: Sequence[Op]) -> list[int | None]:
        assert not list(clashes(op for op in ops if not op.path.startswith(FENCES))), ops
        if self.writes_left == 0:
            raise Retry("no writes left")
        if self.writes_left is not None:
            self.writes_left -= 1
        after = dict(self.znodes)
        versions = [self._apply(after, op) for op in ops]
        self.znodes = after
        self.commits.append([op for op in ops if not isinstance(op, Check)])
        while self.meanwhile:
            self.meanwhile.pop()()
        if self.lose_answer:
            self.lose_answer = False
            raise Retry("the answer was lost")
        return versions

    def _apply(self, after: dict[str, tuple[bytes, int]], op: Op) -> int | None:
        _data, version = after.get(op.path, (b"", -1))
        there = op.path in after
        if op.path in self.cursed:
            raise ZeroDivisionError(op.path)
        if op.path in self.refused:
            self.refusals += 1
            raise Rejected(f"{op.path}: no permission")
        match op:
            case Create(path, new) if not there:
                after[path] = (new, 0)
                return 0
            case Set(path, new, expected) if there and expected in (version, ANY):
                after[path] = (new, version + 1)
                return version + 1
            case Delete(path, expected) if there and expected == version and not self.children_of.get(path):
                del after[path]
                return None
            case Check(_, expected) if there and expected == version:
                return None
            case Check() if there:
                raise Fenced(op.path)
        conflict = Conflict(f"{op}: there is {after.get(op.path)}")
        conflict.path = op.path  # type: ignore[attr-defined]
        raise conflict


class EventsInMemory:
    """What was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Problem]] = []

    def record(
        self, regarding: Regarding, problem: Problem, action: str, *, warning: bool, salt: str = ""
    ) -> None:
        self.told.append((regarding.name, problem))


class NotesInMemory:
    """The Lease's annotations; a test is the person, too."""

    def __init__(self) -> None:
        self.annotations: dict[str, str] | None = {}
        self.written: list[tuple[str, str | None]] = []

    def annotate(self, name: str, value: str | None) -> None:
        if self.annotations is not None and self.annotations.get(name) != value:
            self.written.append((name, value))
            self.annotations.pop(name, None)
            self.annotations |= {name: value} if value else {}


class Remembered:
    """A memory that says what a test wants."""

    def __init__(self) -> None:
        self.holds = False
        self.accepted = 0
        self.withdrawn = Withdrawn(NotesInMemory(), lambda: None)

    def check(self) -> None:
        pass


class KubeInMemory(Generic[T]):
    """The RpcServices of a cluster: what is written comes back through the source, as a watch brings it."""

    dry_run = False

    def __init__(self) -> None:
        self.source: Held[Any] | None = None
        self.writes: list[tuple[str, str]] = []
        self.failure: Failure | None = None
        self.damages: str = ""  # why rows cannot be read back, where the CRD lacks a field of theirs
        self.refuses: Callable[[str, str], Failure | None] = lambda verb, name: None
        self._version = 100

    def create(
        self, resource: Resource[T], namespace: str, manifest: Mapping[str, Any], trial: bool = False
    ) -> T:
        key = ObjectKey(namespace, manifest["metadata"]["name"])
        self._count("create", key)
        if self.source.get(key):
            raise Conflict(f"{key} exists")
        metadata = {
            **manifest["metadata"],
            "uid": f"uid-{self._version}",
            "resourceVersion": str(self._version),
            "creationTimestamp": f"{self._version}",
            "managedFields": [],
        }
        created = resource.decode(msgspec.json.encode({**manifest, "metadata": metadata}))
        self.source.put(created)
        return created

    def replace(
        self, resource: Resource[T], key: ObjectKey, manifest: Mapping[str, Any], subresource: str = ""
    ) -> T:
        return self._write("replace", key, manifest, subresource)

    def patch(
        self, resource: Resource[T], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> T:
        observed = self.source.get(key)
        status = msgspec.to_builtins(observed.status) if observed else {}
        return self._write("patch", key, {**patch, "status": {**status, **patch["status"]}}, subresource)

    def _write(self, verb: str, key: ObjectKey, manifest: Mapping[str, Any], subresource: str) -> T:
        self._count(verb, key)
        observed = self.source.get(key)
        if observed is None or observed.resource_version != manifest["metadata"]["resourceVersion"]:
            raise Conflict(f"{key} changed")
        assert subresource == "status"
        status = msgspec.convert(manifest["status"], type(observed.status))
        if self.damages:
            status = msgspec.structs.replace(status, endpoints=())
        written = msgspec.structs.replace(
            observed, status=status, resource_version=str(self._version), damaged=self.damages
        )
        self.source.put(written)
        return written

    def delete(self, resource: Resource[T], key: ObjectKey, uid: str, resource_version: str) -> None:
        self._count("delete", key)
        observed = self.source.get(key)
        if observed and observed.resource_version != resource_version:
            raise Conflict(f"{key} changed")
        if observed:
            self.source.drop(key)

    def _count(self, verb: str, key: ObjectKey) -> None:
        failure = self.failure or self.refuses(verb, key.name)
        if failure:
            raise failure
        self._version += 1
        self.writes.append((verb, key.name))
