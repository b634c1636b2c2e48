"""A cluster, a ZooKeeper without one, and the watchers of the suite."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from hack.clients.watcher import Watcher
from hack.clients.zookeeper import zookeeper
from hack.local.binaries import Unavailable
from hack.local.cluster import LocalCluster
from tests.clients.journeys import SERVICE, base
from tests.clients.readers import Reader
from tests.cluster.conftest import cluster, namespace, zk
from tests.cluster.fixtures import crds, pytest_runtest_makereport, start_controller, world
from tests.cluster.world import World

# Fixtures and hooks are found by their names in here.
__all__ = ["cluster", "crds", "namespace", "pytest_runtest_makereport", "start_controller", "world", "zk"]


@pytest.fixture(scope="session")
def zk_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a ZooKeeper server."""
    with zookeeper(tmp_path_factory.mktemp("zookeeper")) as servers:
        yield servers


@pytest.fixture
def lone_zk(zk_servers: str) -> Iterator[KazooClient]:
    """Whoever else writes into that server; what a test writes goes with it."""
    client = KazooClient(zk_servers)
    client.start(60)
    yield client
    for name in set(client.get_children("/")) - {"zookeeper"}:
        client.delete(f"/{name}", recursive=True)
    client.stop()
    client.close()


@pytest.fixture
def start_watcher(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Watcher]]:
    """Starts a client's watcher; ends it with the test."""
    started: list[Watcher] = []

    def start(client: str, *arguments: str, within: Sequence[str] = ()) -> Watcher:
        log = tmp_path / f"{client}-{len(started)}.log"
        try:
            watcher = Watcher(client, *arguments, log=log, within=within)
        except Unavailable as error:
            if "is not on PATH" in str(error) or "prometheus" in str(error):
                pytest.skip(str(error))
            raise
        started.append(watcher)
        return watcher

    yield start
    for watcher in started:
        watcher.close()
        if getattr(request.node, "failed", False):
            print(*watcher.lines[-500:], sep="\n")
            print(watcher.log.read_text()[-5000:])


@pytest.fixture
def follow(
    cluster: LocalCluster, world: World, start_watcher: Callable[..., Watcher]
) -> Callable[[Reader], Watcher]:
    """Starts the watcher of a client that follows the journeys' service."""

    def start(reader: Reader) -> Watcher:
        service = reader.follow(base(world, reader.layout), SERVICE)
        return start_watcher(reader.client, "watch", cluster.zk_servers, *service)

    return start
