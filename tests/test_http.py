"""HTTP to the API server, byte by byte: what a server may answer, and what becomes of the connection."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rpcregistry.errors import Failure, Rejected, Retry, Unanswered, Unknown
from rpcregistry.kube.client import Kube
from rpcregistry.kube.http import LONGEST_HEAD
from rpcregistry.kube.requests import Timeouts
from tests.test_kube import eventually, kubeconfig

Piece = bytes | Callable[[], object]
FAST = Timeouts(watch=(5, 1), read=(5, 1), write=(5, 1), body=1)
PATIENT = Timeouts(watch=(5, 20), read=(5, 20), write=(5, 20), body=20)


@dataclass
class Says:
    """*pieces* answer one request; a function among them is called instead, and may wait.

    *then*: whether the server closes the connection (``close``, ``reset``) or reads on (``""``).
    """

    pieces: list[Piece] = field(default_factory=list)
    then: str = ""


class Server:
    """Answers the requests of all connections in the order of *script*; the last answer is repeated."""

    def __init__(self) -> None:
        self.script: list[Says] = []
        self.requests: list[tuple[int, bytes]] = []  # the number of the connection, and the request
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections.append(connection)
                number = len(self.connections) - 1
                threading.Thread(target=self._serve, args=(number, connection), daemon=True).start()

    def _serve(self, number: int, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as incoming:
            while line := incoming.readline():
                head = line
                while (line := incoming.readline()) not in (b"\r\n", b""):
                    head += line
                length = [int(h.split(b":")[1]) for h in head.splitlines() if h.startswith(b"Content-Length")]
                self.requests.append((number, head + incoming.read(sum(length))))
                says = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                for piece in says.pieces:
                    if callable(piece):
                        piece()
                    else:
                        connection.sendall(piece)
                if says.then == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                if says.then:
                    return

    @property
    def used(self) -> list[int]:
        """Which connection each request came over."""
        return [number for number, _ in self.requests]

    def close(self) -> None:
        """Close all, also under a thread that reads."""
        self._listener.close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def kube(server: Server, tmp_path: Path) -> Kube:
    return Kube.from_config(kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}"), timeouts=FAST)


@pytest.fixture
def patient(server: Server, tmp_path: Path) -> Kube:
    """For what is no matter of time."""
    return Kube.from_config(kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}"), timeouts=PATIENT)


def silence() -> None:
    """Longer than ``FAST`` waits."""
    threading.Event().wait(20)


def ask(kube: Kube, method: str = "GET") -> object:
    return kube.raw(method, "/api/v1/nodes", {})


def sized(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


def chunked(*chunks: bytes, headers: bytes = b"", last: bytes = b"0\r\n\r\n") -> bytes:
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + headers + b"\r\n" + pieces + last


def slowly(content: bytes) -> list[Piece]:
    """Byte by byte, each in a packet of its own."""
    return [piece for byte in content for piece in (bytes([byte]), lambda: time.sleep(0.001))]


FINE = b'{"fine": true}'
DRIP: list[Piece] = [b" ", lambda: time.sleep(0.3)]
HEADERS_THAT_DRIP: list[Piece] = [b"X: y\r\n", lambda: time.sleep(0.3)]
GZIP = b"Content-Encoding: gzip\r\n"
PACKED = gzip.compress(FINE)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nContent-Encoding: br\r\nContent-Length: 7\r\n\r\n"


@pytest.mark.parametrize(
    ("says", "kept"),
    [
        pytest.param(Says([sized(FINE)]), True, id="a length"),
        pytest.param(Says(slowly(sized(FINE))), True, id="a length, byte by byte"),
        pytest.param(Says([chunked(FINE[:3], FINE[3:])]), True, id="chunks"),
        pytest.param(Says(slowly(chunked(FINE[:3], FINE[3:]))), True, id="chunks, byte by byte"),
        pytest.param(Says([chunked(FINE, last=b"0;a=b\r\nEtag: x\r\n\r\n")]), True, id="trailers"),
        pytest.param(
            Says([chunked(FINE, last=b"0\r\nContent-Encoding: br\r\n\r\n")]), True, id="a trailer that lies"
        ),
        pytest.param(Says([sized(PACKED, GZIP.strip())]), True, id="gzip"),
        pytest.param(Says([chunked(PACKED[:9], PACKED[9:], headers=GZIP)]), True, id="gzip in chunks"),
        pytest.param(Says([b"HTTP/1.1 100 Continue\r\n\r\n" + sized(FINE)]), True, id="1xx in the packet"),
        pytest.param(Says([INTERIM, *slowly(INTERIM), sized(FINE)]), True, id="1xx before it, twice"),
        pytest.param(Says([sized(FINE, b"Connection: close")], "close"), False, id="Connection: close"),
        pytest.param(Says([sized(FINE, b"Connection: close")]), False, id="Connection: close that is late"),
        pytest.param(Says([b"HTTP/1.1 200 OK\r\n\r\n" + FINE], "close"), False, id="all until the end"),
        pytest.param(Says([b"HTTP/1.0 200 OK\r\n\r\n" + FINE], "close"), False, id="HTTP/1.0"),
        pytest.param(Says([sized(FINE) + sized(b"{}")]), False, id="a second answer to one request"),
        pytest.param(Says([sized(FINE) + b"garbage"]), False, id="garbage behind the answer"),
        pytest.param(Says([sized(FINE, b"X: " + b"x" * 100_000)]), True, id="a large header"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_answer_is_read_and_its_connection_kept_if_it_can_be(
    patient: Kube, server: Server, says: Says, kept: bool, method: str
) -> None:
    server.script = [says, Says([sized(b"{}")])]
    assert ask(patient, method) == {"fine": True}
    assert ask(patient, method) == {}
    assert server.used == ([0, 0] if kept else [0, 1])


@pytest.mark.parametrize(
    ("says", "raised"),
    [
        pytest.param(Says([], "close"), Unanswered, id="closed"),
        pytest.param(Says([], "reset"), Unanswered, id="reset"),
        pytest.param(Says([silence]), Unanswered, id="silence"),
        pytest.param(Says([b"HTTP/1.1 200"], "close"), Unanswered, id="half a status line"),
        pytest.param(Says([sized(FINE)[:30]], "close"), Unanswered, id="half the headers"),
        pytest.param(Says([sized(FINE)[:30], silence]), Unanswered, id="headers, silence"),
        pytest.param(
            Says([sized(FINE)[:17], *HEADERS_THAT_DRIP * 6, sized(FINE)[17:]]),
            Unanswered,
            id="headers that drip",
        ),
        pytest.param(Says([sized(FINE)[:-3]], "close"), Unanswered, id="half the body"),
        pytest.param(Says([sized(FINE)[:-3]], "reset"), Unanswered, id="half the body, then a reset"),
        pytest.param(Says([sized(FINE)[:-3], silence]), Unanswered, id="half the body, silence"),
        pytest.param(Says([chunked(FINE, last=b"")], "close"), Unanswered, id="no last chunk"),
        pytest.param(Says([chunked(FINE, last=b"7\r\nab")], "close"), Unanswered, id="half a chunk"),
        pytest.param(Says([chunked(FINE, last=b"x\r\n")]), Unanswered, id="a chunk of no size"),
        pytest.param(Says([sized(PACKED[:-4], GZIP.strip())]), Unanswered, id="half of the gzip"),
        pytest.param(Says([sized(PACKED + b"x", GZIP.strip())]), Unanswered, id="more than the gzip"),
        pytest.param(Says([sized(FINE, GZIP.strip())]), Unanswered, id="no gzip"),
        pytest.param(Says([sized(FINE, b"Content-Encoding: br")]), Unanswered, id="another encoding"),
        pytest.param(Says([b"SSH-2.0-OpenSSH_9.2\r\n"]), Unanswered, id="no HTTP"),
        pytest.param(Says([b"\x15\x03\x01\x00\x02\x02\x16"]), Unanswered, id="TLS"),
        pytest.param(Says([b"HTTP/2 200\r\n\r\n"]), Unanswered, id="HTTP/2"),
        pytest.param(Says([sized(FINE, b"Transfer-Encoding: chunked")]), Unanswered, id="length and chunks"),
        pytest.param(Says([sized(FINE, b"Content-Length: 3")]), Unanswered, id="two lengths"),
        pytest.param(Says([sized(FINE, b"no header")]), Unanswered, id="a line that is no header"),
        pytest.param(
            Says([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"]),
            Unanswered,
            id="another protocol",
        ),
        pytest.param(Says([sized(b" " * 9)[:-9], *DRIP * 8]), Unanswered, id="a body that drips"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_answer_that_breaks_off_is_a_failure_once_and_closes_its_connection(
    kube: Kube, server: Server, says: Says, raised: type[Failure], method: str
) -> None:
    server.script = [says, Says([sized(FINE)])]
    with pytest.raises(Retry) as caught:
        ask(kube, method)
    assert type(caught.value) is raised
    assert server.used == [0]
    assert ask(kube, method) == {"fine": True}
    assert server.used == [0, 1]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"X: y\r\n" * (LONGEST_HEAD // 6), id="many"),
        pytest.param(b"X: " + b"y" * LONGEST_HEAD, id="a long one"),
    ],
)
def test_headers_without_an_end_are_not_read_for_ever(patient: Kube, server: Server, headers: bytes) -> None:
    server.script = [Says([b"HTTP/1.1 200 OK\r\n" + headers + b"y" * 100_000]), Says([sized(FINE)])]
    with pytest.raises(Unanswered, match="headers do not end"):
        ask(patient)
    assert ask(patient) == {"fine": True}
    assert server.used == [0, 1]


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        pytest.param(b"409 Conflict", Retry, id="409"),
        pytest.param(b"403 Forbidden", Rejected, id="403"),
        pytest.param(b"503 Service Unavailable", Retry, id="503"),
    ],
)
def test_a_refusal_keeps_the_connection(patient: Kube, server: Server, status: bytes, raised: type[Failure]):
    server.script = [Says([sized(b"{}", status=status)]), Says([sized(FINE)])]
    with pytest.raises(raised):
        ask(patient, "PUT")
    ask(patient, "PUT")
    assert server.used == [0, 0]


def test_a_refusal_is_read_though_the_server_did_not_take_the_whole_body(tmp_path: Path) -> None:
    """It stops reading, answers and closes, while we still send."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = kubeconfig(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}")

        def refuse() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(sized(b"{}", b"Connection: close", status=b"413 Request Entity Too Large"))
            connection.close()  # a reset, since it did not read all

        threading.Thread(target=refuse, daemon=True).start()
        with pytest.raises(Rejected, match="413"):
            Kube.from_config(config, timeouts=PATIENT).raw("PUT", "/api/v1/nodes", {"x": "y" * 5_000_000})


