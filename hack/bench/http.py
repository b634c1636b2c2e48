"""A bare HTTP client: raw connections that stay open, no retries, no decoding.

Floors and loads use it, so it does as little as the API server allows.
"""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

CONNECTIONS = 16  # the API server takes milliseconds for a write: more connections do not help it
IDLE = 60.0  # seconds; the API server closes a connection that nobody uses for 90
MERGE_PATCH = "application/merge-patch+json"


class Request(NamedTuple):
    """A request; *body* is JSON of *content_type*."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"


class Sent(NamedTuple):
    """When a request was sent and answered, by the monotonic clock, and the answer's body."""

    sent: float
    answered: float
    body: bytes


class Refused(RuntimeError):
    """The server refused the request."""


def request(method: str, path: str, manifest: Any = None) -> Request:
    """A request with a manifest; a PATCH is a merge patch."""
    body = b"" if manifest is None else json.dumps(manifest, separators=(",", ":")).encode()
    return Request(method, path, body, MERGE_PATCH if method == "PATCH" else "application/json")


class Connection:
    """One connection, for one thread."""

    def __init__(self, server: str, ca_file: Path, token: str) -> None:
        parts = urlsplit(server)
        raw = socket.create_connection((parts.hostname, parts.port or 443), timeout=120)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = ssl.create_default_context(cafile=str(ca_file))
        self._socket = context.wrap_socket(raw, server_hostname=parts.hostname)
        self._answers = self._socket.makefile("rb")
        self._fixed = f"Host: {parts.netloc}\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n"

    def send(self, asked: Request) -> bytes:
        """Send a request; return the answer's body, or raise ``Refused`` if it failed."""
        status, headers = self._ask(asked)
        if headers.get(b"transfer-encoding") == b"chunked":
            body = b"".join(self._chunks())
        else:
            body = self._answers.read(int(headers.get(b"content-length", b"0")))
        if not 200 <= status < 300:
            raise Refused(f"{asked.method} {asked.path}: {status} {body[:300].decode(errors='replace')}")
        return body

    def watch(self, path: str) -> Iterator[bytes]:
        """The lines of a watch, until ``close``."""
        self._socket.settimeout(None)
        status, _ = self._ask(Request("GET", path))
        if status != 200:
            raise Refused(f"GET {path}: {status}")
        pending = b""
        for chunk in self._chunks():
            *lines, pending = (pending + chunk).split(b"\n")
            yield from lines

    def close(self) -> None:
        """Break the connection, also under a watch."""
        self._socket.close()

    def shutdown(self) -> None:
        """End a watch that another thread reads."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def _ask(self, asked: Request) -> tuple[int, dict[bytes, bytes]]:
        head = (
            f"{asked.method} {asked.path} HTTP/1.1\r\n{self._fixed}"
            f"Content-Type: {asked.content_type}\r\nContent-Length: {len(asked.body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + asked.body)
        line = self._answers.readline()
        if not line:
            raise Refused(f"{asked.method} {asked.path}: the server closed the connection")
        headers: dict[bytes, bytes] = {}
        while (header := self._answers.readline()) not in (b"\r\n", b""):
            name, _, value = header.partition(b":")
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._answers.readline() or b"0", 16):
            yield self._answers.read(size)
            self._answers.readline()
        self._answers.readline()


class Client:
    """Several connections, each with a thread of its own."""

    def __init__(self, server: str, ca_file: Path, token: str, connections: int = CONNECTIONS) -> None:
        self._access = server, ca_file, token
        self._own = threading.local()
        self._opened: list[Connection] = []
        self._connections = connections
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="bare")

    def connect(self) -> Connection:
        """Open a connection for the caller alone."""
        connection = Connection(*self._access)
        self._opened.append(connection)
        return connection

    def send(self, asked: Request) -> bytes:
        """Send one request, over the calling thread's connection."""
        now = time.monotonic()
        if now - getattr(self._own, "used", float("-inf")) > IDLE:
            self._own.connection = self.connect()
        body: bytes = self._own.connection.send(asked)
        self._own.used = time.monotonic()
        return body

    def get(self, path: str) -> Any:
        """The decoded answer to a GET."""
        return json.loads(self.send(Request("GET", path)))

    def each(self, asked: Sequence[Request]) -> Iterator[bytes]:
        """Send all over all connections; return the answers in order."""
        return self._pool.map(self.send, asked)

    def paced(self, asked: Sequence[Request], rate: float) -> list[Sent]:
        """Send *rate* a second, without waiting for earlier answers."""
        turns = count()
        start = time.monotonic()
        answers: dict[int, Sent] = {}

        def run(_: int) -> None:
            while (turn := next(turns)) < len(asked):
                time.sleep(max(0.0, start + turn / rate - time.monotonic()))
                sent = time.monotonic()
                body = self.send(asked[turn])
                answers[turn] = Sent(sent, time.monotonic(), body)

        list(self._pool.map(run, range(self._connections)))
        return [answers[turn] for turn in range(len(asked))]

    def close(self) -> None:
        """End all connections."""
        self._pool.shutdown()
        for connection in self._opened:
            connection.close()
