"""HTTP/1.1 to one server: urllib3 makes the connections, llhttp (of httptools) reads the answers.

To send and read by urllib3, too, would cost ten times the CPU.  Failures are urllib3's or ``OSError``;
``failures`` translates both.
"""

import ssl
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from queue import Empty
from socket import SHUT_RDWR, socket
from typing import Any, NamedTuple

import httptools
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, ProxyError, SSLError
from urllib3.util.ssl_match_hostname import CertificateError
from urllib3.util.ssltransport import SSLTransport

LONGEST_HEAD = 256 * 1024  # bytes of a status line and its headers
_READ = 64 * 1024  # bytes at most that one call reads
_GZIP = 16 + zlib.MAX_WBITS

_Connection = HTTPConnection | HTTPSConnection


class Request(NamedTuple):
    """*target*: the path with its query; *timeout*: seconds to connect, and to wait for the next bytes."""

    method: str
    target: str
    headers: Mapping[str, str]
    timeout: tuple[float, float]
    body: bytes | None = None


class _Stale(ConnectionError):
    """The server closed the connection before it sent any byte of an answer."""


class Client:
    """Sends requests to the server at *url*, for any number of threads.

    *manager* makes the connections, directly or through its proxy, and keeps those that are idle.
    """

    def __init__(self, url: str, manager: urllib3.PoolManager) -> None:
        server = urllib3.util.parse_url(url)
        self._pool = manager.connection_from_url(url)
        proxied = self._pool.proxy is not None
        self._tunnels = proxied and server.scheme == "https"
        forwarded = proxied and not self._tunnels
        headers = {"Host": str(server.netloc), "User-Agent": "rpcregistry"}
        if forwarded:
            headers |= self._pool.proxy_headers
        self._prefix = url if forwarded else server.path or ""
        self._headers = _lines(headers)
        self.written_at = float("-inf")  # when a request with a body left last; for clients of one thread

    def send(self, request: Request, authorization: Mapping[str, str]) -> "Answer":
        """Send *request*; return its answer, of any status, once its headers were read.

        If the server had closed an idle connection, the client sends a read once more.  It sends no write
        again: the server may have done it.
        """
        if not (request.target.isascii() and request.target.isprintable() and " " not in request.target):
            raise ValueError("the path has characters that no request can have")
        connection = self._pool._get_conn()  # urllib3 looks whether the server closed it
        idle = not connection.is_closed
        length = "" if request.body is None else f"Content-Length: {len(request.body)}\r\n"
        head = (
            f"{request.method} {self._prefix}{request.target} HTTP/1.1\r\n{self._headers}"
            f"{_lines(request.headers)}{_lines(authorization)}{length}\r\n"
        )
        message = head.encode("ascii") + (request.body or b"")
        try:
            return self._exchange(connection, message, request)
        except _Stale:
            if not idle or request.method != "GET":
                raise
        return self._exchange(self._pool._new_conn(), message, request)

    def close_idle(self) -> None:
        """Close the connections that wait for a request."""
        idle = self._pool.pool
        with suppress(Empty):
            while idle is not None:
                if connection := idle.get(block=False):  # None holds the place of one that may be
                    connection.close()

    def _exchange(self, connection: Any, message: bytes, request: Request) -> "Answer":
        connect, read = request.timeout
        try:
            if connection.is_closed:
                self._connect(connection, connect)
            if request.body is not None:
                self.written_at = time.monotonic()  # connecting may have taken seconds
            connection.sock.settimeout(read)
            answer = Answer(self._pool, connection)
            answer.begin(message, time.monotonic() + read)
        except BaseException:
            connection.close()
            raise
        return answer

    def _connect(self, connection: _Connection, seconds: float) -> None:
        """As urllib3 connects before its own requests, with the same exceptions."""
        connection.timeout = seconds
        try:
            if self._tunnels:
                self._pool._prepare_proxy(connection)
            else:
                connection.connect()
        except (HTTPError, OSError, CertificateError) as error:
            failed = _known(error)
            if connection.proxy and not connection.has_connected_to_proxy:
                failed = ProxyError("no connection", failed)
            if failed is error:
                raise
            raise failed from error