@pytest.mark.parametrize("path", ["/a HTTP/1.1\r\nX: y", "/a b", "/\n", "/é"])
def test_a_path_that_no_request_can_have_is_not_sent(kube: Kube, server: Server, path: str) -> None:
    with pytest.raises(Retry):
        kube.read("list leases", path)
    assert server.requests == []


# Connections that were idle


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize(
    ("method", "pieces", "answered", "used"),
    [
        pytest.param("GET", [], True, [0, 0, 1], id="a read that was not answered is sent once more"),
        pytest.param("PUT", [], False, [0, 0], id="a write that was not answered is not"),
        pytest.param("GET", [b"HTTP/1.1"], False, [0, 0], id="a read that was half answered is not"),
    ],
)
def test_what_is_sent_over_an_idle_connection_that_the_server_closes(
    patient: Kube, server: Server, end: str, method: str, pieces: list[Piece], answered: bool, used: list[int]
) -> None:
    server.script = [Says([sized(b"{}")]), Says(pieces, end), Says([sized(FINE)])]
    ask(patient)
    if answered:
        assert ask(patient, method) == {"fine": True}
    else:
        with pytest.raises(Unanswered):
            ask(patient, method)
    assert server.used == used


def test_a_read_is_sent_once_more_and_no_more(patient: Kube, server: Server) -> None:
    server.script = [Says([sized(b"{}")]), Says([], "close")]
    ask(patient)
    with pytest.raises(Unanswered):
        ask(patient)
    assert server.used == [0, 0, 1]


