"""The fence: the znode whose version every write transaction checks.

A Lease alone stops no writer: a paused leader wakes and continues where it was.  The new leader changes
the fence first, so the paused one's transactions fail as a whole.

Kubernetes has no fence.  A resourceVersion is none: a leader that wakes with an old store of pods still reads
the newest RpcServices.  So before each write to the API server, the leader checks the clock.

A ZooKeeper that was restored to an older state has an older fence, and a later leader might give it the very
version that a paused one holds.  So the Lease has the highest version that a leader saw, and who takes the
fence makes it higher than that.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import structlog

from rpcregistry.errors import Conflict, Fenced, Unanswered
from rpcregistry.manifests import Named, Resource
from rpcregistry.model import ObjectKey
from rpcregistry.plan.ledger import FENCES
from rpcregistry.plan.ops import OPS_A_TRANSACTION, Check, Create, Op, Set, Znode
from rpcregistry.reconcile.ports import Kube, LeaseNotes, ZooKeeper
from rpcregistry.reconcile.slow import SlowNamespaces

T = TypeVar("T", bound=Named)

log = structlog.get_logger(__name__)


class Poster(Protocol):
    """Posts Events; fails with an ``errors.Failure``."""

    def raw(
        self, method: str, path: str, body: Mapping[str, Any], *, patience: float | None = None
    ) -> Any: ...


FENCE = "rpcregistry.dev/fence"  # on the Lease
DIGITS = 4  # of a version noted there; there are no more leaders than that in years


class Fence:
    """The fence of one cluster id; *renew* renews the Lease, or raises if we lost it.  *notes*: the Lease's.

    It belongs to the registry's thread.
    """

    def __init__(
        self,
        zookeeper: ZooKeeper,
        cluster_id: str,
        renew: Callable[[], None],
        notes: LeaseNotes | None = None,
    ) -> None:
        self._zookeeper = zookeeper
        self._renew = renew
        self._notes = notes
        self._path = f"{FENCES}/{cluster_id}"
        self._version: int | None = None
        self._highest = -1  # the version that this process held last
        self._generation = -1  # of the connection in which it was read last

    def check(self) -> Check:
        """Return the first operation of every transaction; take the fence if we do not hold it yet."""
        generation = self._zookeeper.generation
        if self._version is not None and generation != self._generation:
            observed = self._zookeeper.read([self._path])[self._path]
            if observed is None or observed.version < self._version:
                log.warning("ZooKeeper was restored to an older state: taking the fence anew")
                self._version = None
        if self._version is None:
            self._version = self._highest = self._take()
            if self._notes:
                self._notes.annotate(FENCE, str(self._version))
        self._generation = generation
        return Check(self._path, self._version)

    def lost(self, path: str) -> bool:
        """Return whether *path*, which a transaction did not find, is the fence; if so, take it again."""
        if path == self._path:
            self._version = None
        return path == self._path

    def _take(self) -> int:
        """Read the fence, renew the Lease, then change the fence at the version read.

        An old leader that wakes in between cannot win.  Either it cannot renew its Lease, or the fence no
        longer has the version that it read.
        """
        self._zookeeper.make_parents(self._path)
        observed = self._zookeeper.read([self._path])[self._path]
        self._renew()
        token = secrets.token_hex(8).encode()
        version = None
        for ops in _anew(self._path, token, observed, max(self._highest, self._noted)):
            version = self._zookeeper.commit(ops)[-1]
        if version is None:
            raise Conflict(f"{self._path}: the version written is not known")
        return version

    @property
    def _noted(self) -> int:
        """The highest version that any leader noted on the Lease."""
        noted = ((self._notes and self._notes.annotations) or {}).get(FENCE, "")
        return int(noted) if noted.isdecimal() and len(noted) <= DIGITS else -1


def _anew(path: str, data: bytes, observed: Znode | None, highest: int) -> Iterator[list[Op]]:
    """The operations that write the fence so often that its version is higher than *highest*.

    >>> [len(ops) for ops in _anew("/f", b"", Znode(b"", 3), 2)]
    [1]
    >>> [len(ops) for ops in _anew("/f", b"", None, 7)]
    [9]
    """
    first: Op = Set(path, data, observed.version) if observed else Create(path, data)
    version = observed.version + 1 if observed else 0
    ops = [first, *(Set(path, data, before) for before in range(version, highest + 1))]
    for start in range(0, len(ops), OPS_A_TRANSACTION):
        yield ops[start : start + OPS_A_TRANSACTION]


def require_free(confined: Callable[[], str]) -> None:
    """Raise an ``Unanswered`` while *confined* says why nothing may be written to the API server."""
    reason = confined()
    if reason:
        raise Unanswered(reason)


class ConfinedPoster:
    """Posts Events, but none while *confined* says why not; they wait."""

    def __init__(self, kube: Poster, confined: Callable[[], str]) -> None:
        self._kube = kube
        self._confined = confined

    def raw(self, method: str, path: str, body: Mapping[str, Any], *, patience: float | None = None) -> Any:
        """Post an Event."""
        require_free(self._confined)
        return self._kube.raw(method, path, body, patience=patience)


class FencedKube:
    """Writes to the API server while *leading* holds; raises ``Fenced`` afterwards.

    While *confined* says why we do not lead and need not end, a write is not made, and counts as one that got
    no answer.  *slow* learns how long each write takes.
    """

    dry_run = False

    def __init__(
        self, kube: Kube, leading: Callable[[], bool], confined: Callable[[], str], slow: SlowNamespaces
    ) -> None:
        self._kube = kube
        self._leading = leading
        self._confined = confined
        self._slow = slow

    def create(
        self, resource: Resource[T], namespace: str, manifest: Mapping[str, Any], trial: bool = False
    ) -> T:
        """Create an object; a *trial* keeps nothing."""
        with self._write(resource, namespace):
            return self._kube.create(resource, namespace, manifest, trial)

    def replace(
        self, resource: Resource[T], key: ObjectKey, manifest: Mapping[str, Any], subresource: str = ""
    ) -> T:
        """Write an object, or a subresource of it, as a whole."""
        with self._write(resource, key.namespace):
            return self._kube.replace(resource, key, manifest, subresource)

    def patch(
        self, resource: Resource[T], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> T:
        """Merge *patch* into an object."""
        with self._write(resource, key.namespace):
            return self._kube.patch(resource, key, patch, subresource)

    def delete(self, resource: Resource[T], key: ObjectKey, uid: str, resource_version: str) -> None:
        """Delete the object, if it is still as read."""
        with self._write(resource, key.namespace):
            self._kube.delete(resource, key, uid, resource_version)

    @contextmanager
    def _write(self, resource: Resource[Any], namespace: str) -> Iterator[None]:
        if not self._leading():
            require_free(self._confined)
            raise Fenced("the Lease was not renewed in time: another process may lead now")
        with self._slow.timed(resource, namespace):
            yield
