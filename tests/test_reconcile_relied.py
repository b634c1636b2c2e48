"""Both controllers on a world in memory where others write RpcServices, and where ours are refused."""

from contextlib import suppress
from itertools import pairwise

import msgspec
import pytest

from rpcregistry.errors import Rejected, Retry, Unanswered
from rpcregistry.model import Declaration, Endpoint, ObjectKey, RpcServiceStatus, ServiceKey
from rpcregistry.reconcile.rpcservices import OLD_CRD
from rpcregistry.reconcile.troubles import COUNT_PERIOD, LONGEST_PAUSE, LONGEST_PAUSE_AWAY
from tests.builders import declared, pod, pod_key
from tests.worlds.registry import CONFIRM, World

ECHO = ObjectKey("default", "echo")
KEY = ServiceKey("default", "echo")
QUOTA = Rejected("create RpcService default/echo: 403 Forbidden: exceeded quota: q")


@pytest.fixture
def world() -> World:
    world = World()
    world.endpoints_per_object = 3
    world.start()
    return world


def row(number: int, **fields: object) -> Endpoint:
    ips = (f"10.0.0.{number}",)
    return Endpoint(pod_name=f"p{number}", pod_uid=f"uid-p{number}", ip=ips[0], ips=ips, ready=True, **fields)


def rows(world: World) -> list[str]:
    return [row.pod_name for row in world.services.get(ECHO).status.endpoints]


def forge(world: World, *endpoints: Endpoint, name: ObjectKey = ECHO) -> None:
    """Somebody else writes the status."""
    world.kube._version += 1
    service = world.services.get(name)
    status = msgspec.structs.replace(service.status, endpoints=endpoints)
    version = str(world.kube._version)
    world.services.put(msgspec.structs.replace(service, status=status, resource_version=version))


def registry(world: World) -> list[str] | None:
    """What the registry holds once it has worked, before the pod controller does."""
    names, world.names = sorted(world.names | {"echo"}), set()
    failures, _ = world.registry.reconcile(names)
    assert not failures
    return world.servers()


def work_off(world: World) -> None:
    """Work until there is nothing left but what is refused."""
    for _ in range(20):
        if world.settle_except(Retry) is not None and not (world.keys or world.names or world.conditions):
            return


FORGED = [
    pytest.param((row(1), row(2), row(9)), id="a row added"),
    pytest.param((row(1),), id="a row taken out"),
    pytest.param((), id="all rows taken out"),
    pytest.param((row(1), row(2, version="2")), id="a row changed"),
    pytest.param((msgspec.structs.replace(row(1), ip="6.6.6.6", ips=("6.6.6.6",)), row(2)), id="an address"),
    pytest.param((row(7), row(8)), id="other rows"),
]


@pytest.mark.parametrize("forged", FORGED)
def test_what_others_write_into_a_status_changes_nothing_and_is_put_right(world: World, forged):
    world.serve(1, 2)
    before = world.settle().servers()
    forge(world, *forged)
    assert registry(world) == before
    commits = len(world.zookeeper.commits)
    world.settle()

    assert world.servers() == before
    assert rows(world) == ["p1", "p2"]
    assert not any(world.zookeeper.commits[commits:])


@pytest.mark.parametrize("forged", FORGED)
def test_nor_does_it_while_the_status_cannot_be_put_right(world: World, forged):
    world.serve(1, 2)
    before = world.settle().servers()
    world.kube.refuses = lambda verb, _: QUOTA if verb == "replace" else None
    forge(world, *forged)
    for _ in range(3):
        world.settle_except(Retry)
        assert registry(world) == before
        world.clock.seconds += LONGEST_PAUSE
        world.keys.add(KEY)
    world.kube.refuses = lambda *_: None
    world.settle()

    assert (world.servers(), rows(world)) == (before, ["p1", "p2"])


def test_a_condition_that_we_write_on_top_of_it_does_not_make_it_ours(world: World):
    world.serve(1, 2)
    before = world.settle().servers()
    forge(world, row(1), row(9))
    service = world.services.get(ECHO)
    patch = {
        "metadata": {"uid": service.uid, "resourceVersion": service.resource_version},
        "status": {"conditions": []},
    }
    world.services.observe(world.kube.patch(None, ECHO, patch, "status"))

    assert registry(world) == before
    assert world.settle().servers() == before


