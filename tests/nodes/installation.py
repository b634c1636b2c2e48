"""The controller and what it needs, installed on real nodes by the manifests that users apply."""

import json
from functools import partial
from pathlib import Path

import yaml
from kazoo.client import KazooClient

from hack.local.cluster import LocalCluster
from hack.local.nodes import RealCluster
from tests.nodes.pods import eventually

TOP = Path(__file__).parents[2]
EXAMPLES = TOP / "examples"
KUSTOMIZE = TOP / "deploy" / "kustomize"
NAMESPACE = "rpcregistry"
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
    """Apply manifests of examples/, as they are."""
    for name in names:
        cluster.kubectl("apply", "-f", str(EXAMPLES / name))


def rolled_out(cluster: LocalCluster, namespace: str, *deployments: str) -> None:
    """Wait until all pods of Deployments are of its last template, and Ready."""
    for name in deployments:
        cluster.kubectl("rollout", "status", "-n", namespace, f"deployment/{name}", WAITS)


def leader(cluster: LocalCluster, namespace: str = NAMESPACE) -> str:
    """Who holds the Lease; empty if nobody does."""
    wanted = "jsonpath={.spec.holderIdentity}"
    return cluster.kubectl("get", "lease", "-n", namespace, "rpcregistry", "-o", wanted)


def controllers(cluster: LocalCluster, namespace: str = NAMESPACE) -> dict[str, str]:
    """The controller's pods that are not about to end: name to Node."""
    listed = _pods(cluster, namespace, "app.kubernetes.io/name=rpcregistry")
    return {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in listed if "nodeName" in pod["spec"]}


def logs(real: RealCluster, namespace: str = NAMESPACE) -> str:
    """What the containers of the controller's pods have printed, the former ones, too."""
    pods = controllers(real.control, namespace)
    return "".join(real.nodes[node].logs(namespace, name) for name, node in pods.items())


def addresses(cluster: LocalCluster, app: str, namespace: str = "default") -> list[str]:
    """The addresses of an app's pods that are not about to end, in order."""
    return sorted(str(pod["status"].get("podIP")) for pod in _pods(cluster, namespace, app))


def servers(client: KazooClient, service: str) -> list[str]:
    """The addresses that clients read."""
    if not client.exists(f"/rpc_v2/{service}"):
        return []
    return sorted(json.loads(client.get(f"/rpc_v2/{service}")[0])["servers"])


def published(cluster: LocalCluster, client: KazooClient, count: int) -> bool:
    """Whether so many pods of the example run, and both of its services have them."""
    expected = addresses(cluster, "app=test-rpc-service")
    return len(expected) == count and all(
        servers(client, f"test-rpc-server-{number}") == expected for number in (1, 2)
    )


def scale(cluster: LocalCluster, client: KazooClient, count: int) -> None:
    """Scale the example, and wait until that is published."""
    cluster.kubectl("scale", "deployment/test-rpc-service", f"--replicas={count}")
    eventually(partial(published, cluster, client, count))


def _pods(cluster: LocalCluster, namespace: str, selector: str) -> list[dict[str, dict[str, str]]]:
    found = json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json"))
    return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]
