"""Nodes that are machines of a network: each with its kube-proxy, its pods, and a curl to call them with."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kubernetes import client

from hack.local.addons import machine_of, start_kube_proxy
from hack.local.cluster import LocalCluster
from hack.local.netns import Machine, Network
from hack.local.process import Process
from tests.cluster.world import World

PORT = 8080
POD = Path(__file__).with_name("pod.py")


class Landing(NamedTuple):
    """One request: the name that it was sent to, and where it came out."""

    name: str
    node: str
    pod: str


class Node:
    """A node: its machine, and the pods that run there."""

    def __init__(self, name: str, machine: Machine) -> None:
        self.name = name
        self.machine = machine
        self._pods: dict[str, Process] = {}

    def run_pod(
        self, world: World, name: str, *services: Mapping[str, Any], labels: Mapping[str, str] | None = None
    ) -> str:
        """Create a pod that is bound to this node, run it, and say that it is Ready; return its address."""
        address = self.machine.add_address()
        command = [sys.executable, str(POD), address, str(PORT), self.name, name]
        url = f"http://{address}:{PORT}"
        self._pods[name] = self.machine.start(name, command, lambda: self.machine.answers(url))
        world.create_pod(name, *services, ip=address, labels=labels, node=self.name)
        return address

    def stop_pod(self, world: World, name: str) -> None:
        """Delete a pod that ran here."""
        world.delete_pod(name)
        self._pods.pop(name).kill()

    def stop_pods(self, world: World) -> None:
        """Delete all that still run here."""
        for name in list(self._pods):
            self.stop_pod(world, name)

    def curl(self, *names: str, port: int = PORT, times: int = 20) -> list[Landing]:
        """Ask each Service so often, by name; return where the requests landed, up to one that fails."""
        done = self._curl(*(f"http://{name}:{port}/[1-{times}]" for name in names))
        return [Landing(*line.split()) for line in done.stdout.splitlines()]

    def refused(self, name: str) -> bool:
        """Whether a Service's name is known, and nobody answers there (curl(1): exit code 7)."""
        return self._curl(f"http://{name}:{PORT}").returncode == 7

    def unknown(self, name: str) -> bool:
        """Whether there is no such name (curl(1): exit code 6)."""
        return self._curl(f"http://{name}:{PORT}").returncode == 6

    def _curl(self, *urls: str) -> subprocess.CompletedProcess[str]:
        return self.machine.run("curl", "--silent", "--fail-early", "--connect-timeout", "10", *urls)

    def resolve(self, name: str) -> set[str]:
        """The addresses that a name stands for."""
        output = self.machine.run("getent", "ahostsv4", name)
        return {line.split()[0] for line in output.stdout.splitlines()}


def counted(landings: list[Landing]) -> Counter[tuple[str, str]]:
    """How often a request to a name came out at a node."""
    return Counter((landing.name, landing.node) for landing in landings)


@contextmanager
def run_node(name: str, network: Network, cluster: LocalCluster, core: client.CoreV1Api) -> Iterator[Node]:
    """A node with its kube-proxy; in the end it is switched off, and then deleted, as cloud providers do."""
    core.create_node({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})
    try:
        with machine_of(name, network, cluster) as machine:
            status = {
                "addresses": [{"type": "InternalIP", "address": machine.address}],
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            }
            core.patch_node_status(name, {"status": status})
            # Nodes pass packets on: what comes to a node port may be for a pod of another node.
            machine.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
            start_kube_proxy(name, machine, cluster)
            yield Node(name, machine)
    finally:
        core.delete_node(name)
