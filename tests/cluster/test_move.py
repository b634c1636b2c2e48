"""The move from kube2zk, whose znodes readers watch all the while: nothing is missing, emptied or lost."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from kazoo.client import KazooClient

from tests.clients.written import RECORDED, recording
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World

(WRITTEN,) = (znode["data"] for znode in recording("kube2zk")["znodes"] if RECORDED in znode["data"])
IPS = json.loads(WRITTEN)["servers"]
EDITED = {"config": ["zone mine 1M", "keepalive 7"], "servers": IPS}
NOTED = {**EDITED, "owner": "team a"}
STALE = {**EDITED, "servers": [*IPS, "9.9.9.9"]}  # kube2zk's resync never removes the last of a service
BEFORE = {
    "written": WRITTEN.encode(),
    "edited": json.dumps(EDITED, indent=1).encode(),
    "noted": json.dumps(NOTED).encode(),
    "stale": json.dumps(STALE).encode(),
    "empty": b'{"config":null,"servers":[]}',
    "nobodys": json.dumps(EDITED).encode(),
}
SERVED = [name for name in BEFORE if name != "nobodys"]


@dataclass
class Reader:
    """A client that watches a znode, and records what it saw."""

    states: list[Any] = field(default_factory=list)

    def see(self, data: bytes | None, stat: object) -> None:
        self.states.append(json.loads(data) if stat and data else None)


@pytest.fixture
def readers(world: World, zk: KazooClient) -> dict[str, Reader]:
    """A reader for each znode that kube2zk wrote; somebody has edited some of them."""
    world.zk.ensure_path(world.base)
    readers = {name: Reader() for name in BEFORE}
    for name, data in BEFORE.items():
        world.zk.create(f"{world.base}/{name}", data)
        zk.DataWatch(f"{world.base}/{name}")(readers[name].see)
    for number, ip in enumerate(IPS):
        world.create_pod(f"p{number}", *SERVED, ip=ip)
    return readers


def test_readers_see_the_same_service_from_before_to_after(
    world: World,
    start_controller: Callable[..., Controller],
    readers: dict[str, Reader],
    verify: Callable[[], tuple[int, list[dict[str, str]]]],
):
    code, findings = verify()
    states = {finding["path"].rpartition("/")[2]: finding["state"] for finding in findings}
    assert (code, states) == (0, {**dict.fromkeys(SERVED, "would be adopted"), "nobodys": "foreign"})
    lossy = {
        finding["path"].rpartition("/")[2] for finding in findings if "lose 9.9.9.9:" in finding["detail"]
    }
    assert lossy == {"stale"}

    controller = start_controller()
    eventually(lambda: all(world.synced(name) == ("True", "InRegistry") for name in SERVED))
    assert verify()[0] == 0
    controller.stop()
    controller.start()
    world.create_pod("later", *SERVED, ip="10.0.0.20")
    eventually(lambda: all("10.0.0.20" in (world.servers(name) or ()) for name in SERVED))

    eventually(lambda: all("10.0.0.20" in readers[name].states[-1]["servers"] for name in SERVED))
    for name in SERVED:
        seen = readers[name].states
        assert all(state and (name == "empty" or set(IPS) <= set(state["servers"])) for state in seen)
        assert all(set(IPS) <= set(state["servers"]) for state in seen[1:])
    for name in ("edited", "noted", "stale", "nobodys"):
        assert {tuple(state["config"]) for state in readers[name].states} == {tuple(EDITED["config"])}
    assert {state["owner"] for state in readers["noted"].states} == {"team a"}
    assert world.zk.get(f"{world.base}/nobodys")[1].version == 0


def test_where_nothing_is_to_change_not_a_byte_is_written(
    world: World, start_controller: Callable[..., Controller], readers: dict[str, Reader]
):
    start_controller()
    eventually(lambda: all(world.synced(name) == ("True", "InRegistry") for name in SERVED))

    assert world.zk.get(f"{world.base}/written")[0] == WRITTEN.encode()
    assert world.zk.get(f"{world.base}/written")[1].version == 0


def test_a_dry_run_and_a_refusal_to_adopt_change_nothing(
    world: World, start_controller: Callable[..., Controller], readers: dict[str, Reader]
):
    dry = start_controller("--dry-run")
    eventually(lambda: "dry run: " in dry.text())
    dry.stop()
    assert sum(line.startswith("+ RpcService ") for line in dry.text().splitlines()) == len(SERVED)
    assert "refused" not in dry.text()
    start_controller("--adopt", "never")
    eventually(lambda: all(world.synced(name) == ("False", "OwnedElsewhere") for name in SERVED))

    assert {name: world.zk.get(f"{world.base}/{name}")[0] for name in BEFORE} == BEFORE


def test_an_edited_config_outlives_a_service_without_pods_for_a_while(
    world: World, start_controller: Callable[..., Controller], readers: dict[str, Reader]
):
    controller = start_controller("--guard-confirm", "1s")
    eventually(lambda: all(world.synced(name) == ("True", "InRegistry") for name in SERVED))
    for number in range(len(IPS)):
        world.delete_pod(f"p{number}")
    eventually(lambda: world.zk.get_children(world.base) == ["nobodys"])
    controller.stop()
    controller.start()
    world.create_pod("back", "edited", ip="10.0.0.30")

    eventually(lambda: world.servers("edited") == ["10.0.0.30"])
    assert json.loads(world.data("edited") or "{}")["config"] == EDITED["config"]
