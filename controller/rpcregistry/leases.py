"""The Lease in the API server: the elector's record, and our annotations on it.

The Lease also stands for the registry as a whole.  Its annotations name the registry that its holder keeps
up (``CLUSTER_ID``, ``ZOOKEEPER``), and Events are about it.  So it exists without a leader election, too,
with no holder.

It is also our memory of the API server: it is written all the time, so a Lease that is older than it was
shows that the server was restored, even if its counter was raised.  Its first write destroys that evidence.
So this write notes the resourceVersion that was there (``TAKEN_AT``), until the process has compared it with
the heartbeat's.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from rpcregistry.errors import Absent, Ending, Failure, Rejected
from rpcregistry.kube.client import Kube
from rpcregistry.manifests import LEASES, annotations_of, made, read_lease, regarding_lease
from rpcregistry.model import RELEASED_BY, Lease, Regarding
from rpcregistry.plan import restored
from rpcregistry.plan.heartbeat import PERIOD
from rpcregistry.reconcile.lookout import Lookout
from rpcregistry.reconcile.memory import LeaseVersion

log = structlog.get_logger(__name__)

Notes = tuple[tuple[str, int], ...]  # see ``plan.restored.notes_of``

LEASE = "rpcregistry"
NAMESPACE = "rpcregistry"  # of the Lease, for a process outside of a cluster
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
CLUSTER_ID = "rpcregistry.dev/cluster-id"
ZOOKEEPER = "rpcregistry.dev/zookeeper"
TAKEN_AT = "rpcregistry.dev/taken-at"
KEPT_AT = "rpcregistry.dev/kept-at"
MOST_NOTES = 8
KEEP_EVERY = 2.0  # seconds
KEEP_AGAIN = 30.0  # seconds after a refusal: publishing does not need the Lease


def own_namespace() -> str | None:
    """The pod's namespace; None outside of a pod."""
    return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else None


def heard_namespace(lookout: Lookout) -> str:
    """The namespace of the Lease that the heartbeat names, for a process outside of a cluster."""
    try:
        found = lookout.look().found
    except Failure as failure:
        log.warning("the heartbeat cannot be read", reason=str(failure))
        return NAMESPACE
    return found.lease.partition("/")[0] if found and found.lease else NAMESPACE


