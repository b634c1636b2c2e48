"""The proxy that fault tests put in between: what it does to bytes, real sockets show."""

import socket
from collections.abc import Callable, Iterator

import pytest

from hack.local.proxy import Proxy

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
