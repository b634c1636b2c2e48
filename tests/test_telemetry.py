"""What operators see: Events, each once; a server that cannot be kept busy; logs without secrets."""

import json
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics import MetricWrapperBase
from structlog.testing import capture_logs

from rpcregistry.errors import Conflict, Failure, Misconfigured, Rejected, Retry
from rpcregistry.model import Problem, Regarding
from rpcregistry.telemetry import events
from rpcregistry.telemetry.events import (
    EVENT_INTERVAL,
    FIRST_PATIENCE,
    MOST_OF_A_NAMESPACE,
    POSTERS,
    EventRecorder,
    event_manifest,
)
from rpcregistry.telemetry.metrics import GAUGES, Metrics
from rpcregistry.telemetry.probes import MOST_CONNECTIONS, REQUEST_TIMEOUT, Health, Server, serve
from tests.cluster.waiting import eventually
from tests.worlds import Clock

POD = Regarding("v1", "Pod", "shop", "web-1", "uid-1")
BAD = Problem("InvalidAnnotation", "rpc-service[0].port: 0 is too small")
AT = datetime(2026, 11, 21, 2, 2, 2, 7, UTC)


# Events


def event_of(
    regarding: Regarding = POD,
    problem: Problem = BAD,
    warning: bool = True,
    salt: str = "",
    identity: str = "host_1",
) -> dict[str, Any]:
    return event_manifest(regarding, problem, "Declare", warning, salt, identity, AT)


def name_of(event: Mapping[str, Any]) -> str:
    return str(event["metadata"]["name"])


def test_an_event_says_what_about_which_object_and_who_says_so() -> None:
    digest = sha256(b"uid-1\0InvalidAnnotation\0rpc-service[0].port: 0 is too small").hexdigest()[:16]
    assert event_of() == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"web-1.{digest}",
            "namespace": "shop",
            "labels": {"app.kubernetes.io/managed-by": "rpcregistry"},
        },
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "shop",
            "name": "web-1",
            "uid": "uid-1",
        },
        "type": "Warning",
        "reason": "InvalidAnnotation",
        "action": "Declare",
        "note": "rpc-service[0].port: 0 is too small",
        "eventTime": "2026-11-21T02:02:02.000007Z",
        "reportingController": "rpcregistry",
        "reportingInstance": "host_1",
    }


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(event_of(msgspec.structs.replace(POD, uid="uid-2")), id="another object of that name"),
        pytest.param(event_of(problem=Problem("NameTaken", BAD.message)), id="another reason"),
        pytest.param(event_of(problem=Problem(BAD.reason, "else")), id="another note"),
        pytest.param(event_of(salt="2026-11-21T02:02:02Z"), id="another transition"),
    ],
)
def test_what_is_another_thing_to_say_has_another_name(other: Mapping[str, Any]) -> None:
    assert name_of(other) != name_of(event_of())


def test_two_processes_give_the_same_event_the_same_name() -> None:
    assert name_of(event_of(identity="host_2")) == name_of(event_of())


def test_an_event_about_a_cluster_scoped_object_lies_in_the_default_namespace() -> None:
    event = event_of(Regarding("v1", "Node", "", "n1", "uid-n"))
    assert (event["metadata"]["namespace"], event["regarding"]["namespace"]) == ("default", "")


def test_a_normal_event_is_no_warning() -> None:
    assert event_of(warning=False)["type"] == "Normal"


@pytest.mark.parametrize(
    ("message", "note"),
    [
        pytest.param("two\nlines", r"two\nlines", id="a line break"),
        pytest.param("\x1b[31mred", r"\x1b[31mred", id="a terminal's escape sequence"),
        pytest.param("a\u202eb", r"a\u202eb", id="a change of the writing direction"),
        pytest.param("a\ud800b", r"a\ud800b", id="half of a surrogate pair"),
        pytest.param("größer", "größer", id="letters are left as they are"),
    ],
)
def test_a_note_holds_nothing_that_a_terminal_would_obey(message: str, note: str) -> None:
    assert event_of(problem=Problem("R", message))["note"] == note


