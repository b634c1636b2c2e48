"""The fence: the znode whose version every write transaction checks.

A Lease alone keeps nobody from writing: a leader that was paused wakes and goes on where it was.  The
new leader changes the fence first, so the paused one's transactions fail as a whole.

Kubernetes has no such thing.  A resourceVersion is none: who wakes with an old store of pods reads the
newest RpcServices all the same.  There, who writes looks at the clock first.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rpcregistry.errors import Conflict, Fenced
from rpcregistry.manifests import Named, Resource
from rpcregistry.model import ObjectKey
from rpcregistry.plan.ledger import FENCES
from rpcregistry.plan.ops import Check, Create, Set
from rpcregistry.reconcile.ports import Kube, ZooKeeper

T = TypeVar("T", bound=Named)


class Fence:
    """The fence of one cluster id; *renew* renews the Lease, or raises where it is not ours any more."""

    def __init__(self, zookeeper: ZooKeeper, cluster_id: str, renew: Callable[[], None]) -> None:
        self._zookeeper = zookeeper
        self._renew = renew
        self._path = f"{FENCES}/{cluster_id}"
        self._version: int | None = None  # of the registry's thread, as all here

    def check(self) -> Check:
        """What every transaction starts with; takes the fence where it is not held yet."""
        if self._version is None:
            self._version = self._take()
        return Check(self._path, self._version)

    def gone(self, path: str) -> bool:
        """Whether *path*, which a transaction did not find, is the fence: then it is taken anew."""
        if path == self._path:
            self._version = None
        return path == self._path

    def _take(self) -> int:
        """Change the fence at the version read, with the Lease renewed in between.

        An old leader that wakes between the two cannot win: either its Lease cannot be renewed, or
        the version it read is no longer the fence's.
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
    """Writes to the API server while *leading* says that nobody else can; ``Fenced`` afterwards."""

    def __init__(self, kube: Kube, leading: Callable[[], bool]) -> None:
        self._kube = kube
        self._leading = leading

    def create(
        self, resource: Resource[T], namespace: str, manifest: Mapping[str, Any], trial: bool = False
    ) -> T:
        """Create an object, or try to."""
        self._check()
        return self._kube.create(resource, namespace, manifest, trial)

    def replace(
        self, resource: Resource[T], key: ObjectKey, manifest: Mapping[str, Any], subresource: str = ""
    ) -> T:
        """Write an object, or a subresource of it, as a whole."""
        self._check()
        return self._kube.replace(resource, key, manifest, subresource)

    def patch(
        self, resource: Resource[T], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> T:
        """Merge *patch* into an object."""
        self._check()
        return self._kube.patch(resource, key, patch, subresource)

    def delete(self, resource: Resource[T], key: ObjectKey, uid: str, resource_version: str) -> None:
        """Delete the object as it was read."""
        self._check()
        self._kube.delete(resource, key, uid, resource_version)

    def _check(self) -> None:
        if not self._leading():
            raise Fenced("the Lease was not renewed in time: another process may lead now")
