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
    Regarding,
)
from rpcregistry.reconcile.held import HeldOnLease
from rpcregistry.reconcile.nodeservices import NodeServiceReconciler, service_indexes
from rpcregistry.runtime.store import Change
from tests.builders import localservice
from tests.worlds import Clock, EventsInMemory, Held, NotesInMemory, Remembered

CONFIRM = 30.0
LEASE = Regarding("coordination.k8s.io/v1", "Lease", "default", "rpcregistry", "lease")


class Server:
    """The API server's Services; writes are counted, and refused where a test says so."""

    def __init__(self, services: Held[KubeService]) -> None:
        self.services = services
        self.writes: list[str] = []
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
            return None
        if self.refuses:
            raise self.refuses
        self.writes.append(f"create {name}")
        if self.hidden and self.hidden.name == name:
            raise Conflict(f"{name} exists")
        metadata = {**manifest["metadata"], "uid": f"uid-{len(self.writes)}", "resourceVersion": "1"}
        return resource.decode(json.dumps({**manifest, "metadata": metadata}).encode())

    def patch(
        self, resource: Resource[Any], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> Any:
        raise NotImplementedError

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
            node_label="rpcregistry.dev/node",
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
        while self.queue:
            self.under.reconcile(self.queue.pop())

    def look(self) -> None:
        """Let the guard look, then work what that decided."""
        self.under.guard.look_once()
        self.settle()

    def served(self) -> int:
        return len(self.services.values())

    def vanish(self, nodes: int) -> None:
        """A LIST lacks the first *nodes*."""
        for number in range(nodes):
            self.nodes.drop(ObjectKey("", f"n{number}"), listed=True)
        self.settle()
