"""Node Services in a world in memory: what must hold when nodes vanish, and between two writes."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from rpcregistry.errors import Conflict, Failure, Rejected, Retry
from rpcregistry.manifests import Resource
from rpcregistry.model import (
    HELD,
    RELEASE,
    KubeService,
    LocalService,
    Node,
    NodeServiceKey,
    ObjectKey,
    Regarding,
)
from rpcregistry.reconcile.held import HeldOnLease
from rpcregistry.reconcile.nodeservices import NodeServiceReconciler, service_indexes
from rpcregistry.runtime.informer import Change
from tests.test_plan_nodeservices import local, served
from tests.worlds import Clock, EventsInMemory, Held, NotesInMemory

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
        self.locals.put(local())
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


def test_a_second_pass_writes_nothing():
    world = World(5)
    assert world.served() == 5
    world.server.writes.clear()
    world.add(world.under.every_key())
    world.settle()
    assert world.server.writes == []


def test_a_node_that_a_watch_event_removes_loses_its_service_at_once():
    world = World(5)
    world.nodes.drop(ObjectKey("", "n3"))
    world.settle()
    assert world.server.writes[5:] == ["delete app-n3"]


@pytest.mark.parametrize(
    ("nodes", "gone", "left"),
    [
        pytest.param(5, 1, 4, id="one of five goes at once"),
        pytest.param(5, 2, 5, id="two of five are held"),
        pytest.param(100, 10, 90, id="ten of a hundred go at once"),
        pytest.param(100, 11, 100, id="eleven are held"),
        pytest.param(100, 100, 100, id="all are held"),
    ],
)
def test_nodes_that_a_list_lacks(nodes: int, gone: int, left: int):
    world = World(nodes)
    world.vanish(gone)
    assert world.served() == nodes
    world.look()
    assert world.served() == left
    world.clock.seconds += CONFIRM
    world.look()
    assert world.served() == nodes - gone


def test_a_node_that_only_the_first_list_lacked_keeps_its_service():
    world = World(5)
    node = world.nodes.get(ObjectKey("", "n0"))
    world.vanish(1)
    assert node
    world.nodes.elsewhere = [node]
    world.look()
    world.clock.seconds += CONFIRM
    world.look()
    assert world.served() == 5


def test_held_nodes_are_released_by_a_new_word_in_the_annotation():
    world = World(5)
    world.locals.put(msgspec.structs.replace(local(), released="w0"))
    world.vanish(5)
    world.look()
    assert world.under.held(ObjectKey("ns", "app")) == {"n0", "n1", "n2", "n3", "n4"}
    for word in ("", "w0"):
        world.locals.put(msgspec.structs.replace(local(), released=word))
        world.look()
        assert world.served() == 5

    world.locals.put(msgspec.structs.replace(local(), released="w1"))
    world.look()
    assert world.served() == 0


@pytest.mark.parametrize(
    ("word", "left"),
    [
        pytest.param("w1", 0, id="all"),
        pytest.param("w1 app", 0, id="of this LocalService"),
        pytest.param("w1 other", 5, id="of another"),
    ],
)
def test_held_nodes_are_released_by_a_word_on_the_lease(word: str, left: int):
    world = World(5)
    world.vanish(5)
    world.look()
    world.notes.annotations = {RELEASE: word}
    world.look()
    assert world.served() == left


def test_the_services_of_a_local_service_that_is_missing_are_shown_on_the_lease_and_let_go_there():
    world = World(5)
    world.locals.drop(ObjectKey("ns", "app"), listed=True)
    world.settle()
    world.look()
    assert world.served() == 5
    assert world.notes.annotations == {HELD: '["app"]'}
    ((_, told),) = world.events.told
    assert told.message.startswith("app: no LocalService is there for 5 Services any more; they stay until ")

    world.notes.annotations |= {RELEASE: "w1 app"}
    world.look()
    assert world.served() == 0
    assert HELD not in world.notes.annotations


def test_the_services_of_a_local_service_that_a_watch_event_removes_go_at_once():
    world = World(3)
    world.locals.drop(ObjectKey("ns", "app"))
    world.settle()
    assert world.served() == 0


def test_those_of_one_that_a_list_lacks_wait_for_a_second_list():
    world = World(3)
    world.locals.drop(ObjectKey("ns", "app"), listed=True)
    world.settle()
    assert world.served() == 3
    world.locals.elsewhere = [local()]
    world.look()
    assert world.served() == 3


def test_what_the_server_would_refuse_to_replace_stays():
    world = World(1)
    world.server.refuses_trials = True
    world.locals.put(local(clusterIP="None"))
    with pytest.raises(Rejected):
        world.settle()
    assert world.served() == 1
    assert world.under.problems(ObjectKey("ns", "app"))["n0"].reason == "Refused"


def test_a_replaced_service_is_deleted_and_created_once():
    world = World(1)
    world.locals.put(local(clusterIP="None"))
    world.settle()
    assert world.server.writes[1:] == ["delete app-n0", "create app-n0"]


def test_a_service_that_somebody_made_in_the_same_moment_is_seen_and_left_alone():
    world = World(0)
    world.server.hidden = served(local(), "n0", metadata={"labels": {}, "ownerReferences": None})
    world.nodes.put(Node(name="n0", uid="0", ready=True))
    with pytest.raises(Conflict):
        world.settle()
    world.add(world.under.every_key())  # as the queue does with what failed
    world.settle()
    assert world.under.problems(ObjectKey("ns", "app"))["n0"].reason == "NameTaken"
    world.server.hidden = None
    world.services.drop(ObjectKey("ns", "app-n0"))
    world.settle()
    assert world.under.problems(ObjectKey("ns", "app")) == {}
    assert world.server.writes[-1] == "create app-n0"


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(Rejected("exceeded quota"), id="a quota"),
        pytest.param(Retry("500"), id="a webhook that is down"),
    ],
)
def test_a_create_that_is_refused_leaves_no_service_of_an_earlier_local_service_behind(refusal: Failure):
    world = World(1)
    (old,) = world.services.values()
    # Somebody renamed it by an older version: it is not taken over, but in nobody's way.
    world.services.drop(old.key)
    orphan = msgspec.structs.replace(old, name="app-of-old", uid="orphan")
    world.services.put(orphan)
    world.locals.drop(ObjectKey("ns", "app"))
    world.queue.clear()
    world.locals.put(msgspec.structs.replace(local(), uid="another"))
    world.server.refuses = refusal
    with pytest.raises(type(refusal)):
        world.settle()
    assert world.services.values() == []

    world.server.refuses = None
    world.add(world.under.every_key())
    world.settle()
    assert [service.name for service in world.services.values()] == ["app-n0"]


def test_a_create_that_is_refused_leaves_the_service_that_it_would_replace():
    world = World(1)
    (old,) = world.services.values()
    world.services.drop(old.key)
    world.queue.clear()
    world.services.put(msgspec.structs.replace(old, name="app-called-otherwise", uid="former"))
    world.server.refuses = Rejected("exceeded quota")
    with pytest.raises(Rejected):
        world.settle()

    assert [service.name for service in world.services.values()] == ["app-called-otherwise"]
    assert world.under.problems(ObjectKey("ns", "app"))["n0"].reason == "QuotaExceeded"
