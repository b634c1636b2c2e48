"""What others do to our znodes, and what ZooKeeper loses, is put back: in every layout."""

import json
import struct
from collections.abc import Callable

import pytest
from kazoo.client import KazooClient

from hack.local.cluster import LocalCluster
from hack.local.proxy import Proxy
from tests.cluster.layouts import ALL, children, contents, delete_all, directory, flags, holds, serve
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.stand import Stand

IPS = ("172.16.0.1", "172.16.0.2")
ONLY_WATCHES = ("--compare-period", "1h")  # no comparison finds what the watches should


def one_of(world: World, layout: str) -> str:
    """A znode that holds an endpoint."""
    path = directory(world, layout)
    return path if layout == "kube2zk" else f"{path}/{min(children(world, layout))}"


def edit(world: World, layout: str) -> None:
    path = one_of(world, layout)
    theirs = json.loads(world.zk.get(path)[0]) | {"servers": ["6.6.6.6"]} if layout == "kube2zk" else {}
    world.zk.set(path, json.dumps(theirs).encode())


def delete(world: World, layout: str) -> None:
    world.zk.delete(one_of(world, layout))


def delete_directory(world: World, layout: str) -> None:
    delete_all(world, directory(world, layout))


def delete_base(world: World, layout: str) -> None:
    delete_all(world, f"{world.base}/{layout}")


def published(world: World) -> dict[str, bytes]:
    """Two pods in every layout, and all znodes of it."""
    for number, ip in enumerate(IPS):
        serve(world, f"p{number}", ip)
    eventually(lambda: holds(world, *IPS))
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    return contents(world)


def told(world: World, what: str) -> set[str]:
    """The layouts whose znodes Events say were put back."""
    messages = [e.message for e in world.events("Repaired", "echo") if what in e.message]
    return {layout for layout in ALL for message in messages if f"{world.base}/{layout}/" in message}


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        pytest.param(delete, "(deleted)", id="a znode deleted"),
        pytest.param(edit, "(edited)", id="a znode edited", marks=pytest.mark.full),
        pytest.param(delete_directory, "(deleted)", id="a directory deleted", marks=pytest.mark.full),
        pytest.param(delete_base, "(deleted)", id="the base path deleted", marks=pytest.mark.full),
    ],
)
def test_z6_the_watch_puts_back_what_others_did_in_any_layout_and_an_event_tells(
    world: World, start_controller: Callable[..., Replica], spoil, what: str
):
    start_controller(*flags(world, *ALL), *ONLY_WATCHES)
    right = published(world)

    for layout in ALL:
        spoil(world, layout)
        eventually(lambda: contents(world) == right)
    # The eleventh repair of one service waits a second, and its Event may go under.
    eventually(lambda: len(told(world, what)) >= min(len(ALL), 10))


@pytest.mark.full
def test_z6_what_no_watch_told_is_put_back_by_the_comparison_at_reconnecting(
    cluster: LocalCluster, world: World, start_controller: Callable[..., Replica], zk_proxy: Proxy
):
    controller = start_controller(*flags(world, *ALL), *ONLY_WATCHES, zk=zk_proxy.address)
    right = published(world)

    zk_proxy.close()
    eventually(lambda: any(line["event"] == "zookeeper disconnected" for line in controller.logged()))
    for layout in ALL:
        delete(world, layout)
    zk_proxy.pass_through()
    eventually(lambda: contents(world) == right)
    (event,) = eventually(lambda: world.events("Repaired", "echo"))
    assert "more" in event.message


@pytest.mark.full
def test_z6_the_comparison_puts_back_what_was_changed_while_the_controller_was_down(
    world: World, start_controller: Callable[..., Replica]
):
    """Nobody can tell then whether the pods did not change meanwhile, so it is no repair."""
    controller = start_controller(*flags(world, *ALL))
    right = published(world)
    controller.stop()
    for layout in ALL:
        delete(world, layout)

    controller.start()
    eventually(lambda: contents(world) == right)
    assert world.events("Repaired") == []


@pytest.mark.full
def test_z3_a_wiped_zookeeper_is_filled_again_in_every_layout_and_told_once(
    cluster: LocalCluster,
    world: World,
    start_controller: Callable[..., Replica],
    connect: Callable[[], KazooClient],
):
    start_controller(*flags(world, *ALL), *ONLY_WATCHES)
    right = published(world)

    cluster.process("zookeeper").kill()
    eventually(lambda: world.events("RegistryDisconnected", "rpcregistry"))
    cluster.wipe_zookeeper()
    cluster.process("zookeeper").start()
    cluster.process("zookeeper").wait_until_ready()
    world.zk = connect()
    eventually(lambda: contents(world) == right, timeout=120)
    serve(world, "later", "172.16.0.3")
    eventually(lambda: holds(world, *IPS, "172.16.0.3"))
    (wiped,) = eventually(lambda: world.events("RegistryWiped"))
    assert (wiped.involved_object.kind, world.events("Repaired")) == ("Lease", [])


@pytest.mark.full
def test_z5_what_is_deleted_as_the_session_is_ended_by_another_client_is_put_back(
    cluster: LocalCluster,
    stand: Stand,
    world: World,
    start_controller: Callable[..., Replica],
    zk_proxy: Proxy,
):
    start_controller(*flags(world, *ALL), *ONLY_WATCHES, zk=zk_proxy.address)
    right = published(world)

    session, password = struct.unpack_from(">q4x16s", stand.zk_answers[0], 12)
    zk_proxy.close()
    thief = KazooClient(cluster.zk_servers, client_id=(session, password))
    thief.start()
    thief.stop()
    thief.close()
    for layout in ALL:
        delete_directory(world, layout)
    zk_proxy.pass_through()
    eventually(lambda: contents(world) == right, timeout=60)


@pytest.mark.full
def test_one_who_writes_over_it_again_and_again_loses_and_does_not_keep_us_busy(
    world: World, start_controller: Callable[..., Replica]
):
    """Both write as soon as they see what the other wrote: hundreds of times a minute, if nobody waits."""
    start_controller(*flags(world, *ALL), *ONLY_WATCHES)
    right = published(world)
    path = one_of(world, "serverset")
    edits: list[int] = []

    @world.zk.DataWatch(path)
    def again(data: bytes | None, stat: object) -> bool:
        if len(edits) < 13 and data != b"theirs":
            edits.append(len(edits))
            world.zk.set_async(path, b"theirs")
        return len(edits) < 13

    eventually(lambda: len(edits) == 13, timeout=60)
    serve(world, "other", "172.16.0.9")  # it waits for nobody
    eventually(lambda: "172.16.0.9" in str(children(world, "curator")))
    eventually(lambda: contents(world).items() >= {path: right[path]}.items(), timeout=90)
    (event,) = eventually(lambda: world.events("Repaired", "echo"))
    assert f"{path} (edited)" in event.message
