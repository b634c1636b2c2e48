"""The interfaces that reconcilers need, small enough for a test's world in memory."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from rpcregistry.manifests import Named, Resource
from rpcregistry.model import ObjectKey, Problem, Regarding
from rpcregistry.plan.ops import Group, Op, Znode
from rpcregistry.runtime.store import Change

__all__ = ["Change", "Clock", "Kube", "Source", "Store"]

T = TypeVar("T", bound=Named)
T_co = TypeVar("T_co", bound=Named, covariant=True)


class Clock(Protocol):
    """*monotonic*: seconds, to measure time.  *now*: for people to read.

    *stamp*: as *now*, so many seconds *later*, in RFC 3339 as in conditions.
    """

    def monotonic(self) -> float: ...
    def now(self) -> datetime: ...
    def stamp(self, later: float = 0.0) -> str: ...


class Kube(Protocol):
    """Writes to the API server.  Each may raise an ``errors.Failure``; a *trial* keeps nothing.

    *dry_run*: nothing is written, so that the answer to a patch shows nothing.
    """

    @property
    def dry_run(self) -> bool: ...
    def create(
        self, resource: Resource[T], namespace: str, manifest: Mapping[str, Any], trial: bool = False
    ) -> T: ...
    def replace(
        self, resource: Resource[T], key: ObjectKey, manifest: Mapping[str, Any], subresource: str = ""
    ) -> T: ...
    def patch(
        self, resource: Resource[T], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> T: ...
    def delete(self, resource: Resource[T], key: ObjectKey, uid: str, resource_version: str) -> None: ...


class Store(Protocol[T_co]):
    """What an informer holds."""

    def get(self, key: ObjectKey) -> T_co | None: ...
    def values(self) -> Sequence[T_co]: ...
    def indexed(self, index: str, value: Hashable) -> Sequence[T_co]: ...


class Source(Protocol[T]):
    """An informer, as reconcilers see it.

    *unknown*: why the source cannot be read, in full or in part, or None.  ``unknown_in``: the same for one
    namespace.  ``second_look`` makes a quorum LIST of its own; it raises a ``Failure`` while the source is
    unknown.  ``observe`` puts what our own write returned into the store.  ``lacks``: whether a LIST lacked
    what a read found, so that no watch event will bring it; a second look does.
    """

    @property
    def store(self) -> Store[T]: ...
    @property
    def unknown(self) -> str | None: ...
    def unknown_in(self, namespace: str) -> str | None: ...
    def second_look(self) -> Iterable[T]: ...
    def observe(self, written: T) -> None: ...
    def lacks(self, found: T) -> bool: ...


class ZooKeeper(Protocol):
    """A ZooKeeper client.  Each call may raise an ``errors.Failure``; ``commit`` is one transaction.

    ``seals``: for each group, bytes that are others once a znode of it or its children changed; None where
    only a read shows that, or where something is not watched any more.
    """

    @property
    def connected(self) -> bool: ...
    @property
    def generation(self) -> int: ...
    def read(self, paths: Iterable[str]) -> dict[str, Znode | None]: ...
    def children(self, path: str) -> list[str]: ...
    def listed(self, paths: Iterable[str]) -> dict[str, list[str] | None]: ...
    def seals(self, groups: Sequence[Group]) -> list[bytes | None]: ...
    def commit(self, ops: Sequence[Op]) -> list[int | None]: ...
    def make_parents(self, path: str) -> None: ...


class LeaseNotes(Protocol):
    """The annotations of our Lease: they show holds without an object, and a person releases those there.

    *annotations*: as last read, None before the first read.  ``annotate`` has one written (None: removed)
    within a few seconds, unless it is so already.  It never blocks.
    """

    @property
    def annotations(self) -> Mapping[str, str] | None: ...
    def annotate(self, name: str, value: str | None) -> None: ...


class Events(Protocol):
    """Records Events about objects; never blocks."""

    def record(
        self, regarding: Regarding, problem: Problem, action: str, *, warning: bool, salt: str = ""
    ) -> None: ...
