"""Node Services in a world in memory: what must hold when nodes vanish, and between two writes."""

import contextlib
import json
import threading
from math import inf

import msgspec
import pytest

from rpcregistry.errors import Conflict, Failure, Partial, Rejected, Retry
from rpcregistry.model import (
    HELD,
    RELEASE,
    Condition,
    LocalServiceStatus,
    Node,
    ObjectKey,
)
from rpcregistry.plan.silence import LEAST
from rpcregistry.reconcile.troubles import FIRST_PAUSE, LONGEST_PAUSE, REPORTED_AFTER
from tests.builders import localservice, served
from tests.cluster.waiting import eventually
from tests.worlds.nodeservices import CONFIRM, World


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


def test_a_node_that_is_deleted_under_its_pods_keeps_its_service_for_a_while():
    world = World(10)
    world.run("n3")
    world.nodes.drop(ObjectKey("", "n3"))
    world.settle()
    world.look()
    assert world.under.held(localservice()) == {"n3"}
    world.clock.seconds += LEAST
    world.look()
    assert world.served() == 9


def test_a_node_that_was_deleted_before_the_process_began_waits_as_if_deleted_then():
    world = World(10)
    world.run("gone")
    world.services.put(served(localservice(), "gone"))
    world.add(world.under.every_key())
    world.settle()
    world.look()
    assert world.under.held(localservice()) == {"gone"}
    world.clock.seconds += LEAST
    world.look()
    assert world.served() == 10


def test_many_such_nodes_wait_for_the_confirmation():
    world = World(3)
    world.run("n0", "n1")
    for node in ("n0", "n1"):
        world.nodes.drop(ObjectKey("", node))
    world.settle()
    world.look()
    world.clock.seconds += CONFIRM - 1
    world.look()
    assert world.served() == 3
    world.clock.seconds += 1
    world.look()
    assert world.served() == 1


def test_the_services_go_with_the_last_pod_on_a_deleted_node():
    world = World(3)
    world.run("n0", "n1", "n2")
    for node in ("n0", "n1", "n2"):
        world.nodes.drop(ObjectKey("", node))
    world.settle()
    world.look()
    assert world.served() == 3
    world.end("n0", "n1")
    world.look()
    assert world.served() == 1


def test_while_most_nodes_are_silent_a_deleted_one_keeps_its_service():
    world = World(4)
    world.look()
    world.run("n0", "n1", "n2", "n3")
    for number in range(4):
        world.nodes.put(Node(name=f"n{number}", uid=str(number), ready=False))
    world.nodes.drop(ObjectKey("", "n0"))
    world.settle()
    world.look()
    world.clock.seconds += 100 * CONFIRM
    world.look()
    assert world.served() == 4
    assert world.under.why_endless(localservice()) == "Nodes are silent (3 of 3)"

    for number in range(1, 4):
        world.nodes.put(Node(name=f"n{number}", uid=str(number), ready=True))
    world.look()
    assert (world.served(), world.under.why_endless(localservice())) == (4, "")
    world.clock.seconds += CONFIRM
    world.look()
    assert world.served() == 3


def all_silent_and_one_deleted() -> World:
    """Pods run on two of four nodes: one of these is not Ready, the other is deleted."""
    world = World(4)
    world.look()
    world.run("n0", "n1")
    world.nodes.put(Node(name="n1", uid="1", ready=False))
    world.nodes.drop(ObjectKey("", "n0"))
    world.settle()
    world.look()
    return world


def test_nodes_without_such_pods_count_for_nothing():
    world = all_silent_and_one_deleted()
    world.clock.seconds += 100 * CONFIRM
    world.look()
    assert world.served() == 4


def test_the_guard_looks_again_as_a_node_turns():
    world = all_silent_and_one_deleted()
    guard = world.under.guard
    assert [hold.until for hold in guard.held.values()] == [inf]
    thread = threading.Thread(target=guard.run, daemon=True)
    thread.start()
    world.nodes.put(Node(name="n1", uid="1", ready=True))
    eventually(lambda: all(hold.until < inf for hold in guard.held.values()))
    guard.stop()
    thread.join()


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


def test_held_nodes_stay_held_before_the_first_look():
    world = World(5)
    held = Condition(type="Synced", status="False", reason="Held", message="")
    noted = msgspec.structs.replace(localservice(), status=LocalServiceStatus(conditions=(held,)))
    world.vanish(3)
    assert world.under.held(localservice()) == set()
    assert world.under.held(noted) == {"n0", "n1", "n2"}
    world.under.guard.confirm(("Node", "n1"))
    assert world.under.held(noted) == {"n0", "n2"}


def test_held_nodes_are_released_by_a_new_word_in_the_annotation():
    world = World(5)
    world.locals.put(msgspec.structs.replace(localservice(), released="w0"))
    world.vanish(5)
    world.look()
    assert world.under.held(localservice()) == {"n0", "n1", "n2", "n3", "n4"}
    for word in ("", "w0"):
        world.locals.put(msgspec.structs.replace(localservice(), released=word))
        world.look()
        assert world.served() == 5

    world.locals.put(msgspec.structs.replace(localservice(), released="w1"))
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
    world.locals.elsewhere = [localservice()]
    world.look()
    assert world.served() == 3