def test_a_connection_that_the_server_closed_is_not_written_to(patient: Kube, server: Server) -> None:
    server.script = [Says([sized(b"{}")], "close"), Says([sized(FINE)])]
    ask(patient, "PUT")
    eventually(lambda: server.connections[0].fileno() < 0)
    assert ask(patient, "PUT") == {"fine": True}
    assert server.used == [0, 1]


def test_an_answer_to_nothing_is_not_taken_for_the_next_requests(patient: Kube, server: Server) -> None:
    """A server that answers twice, the second time when nobody asked."""
    server.script = [Says([sized(b'{"first": 1}')]), Says([sized(FINE)])]
    ask(patient, "PUT")
    server.connections[0].sendall(sized(b'{"late": 1}'))
    assert ask(patient, "PUT") == {"fine": True}
    assert server.used == [0, 1]


# Watches


def watch(kube: Kube) -> bytes:
    with kube._requests.stream("watch nodes", "/api/v1/nodes", {"watch": "true"}) as chunks:
        return b"".join(chunks)


@pytest.mark.parametrize(
    ("says", "raised"),
    [
        pytest.param(Says([chunked(b"1\n", b"2\n")]), None, id="an end"),
        pytest.param(Says([INTERIM, *slowly(chunked(b"1\n", b"2\n"))]), None, id="byte by byte"),
        pytest.param(
            Says([chunked(gzip.compress(b"1\n2\n"), headers=GZIP)]), None, id="gzip that nobody asked for"
        ),
        pytest.param(Says([chunked(b"1\n2\n", last=b""), silence]), None, id="silence ends it"),
        pytest.param(Says([b"HTTP/1.1 200 OK\r\n\r\n1\n2\n"], "close"), None, id="a connection's end"),
        pytest.param(Says([chunked(b"1\n", last=b"")], "close"), Unanswered, id="no last chunk"),
        pytest.param(Says([chunked(b"1\n", last=b"")], "reset"), Unanswered, id="a reset"),
        pytest.param(Says([chunked(b"1\n", last=b"x\r\n")]), Unanswered, id="a chunk of no size"),
        pytest.param(Says([sized(b"no", status=b"403 Forbidden")]), Unknown, id="a refusal"),
        pytest.param(Says([b"?"]), Unanswered, id="no HTTP"),
        pytest.param(Says([silence]), Unanswered, id="silence instead of headers"),
    ],
)
def test_a_watch_reads_what_comes_and_leaves_no_connection(
    kube: Kube, server: Server, says: Says, raised: type[Failure] | None
) -> None:
    server.script = [says, Says([sized(FINE)])]
    if raised is None:
        assert watch(kube) == b"1\n2\n"
    else:
        with pytest.raises(Failure) as caught:
            watch(kube)
        assert type(caught.value) is raised
    ask(kube)
    assert server.used[-1] == (0 if raised is Unknown else 1)
