"""``rpcregistry verify``: compares RpcServices with pods, and ZooKeeper with RpcServices."""

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import msgspec

from rpcregistry.commands.printing import cannot_look
from rpcregistry.commands.progress import Progress
from rpcregistry.commands.reading import beat_of, lease_of
from rpcregistry.commands.report import REPORTS, Inspection
from rpcregistry.commands.whereabouts import Whereabouts
from rpcregistry.errors import Absent, Failure, Misconfigured, Rejected, Retry, Unknown
from rpcregistry.kube.client import Kube
from rpcregistry.layouts import LAYOUTS, Layout
from rpcregistry.manifests import PODS, RPCSERVICES, Named, Resource
from rpcregistry.model import Pod, Problem, Regarding, ServiceKey
from rpcregistry.plan.findings import Counts, Finding, confirmed, exit_code
from rpcregistry.plan.ledger import ledger_root, service_name_of
from rpcregistry.plan.listing import owners
from rpcregistry.plan.pods import silent_on
from rpcregistry.plan.publication import PublicationSettings
from rpcregistry.plan.scope import Scope
from rpcregistry.plan.verify import Cluster, Views, findings_of, ours
from rpcregistry.reconcile import ports
from rpcregistry.reconcile.cache import ZnodeCache
from rpcregistry.reconcile.reads import Unread
from rpcregistry.reconcile.registration import Registration
from rpcregistry.reconcile.uncovered import uncovered_entries
from rpcregistry.settings import Target
from rpcregistry.watch import Listing
from rpcregistry.zookeeper.client import ZooKeeper

T = TypeVar("T", bound=Named)

AT_ONCE = 500  # services, whose znodes are read before that is told
SECOND_LOOK = 5.0  # seconds after the first: longer than a change is in progress


def verify_registry(
    target: Target,
    scope: Scope,
    *,
    timeout: float,
    output: str,
    exit_on: Collection[str],
    only: Collection[str] = (),
    watching: bool = False,
) -> int:
    """Print what differs; return 2 if we could not look, 1 if a finding's state is in *exit_on*, else 0.

    *timeout*: seconds to wait for the connection to ZooKeeper.  *only*: names of services; all, if there are
    none.  *watching*: go on until interrupted, and print what differs whenever that changes.
    """
    try:
        kube = Kube.from_config(target.kubeconfig, target.context)
        where = Whereabouts.of(kube, target.cluster_id, target.zk_servers, target.layouts)
        report = REPORTS[output](where, scope)
        require_namespaces(kube, target.namespaces)
        with ExitStack() as stack:
            connection = ZooKeeper.connected_to(target.zk_servers, timeout, target.zk_access)
            inspector = Inspector(
                kube=kube,
                connect=lambda: stack.enter_context(connection),
                layouts=target.layouts,
                scope=scope,
                settings=target.publication(where.cluster_id),
                only=only,
            )
            with Progress() as progress:
                inspection = inspect_twice(partial(inspector.inspect, progress), partial(_pause, progress))
            while watching:
                report.show(inspection)
                inspection = changed(inspector.inspect, inspection, lambda: time.sleep(SECOND_LOOK))
    except Failure as failure:
        return cannot_look(failure)
    report.show(inspection)
    return exit_code(inspection.findings, exit_on)


def compared(kube: Kube, target: Target, scope: Scope, service: str, timeout: float) -> Sequence[Finding]:
    """The confirmed findings about one service, whichever namespaces it lies in; raises a ``Failure``."""
    with ZooKeeper.connected_to(target.zk_servers, timeout, target.zk_access) as zookeeper:
        inspector = Inspector(
            kube=kube,
            connect=lambda: zookeeper,
            layouts=target.layouts,
            scope=scope,
            settings=target.publication(target.cluster_id or kube.cluster_id()),
            only=[service],
        )
        return inspect_twice(inspector.inspect, lambda: time.sleep(SECOND_LOOK)).findings


def _pause(progress: Callable[[str], None]) -> None:
    progress(f"looking again in {SECOND_LOOK:g} s: what differs may be in progress")
    time.sleep(SECOND_LOOK)