@given(st.text(max_size=1500))
def test_the_api_server_accepts_each_event(message: str) -> None:
    event = event_of(problem=Problem("R", message), identity="h" * 300)
    assert len(event["note"].encode()) <= 1000
    assert msgspec.json.decode(msgspec.json.encode(event)) == event
    assert len(event["reportingInstance"]) <= 128


def test_a_long_note_ends_where_it_is_cut() -> None:
    assert event_of(problem=Problem("R", "ü" * 900))["note"] == "ü" * 498 + "…"


@pytest.mark.parametrize(
    ("name", "start"),
    [
        pytest.param("n" * 236, "n" * 236, id="as long as fits"),
        pytest.param("n" * 253, "n" * 236, id="the longest there is"),
        pytest.param("n" * 235 + ".n", "n" * 235, id="cut after a dot"),
        pytest.param("n" * 234 + "--n", "n" * 234, id="cut between dashes"),
    ],
)
def test_the_event_of_a_long_name_has_a_name_that_is_none_too_long(name: str, start: str) -> None:
    event = event_of(msgspec.structs.replace(POD, name=name))
    assert re.fullmatch(start + r"\.[0-9a-f]{16}", name_of(event))


class ApiServer:
    """Keeps Events by name, and notes when each request came.  ``answers`` are the failures to come."""

    def __init__(self) -> None:
        self.events: dict[str, Mapping[str, Any]] = {}
        self.requests: list[tuple[float, str, str]] = []
        self.answers: list[Failure] = []
        self.refuses: Callable[[Mapping[str, Any]], Failure | None] = lambda _: None
        self.patience: float | None = None  # of the last request

    def raw(self, method: str, path: str, body: Mapping[str, Any], *, patience: float | None = None) -> Any:
        self.patience = patience
        self.requests.append((time.monotonic(), f"{method} {path}", name_of(body)))
        failure = self.answers.pop(0) if self.answers else self.refuses(body)
        if failure:
            raise failure
        if name_of(body) in self.events:
            raise Conflict("AlreadyExists")
        self.events[name_of(body)] = body
        return body


@pytest.fixture
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture
def dropped() -> list[str]:
    """One for each Event that a recorder dropped."""
    return []


@pytest.fixture
def start(api: ApiServer, dropped: list[str]) -> Iterator[Callable[[], EventRecorder]]:
    """Starts recorders that post to *api*, each in threads of its own."""
    started: list[tuple[EventRecorder, threading.Thread]] = []

    def start() -> EventRecorder:
        recorder = EventRecorder(api, "host_1", lambda: AT, dropped=lambda: dropped.append("an event"))
        for _ in range(POSTERS):
            thread = threading.Thread(target=recorder.run, daemon=True)
            thread.start()
            started.append((recorder, thread))
        return recorder

    yield start
    for recorder, thread in started:
        recorder.stop()
        thread.join(5)
        assert not thread.is_alive()


@pytest.fixture
def recorder(start: Callable[[], EventRecorder]) -> EventRecorder:
    return start()


def record(
    recorder: EventRecorder, *messages: str, salt: str = "", namespace: str = "shop", reason: str = "R"
) -> None:
    about = msgspec.structs.replace(POD, namespace=namespace)
    for message in messages:
        recorder.record(about, Problem(reason, message), "Declare", warning=True, salt=salt)


def notes(api: ApiServer) -> set[str]:
    return {event["note"] for event in api.events.values()}


def test_what_is_recorded_is_posted(api: ApiServer, recorder: EventRecorder) -> None:
    record(recorder, "a")
    eventually(lambda: notes(api) == {"a"})
    assert api.requests[0][1] == "POST /apis/events.k8s.io/v1/namespaces/shop/events"


def test_an_event_is_recorded_once_in_a_process(api: ApiServer, recorder: EventRecorder) -> None:
    record(recorder, "a", "a")
    eventually(lambda: notes(api) == {"a"})
    record(recorder, "a", "b")
    eventually(lambda: notes(api) == {"a", "b"})
    assert len(api.requests) == 2


def test_a_transition_is_recorded_again_though_it_says_the_same(
    api: ApiServer, recorder: EventRecorder
) -> None:
    record(recorder, "a", salt="02:02")
    record(recorder, "a", salt="03:03")
    eventually(lambda: len(api.events) == 2)


