"""The edge to the API server, against a server that does what no real one can be made to do."""

import gc
import gzip
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rpcregistry.errors import (
    Absent,
    Conflict,
    Ending,
    Expired,
    Failure,
    KindMissing,
    Misconfigured,
    Rejected,
    Retry,
    Unknown,
)
from rpcregistry.kube import failures
from rpcregistry.kube.client import Kube
from rpcregistry.kube.failures import failure
from rpcregistry.kube.requests import Timeouts
from rpcregistry.manifests import PODS, RPCSERVICES
from rpcregistry.model import ObjectKey
from rpcregistry.sdk import Registry, Service, registry
from rpcregistry.watch import Applied, Bookmark, Deleted, Unreadable

# The server


@dataclass
class Answer:
    """*pieces* are sent one after the other; a function among them is called instead (and may wait).

    *cut*: the connection is closed without the end of the body that HTTP wants.
    """

    status: int = 200
    pieces: list[bytes | Callable[[], object]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    connection: object


class Server(ThreadingHTTPServer):
    """Answers each request with what *answer* says, in its own thread."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Callable[[Request], Answer], host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Handler)
        self.answer = answer
        self.requests: list[Request] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients break off: that is what some of the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(
            self.command,
            self.path.split("?")[0],
            parse_qs(url.query),
            dict(self.headers),
            body,
            self.connection,
        )
        self.server.requests.append(request)
        answer = self.server.answer(request)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in answer.pieces:
            if callable(piece):
                piece()
            elif piece:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
        if answer.cut:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        else:
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


FAST = Timeouts(watch=(2, 0.5), read=(2, 0.5), write=(2, 0.5), body=1)


@pytest.fixture
def script() -> list[Answer]:
    """What the server answers, in order; the last answer is repeated."""
    return []


@pytest.fixture
def server(script: list[Answer]) -> Iterator[Server]:
    def answer(_: Request) -> Answer:
        return script.pop(0) if len(script) > 1 else script[0]

    with serving(Server(answer)) as server:
        yield server


def kubeconfig(path: Path, server: str, authority: bytes = b"", **user: str) -> str:
    """The name of a kubeconfig file for *server*, a URL; *authority* is its certificate authority, PEM."""
    cluster = {"server": server, "certificate-authority-data": b64encode(authority).decode()}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (path / "kubeconfig").write_bytes(msgspec.json.encode(config))
    return str(path / "kubeconfig")


@pytest.fixture
def kube(server: Server, tmp_path: Path) -> Kube:
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}", token="s3cret")
    return Kube.from_config(config, timeouts=FAST)


def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def encoded(body: object) -> Answer:
    return Answer(pieces=[msgspec.json.encode(body)])


def status(code: int, reason: str = "", message: str = "no", **details: object) -> Answer:
    body = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    return Answer(code, [msgspec.json.encode(body)])


def pod(name: str, version: int = 7, **fields: object) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"kind": "Pod", "metadata": meta, **fields}


def page(*items: object, version: str = "9", continue_: str = "") -> Answer:
    return encoded({"metadata": {"resourceVersion": version, "continue": continue_}, "items": items})


def line(type_: str, body: object) -> bytes:
    return msgspec.json.encode({"type": type_, "object": body}) + b"\n"


# What a failure means


@pytest.mark.parametrize(
    ("method", "code", "reason", "message", "details", "means"),
    [
        pytest.param("PUT", 409, "Conflict", "the object has been modified", {}, Conflict, id="stale"),
        pytest.param("POST", 409, "AlreadyExists", "exists", {}, Conflict, id="there is one of that name"),
        pytest.param("GET", 410, "Expired", "too old resource version", {}, Expired, id="410"),
        pytest.param("GET", 504, "Timeout", "Too large resource version", {}, Expired, id="from the future"),
        pytest.param("GET", 401, "Unauthorized", "Unauthorized", {}, Unknown, id="401 to a read"),
        pytest.param("GET", 403, "Forbidden", "cannot list", {}, Unknown, id="403 to a read"),
        pytest.param("PATCH", 403, "Forbidden", "exceeded quota: q", {}, Rejected, id="403 to a write"),
        pytest.param("GET", 404, "NotFound", "not found", {"name": "x"}, Absent, id="no such object"),
        pytest.param(
            "PATCH", 404, "NotFound", "not found", {"name": "x"}, Conflict, id="patched what is gone"
        ),
        pytest.param("POST", 404, "NotFound", "not found", {"name": "x"}, Ending, id="no such namespace"),
        pytest.param("POST", 404, "NotFound", "could not find", {}, Rejected, id="no such resource to write"),
        pytest.param(
            "POST",
            403,
            "Forbidden",
            "it is being terminated",
            {"causes": [{"reason": "NamespaceTerminating"}]},
            Ending,
            id="the namespace is being deleted",
        ),
        pytest.param("GET", 404, "NotFound", "could not find", {}, Unknown, id="no such resource"),
        pytest.param("PUT", 500, "", "etcdserver: request is too large", {}, Rejected, id="1.6 MiB"),
        pytest.param("PUT", 500, "", "trying to send message larger than max", {}, Rejected, id="2.5 MiB"),
        pytest.param("PUT", 413, "RequestEntityTooLarge", "limit 3145728", {}, Rejected, id="over 3 MiB"),
        pytest.param("PATCH", 422, "Invalid", "denied request", {}, Rejected, id="refused by a policy"),
        pytest.param(
            "PATCH",
            422,
            "Invalid",
            "metadata.uid: field is immutable",
            {"causes": [{"reason": "FieldValueInvalid", "field": "metadata.uid"}]},
            Conflict,
            id="patched what was made anew",
        ),
        pytest.param("GET", 400, "BadRequest", "cannot parse", {}, Rejected, id="a bad request"),
        pytest.param("GET", 429, "TooManyRequests", "later", {}, Retry, id="429"),
        pytest.param("PUT", 500, "InternalError", "etcd is away", {}, Retry, id="500"),
        pytest.param("PUT", 503, "ServiceUnavailable", "starting", {}, Retry, id="503"),
        pytest.param("PUT", 408, "", "", {}, Retry, id="408"),
    ],
)
def test_what_the_server_answers_says_what_to_do_next(
    method: str, code: int, reason: str, message: str, details: dict[str, Any], means: type[Failure]
) -> None:
    body = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    raised = failure(method, "touch Pod default/x", code, msgspec.json.encode(body))
    # The class itself, but where only what it is a kind of matters.
    assert type(raised) is means or (means is Conflict and isinstance(raised, Absent))
    assert str(raised).startswith(f"touch Pod default/x: {code}")
    assert message in str(raised)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        pytest.param(
            'pods "x" is forbidden: User "system:serviceaccount:a:b" cannot patch resource "pods"'
            ' in API group "" in the namespace "a"',
            ": needs patch on pods: see the role in examples/some.yaml",
            id="a right that is missing",
        ),
        pytest.param(
            "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no",
            "denied request: no",
            id="a policy that denies",
        ),
    ],
)
def test_a_right_that_is_missing_is_named_with_the_file_that_gives_it(message: str, advice: str) -> None:
    body = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": message}
    raised = failure("PATCH", "patch Pod a/x", 403, msgspec.json.encode(body), roles="examples/some.yaml")
    assert type(raised) is Rejected
    assert str(raised).endswith(advice)


@pytest.mark.parametrize("file", [failures.ROLES, registry.ROLES])
def test_the_file_that_gives_a_right_is_there(file: str) -> None:
    assert "kind: Role\n" in (Path(__file__).parents[1] / file).read_text()


def test_an_rpc_process_learns_of_a_role_of_its_own(
    server: Server, script: list[Answer], tmp_path: Path
) -> None:
    script.append(status(403, "Forbidden", 'pods "p" is forbidden: User "u" cannot get resource "pods"'))
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}")
    with (
        Registry.from_kubeconfig(config, namespace="default", pod_name="p") as own_registry,
        pytest.raises(Unknown, match=r"needs get on pods: see the role in examples/sdk-role\.yaml$"),
    ):
        own_registry.register(Service(name="a"))


@pytest.mark.parametrize(
    ("code", "header", "after"),
    [
        pytest.param(429, "7", 7, id="429 names a time"),
        pytest.param(429, None, 1, id="429 names none"),
        pytest.param(429, "86400", 30, id="a day is too long"),
        pytest.param(503, "2", 2, id="503 names a time"),
        pytest.param(503, None, None, id="503 names none"),
        pytest.param(503, "soon", None, id="nonsense"),
    ],
)
def test_the_time_that_the_server_names_is_kept(code: int, header: str | None, after: float | None) -> None:
    raised = failure("GET", "list pods", code, b"", header)
    assert isinstance(raised, Retry)
    assert raised.after == after


@pytest.mark.parametrize(
    "body", [b"", b"<html>token=s3cret</html>", b'{"data": "s3cret"}', b'{"message": "s3cret"}', b"[1]"]
)
def test_a_message_shows_nothing_of_a_body_that_is_no_status(body: bytes) -> None:
    assert str(failure("GET", "list pods", 404, body)) == "list pods: 404 Not Found"


def test_a_kind_of_ours_that_is_not_served_is_told_from_a_missing_right() -> None:
    body = b'{"kind": "Status", "reason": "NotFound", "message": "the server could not find it"}'
    missing = failure("GET", "list rpcservices", 404, body, kind="RpcService")
    assert type(missing) is KindMissing
    assert type(failure("GET", "list pods", 404, body)) is Unknown
    assert type(failure("GET", "list rpcservices", 403, body, kind="RpcService")) is Unknown


def test_a_connection_that_is_refused_is_tried_again_later(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        config = kubeconfig(tmp_path, f"http://127.0.0.1:{free.getsockname()[1]}", token="s3cret")
    with pytest.raises(Retry, match=r"list pods: .*refused") as caught:
        Kube.from_config(config).list(PODS)
    assert "s3cret" not in str(caught.value)


DROPS: list[bytes | Callable[[], object]] = [b" ", lambda: time.sleep(0.3)] * 5


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(pieces=[b'{"items":'], cut=True), id="reset in the middle"),
        pytest.param(Answer(pieces=[b'{"items": [']), id="no JSON"),
        pytest.param(encoded({"metadata": {"resourceVersion": "5"}}), id="a LIST without items is not empty"),
        pytest.param(page(version=""), id="no resourceVersion"),
        pytest.param(page(pod("a"), {"metadata": None}), id="an item that is no object"),
        pytest.param(Answer(pieces=[b"{", lambda: time.sleep(0.8)]), id="silence"),
        pytest.param(Answer(pieces=DROPS + page().pieces), id="an answer that comes drop by drop"),
        pytest.param(Answer(pieces=[b"not gzip"], headers={"Content-Encoding": "gzip"}), id="bad gzip"),
    ],
)
def test_an_answer_that_is_none_is_asked_for_again_later(
    kube: Kube, script: list[Answer], answer: Answer
) -> None:
    script.append(answer)
    with pytest.raises(Retry):
        kube.list(PODS)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(503, headers={"Retry-After": "0"}), id="503"),
        pytest.param(Answer(429, headers={"Retry-After": "0"}), id="429"),
        pytest.param(Answer(302, headers={"Location": "/api/v1/nodes"}), id="a redirect"),
        pytest.param(Answer(pieces=[b"{"], cut=True), id="a connection that breaks"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_nothing_is_sent_twice(
    kube: Kube, server: Server, script: list[Answer], answer: Answer, method: str
) -> None:
    script.append(answer)
    with pytest.raises(Failure):
        kube.raw(method, "/api/v1/pods", {})
    assert len(server.requests) == 1


# LIST


def test_a_list_is_read_page_by_page_and_compressed(kube: Kube, server: Server, script: list[Answer]) -> None:
    packed = page(pod("a"), pod("b"), continue_="next/=")
    packed.pieces = [gzip.compress(piece) for piece in packed.pieces if isinstance(piece, bytes)]
    packed.headers["Content-Encoding"] = "gzip"
    script += [packed, page(pod("c"))]
    listing = kube.list(PODS, "default", "app=x")
    assert [item.name for item in listing.items] == ["a", "b", "c"]
    assert listing.resource_version == 9
    assert [request.path for request in server.requests] == ["/api/v1/namespaces/default/pods"] * 2
    assert [request.query for request in server.requests] == [
        {"limit": ["500"], "labelSelector": ["app=x"]},
        {"limit": ["500"], "labelSelector": ["app=x"], "continue": ["next/="]},
    ]
    assert server.requests[0].headers["Accept-Encoding"] == "gzip"
    assert server.requests[0].connection is server.requests[1].connection


def test_a_list_whose_pages_expire_is_made_again_in_one(
    kube: Kube, server: Server, script: list[Answer]
) -> None:
    script += [page(pod("a"), continue_="x"), status(410, "Expired"), page(pod("b"), version="12")]
    listing = kube.list(PODS)
    assert [item.name for item in listing.items] == ["b"]
    assert listing.resource_version == 12
    assert server.requests[2].query == {}


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"spec": {"nodeName": 7}}, id="a number for a text"),
        pytest.param({"status": {"containerStatuses": [{"state": "?"}]}}, id="a text for an object"),
        pytest.param({"status": {"conditions": [{"type": "Ready"}]}}, id="a condition without status"),
    ],
)
def test_an_object_that_cannot_be_read_costs_itself_and_not_its_page(
    kube: Kube, script: list[Answer], odd: dict[str, object]
) -> None:
    script.append(page(pod("a"), {**pod("odd"), **odd}, pod("b")))
    listing = kube.list(PODS)
    assert [item.name for item in listing.items] == ["a", "b"]
    assert [(item.key.name, item.uid) for item in listing.unreadable] == [("odd", "uid-odd")]
    assert listing.unreadable[0].message


def test_lists_that_are_null_are_empty(kube: Kube, script: list[Answer]) -> None:
    null = pod("a", status={"conditions": None, "containerStatuses": None, "podIPs": None})
    null["metadata"]["labels"] = None
    script += [page(null), encoded({"metadata": {"resourceVersion": "5"}, "items": None})]
    assert [item.name for item in kube.list(PODS).items] == ["a"]
    assert kube.list(PODS).items == []


def test_the_newest_resource_version_costs_one_object(
    kube: Kube, server: Server, script: list[Answer]
) -> None:
    script.append(page(pod("a"), version="1234", continue_="more"))
    assert kube.reader(PODS).newest_resource_version() == 1234
    assert server.requests[0].query == {"limit": ["1"]}


# WATCH


def watched(kube: Kube) -> list[object]:
    """The events of a watch and the failure that ended it, if one did."""
    events: list[object] = []
    try:
        events.extend(kube.reader(PODS).watch(5))
    except Failure as failure:
        events.append(failure)
    return events


def names(events: list[object]) -> list[object]:
    """Events in short."""
    return [event.item.name if isinstance(event, Applied) else type(event).__name__ for event in events[1:]]


def test_a_watch_tells_what_happens(kube: Kube, server: Server, script: list[Answer]) -> None:
    bookmark = {"kind": "Pod", "metadata": {"resourceVersion": "60"}}
    script.append(
        Answer(
            pieces=[
                line("ADDED", pod("a", 6)) + line("MODIFIED", pod("b", 8))[:50],
                line("MODIFIED", pod("b", 8))[50:] + b"\n",
                line("BOOKMARK", bookmark),
                line("DELETED", pod("a", 61)),
            ]
        )
    )
    begun, added, modified, mark, gone = watched(kube)
    assert begun == Bookmark(5)
    assert isinstance(added, Applied)
    assert (added.item.name, added.resource_version) == ("a", 6)
    assert isinstance(modified, Applied)
    assert (modified.item.name, modified.resource_version) == ("b", 8)
    assert mark == Bookmark(60)
    assert gone == Deleted(ObjectKey("default", "a"), "uid-a", 61)

    query = server.requests[0].query
    assert 300 <= int(query.pop("timeoutSeconds")[0]) <= 600
    assert query == {"watch": ["true"], "resourceVersion": ["5"], "allowWatchBookmarks": ["true"]}
    assert server.requests[0].headers.get("Accept-Encoding") != "gzip"


def test_an_event_is_reported_when_it_comes_and_not_when_the_next_does(
    kube: Kube, script: list[Answer]
) -> None:
    raised = threading.Event()
    script.append(Answer(pieces=[line("ADDED", pod("a")), lambda: raised.wait(5), line("ADDED", pod("b"))]))
    events = kube.reader(PODS).watch(5)
    assert next(events) == Bookmark(5)
    assert isinstance(next(events), Applied)
    assert not raised.is_set()
    raised.set()
    assert isinstance(next(events), Applied)


EVENT = line("ADDED", pod("b"))


@pytest.mark.parametrize(
    ("pieces", "cut", "raised"),
    [
        pytest.param([EVENT[:-9]], False, ["a", "Retry"], id="A4: a line that is cut off"),
        pytest.param([EVENT[:-9]], True, ["a", "Unanswered"], id="A4: a reset in the middle of a line"),
        pytest.param([EVENT], True, ["a", "b", "Unanswered"], id="A4: a reset between two lines"),
        pytest.param([lambda: time.sleep(0.8)], False, ["a"], id="silence, without a bookmark"),
        pytest.param([EVENT[:-9], lambda: time.sleep(0.8)], False, ["a", "Retry"], id="silence in a line"),
        pytest.param([b"{]\n", EVENT], False, ["a", "Expired"], id="a line that is no JSON"),
        pytest.param([b"\n\n", EVENT], False, ["a", "b"], id="empty lines"),
        pytest.param(
            [line("EATEN", pod("x")), EVENT], False, ["a", "Unreadable", "b"], id="A25: unknown type"
        ),
        pytest.param(
            [line("ADDED", {**pod("x"), "kind": "Node"}), EVENT],
            False,
            ["a", "Unreadable", "b"],
            id="A25: kind",
        ),
        pytest.param(
            [line("ADDED", {"kind": "Pod"}), EVENT], False, ["a", "Unreadable", "b"], id="A25: no metadata"
        ),
        pytest.param([line("ADDED", None), EVENT], False, ["a", "Unreadable", "b"], id="A25: nothing"),
        pytest.param(
            [line("ADDED", pod("x", spec={"nodeName": 7})), EVENT],
            False,
            ["a", "Unreadable", "b"],
            id="B7: an object that cannot be read",
        ),
        pytest.param(
            [line("DELETED", pod("x", spec={"nodeName": 7})), EVENT],
            False,
            ["a", "Deleted", "b"],
            id="B7: an object that cannot be read is gone",
        ),
        pytest.param(
            [line("ADDED", pod("big", spec={"x": "y" * 3 * 1024 * 1024})), EVENT],
            False,
            ["a", "big", "b"],
            id="A25: a line of 3 MiB",
        ),
        pytest.param([b"x" * 1024 * 1024] * 6, False, ["a", "Expired"], id="a line without an end"),
        pytest.param(
            [line("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"}), EVENT],
            False,
            ["a", "Expired"],
            id="A6: 410 in the stream",
        ),
        pytest.param(
            [line("ERROR", {"kind": "Status", "code": 500, "message": "etcd"}), EVENT],
            False,
            ["a", "Retry"],
            id="500 in the stream",
        ),
        pytest.param([line("ERROR", "?"), EVENT], False, ["a", "Retry"], id="an error that says nothing"),
    ],
)
def test_a_watch_goes_on_or_says_how_to(
    kube: Kube, script: list[Answer], pieces: list[bytes], cut: bool, raised: list[str]
) -> None:
    script.append(Answer(pieces=[line("ADDED", pod("a")), *pieces], cut=cut))
    assert names(watched(kube)) == raised


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        pytest.param(status(410, "Expired"), Expired, id="A7: 410"),
        pytest.param(status(429), Retry, id="429"),
        pytest.param(status(403), Unknown, id="403"),
    ],
)
def test_a_watch_that_is_refused_tells_no_event(
    kube: Kube, script: list[Answer], answer: Answer, raised: type[Failure]
) -> None:
    script.append(answer)
    assert [type(event) for event in watched(kube)] == [raised]


def test_a_watch_that_is_throttled_says_for_how_long(kube: Kube, script: list[Answer]) -> None:
    script.append(Answer(429, headers={"Retry-After": "7"}))
    (raised,) = watched(kube)
    assert isinstance(raised, Retry)
    assert raised.after == 7


def test_an_unreadable_event_says_what_it_is_about(kube: Kube, script: list[Answer]) -> None:
    script.append(Answer(pieces=[line("ADDED", pod("x", 77, spec={"nodeName": 7}))]))
    _, event = watched(kube)
    assert isinstance(event, Unreadable)
    assert (event.key, event.uid, event.resource_version) == (ObjectKey("default", "x"), "uid-x", 77)


def test_stopping_breaks_watches_at_once_and_those_to_come(
    server: Server, script: list[Answer], tmp_path: Path
) -> None:
    over = threading.Event()
    script.append(Answer(pieces=[lambda: over.wait(20)]))
    kube = Kube.from_config(kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}"))
    with ThreadPoolExecutor(3) as threads:
        watches = [threads.submit(watched, kube) for _ in range(2)]
        eventually(lambda: len(server.requests) == 2)
        time.sleep(0.05)
        began = time.monotonic()
        kube.stop()
        watches.append(threads.submit(watched, kube))
        for watch in watches:
            watch.result(5)
        assert time.monotonic() - began < 1
    over.set()


# Writes


def test_writes_say_who_writes_and_what(kube: Kube, server: Server, script: list[Answer]) -> None:
    service = {"metadata": {"name": "a", "namespace": "ns", "resourceVersion": "2"}}
    key = ObjectKey("ns", "a")
    script.append(encoded(service))
    kube.create(RPCSERVICES, "ns", service)
    kube.replace(RPCSERVICES, key, service)
    kube.patch(RPCSERVICES, key, {"status": {"ready": "1/1"}}, "status")
    kube.delete(RPCSERVICES, key, "uid", "2")

    root = "/apis/rpcregistry.dev/v1alpha1/namespaces/ns/rpcservices"
    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", root),
        ("PUT", f"{root}/a"),
        ("PATCH", f"{root}/a/status"),
        ("DELETE", f"{root}/a"),
    ]
    assert [request.query for request in server.requests] == [{"fieldManager": ["rpcregistry"]}] * 3 + [{}]
    assert [request.headers["Content-Type"] for request in server.requests] == [
        "application/json",
        "application/json",
        "application/merge-patch+json",
        "application/json",
    ]
    bodies = [msgspec.json.decode(request.body) for request in server.requests]
    assert bodies == [
        service,
        service,
        {"status": {"ready": "1/1"}},
        {"preconditions": {"uid": "uid", "resourceVersion": "2"}},
    ]


def test_what_is_gone_already_needs_no_delete(kube: Kube, script: list[Answer]) -> None:
    script.append(status(404, "NotFound", name="a"))
    kube.delete(RPCSERVICES, ObjectKey("ns", "a"), "uid", "2")


def test_an_object_is_absent_only_where_its_resource_is_served(kube: Kube, script: list[Answer]) -> None:
    script += [status(404, "NotFound", name="a"), Answer(404, [b"404 page not found\n"])]
    assert kube.get(RPCSERVICES, ObjectKey("ns", "a")) is None
    with pytest.raises(Unknown):
        kube.get(RPCSERVICES, ObjectKey("ns", "a"))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a?b", "a#b", "a%2fb", "%2e%2e", "A", "a\n", "a b", "é", "a" * 254]
)
def test_a_name_that_is_none_reaches_no_server(kube: Kube, server: Server, name: str) -> None:
    """On a real server the names ``""`` and ``"."`` delete the whole collection."""
    key, call = ObjectKey("ns", name), pytest.raises(Rejected)
    with call:
        kube.delete(RPCSERVICES, key, "uid", "1")
    with call:
        kube.get(RPCSERVICES, key)
    with call:
        kube.patch(RPCSERVICES, key, {})
    with call:
        kube.replace(RPCSERVICES, key, {})
    if name:
        with call:
            kube.list(RPCSERVICES, name)
    assert server.requests == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/v1/namespaces/ns"),
        ("GET", "/metrics"),
        ("GET", "/api"),
        ("PUT", "/api/v1/namespaces//pods"),
        ("PUT", "/api/v1/namespaces/../pods"),
        ("PUT", "/api/v1/namespaces/%2e%2e/pods"),
        ("GET", "/api/v1/pods?limit=1"),
        ("GET", "/api/v1/pods/"),
        ("GET", "/api/v1/pods\n"),
    ],
)
def test_a_raw_request_that_names_no_object_reaches_no_server(
    kube: Kube, server: Server, method: str, path: str
) -> None:
    with pytest.raises(Rejected):
        kube.raw(method, path)
    assert server.requests == []


def test_sixteen_writers_write_at_once_and_keep_their_connections(
    server: Server, script: list[Answer], tmp_path: Path
) -> None:
    together = threading.Barrier(16)
    answer = encoded({"metadata": {"name": "a"}})
    script.append(Answer(pieces=[lambda: together.wait(10), *answer.pieces]))
    kube = Kube.from_config(kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}"))
    key = ObjectKey("ns", "a")
    with ThreadPoolExecutor(16) as threads:
        for _ in range(3):
            list(threads.map(lambda _: kube.patch(RPCSERVICES, key, {}), range(16)))
    assert len(server.requests) == 48
    assert len({request.connection for request in server.requests}) == 16


def test_connections_notice_a_peer_that_vanished(kube: Kube, server: Server, script: list[Answer]) -> None:
    script.append(page())
    kube.list(PODS)
    ours = [
        found
        for found in gc.get_objects()
        if isinstance(found, socket.socket) and found.fileno() >= 0 and _peer(found) == server.server_address
    ]
    assert len(ours) == 1
    assert ours[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert ours[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
    assert ours[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


def _peer(found: socket.socket) -> object:
    try:
        return found.getpeername()
    except OSError:
        return None


# Credentials, certificates and proxies


def certificate(folder: Path) -> ssl.SSLContext:
    """Make a certificate for 0.0.0.0, its own authority (``ca.crt``); return what a server needs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kube-apiserver")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("0.0.0.0"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "key")
    return context


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """The folder with a pod's service account."""
    (tmp_path / "token").write_text("one\n")
    return tmp_path


@pytest.fixture
def valid() -> set[str]:
    """The tokens that the in-cluster server accepts."""
    return {"one"}


def set_proxy(monkeypatch: pytest.MonkeyPatch, scheme: str, url: str, no_proxy: str = "") -> None:
    for name, value in ((f"{scheme}_proxy", url), ("no_proxy", no_proxy)):
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(name.upper(), value)


@pytest.fixture
def in_cluster(account: Path, valid: set[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An API server as a pod finds it.

    It is addressed as 0.0.0.0, which is this machine without being loopback: proxies would be asked.
    """

    def answer(request: Request) -> Answer:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return page() if scheme.lower() == "bearer" and token in valid else status(401, "Unauthorized")

    server = Server(answer)
    server.socket = certificate(account).wrap_socket(server.socket, server_side=True)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "0.0.0.0")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    set_proxy(monkeypatch, "https", "http://127.0.0.1:1")
    with serving(server):
        yield server


@pytest.mark.usefixtures("in_cluster")
def test_in_a_cluster_the_service_account_is_used_and_no_proxy(account: Path) -> None:
    assert Kube.from_config(None, service_account=account).list(PODS).items == []


def test_a_token_that_was_replaced_is_read_again_once(
    in_cluster: Server, account: Path, valid: set[str]
) -> None:
    kube = Kube.from_config(None, service_account=account)
    kube.list(PODS)
    valid.clear()
    valid.add("two")
    (account / "token").write_text("two")
    kube.list(PODS)
    assert len(in_cluster.requests) == 3

    valid.clear()
    for _ in range(5):
        with pytest.raises(Unknown) as caught:
            kube.list(PODS)
        assert "two" not in str(caught.value)
    assert len(in_cluster.requests) == 3 + 5


def test_a_token_file_that_is_gone_for_a_moment_kills_nothing(
    in_cluster: Server, account: Path, valid: set[str]
) -> None:
    kube = Kube.from_config(None, service_account=account)
    valid.clear()
    (account / "token").unlink()
    with pytest.raises(Unknown):
        kube.list(PODS)


@pytest.mark.usefixtures("in_cluster")
def test_a_pod_without_a_token_is_told_so(
    account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (account / "token").unlink()
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Misconfigured, match=r"this pod has no token .*automountServiceAccountToken"):
        Kube.from_config(None, service_account=account)
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text("{}")
    with pytest.raises(Misconfigured, match=r"cannot connect to a cluster with ~/\.kube/config"):
        Kube.from_config(None, service_account=account)


def test_a_token_that_no_header_can_hold_is_not_shown(in_cluster: Server, account: Path) -> None:
    (account / "token").write_text("s3cret\nX-Evil: yes")
    with pytest.raises(Retry) as caught:
        Kube.from_config(None, service_account=account).list(PODS)
    assert "s3cret" not in str(caught.value)
    assert in_cluster.requests == []


@pytest.mark.usefixtures("in_cluster")
def test_a_server_is_not_trusted_until_the_authority_in_the_file_is_its_own(
    account: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    right = (account / "ca.crt").read_bytes()
    other = tmp_path_factory.mktemp("other")
    certificate(other)
    (account / "ca.crt").write_bytes((other / "ca.crt").read_bytes())
    kube = Kube.from_config(None, service_account=account)
    with pytest.raises(Retry, match="certificate"):
        kube.list(PODS)
    (account / "ca.crt").write_bytes(right)
    kube.list(PODS)


def test_a_kubeconfig_is_read_again_when_its_authority_is_not_the_servers(
    in_cluster: Server,
    account: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_proxy(monkeypatch, "https", "http://127.0.0.1:1", no_proxy="0.0.0.0")
    other = tmp_path_factory.mktemp("other")
    certificate(other)
    url = f"https://0.0.0.0:{in_cluster.port}"
    file = kubeconfig(account, url, (other / "ca.crt").read_bytes(), token="one")
    kube = Kube.from_config(file)
    kubeconfig(account, url, (account / "ca.crt").read_bytes(), token="one")
    with pytest.raises(Retry, match="certificate"):
        kube.list(PODS)
    kube.list(PODS)


@pytest.mark.parametrize(
    ("host", "no_proxy", "asked"),
    [
        pytest.param("api.test", "", True, id="a server elsewhere"),
        pytest.param("api.test", ".test", False, id="a server that NO_PROXY names"),
        pytest.param("127.0.0.1", "", False, id="this machine"),
        pytest.param("localhost", "", False, id="this machine by name"),
    ],
)
def test_a_proxy_of_the_environment_is_asked_as_by_kubectl(
    server: Server,
    script: list[Answer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    no_proxy: str,
    asked: bool,
) -> None:
    script.append(page())
    set_proxy(monkeypatch, "http", f"http://127.0.0.1:{server.port}", no_proxy)
    kube = Kube.from_config(kubeconfig(tmp_path, f"http://{host}:1"), timeouts=FAST)
    if asked:
        kube.list(PODS)
        assert server.requests[0].path == f"http://{host}:1/api/v1/pods"
    else:
        with pytest.raises(Retry):
            kube.list(PODS)
        assert server.requests == []


@pytest.mark.parametrize(
    ("flag", "variable", "used"),
    [
        pytest.param("flag", "variable", "flag", id="the flag before $KUBECONFIG"),
        pytest.param(None, "variable", "variable", id="$KUBECONFIG before the service account"),
        pytest.param(None, "", "account", id="the service account before the usual file"),
    ],
)
def test_which_configuration_is_used(
    in_cluster: Server,
    account: Path,
    monkeypatch: pytest.MonkeyPatch,
    flag: str | None,
    variable: str,
    used: str,
) -> None:
    for name in ("flag", "variable"):
        (account / name).mkdir()
    files = {name: kubeconfig(account / name, "http://127.0.0.1:1") for name in ("flag", "variable")}
    monkeypatch.setenv("KUBECONFIG", files.get(variable, ""))
    kube = Kube.from_config(files[flag] if flag else None, service_account=account, timeouts=FAST)
    if used == "account":
        kube.list(PODS)
    else:
        with pytest.raises(Retry, match=r"127\.0\.0\.1"):
            kube.list(PODS)
        assert in_cluster.requests == []


def contexts(path: Path, current: str) -> str:
    """A kubeconfig with two contexts."""
    cluster = {"server": "http://127.0.0.1:1"}
    config = {
        "clusters": [{"name": name, "cluster": cluster} for name in ("a", "b")],
        "users": [],
        "contexts": [{"name": f"to-{name}", "context": {"cluster": name}} for name in ("a", "b")],
        "current-context": current,
    }
    (path / "contexts").write_bytes(msgspec.json.encode(config))
    return str(path / "contexts")


@pytest.mark.parametrize(
    ("current", "asked", "in_force"),
    [
        pytest.param("to-a", None, "to-a", id="the current one"),
        pytest.param("to-a", "to-b", "to-b", id="the one asked for"),
        pytest.param("", "to-b", "to-b", id="no current one"),
    ],
)
def test_the_context_in_force_can_be_read(tmp_path: Path, current: str, asked: str | None, in_force: str):
    kube = Kube.from_config(contexts(tmp_path, current), asked)
    assert (kube.context, kube.server) == (in_force, "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("current", "asked", "said"),
    [
        pytest.param(
            "to-a", "prod", "no context 'prod': its contexts are to-a, to-b", id="the one asked for"
        ),
        pytest.param("gone", None, "no context 'gone': its contexts are to-a, to-b", id="the current one"),
        pytest.param("", None, "--context; its contexts are to-a, to-b", id="no current one"),
    ],
)
def test_a_missing_context_is_reported_with_those_that_exist(
    tmp_path: Path, current: str, asked: str | None, said: str
):
    with pytest.raises(Misconfigured, match=said):
        Kube.from_config(contexts(tmp_path, current), asked)


def test_in_a_cluster_a_context_is_the_kubeconfigs(
    in_cluster: Server, account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    (tmp_path / ".kube").mkdir()
    Path(contexts(tmp_path, "to-a")).rename(tmp_path / ".kube" / "config")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Kube.from_config(None, service_account=account).context == "in-cluster"
    assert Kube.from_config(None, "to-b", service_account=account).context == "to-b"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "no such file", id="no such file"),
        pytest.param("", "it is empty", id="an empty file"),
        pytest.param("{", "it is no YAML", id="no YAML"),
        pytest.param("[1]", "it is no kubeconfig", id="no kubeconfig"),
        pytest.param(
            "{apiVersion: v1, kind: Config, clusters: [], users: [], contexts: []}",
            "it has no contexts",
            id="no context",
        ),
        pytest.param(
            "{clusters: [], current-context: a, contexts: [{name: a, context: {cluster: b}}]}",
            "name b in",
            id="no cluster",
        ),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Misconfigured, match=f"{file}: .*{said}"):
        Kube.from_config(str(file))
