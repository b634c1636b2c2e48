"""Both controllers on a world in memory: what must hold between two writes, and after a crash in between."""

import json
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from rpcregistry.errors import Partial, Rejected, Retry
from rpcregistry.layouts import Layout
from rpcregistry.model import (
    HELD,
    RELEASE,
    Condition,
    LabelSelector,
    Node,
    ObjectKey,
    Problem,
    RpcService,
    RpcServiceSpec,
    RpcServiceStatus,
    ServiceKey,
)
from rpcregistry.plan.publication import CrossNamespace
from rpcregistry.plan.silence import LEAST
from rpcregistry.reconcile.cache import REARM
from rpcregistry.reconcile.synced import SyncedReconciler
from rpcregistry.reconcile.troubles import LONGEST_PAUSE
from tests.builders import declared, pod, pod_key
from tests.worlds import Held
from tests.worlds.registry import CONFIRM, LEASE, World


@pytest.fixture
def world() -> World:
    return World()


def test_pods_become_rpcservices_become_znodes(world: World):
    world.serve(1, 2)

    assert world.settle().servers() == ["10.0.0.1", "10.0.0.2"]
    condition = world.services.get(ObjectKey("default", "echo")).status.condition("Synced")
    assert (condition.status, condition.reason) == ("True", "InRegistry")
    assert world.events.told == [], "as it should be from the beginning"


def test_a_second_pass_and_a_second_process_write_nothing(world: World):
    world.serve(1, 2)
    world.settle()
    writes, commits = len(world.kube.writes), len(world.zookeeper.commits)
    world.start()
    world.settle()

    assert (len(world.kube.writes), [c for c in world.zookeeper.commits[commits:] if c]) == (
        writes,
        world.zookeeper.commits[commits : commits + 1],  # the fence
    )


def test_a_change_costs_one_status_write_and_one_transaction(world: World):
    world.serve(1, 2)
    world.settle()
    world.kube.writes.clear()
    world.zookeeper.commits.clear()
    world.serve(3)
    world.settle()

    assert world.kube.writes == [("replace", "echo")]
    assert [[type(op).__name__ for op in ops] for ops in world.zookeeper.commits] == [["Set"]]
    assert world.written[-1] == ("kube2zk", "set", "echo")


def test_a_pods_own_event_withdraws_it_at_once(world: World):
    world.serve(*range(1, 30))
    world.settle()
    for number in range(1, 29):
        world.pods.drop(pod_key(number))

    assert world.settle().servers() == ["10.0.0.29"]


@pytest.mark.parametrize(
    ("there", "missing", "held"),
    [
        pytest.param(20, 1, False, id="one of twenty goes at once"),
        pytest.param(20, 5, True, id="a quarter is held"),
        pytest.param(100, 11, True, id="more than ten are held"),
        pytest.param(3, 3, True, id="all of three are held"),
    ],
)
def test_what_is_missing_from_a_list(world: World, there: int, missing: int, held: bool):
    world.serve(*range(1, there + 1))
    world.settle()
    for number in range(1, missing + 1):
        world.pods.drop(pod_key(number), listed=True)
    world.settle()
    assert len(world.servers()) == (there if held else there - missing)
    if held:
        assert world.services.get(ObjectKey("default", "echo")).status.condition("Synced").reason == "Held"
        world.clock.seconds += CONFIRM + 1
        world.settle()
    assert len(world.servers() or ()) == there - missing


def test_what_a_second_look_finds_stays(world: World):
    world.serve(*range(1, 21))
    world.settle()
    gone = world.pods.get(pod_key(1))
    world.pods.drop(pod_key(1), listed=True)
    world.pods.elsewhere.append(gone)

    assert len(world.settle().servers()) == 20


def give_word(world: World, word: str, name: str = "echo") -> None:
    """Annotate an RpcService, as a person does."""
    service = world.services.get(ObjectKey("default", name))
    world.services.put(msgspec.structs.replace(service, released=word))
    world.settle()


def lose(world: World, *numbers: int) -> None:
    """A LIST lacks pods, more than go at once."""
    for number in numbers:
        world.pods.drop(pod_key(number), listed=True)
    world.settle()


