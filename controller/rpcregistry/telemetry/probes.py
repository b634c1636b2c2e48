"""The metrics port: /metrics for Prometheus, /healthz and /readyz for the kubelet."""

import asyncio
import resource
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from prometheus_client import CONTENT_TYPE_LATEST

from rpcregistry.errors import Misconfigured
from rpcregistry.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Health:
    """*live* and *ready* return why the process is not, or None if it is."""

    live: Callable[[], str | None]
    ready: Callable[[], str | None]


REQUEST_TIMEOUT = 5.0  # seconds that a connection may last
MOST_CONNECTIONS = 256
SHARE_OF_FILES = 8  # connections may use an eighth of the files that the process may open
ACCEPT_AGAIN_AFTER = 0.1  # seconds
SAID_AGAIN_AFTER = 60.0  # seconds

Answer = tuple[HTTPStatus, str, bytes]
Route = Callable[[], Answer]


def _probe(why_not: Callable[[], str | None]) -> Route:
    def answer() -> Answer:
        reason = why_not()
        status = HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK
        return status, "text/plain; charset=utf-8", f"{reason or 'ok'}\n".encode()

    return answer


def serve(bind_address: str, metrics: Metrics, health: Health) -> "Server":
    """Serve /metrics, /healthz and /readyz at *bind_address* (``HOST:PORT``); raises ``Misconfigured``."""
    return Server(
        bind_address,
        {
            "/healthz": _probe(health.live),
            "/readyz": _probe(health.ready),
            "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE_LATEST, metrics.render()),
        },
    )


class Server:
    """Answers GET on a few paths, in one thread, one request a connection.

    It accepts each connection, and drops the oldest of too many.  So clients that send slowly or nothing keep
    no probe out, nor the rest of the process from opening files.
    """

    def __init__(self, bind_address: str, routes: Mapping[str, Route]) -> None:
        self._routes = routes
        # Only the thread uses these, and all that changes later.
        self._connections: dict[asyncio.StreamWriter, None] = {}  # the oldest first
        self._most_connections = most_connections()
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: dict[str, float] = {}  # when each kind of trouble was logged
        self._socket = _listen(bind_address)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and drop all connections."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen())

    async def _listen(self) -> None:
        self._loop.set_exception_handler(lambda _, context: self._in_trouble(**context))
        with self._socket:
            self._wait_for_connections()
            await self._closing.wait()
            self._loop.remove_reader(self._socket)

    def _wait_for_connections(self) -> None:
        if not self._closing.is_set():
            self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        """Accept a connection.

        asyncio's own server accepts up to a hundred at a time.  If the process may open no more files, that
        server logs a traceback for each, and schedules as many new attempts.
        """
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self._in_trouble("cannot accept a connection", error)
            if not self._drop_oldest():  # that frees a file for the next connection
                self._loop.remove_reader(self._socket)
                self._loop.call_later(ACCEPT_AGAIN_AFTER, self._wait_for_connections)
            return
        task = self._loop.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _in_trouble(self, message: str, exception: BaseException | None = None, **_: object) -> None:
        """Log the same trouble once a minute at most, however many connections have it."""
        reason = f"{message}: {exception}"
        if self._said.get(reason, float("-inf")) + SAID_AGAIN_AFTER <= self._loop.time():
            self._said = {reason: self._loop.time()}
            log.warning(
                "the metrics port is in trouble",
                reason=reason,
                exc_info=None if isinstance(exception, OSError) else exception,
            )

    def _drop_oldest(self) -> bool:
        """Drop the oldest connection; return whether there is one."""
        oldest = next(iter(self._connections), None)
        if oldest is None:
            return False
        del self._connections[oldest]
        oldest.transport.abort()
        return True

    async def _serve(self, connection: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection)
        except OSError:
            connection.close()  # the client has closed it
            return
        self._connections[writer] = None
        if len(self._connections) > self._most_connections:
            self._drop_oldest()
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(request))
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client sent no request, or closed the connection
        except asyncio.CancelledError:
            pass  # the server is closing
        finally:
            self._connections.pop(writer, None)
            writer.transport.abort()

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        route = self._routes.get(rest.partition(" ")[0].partition("?")[0])
        if method not in ("GET", "HEAD"):
            status, content_type, body = HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b""
        elif route is None:
            status, content_type, body = HTTPStatus.NOT_FOUND, "text/plain", b""
        else:
            status, content_type, body = route()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (body if method == "GET" else b"")


def most_connections() -> int:
    """How many connections may be open at a time: a share of the files that the process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(2, min(MOST_CONNECTIONS, files // SHARE_OF_FILES))


def _listen(bind_address: str) -> socket.socket:
    host, _, port = bind_address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, int(port)), family=family)
    except (OSError, OverflowError, ValueError) as error:
        raise Misconfigured(f"cannot listen at {bind_address!r} (write HOST:PORT): {error}") from error
    listening.setblocking(False)
    return listening
