"""A process whose Lease cannot be renewed, while nobody else has it: it withdraws, and does nothing else."""

import json

import pytest

from rpcregistry.errors import Unanswered
from rpcregistry.layouts import Layout
from rpcregistry.model import Declaration
from rpcregistry.plan.ops import Create
from rpcregistry.reconcile.fence import ConfinedPoster, FencedKube
from rpcregistry.reconcile.slow import SlowNamespaces
from rpcregistry.reconcile.troubles import LONGEST_PAUSE
from tests.builders import pod, pod_key
from tests.test_reconcile_refused import published
from tests.worlds import KubeInMemory
from tests.worlds.registry import CONFIRM, World

WHY = Unanswered("the Lease cannot be renewed")


@pytest.fixture
def world() -> World:
    world = World()
    world.layouts = (Layout("kube2zk", "/rpc_v2"), Layout("dubbo", "/dubbo"))
    world.start()
    serve(world, 1, 2, 3)
    world.settle()
    confine(world)
    return world


def serve(world: World, *numbers: int, service: str = "echo", **fields: object) -> None:
    for number in numbers:
        entry = (Declaration(service_name=service, port=80),)
        world.pods.put(pod(number, service, declarations=entry, **fields))


def confine(world: World) -> None:
    world.confined = True
    world.kube.refuses = lambda *_: WHY


def free(world: World) -> None:
    world.confined = False
    world.kube.refuses = lambda *_: None
    world.clock.seconds += LONGEST_PAUSE
    world._remembered()
    world.work_off()


def test_who_goes_is_withdrawn_and_nobody_is_added(world: World):
    written = len(world.kube.writes)
    world.pods.drop(pod_key(1))
    serve(world, 2, ready=False)
    serve(world, 4)
    serve(world, 5, service="other")
    world.work_off()
    assert published(world) == {"3"}
    assert world.servers("other") is None
    assert len(world.kube.writes) == written
    free(world)
    assert published(world) == {"3", "4"}
    assert world.servers("other") == ["10.0.0.5"]


def test_who_was_listed_before_and_not_written_yet_is_not_added(world: World):
    free(world)
    serve(world, 4)
    while world.keys:
        world.rpcservices.reconcile(world.keys.pop())
    confine(world)
    world.work_off()
    assert published(world) == {"1", "2", "3"}
    free(world)
    assert published(world) == {"1", "2", "3", "4"}


def test_the_last_address_of_a_service_stays(world: World):
    for number in (1, 2, 3):
        world.pods.drop(pod_key(number))
        world.work_off()
    assert published(world) == {"3"}
    free(world)
    assert world.servers() is None


def test_the_last_addresses_stay_if_they_go_at_once(world: World):
    for number in (1, 2, 3):
        world.pods.drop(pod_key(number))
    world.work_off()
    assert published(world) == {"1", "2", "3"}


def test_who_is_merely_missing_from_a_list_stays(world: World):
    world.pods.drop(pod_key(1), listed=True)
    world.work_off()
    world.clock.seconds += 2 * CONFIRM
    world.work_off()
    assert published(world) == {"1", "2", "3"}
    free(world)
    assert published(world) == {"2", "3"}


def test_an_rpcservice_that_is_deleted_takes_nobody_with_it(world: World):
    world.services.drop(world.services.values()[0].key)
    world.work_off()
    assert published(world) == {"1", "2", "3"}


def test_the_config_of_a_znode_is_not_changed_for_those_who_stay(world: World):
    before = json.loads(world.zookeeper.znodes["/rpc_v2/echo"][0])["config"]
    world.pods.drop(pod_key(1))
    world.work_off()
    assert json.loads(world.zookeeper.znodes["/rpc_v2/echo"][0])["config"] == before


def test_no_znode_is_made_while_one_is_withdrawn(world: World):
    made = []
    commit = world.zookeeper.commit

    def watched(ops):
        made.extend(op.path for op in ops if isinstance(op, Create))
        return commit(ops)

    world.zookeeper.commit = watched
    world.pods.drop(pod_key(1))
    serve(world, 7)
    world.work_off()
    assert made == []


class Answers:
    """An API server that takes what is posted."""

    def __init__(self) -> None:
        self.posted: list[object] = []

    def raw(self, method, path, body, *, patience=None):
        self.posted.append(body)


def test_events_wait():
    server, confined = Answers(), ["the Lease cannot be renewed"]
    poster = ConfinedPoster(server, lambda: confined[0])
    with pytest.raises(Unanswered, match="cannot be renewed"):
        poster.raw("POST", "/apis/x", {"a": 1})
    confined[0] = ""
    poster.raw("POST", "/apis/x", {"a": 2})
    assert server.posted == [{"a": 2}]


def test_a_write_that_is_not_made_counts_as_one_without_an_answer():
    kube = KubeInMemory()
    fenced = FencedKube(
        kube, lambda: False, lambda: "the Lease cannot be renewed", SlowNamespaces(lambda: 0.0)
    )
    with pytest.raises(Unanswered):
        fenced.patch(None, pod_key(1), {})
    assert kube.writes == []
