"""Nodes fall silent, come back or are deleted: what becomes of their pods, in a world in memory."""

import contextlib

import pytest

from rpcregistry.errors import Partial, Rejected
from rpcregistry.model import RELEASE, Node, ObjectKey
from rpcregistry.plan.silence import CALM, LEAST
from tests.builders import address, pod
from tests.worlds.fleet import PODS, Fleet
from tests.worlds.registry import CONFIRM


def test_the_few_pods_of_one_node_go_soon_after_it_fell_silent():
    fleet = Fleet(10)
    fleet.silence(3)
    fleet.wait(LEAST - 0.1)
    assert fleet.published() == fleet.all
    fleet.wait(0.1)
    assert fleet.published() == fleet.all - fleet.of(3)


def test_many_pods_of_one_node_wait_for_the_confirmation():
    fleet = Fleet(3)
    fleet.silence(1)
    fleet.wait(CONFIRM - 0.1)
    assert fleet.published() == fleet.all
    fleet.wait(0.1)
    assert fleet.published() == fleet.all - fleet.of(1)


@pytest.mark.parametrize("nodes", [1, 2, 3, 10])
@pytest.mark.parametrize("apart", [0.0, 7.0])
def test_while_all_nodes_are_silent_nothing_is_withdrawn(nodes: int, apart: float):
    if nodes == 10:
        apart /= 7  # so that most of them are silent before the wait of the first is over
    fleet = Fleet(nodes)
    for node in range(nodes):
        fleet.silence(node)
        fleet.wait(apart)
    fleet.wait(100 * CONFIRM)
    assert fleet.published() == fleet.all
    assert "held without time limit: Nodes are silent (" in fleet.condition().message

    for node in (nodes - 1, *range(nodes - 1)):  # in another order
        fleet.back(node)
        fleet.wait(7.0)
        assert fleet.published() == fleet.all
    fleet.wait(CALM)
    assert fleet.condition().reason == "InRegistry"


def test_each_nodes_pods_are_right_soon_after_its_return():
    fleet = Fleet(10)
    fleet.silence(*range(10))
    fleet.wait(2 * CONFIRM)
    fleet.node(4, ready=True)
    fleet.settle()
    first, second, third = fleet.on(4)
    fleet.report([first])
    fleet.report([second], ready=False)
    fleet.end([third])

    assert fleet.published() == fleet.all - {address(second), address(third)}
    fleet.wait(100 * CONFIRM)
    assert fleet.published() == fleet.all - {address(second), address(third)}


def test_a_node_that_is_seen_to_be_back_before_its_pods():
    fleet = Fleet(10)
    fleet.silence(*range(10))
    fleet.node(4, ready=True)
    fleet.wait(CONFIRM)
    assert fleet.published() == fleet.all


def test_a_node_that_is_back_before_the_guard_has_looked():
    fleet = Fleet(10)
    fleet.node(3, ready=False)
    for name in fleet.on(3):
        fleet.pods.put(fleet.pod(name, ready=False, silenced=True))
    fleet.node(3, ready=True)
    fleet.settle()
    assert fleet.published() == fleet.all
    fleet.back(3)
    assert fleet.condition().reason == "InRegistry"


def test_after_a_common_silence_the_wait_of_what_is_still_held_begins_anew():
    fleet = Fleet(10)
    fleet.silence(*range(10))
    fleet.wait(2 * CONFIRM)
    fleet.back(*range(9))
    fleet.wait(LEAST - 0.1)
    assert fleet.published() == fleet.all
    fleet.wait(0.1)
    assert fleet.published() == fleet.all - fleet.of(9)


def test_half_of_them_are_back_and_the_others_do_not_change():
    fleet = Fleet(10)
    fleet.silence(*range(10))
    fleet.wait(2 * CONFIRM)
    fleet.back(*range(5))
    fleet.wait(CALM + CONFIRM - 0.1)
    assert fleet.published() == fleet.all
    fleet.wait(0.1)
    assert fleet.published() == fleet.of(*range(5))


@pytest.mark.parametrize("nodes", [1, 3, 10])
def test_a_release_lets_go_what_is_held_and_nothing_that_falls_silent_later(nodes: int):
    fleet = Fleet(nodes + 1)
    fleet.silence(*range(nodes))
    fleet.silence(nodes)
    fleet.wait(2 * CONFIRM)
    fleet.back(nodes)
    fleet.notes.annotations = {RELEASE: "w1"}
    fleet.settle()
    assert fleet.published() == fleet.of(nodes)

    fleet.back(*range(nodes))
    assert fleet.published() == fleet.all
    fleet.silence(*range(nodes + 1))
    fleet.wait(2 * CONFIRM)
    assert fleet.published() == fleet.all


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param({"terminating": True}, id="terminating"),
        pytest.param({"phase": "Failed"}, id="finished"),
        pytest.param({"silenced": False}, id="not Ready by its kubelet's word"),
    ],
)
def test_a_pod_that_ends_ends_its_own_hold(ends: dict[str, object]):
    fleet = Fleet(3)
    fleet.silence(0, 1, 2)
    (name, *_) = fleet.on(1)
    fleet.pods.put(fleet.pod(name, **{"ready": False, "silenced": True, **ends}))
    fleet.settle()
    assert fleet.published() == fleet.all - {address(name)}