def test_an_event_that_an_earlier_process_recorded_counts_as_recorded(
    api: ApiServer, start: Callable[[], EventRecorder]
) -> None:
    record(start(), "a")
    eventually(lambda: notes(api) == {"a"})
    successor = start()
    record(successor, "a", "b")
    eventually(lambda: notes(api) == {"a", "b"})
    record(successor, "c")
    eventually(lambda: notes(api) == {"a", "b", "c"})
    assert len(api.requests) == 4


def test_what_failed_is_posted_again(api: ApiServer, recorder: EventRecorder) -> None:
    api.answers = [Retry("503"), Retry("429", after=0.01)]
    record(recorder, "a")
    eventually(lambda: notes(api) == {"a"})
    assert len(api.requests) == 3


def test_an_event_that_always_fails_holds_up_no_other(api: ApiServer, recorder: EventRecorder) -> None:
    api.refuses = lambda event: Retry("webhook down") if event["note"] == "a" else None
    record(recorder, "a", "b", "c")
    eventually(lambda: notes(api) == {"b", "c"})


def test_a_refused_event_is_counted_and_not_posted_again_until_it_is_recorded_again(
    api: ApiServer, recorder: EventRecorder, dropped: list[str]
) -> None:
    api.answers = [Rejected("403")]
    record(recorder, "a", "b")
    eventually(lambda: notes(api) == {"b"})
    assert len(api.requests) == 2
    assert dropped == ["an event"]
    record(recorder, "a")
    eventually(lambda: notes(api) == {"a", "b"})


def test_at_most_ten_events_a_second_are_posted_whether_they_are_taken_or_not(
    api: ApiServer, recorder: EventRecorder
) -> None:
    api.answers = [Rejected("403"), Retry("429", after=0.0), Conflict("AlreadyExists")]
    record(recorder, *map(str, range(8)))
    eventually(lambda: len(api.requests) == 9)
    times = [at for at, _, _ in api.requests]
    # One that is on its way may be overtaken by the next, from another poster.
    assert min(later - earlier for earlier, later in zip(times, times[2:], strict=False)) >= EVENT_INTERVAL


def test_a_flood_is_bounded_and_recording_it_waits_for_nothing(api: ApiServer) -> None:
    dropped: list[None] = []
    never_run = EventRecorder(api, "host_1", dropped=lambda: dropped.append(None))
    record(never_run, *map(str, range(MOST_OF_A_NAMESPACE + 10)))
    assert never_run.waiting == MOST_OF_A_NAMESPACE
    assert len(dropped) == 10


