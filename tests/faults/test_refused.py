"""The API server refuses some of a service's writes: a quota, a webhook that is down, a right that was taken.

What is refused costs what it would add.  Nobody who is dead stays published for it.
"""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from hack.local.http_proxy import Answer, Cut, HttpProxy
from tests.cluster.waiting import eventually
from tests.cluster.world import Recorder, World
from tests.faults.harness.kubelet import Replica

COUNT = "count/rpcservices.rpcregistry.dev"
REASON = "RpcServiceRefused"
THREE = ("--endpoints-per-object", "3")  # several objects of few pods


def serve(world: World, *numbers: int) -> None:
    for number in numbers:
        world.create_pod(f"p{number}", "echo", ip=address(number))


def remove(world: World, *numbers: int) -> None:
    for number in numbers:
        world.delete_pod(f"p{number}")


def address(number: int) -> str:
    return f"10.0.0.{number}"


def published(world: World) -> set[int]:
    return {int(server.rpartition(".")[2]) for server in world.servers("echo") or ()}


def told(world: World) -> dict[str, str]:
    """What pods were told of what is refused."""
    return {event.involved_object.name: event.message for event in world.events(REASON)}


def allow(world: World, rpcservices: int) -> None:
    """Have a quota allow so many; return once the API server counts them.

    The quota controller looks for new kinds every 30 s, and goes back to a quota of one that it did not know
    after minutes only: so the quota is changed until it is counted.
    """
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {COUNT: str(rpcservices)}}}
    world.core.create_namespaced_resource_quota(world.namespace, quota)

    def counted() -> bool:
        found = world.core.read_namespaced_resource_quota("few", world.namespace)
        if COUNT in (found.status.used or {}):
            return True
        others = {"count/secrets": str(random.randrange(10_000))}
        patch = {"spec": {"hard": others}}
        world.core.patch_namespaced_resource_quota("few", world.namespace, patch)
        time.sleep(1)
        return False

    eventually(counted, timeout=120)


def test_under_a_quota_the_dead_leave_through_a_restart_and_what_fits_is_published(
    world: World, start_controller: Callable[..., Replica]
):
    controller = start_controller(*THREE)
    serve(world, 1, 2, 3)
    eventually(lambda: published(world) == {1, 2, 3})
    allow(world, 1)

    serve(world, 4, 5, 6, 7)
    eventually(lambda: {"p4", "p5", "p6", "p7"} <= told(world).keys())
    assert all("exceeded quota: few" in message for message in told(world).values())
    remove(world, 1, 2, 3)
    eventually(lambda: len(published(world)) == 3 and published(world) < {4, 5, 6, 7})
    assert len(world.rpcservices()) == 1

    assert controller.stop() == 0
    start_controller(*THREE)
    first = min(published(world))
    remove(world, first)
    eventually(lambda: published(world) == {4, 5, 6, 7} - {first})

    serve(world, 8, 9)
    world.core.delete_namespaced_resource_quota("few", world.namespace)
    eventually(lambda: published(world) == {4, 5, 6, 7, 8, 9} - {first}, timeout=90)
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))


def refuse(api: HttpProxy, method: str, ending: str, code: int | None) -> None:
    """Have requests whose path ends like that refused; without a code, they get no answer."""
    reason = {403: "Forbidden", 422: "Invalid", 429: "TooManyRequests", 500: "InternalError", None: ""}[code]

    def instead(asked: str, path: str) -> Answer | None:
        if asked != method or not path.partition("?")[0].endswith(ending):
            return None
        if code is None:
            raise Cut
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
        return code, json.dumps({**status, "message": "not that one"}).encode()

    api.instead = instead


CODES = [
    pytest.param(403, id="403"),
    pytest.param(422, id="422", marks=pytest.mark.full),
    pytest.param(429, id="429", marks=pytest.mark.full),
    pytest.param(500, id="500"),
    pytest.param(None, id="no answer", marks=pytest.mark.full),
]


@pytest.mark.parametrize("code", CODES)
def test_the_dead_leave_while_creates_are_refused(
    world: World,
    start_controller: Callable[..., Replica],
    api: HttpProxy,
    through_api: Path,
    zk: KazooClient,
    code: int | None,
):
    start_controller(*THREE, kubeconfig=through_api)
    serve(world, 1, 2, 3)
    eventually(lambda: published(world) == {1, 2, 3})
    seen = Recorder(zk, f"{world.base}/echo")
    refuse(api, "POST", f"/{world.namespace}/rpcservices", code)
    serve(world, 4, 5)
    eventually(lambda: len(posts(api)) > 1)
    remove(world, 1, 2)
    eventually(lambda: published(world) == {3, 4, 5})
    if code in (403, 422):
        eventually(lambda: {"p4", "p5"} <= told(world).keys())

    serve(world, 6, 7)
    api.reset()
    eventually(lambda: published(world) == {3, 4, 5, 6, 7}, timeout=90)
    assert all(address(3) in state for state in seen.states if state is not None)


def posts(api: HttpProxy) -> list[str]:
    return [
        path
        for method, path in api.requests
        if method == "POST" and path.partition("?")[0].endswith("/rpcservices")
    ]


@pytest.mark.parametrize("code", CODES)
def test_the_dead_leave_one_object_while_another_ones_status_is_refused(
    world: World,
    start_controller: Callable[..., Replica],
    api: HttpProxy,
    through_api: Path,
    zk: KazooClient,
    code: int | None,
):
    start_controller(*THREE, kubeconfig=through_api)
    serve(world, 1, 2, 3)
    eventually(lambda: published(world) == {1, 2, 3})
    serve(world, 4, 5)
    eventually(lambda: published(world) == {1, 2, 3, 4, 5})
    seen = Recorder(zk, f"{world.base}/echo")
    refuse(api, "PUT", "/rpcservices/echo/status", code)
    remove(world, 1)
    serve(world, 6)  # has room where that one was
    remove(world, 4)
    eventually(lambda: published(world) == {2, 3, 5})
    if code in (403, 422):
        eventually(lambda: "p6" in told(world))

    api.reset()
    eventually(lambda: published(world) == {2, 3, 5, 6}, timeout=90)
    assert all({address(n) for n in (2, 3, 5)} <= set(state) for state in seen.states if state is not None)