def _lines(headers: Mapping[str, str]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


def _known(error: Exception) -> Exception:
    """The error as ``access.reason`` knows it."""
    if isinstance(error, ssl.SSLError | CertificateError):
        return SSLError(error)
    if isinstance(error, TimeoutError):
        return TimeoutError("no answer in time")
    if isinstance(error, HTTPError):
        return error
    return ConnectionError(f"the connection broke: {error}")


class _Message:
    """What the parser finds in an answer.  Interim answers (1xx) before it, and all after it, are dropped."""

    def __init__(self) -> None:
        self.parser: Any = httptools.HttpResponseParser(self)
        self.status = 0  # until the headers are there
        self.headers: dict[bytes, bytes] = {}
        self.pieces: list[bytes] = []
        self.complete = False
        self.reusable = False

    def on_message_begin(self) -> None:
        if self.complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:
            self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self.status:
            return
        status = self.parser.get_status_code()
        if status < 200:
            self.headers.clear()
        else:
            self.status = status

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        if self.status and not self.complete:
            self.complete = True
            self.reusable = self.parser.should_keep_alive()

    @property
    def ends_with_connection(self) -> bool:
        return bool(self.status) and not {b"content-length", b"transfer-encoding"} & self.headers.keys()


class Answer:
    """An answer, whose body may still come; for one thread, but for ``shutdown``.

    Its connection is used again if the body was read to its end; otherwise it is closed.  *kept*: False for
    one that is not to be used again.
    """

    kept = True

    def __init__(self, pool: urllib3.HTTPConnectionPool, connection: Any) -> None:
        self._pool = pool
        self._connection = connection
        self._socket = connection.sock
        self._received = 0  # bytes
        self._message = _Message()

    @property
    def status(self) -> int:
        """The status code."""
        return self._message.status

    def header(self, name: bytes) -> str | None:
        """The header's value; *name* in lower case."""
        value = self._message.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def begin(self, message: bytes, deadline: float) -> None:
        """Send the request *message*, and read until the headers are there."""
        # A server that refuses a large body may answer before it closes the connection: read that.
        try:
            with suppress(ConnectionError, ssl.SSLEOFError):
                self._socket.sendall(message)
        except OSError as error:
            raise _known(error) from error
        while not self._message.status:
            self._receive()
            if self._message.status:
                break
            if self._received > LONGEST_HEAD:
                raise ConnectionError("the connection broke: the answer's headers do not end")
            if time.monotonic() > deadline:
                raise TimeoutError("no answer in time")

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes, uncompressed."""
        message, unpack = self._message, None
        encoding = message.headers.get(b"content-encoding", b"identity").lower()
        try:
            if encoding == b"gzip":
                unpack = zlib.decompressobj(_GZIP)
            elif encoding != b"identity":
                raise ConnectionError(f"the connection broke: an answer encoded as {encoding!r}")
            while True:
                pieces, message.pieces = message.pieces, []
                for piece in pieces:
                    if chunk := unpack.decompress(piece) if unpack else piece:
                        yield chunk
                if message.complete:
                    break
                self._receive()
            if unpack and (not unpack.eof or unpack.unused_data):
                raise ConnectionError("the connection broke: the answer's gzip has no proper end")
            self._release()
        except zlib.error as error:
            raise ConnectionError(f"the connection broke: {error}") from error
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection, unless the body was read to its end."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._message.parser = None  # a cycle

    def shutdown(self) -> None:
        """Break the connection under the thread that reads; raises ``OSError`` if it is closed already."""
        end = self._socket.socket if isinstance(self._socket, SSLTransport) else self._socket
        # Not SSLSocket's own, which takes the TLS from under the reader.
        socket.shutdown(end, SHUT_RDWR)

    def _receive(self) -> None:
        """Read and parse what comes next."""
        message = self._message
        try:
            data = self._socket.recv(_READ)
        except OSError as error:
            if self._received or not isinstance(error, ConnectionError):
                raise _known(error) from error
            raise _Stale(str(_known(error))) from error
        if not data:  # urllib3's TLS inside of a proxy's TLS reads 0 at the end
            if not message.ends_with_connection:
                kind = ConnectionError if self._received else _Stale
                raise kind("the connection broke: the server closed it")
            message.complete = True
            return
        self._received += len(data)
        try:
            message.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not message.complete:
                raise ConnectionError(f"the connection broke: that is no HTTP: {error}") from error

    def _release(self) -> None:
        if self.kept and self._message.reusable:
            connection, self._connection = self._connection, None
            self._pool._put_conn(connection)