@pytest.mark.parametrize(
    ("before", "meanwhile", "left"),
    [
        pytest.param([], ["w1"], 10, id="a word"),
        pytest.param([], ["2099-01-01T00:00:00Z"], 10, id="a word that looks like a time to come"),
        pytest.param([], ["2020-01-01T00:00:00Z"], 10, id="a word that looks like a time before"),
        pytest.param(["w1"], [], 20, id="a word given while nothing is held"),
        pytest.param(["w1"], [""], 20, id="it is taken away"),
        pytest.param(["w1"], ["", "w1"], 20, id="it is taken away and put back"),
        pytest.param(["w1", ""], ["w1"], 10, id="it was taken away before"),
        pytest.param(["w1"], ["w2"], 10, id="another word"),
    ],
)
def test_a_word_in_the_annotation_ends_a_hold(
    world: World, before: list[str], meanwhile: list[str], left: int
):
    world.serve(*range(1, 21))
    world.settle()
    for word in before:
        give_word(world, word)
    lose(world, *range(1, 11))
    assert len(world.servers()) == 20
    for word in meanwhile:
        give_word(world, word)

    assert len(world.servers()) == left


def test_a_word_ends_no_later_hold(world: World):
    world.serve(*range(1, 21))
    world.settle()
    lose(world, *range(1, 11))
    give_word(world, "w1")
    assert len(world.servers()) == 10
    lose(world, *range(11, 20))
    give_word(world, "")
    give_word(world, "w1")
    assert len(world.servers()) == 10

    give_word(world, "w2")
    assert len(world.servers()) == 1


def test_a_new_process_takes_the_word_that_it_finds_for_an_old_one(world: World):
    world.serve(*range(1, 21))
    world.settle()
    lose(world, *range(1, 11))
    service = world.services.get(ObjectKey("default", "echo"))
    world.services.put(msgspec.structs.replace(service, released="w1"))  # and nobody looks
    world.start()
    assert len(world.settle().servers()) == 20

    give_word(world, "w2")
    assert len(world.servers()) == 10


def test_an_rpcservice_that_takes_over_brings_no_word_along(world: World):
    world.serve(*range(1, 21))
    world.settle()
    lose(world, *range(1, 11))
    world.services.put(msgspec.structs.replace(declared("mine"), released="of a backup"))
    world.settle()
    assert [service.name for service in world.services.values()] == ["mine"]
    assert len(world.settle().servers()) == 20

    give_word(world, "w1", "mine")
    assert len(world.servers()) == 10


@pytest.mark.parametrize(
    ("value", "left"),
    [
        pytest.param("w1", 10, id="all"),
        pytest.param("w1 other echo", 10, id="this service among others"),
        pytest.param("w1 other", 20, id="another service"),
        pytest.param("w0", 20, id="the word that was there"),
    ],
)
def test_a_word_on_the_lease_ends_the_holds_of_pods(world: World, value: str, left: int):
    world.notes.annotations = {RELEASE: "w0"}
    world.serve(*range(1, 21))
    world.settle()
    lose(world, *range(1, 11))
    world.notes.annotations = {RELEASE: value}

    assert len(world.settle().servers()) == left


def test_the_word_that_the_lease_has_when_it_is_first_seen_is_an_old_one(world: World):
    world.notes.annotations = None
    world.serve(*range(1, 21))
    world.settle_except(AssertionError)
    lose(world, *range(1, 11))
    world.notes.annotations = {RELEASE: "w0"}
    assert len(world.settle().servers()) == 20

    world.notes.annotations = {RELEASE: "w1"}
    assert len(world.settle().servers()) == 10


@pytest.mark.parametrize("seconds", [0.0, CONFIRM * 100])
def test_an_unknown_source_withdraws_nothing_however_long(world: World, seconds: float):
    world.serve(*range(1, 4))
    world.settle()
    world.pods.unknown = "forbidden"
    for number in range(1, 4):
        world.pods.put(pod(number, "echo", ready=False))
    world.clock.seconds += seconds

    assert world.settle_except(Exception) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_a_word_lets_go_once_what_the_pods_of_an_unreadable_namespace_show(world: World):
    def turn(number: int) -> list[str] | None:
        """The pod turns not Ready; nobody knows whether that is true."""
        world.pods.put(pod(number, "echo", ready=False))
        return world.settle().servers()

    world.serve(*range(1, 5))
    give_word(world.settle(), "w0")
    world.pods.unknown = "forbidden"
    assert len(turn(1)) == 4
    give_word(world, "")
    give_word(world, "w0")
    assert len(world.servers()) == 4, "the word that was there"

    give_word(world, "w1")
    assert len(world.servers()) == 3
    assert len(turn(2)) == 3, "the word let go what was held when it was given"
    give_word(world, "w2")
    assert len(world.servers()) == 2

    world.pods.unknown = None
    give_word(world, "w3")
    world.pods.unknown = "forbidden"
    assert len(turn(3)) == 2, "a word given while nothing was held"
    world.pods.unknown = None
    world.keys |= world.rpcservices.every_key()  # as a LIST that was taken in does
    assert len(world.settle().servers()) == 1


