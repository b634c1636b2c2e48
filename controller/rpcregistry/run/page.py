"""What the page sees of the process: copies of its stores, and what its parts say of themselves."""

import os
import platform
import resource
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.metadata import version
from itertools import chain
from math import isinf
from typing import Any, TypeVar

from rpcregistry.kube.client import Kube
from rpcregistry.manifests import LOCALSERVICES
from rpcregistry.model import LocalService, ObjectKey, Pod, RpcService
from rpcregistry.page.access import Reviews, everybody
from rpcregistry.page.app import Authorize
from rpcregistry.page.server import PageServer
from rpcregistry.plan import overview
from rpcregistry.plan.repairs import pause
from rpcregistry.plan.screens import known, one, others
from rpcregistry.plan.screens import services as listed
from rpcregistry.plan.screens.state import State, state
from rpcregistry.reconcile.byname import services_of
from rpcregistry.reconcile.observing import DECLARED
from rpcregistry.run.part import Part
from rpcregistry.run.shared import Shared
from rpcregistry.run.sources import Source
from rpcregistry.run.timeline import Pending, Timeline

V = TypeVar("V")

NAME_LABEL = "app.kubernetes.io/name"
MOST_HERE = 50  # changes, on the screen of one service


def make_page(shared: Shared, parts: Sequence[Part], sources: Sequence[Source[Any]]) -> PageServer:
    """The page's server, which has subscribed to all that it shows; nothing has started yet."""
    settings = shared.settings.page
    pending = Pending()
    looks = ProcessLooks(shared, parts, sources, pending)
    shared.services.subscribe(pending.note)
    for source in sources:
        if source is not shared.services:
            source.subscribe(lambda _: pending.note(None))
    shared.journal_ended.subscribe(pending.note)
    shared.repaired.subscribe(pending.note)
    shared.connection.subscribe(looks.connected)
    authorize: Authorize = everybody
    if settings.auth == "kubernetes":
        kube = Kube.from_config(
            shared.settings.target.kubeconfig, shared.settings.target.context, connections=2
        )
        authorize = Reviews(kube.raw)
    answered = shared.metrics.page_answered
    return PageServer(settings.address, settings.hosts, looks, authorize, answered, looks.wake)


