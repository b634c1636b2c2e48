"""A controller that is told to stop, more than once; and one whose metrics port is flooded."""

import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from hack.local.cluster import LocalCluster, free_ports
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([signal.SIGINT, signal.SIGTERM], id="Ctrl-C, and what a script sends on top"),
        pytest.param([signal.SIGTERM, signal.SIGTERM], id="SIGTERM twice", marks=pytest.mark.full),
    ],
)
def test_two_signals_are_as_one_and_the_lease_is_given_back(
    world: World, start_controller: Callable[..., Controller], numbers: list[signal.Signals]
):
    controller = start_controller(leader_elect=True)
    for number in numbers:
        controller.signal(number)

    assert controller.wait(timeout=15) == 0
    lease = client.CoordinationV1Api(world.api).read_namespaced_lease("rpcregistry", world.namespace)
    assert not lease.spec.holder_identity


class FewFiles(Controller):
    """One that may open 40 files, as under ``ulimit -n 40``."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._command = ["sh", "-c", 'ulimit -n 40 && exec "$@"', "sh", *self._command]


@pytest.mark.full
def test_half_open_connections_to_the_metrics_port_cost_no_probe_and_no_change(
    cluster: LocalCluster, world: World, tmp_path: Path
):
    (port,) = free_ports(1)
    controller = FewFiles(
        cluster.kubeconfig,
        cluster.zk_servers,
        tmp_path / "controller.log",
        *("--namespace", world.namespace, "--layout", f"kube2zk={world.base}"),
        *("--lease-namespace", world.namespace, "--cluster-id", f"test-{world.namespace}"),
        *("--bind-address", f"127.0.0.1:{port}"),
    )
    controller.start()
    half_open: list[socket.socket] = []
    try:
        eventually(lambda: controller.leads() and is_healthy(port))
        lines = len(controller.logged())
        half_open = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(120)]
        for number, connection in enumerate(half_open):
            with suppress(OSError):
                connection.sendall(b"GET /healthz HTTP/1.1\r\n")
            if number % 40 == 0:
                assert is_healthy(port)
        world.create_pod("a", "echo", ip="10.0.0.1")
        eventually(lambda: world.servers("echo") == ["10.0.0.1"])
        assert is_healthy(port)
        said = controller.logged()[lines:]
        assert not [line for line in said if line["level"] in ("warning", "error")]
        assert controller.stop() == 0
    finally:
        controller.kill()
        print(controller.text())
        for connection in half_open:
            connection.close()


def is_healthy(port: int) -> bool:
    probe = HTTPConnection("127.0.0.1", port, timeout=10)
    with suppress(OSError):
        probe.request("GET", "/healthz")
        return probe.getresponse().status == 200
    return False