def test_a_word_may_be_the_first_that_is_seen_once_a_namespace_cannot_be_read(world: World):
    world.serve(1, 2)
    world.settle()
    world.pods.unknown = "forbidden"
    world.pods.put(pod(1, "echo", ready=False))
    give_word(world, "w1")

    assert world.servers() == ["10.0.0.2"]


def test_a_namespace_that_cannot_be_read_holds_up_no_other(world: World):
    world.serve(1, 2)
    world.settle()
    world.pods.unknown, world.pods.unknown_namespace = "forbidden", "elsewhere"
    world.pods.put(pod(1, "echo", ready=False))

    assert world.settle().servers() == ["10.0.0.2"]


def test_pods_gone_while_the_controller_was_down_are_missing_for_the_new_one(world: World):
    world.serve(*range(1, 4))
    world.settle()
    for number in range(2, 4):
        del world.pods._items[pod_key(number)]
    world.start()
    world.settle()
    assert len(world.servers()) == 3

    world.clock.seconds += CONFIRM + 1
    assert world.settle().servers() == ["10.0.0.1"]


def test_an_rpcservice_deleted_by_hand_is_made_again_and_its_znode_stays(world: World):
    world.serve(1, 2)
    world.settle()
    before = world.zookeeper.znodes["/rpc_v2/echo"]
    world.services.drop(ObjectKey("default", "echo"))
    world.settle()

    assert world.services.get(ObjectKey("default", "echo"))
    assert world.zookeeper.znodes["/rpc_v2/echo"] == before


def test_an_rpcservice_that_goes_again_before_its_status_was_written_withdraws_nothing(world: World):
    world.serve(1, 2)
    world.settle()
    before = world.zookeeper.znodes["/rpc_v2/echo"]
    world.services.drop(ObjectKey("default", "echo"))
    world.services.put(declared("echo", "again"))
    world.services.drop(ObjectKey("default", "echo"))
    world.registry.reconcile(["echo"])

    assert world.zookeeper.znodes["/rpc_v2/echo"] == before


def test_the_rest_of_a_service_is_not_all_of_it(world: World):
    """One of two RpcServices of a name is deleted by hand: what it listed stays till it is listed again."""
    world.services.put(declared("older", created="1"))
    world.services.put(declared("younger", created="2", selector=LabelSelector(match_labels={"app": "x"})))
    world.serve(1, 2)
    world.pods.put(pod(3, "echo", labels={"app": "x"}, declarations=()))
    before = world.settle().servers()
    world.services.drop(ObjectKey("default", "older"))
    world.registry.reconcile(["echo"])
    assert world.servers() == before == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]

    world.settle()
    assert world.servers() == before
    world.pods.drop(pod_key(1))
    assert world.settle().servers() == ["10.0.0.2", "10.0.0.3"]


def test_what_a_deleted_rpcservice_listed_goes_once_nobody_names_it(world: World):
    world.services.put(declared("older", created="1", selector=LabelSelector(match_labels={"app": "y"})))
    world.services.put(declared("younger", created="2", selector=LabelSelector(match_labels={"app": "x"})))
    world.pods.put(pod(1, "echo", labels={"app": "y"}, declarations=()))
    for number in range(2, 12):
        world.pods.put(pod(number, "echo", labels={"app": "x"}, declarations=()))
    world.settle()
    world.services.drop(ObjectKey("default", "older"))

    assert "10.0.0.1" not in world.settle().servers()


def test_the_head_of_a_large_service_is_deleted_by_hand_and_its_parts_go_with_it(world: World):
    world.endpoints_per_object = 3
    world.start()
    world.serve(*range(1, 8))
    before = world.settle().servers()
    parts = [service.key for service in world.services.values() if service.is_part]
    assert len(parts) == 2
    commits = len(world.zookeeper.commits)
    world.services.drop(ObjectKey("default", "echo"))
    world.registry.reconcile(["echo"])
    for part in parts:
        world.services.drop(part)
        world.registry.reconcile(["echo"])
    world.settle()

    assert (world.servers(), world.zookeeper.commits[commits:]) == (before, [])
    assert len(world.services.values()) == 3


def test_a_znode_of_kube2zk_is_taken_over_without_a_gap(world: World):
    world.zookeeper.znodes["/rpc_v2/echo"] = (b'{"config":["mine"],"servers":["10.0.0.1","10.0.0.2"]}', 3)
    world.serve(1)
    world.pods.put(pod(2, "echo", namespace="elsewhere"))
    world.start()
    world.names |= world.registry.compare()
    for namespace in ("default", "elsewhere"):
        world.rpcservices.reconcile(ServiceKey(namespace, "echo"))
        world.registry.reconcile(["echo"])
        assert world.servers() == ["10.0.0.1", "10.0.0.2"]

    world.pods.drop(pod_key(1))
    assert world.settle().servers() == ["10.0.0.2"]


