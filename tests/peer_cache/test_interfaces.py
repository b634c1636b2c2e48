"""What clients see: REST, and gRPC as a client that knows only the proto uses it."""

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from peer_cache.entries import Key
from peer_cache.rest import LARGEST_BODY, RestServer
from peer_cache.sync_pb2 import SyncData, SyncRequest
from peer_cache.sync_pb2_grpc import SyncStub
from tests.cluster.waiting import eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "peer-cache"
NOT_FILLED = grpc.StatusCode.FAILED_PRECONDITION


class Rest:
    """An HTTP client that keeps its connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __call__(self, method: str, path: str, body: str | bytes | None = None, **headers: str):
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode()

    def get(self, type_: int):
        status, body = self("GET", f"/cache/{type_}")
        assert status == 200, body
        return json.loads(body)


@pytest.fixture
def node(network, request):
    return network.add(filled=getattr(request, "param", True))


@pytest.fixture
def rest(node) -> Iterator[Rest]:
    server = RestServer(node.replica, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    yield Rest(server.server_address[1])
    server.shutdown()
    server.server_close()


@pytest.fixture
def sync(node) -> Iterator[SyncStub]:
    with grpc.insecure_channel(node.address) as channel:
        yield SyncStub(channel)


def test_put_merges_and_get_returns(rest):
    assert rest("PUT", "/cache/1", '{"a": "x", "b": "y"}') == (204, "")
    assert rest("PUT", "/cache/1", '{"b": "z", "ü": ""}'.encode()) == (204, "")
    assert rest.get(1) == {"a": "x", "b": "z", "ü": ""}
    assert rest.get(2) == {}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("PUT", "/cache/0", "{", 400, id="no JSON"),
        pytest.param("PUT", "/cache/0", b"\xff", 400, id="no UTF-8"),
        pytest.param("PUT", "/cache/0", '["a"]', 400, id="no object"),
        pytest.param("PUT", "/cache/0", '{"a": 1}', 400, id="a value that is no string"),
        pytest.param("PUT", "/cache/0", '{"a": "\\ud800"}', 400, id="half a surrogate pair"),
        pytest.param("PUT", "/cache/0", "[" * 100_000, 400, id="JSON too deep"),
        pytest.param("PUT", "/cache/x", "{}", 404, id="no number"),
        pytest.param("PUT", "/cache/-1", "{}", 404, id="a type below zero"),
        pytest.param("GET", "/cache/2147483648", None, 404, id="a type too large"),
        pytest.param("GET", "/", None, 404, id="elsewhere"),
        pytest.param("DELETE", "/cache/0", None, 501, id="no deleting"),
        pytest.param("GET", "/healthz", None, 200, id="alive"),
        pytest.param("GET", "/readyz", None, 200, id="ready"),
    ],
)
def test_rest_answers(rest, method, path, body, status):
    answered, text = rest(method, path, body)
    assert (answered, bool(text)) == (status, True)
    assert rest.get(0) == {}


def test_too_much_at_once_is_refused(rest):
    assert rest("PUT", "/cache/0", **{"Content-Length": str(LARGEST_BODY + 1)})[0] == 413


def test_a_body_of_unknown_length_is_refused(rest):
    assert rest("PUT", "/cache/0", **{"Transfer-Encoding": "chunked"})[0] == 411


@pytest.mark.parametrize("node", [False], indirect=True)
def test_until_it_is_filled_it_is_alive_and_not_ready(rest, sync, node):
    assert [rest("GET", path)[0] for path in ("/healthz", "/readyz", "/cache/0")] == [200, 503, 503]
    assert rest("PUT", "/cache/0", '{"a": "x"}')[0] == 503
    for call in sync.Get, sync.Set, sync.GetAll:
        with pytest.raises(grpc.RpcError) as failure:
            call(SyncRequest(data=[SyncData(type=0, data={"a": "x"})]), timeout=60)
        assert failure.value.code() == NOT_FILLED
    node.replica.fill(patience=0)
    assert (rest("GET", "/readyz")[0], rest.get(0)) == (200, {})


@pytest.mark.parametrize("node", [False], indirect=True)
def test_what_peers_send_while_it_is_being_filled_is_kept(sync, node):
    data = [SyncData(type=0, data={"a": "x"}), SyncData(type=-1, data={"a": "1-f"})]
    sync.Set(SyncRequest(data=data), timeout=60)
    assert node.value("a") == "x"


def test_a_client_that_knows_only_the_proto_reads_and_writes(network, node, rest, sync):
    peer = network.add()
    sync.Set(SyncRequest(data=[SyncData(type=3, data={"a": "x"}), SyncData(type=4, data={"b": "y"})]))
    assert rest.get(3) == {"a": "x"}
    assert list(sync.GetAll(SyncRequest()).data) == [
        SyncData(type=3, data={"a": "x"}),
        SyncData(type=4, data={"b": "y"}),
    ]
    assert list(sync.Get(SyncRequest(data=[SyncData(type=4)])).data) == [SyncData(type=4, data={"b": "y"})]
    eventually(lambda: (peer.value("a", 3), peer.value("b", 4)) == ("x", "y"))


def test_of_what_comes_with_a_version_the_newest_stays(node, sync):
    node.replica.set({Key(0, "a"): "mine"})
    (mine,) = sync.Get(SyncRequest(data=[SyncData(type=-1)])).data
    counter = int(mine.data["a"].split("-")[0])
    for number, stays in ((counter - 1, "mine"), (counter + 1, "theirs")):
        data = [SyncData(type=0, data={"a": "theirs"}), SyncData(type=-1, data={"a": f"{number}-f"})]
        sync.Set(SyncRequest(data=data))
        assert node.value("a") == stays


def test_a_version_that_cannot_be_read_is_refused(node, sync):
    data = [SyncData(type=0, data={"a": "x"}), SyncData(type=-1, data={"a": "newest"})]
    with pytest.raises(grpc.RpcError) as failure:
        sync.Set(SyncRequest(data=data))
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert node.value("a") is None


def test_the_generated_code_is_what_the_proto_gives(tmp_path):
    subprocess.run([EXAMPLE / "generate", tmp_path], env={**os.environ, "PYTHON": sys.executable}, check=True)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.py*")}
    assert len(made) == 3
    assert {path: (EXAMPLE / path).read_text() for path in made} == made
