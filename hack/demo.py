"""``make demo``: the whole journey, each step checked.

It uses a local cluster of its own, whose nodes are kwok's or, with ``NODES=real``, kubelets; or the one of
``$KUBECONFIG`` and ``$ZK_SERVERS``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from rich.console import Console

from hack.local import nodes
from hack.local.binaries import Unavailable, find
from hack.local.cluster import LocalCluster
from hack.local.controller import controller, finished
from hack.local.nodes import Node, real_cluster
from hack.playground import CRDS, EXAMPLES, Playground

PATIENCE = 120.0  # seconds, which only a failure takes
SERVICE = "test-rpc-server-1"
WORKLOAD = EXAMPLES / "test-rpc-service.yaml"
LOCAL = EXAMPLES / "localservice.yaml"
APP = "localservice-app"

console = Console(highlight=False)


class Unexpected(Exception):
    """A step did not show the expected state."""


@dataclass
class Stage:
    """The cluster and ZooKeeper of the demo, whether kwok runs the pods, and the real nodes that are ours."""

    kubeconfig: Path
    zk_servers: str
    pretended: bool
    nodes: Mapping[str, Node] = field(default_factory=dict)

    def kubectl(self, *arguments: str, show: bool = True) -> str:
        """Run kubectl; print the command and its output."""
        command = [str(find("kubectl")), *arguments]
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unexpected(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        if show:
            console.print(f"[bold]$ kubectl {' '.join(arguments)}[/]")
            console.print(done.stdout.rstrip(), markup=False)
        return done.stdout

    def addresses(self) -> list[str]:
        """The addresses of the Ready pods, in numeric order."""
        pods = json.loads(self.kubectl("get", "pods", "-l", "app=test-rpc-service", "-o", "json", show=False))
        ready = [
            pod["status"]["podIP"]
            for pod in pods["items"]
            if "deletionTimestamp" not in pod["metadata"]
            and pod["status"].get("podIP")
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])
        ]
        return sorted(ready, key=lambda ip: [int(part) for part in ip.split(".")])


def main() -> int:
    """Play the demo; return the exit code."""
    began = time.monotonic()
    try:
        with _stage() as stage, _client(stage.zk_servers) as client:
            _journey(stage, client)
    except (Unexpected, Unavailable, RuntimeError) as error:
        console.print(f"[red]The demo failed:[/] {error}")
        return 1
    console.print(f"\n[green]Every step showed what it should[/] ({time.monotonic() - began:.0f} s).")
    return 0


@contextmanager
def _stage() -> Iterator[Stage]:
    kubeconfig, zk_servers = os.environ.get("KUBECONFIG"), os.environ.get("ZK_SERVERS")
    with tempfile.TemporaryDirectory(prefix="rpcregistry-demo-") as temporary:
        if kubeconfig and zk_servers:
            _title(f"Using the cluster of {kubeconfig} and ZooKeeper at {zk_servers}")
            stage = Stage(Path(kubeconfig), zk_servers, pretended=False)
            with _on_a_given_cluster(stage, Path(temporary)):
                yield stage
            return
        if kubeconfig or zk_servers:
            raise Unexpected("set both KUBECONFIG and ZK_SERVERS to use a cluster that is there, or neither")
        match os.environ.get("NODES", "kwok"):
            case "kwok":
                _title("A real control plane, three kwok nodes and a real ZooKeeper, on loopback")
                with _playing(Playground(Path(temporary))) as cluster:
                    yield Stage(cluster.kubeconfig, cluster.zk_servers, pretended=True)
            case "real":
                if reason := nodes.missing():
                    raise Unexpected(reason)
                _title("A real control plane, two real nodes and a real ZooKeeper, in namespaces")
                with (
                    real_cluster(Path(temporary) / "cluster") as real,
                    _playing(Playground(Path(temporary), real.control)) as cluster,
                ):
                    yield Stage(cluster.kubeconfig, cluster.zk_servers, pretended=False, nodes=real.nodes)
            case other:
                raise Unexpected(f"NODES is kwok or real, not {other}")


@contextmanager
def _playing(playground: Playground) -> Iterator[LocalCluster]:
    try:
        playground.up(lambda message: console.print(f"  {message}", soft_wrap=True))
        yield playground.cluster
    finally:
        _title("Stopping it all")
        playground.down()


@contextmanager
def _on_a_given_cluster(stage: Stage, directory: Path) -> Iterator[None]:
    stage.kubectl("apply", "-f", str(CRDS))
    # If a controller runs already, this one waits to take over.
    namespaces = stage.kubectl("get", "namespaces", "-o", "name", show=False).split()
    follower = controller(
        directory,
        lambda: True,
        kubeconfig=stage.kubeconfig,
        zk_servers=stage.zk_servers,
        lease_namespace="rpcregistry" if "namespace/rpcregistry" in namespaces else "default",
        bind_address="127.0.0.1:0",
    )
    follower.start()
    try:
        yield
    finally:
        stage.kubectl("delete", "--ignore-not-found", "-f", str(WORKLOAD), "-f", str(LOCAL))
        time.sleep(2)  # the controller withdraws the pods
        follower.stop()


@contextmanager
def _client(servers: str) -> Iterator[KazooClient]:
    client = KazooClient(servers)
    client.start()
    try:
        yield client
    finally:
        client.stop()
        client.close()


def _journey(stage: Stage, client: KazooClient) -> None:
    _title("1  Pods that say which services they serve")
    stage.kubectl("apply", "-f", str(WORKLOAD))
    _until("3 pods are listed and published", lambda: _agrees(stage, client, 3))
    _until("SYNCED is True", lambda: _synced(stage))
    stage.kubectl("get", "rpcservices")
    _show_znode(client)

    _title("2  A pod is added")
    stage.kubectl("scale", "deployment/test-rpc-service", "--replicas=4")
    _until("4 pods are published", lambda: _agrees(stage, client, 4))
    _show_znode(client)

    _title("3  A pod turns not Ready")
    victim = stage.kubectl("get", "pods", "-l", "app=test-rpc-service", "-o", "name", show=False).split()[0]
    if stage.pretended:
        condition = {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}
        patch = json.dumps({"status": {"conditions": [condition]}})
        stage.kubectl("patch", victim, "--subresource=status", "--type=strategic", "-p", patch)
        _until("3 of 4 are published", lambda: _agrees(stage, client, 3))
        stage.kubectl("get", "rpcservices")
        _show_znode(client)
    else:
        console.print("  left out: here a kubelet says whether a pod is Ready")

    _title("4  A pod is deleted, and its Deployment makes another")
    stage.kubectl("delete", victim, "--wait=true")
    _until("4 pods are published", lambda: _agrees(stage, client, 4))
    _show_znode(client)

    _title("5  The registry holds what the RpcServices list")
    _until("`rpcregistry verify` says: in sync", lambda: _verify(stage))

    _title("6  No pod is left")
    stage.kubectl("scale", "deployment/test-rpc-service", "--replicas=0")
    _until("the znode is deleted", lambda: _servers(client) is None)
    _until("no RpcService is left", lambda: not stage.kubectl("get", "rpcservices", "-o", "name", show=False))
    console.print(f"[bold]\\[zk] ls /rpc_v2[/]\n\\[{', '.join(client.get_children('/rpc_v2'))}]")

    _title("7  A LocalService: every node gets its own Service")
    stage.kubectl("apply", "-f", str(LOCAL))
    names = stage.kubectl("get", "nodes", "-o", "name", show=False).split()
    _until(f"{len(names)} nodes have a Service each", lambda: len(_node_services(stage)) == len(names))
    _until("each leads to the pods of its node, and to no others", lambda: _routes(stage))
    stage.kubectl("get", "localservices")
    stage.kubectl("get", "services", "-l", f"owner={APP}")
    for sender in stage.nodes.values():
        for target in stage.nodes:
            _call(stage, sender, target)
    stage.kubectl("delete", "-f", str(LOCAL), "--wait=true")
    _until("its Services are deleted", lambda: not _node_services(stage))


def _agrees(stage: Stage, client: KazooClient, count: int) -> bool:
    addresses = stage.addresses()
    return len(addresses) == count and _servers(client) == addresses


def _synced(stage: Stage) -> bool:
    listed = stage.kubectl("get", "rpcservices", "--no-headers", show=False)
    return all(line.split()[3:4] == ["True"] for line in listed.splitlines())


def _verify(stage: Stage) -> bool:
    done = finished("verify", kubeconfig=stage.kubeconfig, zk_servers=stage.zk_servers)
    return done.returncode == 0 and "in sync" in done.stdout


def _node_services(stage: Stage) -> dict[str, str]:
    """The LocalService's Services: name to node."""
    found = stage.kubectl("get", "services", "-l", f"owner={APP}", "-o", "json", show=False)
    return {
        item["metadata"]["name"]: item["metadata"]["annotations"]["rpcregistry.dev/node-name"]
        for item in json.loads(found)["items"]
    }