def test_while_the_namespace_that_has_a_name_is_missing_no_other_gets_it(world: World):
    world.cross_namespace = CrossNamespace.DENY
    world.start()
    world.serve(1)
    world.settle()
    world.pods.put(pod(2, "echo", namespace="other"))
    assert world.settle().servers() == ["10.0.0.1"]
    world.services.drop(ObjectKey("default", "echo"))
    world.registry.reconcile(["echo"])

    assert world.servers() == ["10.0.0.1"]


def test_a_person_who_takes_an_rpcservice_over_changes_what_is_published(world: World):
    world.serve(1)
    world.settle()
    mine = world.services.get(ObjectKey("default", "echo"))
    world.names.clear()
    world.services.put(msgspec.structs.replace(mine, generated=False))

    assert world.names == {"echo"}


def test_pods_that_are_gone_are_not_remembered_for_ever(world: World):
    world.serve(*range(1, 30))
    world.settle()
    for number in range(1, 29):
        world.pods.drop(pod_key(number))
    world.rpcservices.absences.forget_withdrawn()
    assert len(world.settle().servers()) == 1, "those that are still listed are"
    world.rpcservices.absences.forget_withdrawn()
    world.services.drop(ObjectKey("default", "echo"))
    world.pods._items.clear()
    world.settle()
    world.registry.compare()

    assert (world.servers(), len(world.rpcservices.absences.guard.confirmed)) == (None, 0)
    assert len(world.registry.guard.confirmed) == 0


def test_a_condition_that_is_wanted_anew_while_another_is_written_is_written_next(world: World):
    world.serve(1)
    world.settle()
    echo = world.services.get(ObjectKey("default", "echo"))
    unavailable = Condition(type="Synced", status="False", reason="RegistryUnavailable")
    unwritten = msgspec.structs.replace(echo, status=RpcServiceStatus())
    services = Interrupted()
    services.put(unwritten)
    synced = SyncedReconciler(
        kube=world.kube,
        services=services,
        events=world.events,
        clock=world.clock,
        enqueue=lambda _: None,
        yield_to_endpoints=lambda _: None,
    )
    synced.set_desired(unwritten, Condition(type="Synced", status="True", reason="InRegistry"))
    services.meanwhile.append(lambda: synced.set_desired(unwritten, unavailable))
    synced.reconcile(echo.key)
    services.put(echo)
    world.kube.source = services
    synced.reconcile(echo.key)

    assert services.get(echo.key).status.condition("Synced").reason == "RegistryUnavailable"


class Interrupted(Held[RpcService]):
    """Something happens between the first reading and what is made of it."""

    def __init__(self) -> None:
        super().__init__({}, lambda _: None)
        self.meanwhile: list[Callable[[], None]] = []

    def get(self, key: ObjectKey) -> RpcService | None:
        found = super().get(key)
        while self.meanwhile:
            self.meanwhile.pop()()
        return found


def test_a_condition_that_is_wanted_by_somebody_who_read_before_the_last_was_written_is_written(world: World):
    """The registry's thread has an RpcService in hand, which a writer of conditions has just overtaken."""
    world.serve(1)
    world.settle()
    before = world.services.get(ObjectKey("default", "echo"))
    synced = Condition(type="Synced", status="True", reason="InRegistry")
    world.synced.set_desired(before, Condition(type="Synced", status="False", reason="Held"))
    world.synced.reconcile(before.key)
    world.synced.set_desired(before, synced)
    world.synced.reconcile(before.key)

    assert world.services.get(before.key).status.condition("Synced").reason == "InRegistry"


def test_rpcservices_that_vanish_with_their_crd_withdraw_nothing(world: World):
    world.serve(1, 2)
    world.settle()
    world.kube.failure = Rejected("the resource is not there")
    world.crd_there = False
    world.services.drop(ObjectKey("default", "echo"))

    assert world.settle_except(Partial, Retry) == ["10.0.0.1", "10.0.0.2"]
    world.pods.drop(pod_key(2))
    assert world.settle_except(Partial) is not None
    world.names.add("echo")
    world.keys.clear()
    assert world.settle_except(Retry) == ["10.0.0.1"], "a pod that is seen to go is withdrawn all the same"


