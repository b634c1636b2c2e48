"""The API server killed, its watches broken and expired: a registry loses nothing and tells nothing twice."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hack.local.cluster import LocalCluster
from hack.local.http_proxy import HttpProxy, error_event, is_list, is_of, is_watch
from rpcregistry.sdk import Registry, Service
from tests.cluster.waiting import eventually
from tests.cluster.world import World

LONG = 120.0  # seconds, at most


@pytest.fixture(autouse=True)
def account(cluster: LocalCluster, namespace: str) -> None:
    """No pod can be made without one; after an outage, it takes its time."""
    eventually(lambda: cluster.kubectl("get", "serviceaccounts", "-n", namespace, "-o", "name"), LONG)


@pytest.fixture
def follow(world: World) -> Iterator[Callable[[Path], list[tuple[str, str]]]]:
    """Follows the service echo: a growing list of what is told, kind and pod name."""
    opened = []

    def follow(kubeconfig: Path) -> list[tuple[str, str]]:
        told: list[tuple[str, str]] = []
        registry = Registry.from_kubeconfig(kubeconfig, namespace=world.namespace, pod_name="none")
        registry.subscribe("echo", lambda update: told.append((update.kind, update.instance.pod_name)))
        opened.append(registry)
        registry.start()
        return told

    yield follow
    for registry in opened:
        registry.close()


def test_the_api_server_is_started_again(cluster: LocalCluster, world: World, follow):
    world.create_pod("a", "echo", ip="10.0.0.1")
    world.create_pod("b", "echo", ip="10.0.0.2")
    told = follow(cluster.kubeconfig)
    eventually(lambda: len(told) == 2)

    world.delete_pod("a")
    cluster.process("kube-apiserver").kill()
    cluster.process("kube-apiserver").start()
    cluster.process("kube-apiserver").wait_until_ready()
    world.create_pod("c", "echo", ip="10.0.0.3")
    eventually(lambda: ("added", "c") in told, LONG)
    assert sorted(told[:2]) == [("added", "a"), ("added", "b")]
    assert told[2:] == [("removed", "a"), ("added", "c")]


def test_a_watch_expires_meanwhile(
    cluster: LocalCluster, world: World, follow, api: HttpProxy, through_api: Path
):
    """What was deleted, added, and made again under its name while nobody watched is told once each."""
    for number, name in enumerate(("stays", "goes", "again")):
        world.create_pod(name, "echo", ip=f"10.0.0.{number + 1}")
    told = follow(through_api)
    eventually(lambda: len(told) == 3)
    eventually(lambda: any(is_watch(path) and is_of(path, "pods") for _, path in api.requests))
    lists, asked = count_lists(api), len(api.requests)

    api.instead = lambda _, path: (503, b"") if is_of(path, "pods") else None

    def refused() -> bool:
        api.cut_watches()  # those that are being set up, too, sooner or later
        return any(is_of(path, "pods") for _, path in api.requests[asked:])

    eventually(refused, LONG)
    world.delete_pod("goes")
    world.delete_pod("again")
    world.create_pod("again", "echo", ip="10.0.0.4")
    world.create_pod("comes", "echo", ip="10.0.0.5")
    expired = [error_event(410, "Expired")]
    api.instead = lambda _, path: (
        expired.pop() if expired and is_watch(path) and is_of(path, "pods") else None
    )
    eventually(lambda: ("added", "comes") in told, LONG)
    assert not expired
    assert count_lists(api) == lists + 1

    # What comes later shows that everything before it was told.
    world.delete_pod("stays")
    eventually(lambda: ("removed", "stays") in told, LONG)
    assert sorted(told) == [
        ("added", "again"),
        ("added", "again"),
        ("added", "comes"),
        ("added", "goes"),
        ("added", "stays"),
        ("removed", "again"),
        ("removed", "goes"),
        ("removed", "stays"),
    ]


def count_lists(api: HttpProxy) -> int:
    return sum(is_list(method, path, "pods") for method, path in api.requests)


@pytest.mark.full
def test_registering_outlasts_an_api_server_that_is_away(cluster: LocalCluster, world: World):
    world.create_pod("a", ip="10.0.0.1")
    registry = Registry.from_kubeconfig(cluster.kubeconfig, namespace=world.namespace, pod_name="a")
    cluster.process("kube-apiserver").kill()
    cluster.process("kube-apiserver").start()
    with registry:
        registry.register(Service(name="echo"), timeout=LONG)
        eventually(lambda: [found.pod_name for found in registry.instances("echo")] == ["a"], LONG)