def test_what_others_take_out_of_a_status_is_held_where_its_pod_is_absent(world: World):
    world.serve(*range(1, 4))
    world.settle()
    for number in (1, 2, 3):
        world.pods.drop(pod_key(number), listed=True)
    forge(world)
    world.settle()
    assert len(world.servers()) == 3
    assert world.services.get(ECHO).status.condition("Synced").reason == "Held"

    world.clock.seconds += CONFIRM + 1
    world.settle()
    assert not world.servers()


def test_what_others_add_counts_where_its_pod_is_there(world: World):
    """A row that an earlier status had, restored from a backup, of a pod that our store has not yet."""
    world.serve(1)
    world.settle()
    world.pods.elsewhere = [pod(2, "echo")]
    forge(world, row(1), row(2), row(3))
    world.settle()

    assert rows(world) == ["p1", "p2"]


def test_while_pods_cannot_be_read_nothing_of_it_counts(world: World):
    world.serve(1, 2)
    before = world.settle().servers()
    world.pods.unknown = "403"
    forge(world, row(1), row(9))
    world.settle_except(Rejected)

    assert world.servers() == before
    assert rows(world) == ["p1", "p2"]


def test_at_a_start_all_rows_count_as_ours(world: World):
    world.serve(1, 2, 3)
    world.settle()
    for number in (1, 2):
        del world.pods._items[pod_key(number)]
    world.start()
    world.settle()

    assert len(world.servers()) == 3
    assert world.services.get(ECHO).status.condition("Synced").reason == "Held"


def test_what_others_write_between_a_start_and_the_first_look_changes_nothing(world: World):
    world.serve(1, 2)
    before = world.settle().servers()
    world.start()
    forge(world, row(9))
    world.compared = True
    world.registry.compare()
    assert registry(world) == before
    assert world.settle().servers() == before


def test_an_object_that_comes_with_rows_adds_and_removes_nothing_before_it_was_looked_at(world: World):
    world.serve(1)
    before = world.settle().servers()
    mine = declared("mine")
    status = RpcServiceStatus(observed_generation=1, endpoints=(row(9),))
    world.services.put(msgspec.structs.replace(mine, status=status))
    assert registry(world) == before
    world.pods.drop(pod_key(1))
    world.serve(2)
    world.settle()

    assert world.servers() == ["10.0.0.2"]


def test_a_status_that_others_go_on_writing_is_put_right_ever_later(world: World):
    world.serve(1, 2)
    world.settle()
    written = []
    for second in range(40):
        writes = len(world.kube.writes)
        forge(world, row(1), row(2), row(50 + second))
        world.settle_except(Retry)
        if ("replace", "echo") in world.kube.writes[writes:]:
            written.append(second)
        world.clock.seconds += 1.0

    assert written == [0, 1, 3, 7, 15, 31]
    assert world.servers() == ["10.0.0.1", "10.0.0.2"]


def test_a_pod_whose_row_others_took_out_stays_published_while_it_moves_to_another_object(world: World):
    world.serve(1, 2)
    before = world.settle().servers()
    forge(world)
    status = RpcServiceStatus(observed_generation=1)  # others may write that, too
    world.services.put(msgspec.structs.replace(declared("mine"), status=status))

    def between_writes(verb: str, name: str) -> None:
        assert registry(world) == before, (verb, name)

    world.kube.refuses = between_writes
    world.settle()

    assert world.servers() == before
    assert [service.name for service in world.services.values()] == ["mine"]


def test_a_pod_that_names_the_service_no_more_leaves_though_others_gave_its_row_another_name(world: World):
    world.serve(1, 2)
    world.settle()
    world.kube.refuses = lambda verb, name: QUOTA if (verb, name) == ("replace", "echo") else None
    forge(world, msgspec.structs.replace(row(1), pod_name="stranger"), row(2))
    world.pods.put(pod(1, "other"))
    world.services.put(declared("mine"))
    listed = []
    for _ in range(6):
        with suppress(Retry):
            world.rpcservices.reconcile(KEY)
        mine = world.services.get(ObjectKey("default", "mine"))
        listed.append([row.pod_name for row in mine.status.endpoints])

    assert listed == [["p2"]] * 6
    assert registry(world) == ["10.0.0.2"]


