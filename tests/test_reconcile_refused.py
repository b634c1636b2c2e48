"""Both controllers on a world in memory whose API server refuses some writes, for a while."""

import pytest
from structlog.testing import capture_logs

from rpcregistry.errors import Conflict, Ending, Failure, Fenced, Partial, Rejected, Retry
from rpcregistry.layouts import Layout
from rpcregistry.model import Declaration, ObjectKey, ServiceKey
from rpcregistry.reconcile.refusals import MOST_REPORTED
from rpcregistry.reconcile.troubles import FIRST_PAUSE, LOG_PERIOD, LONGEST_PAUSE, REPORTED_AFTER
from rpcregistry.runtime.worker import work
from rpcregistry.runtime.workqueue import Workqueue
from tests.builders import declared, pod, pod_key
from tests.worlds.registry import World

QUOTA = Rejected('create RpcService default/echo-1: 403 Forbidden: "echo-1" is forbidden: exceeded quota: q')
ECHO = ServiceKey("default", "echo")


@pytest.fixture
def world() -> World:
    """Three pods fit into an RpcService, and every service has a znode and a directory."""
    world = World()
    world.endpoints_per_object = 3
    world.layouts = (Layout("kube2zk", "/rpc_v2"), Layout("dubbo", "/dubbo"))
    world.start()
    return world


def serve(world: World, *numbers: int) -> None:
    for number in numbers:
        world.pods.put(pod(number, "echo", declarations=(Declaration(service_name="echo", port=80),)))


def refuse(world: World, verb: str, failure: Failure, name: str | None = None) -> None:
    world.kube.refuses = lambda asked, of: failure if asked == verb and of == (name or of) else None


def accept(world: World) -> None:
    """Refuse nothing any more; what was refused is due again."""
    world.kube.refuses = lambda *_: None
    world.clock.seconds += LONGEST_PAUSE
    world.keys.add(ECHO)


def published(world: World) -> set[str]:
    """The numbers of the published pods, the same in each layout."""
    servers = {address.rpartition(".")[2] for address in world.servers() or ()}
    directory = world.zookeeper.children("/dubbo/echo/providers")
    providers = {name.partition("%3A80")[0].rpartition(".")[2] for name in directory}
    assert servers == providers
    return servers


REFUSALS = [
    pytest.param(QUOTA, id="a quota"),
    pytest.param(Rejected("422 Invalid"), id="invalid"),
    pytest.param(Retry("500"), id="a webhook that is down"),
    pytest.param(Retry("429", after=30.0), id="too many requests"),
]


@pytest.mark.parametrize("failure", REFUSALS)
def test_the_dead_leave_while_a_part_cannot_be_made(world: World, failure: Failure):
    serve(world, 1, 2, 3)
    world.settle()
    refuse(world, "create", failure)
    serve(world, 4, 5)
    world.work_off()
    assert published(world) == {"1", "2", "3"}
    for number in (1, 2):
        world.pods.drop(pod_key(number))
    world.work_off()
    assert published(world) == {"3", "4", "5"}, "there is room now"

    serve(world, 6, 7)
    world.pods.drop(pod_key(5))
    world.work_off()
    accept(world)
    world.work_off()
    assert published(world) == {"3", "4", "6", "7"}


@pytest.mark.parametrize("refused", ["the API server", "ZooKeeper"])
def test_a_refusal_that_lasts_is_logged_once_a_minute(world: World, refused: str):
    if refused == "ZooKeeper":
        world.zookeeper.refused.add("/rpc_v2/echo")
    else:
        refuse(world, "create", QUOTA)
    serve(world, 1)
    with capture_logs() as logs:
        for _ in range(3 * int(LOG_PERIOD)):
            world.keys.add(ECHO)
            world.names.add("echo")
            world.work_off()
            world.clock.seconds += 1
    assert [line["log_level"] for line in logs if line["event"] == "refused"] == ["warning"] * 3


