"""A controller that is told to stop, more than once; and one whose metrics port is flooded."""

import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection

import pytest
from kubernetes import client

from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.kubelet import Replica


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([signal.SIGINT, signal.SIGTERM], id="Ctrl-C, and what a script sends on top"),
        pytest.param([signal.SIGTERM, signal.SIGTERM], id="SIGTERM twice", marks=pytest.mark.full),
    ],
)
def test_two_signals_are_as_one_and_the_lease_is_given_back(
    world: World, start_controller: Callable[..., Replica], numbers: list[signal.Signals]
):
    # A person's, at a terminal: no kubelet starts it again, and takes the Lease.
    controller = start_controller(restarts=False)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ["10.0.0.1"])
    for number in numbers:
        controller.signal(number)

    assert controller.wait(timeout=15) == 0
    lease = client.CoordinationV1Api(world.api).read_namespaced_lease("rpcregistry", world.namespace)
    assert not lease.spec.holder_identity


FEW_FILES = ("sh", "-c", 'ulimit -n 40 && exec "$@"', "sh")


@pytest.mark.full
def test_half_open_connections_to_the_metrics_port_cost_no_probe_and_no_change(
    world: World, start_controller: Callable[..., Replica]
):
    controller = start_controller(wrap=FEW_FILES)
    port = controller.port
    half_open: list[socket.socket] = []
    try:
        eventually(lambda: is_healthy(port))
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
        for connection in half_open:
            connection.close()


def is_healthy(port: int) -> bool:
    probe = HTTPConnection("127.0.0.1", port, timeout=10)
    with suppress(OSError):
        probe.request("GET", "/healthz")
        return probe.getresponse().status == 200
    return False
