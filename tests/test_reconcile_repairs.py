"""What others change of ours is put back and told: once, without a flood, and nothing else is told so."""

import msgspec
import pytest

from rpcregistry.errors import Retry
from rpcregistry.model import Declaration, Problem
from rpcregistry.plan.ledger import Ledger, ledger_path
from rpcregistry.reconcile.cache import REARM
from tests.builders import declared, pod
from tests.worlds.layouts import CURATOR, DUBBO, KUBE2ZK, everywhere, instances, providers, serve
from tests.worlds.registry import World

FIGHT = 100  # edits, one after the other
MANY = 16


@pytest.fixture
def world() -> World:
    """Two endpoints in three layouts; all that was written was read once more, as its watches bring about."""
    world = World()
    world.layouts = (KUBE2ZK, DUBBO, CURATOR)
    world.start()
    serve(world, 1, 2)
    world.settle()
    world.names.add("echo")
    return world.settle()


def change(world: World, path: str, data: bytes | None) -> float:
    """Somebody writes over a znode, or removes it; return how long what the watches tell has to wait."""
    _, version = world.zookeeper.znodes.pop(path)
    if data is not None:
        world.zookeeper.znodes[path] = (data, version + 1)
    pauses: dict[str, float] = {}
    for told in (path, path.rpartition("/")[0]):
        pauses |= world.registry.path_changed(told)
    world.clock.sleep(REARM)
    pauses |= world.registry.unwatched()
    world.names.update(pauses)
    return max(pauses.values())


def told(world: World, reason: str = "Repaired") -> list[tuple[str, Problem]]:
    return [(name, problem) for name, problem in world.events.told if problem.reason == reason]


@pytest.mark.parametrize(
    ("path", "data", "what"),
    [
        pytest.param(lambda _: "/rpc_v2/echo", None, "deleted", id="znode deleted"),
        pytest.param(
            lambda _: "/rpc_v2/echo", b'{"config":[],"servers":[]}', "edited", id="servers taken out"
        ),
        pytest.param(
            lambda world: f"/services/echo/{instances(world)[0]}", b"theirs", "edited", id="child edited"
        ),
        pytest.param(
            lambda world: f"/services/echo/{instances(world)[0]}", None, "deleted", id="child deleted"
        ),
        pytest.param(
            lambda world: f"/dubbo/echo/providers/{providers(world)[0]}",
            b"theirs",
            "edited",
            id="URL given data",
        ),
        pytest.param(
            lambda world: ledger_path(DUBBO, "echo", "c1"), None, "deleted", id="entry of the ledger deleted"
        ),
    ],
)
def test_what_others_change_is_put_back_with_an_event_that_names_it(world: World, path, data, what):
    changed = path(world)
    before = {path: znode[0] for path, znode in world.zookeeper.znodes.items()}
    change(world, changed, data)
    world.settle()

    after = {path: znode[0] for path, znode in world.zookeeper.znodes.items()}
    if what == "deleted" or changed != "/rpc_v2/echo":
        assert after == before
    assert everywhere(world, 2)
    ((name, problem),) = told(world)
    assert (name, f"{changed} ({what})" in problem.message) == ("echo", True)


def test_a_directory_that_is_removed_with_all_that_is_in_it_is_one_event(world: World):
    for path in [path for path in world.zookeeper.znodes if path.startswith("/dubbo/echo")]:
        change(world, path, None)
    world.settle()

    assert everywhere(world, 2)
    ((_, problem),) = told(world)
    assert "/dubbo/echo/providers (deleted)" in problem.message


def test_what_is_deleted_of_an_inner_interface_is_put_back_where_dubbos_consumers_look(world: World):
    name = "com.foo.Outer$Inner"
    world.pods.put(pod(1, declarations=(Declaration(service_name=name, port=80),)))
    world.settle()
    world.names.add(name)
    world.settle()
    (provider,) = world.zookeeper.children("/dubbo/com.foo.Outer%24Inner/providers")
    change(world, f"/dubbo/com.foo.Outer%24Inner/providers/{provider}", None)
    world.settle()

    assert world.zookeeper.children("/dubbo/com.foo.Outer%24Inner/providers") == [provider]
    assert not [path for path in world.zookeeper.znodes if path.startswith("/dubbo/com.foo.Outer$")]


def test_a_child_that_is_edited_before_it_was_ever_read_is_told_too(world: World):
    serve(world, 3)
    world.settle()
    (child,) = [name for name in instances(world) if name.startswith("p3")]
    change(world, f"/services/echo/{child}", b"theirs")
    world.settle()

    assert len(told(world)) == 1


@pytest.mark.parametrize("declares", [True, False], ids=["ours", "not ours"])
def test_an_edited_config_is_put_back_where_it_is_declared_and_kept_where_it_is_not(declares: bool):
    world = World()
    world.services.put(declared("echo", config=("keepalive 1",) if declares else None))
    world.serve(1)
    world.settle()
    change(world, "/rpc_v2/echo", b'{"config":["theirs"],"servers":["10.0.0.1"]}')
    world.settle()
    world.serve(2)
    world.settle()

    config = msgspec.json.decode(world.zookeeper.znodes["/rpc_v2/echo"][0])["config"]
    assert (config, len(told(world))) == ((["keepalive 1"], 1) if declares else (["theirs"], 0))


