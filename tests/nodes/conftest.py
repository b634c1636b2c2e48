"""Real nodes, and the public command that publishes what they run."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from hack.local import images, nodes
from hack.local.cluster import LocalCluster
from hack.local.nodes import HASTY, Node, RealCluster, real_cluster
from tests.cluster.conftest import zk
from tests.cluster.fixtures import crds, operator, pytest_runtest_makereport
from tests.cluster.world import Controller, World
from tests.nodes.installation import EXAMPLES, apply, image_of, rolled_out
from tests.nodes.pods import Pods, eventually, is_ready

# Fixtures and hooks are found by their names in here.
__all__ = ["crds", "operator", "pytest_runtest_makereport", "zk"]

NAMESPACE = "nodes"


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RealCluster]:
    """A control plane and two real nodes; a parameter says how long it waits for a silent one."""
    if reason := nodes.missing():
        pytest.skip(reason)
    waits = getattr(request, "param", HASTY)
    with real_cluster(tmp_path_factory.mktemp("nodes"), waits=waits) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster(real: RealCluster) -> LocalCluster:
    """The control plane."""
    return real.control


@pytest.fixture(scope="session")
def namespace(cluster: LocalCluster) -> str:
    """The namespace of all these tests: what runs has names of its own."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    return NAMESPACE


@pytest.fixture(scope="session")
def world(cluster: LocalCluster, crds: None, namespace: str, zk: KazooClient) -> World:
    """The namespace, and the znodes."""
    return World(cluster.kubeconfig, cluster.kubectl, namespace, zk, "/rpc_v2")


@pytest.fixture(scope="module")
def controller(
    cluster: LocalCluster, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Controller]:
    """The public command with its default flags, for the whole cluster."""
    log = tmp_path_factory.mktemp("controller") / "log"
    flags = ("--lease-namespace", world.namespace)
    controller = Controller(cluster.kubeconfig, cluster.zk_servers, Path(log), *flags).start()
    eventually(controller.leads)
    yield controller
    controller.stop()


@pytest.fixture
def pods(
    real: RealCluster, world: World, controller: Controller, request: pytest.FixtureRequest
) -> Iterator[Pods]:
    """Runs pods; in the end, all Nodes are Ready again and the pods gone."""
    made = Pods(world)
    yield made
    if getattr(request.node, "failed", False):
        print(controller.text())
        print(world.kubectl("get", "pods", "-A", "-o", "wide"))
    made.remove()
    for name in real.nodes:
        eventually(partial(is_ready, world, name))


@pytest.fixture
def node1(real: RealCluster) -> Node:
    """A node."""
    return real.nodes["node1"]


@pytest.fixture
def node2(real: RealCluster) -> Node:
    """The node that things happen to."""
    return real.nodes["node2"]


@pytest.fixture(scope="session")
def product(real: RealCluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The images of the controller and of ZooKeeper, on the nodes."""
    if reason := images.unbuildable():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("images")
    tag = image_of("zookeeper.yaml", "zookeeper").partition(":")[2]
    built = images.built(image_of("controller.yaml", "rpcregistry"), "Dockerfile", folder)
    real.load(built, images.zookeeper(tag))


@pytest.fixture(scope="module")
def installed(cluster: LocalCluster, crds: None, product: None) -> Iterator[LocalCluster]:
    """The controller and the ZooKeeper that it names, a service of three pods, and an app on each node."""
    apply(cluster, "controller.yaml", "zookeeper.yaml")
    rolled_out(cluster, "rpcregistry", "zookeeper", "rpcregistry")
    apply(cluster, "test-rpc-service.yaml", "localservice.yaml")
    rolled_out(cluster, "default", "test-rpc-service", "localservice-app")
    yield cluster
    names = ("localservice.yaml", "test-rpc-service.yaml", "zookeeper.yaml", "controller.yaml")
    for name in names:
        cluster.kubectl("delete", "-f", str(EXAMPLES / name))


@pytest.fixture(scope="module")
def their_zookeeper(real: RealCluster, installed: LocalCluster) -> Iterator[KazooClient]:
    """A client of the ZooKeeper in the cluster."""
    wanted = "jsonpath={.spec.clusterIP}"
    address = installed.kubectl("get", "service", "-n", "rpcregistry", "zookeeper", "-o", wanted)
    with real.forward(address, 2181) as proxy:
        client = KazooClient(proxy.address)
        client.start()
        yield client
        client.stop()
        client.close()