def test_where_there_is_no_room_the_longest_line_loses_what_came_last(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_WAITING", 20)
    monkeypatch.setattr(events, "EVENT_INTERVAL", 0.01)
    recorder = EventRecorder(api, "host_1")
    record(recorder, *map(str, range(20)), namespace="loud")
    record(recorder, "a", "b", "c", namespace="quiet")
    assert recorder.waiting == 20
    thread = threading.Thread(target=recorder.run, daemon=True)
    thread.start()
    eventually(lambda: len(api.requests) == 20)
    assert notes(api) == {*map(str, range(17)), "a", "b", "c"}
    record(recorder, "19", namespace="loud")
    eventually(lambda: "19" in notes(api))
    recorder.stop()
    thread.join(5)


def test_that_events_are_dropped_is_logged_once_a_minute(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_OF_A_NAMESPACE", 5)
    clock = Clock()
    never_run = EventRecorder(api, "host_1", clock=clock)
    with capture_logs() as lines:
        record(never_run, *map(str, range(20)))
        clock.seconds += events.LOG_INTERVAL
        record(never_run, "20")
    dropped = [(line["count"], line["last_of"]) for line in lines if line["event"] == "events dropped"]
    assert dropped == [(1, "shop"), (15, "shop")]


def next_ones(api: ApiServer, count: int, after: int) -> set[str]:
    """The notes of *count* Events that were posted after so many others."""
    eventually(lambda: len(api.events) >= after + count)
    return {event["note"] for event in list(api.events.values())[after : after + count]}


def test_namespaces_take_turns(api: ApiServer, recorder: EventRecorder) -> None:
    record(recorder, *(f"loud {number}" for number in range(5_000)), namespace="loud")
    posted = len(api.events)
    record(recorder, "quiet", namespace="quiet")
    assert "quiet" in next_ones(api, 3, posted)


def test_what_is_held_who_owns_what_and_the_lease_go_first(api: ApiServer, recorder: EventRecorder) -> None:
    record(recorder, *map(str, range(100)))
    posted = len(api.events)
    for reason in ("Held", "OwnedElsewhere"):
        record(recorder, *(f"{reason} {number}" for number in range(2)), reason=reason)
    lease = Regarding("coordination.k8s.io/v1", "Lease", "rpcregistry", "rpcregistry", "uid")
    recorder.record(lease, Problem("RegistryWiped", "wiped"), "Publish", warning=True)
    wanted = {"Held 0", "Held 1", "OwnedElsewhere 0", "OwnedElsewhere 1", "wiped"}
    assert wanted <= next_ones(api, 7, posted)


def test_namespaces_in_which_requests_hang_hold_up_no_other(api: ApiServer) -> None:
    over, hanging = threading.Event(), [0]
    slow = {"a", "b", "c", "d"}

    def hangs(event: Mapping[str, Any]) -> None:
        if event["metadata"]["namespace"] != "quiet":
            hanging[0] += 1
            over.wait(30)

    api.refuses = hangs
    recorder = EventRecorder(api, "host_1", is_slow=slow.__contains__)
    threads = [threading.Thread(target=recorder.run, daemon=True) for _ in range(POSTERS)]
    for thread in threads:
        thread.start()
    for namespace in slow:
        record(recorder, "1", "2", namespace=namespace)
    eventually(lambda: hanging[0] == 2)
    record(recorder, "x", "y", namespace="quiet")
    eventually(lambda: notes(api) == {"x", "y"})
    over.set()
    recorder.stop()
    for thread in threads:
        thread.join(5)


def test_where_nothing_is_known_to_be_slow_an_answer_is_not_waited_for_as_long(api: ApiServer) -> None:
    """As many namespaces as there are threads may begin to hang at once."""
    slow: set[str] = set()
    recorder = EventRecorder(api, "host_1", is_slow=slow.__contains__)

    def refuses(_: Mapping[str, Any]) -> Failure | None:
        slow.add("hangs")
        return Retry("no answer") if api.patience is not None else None

    api.refuses = refuses
    threading.Thread(target=recorder.run, daemon=True).start()
    record(recorder, "x", namespace="hangs")
    eventually(lambda: len(api.requests) == 1)
    assert api.patience == FIRST_PATIENCE
    eventually(lambda: notes(api) == {"x"})
    assert len(api.requests) == 2
    recorder.stop()


def test_a_namespace_whose_events_fail_pauses_alone(api: ApiServer, recorder: EventRecorder) -> None:
    api.refuses = lambda event: Retry("429", after=60.0) if event["note"] == "a" else None
    record(recorder, "a")
    eventually(lambda: api.requests)
    record(recorder, "b", namespace="quiet")
    eventually(lambda: notes(api) == {"b"})


def test_stopping_waits_for_no_pause(api: ApiServer) -> None:
    recorder = EventRecorder(api, "host_1")
    api.answers = [Retry("429", after=30.0)]
    thread = threading.Thread(target=recorder.run, daemon=True)
    thread.start()
    record(recorder, "a")
    eventually(lambda: api.requests)
    stopped = time.monotonic()
    recorder.stop()
    thread.join(10)
    assert time.monotonic() < stopped + 5


# probes and metrics


class World:
    """A server, and what it is asked about."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.not_live: str | None = None
        self.not_ready: str | None = None
        health = Health(lambda: self.not_live, lambda: self.not_ready)
        self.server: Server = serve("127.0.0.1:0", self.metrics, health)

    def get(self, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()

    def send(self, data: bytes) -> socket.socket:
        """A connection on which only *data* was sent."""
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=10)
        connection.sendall(data)
        return connection

    def answer(self, request: bytes) -> bytes:
        """All that the server sends after *request*, until it closes the connection."""
        answer = b""
        with self.send(b"") as connection, suppress(ConnectionError):
            connection.sendall(request)
            while piece := connection.recv(65536):
                answer += piece
        return answer

    def sample(self, name: str) -> float | None:
        """The value of a metric, named with its labels."""
        lines = self.get("/metrics")[1].splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), None)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.server.close()


def test_a_probe_says_ok_or_why_not(world: World) -> None:
    world.not_ready = "pods are not listed yet"
    assert world.get("/healthz") == (200, "ok\n")
    assert world.get("/readyz?verbose") == (503, "pods are not listed yet\n")
    assert world.answer(b"HEAD /readyz HTTP/1.1\r\n\r\n").endswith(b"Connection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/", 404, id="the root"),
        pytest.param("GET", "/../../etc/passwd", 404, id="outside of what is served"),
        pytest.param("GET", "/metrics/../healthz", 404, id="a path that would lead back"),
        pytest.param("GET", "//healthz", 404, id="a path that is not quite ours"),
        pytest.param("POST", "/healthz", 405, id="a write"),
        pytest.param("DELETE", "/metrics", 405, id="a delete"),
    ],
)
def test_nothing_else_is_served(world: World, method: str, path: str, status: int) -> None:
    assert world.get(path, method) == (status, "")


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"\r\n\r\n", id="nothing"),
        pytest.param(b"\xff\xfe\x00\r\n\r\n", id="no text"),
        pytest.param(b"GET\r\n\r\n", id="no path"),
        pytest.param(b"POST /healthz HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", id="a body to come"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 100_000, id="a header without end"),
        pytest.param(b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", id="a path that is too long"),
    ],
)
def test_a_strange_request_ends_its_connection_and_nothing_else(world: World, request_: bytes) -> None:
    begun = time.monotonic()
    world.answer(request_)
    assert time.monotonic() < begun + REQUEST_TIMEOUT
    assert world.get("/healthz") == (200, "ok\n")


def test_clients_that_never_finish_keep_no_probe_out(world: World) -> None:
    slow = [world.send(b"GET /healthz HTTP/1.1\r\n") for _ in range(MOST_CONNECTIONS + 50)]
    assert world.get("/healthz") == (200, "ok\n")
    eventually(lambda: sum(map(is_open, slow)) <= MOST_CONNECTIONS, timeout=REQUEST_TIMEOUT / 2)
    slow[-1].sendall(b"\r\n")
    assert slow[-1].recv(1024).startswith(b"HTTP/1.1 200 OK")


FEW_FILES = 40
SERVING = """
import sys, time
from rpcregistry.telemetry.probes import Health, serve
from rpcregistry.telemetry.metrics import Metrics
from rpcregistry.telemetry.logging import configure_logging

configure_logging("json", "info")
server = serve("127.0.0.1:0", Metrics(), Health(lambda: None, lambda: None))
files = [open("/dev/null") for _ in range(int(sys.argv[1]))]
print(server.port, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("others", "most_lines"),
    [
        pytest.param(15, 0, id="files for all that may be open"),
        pytest.param(FEW_FILES - 11, 1, id="others take all but a few"),
    ],
)
def test_half_open_connections_fill_neither_the_log_nor_what_may_be_opened(
    others: int, most_lines: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVING, str(others)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES)),
    )
    assert process.stdout
    assert process.stdin
    port = int(process.stdout.readline())

    def is_healthy() -> bool:
        probe = HTTPConnection("127.0.0.1", port, timeout=10)
        with suppress(OSError):
            probe.request("GET", "/healthz")
            return probe.getresponse().status == 200
        return False

    half_open = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(120)]
    for connection in half_open:
        with suppress(OSError):
            connection.sendall(b"GET /healthz HTTP/1.1\r\n")
    eventually(is_healthy)
    for connection in half_open:
        connection.close()
    eventually(is_healthy)
    _, errors = process.communicate()
    assert process.returncode == 0
    assert len(errors.splitlines()) <= most_lines, errors


