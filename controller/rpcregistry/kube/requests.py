"""Requests to the API server: connections, credentials, and bodies within their time.

``access`` has the configuration, TLS and tokens.  Nothing is retried here, except once with the credentials
read anew where they were refused.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
import urllib3

from rpcregistry.errors import Misconfigured, Retry
from rpcregistry.kube.access import ApiServer
from rpcregistry.kube.failures import failure, kind_of, translated
from rpcregistry.manifests import FIELD_MANAGER

CREDENTIALS_PERIOD = 5.0  # credentials that are refused are read anew at most this often


class Timeouts(NamedTuple):
    """Seconds to connect and to wait for the next bytes, by kind of request.

    A watch that is silent ends: whether the server still answers shows as it is started again.  Most are
    never silent for that long, since the server sends bookmarks about once a minute; but none while nothing
    has happened to a resource since the server started.  *body* bounds an answer as a whole.
    """

    watch: tuple[float, float] = (3, 90)
    read: tuple[float, float] = (3, 15)
    write: tuple[float, float] = (3, 10)
    body: float = 60


TIMEOUTS = Timeouts()
LEASE_TIMEOUTS = Timeouts(read=(2, 4), write=(2, 4), body=4)


class _Request(NamedTuple):
    """*what* says in words what is asked; *target* is the path with its query."""

    what: str
    method: str
    target: str
    headers: Mapping[str, str]
    timeout: tuple[float, float]
    body: bytes | None = None


class _Transport:
    """A pool of connections, and the credentials that go with it."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self._lock = threading.Lock()  # protects what server.authorization keeps

    def send(self, request: _Request) -> urllib3.BaseHTTPResponse:
        """Send *request*; the body of the answer is still to be read."""
        connect, read = request.timeout
        return self.server.pool.request(
            request.method,
            self.server.host + request.target,
            body=request.body,
            headers={**request.headers, **self._authorization()},
            timeout=urllib3.Timeout(connect=connect, read=read),
            preload_content=False,
        )

    def _authorization(self) -> dict[str, str]:
        with self._lock:
            value = self.server.authorization()
        if not (value.isascii() and value.isprintable()):
            raise ValueError("the token holds characters that no header can")
        return {"Authorization": value} if value else {}

    def close(self) -> None:
        """Close the connections that are idle; the others when they become it."""
        self.server.pool.clear()


class Requests:
    """What one API server is asked, by any number of threads.

    *load* reads the configuration; it is called again where credentials or certificates are refused.
    *roles*: the file that a message names where a right is missing.
    """

    def __init__(self, load: Callable[[], ApiServer], timeouts: Timeouts, roles: str) -> None:
        self._load = load
        self._timeouts = timeouts
        self._roles = roles
        self._lock = threading.Lock()  # protects _watches, _stopped, _renewed_at and _transport (to write)
        self._watches: set[urllib3.BaseHTTPResponse] = set()
        self._stopped = False
        self._renewed_at = float("-inf")
        self._transport = _Transport(load())  # replaced as a whole

    @property
    def server(self) -> ApiServer:
        """How the server is reached now."""
        return self._transport.server

    def read(self, what: str, path: str, query: Mapping[str, str] | None = None) -> bytearray:
        """The answer to a GET."""
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        return self._answer(_Request(what, "GET", target, headers, self._timeouts.read))

    @contextmanager
    def stream(self, what: str, path: str, query: Mapping[str, str]) -> Iterator[Iterator[bytes]]:
        """The bytes of a watch, as they come."""
        headers = {"Accept": "application/json"}
        target = f"{path}?{urlencode(query)}"
        response = self._respond(_Request(what, "GET", target, headers, self._timeouts.watch))
        try:
            with self._lock:
                self._watches.add(response)
                stopped = self._stopped
            yield iter(()) if stopped else _chunks(what, response, silence_ends=True)
        finally:
            with self._lock:
                self._watches.discard(response)
            response.close()

    def write(
        self, method: str, what: str, path: str, body: Mapping[str, Any], trial: bool = False
    ) -> bytearray:
        """The answer to a write; a *trial* keeps nothing."""
        target = path if method == "DELETE" else f"{path}?fieldManager={FIELD_MANAGER}"
        target += "&dryRun=All" if trial else ""
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": content}
        encoded = msgspec.json.encode(body)
        return self._answer(_Request(what, method, target, headers, self._timeouts.write, encoded))

    def _answer(self, request: _Request) -> bytearray:
        return _body(request.what, self._respond(request), self._timeouts.body)

    def _respond(self, request: _Request) -> urllib3.BaseHTTPResponse:
        """Send *request*; return the answer where it is a success, and raise what it means otherwise."""
        transport = self._transport
        with translated(request.what, transport.server.host):
            try:
                response = transport.send(request)
            except urllib3.exceptions.SSLError:
                self._renew(transport)
                raise
            if response.status == 401 and self._renew(transport):
                response.close()
                response = self._transport.send(request)
        if not 200 <= response.status < 300:
            body = _body(request.what, response, self._timeouts.body)
            after = response.headers.get("Retry-After")
            kind, status = kind_of(request.target), response.status
            raise failure(request.method, request.what, status, bytes(body), after, kind, self._roles)
        return response

    def _renew(self, used: _Transport) -> bool:
        """Read the configuration anew where *used* still has the one in use; return whether that changed."""
        with self._lock:
            if self._transport is used and time.monotonic() - self._renewed_at > CREDENTIALS_PERIOD:
                self._renewed_at = time.monotonic()
                # Where it cannot be read now, a later refusal tries again.
                with suppress(Misconfigured):
                    self._transport = _Transport(self._load())
                    used.close()
            return self._transport is not used

    def stop(self) -> None:
        """Break the watches, those that run and those to come."""
        with self._lock:
            self._stopped = True
            for response in self._watches:
                # RuntimeError: it came to its end by itself.
                with suppress(OSError, RuntimeError):
                    response.shutdown()


def _chunks(what: str, response: urllib3.BaseHTTPResponse, *, silence_ends: bool = False) -> Iterator[bytes]:
    with translated(what):
        try:
            while chunk := response.read1(65536):
                yield chunk
        except urllib3.exceptions.ReadTimeoutError:
            if not silence_ends:
                raise


def _body(what: str, response: urllib3.BaseHTTPResponse, seconds: float) -> bytearray:
    """The whole body, within *seconds*: the read timeout alone would let it come drop by drop.

    It may be large, and is not copied once more to be ``bytes``.
    """
    deadline = time.monotonic() + seconds
    body = bytearray()
    for chunk in _chunks(what, response):
        body += chunk
        if time.monotonic() > deadline:
            response.close()
            raise Retry(f"{what}: the answer took longer than {seconds:g} s")
    return body