def test_a_declared_rpcservice_that_took_over_and_is_deleted_leaves_the_znode_as_it_is(world: World):
    world.serve(1)
    world.settle()
    before = world.zookeeper.znodes["/rpc_v2/echo"]
    mine = RpcService(
        namespace="default",
        name="mine",
        uid="d",
        resource_version="1",
        spec=RpcServiceSpec(service_name="echo"),
    )
    world.services.put(mine)
    world.settle()
    assert [service.name for service in world.services.values()] == ["mine"]
    emptied = msgspec.structs.replace(mine, name="emptied", uid="e", generated=True)
    world.services.put(emptied)
    world.services.drop(emptied.key)  # the last thing seen before the declared one goes
    world.services.drop(mine.key)
    # The registry may well be the first to see it.
    world.registry.reconcile(["echo"])
    assert world.zookeeper.znodes["/rpc_v2/echo"] == before
    world.settle()

    assert [service.name for service in world.services.values()] == ["echo"]
    assert world.zookeeper.znodes["/rpc_v2/echo"] == before


def delete_declared(world: World, count: int = 3) -> None:
    """A person deletes a declared RpcService that selects so many pods, which name no service themselves."""
    world.services.put(declared("mine", selector=LabelSelector(match_labels={"app": "x"})))
    for number in range(1, count + 1):
        world.pods.put(pod(number, "echo", labels={"app": "x"}, declarations=()))
    world.settle()
    assert len(world.servers()) == count
    world.services.drop(ObjectKey("default", "mine"))
    world.settle()
    assert len(world.servers()) == count


def notes_of(world: World, reason: str) -> list[str]:
    return [problem.message for _, problem in world.events.told if problem.reason == reason]


def test_what_is_held_without_an_rpcservice_is_shown_on_the_lease_and_let_go_there(world: World):
    delete_declared(world)
    assert world.notes.annotations == {HELD: '["echo"]'}
    (told,) = notes_of(world, "Held")
    until = world.clock.now() + timedelta(seconds=CONFIRM)
    assert told.startswith("echo: no RpcService lists 3 published endpoints any more")
    assert f"{until:%H:%M:%S}Z" in told
    assert (LEASE.name, Problem("Held", told)) in world.events.told

    world.notes.annotations |= {RELEASE: "w1 other"}
    assert len(world.settle().servers()) == 3
    world.notes.annotations |= {RELEASE: "w2 echo"}
    assert world.settle().servers() is None
    assert HELD not in world.notes.annotations
    written = [note for note in world.notes.written if note[0] == HELD]
    assert written == [(HELD, '["echo"]'), (HELD, None)]


def test_the_lease_names_what_was_let_go_until_it_is_withdrawn(world: World):
    delete_declared(world)
    world.zookeeper.writes_left = 0
    world.notes.annotations |= {RELEASE: "w1"}
    assert len(world.settle_except(Retry)) == 3
    assert world.notes.annotations[HELD] == '["echo"]'

    world.zookeeper.writes_left = None
    world.names.add("echo")  # as the queue does with what failed
    assert world.settle().servers() is None
    assert HELD not in world.notes.annotations


def test_a_new_process_leaves_the_note_of_an_earlier_one_until_it_knows_better(world: World):
    delete_declared(world)
    world.start()
    world.registry.compare()
    world.registry.beat()
    assert world.notes.annotations == {HELD: '["echo"]'}
    world.services.put(declared("mine", selector=LabelSelector(match_labels={"app": "x"})))
    world.settle()

    assert world.notes.annotations == {}
    assert len(world.servers()) == 3


def test_a_note_of_an_earlier_process_goes_where_nothing_is_held(world: World):
    world.notes.annotations = {HELD: '["gone"]'}
    world.serve(1)
    world.settle()

    assert world.notes.annotations == {}


def test_a_hold_that_grows_tenfold_is_told_again(world: World):
    def told() -> list[str]:
        return [note.split()[0] for note in notes_of(world, "Held")]

    world.serve(*range(1, 6))
    world.settle()
    lose(world, 1, 2)
    world.serve(*range(6, 10))
    world.settle()
    lose(world, *range(6, 10))
    assert told() == ["2"], "6 are not ten times as many"

    world.serve(*range(10, 26))
    world.settle()
    lose(world, *range(10, 26))
    assert told() == ["2", "22"]


