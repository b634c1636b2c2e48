"""The Lease in the API server, as the elector sees it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.kube import Absent, Kube
from controller.model import Regarding
from controller.runtime.election import Lease, decode, encode

LEASE = "rpcregistry"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def own_namespace() -> str:
    """The pod's namespace; ``default`` outside of a pod."""
    return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default"


class KubeLease:
    """The Lease *name* in *namespace*; what a ``Lease`` does not hold is left alone by ``update``.

    *regarding*: the object as an Event names it, once it was seen.
    """

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self._kube = kube
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self.regarding: Regarding | None = None

    def get(self) -> Lease | None:
        """The Lease, if there is one."""
        try:
            return self._seen(self._kube.raw("GET", f"{self._collection}/{self._name}"))
        except Absent:
            return None

    def create(self, lease: Lease) -> Lease:
        """Create it; ``Conflict`` where there is one."""
        manifest = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": {key: value for key, value in encode(lease).items() if value is not None},
        }
        return self._seen(self._kube.raw("POST", self._collection, manifest))

    def update(self, lease: Lease) -> Lease:
        """Write it; ``Conflict`` where somebody else wrote it since it was read."""
        patch = {"metadata": {"resourceVersion": lease.resource_version}, "spec": encode(lease)}
        return self._seen(self._kube.raw("PATCH", f"{self._collection}/{self._name}", patch))

    def _seen(self, manifest: Mapping[str, Any]) -> Lease:
        metadata = manifest["metadata"]
        self.regarding = Regarding(
            "coordination.k8s.io/v1", "Lease", metadata["namespace"], metadata["name"], metadata["uid"]
        )
        return decode(manifest)
