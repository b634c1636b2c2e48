"""The cluster that the fault suite breaks, and mends after each test; and what stands in between."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.retry import KazooRetry

from hack.local.cluster import ADMIN_TOKEN, ORDER, LocalCluster
from hack.local.http_proxy import HttpProxy
from hack.local.proxy import Proxy
from tests.cluster.conftest import namespace
from tests.cluster.fixtures import CRDS, controller, other_namespace, start_controller, verify, world

# Fixtures are found by their names in here.
__all__ = ["controller", "namespace", "other_namespace", "start_controller", "verify", "world"]


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
def api(cluster: LocalCluster) -> Iterator[HttpProxy]:
    """A proxy that sees requests to the API server."""
    with HttpProxy(cluster.server, cluster.directory / "pki") as proxy:
        yield proxy


@pytest.fixture
def through_api(cluster: LocalCluster, api: HttpProxy, tmp_path: Path) -> Path:
    """A kubeconfig that leads through ``api``."""
    return cluster.kubeconfig_for(ADMIN_TOKEN, tmp_path / "through-proxy", api.server)


@pytest.fixture
def zk_proxy(cluster: LocalCluster) -> Iterator[Proxy]:
    """A proxy in front of ZooKeeper."""
    with Proxy(cluster.zk_servers) as proxy:
        yield proxy


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say on the item that it failed, so that its controllers' logs are shown."""
    report = yield
    if report.failed:
        item.failed = True  # type: ignore[attr-defined]
    return report