def test_each_service_that_is_held_without_an_rpcservice_is_told_once(world: World):
    delete_declared(world)
    other = declared("other", selector=LabelSelector(match_labels={"app": "y"}))
    world.services.put(
        msgspec.structs.replace(other, spec=msgspec.structs.replace(other.spec, service_name="other"))
    )
    for number in (11, 12):
        world.pods.put(pod(number, "echo", labels={"app": "y"}, declarations=()))
    world.settle()
    world.services.drop(other.key)
    world.settle()

    assert [note.partition(":")[0] for note in notes_of(world, "Held")] == ["echo", "other"]
    assert world.notes.annotations == {HELD: '["echo","other"]'}


@pytest.mark.parametrize("gone", [{"terminating": True}, {"ips": ()}])
def test_a_pod_that_ends_keeps_nothing_published_of_an_rpcservice_that_was_deleted(world: World, gone):
    world.serve(1, 2)
    world.services.put(msgspec.structs.replace(declared("theirs"), namespace="other"))
    world.serve(3, namespace="other")
    world.settle()
    world.serve(3, namespace="other", **gone)
    world.pods.drop(pod_key(2))
    world.services.drop(ObjectKey("other", "theirs"))

    assert world.settle().servers() == ["10.0.0.1"]


def test_a_declared_rpcservice_that_is_deleted_is_withdrawn_once_nobody_names_it(world: World):
    spec = RpcServiceSpec()
    declared = RpcService(
        namespace="default",
        name="echo",
        uid="d",
        resource_version="1",
        spec=spec,
        status=RpcServiceStatus(),
    )
    world.services.put(declared)
    world.serve(1)
    world.settle()
    assert world.servers() == ["10.0.0.1"]
    world.pods._items.clear()
    world.pods._items[pod_key(1)] = pod(
        1, "echo", phase="Failed", ready=False
    )  # evicted: it will not come back
    world.services.drop(ObjectKey("default", "echo"))

    assert world.settle().servers() is None


@pytest.mark.parametrize("number", range(8))
def test_a_crash_before_any_write_to_zookeeper_leads_to_the_same_end(world: World, number: int):
    world.zookeeper.writes_left = number
    story(world)
    world.zookeeper.writes_left = None
    world.start()
    world.settle()
    world.clock.seconds += CONFIRM + 1  # what was deleted before its znode was, is missing to the new one
    world.settle()

    assert {path: data for path, (data, _) in world.zookeeper.znodes.items() if "/rpc_v2/" in path} == {
        path: data for path, (data, _) in undisturbed().zookeeper.znodes.items() if "/rpc_v2/" in path
    }


def story(world: World) -> None:
    """A few changes; where one cannot be written, the controller is gone and the cluster goes on."""
    steps = [
        lambda: world.serve(1, 2),
        lambda: world.serve(3, service="other"),
        lambda: world.pods.drop(pod_key(1)),
        lambda: world.pods.put(pod(2, "moved")),
    ]
    for step in steps:
        step()
        try:
            world.settle()
        except Retry:
            world.start()


def undisturbed() -> World:
    world = World()
    story(world)
    return world


def test_a_lost_answer_is_read_back(world: World):
    world.serve(1)
    world.settle()
    world.serve(2)
    world.zookeeper.lose_answer = True
    with pytest.raises(Retry):
        world.settle()
    world.names.add("echo")
    commits = len(world.zookeeper.commits)

    assert world.settle().servers() == ["10.0.0.1", "10.0.0.2"]
    assert len(world.zookeeper.commits) == commits, "it had been written"


def test_a_service_that_is_refused_costs_no_other(world: World):
    world.zookeeper.refused.add("/rpc_v2/bad")
    world.serve(1, service="bad")
    world.serve(2, service="good")
    with pytest.raises(Partial):
        world.settle()

    assert (world.servers("good"), world.servers("bad")) == (["10.0.0.2"], None)


def test_a_layout_that_is_refused_costs_no_other_and_is_tried_ever_later(world: World):
    world.layouts = (Layout("kube2zk", "/rpc_v2"), Layout("dubbo", "/dubbo"))
    world.start()
    world.serve(1, port=80)
    world.settle()
    world.zookeeper.refused.add("/rpc_v2/echo")
    tried = []
    for number in range(2, 40):
        world.serve(number, port=80)
        commits = world.zookeeper.refusals
        world.settle_except(Partial)
        tried += [number] * (world.zookeeper.refusals - commits)
        assert len(world.zookeeper.children("/dubbo/echo/providers")) == number
        world.clock.seconds += 1.0
    assert world.servers() == ["10.0.0.1"]
    assert sorted(set(tried)) == [2, 3, 5, 9, 17, 33]

    world.zookeeper.refused.clear()
    world.clock.seconds += LONGEST_PAUSE
    world.names.add("echo")
    assert len(world.settle().servers()) == 39