def _routes(stage: Stage) -> bool:
    """Whether each Service has the Ready pods of its node as endpoints, and at least one."""
    pods = json.loads(stage.kubectl("get", "pods", "-l", f"kind={APP}", "-o", "json", show=False))["items"]
    slices = json.loads(stage.kubectl("get", "endpointslices", "-o", "json", show=False))["items"]
    ready = {
        (pod["spec"].get("nodeName"), pod["status"].get("podIP"))
        for pod in pods
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
    }
    services = _node_services(stage)
    routed = {
        (services[owner], address)
        for part in slices
        if (owner := part["metadata"]["labels"]["kubernetes.io/service-name"]) in services
        for endpoint in part["endpoints"] or ()
        if endpoint["conditions"].get("ready")
        for address in endpoint["addresses"]
    }
    return len(ready) == len(pods) > 0 and routed == ready


def _call(stage: Stage, sender: Node, target: str) -> None:
    """Call the Service of a node from another, or from itself; a pod of that node answers."""
    url = f"http://{APP}-{target}.default:8080/hostname"
    pods = json.loads(stage.kubectl("get", "pods", "-l", f"kind={APP}", "-o", "json", show=False))["items"]
    there = {pod["metadata"]["name"] for pod in pods if pod["spec"]["nodeName"] == target}
    console.print(f"[bold]\\[{sender.name}] $ curl {url}[/]")
    answers: list[str | None] = []

    def look() -> bool:
        answers.append(sender.get(url))
        return answers[-1] in there

    _until(f"a pod of {target} answers", look)
    console.print(f"{answers[-1]}", markup=False)


def _servers(client: KazooClient) -> list[str] | None:
    try:
        return list(json.loads(client.get(f"/rpc_v2/{SERVICE}")[0])["servers"])
    except NoNodeError:
        return None


def _show_znode(client: KazooClient) -> None:
    """Print a znode as ZooKeeper's own zkCli does."""
    console.print("[bold]\\[zk] ls /rpc_v2[/]")
    console.print(f"[{', '.join(sorted(client.get_children('/rpc_v2')))}]", markup=False)
    console.print(f"[bold]\\[zk] get /rpc_v2/{SERVICE}[/]")
    console.print(client.get(f"/rpc_v2/{SERVICE}")[0].decode(), markup=False, soft_wrap=True)


def _until(what: str, look: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not look():
        if time.monotonic() > end:
            raise Unexpected(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.1)
    console.print(f"  [green]✓[/] {what}")


def _title(text: str) -> None:
    console.print(f"\n[bold cyan]{text}[/]")


if __name__ == "__main__":
    sys.exit(main())
