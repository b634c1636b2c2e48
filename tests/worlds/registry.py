"""Pods, RpcServices and ZooKeeper in memory, with the reconcilers between them."""

import contextlib
import json
from datetime import timedelta

from rpcregistry.errors import Failure, Rejected, Retry
from rpcregistry.layouts import Layout
from rpcregistry.model import (
    Node,
    ObjectKey,
    Pod,
    Regarding,
    RpcService,
)
from rpcregistry.plan import rpcservices as rpcservice_plan
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.publication import CrossNamespace, PublicationSettings
from rpcregistry.plan.restored import Record
from rpcregistry.reconcile import byname, observing, room
from rpcregistry.reconcile.fence import Fence
from rpcregistry.reconcile.held import HeldOnLease
from rpcregistry.reconcile.initialsync import InitialSync
from rpcregistry.reconcile.leftovers import Leftovers
from rpcregistry.reconcile.memory import Memory
from rpcregistry.reconcile.missing import Missing
from rpcregistry.reconcile.reads import Unread
from rpcregistry.reconcile.registry import RegistryReconciler
from rpcregistry.reconcile.relied import Relied
from rpcregistry.reconcile.repairs import Repairs
from rpcregistry.reconcile.reports import Reports
from rpcregistry.reconcile.rpcservices import RpcServiceReconciler
from rpcregistry.reconcile.synced import SyncedReconciler
from rpcregistry.reconcile.transactions import RegistryWriter
from rpcregistry.reconcile.unwritten import Unwritten
from rpcregistry.reconcile.withdrawn import Withdrawn
from rpcregistry.runtime.store import Change
from tests.builders import pod
from tests.worlds import Clock, EventsInMemory, Held, KubeInMemory, NotesInMemory, ZooKeeperInMemory

LAYOUT = Layout("kube2zk", "/rpc_v2")
CONFIRM = 30.0
LEASE = Regarding("coordination.k8s.io/v1", "Lease", "default", "rpcregistry", "lease")