# Pods alone take away


def test_the_dead_leave_while_no_status_can_be_written(world: World):
    world.serve(1, 2, 3)
    world.settle()
    world.kube.refuses = lambda *_: Retry("a webhook is down")
    world.pods.drop(pod_key(1))
    world.pods.put(pod(2, "echo", terminating=True))
    world.settle_except(Retry)

    assert rows(world) == ["p1", "p2", "p3"]
    assert registry(world) == ["10.0.0.3"]
    world.pods.put(pod(3, "echo", ready=False))
    world.settle_except(Retry)
    assert not registry(world)


def test_one_that_nobody_saw_go_stays_meanwhile(world: World):
    world.serve(1, 2, 3)
    world.settle()
    world.kube.refuses = lambda *_: QUOTA
    for number in (1, 2):
        world.pods.drop(pod_key(number), listed=True)
    world.pods.put(pod(3, "echo", terminating=True))
    world.settle_except(Retry)

    assert registry(world) == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize("by", ["hand", "a LIST that lacks it"])
def test_the_dead_leave_while_their_rpcservice_is_missing_and_cannot_be_made(world: World, by: str):
    world.serve(1, 2, 3)
    world.settle()
    world.kube.refuses = lambda verb, _: QUOTA if verb == "create" else None
    world.services.drop(ECHO, listed=by != "hand")
    world.settle_except(Retry)
    assert registry(world) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]

    world.pods.drop(pod_key(1))
    world.serve(4)
    world.settle_except(Retry)
    assert registry(world) == ["10.0.0.2", "10.0.0.3"], "what is new waits for its object"
    world.pods.drop(pod_key(2), listed=True)
    world.settle_except(Retry)
    assert registry(world) == ["10.0.0.2", "10.0.0.3"], "and nobody saw this one go"

    world.kube.refuses = lambda *_: None
    world.clock.seconds += LONGEST_PAUSE
    world.keys.add(KEY)
    world.settle()
    assert set(world.servers()) >= {"10.0.0.3", "10.0.0.4"}


def test_an_rpcservice_that_the_pod_controller_deletes_leaves_nothing_to_rely_on(world: World):
    world.serve(1)
    world.settle()
    world.serve(1, terminating=True)
    world.settle()  # emptied, and kept while a pod names the service
    world.pods.drop(pod_key(1))
    world.settle()

    assert list(world.services.values()) == list(world.relied.values()) == []


def test_an_rpcservice_that_is_deleted_and_made_anew_loses_nobody(world: World):
    world.serve(1, 2)
    before = world.settle().servers()
    world.services.drop(ECHO)
    assert registry(world) == before
    world.settle()

    assert world.servers() == before
    assert rows(world) == ["p1", "p2"]


# What cannot be read


def damage(world: World, why: str = "missing field `ready`") -> None:
    """Somebody writes a status of which one row cannot be read."""
    forge(world, *world.services.get(ECHO).status.endpoints[1:])
    world.services.put(msgspec.structs.replace(world.services.get(ECHO), damaged=why))


def unreadable(world: World) -> list[str]:
    return [problem.message for _, problem in world.events.told if problem.reason == "Unreadable"]


def test_a_status_that_cannot_be_read_is_written_anew_once_and_told(world: World):
    world.serve(1, 2)
    before = world.settle().servers()
    damage(world)
    writes = len(world.kube.writes)
    world.settle()

    assert (world.servers(), rows(world)) == (before, ["p1", "p2"])
    assert world.kube.writes[writes:] == [("replace", "echo")]
    assert unreadable(world) == [
        "a part of the status could not be decoded, and was rewritten: missing field `ready`"
    ]


def test_one_whose_rows_are_right_is_written_anew_all_the_same(world: World):
    world.serve(1, 2)
    world.settle()
    world.services.put(msgspec.structs.replace(world.services.get(ECHO), damaged="a condition"))
    world.settle()

    assert not world.services.get(ECHO).damaged


