"""Pods that a kubelet runs, and what another client sees of them in ZooKeeper."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from hack.local.nodes import Node
from tests.cluster import waiting
from tests.cluster.waiting import T
from tests.cluster.world import World

PORT = 8080
PATIENCE = 120.0  # seconds, which only a failure takes
# "No" counts at once. No answer within 20 s says only that the machine is busy.
PROBE = {
    "httpGet": {"path": "/ready", "port": PORT},
    "periodSeconds": 1,
    "failureThreshold": 1,
    "timeoutSeconds": 20,
}
STAYS = ({"operator": "Exists", "effect": "NoExecute"},)  # tolerations of who is not evicted


def eventually(look: Callable[[], T], timeout: float = PATIENCE) -> T:
    """Call *look* until it returns a true value; return that.  Kubelets take their time on a busy machine."""
    return waiting.eventually(look, timeout)


def server(*arguments: str, probe: bool = True, **container: Any) -> dict[str, Any]:
    """A container that answers over HTTP; *probe*: it is Ready while it says so."""
    name = container.pop("name", "server")
    probes = {"readinessProbe": PROBE} if probe else {}
    args = [f"--http-port={PORT}", *arguments]
    return {"name": name, "image": "test-server:1", "args": args, **probes, **container}


class Pods:
    """The pods of a test: each serves the service of its own name, unless another is given."""

    def __init__(self, world: World) -> None:
        self.world = world

    def create(
        self, name: str, *containers: Mapping[str, Any], service: str | None = None, **spec: Any
    ) -> None:
        """Create a pod; without containers, it has one that is a ``server()``."""
        grace = {"terminationGracePeriodSeconds": 2}
        found = list(containers) or [server()]
        self.world.create_pod(name, service or name, containers=found, **{"node": "node2", **grace, **spec})

    def run(self, name: str, *containers: Mapping[str, Any], **spec: Any) -> str:
        """Create a pod, and wait until it is published; return its address."""
        self.create(name, *containers, **spec)
        eventually(lambda: self.servers(name) == [self.address(name)] != [None])
        return str(self.address(name))

    def address(self, name: str) -> str | None:
        """The pod's address, once there is such a pod and it has one."""
        listed = self.world.core.list_namespaced_pod(
            self.world.namespace, field_selector=f"metadata.name={name}"
        ).items
        return next((str(pod.status.pod_ip) for pod in listed if pod.status.pod_ip), None)

    def servers(self, service: str) -> list[str] | None:
        """The addresses in the service's znode; None if there is none."""
        return self.world.servers(service)

    def statuses(self, name: str) -> dict[str, Any]:
        """What the kubelet says of each container."""
        status = self.world.pod(name)["status"]
        listed = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
        return {each["name"]: each for each in listed}

    def delete(self, name: str, **options: Any) -> None:
        """Delete the pod as users do, gracefully."""
        self.world.core.delete_namespaced_pod(name, self.world.namespace, **options)

    def names(self) -> set[str]:
        """The pods that there are."""
        listed = self.world.core.list_namespaced_pod(self.world.namespace).items
        return {str(pod.metadata.name) for pod in listed}

    def ready(self, app: str, node: str) -> list[str]:
        """The addresses of the app's Ready pods on a node, in order."""
        listed = self.world.core.list_namespaced_pod(self.world.namespace, label_selector=f"app={app}").items
        return sorted(
            str(pod.status.pod_ip)
            for pod in listed
            if pod.spec.node_name == node
            and not pod.metadata.deletion_timestamp
            and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)
        )

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """Apply other objects to the namespace."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        self.world.kubectl("apply", "-n", self.world.namespace, "-f", "-", input=text)

    def remove(self) -> None:
        """Delete all that the test has made, and wait until it is gone."""
        kinds = "deployments,jobs,poddisruptionbudgets,localservices,pods"
        self.world.kubectl("delete", kinds, "-n", self.world.namespace, "--all", "--wait=false")
        eventually(lambda: not self.names())


def ask(node: Node, address: str, path: str = "hostname") -> str | None:
    """What the pod at an address answers to a program on a node; None if it does not."""
    return node.get(f"http://{address}:{PORT}/{path}")


def template(name: str, *containers: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod template whose pods serve the service *name*."""
    return {
        "metadata": {
            "labels": {"app": name, "rpc-service": "true"},
            "annotations": {"rpc-service": json.dumps([{"serviceName": name}])},
        },
        "spec": {"containers": list(containers), "terminationGracePeriodSeconds": 2, **spec},
    }


def is_ready(world: World, node: str) -> bool:
    """Whether the Node is Ready."""
    conditions = world.core.read_node(node).status.conditions or ()
    return any(c.type == "Ready" and c.status == "True" for c in conditions)
