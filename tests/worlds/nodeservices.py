"""LocalServices, nodes and Services in memory, with their reconciler."""

import json
from collections.abc import Mapping
from typing import Any

from rpcregistry.errors import Conflict, Failure, Rejected
from rpcregistry.manifests import Resource
from rpcregistry.model import (
    KubeService,
    LocalService,
    Node,
    NodeServiceKey,
    ObjectKey,
    Pod,
    Regarding,
)
from rpcregistry.reconcile.held import HeldOnLease
from rpcregistry.reconcile.nodeservices import NodeServiceReconciler, service_indexes
from rpcregistry.runtime.store import Change
from tests.builders import NODE_LABEL, localservice, pod
from tests.worlds import Clock, EventsInMemory, Held, NotesInMemory, Remembered

CONFIRM = 30.0
LEASE = Regarding("coordination.k8s.io/v1", "Lease", "default", "rpcregistry", "lease")


class Server:
    """The API server's Services; writes are counted, and refused or changed where a test says so."""

    dry_run = False

    def __init__(self, services: Held[KubeService]) -> None:
        self.services = services
        self.writes: list[str] = []
        self.policy: dict[str, Any] = {}  # what admission writes into each spec
        self._manifests: dict[str, dict[str, Any]] = {}
        self.refuses_trials = False
        self.refuses: Failure | None = None  # to create
        self.hidden: KubeService | None = None  # there, and not watched yet

    def create(
        self, resource: Resource[Any], namespace: str, manifest: Mapping[str, Any], trial: bool = False
    ) -> Any:
        name = manifest["metadata"]["name"]
        if trial and self.refuses_trials:
            raise Rejected("no")
        if trial:
            return self._answer(resource, manifest, "trial")
        self.writes.append(f"create {name}")
        if self.refuses:
            raise self.refuses
        if self.hidden and self.hidden.name == name:
            raise Conflict(f"{name} exists")
        return self._answer(resource, manifest, f"uid-{len(self.writes)}")

    def patch(
        self, resource: Resource[Any], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> Any:
        self.writes.append(f"patch {key.name}")
        if self.refuses:
            raise self.refuses
        manifest = self._manifests[key.name]
        spec = {**manifest["spec"], **patch.get("spec", {})}
        return self._answer(resource, {**manifest, "spec": spec}, manifest["metadata"]["uid"])

    def _answer(self, resource: Resource[Any], manifest: Mapping[str, Any], uid: str) -> Any:
        metadata = {**manifest["metadata"], "uid": uid, "resourceVersion": "1"}
        answer = {**manifest, "metadata": metadata, "spec": {**manifest["spec"], **self.policy}}
        if uid != "trial":
            self._manifests[metadata["name"]] = answer
        return resource.decode(json.dumps(answer).encode())

    def delete(self, resource: Resource[Any], key: ObjectKey, uid: str, resource_version: str) -> None:
        self.writes.append(f"delete {key.name}")
        self.services.drop(key)


class World:
    """LocalServices, nodes and Services, and the queue of what they touch."""

    def __init__(self, nodes: int) -> None:
        self.clock = Clock()
        self.queue: set[NodeServiceKey] = set()
        self.notes = NotesInMemory()
        self.events = EventsInMemory()
        self.locals: Held[LocalService] = Held({}, self._local_changed)
        self.nodes: Held[Node] = Held({}, self._node_changed)
        self.pods: Held[Pod] = Held({}, lambda change: self.under.note_pod(change))
        self.services: Held[KubeService] = Held(
            service_indexes(), lambda change: self.add(self.under.service_keys(change))
        )
        self.server = Server(self.services)
        self.under = NodeServiceReconciler(
            kube=self.server,
            read=lambda key: self.server.hidden,
            locals_=self.locals,
            nodes=self.nodes,
            services=self.services,
            pods=self.pods,
            node_label=NODE_LABEL,
            clock=self.clock,
            confirm=CONFIRM,
            past=Remembered(),
            enqueue=self.add,
            report=lambda _: None,
            lease=HeldOnLease(
                guarded=["LocalService"],
                notes=self.notes,
                lease=lambda: LEASE,
                events=self.events,
                clock=self.clock,
            ),
        )
        for number in range(nodes):
            self.nodes.put(Node(name=f"n{number}", uid=str(number), ready=True))
        self.locals.put(localservice())
        self.settle()

    def _local_changed(self, change: Change[LocalService]) -> None:
        self.under.note_local(change)
        self.add(self.under.local_keys(change))

    def _node_changed(self, change: Change[Node]) -> None:
        self.under.note_node(change)
        self.add(self.under.node_keys(change))

    def add(self, keys: Any) -> None:
        self.queue.update(keys)

    def settle(self) -> None:
        """Work the queue until it is empty, as the guard looks beside."""
        for _ in range(1000):
            if not self.queue:
                return
            self.under.reconcile(self.queue.pop())
        raise AssertionError("never settles")

    def look(self) -> None:
        """Let the guard look, then work what that decided."""
        self.under.guard.look_once()
        self.settle()

    def run(self, *nodes: str) -> None:
        """Let a pod run on each of these nodes, to which its Service leads."""
        for node in nodes:
            labels = {"app": "x", NODE_LABEL: node}
            self.pods.put(pod(f"on-{node}", namespace="ns", node_name=node, labels=labels))

    def end(self, *nodes: str) -> None:
        """Delete these pods."""
        for node in nodes:
            self.pods.drop(ObjectKey("ns", f"on-{node}"))

    def served(self) -> int:
        return len(self.services.values())

    def vanish(self, nodes: int) -> None:
        """A LIST lacks the first *nodes*."""
        for number in range(nodes):
            self.nodes.drop(ObjectKey("", f"n{number}"), listed=True)
        self.settle()