def is_open(connection: socket.socket) -> bool:
    """Whether the server has neither closed *connection* nor answered on it."""
    connection.settimeout(0)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except ConnectionError:
        pass
    finally:
        connection.settimeout(10)
    return False


def test_a_connection_that_sends_byte_after_byte_ends_all_the_same(world: World) -> None:
    connection = world.send(b"GET /healthz HTTP/1.1\r\nX: ")
    connection.settimeout(0.05)

    def is_over() -> bool:
        try:
            connection.sendall(b"x")
            return connection.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    eventually(is_over)


def test_metrics_have_the_names_that_are_promised(world: World) -> None:
    metrics = world.metrics
    metrics.reconciled("registry", "done", 0.02)
    metrics.propagated("kube2zk", seconds=0.003, status=0.001, write=0.001)
    metrics.registry_written("kube2zk", "set")
    metrics.watch_restarted("pods", "expired")
    metrics.leading(True)
    metrics.connected(True)
    metrics.event_dropped()
    metrics.measure(
        {
            "rpcregistry_queue_depth": lambda: {"registry": 3},
            "rpcregistry_services": lambda: 4,
            "rpcregistry_endpoints": lambda: 5,
            "rpcregistry_held": lambda: 6,
            "rpcregistry_keys_refused": lambda: {"registry": 7},
            "rpcregistry_source_unknown": lambda: {"pods": 1},
            "rpcregistry_events_waiting": lambda: 8,
            "rpcregistry_guard_held": lambda: {"nodes": 8},
            "rpcregistry_nodes_silent": lambda: 9,
            "rpcregistry_restored": lambda: 1,
        }
    )
    names = [
        'rpcregistry_reconcile_total{controller="registry",result="done"}',
        'rpcregistry_reconcile_seconds_count{controller="registry"}',
        'rpcregistry_propagation_seconds_count{layout="kube2zk"}',
        'rpcregistry_registry_writes_total{layout="kube2zk",op="set"}',
        'rpcregistry_watch_restarts_total{reason="expired",resource="pods"}',
        "rpcregistry_leader",
        "rpcregistry_zookeeper_connected",
        'rpcregistry_queue_depth{controller="registry"}',
        "rpcregistry_services",
        "rpcregistry_endpoints",
        'rpcregistry_guard_held{guard="nodes"}',
        "rpcregistry_nodes_silent",
        "rpcregistry_held",
        'rpcregistry_keys_refused{controller="registry"}',
        'rpcregistry_source_unknown{resource="pods"}',
        "rpcregistry_events_dropped_total",
        "rpcregistry_events_waiting",
    ]
    assert [world.sample(name) for name in names] == [1, 1, 1, 1, 1, 1, 1, 3, 4, 5, 8, 9, 6, 7, 1, 1, 8]