def test_a_refusal_of_another_kind_is_logged_at_once(world: World):
    serve(world, 1)
    with capture_logs() as logs:
        for failure in (Retry("500"), QUOTA, QUOTA):
            refuse(world, "create", failure)
            world.work_off()
            world.clock.seconds += LONGEST_PAUSE / 2
            world.keys.add(ECHO)
    reasons = [line["reason"] for line in logs if line["event"] == "refused"]
    assert reasons == ["500", str(QUOTA)]


@pytest.mark.parametrize("failure", REFUSALS)
def test_the_dead_leave_one_object_while_another_ones_status_cannot_be_written(
    world: World, failure: Failure
):
    serve(world, 1, 2, 3, 4, 5)
    world.settle()
    refuse(world, "replace", failure, "echo")
    serve(world, 6)
    for number in (1, 4):
        world.pods.drop(pod_key(number))
    world.work_off()

    assert published(world) >= {"2", "3", "5"}
    assert "4" not in published(world)


@pytest.mark.parametrize("failure", REFUSALS)
def test_the_dead_leave_though_the_process_was_restarted_while_a_write_is_refused(
    world: World, failure: Failure
):
    serve(world, 1, 2, 3)
    world.settle()
    refuse(world, "create", failure)
    serve(world, 4, 5, 6)
    world.work_off()
    world.start()
    world.work_off()
    world.pods.drop(pod_key(1))
    world.pods.drop(pod_key(2))
    world.work_off()

    assert published(world) == {"3", "4", "5"}, "and no room for the sixth"


def test_what_is_published_and_can_be_listed_no_more_stays_as_long_as_its_pod_shows_it(world: World):
    """A part was deleted while no controller ran, and it cannot be made again."""
    serve(world, 1, 2, 3, 4, 5)
    world.settle()
    (part,) = (service for service in world.services.values() if service.is_part)
    assert [row.pod_name for row in part.status.endpoints] == ["p4", "p5"]
    del world.services._items[part.key]
    refuse(world, "create", QUOTA)
    world.start()
    serve(world, 6)
    world.work_off()
    assert published(world) == {"1", "2", "3", "4", "5"}, "what is new waits for its object"

    world.pods.drop(pod_key(4))
    world.work_off()
    assert published(world) == {"1", "2", "3", "5"}
    world.pods.drop(pod_key(1))
    world.work_off()
    assert published(world) == {"2", "3", "5"}, "its place is another one's that was lost"

    accept(world)
    world.work_off()
    assert published(world) == {"2", "3", "5", "6"}
    assert world.initial_sync.unlisted("echo").endpoints == ()


@pytest.mark.parametrize("failure", REFUSALS)
def test_an_object_that_was_made_and_has_no_status_yet_keeps_no_dead_published(
    world: World, failure: Failure
):
    serve(world, 1, 2, 3)
    world.settle()
    world.kube.refuses = lambda verb, name: failure if verb == "replace" and name != "echo" else None
    serve(world, 4, 5, 6)
    world.keys.add(ECHO)
    world.work_off()
    world.pods.drop(pod_key(1))
    world.pods.drop(pod_key(2))
    world.work_off()

    assert any(service.is_part and not service.known for service in world.services.values())
    assert published(world) == {"3", "4", "5"}, "and no room for the sixth"


def test_a_pod_that_a_declared_rpcservice_takes_over_stays_published_while_that_cannot_be_written(
    world: World,
):
    serve(world, 1, 2)
    world.settle()
    refuse(world, "replace", QUOTA, "mine")
    world.services.put(declared("mine"))
    world.pods.drop(pod_key(2))
    world.work_off()
    assert published(world) == {"1"}
    assert {service.name for service in world.services.values()} == {"echo", "mine"}

    accept(world)
    world.work_off()
    assert published(world) == {"1"}
    assert {service.name for service in world.services.values()} == {"mine"}


def told(world: World) -> list[tuple[str, str]]:
    return [
        (name, problem.message)
        for name, problem in world.events.told
        if problem.reason == "RpcServiceRefused"
    ]


