"""The cluster that the fault suite breaks, and mends after each test; and what stands in between."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from kazoo.client import KazooClient
from kazoo.retry import KazooRetry

from hack.local.cluster import ORDER, LocalCluster
from hack.local.proxy import Proxy
from tests.cluster.conftest import namespace
from tests.cluster.fixtures import (
    CRDS,
    api,
    controller,
    other_namespace,
    pytest_runtest_makereport,
    start_controller,
    through_api,
    verify,
    world,
)

# Fixtures and hooks are found by their names in here.
__all__ = [
    "api",
    "controller",
    "namespace",
    "other_namespace",
    "pytest_runtest_makereport",
    "start_controller",
    "through_api",
    "verify",
    "world",
]


@pytest.fixture(scope="session")
def whole_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A control plane and a ZooKeeper of this suite's own, so that no other suite is disturbed."""
    with LocalCluster(tmp_path_factory.mktemp("faults"), nodes=1) as local:
        local.kubectl("apply", "-f", str(CRDS))
        local.kubectl("wait", "--for=condition=Established", "-f", str(CRDS), "--timeout=30s")
        yield local


@pytest.fixture(scope="session")
def crds() -> None:
    """They are applied with the cluster."""


@pytest.fixture
def cluster(whole_cluster: LocalCluster) -> Iterator[LocalCluster]:
    """The cluster, all of it running; what a test stopped runs again afterwards."""
    yield whole_cluster
    for name in ORDER:
        whole_cluster.process(name).resume()
    whole_cluster.up()


@pytest.fixture
def connect(cluster: LocalCluster) -> Iterator[Callable[[], KazooClient]]:
    """Makes ZooKeeper clients that are not ours: they read what any other would."""
    with ExitStack() as stack:

        def client() -> KazooClient:
            made = KazooClient(cluster.zk_servers, connection_retry=KazooRetry(max_tries=-1, max_delay=0.5))
            made.start()
            stack.callback(made.close)
            stack.callback(made.stop)
            return made

        yield client


@pytest.fixture
def zk(connect: Callable[[], KazooClient]) -> KazooClient:
    """One of them."""
    return connect()


@pytest.fixture
def zk_proxy(cluster: LocalCluster) -> Iterator[Proxy]:
    """A proxy in front of ZooKeeper."""
    with Proxy(cluster.zk_servers) as proxy:
        yield proxy