def test_two_processes_of_one_test_share_no_metrics(world: World) -> None:
    Metrics().leading(True)
    assert world.sample("rpcregistry_leader") == 0


@pytest.mark.parametrize("address", ["127.0.0.1:http", "127.0.0.1:99999", "192.0.2.1:8080"])
def test_an_address_that_cannot_be_listened_at_is_a_mistake_of_the_configuration(address: str) -> None:
    with pytest.raises(Misconfigured, match=address):
        serve(address, Metrics(), Health(lambda: None, lambda: None))


# logs


def logged(log_format: str, level: str, code: str) -> str:
    """What a process that runs *code* writes to standard error."""
    prelude = (
        "import logging, structlog\n"
        "from rpcregistry.telemetry.logging import configure_logging\n"
        f"configure_logging({log_format!r}, {level!r})\n"
        "log = structlog.get_logger('rpcregistry.x')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stderr


def test_a_line_of_the_log_is_an_object_that_says_when_and_where() -> None:
    line = json.loads(logged("json", "info", "log.debug('no'); log.info('set', path='/rpc_v2/echo')"))
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo is not None
    assert line == {"event": "set", "level": "info", "logger": "rpcregistry.x", "path": "/rpc_v2/echo"}


def test_a_line_begins_with_what_every_line_has() -> None:
    line = logged("json", "info", "log.info('set', path='/rpc_v2/echo', a='x')")
    assert list(json.loads(line)) == ["timestamp", "level", "event", "logger", "path", "a"]


def test_what_modules_log_that_rpc_processes_share_looks_the_same() -> None:
    line = json.loads(
        logged(
            "json", "info", "from rpcregistry.logs import Log; Log('rpcregistry.y').warning('held', pods=2)"
        )
    )
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo is not None
    assert line == {"event": "held", "level": "warning", "logger": "rpcregistry.y", "pods": 2}


def test_an_exception_is_logged_with_its_traceback_on_the_same_line() -> None:
    code = "try: 1 / 0\nexcept ZeroDivisionError: log.exception('failed')"
    assert "ZeroDivisionError" in json.loads(logged("json", "info", code))["exception"]


def test_at_debug_libraries_do_not_tell_what_they_send() -> None:
    text = logged("json", "debug", "log.debug('ours'); logging.getLogger('urllib3').info('theirs')")
    assert "ours" in text
    assert "theirs" not in text


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    "code",
    [
        pytest.param("log.info('x', header='Bearer s3cr3t')", id="a bearer token"),
        pytest.param("log.info('x', patch={'a': ['Authorization: Basic s3cr3t']})", id="deep in a value"),
        pytest.param("log.info('x', token='eyJhbGciOiJSUzI1.s3cr3t.s3cr3t')", id="a service account's token"),
        pytest.param("logging.getLogger('kazoo').warning('bearer s3cr3t')", id="by a library"),
        pytest.param(
            "from rpcregistry.logs import Log; Log('rpcregistry.y').info('x', header='Bearer s3cr3t')",
            id="by a module that RPC processes share",
        ),
        pytest.param(
            "try: raise ValueError('Bearer s3cr3t')\nexcept ValueError: log.exception('x')",
            id="by an exception",
        ),
    ],
)
def test_a_secret_in_a_message_is_not_logged(log_format: str, code: str) -> None:
    text = logged(log_format, "debug", code)
    assert "[secret]" in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_value_from_outside_starts_no_line_of_its_own(log_format: str) -> None:
    text = logged(log_format, "info", r"log.info('x', a='\nforged', b='\x1b[2J', c='\u202e')")
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    code = "import sys, os; os.close(2); log.info('x'); print('went on')"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import structlog\nfrom rpcregistry.telemetry.logging import configure_logging\n"
            "configure_logging('json', 'info')\nlog = structlog.get_logger('rpcregistry.x')\n" + code,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "went on\n"


