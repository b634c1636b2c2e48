"""A thousand at once, and bad input in bulk: right within seconds, and nothing written twice."""

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from hack.local.http_proxy import HttpProxy
from tests.cluster.waiting import eventually
from tests.cluster.world import World

WRITERS = 8
LONG = 120.0  # seconds, at most
PAST_ETCD = 60  # endpoints of 15 kB: more than one object of etcd holds, where "<" takes six bytes
KEYS = 30
BATCH_WINDOW = 1.0  # seconds


def create_pods(world: World, serving: Mapping[str, tuple[str, list[str]]]) -> None:
    """Create Ready pods: name to address and services."""
    with ThreadPoolExecutor(WRITERS) as pool:
        list(
            pool.map(
                lambda pod: world.create_pod(pod, *serving[pod][1], ip=serving[pod][0]),
                serving,
            )
        )


def znodes(world: World, base: str) -> dict[str, tuple[int, int]]:
    """By service: how many servers, and which transaction wrote it last."""
    found = {}
    for name in world.zk.get_children(base):
        data, stat = world.zk.get(f"{base}/{name}")
        found[name] = len(json.loads(data)["servers"]), stat.mzxid
    return found


def all_synced(world: World, services: int) -> bool:
    found = world.rpcservices().values()
    conditions = [item.get("status", {}).get("conditions", []) for item in found]
    true = [c for c in conditions if any((e["type"], e["status"]) == ("Synced", "True") for e in c)]
    return len(true) == services


@pytest.mark.full
def test_a_thousand_pods_in_a_hundred_services_cold_and_once_more(
    world: World, start_controller, api: HttpProxy, through_api: Path
):
    """Half of all pods declare nothing, and cost nothing but being read."""
    create_pods(
        world,
        {f"p{n}": (f"10.{n // 250}.0.{n % 250 + 1}", [f"s{n % 100}"]) for n in range(1000)}
        | {f"foreign{n}": (f"10.{n // 250}.1.{n % 250 + 1}", []) for n in range(1000)},
    )
    controller = start_controller()
    eventually(lambda: all_synced(world, 100), LONG)
    before = znodes(world, world.base)
    assert {name: count for name, (count, _) in before.items()} == {f"s{n}": 10 for n in range(100)}
    assert controller.stop() == 0

    versions = resource_versions(world)
    start_controller(kubeconfig=through_api)
    # What comes last shows that everything before it was looked at.
    world.create_pod("later", "later", ip="10.9.9.9")
    eventually(
        lambda: world.synced("later") == ("True", "InRegistry") and world.servers("later") == ["10.9.9.9"]
    )
    assert not [request for request in api.requests if is_write(*request, "s")]
    after = znodes(world, world.base)
    assert after.pop("later")
    assert after == before
    assert {
        name: version for name, version in resource_versions(world).items() if name != "later"
    } == versions


@pytest.mark.full
def test_a_change_rewrites_one_object_and_many_changes_share_writes(
    world: World, start_controller, api: HttpProxy, through_api: Path
):
    create_pods(world, {f"p{n:02}": (f"10.0.0.{n + 1}", ["echo"]) for n in range(60)})
    start_controller(
        "--endpoints-per-object", "20", "--batch-window", f"{BATCH_WINDOW}s", kubeconfig=through_api
    )
    eventually(lambda: len(world.servers("echo") or ()) == 60, LONG)
    eventually(lambda: all_synced(world, 3))

    before = resource_versions(world)
    world.set_status("p07", "10.0.1.1")
    eventually(lambda: "10.0.1.1" in world.servers("echo"))
    after = resource_versions(world)
    assert sorted(after[name] == before[name] for name in before) == [False, True, True]

    api.requests.clear()
    began = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda n: world.set_status(f"p{n:02}", f"10.0.2.{n + 1}"), range(60)))
    eventually(lambda: world.servers("echo") == [f"10.0.2.{n + 1}" for n in range(60)])
    windows = (time.monotonic() - began) / BATCH_WINDOW
    statuses = [path for method, path in api.requests if method == "PUT" and "/status?" in path]
    assert len(statuses) <= 3 * (windows + 1)
    assert world.rpcservices().keys() == before.keys()


def resource_versions(world: World) -> dict[str, str]:
    """The resourceVersions of all RpcServices."""
    return {name: item["metadata"]["resourceVersion"] for name, item in world.rpcservices().items()}


def is_write(method: str, path: str, prefix: str) -> bool:
    """Whether an RpcService whose name begins with *prefix* is written, or anything is posted about one."""
    _, named, rest = path.partition("/rpcservices/")
    return method != "GET" and bool(named) and rest.startswith(prefix)


