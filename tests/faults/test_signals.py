"""A controller that is told to stop, more than once; and one whose metrics port is flooded."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import pytest
from kubernetes import client

from hack.local.http_proxy import Answer, Cut, is_list
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.ground import Ground
from tests.faults.harness.kubelet import Replica, ask
from tests.faults.harness.stand import Stand
from tests.faults.test_leadership import follows


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


NOWHERE = "127.0.0.1:1"
AT_ONCE = 4
SOON = 180.0  # seconds: one that hangs never ends, and on a busy machine all else may take long


class State(NamedTuple):
    """One that a process may be in: how such a process is started, and whether it is there."""

    name: str
    start: Callable[[Stand], Replica]
    reached: Callable[[Replica], bool]


def start(stand: Stand, **more: str) -> Replica:
    return stand.start(restarts=False, **more)


def start_through(stand: Stand) -> Replica:
    return start(stand, api=stand.api.server)


def without_an_answer(_method: str, _path: str) -> Answer | None:
    raise Cut


def says(text: str) -> Callable[[Replica], bool]:
    """Whether ``/readyz`` says so."""
    return lambda replica: text in ask(replica.port, "/readyz")[1]


def without_pods(method: str, path: str) -> Answer | None:
    """No LIST of the pods succeeds."""
    return (503, b"") if is_list(method, path, "pods") else None


def start_listing(stand: Stand) -> Replica:
    stand.api.instead = without_pods
    return start_through(stand)


def start_apart(stand: Stand) -> Replica:
    """Not even the cluster's id is read."""
    stand.api.instead = without_an_answer
    return start_through(stand)


STATES = [
    State("leading", start, Replica.leads),
    State("following", start, follows),
    State("listing", start_listing, says("pods are not listed yet")),
    State("without an API server", start_apart, says("kube-system")),
    State("waiting for ZooKeeper", lambda stand: start(stand, zk=NOWHERE), says("ZooKeeper")),
]


@contextmanager
def busy() -> Iterator[None]:
    """Somebody else keeps both cores busy."""
    with ExitStack() as stack:
        for _ in range(2):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def stop_in(stand: Stand, state: State, times: int) -> None:
    """Stop so many processes in a state by two signals back to back, in either order."""
    if state.name == "following" and not any(replica.leads() for replica in stand.replicas):
        eventually(stand.start().leads, timeout=SOON)
    waiting = [state.start(stand) for _ in range(times)]
    orders = cycle([(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])

    def those_there() -> list[Replica]:
        return [replica for replica in waiting if state.reached(replica)]

    while waiting:
        there = eventually(those_there, timeout=SOON)  # of those that may lead, one does
        with busy():
            for replica in there:
                waiting.remove(replica)
                for number in next(orders):
                    replica.signal(number)
            assert [replica.wait(timeout=SOON) for replica in there] == [0] * len(there)


@pytest.fixture
def unjudged(ground: Ground, namespace: str, tmp_path: Path) -> Iterator[Stand]:
    """A stand on which nothing happens that a judge could look at."""
    with Stand(ground, [namespace], tmp_path) as made:
        yield made


@pytest.mark.full
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_two_signals_end_a_process_in_any_state(unjudged: Stand, state: State):
    stop_in(unjudged, state, 2)


@pytest.mark.deep
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_two_signals_end_forty_processes_in_any_state(unjudged: Stand, state: State):
    for _ in range(40 // AT_ONCE):
        stop_in(unjudged, state, AT_ONCE)


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
