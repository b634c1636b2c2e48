"""One service name in several namespaces, in several parts, and with what its oldest declaration says."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cluster.layouts import ALL, children, flags, holds, serve
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World

ONE, TWO, THREE = "172.16.0.1", "172.16.0.2", "172.16.0.3"


def apply_in(world: World, namespace: str, name: str, **spec: Any) -> None:
    """Declare an RpcService in another namespace."""
    manifest = {
        "apiVersion": "rpcregistry.dev/v1alpha1",
        "kind": "RpcService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    world.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(manifest))


def condition(world: World, namespace: str) -> tuple[str, str] | None:
    """Status and reason of the Synced condition of ``echo`` in a namespace."""
    conditions = world.rpcservices(namespace).get("echo", {}).get("status", {}).get("conditions", [])
    return next(((c["status"], c["reason"]) for c in conditions if c["type"] == "Synced"), None)


def test_union_publishes_all_namespaces_and_one_that_goes_takes_its_own_only(
    world: World, start_controller: Callable[..., Controller], other_namespace: str
):
    start_controller(*flags(world, *ALL))
    serve(world, "a", ONE)
    world.create_pod("b", {"serviceName": "echo", "port": 20880}, ip=TWO, namespace=other_namespace)
    eventually(lambda: holds(world, ONE, TWO))

    world.delete_pod("b", other_namespace)
    eventually(lambda: holds(world, ONE))
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))


@pytest.mark.full
def test_deny_gives_the_name_to_one_namespace_and_tells_the_other(
    world: World, start_controller: Callable[..., Controller], other_namespace: str
):
    controller = start_controller(*flags(world, *ALL), "--cross-namespace", "deny")
    serve(world, "a", ONE)
    eventually(lambda: holds(world, ONE))
    born = datetime.fromisoformat(world.rpcservices()["echo"]["metadata"]["creationTimestamp"])
    eventually(lambda: datetime.now(UTC) - born > timedelta(seconds=1))  # creationTimestamp has seconds only
    world.create_pod("b", {"serviceName": "echo", "port": 20880}, ip=TWO, namespace=other_namespace)
    eventually(lambda: condition(world, other_namespace) == ("False", "OwnedElsewhere"))
    assert holds(world, ONE)
    controller.stop()
    controller.start()
    eventually(lambda: holds(world, ONE))

    apply_in(world, other_namespace, "echo", serviceName="echo")  # declared before generated
    eventually(lambda: holds(world, TWO))
    eventually(lambda: condition(world, world.namespace) == ("False", "OwnedElsewhere"))
    eventually(lambda: condition(world, other_namespace) == ("True", "InRegistry"))


@pytest.mark.full
def test_the_parts_of_a_large_service_are_one_to_clients(
    world: World, start_controller: Callable[..., Controller]
):
    """A threshold of the head counts the pods of all parts."""
    start_controller(*flags(world, *ALL), "--endpoints-per-object", "2")
    world.apply_rpcservice("echo", protectThreshold=50, config=["keepalive 1"])
    ips = [f"172.16.0.{number}" for number in range(1, 7)]
    for number, ip in enumerate(ips):
        serve(world, f"p{number}", ip)
    eventually(lambda: len(world.rpcservices()) == 3)
    eventually(lambda: holds(world, *ips))
    assert json.loads(world.zk.get(f"{world.base}/kube2zk/echo")[0])["config"] == ["keepalive 1"]

    for number in (0, 1, 2):
        world.set_status(f"p{number}", ips[number], ready=False)
    eventually(lambda: holds(world, *ips[3:]))
    world.set_status("p3", ips[3], ready=False)  # fewer than half: those that are not Ready, too
    eventually(lambda: holds(world, *ips))
    world.set_status("p0", ips[0])
    eventually(lambda: holds(world, ips[0], *ips[4:]))
    assert len(children(world, "dubbo")) == 3


@pytest.mark.full
def test_an_edited_config_is_remembered_for_the_ownership_grace_and_no_longer(
    world: World, start_controller: Callable[..., Controller]
):
    controller = start_controller("--ownership-grace", "24h")
    world.create_pod("a", "echo", ip=ONE)
    eventually(lambda: world.servers("echo") == [ONE])
    world.zk.set(f"{world.base}/echo", json.dumps({"config": ["mine"], "servers": [ONE]}).encode())
    world.create_pod("b", "echo", ip=TWO)
    eventually(lambda: world.servers("echo") == [ONE, TWO])
    for name in ("a", "b"):
        world.delete_pod(name)
    eventually(lambda: world.data("echo") is None)
    world.create_pod("c", "echo", ip=THREE)
    eventually(lambda: world.data("echo") == f'{{"config":["mine"],"servers":["{THREE}"]}}')

    controller.stop()
    forgetful = start_controller("--ownership-grace", "0")
    world.delete_pod("c")
    eventually(lambda: world.data("echo") is None)
    forgetful.stop()
    forgetful.start()
    world.create_pod("d", "echo", ip=THREE)
    eventually(lambda: world.servers("echo") == [THREE])
    assert "keepalive 32" in (world.data("echo") or "")