def test_a_refusal_is_told_on_the_newest_pods_with_the_servers_words(world: World):
    refuse(world, "create", QUOTA)
    for number in range(1, 16):
        world.pods.put(pod(number, "echo", started_at=f"2026-11-21T02:02:{number:02}Z"))
    with pytest.raises(Partial):
        world.settle()

    assert told(world) == [(f"p{number}", str(QUOTA)) for number in range(15, 15 - MOST_REPORTED, -1)]


@pytest.mark.parametrize("name", ["echo", "mine"])
def test_a_status_that_is_refused_is_told_on_the_pods(world: World, name: str):
    if name == "mine":
        world.services.put(declared("mine"))
    refuse(world, "replace", QUOTA, name)
    serve(world, 1)
    with pytest.raises(Partial):
        world.settle()

    assert told(world) == [("p1", str(QUOTA))]


@pytest.mark.parametrize(
    ("failure", "seconds", "count"),
    [
        pytest.param(QUOTA, 0.0, 1, id="the server's word counts at once"),
        pytest.param(Retry("no answer"), REPORTED_AFTER - 1, 0, id="what may pass by itself"),
        pytest.param(Retry("no answer"), REPORTED_AFTER, 2, id="and does not"),
        pytest.param(Ending("namespace is ending"), REPORTED_AFTER, 0, id="nobody needs it any more"),
    ],
)
def test_what_is_told_when(world: World, failure: Failure, seconds: float, count: int):
    refuse(world, "create", failure)
    serve(world, 1)
    with pytest.raises(Partial):
        world.settle()
    world.clock.seconds += seconds
    serve(world, 2)
    with pytest.raises(Partial):
        world.settle()

    assert len({name for name, _ in told(world)}) == count or (failure is QUOTA and told(world))
    accept(world)
    world.settle()
    assert world.rpcservices._troubles.get(ECHO) is None


@pytest.mark.parametrize(
    ("verb", "failure", "raised"),
    [
        pytest.param("create", Retry("429", after=30.0), Partial, id="a create"),
        pytest.param("replace", Retry("429", after=30.0), Partial, id="a status"),
        pytest.param("create", Rejected("403"), Partial, id="rejected"),
        pytest.param("create", Conflict("409"), Conflict, id="overtaken: read and plan again"),
        pytest.param("replace", Fenced("the Lease is lost"), Fenced, id="stop"),
    ],
)
def test_what_is_raised_once_all_was_tried(world: World, verb: str, failure: Failure, raised: type):
    serve(world, 1, 2, 3)
    world.settle()
    refuse(world, verb, failure)
    world.pods.drop(pod_key(1))
    serve(world, 4, 5)
    with pytest.raises(raised) as caught:
        world.rpcservices.reconcile(ECHO)

    assert type(caught.value) is raised
    if isinstance(caught.value, Partial):
        assert caught.value.after == (getattr(failure, "after", None) or FIRST_PAUSE)
        assert caught.value.rejected == isinstance(failure, Rejected)


def test_after_a_conflict_nothing_more_is_written(world: World):
    serve(world, 1, 2, 3, 4)
    world.settle()
    refuse(world, "replace", Conflict("409"), "echo")
    for number in (1, 2, 3, 4):
        world.pods.drop(pod_key(number))
    writes = len(world.kube.writes)
    with pytest.raises(Conflict):
        world.rpcservices.reconcile(ECHO)

    assert all(name != "echo" for _, name in world.kube.writes[writes:])
    assert world.services.get(ObjectKey("default", "echo"))


class Meter:
    def reconciled(self, controller: str, result: str, seconds: float) -> None:
        """Count nothing."""


@pytest.mark.parametrize(
    ("failure", "early"),
    [
        pytest.param(Partial("429", after=60.0), True, id="some of its writes were refused"),
        pytest.param(Retry("429", after=60.0), False, id="all of them"),
        pytest.param(QUOTA, True, id="rejected"),
    ],
)
def test_a_change_of_a_key_whose_write_was_refused_is_worked_at_once(failure: Failure, early: bool):
    queue: Workqueue[str] = Workqueue(0.0, lambda _: ["default"], jitter=lambda seconds: 60.0)
    over: list[bool] = []

    def reconcile(_: str) -> bool:
        over.append(True)
        raise failure

    queue.add("a")
    work("rpcservice", queue, reconcile, Meter(), lambda: bool(over))
    assert queue.get(1, timeout=0.0) == []
    queue.add("a")
    assert queue.get(1, timeout=0.05) == (["a"] if early else [])