@pytest.mark.full
def test_k18_a_thousand_services_take_far_fewer_transactions(world: World, start_controller):
    create_pods(
        world,
        {f"p{n}": (f"10.0.0.{n + 1}", [f"s{n}-{m}" for m in range(25)]) for n in range(40)},
    )
    controller = start_controller()
    eventually(lambda: all_synced(world, 1000), LONG)
    assert {count for count, _ in znodes(world, world.base).values()} == {1}
    assert controller.stop() == 0

    # All of them are due at the same time where another base path comes to be written.
    other = f"{world.base}-2"
    start_controller("--layout", f"kube2zk={other}")
    eventually(lambda: world.zk.exists(other) and len(world.zk.get_children(other)) == 1000, LONG)
    assert len({transaction for _, transaction in znodes(world, other).values()}) <= 50


@pytest.mark.full
def test_the_conditions_of_a_cold_start_come_after_all_endpoints(
    world: World, start_controller, api: HttpProxy, through_api: Path
):
    create_pods(world, {f"p{n}": (f"10.0.0.{n + 1}", [f"s{n}-{m}" for m in range(25)]) for n in range(10)})
    start_controller(kubeconfig=through_api)
    eventually(lambda: all_synced(world, 250), LONG)

    writes = [method for method, path in api.requests if "/status?" in path]
    assert writes == ["PUT"] * 250 + ["PATCH"] * 250, "endpoints, then conditions"


@pytest.mark.full
def test_endpoints_too_large_for_one_object_are_all_published(world: World, start_controller):
    metadata = {f"{n}{'<' * 240}": "<" * 250 for n in range(KEYS)}
    text = json.dumps([{"serviceName": "echo", "metadata": metadata}])
    start_controller()
    with ThreadPoolExecutor(WRITERS) as pool:
        list(
            pool.map(
                lambda n: world.create_pod(f"p{n}", annotation=text, ip=f"10.0.0.{n + 1}"), range(PAST_ETCD)
            )
        )

    eventually(lambda: len(world.servers("echo") or ()) == PAST_ETCD, LONG)
    parts = world.rpcservices().values()
    assert sum(part["status"]["totalEndpoints"] for part in parts) == PAST_ETCD
    assert len(parts) > 1


# Annotations that declare nothing at all.
SPOILT = {
    "blank": "  ",
    "no JSON": "{not json",
    "a scalar": "7",
    "an object": '{"serviceName": "bad"}',
    "cut off": '[{"serviceName": "bad"',
    "with a BOM": '\ufeff[{"serviceName": "bad"}]',
    "NaN": '[{"serviceName": "bad", "port": NaN}]',
    "a huge integer": f'[{{"serviceName": "bad", "port": {"9" * 5000}}}]',
    "too deep": "[" * 10_000,
    "too long": json.dumps([{"serviceName": "bad", "metadata": {"k": "v" * 20_000}}]),
    "too many": json.dumps([{"serviceName": f"bad-{number}"} for number in range(33)]),
}
# One bad entry, beside which a good one counts.
BAD_ENTRIES: dict[str, dict[str, Any]] = {
    **{f"port {port!r}": {"port": port} for port in (0, 65536, -1, "8080", 80.5, True, 1e30)},
    **{f"weight {weight}": {"weight": weight} for weight in (-1, 10_001)},
    "metadata that is no text": {"metadata": {"k": 1}},
    **{
        f"name {name[:12]!r}": {"serviceName": name}
        for name in (
            *("", ".", "..", "../x", "a/b", "/a", "a//b", "zookeeper", "%2e%2e", "a\n", "\U0001f600"),
            *("a\x00b", "a\u202eb", "x" * 254, "x" * 5000),
        )
    },
}


BESIDE = {"serviceName": "beside"}


@pytest.mark.full
def test_b1_b2_every_bad_annotation_is_recorded_once_and_costs_nothing_else(
    world: World, start_controller, zk: KazooClient
):
    controller = start_controller()
    texts = [*SPOILT.values()]
    texts += [json.dumps([{"serviceName": "bad", **fields}, BESIDE]) for fields in BAD_ENTRIES.values()]
    pods = {f"bad-{number}": f"10.0.0.{number}" for number in range(1, len(texts) + 1)}
    for (name, address), text in zip(pods.items(), texts, strict=True):
        world.create_pod(name, annotation=text, ip=address)
    world.create_pod("fine", "fine", ip="10.0.1.1")

    eventually(lambda: world.servers("beside") == list(pods.values())[len(SPOILT) :])
    eventually(lambda: world.servers("fine") == ["10.0.1.1"])
    eventually(lambda: {event.involved_object.name for event in complaints(world)} == set(pods))
    controller.stop()
    controller.start()
    world.create_pod("last", annotation="{}", ip="10.0.1.3")
    eventually(lambda: "last" in {event.involved_object.name for event in complaints(world)})
    assert sorted(event.involved_object.name for event in complaints(world)) == sorted([*pods, "last"])
    assert sorted(zk.get_children(world.base)) == sorted(world.rpcservices()) == ["beside", "fine"]


def complaints(world: World) -> list[Any]:
    """The Events that complain about an annotation."""
    return list(world.events("InvalidAnnotation"))
