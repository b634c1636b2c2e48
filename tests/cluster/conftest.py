"""The real cluster that the suites share: one a worker, a namespace a test."""

import re
import uuid
from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from hack.local.cluster import LocalCluster
from tests.cluster.fixtures import (  # noqa: F401  (fixtures and hooks are found by their names)
    api,
    controller,
    crds,
    operator,
    other_namespace,
    pytest_runtest_makereport,
    start_controller,
    start_installed,
    start_local,
    through_api,
    verify,
    world,
)


@pytest.fixture(scope="session")
def cluster(shared_cluster: LocalCluster) -> LocalCluster:
    """A control plane, three kwok nodes and a ZooKeeper, up and running."""
    return shared_cluster


@pytest.fixture
def namespace(cluster: LocalCluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    readable = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    name = f"{readable}-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def zk(cluster: LocalCluster) -> Iterator[KazooClient]:
    """A ZooKeeper client that is not ours: it reads what any other would."""
    client = KazooClient(cluster.zk_servers)
    client.start()
    yield client
    client.stop()
    client.close()
