"""What edits of a LocalService change in its Services, and how they recover from missed changes."""

from functools import partial
from typing import Any

import pytest

from hack.local.cluster import LocalCluster, free_ports
from tests.cluster.waiting import eventually
from tests.cluster.world import World, reconciled

LONG = 90.0  # seconds, at most: what was refused is tried again with back-off


def identity(world: World, name: str = "app") -> dict[str, tuple[str, str, list[Any]]]:
    """By node: the fields that would differ if a Service were created anew."""
    return {
        node: (
            service["metadata"]["uid"],
            service["spec"]["clusterIP"],
            [port.get("nodePort") for port in service["spec"]["ports"]],
        )
        for node, service in world.node_services(name).items()
    }


def all_have(world: World, **spec: Any) -> bool:
    """Whether every Service has these fields."""
    services = world.node_services().values()
    return all(service["spec"].get(key) == value for service in services for key, value in spec.items())


def ports(world: World) -> list[list[int]]:
    """The ports of each Service."""
    return [[port["port"] for port in service["spec"]["ports"]] for service in world.node_services().values()]


@pytest.fixture
def resyncing(start_local) -> int:
    """The port of the metrics of a controller that looks at everything each second."""
    (port,) = free_ports(1)
    start_local("--resync-period", "1s", "--bind-address", f"127.0.0.1:{port}")
    return port


def look_again(port: int, keys: int) -> None:
    """Wait until so many keys were reconciled a few times more."""
    start = reconciled(port)
    eventually(lambda: reconciled(port) >= start + 4 * keys)


@pytest.mark.full
def test_an_edit_of_a_port_changes_nothing_else(world: World, start_local):
    world.create_node("port-a")
    world.create_node("port-b")
    start_local()
    world.create_localservice(type="NodePort", ports=[{"name": "http", "port": 80}])
    eventually(lambda: world.serves("port-a", "port-b"))
    before = identity(world)

    world.edit_localservice(ports=[{"name": "http", "port": 80, "targetPort": "web"}])
    eventually(
        lambda: all(s["spec"]["ports"][0]["targetPort"] == "web" for s in world.node_services().values())
    )
    assert identity(world) == before
    world.edit_localservice(ports=[{"name": "http", "port": 80}, {"name": "more", "port": 81}])
    eventually(lambda: ports(world) == [[80, 81]] * 2)
    world.edit_localservice(ports=[{"name": "http", "port": 80}])
    eventually(lambda: ports(world) == [[80]] * 2)
    assert identity(world) == before


@pytest.mark.full
def test_other_edits_leave_node_ports_and_addresses_alone(world: World, start_local):
    world.create_node("edit-a")
    start_local()
    world.create_localservice(type="NodePort")
    eventually(lambda: world.serves("edit-a"))
    before = identity(world)

    world.edit_localservice(
        selector={"app": None, "kind": "x"},
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
        externalTrafficPolicy="Local",
        internalTrafficPolicy="Local",
        publishNotReadyAddresses=True,
    )
    eventually(
        lambda: all_have(
            world,
            selector={"kind": "x", "rpcregistry.dev/node": "edit-a"},
            sessionAffinity="ClientIP",
            sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
            externalTrafficPolicy="Local",
            internalTrafficPolicy="Local",
            publishNotReadyAddresses=True,
        )
    )
    world.edit_localservice(
        sessionAffinity=None,
        sessionAffinityConfig=None,
        externalTrafficPolicy=None,
        internalTrafficPolicy=None,
        publishNotReadyAddresses=None,
    )
    eventually(
        lambda: all_have(
            world,
            sessionAffinity="None",
            sessionAffinityConfig=None,
            externalTrafficPolicy="Cluster",
            internalTrafficPolicy="Cluster",
            publishNotReadyAddresses=None,
        )
    )
    assert identity(world) == before
    eventually(world.is_fine)


@pytest.mark.full
def test_the_type_changes_in_place(world: World, start_local):
    world.create_node("type-a")
    start_local()
    world.create_localservice()
    eventually(lambda: world.serves("type-a"))
    before = identity(world)

    world.edit_localservice(type="NodePort")
    eventually(lambda: all_have(world, type="NodePort"))
    assert all(ports[0] >= 30000 for _, _, ports in identity(world).values())
    world.edit_localservice(type="ClusterIP")
    eventually(lambda: all_have(world, type="ClusterIP"))
    assert identity(world) == before
    eventually(world.is_fine)


@pytest.mark.full
def test_to_headless_and_back_makes_each_service_anew_once(world: World, resyncing: int):
    nodes = ["head-a", "head-b"]
    for node in nodes:
        world.create_node(node)
    world.create_localservice()
    world.create_localservice("beside")
    eventually(lambda: world.serves(*nodes) and world.serves(*nodes, name="beside"))
    beside = identity(world, "beside")

    for change, is_headless in ({"clusterIP": "None"}, True), ({"clusterIP": None}, False):
        since = world.now()
        world.edit_localservice(**change)
        eventually(partial(are_headless, world, is_headless))
        look_again(resyncing, keys=4)
        made = [(event, f"app-{node}") for event in ("ADDED", "DELETED") for node in nodes]
        assert sorted(world.happened(since)) == made
        eventually(world.is_fine)
    assert identity(world, "beside") == beside


