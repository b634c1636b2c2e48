"""The registry controller with templates whose services share directories, on a world in memory."""

import pytest

from rpcregistry.errors import Retry
from rpcregistry.layouts import Layout
from rpcregistry.layouts.template import layout as from_template
from rpcregistry.plan.ops import Create
from rpcregistry.reconcile.cache import REARM
from tests.builders import pod, pod_key
from tests.worlds.registry import CONFIRM, World

STATIC = {"/d2": {"clusters/${service}": "static"}}
DIRECTORIES = {"/motan": "${group:-main}/${service}/server", "/flat": "", "/d2": "uris/${service}"}
LAYOUTS = tuple(
    Layout(
        base.strip("/"),
        base,
        from_template(
            {
                "name": "x-${id}",
                "data": "${service} ${ip}",
                "directory": directory,
                "static": STATIC.get(base, {}),
            }
        ),
    )
    for base, directory in DIRECTORIES.items()
)


@pytest.fixture
def world() -> World:
    world = World()
    world.layouts = LAYOUTS
    for base in DIRECTORIES:  # made before anything is read
        world.zookeeper.znodes[base] = (b"", 0)
    world.start()
    return world


def published(world: World) -> dict[str, set[str]]:
    """What the endpoints say, by base path."""
    return {
        layout.base: {
            data.decode()
            for path, (data, _) in world.zookeeper.znodes.items()
            if any(layout.is_child(name, path) for name in ("echo", "other"))
        }
        for layout in LAYOUTS
    }


def everywhere(world: World, *says: str) -> bool:
    return all(found == set(says) for found in published(world).values())


def statics(world: World) -> dict[str, bytes]:
    found = world.zookeeper.znodes
    return {name: found[f"/d2/clusters/{name}"][0] for name in world.zookeeper.children("/d2/clusters")}


def paths(world: World, says: str) -> list[str]:
    return [path for path, (data, _) in world.zookeeper.znodes.items() if data.decode() == says]


def told(world: World, *changed: str) -> None:
    """ZooKeeper tells of changes of *changed*, and of the directories that they are in."""
    for path in changed:
        for each in (path, path.rpartition("/")[0]):
            world.names.update(world.registry.path_changed(each))
    world.clock.sleep(REARM)
    world.names.update(world.registry.unwatched())


def test_services_that_come_at_once_share_the_directories_that_they_need(world: World):
    world.serve(1)
    world.serve(2, service="other")
    world.settle()

    assert everywhere(world, "echo 10.0.0.1", "other 10.0.0.2")
    made = [op.path for ops in world.zookeeper.commits for op in ops if isinstance(op, Create)]
    assert len(made) == len(set(made))
    assert {"/motan/main", "/d2/uris"} <= set(made)
    both = {"/d2/uris/echo", "/d2/uris/other"}
    assert any(both <= {op.path for op in ops} for ops in world.zookeeper.commits), "in one transaction"


def test_a_second_process_writes_nothing(world: World):
    world.serve(1)
    world.serve(2, service="other")
    world.settle()
    commits = len(world.zookeeper.commits)
    world.start()
    world.settle()

    assert not [op for ops in world.zookeeper.commits[commits:] for op in ops]


def test_one_service_goes_and_the_other_stays(world: World):
    world.serve(1)
    world.serve(2, service="other")
    world.settle()
    world.pods.drop(pod_key(1))
    world.settle()

    assert everywhere(world, "other 10.0.0.2")


@pytest.mark.parametrize("at_once", [True, False], ids=["all", "one"])
def test_what_others_delete_is_put_back(world: World, at_once: bool):
    world.serve(1)
    world.serve(2, service="other")
    world.settle()
    world.names |= {"echo", "other"}  # a read sets the watches
    world.settle()
    gone = paths(world, "echo 10.0.0.1") + (paths(world, "other 10.0.0.2") if at_once else [])
    for path in gone:
        del world.zookeeper.znodes[path]
    told(world, *gone)
    world.settle()

    assert everywhere(world, "echo 10.0.0.1", "other 10.0.0.2")


def test_a_static_znode_that_others_delete_is_made_again_and_one_that_they_change_stays(world: World):
    world.serve(1)
    world.serve(2, service="other")
    world.settle()
    told(world)  # what was written is read, and watched from then on
    world.settle()
    del world.zookeeper.znodes["/d2/clusters/echo"]
    world.zookeeper.znodes["/d2/clusters/other"] = (b"theirs", 1)
    told(world, "/d2/clusters/echo", "/d2/clusters/other")
    world.settle()

    assert statics(world) == {"echo": b"static", "other": b"theirs"}


def test_a_directory_of_several_services_that_others_delete_is_made_again(world: World):
    world.serve(1)
    world.serve(2, service="other")
    world.settle()
    world.names |= {"echo", "other"}
    world.settle()
    gone = [path for path in world.zookeeper.znodes if path.startswith(("/motan/main", "/d2/uris"))]
    for path in gone:
        del world.zookeeper.znodes[path]
    told(world, *gone)
    world.settle()

    assert everywhere(world, "echo 10.0.0.1", "other 10.0.0.2")


def test_a_directory_that_another_program_made_meanwhile_is_used(world: World):
    world.settle()
    world.zookeeper.znodes["/motan/main"] = (b"", 0)
    world.zookeeper.znodes["/d2/uris"] = (b"", 0)
    world.serve(1)
    for _ in range(3):
        world.settle_except(Retry)
        world.names.add("echo")
    world.settle()

    assert everywhere(world, "echo 10.0.0.1")


def test_a_service_of_another_name_that_the_flat_directory_holds_is_not_read_as_ours(world: World):
    world.serve(1)
    world.settle()
    (ours,) = [path for path in paths(world, "echo 10.0.0.1") if path.startswith("/flat")]
    theirs = ours.replace(ours.split("-")[2], "0" * 16)
    world.zookeeper.znodes[theirs] = (b"theirs", 0)
    world.pods.drop(pod_key(1))
    told(world, theirs)
    world.settle()

    assert (ours in world.zookeeper.znodes, theirs in world.zookeeper.znodes) == (False, True)


@pytest.mark.parametrize("number", range(12))
def test_a_crash_before_any_write_leaves_no_orphan(world: World, number: int):
    world.zookeeper.writes_left = number
    steps = [
        lambda: world.serve(1),
        lambda: world.serve(2, service="other"),
        lambda: world.pods.drop(pod_key(1)),
        lambda: world.serve(3),
        lambda: world.pods.put(pod(2, "other", ips=("10.0.0.99",))),
    ]
    for step in steps:
        step()
        try:
            world.settle()
        except Retry:
            world.start()
    world.zookeeper.writes_left = None
    world.start()
    world.settle()
    world.clock.seconds += CONFIRM + 1
    world.settle()

    assert everywhere(world, "echo 10.0.0.3", "other 10.0.0.99")
    assert statics(world) == {"echo": b"static", "other": b"static"}
