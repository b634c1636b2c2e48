"""The Kubernetes API server: reads, watches and writes objects."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from rpcregistry.errors import Absent, Rejected
from rpcregistry.kube.access import SERVICE_ACCOUNT, ApiServer, api_server
from rpcregistry.kube.failures import ROLES, translated
from rpcregistry.kube.reader import Reader, url_path
from rpcregistry.kube.requests import TIMEOUTS, Requests, Timeouts, unmeasured
from rpcregistry.manifests import Named, Resource
from rpcregistry.model import ObjectKey
from rpcregistry.watch import Listing

T = TypeVar("T", bound=Named)

PAGE = 500
_RAW_PATH = re.compile(r"/apis?(/[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)+")


class Kube:
    """A client of one API server, for any number of threads.

    *load* reads the configuration; it is called again if the server refuses credentials or certificates.
    A LIST reads *page* objects at a time, since a page is in memory as a whole.  *roles*: the file that a
    message names if a right is missing.  *answered*: as ``Requests``' own.
    """

    dry_run = False

    def __init__(
        self,
        load: Callable[[], ApiServer],
        timeouts: Timeouts = TIMEOUTS,
        page: int = PAGE,
        roles: str = ROLES,
        answered: Callable[[str, str, float], None] = unmeasured,
    ) -> None:
        self._requests = Requests(load, timeouts, roles, answered)
        self._page = page

    @classmethod
    def from_config(
        cls,
        kubeconfig: str | None,
        context: str | None = None,
        *,
        connections: int = 64,
        timeouts: Timeouts = TIMEOUTS,
        page: int = PAGE,
        roles: str = ROLES,
        service_account: Path = SERVICE_ACCOUNT,
        answered: Callable[[str, str, float], None] = unmeasured,
    ) -> "Kube":
        """Make a client of the server that ``api_server`` finds; raises ``Misconfigured``.

        *connections*: at least as many as watches and concurrent writers.
        """

        def load() -> ApiServer:
            return api_server(kubeconfig, context, service_account, connections)

        return cls(load, timeouts, page, roles, answered)

    @property
    def context(self) -> str:
        """The kubeconfig's context in use, or ``in-cluster``."""
        return self._requests.server.context

    @property
    def namespace(self) -> str:
        """The context's namespace; in a cluster, the pod's own."""
        return self._requests.server.namespace

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._requests.server.host

    @property
    def written_at(self) -> float:
        """When the last write left, in seconds of the monotonic clock; for clients of one thread."""
        return self._requests.written_at

    def reader(self, resource: Resource[T], namespace: str = "", label_selector: str = "") -> Reader[T]:
        """What an informer needs: LIST and WATCH of one resource."""
        return Reader(self._requests, resource, namespace, label_selector, self._page)

    def list(self, resource: Resource[T], namespace: str = "", label_selector: str = "") -> Listing[T]:
        """Read every object, by a quorum read."""
        return self.reader(resource, namespace, label_selector).list()

    def get(self, resource: Resource[T], key: ObjectKey) -> T | None:
        """Read an object; None if it does not exist.  ``Unknown`` if its kind does not."""
        what = f"get {resource.kind} {key}"
        try:
            return _decoded(
                what, resource, self._requests.read(what, url_path(resource, key.namespace, key.name))
            )
        except Absent:
            return None

    def create(
        self, resource: Resource[T], namespace: str, manifest: Mapping[str, Any], trial: bool = False
    ) -> T:
        """Create an object; ``Conflict`` if the name is taken.  A *trial* is a dry run at the server."""
        what = f"create {resource.kind} {namespace}/{manifest['metadata']['name']}"
        body = self._requests.write("POST", what, url_path(resource, namespace), manifest, trial)
        return _decoded(what, resource, body)

    def replace(
        self, resource: Resource[T], key: ObjectKey, manifest: Mapping[str, Any], subresource: str = ""
    ) -> T:
        """Replace an object, or a *subresource* of it.

        ``Conflict`` unless the manifest's resourceVersion is the object's.
        """
        what = f"replace {resource.kind} {key}"
        path = url_path(resource, key.namespace, key.name, *((subresource,) if subresource else ()))
        return _decoded(what, resource, self._requests.write("PUT", what, path, manifest))

    def patch(
        self, resource: Resource[T], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> T:
        """Merge *patch* into an object.

        ``Conflict`` if the object was deleted (then ``Absent``), or if the patch has another uid or
        resourceVersion than the object.
        """
        what = f"patch {resource.kind} {key}"
        path = url_path(resource, key.namespace, key.name, *((subresource,) if subresource else ()))
        return _decoded(what, resource, self._requests.write("PATCH", what, path, patch))

    def delete(self, resource: Resource[T], key: ObjectKey, uid: str, resource_version: str) -> None:
        """Delete the object; ``Conflict`` if it changed since it was read.  If it is absent, all is well."""
        what = f"delete {resource.kind} {key}"
        path = url_path(resource, key.namespace, key.name)
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        with suppress(Absent):
            self._requests.write("DELETE", what, path, {"preconditions": preconditions})

    def raw(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        patience: float | None = None,
    ) -> Any:
        """Send any other request, and decode the JSON answer; *path* begins with ``/api``.  Never DELETE.

        *patience*: see ``Requests.write``.
        """
        if method not in ("GET", "POST", "PUT", "PATCH") or not _RAW_PATH.fullmatch(path):
            raise Rejected(f"{method} {path!r}: no such request is made")
        what = f"{method} {path}"
        answer = (
            self._requests.read(what, path)
            if method == "GET"
            else self._requests.write(method, what, path, body or {}, patience=patience)
        )
        with translated(what):
            return msgspec.json.decode(answer)

    def read(self, what: str, path: str, query: Mapping[str, str] | None = None) -> bytearray:
        """GET *path*; *what* begins the message of a failure, like ``list leases``."""
        return self._requests.read(what, path, query)

    def cluster_id(self) -> str:
        """The id of this cluster: the UID of its namespace kube-system."""
        return str(self.raw("GET", "/api/v1/namespaces/kube-system")["metadata"]["uid"])

    def stop(self) -> None:
        """End all watches; those that start later end at once."""
        self._requests.stop()


def _decoded(what: str, resource: Resource[T], body: bytearray) -> T:
    try:
        return resource.decode(bytes(body))
    except (msgspec.MsgspecError, ValueError) as error:
        raise Rejected(f"{what}: the object cannot be read: {error}") from error