@pytest.mark.parametrize(
    ("seconds", "attempts"),
    [pytest.param(10.0, 1, id="no answer"), pytest.param(0.01, 4, id="answered at once")],
)
def test_a_write_that_takes_long_to_be_refused_is_tried_once(world: World, seconds: float, attempts: int):
    serve(world, 1, 2, 3)
    world.settle()
    tried: list[str] = []

    def refuses(verb: str, name: str) -> Failure | None:
        if verb != "create":
            return None
        tried.append(name)
        world.clock.sleep(seconds)
        return Retry("timed out")

    world.kube.refuses = refuses
    serve(world, *range(4, 16))
    with pytest.raises(Retry):
        world.rpcservices.reconcile(ECHO)

    assert len(tried) == attempts


def test_what_a_slow_refusal_kept_back_is_written_before_the_slow_one_is_tried_again(world: World):
    serve(world, 1, 2)
    world.settle()

    def refuses(verb: str, _: str) -> Failure | None:
        if verb != "create":
            return None
        world.clock.sleep(10.0)
        return Retry("timed out")

    world.kube.refuses = refuses
    serve(world, 3, 4, 5)  # one of them has room where the others are
    with pytest.raises(Partial) as kept_back:
        world.rpcservices.reconcile(ECHO)
    assert kept_back.value.after == 0.0
    with pytest.raises(Partial) as caught:
        world.rpcservices.reconcile(ECHO)

    (found,) = world.services.values()
    assert len(found.status.endpoints) == 3
    assert caught.value.after > 0


def refusals(world: World) -> set[str]:
    """The pods that were told that their RpcService is refused by the bound."""
    return {
        name
        for name, problem in world.events.told
        if problem.reason == "RpcServiceRefused" and "--services-per-namespace" in problem.message
    }


def test_no_more_rpcservices_are_made_in_a_namespace_than_it_may_have(world: World):
    world.services_per_namespace = 2
    world.start()
    world.services.put(declared("declared"))
    world.serve(1, service="a")
    world.work_off()
    world.serve(2, service="b")
    world.pods.put(pod(3, "b", namespace="another"))
    world.work_off()

    assert {str(service.key) for service in world.services.values()} == {
        "default/declared",
        "default/a",
        "another/b",
    }
    assert refusals(world) == {"p2"}
    assert world.servers("b") == ["10.0.0.3"]


def test_room_that_becomes_free_is_used(world: World):
    world.services_per_namespace = 1
    world.start()
    world.serve(1, service="a")
    world.work_off()
    world.serve(2, service="b")
    world.work_off()
    assert refusals(world) == {"p2"}
    world.pods.drop(pod_key(1))
    world.work_off()
    world.clock.seconds += LONGEST_PAUSE
    world.keys.add(ServiceKey("default", "b"))
    world.work_off()

    assert (world.servers("a"), world.servers("b")) == (None, ["10.0.0.2"])


def test_a_bound_below_what_exists_deletes_and_empties_nothing(world: World):
    for number, service in enumerate("abc", 1):
        world.serve(number, service=service)
    world.work_off()
    world.services_per_namespace = 1
    world.start()
    world.serve(4, service="a")
    world.work_off()

    assert len(list(world.services.values())) == 3
    assert world.servers("a") == ["10.0.0.1", "10.0.0.4"]
    assert (world.servers("b"), world.servers("c")) == (["10.0.0.2"], ["10.0.0.3"])
    assert refusals(world) == set()


def test_a_part_of_a_large_service_is_an_object_too(world: World):
    world.services_per_namespace = 1
    world.start()
    serve(world, 1, 2, 3, 4)
    world.work_off()

    assert published(world) == {"1", "2", "3"}
    assert "p4" in refusals(world)