class World:
    """Pods → RpcServices → ZooKeeper.  A controller can be thrown away and started anew on what is there."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.endpoints_per_object = 250
        self.services_per_namespace = 0
        self.cross_namespace = CrossNamespace.UNION
        self.layouts: tuple[Layout, ...] = (LAYOUT,)
        self.kube: KubeInMemory[RpcService] = KubeInMemory()
        self.zookeeper = ZooKeeperInMemory()
        self.events = EventsInMemory()
        self.notes = NotesInMemory()
        self.crd_there = True
        self.clear = True  # nobody else keeps the registry up
        self.confined = False  # the Lease is ours, but cannot be renewed
        self.denied: set[tuple[str, str]] = set()  # pod and RpcService: who may not register what
        self.node_now: Node | None = None  # what the API server says of a Node, ahead of its watch
        self.nodes_unread: Failure | None = None  # why it does not say
        self.reviews_unread: Unread | None = None  # why it does not say who may register what
        self.written: list[tuple[str, str, str]] = []
        self.record = Record()  # what the heartbeat says of the API server
        self.seen = Record()  # how far the API server has come
        self.pods: Held[Pod] = Held(observing.pod_indexes(), self._pod_changed)
        self.nodes: Held[Node] = Held({}, self._node_changed)
        indexes = {**observing.service_indexes(), **byname.service_indexes(), **room.service_indexes()}
        self.services: Held[RpcService] = Held(indexes, self._service_changed)
        self.kube.source = self.services
        self.start()

    def start(self) -> None:
        """A new process: it knows nothing but what is in the cluster and in ZooKeeper."""
        self.memory = Memory(self.notes, Withdrawn(self.notes, lambda: None))
        self.memory.follow(self.pods.values)
        self.memory.hold_while(lambda: self.confined)
        self.memory.subscribe(self._remembered)
        on_lease = HeldOnLease(
            guarded=["RpcService"],
            notes=self.notes,
            lease=lambda: LEASE,
            events=self.events,
            clock=self.clock,
        )
        self.keys: set[object] = set()
        self.names: set[str] = set()
        self.memory.judge(self.record, None, self.notes.annotations or {})
        self.memory.compared()
        initial_sync = self.initial_sync = InitialSync()
        initial_sync.subscribe(lambda key: self.names.add(key.service_name))
        self.relied = Relied(self.services)
        self.conditions: set[ObjectKey] = set()
        self.rpcservices = RpcServiceReconciler(
            kube=self.kube,
            pods=self.pods,
            nodes=self.nodes,
            services=self.services,
            relied=self.relied,
            read_pod=self._read_pod,
            read_service=self.services.get,
            read_node=self._read_node,
            may_register=self._may_register,
            settings=rpcservice_plan.ProjectionSettings(
                endpoints_per_object=self.endpoints_per_object, layouts=self.layouts
            ),
            clock=self.clock,
            confirm=CONFIRM,
            past=self.memory,
            enqueue=lambda keys: self.keys.update(keys),
            initial_sync=initial_sync,
            services_per_namespace=self.services_per_namespace,
            crowded=lambda: False,
            lease=on_lease,
            events=self.events,
        )
        self.synced = SyncedReconciler(
            kube=self.kube,
            services=self.services,
            events=self.events,
            clock=self.clock,
            enqueue=self.conditions.add,
            yield_to_endpoints=lambda _: None,
        )
        writer = RegistryWriter(
            zookeeper=self.zookeeper,
            layouts=self.layouts,
            clusters=["c1"],
            fence=Fence(self.zookeeper, "c1", lambda: None),
            heartbeat=self._heartbeat,
            seen=lambda: self._heartbeat().seen,
            require_clear=self._require_clear,
            written=lambda layout, op, name, done: self.written.append((layout, op, name)),
            clock=self.clock,
        )
        missing = Missing(
            writer=writer,
            services=self.relied,
            second_look=SecondLook(self),
            layouts=self.layouts,
            clusters=["c1"],
            namespaces=(),
            confirm=CONFIRM,
            past=self.memory,
            enqueue=lambda name, _: self.names.add(name),
            on_lease=on_lease,
            leftovers=Leftovers(self.layouts, "c1"),
            registers=lambda pod, name: (pod.name, name) not in self.denied,
            clock=self.clock,
        )
        reports = Reports(
            services=self.relied,
            repairs=Repairs(self.events, lambda: LEASE, self.clock),
            conditions=self.synced.set_desired,
            concluded=lambda name, outcomes: None,
            events=self.events,
            clock=self.clock,
            pods_elsewhere=False,
        )
        self.registry = RegistryReconciler(
            writer=writer,
            missing=missing,
            reports=reports,
            services=self.relied,
            latest=self.services,
            memory=self.memory,
            initial_sync=initial_sync,
            is_unlooked=self.relied.is_unlooked,
            layouts=self.layouts,
            settings=PublicationSettings("c1", cross_namespace=self.cross_namespace),
            grace=timedelta(hours=24),
            enqueue=lambda names: self.names.update(names),
            confined=lambda: self.confined,
            unwritten=Unwritten(),
            clock=self.clock,
        )
        self.relied.subscribe(self._relied_changed)
        for node in self.nodes.values():
            self._node_changed(Change(None, node, listed=True))
        self.rpcservices.begin()
        self.keys |= self.rpcservices.every_key()
        self.compared = False

    def _require_clear(self) -> None:
        if not self.clear:
            raise Retry("looking for other controllers")

    def _heartbeat(self) -> Heartbeat:
        self.record = self.memory.record(self.seen)
        return Heartbeat(lease="rpcregistry/rpcregistry", holder="me", seen=self.record)

    def _remembered(self) -> None:
        if hasattr(self, "registry"):
            self.keys |= self.rpcservices.every_key()
            self.names |= self.registry.every_name()

    def _pod_changed(self, change):
        self.memory.note_pod(change)
        self.rpcservices.note_pod(change)
        self.keys |= self.rpcservices.pod_keys(change)
        self.names |= self.registry.pod_names(change)

    def _node_changed(self, change):
        self.rpcservices.absences.note_node(change)
        self.keys |= self.rpcservices.node_keys(change)

    def _service_changed(self, change):
        self.relied.note(change)
        self.rpcservices.note_service(change)
        self.keys |= self.rpcservices.service_keys(change)

    def _relied_changed(self, change):
        self.registry.note_service(change)
        self.names |= self.registry.service_names(change)

    def _read_node(self, name):
        if self.nodes_unread:
            raise self.nodes_unread
        return self.node_now or self.nodes.get(ObjectKey("", name))

    def _may_register(self, pod, name):
        if self.reviews_unread:
            raise self.reviews_unread
        return (pod.name, name) not in self.denied

    def _read_pod(self, key):
        """A quorum read, which also finds what the store lacks."""
        return next((pod for pod in self.pods.second_look() if pod.key == key), None)

    def settle(self) -> "World":
        """Work until nothing is left to do, guards included."""
        if not self.compared:
            self.names |= self.registry.compare()
            self.compared = True
        for _ in range(100):
            if self.keys:
                self.rpcservices.reconcile(self.keys.pop())
            elif self.names:
                names, self.names = sorted(self.names), set()
                failures, _ = self.registry.reconcile(names)
                if failures:
                    raise next(iter(failures.values()))
            elif self.conditions:
                self.synced.reconcile(self.conditions.pop())
            else:
                self.rpcservices.absences.guard.look_once()
                self.registry.guard.look_once()
                if not (self.keys or self.names):
                    return self
        raise AssertionError("never settles")

    def settle_except(self, *expected: type[BaseException]) -> list[str] | None:
        """As ``settle``, where it may not be possible to."""
        with contextlib.suppress(expected):
            self.settle()
        return self.servers()

    def work_off(self) -> list[str] | None:
        """Work until there is nothing left but what is refused; return what is published."""
        for _ in range(20):
            try:
                self.settle()
                break
            except (Rejected, Retry):
                continue  # the key is given back to the queue; the others go on
        return self.servers()

    def servers(self, name: str = "echo") -> list[str] | None:
        found = self.zookeeper.znodes.get(f"/rpc_v2/{name}")
        return json.loads(found[0])["servers"] if found else None

    def serve(self, *numbers: int, service: str = "echo", **fields: object) -> None:
        for number in numbers:
            self.pods.put(pod(number, service, **fields))


class SecondLook:
    """What the registry's guard reads of a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def pods(self) -> list[Pod]:
        return self._world.pods.second_look()

    def require_crd(self) -> None:
        if not self._world.crd_there:
            raise Retry("the CRD is gone")
