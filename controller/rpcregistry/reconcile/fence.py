"""The fence: the znode whose version every write transaction checks.

A Lease alone stops no writer: a paused leader wakes and continues where it was.  The new leader changes
the fence first, so the paused one's transactions fail as a whole.

Kubernetes has no fence.  A resourceVersion is none: a leader that wakes with an old store of pods still reads
the newest RpcServices.  So before each write to the API server, the leader checks the clock.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from rpcregistry.errors import Conflict, Fenced
from rpcregistry.manifests import Named, Resource
from rpcregistry.model import ObjectKey
from rpcregistry.plan.ledger import FENCES
from rpcregistry.plan.ops import Check, Create, Set
from rpcregistry.reconcile.ports import Kube, ZooKeeper
from rpcregistry.reconcile.slow import SlowNamespaces

T = TypeVar("T", bound=Named)


class Fence:
    """The fence of one cluster id; *renew* renews the Lease, or raises if we lost it."""

    def __init__(self, zookeeper: ZooKeeper, cluster_id: str, renew: Callable[[], None]) -> None:
        self._zookeeper = zookeeper
        self._renew = renew
        self._path = f"{FENCES}/{cluster_id}"
        self._version: int | None = None  # belongs to the registry's thread, as all here

    def check(self) -> Check:
        """Return the first operation of every transaction; take the fence if we do not hold it yet."""
        if self._version is None:
            self._version = self._take()
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
        op = Set(self._path, token, observed.version) if observed else Create(self._path, token)
        version = self._zookeeper.commit([op])[0]
        if version is None:
            raise Conflict(f"{self._path}: the version written is not known")
        return version


class FencedKube:
    """Writes to the API server while *leading* holds; raises ``Fenced`` afterwards.

    *slow* learns how long each write takes.
    """

    def __init__(self, kube: Kube, leading: Callable[[], bool], slow: SlowNamespaces) -> None:
        self._kube = kube
        self._leading = leading
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
            raise Fenced("the Lease was not renewed in time: another process may lead now")
        with self._slow.timed(resource, namespace):
            yield