def are_headless(world: World, wanted: bool) -> bool:
    """Whether both Services are headless, or neither is."""
    return [ip == "None" for _, ip, _ in identity(world).values()] == [wanted] * 2


@pytest.mark.full
def test_ip_families_that_the_cluster_lacks_are_reported_once_and_cost_no_service(
    world: World, resyncing: int
):
    world.create_node("family-a")
    world.create_localservice()
    eventually(lambda: world.serves("family-a"))
    before, since = identity(world), world.now()

    world.edit_localservice(ipFamilies=["IPv6"])
    reason, message = eventually(world.failing) or ("", "")
    assert "family-a" in message
    look_again(resyncing, keys=2)
    assert identity(world) == before
    assert world.happened(since) == []
    assert world.warnings() == [reason]

    world.edit_localservice(ipFamilies=["IPv4"])
    eventually(world.is_fine)
    assert identity(world) == before


@pytest.mark.full
def test_ip_families_that_are_the_clusters_own_change_nothing(world: World, resyncing: int):
    world.create_node("own-a")
    world.create_localservice()
    eventually(lambda: world.serves("own-a"))
    before, since = world.services(), world.now()

    world.edit_localservice(ipFamilies=["IPv4"], ipFamilyPolicy="PreferDualStack")
    eventually(lambda: all_have(world, ipFamilyPolicy="PreferDualStack"))
    world.edit_localservice(ipFamilyPolicy="SingleStack")
    eventually(lambda: all_have(world, ipFamilyPolicy="SingleStack"))
    look_again(resyncing, keys=1)
    assert world.happened(since) == [("MODIFIED", "app-own-a")] * 2
    assert world.services()["app-own-a"]["spec"] == before["app-own-a"]["spec"]


@pytest.mark.full
def test_what_happened_while_the_controller_was_down_is_made_up_for(world: World, start_local):
    for node in ("down-a", "down-b", "down-c", "down-d", "down-e"):
        world.create_node(node)
    controller = start_local("--guard-confirm", "1h")
    world.create_localservice(ports=[{"port": 1}])
    world.create_localservice("lost")
    world.run_pod("a", "down-a")
    eventually(lambda: world.serves("down-a", "down-b", "down-c", "down-d", "down-e"))
    eventually(lambda: world.label("a", "rpcregistry.dev/node"))
    before = identity(world)
    assert controller.stop() == 0

    world.delete_node("down-b")
    world.create_node("down-f")
    world.edit_localservice(ports=[{"port": 2}])
    world.delete_localservice("lost")
    world.delete_service("app-down-c")
    world.kubectl("label", "pod", "a", "-n", world.namespace, "rpcregistry.dev/node-")
    controller.start()

    eventually(lambda: world.serves("down-a", "down-c", "down-d", "down-e", "down-f"))
    eventually(lambda: ports(world) == [[2]] * 5)
    eventually(lambda: world.label("a", "rpcregistry.dev/node") == "down-a")
    eventually(lambda: len(world.services()) == 5)
    after = identity(world)
    assert {node: after[node] for node in ("down-a", "down-d", "down-e")} == {
        node: before[node] for node in ("down-a", "down-d", "down-e")
    }
    eventually(world.is_fine)


@pytest.mark.full
def test_a_localservice_deleted_while_nobody_looked_and_nobody_collects_garbage(
    cluster: LocalCluster, world: World, start_local
):
    world.create_node("garbage-a")
    controller = start_local("--guard-confirm", "1s")
    world.create_localservice()
    world.create_localservice("stays")
    eventually(lambda: world.serves("garbage-a") and world.serves("garbage-a", name="stays"))
    foreign = world.create_service("foreign", metadata={"labels": {"owner": "app"}})
    assert controller.stop() == 0
    collector = cluster.process("kube-controller-manager")
    collector.pause()
    try:
        world.delete_localservice()
        controller.start()
        eventually(lambda: "app-garbage-a" not in world.services(), LONG)
    finally:
        collector.resume()
    assert world.serves("garbage-a", name="stays")
    assert world.services()["foreign"] == foreign


@pytest.mark.full
def test_a_localservice_that_is_deleted_and_made_anew_gets_all_its_services(world: World, start_local):
    world.create_node("anew-a")
    world.create_node("anew-b")
    start_local()
    world.create_localservice()
    eventually(lambda: world.serves("anew-a", "anew-b"))

    world.delete_localservice()
    world.create_localservice(ports=[{"port": 9}])
    eventually(lambda: world.serves("anew-a", "anew-b") and ports(world) == [[9]] * 2, LONG)
    eventually(world.is_fine)


@pytest.mark.full
def test_a_node_selector_that_changes_moves_the_services(world: World, start_local):
    world.create_node("move-x", zone="x")
    world.create_node("move-y", zone="y")
    world.create_node("move-z", zone="x", disk="ssd")
    start_local("--guard-confirm", "1h")
    world.create_localservice(nodeSelector={"world": world.namespace, "zone": "x"})
    eventually(lambda: world.serves("move-x", "move-z"))
    before = identity(world)["move-z"]

    world.edit_localservice(nodeSelector={"disk": "ssd"})
    eventually(lambda: world.serves("move-z"))
    world.edit_localservice(nodeSelector={"zone": None})
    eventually(lambda: world.serves("move-z"))
    world.edit_localservice(nodeSelector={"disk": None})
    eventually(lambda: world.serves("move-x", "move-y", "move-z"))
    assert identity(world)["move-z"] == before