class KubeLease:
    """The Lease *name* in *namespace*; leaves alone all but a ``Lease``'s fields and our annotations.

    The next write of the Lease also writes what ``annotate`` was given.  *regarding*: the object as an Event
    names it, or None before the first read.  One thread at a time writes the Lease (under ``Elector._turn``,
    or the one of ``keep``); any thread may read it, and call the rest.

    *seen*: the Lease as read or written last, None before that, and *record* what it says.  *identity*: this
    process.
    """

    def __init__(self, kube: Kube, namespace: str, name: str = LEASE, identity: str = "") -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self.full_name = f"{namespace}/{name}"
        self.regarding: Regarding | None = None  # replaced as a whole
        self._lock = threading.Lock()  # protects all that follows, but for reading what is public
        self._desired: dict[str, str | None] = {}  # None: no such annotation
        self._annotations: Mapping[str, str] | None = None
        self._subscribers: list[Callable[[Mapping[str, str]], None]] = []  # grows before anything starts
        self._on_went_back: list[Callable[[str], None]] = []  # so does this
        self.seen: LeaseVersion | None = None
        self.record: Lease | None = None
        self._found: tuple[str, int, Notes] | None = None  # uid, version and notes before our first write
        self._wrote = False
        self._compared = False

    @property
    def annotations(self) -> Mapping[str, str] | None:
        """As last read; None before the first read, since an old word must not look like a new one."""
        with self._lock:
            return self._annotations

    @property
    def written_at(self) -> float:
        """When the last write left; it cannot have arrived before."""
        return self._kube.written_at

    def annotate(self, name: str, value: str | None) -> None:
        """Have the next write set an annotation to *value*, or remove it if that is None."""
        with self._lock:
            self._desired[name] = value

    def on_annotations(self, notify: Callable[[Mapping[str, str]], None]) -> None:
        """Call *notify* with all annotations whenever they changed.  It must not block."""
        self._subscribers.append(notify)

    def on_went_back(self, notify: Callable[[str], None]) -> None:
        """Call *notify* with the reason if the Lease is older than it was."""
        self._on_went_back.append(notify)

    def before(self, holder: str) -> LeaseVersion | None:
        """The Lease before this process wrote it, and those that died after *holder* wrote the heartbeat.

        None if there was none.
        """
        if self._found is None:
            return None
        uid, version, notes = self._found
        return uid, restored.before(notes, holder, version)

    def compared(self) -> None:
        """Note that ``before`` was compared with the heartbeat: the Lease need not keep it any more."""
        with self._lock:
            self._compared = True
            self._desired[TAKEN_AT] = None

    def check(self) -> None:
        """Read the Lease, only to notice if it is older than it was; raises a ``Retry``."""
        seen = self.seen
        if seen is None:
            return
        with suppress(Absent, Rejected):
            self._compare(seen, _version(self._kube.raw("GET", self._path)))

    def _compare(self, seen: LeaseVersion, found: LeaseVersion) -> None:
        behind = restored.lease_behind(restored.Record(lease_uid=seen[0], lease_version=seen[1]), *found)
        for notify in self._on_went_back if behind else ():
            notify(behind)

    @property
    def _path(self) -> str:
        return LEASES.path(self._namespace, self._name)

    def get(self) -> Lease | None:
        """The Lease, if there is one."""
        try:
            return self._ask("GET", self._path)
        except Absent:
            return None

    def create(self, lease: Lease) -> Lease:
        """Create it; raises ``Conflict`` if it exists."""
        with self._lock:  # all of them, in case a person deleted the Lease
            annotations = {name: value for name, value in self._desired.items() if value is not None}
        manifest = made.lease(self._name, lease, annotations)
        try:
            return self._write("POST", LEASES.path(self._namespace), manifest)
        except Ending as failure:
            mend = f"kubectl create namespace {self._namespace}, or give another --lease-namespace"
            raise Rejected(f"there is no namespace {self._namespace} for the Lease: {mend}") from failure

    def update(self, lease: Lease) -> Lease:
        """Write it; raises ``Conflict`` if another writer changed it since it was read."""
        self.annotate(RELEASED_BY, lease.released_by or None)
        return self._patch(lease)

    def keep(self, over: threading.Event) -> None:
        """Without a leader election: until *over*, keep a Lease with our annotations and no holder.

        It is written once a heartbeat, as one that is held would be.
        """
        said, pause, due = "", 0.0, 0.0
        while not over.wait(pause):
            try:
                if self.get() is None:
                    self.create(Lease(seconds=1))  # as one that was released
                if time.monotonic() >= due:
                    due = time.monotonic() + PERIOD
                    self.annotate(KEPT_AT, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
                if self._missing():
                    self._patch(None)
                said, pause = "", KEEP_EVERY
            except Failure as failure:
                if str(failure) != said:
                    log.warning("there is no Lease for Events and releases", reason=str(failure))
                said, pause = str(failure), KEEP_AGAIN if isinstance(failure, Rejected) else KEEP_EVERY

    def _patch(self, lease: Lease | None) -> Lease:
        if not self._wrote and self._found:
            _, version, notes = self._found
            said = (*notes[: MOST_NOTES - 1], (self._identity, version))
            with self._lock:
                if not self._compared:
                    self._desired[TAKEN_AT] = " ".join(f"{who}={noted}" for who, noted in said)
        return self._write("PATCH", self._path, made.lease_patch(lease, self._missing()))

    def _write(self, method: str, path: str, manifest: Mapping[str, Any]) -> Lease:
        written = self._ask(method, path, manifest)
        self._wrote = True
        return written

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Lease:
        """Send a request, and note what the answer shows; return that.

        It must not be older than what was noted before the request.  It may be older than what another thread
        noted meanwhile; then that counts.
        """
        before = self.seen
        manifest = self._kube.raw(method, path, body)
        found, annotations, record = _version(manifest), annotations_of(manifest), read_lease(manifest)
        with self._lock:
            newer = self.seen if self.seen is not before else None
            if newer and newer[0] == found[0] and newer[1] > found[1]:
                return record
            changed, self._annotations = annotations != self._annotations, annotations
            self.regarding = regarding_lease(manifest)
            self.seen, self.record = found, record
            if not self._wrote and method == "GET":
                self._found = *found, restored.notes_of(annotations.get(TAKEN_AT, ""))
        if before:
            self._compare(before, found)
        if changed:
            for notify in self._subscribers:
                notify(annotations)
        return record

    def _missing(self) -> dict[str, str | None]:
        """The annotations that have to be written."""
        with self._lock:
            return {
                name: value
                for name, value in self._desired.items()
                if (self._annotations or {}).get(name) != value
            }


def _version(manifest: Mapping[str, Any]) -> LeaseVersion:
    metadata = manifest["metadata"]
    return str(metadata.get("uid", "")), int(metadata["resourceVersion"])