def test_logging_can_be_configured_again() -> None:
    text = logged("console", "info", "configure_logging('json', 'info'); log.info('once')")
    assert json.loads(text)["event"] == "once"


METRICS_PAGE = Path(__file__).parents[1] / "docs" / "reference" / "metrics.md"


def test_the_page_lists_each_metric_and_each_of_its_labels() -> None:
    metrics = Metrics()
    metrics.measure(
        {name: (lambda: {"x": 1.0}) if label else lambda: 1.0 for name, (_, label) in GAUGES.items()}
    )
    exposed = {
        line.split()[2]
        for line in metrics.render().decode().splitlines()
        if line.startswith("# TYPE rpcregistry_")
    }
    documented = set(re.findall(r"`(rpcregistry_\w+)`", METRICS_PAGE.read_text()))

    assert exposed == documented
    for name, (_, label) in GAUGES.items():
        row = next(
            line
            for line in METRICS_PAGE.read_text().splitlines()
            if line.startswith("|") and f"`{name}`" in line
        )
        assert (f"`{label}`" in row) == bool(label), name


def test_no_label_grows_with_services_or_pods() -> None:
    metrics = Metrics()
    labels = {
        name: part._labelnames for name, part in vars(metrics).items() if isinstance(part, MetricWrapperBase)
    }
    assert len(labels) > 10
    known = {"controller", "result", "layout", "op", "resource", "reason", "verb", "code", "ending", "kind"}
    known |= {"route"}  # of the page: paths as templates
    assert {label for names in labels.values() for label in names} <= known
    assert {label for _, label in GAUGES.values()} <= {*known, "guard", ""}


def test_no_metric_has_a_time_of_creation() -> None:
    metrics = Metrics()
    metrics.watch_restarted("pods", "ended")
    assert b"_created" not in metrics.render()
