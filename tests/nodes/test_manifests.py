"""The manifests of examples/, applied as they are: real images, rights, policies, probes and DNS names."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from kazoo.client import KazooClient

from hack.local import images
from hack.local.cluster import LocalCluster
from hack.local.nodes import RealCluster
from tests.nodes.pods import eventually

pytestmark = [pytest.mark.deep, pytest.mark.needs_root]

EXAMPLES = Path(__file__).parents[2] / "examples"
HOLDER = ("get", "lease", "-n", "rpcregistry", "rpcregistry", "-o", "jsonpath={.spec.holderIdentity}")
WAITS = "--timeout=180s"


def image_of(manifest: str, deployment: str) -> str:
    """The image that a Deployment of an example names."""
    found = yaml.safe_load_all((EXAMPLES / manifest).read_text())
    (pod,) = (
        each["spec"]["template"]["spec"]
        for each in found
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", deployment)
    )
    return str(pod["containers"][0]["image"])


def apply(cluster: LocalCluster, *names: str) -> None:
    for name in names:
        cluster.kubectl("apply", "-f", str(EXAMPLES / name))


def rolled_out(cluster: LocalCluster, namespace: str, *deployments: str) -> None:
    for name in deployments:
        cluster.kubectl("rollout", "status", "-n", namespace, f"deployment/{name}", WAITS)


@pytest.fixture(scope="module")
def installed(
    real: RealCluster, cluster: LocalCluster, crds: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalCluster]:
    """The controller, and the ZooKeeper that it names."""
    if reason := images.unbuildable():
        pytest.skip(reason)
    product = images.built(
        image_of("controller.yaml", "rpcregistry"), "Dockerfile", tmp_path_factory.mktemp("images")
    )
    tag = image_of("zookeeper.yaml", "zookeeper").partition(":")[2]
    real.load(product, images.zookeeper(tag))
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
    address = installed.kubectl(
        "get", "service", "-n", "rpcregistry", "zookeeper", "-o", "jsonpath={.spec.clusterIP}"
    )
    with real.forward(address, 2181) as proxy:
        client = KazooClient(proxy.address)
        client.start()
        yield client
        client.stop()
        client.close()


def ready_addresses(cluster: LocalCluster, app: str) -> list[str]:
    """The addresses of an app's pods that are not about to end, in order."""
    listed = json.loads(cluster.kubectl("get", "pods", "-l", app, "-o", "json"))["items"]
    pods = [pod for pod in listed if "deletionTimestamp" not in pod["metadata"]]
    return sorted(str(pod["status"].get("podIP")) for pod in pods)


def servers(client: KazooClient, service: str) -> list[str]:
    """The addresses that clients read."""
    if not client.exists(f"/rpc_v2/{service}"):
        return []
    return sorted(json.loads(client.get(f"/rpc_v2/{service}")[0])["servers"])


def published(cluster: LocalCluster, client: KazooClient, count: int) -> bool:
    expected = ready_addresses(cluster, "app=test-rpc-service")
    return len(expected) == count and all(
        servers(client, f"test-rpc-server-{number}") == expected for number in (1, 2)
    )


def test_the_pods_of_the_example_are_published(installed: LocalCluster, their_zookeeper: KazooClient) -> None:
    eventually(partial(published, installed, their_zookeeper, 3))


def test_a_local_service_answers_by_its_name_from_the_pods_of_its_node(
    real: RealCluster, installed: LocalCluster
) -> None:
    listed = json.loads(installed.kubectl("get", "pods", "-l", "kind=localservice-app", "-o", "json"))[
        "items"
    ]
    for target in real.nodes:
        pods = {pod["metadata"]["name"] for pod in listed if pod["spec"]["nodeName"] == target}
        for sender in real.nodes.values():
            url = f"http://localservice-app-{target}.default:8080/hostname"
            eventually(partial(sender.get, url))
            assert {sender.get(url) for _ in range(10)} <= pods


def test_the_other_replica_leads_once_the_leader_is_deleted(
    installed: LocalCluster, their_zookeeper: KazooClient
) -> None:
    leader = installed.kubectl(*HOLDER)
    names = installed.kubectl("get", "pods", "-n", "rpcregistry", "-o", "name").split()
    (pod,) = (name for name in names if name.removeprefix("pod/") in leader)
    installed.kubectl("delete", "-n", "rpcregistry", pod, "--wait=false")
    eventually(lambda: installed.kubectl(*HOLDER) not in ("", leader))
    installed.kubectl("scale", "deployment/test-rpc-service", "--replicas=4")
    eventually(partial(published, installed, their_zookeeper, 4))


@pytest.fixture(scope="module")
def peer_cache(
    real: RealCluster, installed: LocalCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of the cache in its namespace, which all three pods hold."""
    manifest = "peer-cache/manifest.yaml"
    name = image_of(manifest, "peer-cache")
    real.load(images.built(name, "examples/peer-cache/Dockerfile", tmp_path_factory.mktemp("images")))
    apply(installed, "sdk-role.yaml", manifest)
    rolled_out(installed, "peer-cache", "peer-cache")
    yield "http://peer-cache.peer-cache/cache/1"
    installed.kubectl("delete", "--wait=false", "-f", str(EXAMPLES / manifest))


def test_the_peer_cache_loses_no_request_in_a_rolling_restart(
    real: RealCluster, installed: LocalCluster, their_zookeeper: KazooClient, peer_cache: str
) -> None:
    machine = real.nodes["node1"].machine
    done = machine.run("curl", "--silent", "--fail", "-X", "PUT", peer_cache, "-d", '{"colour": "green"}')
    assert done.returncode == 0, done.stderr
    eventually(lambda: len(servers(their_zookeeper, "peer-cache")) == 3)
    # Each request has to find its own way, and none may come by the connection of another.  curl ends at the
    # first that fails.
    reads = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--fail-early",
        "--rate",
        "20/s",
        "--max-time",
        "5",
    ]
    command = machine.command(*reads, "--header", "Connection: close", f"{peer_cache}#[1-100000]")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as reader:
        before = names(installed)
        installed.kubectl("rollout", "restart", "-n", "peer-cache", "deployment/peer-cache")
        rolled_out(installed, "peer-cache", "peer-cache")
        eventually(lambda: not names(installed) & before)
        still_reads = reader.poll() is None
        reader.terminate()
        answers = reader.stdout.read() if reader.stdout else ""
    assert still_reads, answers[-500:]
    assert answers.count("green") > 20
    eventually(lambda: len(servers(their_zookeeper, "peer-cache")) == 3)


def names(cluster: LocalCluster) -> set[str]:
    """The pods of the cache, those that end among them."""
    return set(cluster.kubectl("get", "pods", "-n", "peer-cache", "-o", "name").split())