def test_what_the_server_would_refuse_to_replace_stays():
    world = World(1)
    world.server.refuses_trials = True
    world.locals.put(localservice(clusterIP="None"))
    with pytest.raises(Partial):
        world.settle()
    assert world.served() == 1
    assert world.under.problems(ObjectKey("ns", "app"))["n0"].reason == "Refused"


def test_a_replaced_service_is_deleted_and_created_once():
    world = World(1)
    world.locals.put(localservice(clusterIP="None"))
    world.settle()
    assert world.server.writes[1:] == ["delete app-n0", "create app-n0"]


def test_a_service_that_somebody_made_in_the_same_moment_is_seen_and_left_alone():
    world = World(0)
    world.server.hidden = served(localservice(), "n0", metadata={"labels": {}, "ownerReferences": None})
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
    world.locals.put(msgspec.structs.replace(localservice(), uid="another"))
    world.server.refuses = refusal
    with pytest.raises(Partial):
        world.settle()
    assert world.services.values() == []

    world.server.refuses = None
    world.clock.seconds += FIRST_PAUSE
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
    with pytest.raises(Partial):
        world.settle()

    assert [service.name for service in world.services.values()] == ["app-called-otherwise"]
    assert world.under.problems(ObjectKey("ns", "app"))["n0"].reason == "QuotaExceeded"


# Refused writes


APP = ObjectKey("ns", "app")
QUOTA = Rejected("exceeded quota")


def add_node(world: World, name: str) -> None:
    world.nodes.put(Node(name=name, uid=name, ready=True))


def work_off(world: World) -> None:
    """Work all that changed; what is refused waits."""
    while world.queue:
        with contextlib.suppress(Partial):
            world.settle()


def look_at_all(world: World) -> None:
    world.add(world.under.every_key())
    work_off(world)


def test_a_refused_write_waits_for_its_pause_whatever_else_changes():
    world = World(0)
    world.server.refuses = QUOTA
    add_node(world, "n0")
    work_off(world)
    assert world.server.writes == ["create app-n0"]
    world.locals.put(localservice(ports=[{"port": 81}]))
    look_at_all(world)
    assert world.server.writes == ["create app-n0"]
    world.clock.seconds += FIRST_PAUSE
    look_at_all(world)
    world.clock.seconds += 2 * FIRST_PAUSE - 0.1
    look_at_all(world)
    assert world.server.writes == ["create app-n0"] * 2

    world.server.refuses = None
    world.clock.seconds += LONGEST_PAUSE
    look_at_all(world)
    assert (world.served(), world.under.problems(APP)) == (1, {})


def test_a_refused_write_of_one_node_costs_no_other():
    world = World(0)
    world.server.refuses = QUOTA
    add_node(world, "n0")
    work_off(world)
    world.server.refuses = None
    add_node(world, "n1")
    work_off(world)
    assert [service.name for service in world.services.values()] == ["app-n1"]
    assert world.under.problems(APP).keys() == {"n0"}


def test_what_is_to_go_goes_while_a_refused_write_waits():
    world = World(1)
    (old,) = world.services.values()
    world.services.drop(old.key)
    world.queue.clear()
    world.locals.put(msgspec.structs.replace(localservice(), uid="another"))
    world.server.refuses = QUOTA
    work_off(world)
    world.services.put(msgspec.structs.replace(old, name="app-of-old", uid="orphan"))
    world.under.guard.confirm(("LocalService", "l"))
    writes = len(world.server.writes)
    look_at_all(world)
    assert world.server.writes[writes:] == ["delete app-of-old"]


def test_an_outage_is_told_once_it_lasts():
    world = World(0)
    world.server.refuses = Retry("500")
    add_node(world, "n0")
    work_off(world)
    assert world.under.problems(APP) == {}
    world.clock.seconds += REPORTED_AFTER
    look_at_all(world)
    assert world.under.problems(APP)["n0"].reason == "Refused"


def test_a_field_that_a_policy_changes_is_told_and_not_fought_over():
    world = World(1)
    world.server.policy = {"internalTrafficPolicy": "Local"}
    world.locals.put(localservice(ports=[{"port": 81}], internalTrafficPolicy="Cluster"))
    work_off(world)
    problem = world.under.problems(APP)["n0"]
    assert problem.reason == "Refused"
    assert "spec.internalTrafficPolicy" in problem.message
    assert "spec.ports" not in problem.message
    writes = len(world.server.writes)
    look_at_all(world)
    assert len(world.server.writes) == writes

    world.locals.put(localservice(ports=[{"port": 82}], internalTrafficPolicy="Cluster"))
    work_off(world)
    (service,) = world.services.values()
    assert json.loads(service.spec)["ports"][0]["port"] == 82, "another field is no part of the trouble"
    world.server.policy = {}
    world.clock.seconds += LONGEST_PAUSE
    look_at_all(world)
    assert world.under.problems(APP) == {}


def test_a_service_that_a_policy_would_not_let_be_replaced_stays():
    world = World(1)
    world.server.policy = {"clusterIP": "10.96.0.7"}
    world.locals.put(localservice(clusterIP="None"))
    work_off(world)
    assert world.server.writes == ["create app-n0"]
    assert "spec.clusterIP" in world.under.problems(APP)["n0"].message
