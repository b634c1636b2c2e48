"""Pods and their RpcServices go at once, while RpcServices can be made again or cannot."""

import itertools
from collections.abc import Callable

import pytest

from rpcregistry.errors import Rejected
from rpcregistry.layouts import Layout
from rpcregistry.model import Declaration, LabelSelector, ObjectKey
from rpcregistry.reconcile.reads import Unread
from tests.builders import declared, pod, pod_key
from tests.worlds.registry import CONFIRM, World

QUOTA = Rejected("403 Forbidden: exceeded quota: q")
PODS = (1, 2, 3, 4)  # the first two are listed by the head, the others by its part


@pytest.fixture
def world() -> World:
    """Two pods fit into an RpcService, and every service has a znode and a directory."""
    return made()


def made() -> World:
    world = World()
    world.endpoints_per_object = 2
    world.layouts = (Layout("kube2zk", "/rpc_v2"), Layout("dubbo", "/dubbo"))
    world.start()
    return world


def serve(world: World, *numbers: int, service: str = "echo", **fields: object) -> None:
    for number in numbers:
        declarations = (Declaration(service_name=service, port=80),)
        world.pods.put(pod(number, **{"declarations": declarations, **fields}))


def published(world: World) -> set[int]:
    """The numbers of the published pods, the same in each layout."""
    servers = {int(address.rpartition(".")[2]) for address in world.servers() or ()}
    directory = world.zookeeper.children("/dubbo/echo/providers")
    assert servers == {int(name.partition("%3A80")[0].rpartition(".")[2]) for name in directory}
    return servers


def refuse_creates(world: World) -> None:
    world.kube.refuses = lambda verb, _: QUOTA if verb == "create" else None


def delete(world: World, *objects: int) -> None:
    """Somebody deletes the head (0) or its part (1)."""
    keys = sorted(service.key for service in world.services.values() if service.service_name == "echo")
    for number in objects:
        world.services.drop(keys[number])


GOES: dict[str, Callable[[World, int], None]] = {
    "deleted": lambda world, number: world.pods.drop(pod_key(number)),
    "terminating": lambda world, number: serve(world, number, terminating=True),
    "not Ready": lambda world, number: serve(world, number, ready=False),
    "of another service": lambda world, number: serve(world, number, service="other"),
}


@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])
@pytest.mark.parametrize("refused", [False, True], ids=["", "refused"])
@pytest.mark.parametrize("how", GOES)
def test_who_is_seen_to_go_with_the_object_that_lists_them_is_withdrawn_and_nobody_else(
    how: str, refused: bool, restarted: bool
):
    """More than few at once, too: a hold would be for what nobody saw."""
    for dead, objects, order in itertools.product(
        [(1,), (1, 3), (1, 2, 3)],
        [(0,), (1,), (0, 1)],
        ["pods first", "objects first", "a look in between"],
    ):
        case = f"{dead} and {objects}, {order}"
        world = made()
        serve(world, *PODS)
        world.settle()
        if refused:
            refuse_creates(world)
        if order != "pods first":
            delete(world, *objects)
        if order == "a look in between":
            world.work_off()
        for number in dead:
            GOES[how](world, number)
        if order == "pods first":
            delete(world, *objects)
        world.work_off()
        assert published(world) == {*PODS}.difference(dead), case
        if restarted:
            world.start()
            world.work_off()
            assert published(world) == {*PODS}.difference(dead), case


def test_the_dead_leave_though_this_process_began_without_the_head_and_cannot_make_it(world: World):
    """The head has no room for all, and its parts need it first: still nothing is unknown."""
    serve(world, *PODS)
    world.settle()
    delete(world, 0)
    refuse_creates(world)
    world.start()
    world.work_off()
    assert published(world) == {*PODS}, "whoever lives stays, without an object of theirs, too"
    for number in (1, 3):
        world.pods.drop(pod_key(number))
        world.work_off()
    assert published(world) == {2, 4}

    world.kube.refuses = lambda *_: None
    world.clock.seconds += 60
    world.keys |= world.rpcservices.every_key()
    world.work_off()
    assert published(world) == {2, 4}
    assert [service.is_part for service in world.services.values()] == [False]


def test_who_goes_before_the_first_look_at_its_service_is_withdrawn(world: World):
    """This process listed the pod, and saw it go: what is left over of it was not left by nobody."""
    serve(world, *PODS)
    world.settle()
    delete(world, 0)
    refuse_creates(world)
    world.start()
    world.pods.drop(pod_key(1))
    world.work_off()
    assert published(world) == {2, 3, 4}


def test_who_is_missing_from_the_list_is_held_when_its_rpcservice_is_gone_too(world: World):
    serve(world, *PODS)
    world.settle()
    delete(world, 0)
    refuse_creates(world)
    world.pods.drop(pod_key(1), listed=True)
    world.pods.drop(pod_key(2), listed=True)
    world.start()
    world.work_off()
    assert published(world) == {*PODS}, "nobody saw them go"
    world.clock.seconds += CONFIRM
    world.work_off()
    assert published(world) == {3, 4}


def test_who_was_selected_by_an_rpcservice_that_is_gone_is_held(world: World):
    """Its pods show nothing; that others' creates are refused says nothing of them, either."""
    world.services.put(declared("mine", selector=LabelSelector(match_labels={"app": "x"}), port=80))
    world.pods.put(pod(1, labels={"app": "x"}, declarations=()))
    world.pods.put(pod(2, labels={"app": "x"}, declarations=()))
    world.settle()
    assert published(world) == {1, 2}
    refuse_creates(world)
    serve(world, 3)
    world.services.drop(ObjectKey("default", "mine"))
    world.work_off()
    assert published(world) == {1, 2}


def test_who_may_register_stays_as_it_is_while_nobody_can_say_and_the_object_is_gone(world: World):
    serve(world, *PODS)
    world.settle()
    world.reviews_unread = Unread("subjectaccessreviews: 500", 1.0, rejected=False, is_news=False)
    delete(world, 0, 1)
    with pytest.raises(Unread):
        world.settle()
    world.work_off()
    assert published(world) == {*PODS}