def test_a_znode_that_may_not_be_read_costs_no_other(world: World):
    world.zookeeper.unreadable.add("/rpc_v2/bad")
    world.zookeeper.znodes["/rpc_v2/bad"] = (b'{"servers":[]}', 0)
    world.serve(1, service="bad")
    world.serve(2, service="good")
    with pytest.raises(Rejected):
        world.settle()
    world.compared = False
    world.serve(3, service="good")
    with pytest.raises(Rejected):
        world.settle()

    assert (world.servers("good"), world.servers("bad")) == (["10.0.0.2", "10.0.0.3"], [])


def test_what_nobody_foresaw_about_one_service_costs_no_other(world: World):
    world.serve(1, service="bad")
    world.serve(2, service="good")
    world.zookeeper.cursed.add("/rpc_v2/bad")
    with pytest.raises(ZeroDivisionError):
        world.settle()

    assert world.servers("good") == ["10.0.0.2"]


def test_what_was_not_there_is_written_without_reading_it(world: World):
    world.serve(100)
    world.settle()  # which reads the fence
    before = world.zookeeper.reads
    for number in range(20):
        world.serve(number, service=f"s{number}")
    world.settle()
    assert (world.servers("s7"), world.zookeeper.reads) == (["10.0.0.7"], before)

    world.zookeeper.znodes["/rpc_v2/late"] = (b'{"config":["mine"],"servers":[]}', 3)
    world.serve(101, service="late")
    world.serve(102, service="other")
    assert (world.settle().servers("late"), world.servers("other")) == (["10.0.0.101"], ["10.0.0.102"])
    assert json.loads(world.zookeeper.znodes["/rpc_v2/late"][0])["config"] == ["mine"]


def test_what_was_written_without_reading_it_is_read_a_moment_later(world: World):
    world.serve(1)
    world.settle()
    world.zookeeper.znodes["/rpc_v2/echo"] = (b"{}", 1)  # nobody tells of it
    world.clock.sleep(REARM)
    assert world.registry.unwatched(2 * REARM) == {}, "while there is more to do"
    assert world.registry.unwatched() == {"echo": 0.0}
    world.names.add("echo")
    assert world.settle().servers() == ["10.0.0.1"]
    assert world.registry.unwatched() == {}


def test_what_we_wrote_is_read_again_a_moment_later(world: World):
    world.serve(1)
    world.settle()
    assert world.registry.path_changed("/rpc_v2/echo") == {}, "our own write"
    assert world.registry.unwatched() == {}, "not yet"
    before = world.zookeeper.reads
    world.serve(2)
    assert world.settle().servers() == ["10.0.0.1", "10.0.0.2"]
    assert world.zookeeper.reads == before, "known without reading"

    world.clock.sleep(REARM)
    world.names.update(world.registry.unwatched())
    world.settle()
    assert world.zookeeper.reads > before
    assert world.registry.path_changed("/rpc_v2/echo") == {"echo": 0.0}, "somebody else's"


def test_foreign_edits_are_put_back(world: World):
    world.serve(1)
    world.settle()
    world.registry.path_changed("/rpc_v2/echo")  # ours
    world.zookeeper.znodes["/rpc_v2/echo"] = (b'{"config":["mine"],"servers":["6.6.6.6"],"x":1}', 9)
    world.names.update(world.registry.path_changed("/rpc_v2/echo"))
    world.settle()
    assert json.loads(world.zookeeper.znodes["/rpc_v2/echo"][0]) == {
        "config": ["mine"],
        "servers": ["10.0.0.1"],
        "x": 1,
    }

    del world.zookeeper.znodes["/rpc_v2/echo"]
    world.names.update(world.registry.path_changed("/rpc_v2/echo"))
    world.clock.sleep(REARM)
    world.names.update(world.registry.unwatched())
    assert world.settle().servers() == ["10.0.0.1"]


def test_changes_are_written_before_anything_is_read_again(world: World):
    world.serve(1)
    world.serve(2, service="other")
    world.settle()
    world.zookeeper.znodes["/rpc_v2/echo"] = (b'{"config":[],"servers":["6.6.6.6"]}', 9)
    for _ in range(2):  # ours, and another's
        world.names.update(world.registry.path_changed("/rpc_v2/echo"))
    world.serve(3, service="other")
    world.written.clear()
    world.settle()
    assert [name for _, _, name in world.written] == ["other", "echo"]


def test_a_wiped_zookeeper_is_filled_again(world: World):
    world.serve(1)
    world.serve(2, service="other")
    world.settle()
    world.zookeeper.znodes.clear()
    world.compared = False

    assert (world.settle().servers(), world.servers("other")) == (["10.0.0.1"], ["10.0.0.2"])


