"""``--dry-run``: reads as always, and prints each write as a line of a diff instead of making it."""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import structlog

from rpcregistry.errors import Conflict
from rpcregistry.manifests import Named, Resource
from rpcregistry.model import Lease, ObjectKey, Regarding
from rpcregistry.plan.diff import Line, of_object, of_znode, summary
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.ops import Op, Set
from rpcregistry.reconcile.memory import LeaseVersion
from rpcregistry.reconcile.ports import Source, ZooKeeper
from rpcregistry.telemetry.logging import printable

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=Named)


def to_standard_output(line: str) -> None:
    """Print a line in one piece, so that those of several threads do not mix."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Diff:
    """The writes that would be made, each once, however often they are planned; for any thread.

    *write* prints a line.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._lock = threading.Lock()  # protects _lines
        self._lines: dict[Line, None] = {}

    def add(self, line: Line | None) -> None:
        """Print a line, unless it was printed before."""
        with self._lock:
            if line is None or line in self._lines:
                return
            self._lines[line] = None
        self._write(printable(str(line)))

    def __len__(self) -> int:
        with self._lock:
            return len(self._lines)

    def __str__(self) -> str:
        with self._lock:
            return summary(self._lines)


class DryRunKube:
    """Writes nothing.  A patch returns the object as it is, or as a ``create`` would have made it.

    *sources*: where objects are looked up, by the plural of their resource.  *diff* gets each write.
    """

    dry_run = True

    def __init__(self, sources: Mapping[str, Source[Any]], diff: Diff) -> None:
        self._sources = sources  # grows before anything starts
        self._diff = diff
        self._lock = threading.Lock()  # protects _made
        self._made: dict[tuple[str, ObjectKey], Any] = {}

    def create(
        self, resource: Resource[T], namespace: str, manifest: Mapping[str, Any], trial: bool = False
    ) -> T:
        """Print what would be created."""
        name = f"{namespace}/{manifest['metadata']['name']}"
        self._diff.add(of_object("+", resource.kind, name))
        metadata = {**manifest["metadata"], "uid": "dry-run", "resourceVersion": "0"}
        made = resource.decode(msgspec.json.encode({**manifest, "metadata": metadata}))
        with self._lock:
            self._made[resource.plural, made.key] = made
        return made

    def replace(
        self, resource: Resource[T], key: ObjectKey, manifest: Mapping[str, Any], subresource: str = ""
    ) -> T:
        """Print what would be written."""
        return self._changed(resource, key, manifest)

    def patch(
        self, resource: Resource[T], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> T:
        """Print what would be patched."""
        return self._changed(resource, key, patch)

    def _changed(self, resource: Resource[T], key: ObjectKey, body: Mapping[str, Any]) -> T:
        self._diff.add(of_object("~", resource.kind, str(key), body))
        source = self._sources.get(resource.plural)
        with self._lock:
            made = self._made.get((resource.plural, key))
        observed: T | None = (source and source.store.get(key)) or made
        if observed is None:
            raise Conflict(f"{resource.kind} {key} was deleted")
        return observed

    def delete(self, resource: Resource[T], key: ObjectKey, uid: str, resource_version: str) -> None:
        """Print what would be deleted."""
        self._diff.add(of_object("-", resource.kind, str(key)))


class DryRunZooKeeper:
    """Reads ZooKeeper and writes nothing to it; *diff* gets each write."""

    def __init__(self, zookeeper: ZooKeeper, diff: Diff) -> None:
        self._zookeeper = zookeeper
        self._diff = diff
        self.read = zookeeper.read
        self.children = zookeeper.children
        self.listed = zookeeper.listed
        self.seals = zookeeper.seals

    @property
    def connected(self) -> bool:
        """As ZooKeeper's."""
        return self._zookeeper.connected

    @property
    def generation(self) -> int:
        """As ZooKeeper's."""
        return self._zookeeper.generation

    def commit(self, ops: Sequence[Op]) -> list[int | None]:
        """Print what would be written; the versions are those that it would leave behind."""
        for op in ops:
            self._diff.add(of_znode(op))
        return [op.version if isinstance(op, Set) else None for op in ops]

    def make_parents(self, path: str) -> None:
        """Make none."""


class NoPoster:
    """Posts no Events: in a dry run."""

    def raw(self, method: str, path: str, body: Mapping[str, Any], *, patience: float | None = None) -> Any:
        """Log the Event that would be posted."""
        log.info("dry run: event", reason=body["reason"], note=body["note"], about=body["regarding"]["name"])


class DryRunLease:
    """No Lease: nothing is written on it, and no hold can be released there."""

    full_name = ""
    seen: LeaseVersion | None = None
    record: Lease | None = None
    annotations: Mapping[str, str] | None = None
    regarding: Regarding | None = None

    def annotate(self, name: str, value: str | None) -> None:
        """Write nothing."""

    def on_annotations(self, notify: Callable[[Mapping[str, str]], None]) -> None:
        """Never call *notify*."""

    def on_went_back(self, notify: Callable[[str], None]) -> None:
        """Never call *notify*."""

    def before(self, holder: str) -> LeaseVersion | None:
        """There was none."""

    def check(self) -> None:
        """Notice nothing."""

    def compared(self) -> None:
        """Note nothing."""


class DryRunLeadership:
    """Leads at once.  It takes no Lease and no fence, and looks for no other process."""

    leading = True
    confined = ""
    trouble = ""

    def __init__(self, lease: DryRunLease) -> None:
        self._begin: list[Callable[[], None]] = []  # grows before ``run``
        self._found: list[Callable[[Heartbeat], None]] = []  # so does this
        self.lease = lease
        self.clear = threading.Event()
        self.clear.set()

    def subscribe(self, begin: Callable[[], None]) -> None:
        """Call *begin* by ``run``."""
        self._begin.append(begin)

    def on_found(self, judge: Callable[[Heartbeat], None]) -> None:
        """Call *judge* by ``run``, with an empty heartbeat."""
        self._found.append(judge)

    def run(self) -> None:
        """Begin."""
        for judge in self._found:
            judge(Heartbeat())
        for begin in self._begin:
            begin()

    def renewed(self) -> float | None:
        """Return None: there is no Lease."""
        return None

    def require_clear(self) -> None:
        """Never raise: a dry run writes nothing."""

    def renew(self) -> None:
        """Do nothing: there is no Lease."""

    def release(self) -> None:
        """Do nothing: there is no Lease."""
