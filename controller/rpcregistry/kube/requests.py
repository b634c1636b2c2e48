"""Requests to the API server: connections, credentials and timeouts.

``access`` has the configuration, TLS and tokens.  Only a request whose credentials were refused is sent once
more, with credentials read anew.  Callers retry all others.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
import urllib3

from rpcregistry.errors import Misconfigured, Unanswered
from rpcregistry.kube.access import ApiServer
from rpcregistry.kube.failures import failure, kind_of, translated
from rpcregistry.kube.http import Answer, Client, Request
from rpcregistry.manifests import FIELD_MANAGER

CREDENTIALS_PERIOD = 5.0  # seconds at least between two readings of refused credentials


class Timeouts(NamedTuple):
    """Seconds to connect and to wait for the next bytes, by kind of request.

    A silent watch ends, and starting the next shows whether the server still answers.  Few are silent for
    90 s: the server sends bookmarks about once a minute.  It sends none while nothing has happened to a
    resource since its start.  *body*: for an answer as a whole.
    """

    watch: tuple[float, float] = (10, 90)
    read: tuple[float, float] = (10, 15)
    write: tuple[float, float] = (10, 10)
    body: float = 60


TIMEOUTS = Timeouts()
# A server that is cut off from etcd goes on with its watches, bookmarks included, and says nothing new.  So a
# controller ends a watch before the next bookmark: the quorum LIST of one object, which comes next, fails.
CONTROLLER_TIMEOUTS = Timeouts(watch=(10, 30))
LEASE_TIMEOUTS = Timeouts(read=(5, 5), write=(5, 5), body=5)


class _Transport:
    """Connections and credentials, of one reading of the configuration."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self._client = Client(server.host, server.pool)
        self._lock = threading.Lock()  # protects what server.authorization keeps

    def send(self, request: Request) -> Answer:
        """Send *request*; the caller reads the body of the answer."""
        return self._client.send(request, self._authorization())

    @property
    def written_at(self) -> float:
        """When a request with a body left last; for clients of one thread."""
        return self._client.written_at

    def close_idle(self) -> None:
        """Close the connections that wait for a request."""
        self._client.close_idle()

    def _authorization(self) -> dict[str, str]:
        with self._lock:
            value = self.server.authorization()
        if not (value.isascii() and value.isprintable()):
            raise ValueError("the token has characters that no HTTP header can have")
        return {"Authorization": value} if value else {}


def unmeasured(_verb: str, _code: str, _seconds: float) -> None:
    """Measure no request."""


class Requests:
    """Sends requests to one API server, for any number of threads.

    *load* reads the configuration; it is called again if the server refuses credentials or certificates.
    *roles*: the file that a message names if a right is missing.  *answered* is called after each request
    with its verb, the answer's status (``none`` if there is no answer), and the seconds until then.
    """

    def __init__(
        self,
        load: Callable[[], ApiServer],
        timeouts: Timeouts,
        roles: str,
        answered: Callable[[str, str, float], None] = unmeasured,
    ) -> None:
        self._answered = answered
        self._load = load
        self._timeouts = timeouts
        self._roles = roles
        self._lock = threading.Lock()  # protects _watches, _stopped, _renewed_at and _transport (to write)
        self._watches: set[Answer] = set()
        self._stopped = False
        self._renewed_at = float("-inf")
        self._transport = _Transport(load())  # replaced as a whole

    @property
    def server(self) -> ApiServer:
        """The server and credentials in use."""
        return self._transport.server

    @property
    def written_at(self) -> float:
        """When the last write left, in seconds of the monotonic clock; for clients of one thread."""
        return self._transport.written_at

    def read(self, what: str, path: str, query: Mapping[str, str] | None = None) -> bytearray:
        """GET *path*; return the body."""
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        return self._answer(what, Request("GET", target, headers, self._timeouts.read))

    @contextmanager
    def stream(self, what: str, path: str, query: Mapping[str, str]) -> Iterator[Iterator[bytes]]:
        """Open a watch, and yield its bytes as they come."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        target = f"{path}?{urlencode(query)}"
        response = self._respond(what, Request("GET", target, headers, self._timeouts.watch))
        response.kept = False  # ``stop`` may come when it has ended, and breaks nothing else then
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
        self,
        method: str,
        what: str,
        path: str,
        body: Mapping[str, Any],
        trial: bool = False,
        patience: float | None = None,
    ) -> bytearray:
        """Write *body* as JSON; return the answer's.  A *trial* is a dry run at the server.

        *patience*: how many seconds the answer may take, where the timeouts for a write are too long.
        """
        target = path if method == "DELETE" else f"{path}?fieldManager={FIELD_MANAGER}"
        target += "&dryRun=All" if trial else ""
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": content}
        encoded = msgspec.json.encode(body)
        connect, answer = self._timeouts.write
        timeouts = connect, answer if patience is None else patience
        return self._answer(what, Request(method, target, headers, timeouts, encoded))

    def _answer(self, what: str, request: Request) -> bytearray:
        return _body(what, self._respond(what, request), self._timeouts.body)

    def _respond(self, what: str, request: Request) -> Answer:
        """Send *request*; return a successful answer, and raise the failure that any other means."""
        transport = self._transport
        verb = "WATCH" if "watch=" in request.target else request.method
        began, code = time.monotonic(), "none"
        try:
            with translated(what, transport.server.host):
                try:
                    response = transport.send(request)
                except urllib3.exceptions.SSLError:
                    self._renew(transport)
                    raise
                if response.status == 401 and self._renew(transport):
                    response.close()
                    response = self._transport.send(request)
            code = str(response.status)
        finally:
            self._answered(verb, code, time.monotonic() - began)
        if not 200 <= response.status < 300:
            body = _body(what, response, self._timeouts.body)
            if response.status >= 500 and request.method == "GET":
                transport.close_idle()  # behind a load balancer, a new connection may lead to another server
            after = response.header(b"retry-after")
            kind, status = kind_of(request.target), response.status
            raise failure(request.method, what, status, bytes(body), after, kind, self._roles)
        return response

    def _renew(self, used: _Transport) -> bool:
        """Read the configuration anew, at most every 5 s; return whether *used* is now out of use."""
        with self._lock:
            if self._transport is used and time.monotonic() - self._renewed_at > CREDENTIALS_PERIOD:
                self._renewed_at = time.monotonic()
                # If it cannot be read now, the next refusal tries again.
                with suppress(Misconfigured):
                    # The old one's idle connections end with it.
                    self._transport = _Transport(self._load())
            return self._transport is not used

    def stop(self) -> None:
        """Break the watches, those that run and those to come."""
        with self._lock:
            self._stopped = True
            for response in self._watches:
                with suppress(OSError):  # it has ended already
                    response.shutdown()


def _chunks(what: str, response: Answer, *, silence_ends: bool = False) -> Iterator[bytes]:
    with translated(what):
        try:
            yield from response.chunks()
        except TimeoutError:
            if not silence_ends:
                raise


def _body(what: str, response: Answer, seconds: float) -> bytearray:
    """Read the whole body within *seconds*; a server that sends byte by byte never meets the read timeout.

    It returns a bytearray, since copying a large body to ``bytes`` would cost memory.
    """
    deadline = time.monotonic() + seconds
    body = bytearray()
    for chunk in _chunks(what, response):
        body += chunk
        if time.monotonic() > deadline:
            response.close()
            raise Unanswered(f"{what}: the answer took longer than {seconds:g} s")
    return body
