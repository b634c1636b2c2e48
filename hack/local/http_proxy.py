"""A proxy in front of kube-apiserver that sees requests and answers, and may change or lose them."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, bytes]
PER_CONNECTION = {
    "connection",
    "content-length",
    "host",
    "transfer-encoding",
    "accept-encoding",
    "keep-alive",
}


class Cut(Exception):
    """Raised by a hook: break the connection instead of answering."""


def untouched(_method: str, _path: str, status: int, body: bytes) -> Answer:
    """Change nothing."""
    return status, body


def unanswered(_method: str, _path: str) -> Answer | None:
    """Leave the answer to the server."""
    return None


class HttpProxy:
    """Passes requests on to *server* (``https://HOST:PORT``) with the certificate in *pki*.

    *requests* records them: (method, path with its query).  Two hooks, each of which may raise
    ``Cut``: ``instead(method, path)`` answers in the server's place, or returns None; ``rewrite(method,
    path, status, body)`` returns what becomes of a whole answer.  Watches are no whole answers: they are
    passed on as they come, up to *watch_bytes* where that is set, and broken there.

    *latency*: the seconds that a new connection takes, and each request on it.
    """

    def __init__(self, server: str, pki: Path) -> None:
        self.requests: list[tuple[str, str]] = []
        self.instead: Callable[[str, str], Answer | None] = unanswered
        self.rewrite: Callable[[str, str, int, bytes], Answer] = untouched
        self.watch_bytes: int | None = None
        self.latency = 0.0
        self._lock = threading.Lock()
        self._watches: dict[HTTPSConnection, str] = {}
        self._target = urlsplit(server).netloc
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._http = _Server(self, pki)
        self.server = f"https://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self.cut_watches()

    def reset(self) -> None:
        """Pass everything on from now on."""
        self.instead, self.rewrite, self.watch_bytes = unanswered, untouched, None
        self.latency = 0.0

    def cut_all(self) -> None:
        """Break the connections of all clients."""
        for connection in self._http.connections():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def cut_watches(self, resource: str = "") -> None:
        """Break the watches of *resource* (a plural; ``""``: all) that run now."""
        with self._lock:
            running = [watch for watch, path in self._watches.items() if is_of(path, resource)]
        for watch in running:
            if watch.sock:
                with suppress(OSError):
                    watch.sock.shutdown(2)

    def lose_request(
        self, matches: Callable[[str, str], bool], then: Callable[[], None] = lambda: None
    ) -> None:
        """Do not pass on the first request that matches: call *then*, and break the connection."""
        once = _Once(matches)

        def instead(method: str, path: str) -> None:
            if once(method, path):
                then()
                raise Cut

        self.instead = instead

    def lose_reply(
        self, matches: Callable[[str, str], bool], then: Callable[[], None] = lambda: None
    ) -> None:
        """Pass on that request; once it is answered, call *then*, and break the connection instead."""
        once = _Once(matches)

        def rewrite(method: str, path: str, status: int, body: bytes) -> Answer:
            if once(method, path):
                then()
                raise Cut
            return status, body

        self.rewrite = rewrite

    # for the handlers

    def connect(self) -> HTTPSConnection:
        """A connection to the server."""
        return HTTPSConnection(self._target, context=self._context)

    @contextmanager
    def watching(self, upstream: HTTPSConnection, path: str) -> Iterator[None]:
        """While a watch runs."""
        with self._lock:
            self._watches[upstream] = path
        try:
            yield
        finally:
            with self._lock:
                del self._watches[upstream]


def is_of(path: str, resource: str) -> bool:
    """Whether *path* is about the resource with this plural."""
    return not resource or resource in urlsplit(path).path.split("/")


def is_watch(path: str) -> bool:
    """Whether *path* asks for a watch."""
    return "watch" in parse_qs(urlsplit(path).query)


def is_list(method: str, path: str, resource: str) -> bool:
    """Whether it is a LIST of the resource, and not one of a single object for the resourceVersion."""
    query = parse_qs(urlsplit(path).query)
    whole = method == "GET" and not is_watch(path) and query.get("limit") != ["1"]
    return whole and urlsplit(path).path.endswith(f"/{resource}")


def without_items(body: bytes, keep: Callable[[Any], bool] = lambda _: False) -> bytes:
    """A LIST's answer with only the items that *keep* chooses."""
    listed = json.loads(body)
    listed["items"] = [item for item in listed["items"] if keep(item)]
    return json.dumps(listed).encode()


def error_event(code: int, reason: str) -> Answer:
    """A watch with an ERROR event only."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return 200, json.dumps({"type": "ERROR", "object": {**status, "message": reason}}).encode() + b"\n"


class _Once:
    """Whether a request is the first that matches."""

    def __init__(self, matches: Callable[[str, str], bool]) -> None:
        self._matches = matches
        self._lock = threading.Lock()
        self._found = False

    def __call__(self, method: str, path: str) -> bool:
        with self._lock:
            self._found, before = self._found or self._matches(method, path), self._found
            return self._found and not before


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, proxy: HttpProxy, pki: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy
        self._lock = threading.Lock()  # protects _connections
        self._connections: set[socket.socket] = set()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
        # The handler makes the handshake, since a slow client must not keep the listener waiting.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def opened(self, connection: socket.socket) -> None:
        """Note a client's connection."""
        with self._lock:
            self._connections.add(connection)

    def ended(self, connection: socket.socket) -> None:
        """Forget it."""
        with self._lock:
            self._connections.discard(connection)

    def connections(self) -> list[socket.socket]:
        """All that there are."""
        with self._lock:
            return list(self._connections)

    def handle_error(self, *_: object) -> None:
        """Clients come and go."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        time.sleep(self.server.proxy.latency)  # before the handshake, which the first read makes
        super().setup()
        self.server.opened(self.connection)
        self._upstream = self.server.proxy.connect()

    def finish(self) -> None:
        self.server.ended(self.connection)
        self._upstream.close()
        super().finish()

    def _pass(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(proxy.latency)
        proxy.requests.append((self.command, self.path))
        try:
            answer = proxy.instead(self.command, self.path)
            if answer is None:
                response = self._ask(body)
                if is_watch(self.path) and response.status == 200:
                    self._stream(response)
                    return
                answer = proxy.rewrite(self.command, self.path, response.status, response.read())
            self._respond(*answer)
        except (Cut, OSError, HTTPException):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815

    def _ask(self, body: bytes) -> HTTPResponse:
        headers = {key: value for key, value in self.headers.items() if key.lower() not in PER_CONNECTION}
        self._upstream.request(self.command, self.path, body or None, headers)
        return self._upstream.getresponse()

    def _respond(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, response: HTTPResponse) -> None:
        """Pass a watch on as it comes, to its end or to where we break it."""
        proxy = self.server.proxy
        left = proxy.watch_bytes
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with proxy.watching(self._upstream, self.path):
            while chunk := response.read1(65536):
                whole, chunk = chunk, chunk if left is None else chunk[:left]
                if chunk:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                if len(chunk) < len(whole):
                    raise Cut
                left = None if left is None else left - len(chunk)
        if not response.isclosed():
            raise Cut
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """The requests are recorded as they are."""
