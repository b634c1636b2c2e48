"""A proxy by HTTP's CONNECT: the API server's way to kubelets in another network."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from socketserver import StreamRequestHandler, ThreadingMixIn, UnixStreamServer
from typing import Any, Self

CHUNK = 65536


def egress(name: str) -> dict[str, Any]:
    """The configuration with which the API server connects to nodes by the tunnel *name*."""
    # https://kubernetes.io/docs/reference/config-api/apiserver-config.v1beta1/
    connection = {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": f"@{name}"}}}
    return {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    }


class Tunnel(ThreadingMixIn, UnixStreamServer):
    """Listens at the Unix socket *name*; *connect*: how a host and port in the other network are reached.

    The socket is an abstract one (unix(7)), so no path is too long for it, and no file is left.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, name: str, connect: Callable[[str, int], socket.socket]) -> None:
        super().__init__(f"\0{name}", _Connection)
        self.connect = connect

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Connection(StreamRequestHandler):
    """One connection, from its CONNECT until both ends have said all."""

    server: Tunnel
    rbufsize = 0  # what comes after the request is not ours

    def handle(self) -> None:
        """Connect, say so, and pass on."""
        host, _, port = self.rfile.readline().split()[1].decode().rpartition(":")
        while self.rfile.readline().strip():
            pass
        try:
            there = self.server.connect(host, int(port))
        except OSError as error:
            self.wfile.write(f"HTTP/1.1 502 {error}\r\n\r\n".encode())
            return
        with there:
            there.settimeout(None)
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(there, self.connection), daemon=True)
            back.start()
            _pass_on(self.connection, there)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
