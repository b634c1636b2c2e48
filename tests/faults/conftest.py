"""The ground that the fault tests share, each test's own stand on it, and the judge of what came of it."""

import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from hack.local.http_proxy import HttpProxy
from hack.local.proxy import Proxy
from tests.cluster.fixtures import pytest_runtest_makereport
from tests.cluster.waiting import TO_START, eventually
from tests.cluster.world import World
from tests.faults.harness.cluster import FaultCluster
from tests.faults.harness.ground import Ground
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.stand import Servers, Stand

# Fixtures and hooks are found by their names in here.
__all__ = ["pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A control plane and a ZooKeeper of this suite's own, so that no other suite is disturbed."""
    with Ground(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.fixture
def cluster(ground: Ground) -> Iterator[FaultCluster]:
    """The cluster, all of it running; what a test stopped runs again afterwards."""
    yield ground.cluster
    ground.cluster.heal()


@pytest.fixture
def namespace(ground: Ground, cluster: FaultCluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    readable = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    name = f"{readable}-{uuid.uuid4().hex[:6]}"
    ground.make_namespace(name)
    yield name
    ground.core.delete_namespace(name)


@pytest.fixture
def other_namespace(ground: Ground, namespace: str) -> Iterator[str]:
    """A second namespace beside the test's own."""
    name = f"{namespace}-other"
    ground.make_namespace(name)
    yield name
    ground.core.delete_namespace(name)


@pytest.fixture
def zookeeper() -> None:
    """The ground's own; see ``Stand`` for others."""


@pytest.fixture
def stand(
    ground: Ground, namespace: str, zookeeper: Servers | None, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stand]:
    """The test's own part of the ground.  As it ends, all that was witnessed is judged.

    A test allows an invariant by its name, with a reason: ``@pytest.mark.allows(I1="…")``.
    """
    namespaces = [namespace]
    if "other_namespace" in request.fixturenames:
        namespaces.append(request.getfixturevalue("other_namespace"))
    with Stand(ground, namespaces, tmp_path, zookeeper=zookeeper) as made:
        for marker in request.node.iter_markers("allows"):
            for invariant, reason in marker.kwargs.items():
                made.allow(invariant, reason)
        yield made
        made.heal()
        if getattr(request.node, "failed", False):
            for replica in made.replicas:
                print(replica.text())
        else:
            made.check()


@pytest.fixture
def world(stand: Stand) -> World:
    """The test's namespace, and its chroot of ZooKeeper."""
    return stand.world()


@pytest.fixture
def connect(stand: Stand) -> Callable[[], KazooClient]:
    """Makes ZooKeeper clients that are not ours: they read what any other would, below the test's chroot."""
    return stand.connect


@pytest.fixture
def zk(stand: Stand) -> KazooClient:
    """One of them."""
    return stand.zk


@pytest.fixture
def api(stand: Stand) -> HttpProxy:
    """A proxy that sees requests to the API server."""
    return stand.api


@pytest.fixture
def through_api(stand: Stand, api: HttpProxy) -> Path:
    """The controller's kubeconfig, leading through ``api``."""
    return stand.kubeconfig(api.server)


@pytest.fixture
def zk_proxy(stand: Stand) -> Proxy:
    """A proxy in front of ZooKeeper."""
    return stand.zk_proxy


@pytest.fixture
def start_controller(stand: Stand) -> Callable[..., Replica]:
    """Starts a replica of the controller, with default flags and those given; see ``Stand.start``."""

    def start(*flags: str, leader_elect: bool = True, wait: bool = True, **more: object) -> Replica:
        replica = stand.start(*flags, *([] if leader_elect else ["--no-leader-elect"]), **more)
        if wait:
            eventually(replica.leads, TO_START)
        return replica

    return start


@pytest.fixture
def controller(start_controller: Callable[..., Replica]) -> Replica:
    """The public command, running."""
    return start_controller()