def test_what_a_write_of_ours_runs_into_is_told_though_no_watch_told_of_it(world: World):
    world.zookeeper.znodes["/rpc_v2/echo"] = (b'{"config":[],"servers":[]}', 9)
    serve(world, 3)
    world.settle()

    assert everywhere(world, 3)
    ((_, problem),) = told(world)
    assert "/rpc_v2/echo (edited)" in problem.message


def test_what_others_did_while_there_was_no_session_is_told(world: World):
    world.zookeeper.generation += 1
    (first, _) = instances(world)
    del world.zookeeper.znodes[f"/services/echo/{first}"]
    world.zookeeper.znodes["/rpc_v2/echo"] = (b'{"config":[],"servers":[]}', 9)
    world.compared = False
    world.settle()

    assert everywhere(world, 2)
    ((_, problem),) = told(world)
    assert f"/rpc_v2/echo (edited), /services/echo/{first} (deleted)" in problem.message


def restart(world: World) -> None:
    world.zookeeper.znodes["/rpc_v2/echo"] = (b'{"config":[],"servers":[]}', 9)
    world.start()


def reconnect(world: World) -> None:
    world.zookeeper.generation += 1
    world.compared = False


def lose_an_answer(world: World) -> None:
    serve(world, 3)
    world.rpcservices.reconcile(world.keys.pop())
    world.zookeeper.lose_answer = True
    names, world.names = sorted(world.names), set()
    failures, _ = world.registry.reconcile(names)
    assert isinstance(failures["echo"], Retry)
    world.names.update(world.registry.path_changed("/rpc_v2/echo"))
    serve(world, 4)


def leave(world: World) -> None:
    """An RPC server that had registered itself where we publish now ends."""
    world.zookeeper.znodes["/rpc_v2/other"] = (b'{"servers":["10.6.0.1"]}', 0)
    world.zookeeper.ephemeral.add("/rpc_v2/other")
    world.pods.put(pod(7, "other"))
    world.settle()
    del world.zookeeper.znodes["/rpc_v2/other"]
    world.zookeeper.ephemeral.clear()
    world.names.update(world.registry.path_changed("/rpc_v2/other"))
    world.settle()
    assert world.servers("other")


def withdraw_elsewhere(world: World) -> None:
    """Another cluster that had the name gives it up."""
    entry, znode = ledger_path(KUBE2ZK, "other", "c1"), "/rpc_v2/other"
    world.zookeeper.znodes |= {
        znode: (b'{"servers":["10.6.0.1"]}', 0),
        entry: (Ledger("c2", ("default",)).encode(), 0),
    }
    world.pods.put(pod(7, "other"))
    world.settle()
    for path in (znode, entry):
        del world.zookeeper.znodes[path]
        world.names.update(world.registry.path_changed(path))
    world.settle()
    assert world.servers("other")


def add_foreign(world: World) -> None:
    world.zookeeper.znodes["/services/echo/theirs"] = (b"theirs", 0)
    world.names.update(world.registry.path_changed("/services/echo"))


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(restart, id="a restart"),
        pytest.param(reconnect, id="a session that was lost"),
        pytest.param(lose_an_answer, id="an answer of ours that was lost"),
        pytest.param(add_foreign, id="a foreign child"),
        pytest.param(leave, id="a server's own znode that ends"),
        pytest.param(withdraw_elsewhere, id="another cluster's znode that ends"),
        pytest.param(lambda world: serve(world, 1, ips=("10.0.0.9",)), id="a pod's change"),
    ],
)
def test_what_nobody_else_did_is_not_told_as_if_they_had(world: World, happens):
    happens(world)
    world.settle()
    world.names.add("echo")
    world.settle()

    assert told(world) == []


def test_what_a_lost_answer_leaves_is_unknown_and_not_missing(world: World):
    assert world.registry.found("echo") == 2
    lose_an_answer(world)
    assert world.registry.found("echo") is None
    assert [view for _, view in world.registry.views("echo")] == [None, None, None]
    world.settle()
    assert world.registry.found("echo") == 4


def test_a_wiped_zookeeper_is_told_once_about_the_lease():
    world = World()
    for number in range(1, MANY):
        world.serve(number, service=f"s{number}")
    world.settle()
    world.zookeeper.znodes.clear()
    reconnect(world)
    world.settle()

    assert len(world.zookeeper.children("/rpc_v2")) == MANY - 1
    assert (told(world), [name for name, _ in told(world, "RegistryWiped")]) == ([], ["rpcregistry"])


def test_of_many_services_that_are_changed_at_once_ten_are_told_and_the_rest_as_one():
    world = World()
    for number in range(1, MANY):
        world.serve(number, service=f"s{number}")
    world.settle()
    for number in range(1, MANY):
        change(world, f"/rpc_v2/s{number}", None)
    world.settle()

    assert len(world.zookeeper.children("/rpc_v2")) == MANY - 1
    names = [name for name, _ in told(world)]
    assert (len([name for name in names if name != "rpcregistry"]), len(set(names))) == (10, 11)


def test_somebody_who_changes_it_again_and_again_is_not_answered_ever_faster(world: World):
    path = f"/services/echo/{instances(world)[0]}"
    began = world.clock.seconds
    for _ in range(FIGHT):
        world.clock.seconds += change(world, path, b"theirs")
        world.settle()

    assert everywhere(world, 2)
    assert world.clock.seconds - began > FIGHT * 3
    assert len({problem for _, problem in told(world)}) == 1

    world.clock.seconds += 120
    assert change(world, path, b"theirs") == 0.0