def test_where_our_own_word_cannot_be_read_back_it_is_written_once_and_holds(world: World):
    world.serve(1, 2)
    world.settle()
    world.kube.damages = "missing field `ip`"
    world.serve(3)
    world.settle()
    assert rows(world) == []
    assert world.servers() == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert OLD_CRD in unreadable(world)[0]
    assert world.services.get(ECHO).status.condition("Synced").reason == "Unreadable"

    writes = len(world.kube.writes)
    for _ in range(3):
        world.keys.add(KEY)
        world.settle()
    assert ("replace", "echo") not in world.kube.writes[writes:], "nobody changed it since"
    world.pods.drop(pod_key(1))
    world.settle()
    assert world.servers() == ["10.0.0.2", "10.0.0.3"]

    world.kube.damages = ""
    world.pods.drop(pod_key(2))
    world.settle()
    assert (world.servers(), rows(world)) == (["10.0.0.3"], ["p3"])
    assert world.services.get(ECHO).status.condition("Synced").reason == "InRegistry"


def test_a_declared_rpcservice_whose_spec_cannot_be_read_keeps_its_path_as_it_is(world: World):
    world.services.put(declared("echo"))
    world.serve(1, 2)
    before = world.settle().servers()
    service = world.services.get(ECHO)
    world.services.put(msgspec.structs.replace(service, unreadable="Expected `int`", resource_version="9"))
    world.kube._version = 9
    world.pods.drop(pod_key(1), listed=True)
    writes = len(world.kube.writes)
    world.settle()
    forge(world, row(9))
    world.settle()

    assert world.servers() == before
    assert world.services.get(ECHO).status.condition("Synced").reason == "Unreadable"
    assert ("replace", "echo") not in world.kube.writes[writes:]


# What people are shown of a refusal


def test_synced_says_that_an_object_stays_whose_delete_is_refused(world: World):
    world.serve(1)
    world.settle()
    world.kube.refuses = lambda verb, _: QUOTA if verb == "delete" else None
    world.pods.drop(pod_key(1))
    work_off(world)
    condition = world.services.get(ECHO).status.condition("Synced")
    assert (condition.status, condition.reason) == ("False", "Refused")
    assert condition.message == f"an RpcService that lists no pods stays: {QUOTA}"
    assert not world.servers()


def test_synced_says_refused_with_the_servers_words(world: World):
    world.serve(1, 2, 3)
    world.settle()
    world.kube.refuses = lambda verb, _: QUOTA if verb == "create" else None
    world.serve(4, 5)
    work_off(world)
    condition = world.services.get(ECHO).status.condition("Synced")
    assert (condition.status, condition.reason) == ("False", "Refused")
    assert condition.message == f"2 Ready pods have no room: {QUOTA}"

    world.kube.refuses = lambda *_: None
    world.clock.seconds += LONGEST_PAUSE
    world.keys.add(KEY)
    world.settle()
    assert world.services.get(ECHO).status.condition("Synced").reason == "InRegistry"


def test_the_head_counts_those_without_room(world: World):
    def counts() -> tuple[str, int, int]:
        status = world.services.get(ECHO).status
        return status.ready, status.ready_endpoints, status.total_endpoints

    world.serve(1, 2, 3)
    world.settle()
    world.kube.refuses = lambda verb, _: QUOTA if verb == "create" else None
    world.serve(4, 5)
    world.settle_except(Retry)
    assert counts() == ("3/5", 3, 5), "at once, as it was none before"

    world.serve(6)
    world.settle_except(Retry)
    assert counts() == ("3/5", 3, 5), "a number that moves waits"
    world.clock.seconds += COUNT_PERIOD
    world.keys.add(KEY)
    world.settle_except(Retry)
    assert counts() == ("3/6", 3, 6)

    world.kube.refuses = lambda *_: None
    world.clock.seconds += LONGEST_PAUSE
    world.keys.add(KEY)
    world.settle()
    assert counts() == ("3/3", 3, 3)


def test_that_count_makes_nobody_elses_rows_our_own(world: World):
    world.serve(1, 2, 3)
    before = world.settle().servers()
    world.kube.refuses = lambda verb, _: QUOTA if verb == "create" else None
    forge(world, row(1), row(2), row(3), row(9))
    work_off(world)
    world.serve(4)
    forge(world, row(1), row(2), row(3), row(9))
    work_off(world)

    assert registry(world) == before