def test_a_ready_pod_on_a_node_that_is_not_ready_is_published():
    fleet = Fleet(3)
    fleet.silence(0, 1, 2)
    fleet.report(fleet.on(0))
    assert fleet.published() == fleet.all
    assert not any(row.held for row in fleet.rows() if row.node_name == "n0")


@pytest.mark.parametrize(("nodes", "after"), [(10, LEAST), (3, CONFIRM)])
def test_ready_pods_whose_node_is_deleted_wait_like_those_of_a_silent_one(nodes: int, after: float):
    fleet = Fleet(nodes)
    fleet.delete(2)
    fleet.wait(after - 0.1)
    assert fleet.published() == fleet.all
    assert sum(row.held for row in fleet.rows()) == PODS
    fleet.wait(0.1)
    assert fleet.published() == fleet.all - fleet.of(2)


def test_a_deleted_node_that_comes_back():
    fleet = Fleet(10)
    fleet.delete(2)
    fleet.wait(LEAST - 1)
    fleet.node(2, ready=True)
    fleet.settle()
    assert fleet.condition().reason == "InRegistry"
    fleet.delete(2)
    fleet.wait(LEAST)
    assert fleet.published() == fleet.all - fleet.of(2)
    fleet.node(2, ready=True)
    fleet.settle()
    assert fleet.published() == fleet.all
    fleet.delete(2)
    assert fleet.published() == fleet.all


def test_a_node_that_a_list_lacks_once():
    fleet = Fleet(3)
    nodes = fleet.nodes.values()
    for node in nodes:
        fleet.nodes.drop(node.key, listed=True)
    fleet.nodes.elsewhere = nodes
    fleet.wait(10 * CONFIRM)
    assert fleet.published() == fleet.all
    assert fleet.condition().reason == "InRegistry"


def test_silent_nodes_that_are_deleted_one_by_one_stay_held():
    fleet = Fleet(10)
    fleet.silence(*range(10))
    for node in range(10):
        fleet.delete(node)
        fleet.wait(CONFIRM)
    assert fleet.published() == fleet.all


def test_a_node_that_was_never_seen_says_nothing():
    fleet = Fleet(3)
    fleet.pods.put(pod(100, "echo", node_name="elsewhere"))
    fleet.settle()
    fleet.wait(CONFIRM)
    assert address("p100") in fleet.published()
    fleet.pods.put(pod(100, "echo", node_name="elsewhere", ready=False, silenced=True))
    fleet.settle()
    assert fleet.published() == fleet.all


def test_nodes_without_endpoints_of_ours_count_for_nothing():
    fleet = Fleet(3)
    for number in range(3, 10):
        fleet.node(number, ready=True)
    fleet.silence(0, 1, 2)
    fleet.wait(10 * CONFIRM)
    assert fleet.published() == fleet.all


@pytest.mark.parametrize("silent", [3, 2])
def test_a_process_that_starts_during_a_silence_holds(silent: int):
    """It cannot know that all three were silent before."""
    fleet = Fleet(3)
    fleet.silence(0, 1, 2)
    fleet.wait(2 * CONFIRM)
    fleet.back(*range(silent, 3))
    fleet.start()
    fleet.settle()
    fleet.wait(10 * CONFIRM)
    assert fleet.published() == fleet.all


def test_a_process_that_starts_during_a_silence_waits_at_least_as_long():
    fleet = Fleet(10)
    fleet.silence(*range(10))
    fleet.back(*range(6))
    fleet.start()
    fleet.settle()
    fleet.wait(CALM + CONFIRM - 1)
    assert fleet.published() == fleet.all
    fleet.wait(1)
    assert fleet.published() == fleet.of(*range(6))


def test_a_follower_that_comes_to_lead_takes_up_what_is_held_and_not_reported_yet():
    fleet = Fleet(10)
    fleet.silence(*range(10))
    fleet.node(4, ready=True)
    fleet.settle()
    fleet.start()
    fleet.clock.seconds += LEAST
    fleet.settle()
    assert fleet.published() == fleet.all
    fleet.back(*(node for node in range(10) if node != 4))
    fleet.wait(LEAST - 0.1)
    assert fleet.published() == fleet.all
    fleet.wait(0.1)
    assert fleet.published() == fleet.all - fleet.of(4)


def test_a_process_that_starts_after_a_node_was_deleted_keeps_what_was_held():
    fleet = Fleet(10)
    fleet.delete(2)
    assert sum(row.held for row in fleet.rows()) == PODS
    fleet.start()
    fleet.settle()
    fleet.wait(10 * CONFIRM)
    assert fleet.published() == fleet.all
    assert "without time limit: their Nodes were deleted" in fleet.condition().message
    fleet.end(fleet.on(2))
    assert fleet.published() == fleet.all - fleet.of(2)
    assert fleet.condition().reason == "InRegistry"


