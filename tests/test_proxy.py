"""The proxies that tests put in between: what they do to bytes, real sockets show."""

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from hack.local.proxy import Proxy
from hack.local.tunnel import Tunnel, egress

ALL = b"x" * 1000

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def proxy(listener: socket.socket) -> Iterator[Proxy]:
    with Proxy(f"127.0.0.1:{listener.getsockname()[1]}") as made:
        yield made


@pytest.fixture
def connected(listener: socket.socket, proxy: Proxy) -> Iterator[Callable[[], Ends]]:
    """Connects a client through the proxy; returns its socket and the server's."""
    made: list[socket.socket] = []

    def connect() -> Ends:
        host, port = proxy.address.split(":")
        client = socket.create_connection((host, int(port)), timeout=30)
        server, _ = listener.accept()
        server.settimeout(30)
        made.extend((client, server))
        client.sendall(b"?")
        assert server.recv(1) == b"?"
        return client, server

    yield connect
    for end in made:
        end.close()


def test_what_is_cut_ends_and_what_is_reset_fails_and_new_connections_are_served(proxy, connected):
    for end in connected():
        proxy.cut()
        assert end.recv(1) == b""
    for end in connected():
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            end.recv(1)
    connected()


@pytest.mark.parametrize("direction", [1, -1], ids=["to the server", "to the client"])
def test_a_throttled_connection_delivers_all_of_it_by_and_by(proxy, connected, direction: int):
    source, sink = connected()[::direction]
    proxy.throttle(20)
    source.sendall(ALL)
    first = sink.recv(len(ALL))
    assert 0 < len(first) < len(ALL)
    proxy.pass_through()
    rest = b""
    while len(first + rest) < len(ALL):
        rest += sink.recv(len(ALL))
    assert first + rest == ALL


def asked(tunnel: str, port: int) -> tuple[socket.socket, bytes]:
    """The connection by the API server's way through a tunnel, and the first line of what it is answered."""
    (selection,) = egress(tunnel)["egressSelections"]
    path = selection["connection"]["transport"]["uds"]["udsName"]
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(path.replace("@", "\0"))
    client.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return client, client.recv(1000).partition(b"\r\n")[0]


def test_a_tunnel_passes_on_both_ways_until_either_end_has_said_all(listener: socket.socket):
    name = f"test-{os.getpid()}"
    with Tunnel(name, lambda host, port: socket.create_connection((host, port), timeout=30)):
        client, line = asked(name, listener.getsockname()[1])
        listener.settimeout(30)
        server, _ = listener.accept()
        with client, server:
            assert line == b"HTTP/1.1 200 Connected"
            server.settimeout(30)
            client.sendall(ALL)
            client.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: server.recv(1000), b"")) == ALL
            server.sendall(ALL)
            server.close()
            assert b"".join(iter(lambda: client.recv(1000), b"")) == ALL

        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        client, line = asked(name, port)
        client.close()
        assert line.startswith(b"HTTP/1.1 502 ")
