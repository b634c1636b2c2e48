"""Others write RpcServices, or delete them: the registry relies on the pod controller's word only.

What pods themselves show is withdrawn all the same, whatever is refused.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from hack.local.http_proxy import Answer, HttpProxy
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, Recorder, World
from tests.faults.harness.kubelet import Replica

FOREIGN = {"podName": "stranger", "podUID": "no-such-uid", "ip": "10.9.9.9", "ready": True}
OTHERS = "kubectl-edit"  # the field manager


def address(number: int) -> str:
    return f"10.0.0.{number}"


def rows(world: World) -> list[dict[str, Any]]:
    return world.rpcservices()["echo"].get("status", {}).get("endpoints") or []


def listed(world: World) -> set[str]:
    return {row["podName"] for row in rows(world)}


def patch(world: World, status: Any, **metadata: Any) -> None:
    """Write the status as anybody may who has the right."""
    world.custom.patch_namespaced_custom_object_status(
        "rpcregistry.dev",
        "v1alpha1",
        world.namespace,
        "rpcservices",
        "echo",
        {"metadata": metadata, "status": status},
        field_manager=OTHERS,
    )


def without(row: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in fields}


EDITS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "rows added": lambda rows: [*rows, FOREIGN],
    "rows taken out": lambda rows: rows[1:],
    "all rows taken out": lambda rows: [],
    "endpoints: null": lambda rows: None,
    "an address changed": lambda rows: [{**rows[0], "ip": "10.9.9.9"}, *rows[1:]],
    "a row without ips": lambda rows: [without(rows[0], "ips"), *rows[1:]],
    "not Ready any more": lambda rows: [{**row, "ready": False} for row in rows],
}


def test_what_others_write_into_a_status_reaches_no_client_and_is_put_right(
    world: World, start_controller: Callable[..., Controller], zk: KazooClient
):
    start_controller(leader_elect=True)
    for number in (1, 2, 3):
        world.create_pod(f"p{number}", "echo", ip=address(number))
    ours = sorted(address(number) for number in (1, 2, 3))
    eventually(lambda: sorted(world.servers("echo") or ()) == ours)
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    seen = Recorder(zk, f"{world.base}/echo")
    right = rows(world)
    for edit in EDITS.values():
        patch(world, {"endpoints": edit(right)})
        eventually(lambda: rows(world) == right, timeout=60)
    patch(world, {"endpoints": [FOREIGN]}, managedFields=[{}])
    eventually(lambda: rows(world) == right, timeout=60)

    # In the same second as one of ours, before and after it.
    for number in (4, 5):
        patch(world, {"endpoints": [*rows(world), FOREIGN]})
        world.create_pod(f"p{number}", "echo", ip=address(number))
        patch(world, {"endpoints": random.sample(right, 2)})
    eventually(lambda: listed(world) == {"p1", "p2", "p3", "p4", "p5"}, timeout=90)
    eventually(lambda: len(world.servers("echo") or ()) == 5)
    for state in seen.states:
        assert set(ours) <= set(state or ()), "nobody who is Ready was missing"
        assert "10.9.9.9" not in (state or ())


def test_a_pods_end_is_published_though_its_rpcservice_is_gone_and_cannot_be_made(
    world: World,
    start_controller: Callable[..., Controller],
    api: HttpProxy,
    through_api: Path,
    zk: KazooClient,
):
    controller = start_controller(leader_elect=True, kubeconfig=through_api)
    for number in (1, 2, 3):
        world.create_pod(f"p{number}", "echo", ip=address(number))
    eventually(lambda: len(world.servers("echo") or ()) == 3)
    api.instead = refuse_creates
    world.delete_rpcservice("echo")
    eventually(lambda: "refused" in {line["event"] for line in controller.logged()})
    seen = Recorder(zk, f"{world.base}/echo")
    world.delete_pod("p1")
    world.create_pod("p4", "echo", ip=address(4))
    eventually(lambda: sorted(world.servers("echo") or ()) == [address(2), address(3)])
    assert all({address(2), address(3)} <= set(state or ()) for state in seen.states)
    eventually(lambda: "p4" in {event.involved_object.name for event in world.events("RpcServiceRefused")})

    api.instead = lambda method, path: None
    now = [address(2), address(3), address(4)]
    eventually(lambda: sorted(world.servers("echo") or ()) == now, timeout=90)
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))


@pytest.mark.full
@pytest.mark.parametrize("room", [100, 2], ids=["one object has room", "one object has no room"])
def test_a_pods_end_is_published_after_a_restart_though_its_rpcservice_is_gone_and_cannot_be_made(
    room: int,
    world: World,
    start_controller: Callable[..., Replica],
    api: HttpProxy,
    through_api: Path,
    zk: KazooClient,
):
    controller = start_controller("--endpoints-per-object", str(room), kubeconfig=through_api)
    for number in (1, 2, 3):
        world.create_pod(f"p{number}", "echo", ip=address(number))
    eventually(lambda: len(world.servers("echo") or ()) == 3)
    assert controller.stop() == 0
    world.delete_rpcservice("echo")
    api.instead = refuse_creates
    controller.start()
    eventually(lambda: "refused" in {line["event"] for line in controller.logged()}, timeout=60)
    seen = Recorder(zk, f"{world.base}/echo")
    world.delete_pod("p1")
    eventually(lambda: world.servers("echo") == [address(2), address(3)])
    assert all({address(2), address(3)} <= set(state or ()) for state in seen.states)

    api.instead = lambda method, path: None
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"), timeout=90)
    assert world.servers("echo") == [address(2), address(3)]


def refuse_creates(method: str, path: str) -> Answer | None:
    """What a quota of no RpcServices answers."""
    if method != "POST" or not path.partition("?")[0].endswith("/rpcservices"):
        return None
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden"}
    return 403, json.dumps({**status, "message": "exceeded quota: none"}).encode()
