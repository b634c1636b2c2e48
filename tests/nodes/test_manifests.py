"""The manifests of examples/, applied as they are: real images, rights, policies, probes and DNS names."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest
from kazoo.client import KazooClient

from hack.local import images
from hack.local.cluster import LocalCluster
from hack.local.nodes import RealCluster
from tests.nodes.installation import (
    EXAMPLES,
    apply,
    controllers,
    image_of,
    leader,
    published,
    rolled_out,
    scale,
    servers,
)
from tests.nodes.pods import eventually
from tests.pages import Page

pytestmark = [pytest.mark.deep, pytest.mark.needs_root]


def test_the_pods_of_the_example_are_published(installed: LocalCluster, their_zookeeper: KazooClient) -> None:
    eventually(partial(published, installed, their_zookeeper, 3))
    for command in shown_with_exec():
        assert installed.kubectl(*shlex.split(command)[1:]), command


def shown_with_exec() -> list[str]:
    """What the pages run in a pod of the controller; there are some."""
    pages = (Page("docs/install.md"), Page("docs/runbooks.md"))
    found = [command for page in pages for command in page.all_commands() if " -- rpcregistry " in command]
    assert [command.split(" -- rpcregistry ")[1] for command in found] == ["check --wait 2m", "status"]
    return found


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
    delete_the_leader(installed)
    scale(installed, their_zookeeper, 4)


def test_the_other_replica_leads_once_the_leaders_node_hangs(
    real: RealCluster, installed: LocalCluster, their_zookeeper: KazooClient
) -> None:
    """Pods of the example hang with it, and are replaced.  When it goes on, the old leader writes nothing."""
    zookeeper = where(installed, "zookeeper")
    if leaders_node(installed) == zookeeper:
        delete_the_leader(installed)
    eventually(lambda: leaders_node(installed) not in (None, zookeeper))
    before, node = leader(installed), real.nodes[str(leaders_node(installed))]
    node.freeze()
    try:
        eventually(lambda: leader(installed) not in ("", before))
        eventually(lambda: not any(name in before for name in controllers(installed)))
        scale(installed, their_zookeeper, 5)
        _, then = their_zookeeper.get("/rpc_v2/test-rpc-server-1")
    finally:
        node.thaw()
    eventually(lambda: not any(name in before for name in every_pod(installed)))
    rolled_out(installed, "rpcregistry", "rpcregistry")
    assert leader(installed) not in ("", before)
    assert published(installed, their_zookeeper, 5)
    _, now = their_zookeeper.get("/rpc_v2/test-rpc-server-1")
    assert now.version == then.version


def delete_the_leader(cluster: LocalCluster) -> None:
    """Delete the leader's pod, and wait until another leads."""
    before = leader(cluster)
    (pod,) = (name for name in controllers(cluster) if name in before)
    cluster.kubectl("delete", "pod", "-n", "rpcregistry", pod, "--wait=false")
    eventually(lambda: leader(cluster) not in ("", before))


def leaders_node(cluster: LocalCluster) -> str | None:
    """The Node whose pod leads."""
    holder = leader(cluster)
    return next((node for name, node in controllers(cluster).items() if name in holder), None)


def where(cluster: LocalCluster, app: str) -> str:
    """The Node of an app's only pod."""
    wanted = ("-l", f"app.kubernetes.io/name={app}", "-o", "jsonpath={.items[*].spec.nodeName}")
    return cluster.kubectl("get", "pods", "-n", "rpcregistry", *wanted)


def every_pod(cluster: LocalCluster) -> list[str]:
    """The pods of the controller, those that end among them."""
    names = ("-l", "app.kubernetes.io/name=rpcregistry", "-o", "name")
    found = cluster.kubectl("get", "pods", "-n", "rpcregistry", *names)
    return [name.removeprefix("pod/") for name in found.split()]


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