class ProcessLooks:
    """The page's ``Looks``.  The page's thread calls all of it, but for ``connected``, which any may call."""

    def __init__(
        self, shared: Shared, parts: Sequence[Part], sources: Sequence[Source[Any]], pending: Pending
    ) -> None:
        self._shared = shared
        self._parts = parts
        self._sources = list(sources)
        self._by_name = {source.name: source for source in sources}
        self._pending = pending
        self._timeline = Timeline()
        self._version = 0  # how many notes there were, when it was looked at last
        self._znodes = next((part.znodes for part in parts if part.znodes), None)
        self._node_services = next((part.node_services for part in parts if part.node_services), None)
        self._guards = {name: guard for part in parts for name, guard in part.guards.items()}
        self._connected_since = time.time()  # replaced as a whole: when the connection came or went
        self._began = 0.0  # when this process began to lead; 0: it does not
        self._facts = listed.Facts(
            layouts=shared.settings.target.layouts,
            found=self._found,
            waits=lambda name: self._leads and name in shared.unwritten,
            last=self._timeline.last,
        )
        # The last answer of each, with the version that it is of.
        self._kept: dict[str, tuple[int, Any]] = {}

    def connected(self, _: bool) -> None:
        """Note that the connection to ZooKeeper came or went."""
        self._connected_since = time.time()
        self._pending.note(None)

    def wake(self) -> None:
        """Say that something changed, if it did; twice a second.

        An answer counts until then: so many who look cost no more than one.
        """
        self._version = self._pending.count
        self.keep_up()

    def keep_up(self) -> None:
        """Read what was noted."""
        self._timeline.add(self._pending.take())
        if self._leads and not self._began:
            self._began = time.time()

    @property
    def version(self) -> int:
        return self._version

    @property
    def _leads(self) -> bool:
        return self._shared.began.is_set()

    def _found(self, name: str) -> int | None:
        return self._znodes.found(name) if self._znodes and self._leads else None

    def _once(self, what: str, make: Callable[[], V]) -> V:
        """What *make* returns, made once a version."""
        made, value = self._kept.get(what, (-1, None))
        if made != self.version:
            value = make()
            self._kept[what] = self.version, value
        return value  # type: ignore[no-any-return]

    # services

    def services(self, query: Mapping[str, Any]) -> listed.Page:
        """The list of services."""
        self.keep_up()
        return listed.page(self._services(), self._facts, listed.Query(**query))

    def _services(self) -> Sequence[RpcService]:
        return self._shared.services.store.values()

    def service(self, name: str, query: Mapping[str, Any]) -> one.One | None:
        """One service; None if there is none of that name."""
        self.keep_up()
        shared, namespace = self._shared, query.get("namespace", "")
        found = [
            service for service in services_of(shared.services, name) if namespace in ("", service.namespace)
        ]
        if not found:
            return None
        views = self._znodes.views(name) if self._znodes and self._leads else None
        return one.one(
            found,
            self._pods_of(found),
            self._facts,
            views,
            lambda layout: _wall(self._znodes.read_at(layout, name)) if self._znodes else None,
            shared.settings.target.publication(shared.cluster_id, shared.settings.policy),
            self._timeline.lines(name)[:MOST_HERE],
            {ObjectKey(each.namespace, pod) for each in self._denied() for pod in each.pods},
            **{key: value for key, value in query.items() if key != "namespace"},
        )

    def _pods_of(self, found: Sequence[RpcService]) -> list[Pod]:
        """The pods that name a service, that its RpcServices select, and those that its statuses list."""
        store = self._shared.pods.store
        keys = dict.fromkeys(service.service_key for service in found)
        naming = chain.from_iterable(store.indexed(DECLARED, key) for key in keys)
        pods = {pod.uid: pod for pod in naming}
        for service in found:
            for row in service.status.endpoints:
                pod = store.get(ObjectKey(service.namespace, row.pod_name))
                if pod:
                    pods[pod.uid] = pod
        selectors = [(s.namespace, s.spec.selector) for s in found if s.spec.selector and not s.is_part]
        if selectors:
            for pod in store.values():
                if any(ns == pod.namespace and selector.matches(pod.labels) for ns, selector in selectors):
                    pods[pod.uid] = pod
        return list(pods.values())

    def closest(self, name: str) -> Sequence[str]:
        """The names that *name* may have meant."""
        return overview.closest(name, {service.service_name for service in self._services()})

    # the other lists

    def local_services(self) -> Mapping[str, Any]:
        """The list of LocalServices."""
        rows = others.local_rows(self._locals())
        return {"total": len(rows), "localServices": rows}

    def _locals(self) -> Sequence[LocalService]:
        source = self._by_name.get(LOCALSERVICES.plural)
        return source.store.values() if source else ()

    def local_service(self, namespace: str, name: str) -> others.LocalOne | None:
        """One LocalService by node."""
        key = ObjectKey(namespace, name)
        source, parts = self._by_name.get(LOCALSERVICES.plural), self._node_services
        local: LocalService | None = source.store.get(key) if source else None
        if local is None or parts is None:
            return None
        nodes = self._shared.nodes.store.values()
        return others.local_one(local, nodes, parts.problems(key), parts.held(local))

    def rejected(self) -> Mapping[str, Any]:
        """The pods that say something wrong."""
        pods = self._shared.pods.store.values()
        return {"pods": len(pods), "rejected": others.rejected(pods), "denied": self._denied()}

    def _denied(self) -> list[others.Denied]:
        shared = self._shared
        subjects = shared.registration.denied
        return others.denied(shared.pods.store.values(), subjects, shared.owner_name) if subjects else []

    def changes(self, query: Mapping[str, Any]) -> Mapping[str, Any]:
        """The timeline."""
        self.keep_up()
        lines = self._timeline.lines(query.get("service", ""), query.get("kind", ""))
        after, limit = query.get("after", 0), query.get("limit", 200)
        end = after + limit
        return {
            "total": len(lines),
            "changes": lines[after:end],
            "next": end if end < len(lines) else None,
        }

    # the state of the whole

    def state(self) -> State:
        """What stands on top of each screen, and on that of the controller."""
        self.keep_up()
        shared, now = self._shared, time.time()
        record = shared.leadership.lease.record
        rows = self._once("rows", self._rows)
        self._timeline.forget_all_but({row.name for row in rows})
        leader = shared.identity if self._leads else (record.holder if record else "")
        look = known.Look(
            version=version("rpcregistry"),
            python=platform.python_version(),
            memory=_memory(),
            identity=shared.identity,
            leads=self._leads,
            leader=leader,
            lease=shared.leadership.lease.full_name,
            since=self._began or None,
            cluster=shared.cluster_id,
            trouble=shared.leadership.trouble,
            restored=shared.memory.restored or "",
            registry=self._znodes is not None,
            sources=[self._source(source) for source in self._sources],
            zookeeper=self._zookeeper(),
            queues={part.name: part.depth for part in self._parts} | {"events": shared.events.waiting},
            refused={part.name: part.failing for part in self._parts},
            waiting=len(shared.unwritten),
            oldest=shared.oldest(),
            held=self._held(rows),
            repeated=[
                known.Repeated(name, len(times), pause(times, now))
                for name, times in self._timeline.repeated(now).items()
            ],
            counts=known.counts_of(
                rows,
                rejected=self._once("mistaken", self._mistaken),
                locals=len(self._locals()),
                pods=len(shared.pods.store),
                nodes=len(shared.nodes.store),
                silent_nodes=max((part.silent_nodes() for part in self._parts), default=0),
            ),
            lag=self._once("lag", lambda: known.lag_of(shared.journal.entries())),
            replicas=self._replicas(leader),
            settings=shared.settings.page.shown,
        )
        return state(look)

    def _rows(self) -> list[listed.Row]:
        found = listed.grouped(self._services())
        return [listed.row(each, self._facts) for each in found.values()]

    def _mistaken(self) -> int:
        wrong = {pod.key for pod in self._shared.pods.store.values() if pod.problems}
        return len(wrong | {ObjectKey(each.namespace, pod) for each in self._denied() for pod in each.pods})

    def _source(self, source: Source[Any]) -> known.Source:
        return known.Source(
            resource=source.name,
            filled=source.filled,
            count=len(source.store),
            unknown=source.unknown or source.kind_missing or "",
            heard=_wall(source.heard),
        )

    def _zookeeper(self) -> known.ZooKeeper:
        shared, znodes = self._shared, self._znodes
        connected = shared.zookeeper.connected
        reasons = (part.why_not_ready() for part in self._parts) if connected else ()
        refused = (
            next(filter(None, reasons), "") if connected else shared.zookeeper.trouble.removeprefix(": ")
        )
        return known.ZooKeeper(
            connected=connected,
            since=self._connected_since,
            servers=shared.settings.target.zk_servers,
            refused=refused or "",
            compared=_wall(znodes.compared) if znodes else None,
            heartbeat=_wall(znodes.beaten) if znodes else None,
            differ=znodes.differ if znodes else 0,
            left=_left(znodes.left) if znodes else {},
        )

    def _held(self, rows: Sequence[listed.Row]) -> known.Held:
        held = {name: guard.held for name, guard in self._guards.items()}
        ends = [hold.until for holds in held.values() for hold in holds.values()]
        finite = [end for end in ends if not isinf(end)]
        return known.Held(
            count=sum(map(len, held.values())),
            guards={name: len(holds) for name, holds in held.items()},
            until=_wall(max(finite)) if finite else None,
            endless=len(finite) < len(ends),
            services=[row.name for row in rows if row.held or row.reason == "Held"],
        )

    def _replicas(self, leader: str) -> list[tuple[str, bool]]:
        """The pods of this program, and whether each leads; without pods, the leader alone."""
        name = leader.rpartition("_")[0] or leader
        namespace = self._shared.leadership.lease.full_name.partition("/")[0]
        pods = sorted(
            pod.name
            for pod in self._once("ours", self._ours)
            if pod.namespace == namespace and not pod.terminating
        )
        return [(pod, pod == name) for pod in pods] if name in pods else [(leader, True)] if leader else []

    def _ours(self) -> list[Pod]:
        pods = self._shared.pods.store.values()
        return [pod for pod in pods if pod.labels.get(NAME_LABEL) == "rpcregistry"]


def _left(paths: Collection[tuple[str, str]]) -> Mapping[str, int]:
    """By ``LAYOUT=PATH``, of how many services *paths*, layout names and services' paths, are."""
    return Counter(f"{layout}={path.rpartition('/')[0]}" for layout, path in paths)


def _wall(monotonic: float | None) -> float | None:
    """The Unix time of a time of the monotonic clock."""
    return None if monotonic is None else round(time.time() - (time.monotonic() - monotonic), 1)


def _memory() -> float:
    """What the process takes now, in MB."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