def test_a_process_that_starts_after_a_node_was_deleted_publishes_nobody_again_who_was_withdrawn_with_it():
    fleet = Fleet(10)
    fleet.delete(2)
    fleet.wait(CONFIRM)
    assert fleet.published() == fleet.all - fleet.of(2)
    for _ in range(2):
        writes = len(fleet.kube.writes)
        fleet.start()
        fleet.settle()
        fleet.wait(10 * CONFIRM)
        assert fleet.published() == fleet.all - fleet.of(2)
        assert fleet.condition().reason == "InRegistry"
        assert len(fleet.kube.writes) == writes
    fleet.node(2, ready=True)
    fleet.settle()
    assert fleet.published() == fleet.all


def test_a_node_that_came_back_while_nobody_ran():
    fleet = Fleet(10)
    fleet.delete(2)
    fleet.wait(CONFIRM)
    fleet.nodes._items[ObjectKey("", "n2")] = Node(name="n2", uid="another", ready=True)
    fleet.start()
    fleet.settle()
    assert fleet.published() == fleet.all


@pytest.mark.parametrize("name", ["p7", "a-new-one"])
def test_of_a_node_that_is_not_there_a_pod_is_believed_that_became_ready_while_nobody_ran(name: str):
    """It was listed as not Ready by its kubelet's word, or not at all."""
    fleet = Fleet(10)
    if name == "p7":
        fleet.pods.put(pod(name, "echo", ready=False, node_name="virtual"))
        fleet.settle()
    fleet.pods._items[ObjectKey("default", name)] = pod(name, "echo", node_name="virtual")
    fleet.start()
    fleet.settle()
    fleet.wait(10 * CONFIRM)
    assert fleet.published() == fleet.all | {address(name)}


def test_where_there_are_no_nodes_a_pod_that_became_ready_while_nobody_ran_is_published():
    fleet = Fleet(0)
    name = "p1"
    fleet.pods.put(fleet.pod(name, ready=False))
    fleet.settle()
    fleet.pods._items[ObjectKey("default", name)] = fleet.pod(name)
    fleet.start()
    fleet.settle()
    assert fleet.published() == {address(name)}


class Patient(Fleet):
    """Its queue takes back what is refused, and goes on."""

    def settle(self) -> "Patient":
        for _ in range(20):
            with contextlib.suppress(Partial):
                super().settle()
                break
        return self

    def look_and_wait(self, seconds: float) -> None:
        for _ in range(10):
            self.keys |= self.rpcservices.every_key()
            self.wait(seconds / 10)


@pytest.mark.parametrize("refused", [False, True], ids=["", "it cannot be made again"])
def test_who_is_held_stays_held_when_the_rpcservice_is_deleted(refused: bool):
    fleet = Patient(10)
    fleet.silence(*range(10))
    fleet.wait(CONFIRM)
    if refused:
        fleet.kube.refuses = lambda verb, _: Rejected("quota") if verb == "create" else None
    fleet.services.drop(ObjectKey("default", "echo"))
    fleet.look_and_wait(20 * CONFIRM)
    assert fleet.published() == fleet.all

    fleet.pods.drop(ObjectKey("default", "p1"))
    fleet.look_and_wait(1)
    assert fleet.published() == fleet.all - {address("p1")}, "who is seen to go goes"
    for node in range(1, 10):
        fleet.node(node, ready=True)
        for name in fleet.on(node):
            fleet.pods.put(fleet.pod(name))
    fleet.look_and_wait(20 * CONFIRM)
    assert fleet.published() == fleet.of(*range(1, 10)), "one silent Node is no common silence"


def test_holds_that_lose_their_time_limit_say_so():
    fleet = Fleet(3)
    fleet.silence(0, 1)
    assert "without time limit" not in fleet.condition().message
    fleet.node(2, ready=False)
    fleet.settle()
    assert fleet.condition().message.startswith("6 listed pods are held without time limit: Nodes are silent")


def test_a_silence_is_told_once_on_the_lease():
    fleet = Fleet(3)
    fleet.silence(0)
    assert fleet.silences() == []
    for _ in range(2):
        fleet.silence(0, 1, 2)
        fleet.wait(CONFIRM)
    (message,) = fleet.silences()
    assert "Nodes are silent (3 of 3)" in message
    assert fleet.rpcservices.absences.silences.count == 3
    fleet.back(0, 1, 2)
    assert fleet.rpcservices.absences.silences.count == 0
    fleet.silence(0, 1, 2)
    assert len(fleet.silences()) == 2


def test_nothing_is_written_while_a_silence_lasts():
    fleet = Fleet(3)
    fleet.silence(0, 1, 2)
    fleet.wait(CONFIRM)
    writes = len(fleet.kube.writes)
    fleet.keys |= fleet.rpcservices.every_key()
    fleet.wait(10 * CONFIRM)
    assert len(fleet.kube.writes) == writes
