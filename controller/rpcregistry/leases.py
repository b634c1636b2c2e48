"""The Lease in the API server: as the elector sees it, and what else is written on it.

A Lease is also where people look at the registry as a whole: its annotations say which registry its holder
keeps up (``CLUSTER_ID``, ``ZOOKEEPER``), and Events are about it.  So it is there without a leader
election, too, held by nobody.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from rpcregistry.errors import Absent, Ending, Failure, Rejected
from rpcregistry.kube.client import Kube
from rpcregistry.manifests import LEASES, annotations_of, made, read_lease, regarding_lease
from rpcregistry.model import RELEASED_BY, Lease, Regarding
from rpcregistry.reconcile.lookout import Lookout

log = structlog.get_logger(__name__)

LEASE = "rpcregistry"
NAMESPACE = "rpcregistry"  # where the Lease lies, seen from outside of a cluster
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
CLUSTER_ID = "rpcregistry.dev/cluster-id"
ZOOKEEPER = "rpcregistry.dev/zookeeper"
KEEP_EVERY = 2.0  # seconds
KEEP_AGAIN = 30.0  # seconds, where it cannot be kept: nobody needs it to publish


def own_namespace() -> str | None:
    """The pod's namespace; None outside of a pod."""
    return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else None


def heard_namespace(lookout: Lookout) -> str:
    """From outside of a cluster: where the Lease lies that the heartbeat names."""
    try:
        found = lookout.look().found
    except Failure as failure:
        log.warning("the heartbeat cannot be read", reason=str(failure))
        return NAMESPACE
    return found.lease.partition("/")[0] if found and found.lease else NAMESPACE


class KubeLease:
    """The Lease *name* in *namespace*; what a ``Lease`` and our annotations do not hold is left alone.

    What ``annotate`` is given is written with the next write of the Lease.  *regarding*: the object as an
    Event names it, once it was seen.  One thread at a time reads and writes the Lease (``Elector._turn``, or
    that of ``keep``); any thread may call what remains.
    """

    def __init__(self, kube: Kube, namespace: str, name: str = LEASE) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self.full_name = f"{namespace}/{name}"
        self.regarding: Regarding | None = None  # replaced as a whole
        self._lock = threading.Lock()  # protects _wanted and _annotations
        self._wanted: dict[str, str | None] = {}  # None: that there is none
        self._annotations: Mapping[str, str] | None = None
        self._told: list[Callable[[Mapping[str, str]], None]] = []  # grows before anything starts

    @property
    def annotations(self) -> Mapping[str, str] | None:
        """As they were seen last; None before, since an old word must not look like a new one."""
        with self._lock:
            return self._annotations

    def annotate(self, name: str, value: str | None) -> None:
        """Have an annotation say *value*, or not be there."""
        with self._lock:
            self._wanted[name] = value

    def on_annotations(self, told: Callable[[Mapping[str, str]], None]) -> None:
        """Call *told* with all annotations whenever they changed.  It must not block."""
        self._told.append(told)

    def get(self) -> Lease | None:
        """The Lease, if there is one."""
        try:
            return self._seen(self._kube.raw("GET", LEASES.path(self._namespace, self._name)))
        except Absent:
            return None

    def create(self, lease: Lease) -> Lease:
        """Create it; ``Conflict`` where there is one."""
        with self._lock:  # all of them: one that was deleted by hand had them, too
            annotations = {name: value for name, value in self._wanted.items() if value is not None}
        manifest = made.lease(self._name, lease, annotations)
        try:
            return self._seen(self._kube.raw("POST", LEASES.path(self._namespace), manifest))
        except Ending as failure:
            mend = f"kubectl create namespace {self._namespace}, or give another --lease-namespace"
            raise Rejected(f"there is no namespace {self._namespace} for the Lease: {mend}") from failure

    def update(self, lease: Lease) -> Lease:
        """Write it; ``Conflict`` where somebody else wrote it since it was read."""
        self.annotate(RELEASED_BY, lease.released_by or None)
        return self._patch(lease)

    def keep(self, over: threading.Event) -> None:
        """Without a leader election: until *over*, keep the Lease there, held by nobody, as annotated."""
        said, pause = "", 0.0
        while not over.wait(pause):
            try:
                if self.get() is None:
                    self.create(Lease(seconds=1))  # as one that was released
                if self._missing():
                    self._patch(None)
                said, pause = "", KEEP_EVERY
            except Failure as failure:
                if str(failure) != said:
                    log.warning("there is no Lease for Events and releases", reason=str(failure))
                said, pause = str(failure), KEEP_AGAIN

    def _patch(self, lease: Lease | None) -> Lease:
        patch = made.lease_patch(lease, self._missing())
        return self._seen(self._kube.raw("PATCH", LEASES.path(self._namespace, self._name), patch))

    def _missing(self) -> dict[str, str | None]:
        """What of the annotations has to be written."""
        with self._lock:
            return {
                name: value
                for name, value in self._wanted.items()
                if (self._annotations or {}).get(name) != value
            }

    def _seen(self, manifest: Mapping[str, Any]) -> Lease:
        annotations = annotations_of(manifest)
        with self._lock:
            changed, self._annotations = annotations != self._annotations, annotations
        self.regarding = regarding_lease(manifest)
        if changed:
            for told in self._told:
                told(annotations)
        return read_lease(manifest)
