"""The REST interface: ``GET`` and ``PUT /cache/<type>``, ``/healthz``, ``/readyz``."""

import re
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from peer_cache.entries import Key
from peer_cache.replica import Replica

LARGEST_BODY = 4 * 2**20  # bytes
LARGEST_TYPE = 2**31 - 1
_CACHE = re.compile(r"/cache/([0-9]{1,10})")


class Refused(Exception):
    """The request is wrong, or comes too early."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds
    server: "RestServer"

    def do_GET(self) -> None:
        try:
            match self.path:
                case "/healthz":
                    self._answer(HTTPStatus.OK, b"ok\n")
                case "/readyz":
                    self._require_filled()
                    self._answer(HTTPStatus.OK, b"ok\n")
                case _:
                    type_ = self._type()
                    self._require_filled()
                    held = self.server.replica.cache.of(type_)
                    values = {name: entry.value for name, entry in held.items()}
                    self._answer(
                        HTTPStatus.OK, msgspec.json.encode(values, order="sorted"), "application/json"
                    )
        except Refused as refused:
            self._refuse(refused)

    def do_PUT(self) -> None:
        try:
            type_, body = self._type(), self._body()
            self._require_filled()
            try:
                values = msgspec.json.decode(body, type=dict[str, str])
            except ValueError as error:
                raise Refused(HTTPStatus.BAD_REQUEST, f"not a JSON object of strings: {error}") from error
            self.server.replica.set({Key(type_, name): value for name, value in values.items()})
            self._answer(HTTPStatus.NO_CONTENT)
        except Refused as refused:
            self._refuse(refused)

    def _type(self) -> int:
        found = _CACHE.fullmatch(self.path)
        if not found or int(found[1]) > LARGEST_TYPE:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is /cache/<type>, a type being 0 to {LARGEST_TYPE}")
        return int(found[1])

    def _require_filled(self) -> None:
        if not self.server.replica.filled:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "still taking over what the peers have")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
        if int(length) > LARGEST_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {LARGEST_BODY} bytes at once")
        return self.rfile.read(int(length))

    def _refuse(self, refused: Refused) -> None:
        # We may not have read its body, which would look like the next request on this connection.
        self.close_connection = True
        self._answer(refused.status, f"{refused}\n".encode())

    def _answer(self, status: HTTPStatus, body: bytes = b"", content_type: str = "text/plain") -> None:
        self.send_response(status)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: probes and clients ask often."""


class RestServer(ThreadingHTTPServer):
    """The interface to *replica* on *host*, all addresses if that is empty."""

    daemon_threads = True

    def __init__(self, replica: Replica, host: str, port: int) -> None:
        self.replica = replica
        super().__init__((host, port), _Handler, bind_and_activate=False)
        # Not HTTPServer's own bind, which asks DNS for a name and has one address family.
        self.socket.close()
        both = not host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
        self.socket = socket.create_server((host, port), family=family, dualstack_ipv6=both)
        self.server_address = self.socket.getsockname()