def test_a_refused_write_is_not_tried_earlier_whatever_else_changes(world: World):
    world.serve(1, 2, 3)
    world.settle()
    tried = []

    def refuses(verb: str, name: str) -> Rejected | None:
        if verb == "create":
            tried.append(world.clock.seconds)
            return QUOTA
        return None

    world.kube.refuses = refuses
    began = world.clock.seconds
    for number in range(4, 40):
        world.pods.put(
            pod(4, "echo", started_at=str(number), declarations=(Declaration(service_name="echo"),))
        )
        world.settle_except(Retry)
        world.clock.seconds += 0.25

    assert [at - began for at in tried] == [0.0, 1.0, 3.0, 7.0]


def test_a_server_that_is_away_is_tried_often_enough_to_be_right_soon_after(world: World):
    world.serve(1)
    world.settle()
    tried = []

    def refuses(verb: str, name: str) -> Retry:
        tried.append(world.clock.seconds)
        return Unanswered("connection refused")

    world.kube.refuses = refuses
    world.serve(2)
    for _ in range(120):
        world.settle_except(Retry)
        world.clock.seconds += 1.0
        world.keys.add(KEY)

    pauses = [later - earlier for earlier, later in pairwise(sorted(set(tried)))]
    assert max(pauses) <= LONGEST_PAUSE_AWAY
    assert len(tried) < 50


# Synced is ZooKeeper's answer


def synced(world: World, name: str = "echo") -> tuple[str, str] | None:
    while world.conditions:
        world.synced.reconcile(world.conditions.pop())
    condition = world.services.get(ObjectKey("default", name)).status.condition("Synced")
    return (condition.status, condition.reason) if condition else None


def project(world: World) -> None:
    while world.keys:
        world.rpcservices.reconcile(world.keys.pop())


@pytest.mark.parametrize("away", [9, 11])
def test_it_turns_false_ten_seconds_after_a_first_attempt_failed_whenever_the_next_one_is(
    world: World, away: int
):
    world.serve(1)
    world.settle()
    world.clock.seconds += 300.0
    world.zookeeper.writes_left = 0
    world.serve(2)
    project(world)
    world.registry.reconcile(["echo"])
    world.clock.seconds += away
    world.registry.report_late()

    assert synced(world) == (("False", "RegistryUnavailable") if away > 10 else ("True", "InRegistry"))


def test_what_failed_before_a_change_of_its_own_does_not_count(world: World):
    """Somebody edits the znode, and it cannot be put back; minutes later a pod comes."""
    world.serve(1)
    world.settle()
    world.zookeeper.refused = {"/rpc_v2/echo"}
    world.zookeeper.znodes["/rpc_v2/echo"] = (b"{}", 7)
    world.registry.compare_next(1)
    world.registry.reconcile(["echo"])
    world.clock.seconds += 300.0
    world.serve(2)
    project(world)
    world.registry.reconcile(["echo"])
    assert synced(world) == ("True", "InRegistry")

    world.clock.seconds += 11.0
    world.registry.report_late()
    assert synced(world) == ("False", "RegistryUnavailable")


def test_a_service_that_was_never_written_is_never_true(world: World):
    world.zookeeper.refused = {"/rpc_v2/echo"}
    world.registry.compare()
    world.serve(1)
    project(world)
    for _ in range(3):
        world.registry.reconcile(["echo"])
        world.clock.seconds += 4.0
        world.registry.report_late()
        assert synced(world) in (None, ("False", "RegistryUnavailable"))
    assert synced(world) == ("False", "RegistryUnavailable")


def test_nothing_is_written_while_zookeeper_answers_again_and_the_queue_is_worked_off(world: World):
    world.serve(1)
    world.serve(2, service="other")
    world.settle()
    world.zookeeper.writes_left = 0
    world.serve(3)
    world.serve(4, service="other")
    project(world)
    world.registry.reconcile(["echo", "other"])
    world.clock.seconds += 8.0
    world.zookeeper.writes_left = None
    world.registry.reconcile(["other"])
    world.clock.seconds += 8.0
    world.registry.report_late()
    assert synced(world) == ("True", "InRegistry"), "it waits for its turn"

    world.registry.reconcile(["echo"])
    assert synced(world) == ("True", "InRegistry")


def test_a_service_with_nothing_to_publish_is_true_once_that_was_read(world: World):
    world.services.put(declared("echo"))
    world.settle()

    assert synced(world) == ("True", "InRegistry")
    assert not world.servers()