def test_a_change_that_waits_for_zookeeper_shows_after_ten_seconds_and_only_its_own(world: World):
    world.serve(1)
    world.serve(2, service="other")
    world.settle()
    world.zookeeper.connected = False
    world.serve(3)
    for seconds in (0, 11):
        world.clock.seconds += seconds
        with pytest.raises(Retry):
            world.settle()
        world.names |= {"echo", "other"}
    with pytest.raises(Retry):
        world.settle()
    for waiting in list(world.conditions):
        world.synced.reconcile(waiting)

    reasons = {s.name: s.status.condition("Synced").reason for s in world.services.values()}
    assert reasons == {"echo": "RegistryUnavailable", "other": "InRegistry"}


def test_a_change_that_zookeeper_refuses_shows_after_ten_seconds(world: World):
    world.zookeeper.refused.add("/rpc_v2/echo")
    world.serve(1)
    for seconds in (0, 11):
        world.clock.seconds += seconds
        with pytest.raises(Partial):
            world.settle()
        world.names.add("echo")
    for waiting in list(world.conditions):
        world.synced.reconcile(waiting)

    condition = world.services.get(ObjectKey("default", "echo")).status.condition("Synced")
    assert condition.reason == "RegistryUnavailable"


@pytest.mark.parametrize(
    ("node_ready", "silenced", "published"),
    [
        pytest.param(False, True, 3, id="its Node is not Ready, and the watch is late to say so"),
        pytest.param(True, True, 2, id="its Node is Ready"),
        pytest.param(False, False, 2, id="its kubelet says why it is not Ready"),
    ],
)
def test_a_pod_that_is_silenced_before_its_node_is_seen_to_be(
    world: World, node_ready: bool, silenced: bool, published: int
):
    world.nodes.put(Node(name="n1", uid="n1", ready=True))
    world.serve(*range(1, 4))
    world.settle()
    world.clock.seconds += LEAST
    world.node_now = Node(name="n1", uid="n1", ready=node_ready)
    world.pods.put(pod(1, "echo", ready=False, silenced=silenced))
    while world.keys:
        world.rpcservices.reconcile(world.keys.pop())
    world.registry.reconcile(["echo"])

    assert len(world.servers() or ()) == published


def test_a_pod_that_may_not_register_declares_nothing(world: World):
    world.denied = {("p1", "echo"), ("p2", "other")}
    world.serve(1, 2)
    world.serve(3, service="other")
    assert (world.settle().servers(), world.servers("other")) == (["10.0.0.2"], ["10.0.0.3"])

    world.denied.clear()
    world.keys |= world.rpcservices.every_key()
    assert world.settle().servers() == ["10.0.0.1", "10.0.0.2"]


def test_whoever_alone_serves_and_loses_the_permission_is_withdrawn(world: World):
    world.serve(1)
    world.settle()
    world.denied = {("p1", "echo")}
    world.keys |= world.rpcservices.every_key()

    assert world.settle().servers() is None
    assert world.services.values() == []


def test_a_change_that_comes_while_another_is_written_waits_from_then_on(world: World):
    """Under load that is the rule: the write in hand says nothing of it."""
    world.serve(1)
    world.settle()
    world.serve(2)
    world.rpcservices.reconcile(world.keys.pop())

    def another_pod() -> None:
        world.serve(3)
        world.rpcservices.reconcile(world.keys.pop())

    world.zookeeper.meanwhile.append(another_pod)
    world.registry.reconcile(["echo"])
    assert world.servers() == ["10.0.0.1", "10.0.0.2"]
    world.zookeeper.connected = False
    for _ in range(3):
        world.clock.seconds += 5
        world.registry.reconcile(["echo"])
    while world.conditions:
        world.synced.reconcile(world.conditions.pop())

    condition = world.services.get(ObjectKey("default", "echo")).status.condition("Synced")
    assert (condition.status, condition.reason) == ("False", "RegistryUnavailable")


def test_while_nobody_can_look_for_other_controllers_nothing_is_written_and_that_is_said(world: World):
    world.clear = False
    world.serve(1)
    world.settle_except(Retry)
    for _ in range(3):
        world.clock.seconds += 5
        world.registry.reconcile(["echo"])
    while world.conditions:
        world.synced.reconcile(world.conditions.pop())

    condition = world.services.get(ObjectKey("default", "echo")).status.condition("Synced")
    assert (condition.status, condition.reason) == ("False", "RegistryUnavailable")
    assert world.servers() is None
    world.clear = True
    world.names.add("echo")
    assert world.settle().servers() == ["10.0.0.1"]