def changed(inspect: Callable[[], Inspection], before: Inspection, wait: Callable[[], None]) -> Inspection:
    """Inspect, after a *wait* each, until other findings are confirmed; go on if a server does not answer."""
    said = ""
    while True:
        wait()
        try:
            now = inspect_twice(inspect, wait)
        except Retry as failure:
            if str(failure) != said:
                said = str(failure)
                sys.stderr.write(f"rpcregistry: cannot look, trying again: {' '.join(said.split())}\n")
            continue
        said = ""
        if now.findings != before.findings:
            return now


def inspect_twice(inspect: Callable[[], Inspection], wait: Callable[[], None]) -> Inspection:
    """Inspect; if something is found, *wait* and inspect again: only what was found twice counts."""
    first = inspect()
    if not first.findings:
        return first
    wait()
    second = inspect()
    return msgspec.structs.replace(second, findings=confirmed(first.findings, second.findings))


class Reads(Protocol):
    """Reads the API server: see ``Kube``."""

    def list(self, resource: Resource[T], namespace: str = "", label_selector: str = "") -> Listing[T]: ...
    def raw(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any: ...


def require_namespaces(kube: Reads, namespaces: Iterable[str]) -> None:
    """Raise ``Misconfigured`` if one of *namespaces* does not exist, as far as we may read them.

    A LIST in a missing namespace succeeds, and is empty.
    """
    for namespace in namespaces:
        with suppress(Unknown):
            try:
                kube.raw("GET", f"/api/v1/namespaces/{namespace}")
            except Absent as absent:
                raise Misconfigured(f"--namespace: there is no namespace {namespace!r}") from absent


class Inspector:
    """Reads pods, RpcServices and znodes, anew for each inspection: one LIST a kind and namespace.

    *only*: the services to compare; all, if there are none.
    """

    def __init__(
        self,
        *,
        kube: Reads,
        connect: Callable[[], ports.ZooKeeper],
        layouts: Sequence[Layout],
        scope: Scope,
        settings: PublicationSettings,
        only: Collection[str] = (),
    ) -> None:
        self._kube = kube
        self._connect = connect
        self._layouts = layouts
        self._scope = scope
        self._settings = settings
        self._only = only
        self._permissions = _Permissions(kube) if scope.require_register_permission else None

    @cached_property
    def _zookeeper(self) -> ports.ZooKeeper:
        """Connected after the cluster was read, so that its failures need not wait for ZooKeeper."""
        return self._connect()

    def inspect(self, progress: Callable[[str], None] = lambda _: None) -> Inspection:
        """Read the cluster, and compare once; some findings may be changes in progress.

        *progress* is called with what is done now, in words.
        """
        progress("reading pods and RpcServices …")
        return self.compare(*self.read(), progress)

    def compare(
        self, cluster: Cluster, notes: tuple[str, ...], progress: Callable[[str], None] = lambda _: None
    ) -> Inspection:
        """Compare what ``read`` returned with ZooKeeper."""
        beat = beat_of(self._zookeeper, self._settings.cluster_id)
        if beat and beat.lease:
            cluster = msgspec.structs.replace(
                cluster, held=self._held(beat.lease), restored=bool(beat.seen.restored)
            )
        views, strange = self._views(cluster, progress)
        names = {service.service_name for service in cluster.services} | cluster.named
        return Inspection(
            findings=(
                *findings_of(cluster, views, self._settings, kept_up=beat is not None),
                *(() if self._only else (*strange, *self._left())),
            ),
            counts=Counts(
                services=len(names),
                znodes=sum(
                    ours(layout, view, self._settings)
                    for layout, seen in views
                    for name, view in seen.items()
                    if name in names or not self._scope.namespaces
                ),
                pods=len(cluster.pods),
            ),
            beat=beat,
            notes=notes,
        )

    # the cluster

    def read(self) -> tuple[Cluster, tuple[str, ...]]:
        """The pods and RpcServices, and notes on what could not be read."""
        pods = self._list(PODS, self._scope.pod_label_selector)
        services = self._list(RPCSERVICES)
        cluster = Cluster(
            pods=[pod for listing in pods for pod in listing.items],
            services=[service for listing in services for service in listing.items],
            namespaces=self._scope.namespaces,
            unreadable=[
                *(item for listing in pods for item in listing.unreadable),
                *(item for listing in services for item in listing.unreadable),
            ],
        )
        cluster = cluster.only(self._only) if self._only else cluster
        return self._permissions.apply(cluster) if self._permissions else (cluster, ())

    def _list(self, resource: Resource[T], label_selector: str = "") -> list[Listing[T]]:
        namespaces = self._scope.namespaces or ("",)
        return [self._kube.list(resource, namespace, label_selector) for namespace in namespaces]

    def _held(self, lease: str) -> frozenset[str]:
        """The names of services that are held by the Lease's annotation; none if we may not read it."""
        namespace, _, name = lease.partition("/")
        with suppress(Rejected):
            found = lease_of(self._kube, namespace, name)
            return found.held[0] if found else frozenset()
        return frozenset()

    # the registry

    def _views(self, cluster: Cluster, progress: Callable[[str], None]) -> tuple[Views, list[Finding]]:
        """The znodes of every service in every layout, and findings of znodes that can be no service's."""
        clusters = self._settings.clusters
        listed = {service.service_name for service in cluster.services}
        names: list[tuple[Layout, set[str]]] = []
        strange: list[Finding] = []
        for layout in self._layouts:
            present = set(self._zookeeper.children(layout.base))
            ledgered = {
                service_name_of(layout, entry, clusters)
                for entry in self._zookeeper.children(ledger_root(layout))
            }
            services = {layout.service_at(child) for child in present} | ledgered
            found = listed | set(filter(None, services))
            names.append((layout, found.intersection(self._only) if self._only else found))
            strange += [
                Finding(layout.name, f"{layout.base.rstrip('/')}/{child}", "foreign", "nothing of ours")
                for child in present
                if layout.names_services and layout.service_at(child) is None
            ]
        cache = ZnodeCache(self._zookeeper, self._layouts, clusters)
        everything = sorted({name for _, services in names for name in services})
        for start in range(0, len(everything), AT_ONCE):
            progress(f"reading the znodes of {len(everything):,} services: {start:,} are read …")
            cache.read(everything[start : start + AT_ONCE])
        views = [(layout, {name: cache.view(layout, name) for name in found}) for layout, found in names]
        return views, strange

    def _left(self) -> Iterator[Finding]:
        """Existing znodes that the ledger names, of layouts that we were not given."""
        entries = uncovered_entries(self._zookeeper, self._layouts, self._settings.clusters)
        standing = [
            (name, _place(name, path)) for (name, path), entry in entries.items() if not entry.withdrawn_at
        ]
        znodes = self._zookeeper.read({path for _, path in standing})
        for name, path in standing:
            # Without its template, only a layout of ours has a known place.
            if znodes[path] or name not in LAYOUTS:
                missing = f"--layout {name}={path.rpartition('/')[0]}"
                yield Finding(name, path, "left", f"the ledger names it, and there is no {missing}")


def _place(layout: str, path: str) -> str:
    """The path at which a known layout writes the service of *path* in the ledger; else *path*."""
    base, _, service_name = path.rpartition("/")
    return Layout(layout, base).path(service_name) if layout in LAYOUTS else path


class _Permissions:
    """Applies ``--require-register-permission`` as the controllers do."""

    def __init__(self, kube: Reads) -> None:
        self._registration = Registration(kube.raw, _NoEvents(), time.monotonic)

    def apply(self, cluster: Cluster) -> tuple[Cluster, tuple[str, ...]]:
        """Drop what pods may not register; also return notes, if we may not ask the API server."""
        names = owners(cluster.pods, cluster.services)
        try:
            pods = [self._permitted(pod, names) for pod in cluster.pods]
        except Unread as unread:
            if not unread.rejected:
                raise
            unsure = "cannot ask which pods may register: those that may not are found as not listed"
            return cluster, (f"{unsure}: {unread}",)
        return msgspec.structs.replace(cluster, pods=pods), ()

    def _permitted(self, pod: Pod, names: Mapping[ServiceKey, str]) -> Pod:
        for name in {declaration.service_name for declaration in pod.declarations}:
            if not self._registration.may_register(pod, names[ServiceKey(pod.namespace, name)]):
                pod = silent_on(pod, name)
        return pod


class _NoEvents:
    """Records no Events: the controllers do."""

    def record(
        self, regarding: Regarding, problem: Problem, action: str, *, warning: bool, salt: str = ""
    ) -> None:
        """Do nothing."""
