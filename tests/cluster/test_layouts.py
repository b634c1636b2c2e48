"""Several layouts at once on a real ZooKeeper: whose znodes they are, and what becomes of them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.protocol.states import WatchedEvent

from rpcregistry.layouts.urls import encode
from tests.cluster.layouts import (
    ALL,
    EXAMPLES,
    PORT,
    children,
    command,
    contents,
    directory,
    drift,
    flags,
    holds,
    serve,
    shows,
    text,
)
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World


def test_every_layout_holds_the_endpoints_and_a_restart_writes_nothing(
    cluster: Any, world: World, start_controller: Callable[..., Controller]
):
    controller = start_controller(*flags(world, *ALL))
    serve(world, "a", "172.16.0.1", version="1.0.0", metadata={"zone": "a"})
    serve(world, "b", "172.16.0.2")
    eventually(lambda: all(shows(world, layout, "172.16.0.1", "172.16.0.2") for layout in ALL[1:]))
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    assert world.zk.get(f"{world.base}/kube2zk/echo")[0].endswith(b'["172.16.0.1","172.16.0.2"]}')
    assert drift(cluster, world, *ALL) == set()
    assert any(f"{encode('://172.16.0.1:20880')}" in name for name in children(world, "dubbo"))

    before = [world.zk.get_children(directory(world, layout), include_data=True) for layout in ALL[1:]]
    assert controller.stop() == 0
    controller.start()
    serve(world, "c", "172.16.0.3")
    eventually(lambda: shows(world, "curator", "172.16.0.1", "172.16.0.2", "172.16.0.3"))
    for layout, (names, stat) in zip(ALL[1:], before, strict=True):
        assert set(names) < set(world.zk.get_children(directory(world, layout)))
        assert world.zk.exists(directory(world, layout)).czxid == stat.czxid
        assert all(world.zk.exists(f"{directory(world, layout)}/{name}").version == 0 for name in names)


def test_what_others_change_is_put_back_and_what_is_theirs_is_left(
    world: World, start_controller: Callable[..., Controller]
):
    start_controller(*flags(world, "curator", "dubbo"))
    serve(world, "a", "172.16.0.1")
    eventually(lambda: all(shows(world, layout, "172.16.0.1") for layout in ("curator", "dubbo")))
    before = children(world, "curator")
    (name,) = before
    providers = directory(world, "dubbo")
    theirs = f"{providers}/{encode('dubbo://172.16.0.9:20880/echo')}"
    world.zk.create(theirs, b"theirs", ephemeral=True)
    world.zk.create(f"{directory(world, 'curator')}/theirs", b"theirs")

    world.zk.set(f"{directory(world, 'curator')}/{name}", b"nonsense")
    eventually(lambda: children(world, "curator") == {**before, "theirs": b"theirs"})
    world.zk.delete(f"{directory(world, 'curator')}/{name}")
    eventually(lambda: children(world, "curator") == {**before, "theirs": b"theirs"})
    world.delete_pod("a")
    eventually(lambda: world.zk.get_children(providers) == [theirs.rpartition("/")[2]])
    eventually(lambda: children(world, "curator") == {"theirs": b"theirs"})
    assert world.zk.get(theirs)[0] == b"theirs"


@pytest.mark.full
@pytest.mark.parametrize("removed", ["", "/dubbo/echo/providers"], ids=["all of it", "a directory"])
def test_parents_that_vanish_are_made_again(
    world: World, start_controller: Callable[..., Controller], removed: str
):
    start_controller(*flags(world, "dubbo", "serverset"))
    serve(world, "a", "172.16.0.1")
    eventually(lambda: shows(world, "serverset", "172.16.0.1"))
    eventually(lambda: shows(world, "dubbo", "172.16.0.1"))

    world.zk.delete(f"{world.base}{removed}", recursive=True)
    eventually(lambda: shows(world, "dubbo", "172.16.0.1"))
    eventually(lambda: shows(world, "serverset", "172.16.0.1"))


def of_either(world: World, layout: str, ip: str) -> set[str]:
    """The znodes of an address in a layout, by name: one of each cluster that publishes it."""
    return {name for name, data in children(world, layout).items() if ip in f"{name} {text(data)}"}


@pytest.mark.full
def test_two_clusters_publish_side_by_side_through_restarts_of_either(
    world: World, start_controller: Callable[..., Controller]
):
    """The second one mirrors the same RpcServices, so it publishes the same pods, as its own."""
    one, two = "172.16.0.1", "172.16.0.2"
    layouts = flags(world, *ALL)
    serve(world, "a", one)
    first = start_controller(*layouts)
    eventually(lambda: holds(world, one))
    ours = {layout: of_either(world, layout, one) for layout in ALL[1:]}
    before = contents(world)
    second = start_controller(
        *layouts, "--controllers", "registry", "--cluster-id", f"other-{world.namespace}"
    )
    eventually(lambda: holds(world, one, one, layouts=ALL[1:]))
    eventually(lambda: any("belongs to cluster test-" in e.message for e in world.events("OwnedElsewhere")))
    theirs = {layout: of_either(world, layout, one) - ours[layout] for layout in ALL[1:]}
    assert contents(world).items() >= before.items()

    first.stop()
    both = contents(world)
    serve(world, "b", two)
    world.apply_rpcservice("declared", selector={"matchLabels": {"app": "x"}}, port=PORT)
    second.stop()
    second.start()
    eventually(lambda: second.text().count('"leading"') == 2)
    world.custom.patch_namespaced_custom_object(
        "rpcregistry.dev",
        "v1alpha1",
        world.namespace,
        "rpcservices",
        "echo",
        {"spec": {"protectThreshold": 1}},
    )
    assert contents(world).items() >= both.items()

    first.start()
    eventually(lambda: all(len(of_either(world, layout, two)) == 2 for layout in ALL[1:]))
    assert contents(world).items() >= {k: v for k, v in both.items() if "/kube2zk/" not in k}.items()
    second.stop()
    world.delete_pod("a")
    eventually(lambda: all(of_either(world, layout, one) == theirs[layout] for layout in ALL[1:]))
    second.start()
    eventually(lambda: all(of_either(world, layout, one) == set() for layout in ALL[1:]))
    assert all(len(of_either(world, layout, two)) == 2 for layout in ALL[1:])


def test_a_client_never_sees_fewer_endpoints_than_there_are_while_all_are_replaced(
    world: World, start_controller: Callable[..., Controller], zk: KazooClient
):
    start_controller(*flags(world, "serverset"))
    for number in range(1, 4):
        serve(world, f"old-{number}", f"172.16.0.{number}")
    eventually(lambda: len(children(world, "serverset")) == 3)
    sizes: list[int] = []

    def watch(_: WatchedEvent | None = None) -> None:
        sizes.append(len(zk.get_children(directory(world, "serverset"), watch=watch)))

    watch()
    for number in range(1, 4):
        serve(world, f"new-{number}", f"172.16.1.{number}")
        world.delete_pod(f"old-{number}")
    eventually(lambda: shows(world, "serverset", *(f"172.16.1.{number}" for number in range(1, 4))))
    for number in range(1, 4):  # what is declared changes, and so does the name
        world.annotate(f"new-{number}", json.dumps([{"serviceName": "echo", "port": PORT, "weight": number}]))
    eventually(lambda: all(b'"weight"' in data for data in children(world, "serverset").values()))

    assert min(sizes) == 3


@pytest.mark.full
def test_a_layout_lost_at_a_restart_withdraws_nothing_and_is_reported(
    cluster: Any, world: World, start_controller: Callable[..., Controller]
):
    serve(world, "a", "172.16.0.1")
    controller = start_controller(*flags(world, "kube2zk", "dubbo"))
    eventually(lambda: shows(world, "dubbo", "172.16.0.1"))
    controller.stop()
    world.delete_pod("a")
    serve(world, "b", "172.16.0.2")
    start_controller(*flags(world, "kube2zk"))
    eventually(lambda: b"172.16.0.2" in world.zk.get(f"{world.base}/kube2zk/echo")[0])

    assert shows(world, "dubbo", "172.16.0.1")
    assert ("dubbo", "left") in drift(cluster, world, "kube2zk")


@pytest.mark.full
def test_a_rebuilt_cluster_takes_over_from_the_one_that_was(
    world: World, start_controller: Callable[..., Controller]
):
    layouts = flags(world, *ALL)
    serve(world, "a", "172.16.0.1")
    old = start_controller(*layouts, "--cluster-id", f"old-{world.namespace}")
    eventually(lambda: holds(world, "172.16.0.1"))
    old.stop()
    world.delete_pod("a")
    serve(world, "b", "172.16.0.2")
    start_controller(*layouts, "--from-cluster", f"old-{world.namespace}")

    eventually(lambda: holds(world, "172.16.0.2"))


def test_purge_withdraws_all_that_is_ours_once_nobody_leads(
    cluster: Any, world: World, start_controller: Callable[..., Controller]
):
    templates = ("d2", "kratos", "motan", "nerve", "vertx")
    layouts = flags(world, "kube2zk", "dubbo", *templates)
    serve(world, "a", "172.16.0.1")
    controller = start_controller(*layouts, leader_elect=True)
    eventually(lambda: all(shows(world, layout, "172.16.0.1") for layout in ("dubbo", *templates)))
    world.zk.create(f"{world.base}/kube2zk/theirs", b"theirs")
    known = [f"--template={name}={EXAMPLES}/{name}.yaml" for name in templates]
    purge = ["purge", "--lease-namespace", world.namespace, *known]
    refused = command(cluster, world, *purge, "--yes")
    assert (refused.returncode, "holds the Lease" in refused.stderr) == (1, True)

    controller.stop()
    shown = command(cluster, world, *purge)
    assert shown.returncode == 0
    where, *lines = shown.stdout.splitlines()
    assert f"ZooKeeper {cluster.zk_servers}: 7 services (d2 1, dubbo 1, kratos 1," in where
    assert [line.split()[0] for line in lines] == [*sorted(("kube2zk", "dubbo", *templates)), "7"]
    assert shows(world, "dubbo", "172.16.0.1")

    done = command(cluster, world, *purge, "--yes")
    assert done.returncode == 0, done.stderr
    assert [children(world, layout) for layout in ("dubbo", *templates)] == [{}] * 6
    assert world.zk.get_children(f"{world.base}/kube2zk") == ["theirs"]
    assert "0 services" in command(cluster, world, *purge).stdout
