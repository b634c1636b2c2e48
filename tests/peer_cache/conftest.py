"""Replicas in this process, each at a loopback address of its own; and processes in pods."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
import yaml

from hack.local.cluster import LocalCluster, free_ports
from peer_cache.addresses import join
from peer_cache.entries import Cache, Key
from peer_cache.links import Links
from peer_cache.replica import Replica
from peer_cache.service import serve
from tests.cluster.conftest import cluster, namespace, zk
from tests.cluster.fixtures import crds, world
from tests.cluster.world import World
from tests.peer_cache.fleet import EXAMPLE, OBJECTS, Fleet

# Fixtures are found by their names in here.
__all__ = ["cluster", "crds", "namespace", "world", "zk"]

SDK_ROLE = EXAMPLE.parent / "sdk-role.yaml"


class Listed(NamedTuple):
    """A pod as the registry lists it."""

    ip: str
    started_at: str = "2026-11-21T02:02:02Z"


@dataclass
class Node:
    """A replica, its gRPC server, and what the registry would tell it."""

    pod: Listed
    address: str
    others: Callable[[Listed], list[Listed]]
    port: int
    now: Callable[[], int]
    replica: Replica = field(init=False)
    server: grpc.Server | None = None

    def __post_init__(self) -> None:
        self.replica = Replica(
            Cache(f"{random.getrandbits(64):x}", self.now),
            lambda: self.others(self.pod),
            lambda peer: join(peer.ip, self.port),
            Links(),
        )

    def serve(self) -> None:
        self.server = serve(self.replica, self.address)

    def stop_serving(self) -> None:
        if self.server:
            self.server.stop(None).wait()
        self.server = None

    def value(self, name: str, type_: int = 0) -> str | None:
        entry = self.replica.cache.entries().get(Key(type_, name))
        return entry and entry.value


class Network:
    """A network of replicas; *listed* is what the registry lists, the oldest first."""

    def __init__(self) -> None:
        # Other runs on this machine have other addresses.
        self._prefix = f"127.{random.randrange(1, 250)}.{random.randrange(250)}"
        (self.port,) = free_ports(1)
        self.listed: list[Listed] = []
        self.nodes: list[Node] = []

    def add(self, *, serving: bool = True, filled: bool = True, now: Callable[[], int] = lambda: 0) -> Node:
        """One more pod, the youngest of all, with a replica."""
        pod = Listed(f"{self._prefix}.{len(self.listed) + 1}")
        self.listed.append(pod)
        node = Node(pod, join(pod.ip, self.port), self._others, self.port, now)
        self.nodes.append(node)
        if serving:
            node.serve()
        if filled:
            node.replica.fill(patience=0)
        return node

    def _others(self, pod: Listed) -> list[Listed]:
        return [listed for listed in self.listed if listed.ip != pod.ip]

    def close(self) -> None:
        for node in self.nodes:
            node.stop_serving()
        for node in self.nodes:
            node.replica.stop()


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture
def fleet(cluster: LocalCluster, world: World, tmp_path: Path) -> Iterator[Fleet]:
    rights = [OBJECTS[kind] for kind in ("ServiceAccount", "Role", "RoleBinding")]
    text = yaml.safe_dump_all(rights).replace("namespace: peer-cache", f"namespace: {world.namespace}")
    found = [each for each in yaml.safe_load_all(SDK_ROLE.read_text()) if "Policy" in each["kind"]]
    policies = yaml.safe_dump_all(found)
    cluster.kubectl("apply", "-f", "-", input=f"{text}---\n{policies}")
    fleet = Fleet(cluster, world, tmp_path)
    yield fleet
    for process in fleet.started:
        process.process.kill()
        process.process.wait()
        print(process.pod, process.log(), sep="\n")
    cluster.kubectl("delete", "-f", "-", input=policies)
