"""The packet suite's cluster: nodes that are network namespaces, a kube-proxy on each, and a CoreDNS."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from kubernetes import client, config

from hack.local import netns
from hack.local.addons import run_dns
from hack.local.cluster import LocalCluster
from hack.local.netns import Network, make_network
from tests.cluster.conftest import namespace, zk
from tests.cluster.fixtures import controller, crds, start_controller, world
from tests.cluster.world import World
from tests.packets.nodes import Node, run_node

# Fixtures are found by their names in here.
__all__ = ["controller", "crds", "namespace", "start_controller", "world", "zk"]

NODES = ("node1", "node2", "node3")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A control plane without nodes."""
    reason = netns.missing()
    if reason:
        pytest.skip(reason)
    with LocalCluster(tmp_path_factory.mktemp("packets"), nodes=0) as local:
        yield local


@pytest.fixture(scope="session")
def core(cluster: LocalCluster) -> client.CoreV1Api:
    """The API, as its administrator."""
    return client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory, cluster: LocalCluster) -> Iterator[Network]:
    """The network that the nodes are in."""
    with make_network(tmp_path_factory.mktemp("network")) as made:
        yield made


@pytest.fixture(scope="session")
def dns(network: Network, cluster: LocalCluster) -> Iterator[str]:
    """The address of a CoreDNS."""
    with run_dns(network, cluster) as address:
        yield address


@pytest.fixture(scope="session")
def three_nodes(network: Network, cluster: LocalCluster, core: client.CoreV1Api) -> Iterator[dict[str, Node]]:
    """The nodes."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(run_node(name, network, cluster, core)) for name in NODES}


@pytest.fixture
def nodes(three_nodes: dict[str, Node], dns: str, world: World) -> Iterator[dict[str, Node]]:
    """The nodes by name; their programs look names up in the test's namespace first."""
    for node in three_nodes.values():
        node.machine.resolve_through(dns, f"{world.namespace}.svc.cluster.local")
    yield three_nodes
    for node in three_nodes.values():
        node.stop_pods(world)
