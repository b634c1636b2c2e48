"""What operators see of a running process: metrics, probes, logs, and Events.

None of it can stop the control loop: a scrape reads what is there, logging failures are swallowed, and
Events are posted by a thread of their own from a bounded queue.
"""

import asyncio
import logging
import re
import resource
import socket
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Protocol

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from rpcregistry.errors import Conflict, Ending, Failure, Misconfigured, Retry
from rpcregistry.logs import Line
from rpcregistry.model import MANAGED_BY, Problem, Regarding

log = structlog.get_logger(__name__)

# Metrics

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The process's metrics, in a registry of their own; for any thread: each has a lock, in the library."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._reconciled = Counter(
            "rpcregistry_reconcile",
            "Keys reconciled, by what came of it.",
            ["controller", "result"],
            registry=registry,
        )
        self._reconcile_seconds = Histogram(
            "rpcregistry_reconcile_seconds",
            "How long reconciling took; registry: a batch of keys.",
            ["controller"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue_depth = Gauge(
            "rpcregistry_queue_depth", "Keys that wait to be reconciled.", ["controller"], registry=registry
        )
        self._propagation_seconds = Histogram(
            "rpcregistry_propagation_seconds",
            "From a pod's change being seen to its znode being written.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._registry_writes = Counter(
            "rpcregistry_registry_writes",
            "Znodes written in ZooKeeper.",
            ["layout", "op"],
            registry=registry,
        )
        self._watch_restarts = Counter(
            "rpcregistry_watch_restarts",
            "Watches of the API server begun again.",
            ["resource", "reason"],
            registry=registry,
        )
        self._services = Gauge(
            "rpcregistry_services", "Service names listed by RpcServices.", registry=registry
        )
        self._endpoints = Gauge(
            "rpcregistry_endpoints", "Endpoints listed by RpcServices.", registry=registry
        )
        self._held = Gauge(
            "rpcregistry_held", "Absences that withdraw nothing before they are confirmed.", registry=registry
        )
        self._leader = Gauge("rpcregistry_leader", "1 while this process leads.", registry=registry)
        self._connected = Gauge(
            "rpcregistry_zookeeper_connected", "1 while ZooKeeper is connected.", registry=registry
        )
        self._connections = Counter(
            "rpcregistry_zookeeper_connections", "Connections made to ZooKeeper.", registry=registry
        )

    def reconciled(self, controller: str, result: str, seconds: float) -> None:
        """Count a key that was worked, in *seconds*."""
        self._reconciled.labels(controller, result).inc()
        self._reconcile_seconds.labels(controller).observe(seconds)

    def propagated(self, seconds: float) -> None:
        """A pod's change is in ZooKeeper, *seconds* after it was seen."""
        self._propagation_seconds.observe(seconds)

    def registry_written(self, layout: str, op: str) -> None:
        """Count a znode that was written."""
        self._registry_writes.labels(layout, op).inc()

    def watch_restarted(self, resource: str, reason: str) -> None:
        """Count a watch that was begun again."""
        self._watch_restarts.labels(resource, reason).inc()

    def leading(self, leads: bool) -> None:
        """Note whether this process leads."""
        self._leader.set(leads)

    def connected(self, connected: bool) -> None:
        """Note whether ZooKeeper is connected."""
        self._connected.set(connected)
        if connected:
            self._connections.inc()

    def measure(
        self,
        queues: Mapping[str, Callable[[], float]],
        services: Callable[[], float],
        endpoints: Callable[[], float],
        held: Callable[[], float],
    ) -> None:
        """Have these read at each scrape; *queues* are depths by controller."""
        for controller, depth in queues.items():
            self._queue_depth.labels(controller).set_function(depth)
        self._services.set_function(services)
        self._endpoints.set_function(endpoints)
        self._held.set_function(held)

    def render(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self._registry)


# Probes


@dataclass(frozen=True)
class Health:
    """Why the process is not *live*, and why it is not *ready*; None where it is."""

    live: Callable[[], str | None]
    ready: Callable[[], str | None]


REQUEST_TIMEOUT = 5.0  # seconds for a connection, from its first byte to its last
MOST_CONNECTIONS = 256
SHARE_OF_FILES = 8  # connections may take one in so many of the files that the process may open
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

    Whoever connects is served: where there are too many connections, the oldest is dropped.  So those
    that send slowly, or nothing, keep no probe out, nor the rest of the process from opening files.
    """

    def __init__(self, bind_address: str, routes: Mapping[str, Route]) -> None:
        self._routes = routes
        # Of the thread, as all that is not set here for good.
        self._connections: dict[asyncio.StreamWriter, None] = {}  # the oldest first
        self._most_connections = most_connections()
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: dict[str, float] = {}  # what was in trouble: when that was logged
        self._socket = _listen(bind_address)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and drop the connections there are."""
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

        asyncio's own server accepts up to a hundred at a time; where no more files may be opened, it logs a
        traceback for each of them, and schedules as many new attempts.
        """
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self._in_trouble("cannot accept a connection", error)
            if not self._drop_oldest():  # for the next one to come in its place
                self._loop.remove_reader(self._socket)
                self._loop.call_later(ACCEPT_AGAIN_AFTER, self._wait_for_connections)
            return
        task = self._loop.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _in_trouble(self, message: str, exception: BaseException | None = None, **_: object) -> None:
        """Log the same once in a while only, however many connections there are."""
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
            connection.close()  # the client has gone
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
            pass  # the client's own affair
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
    """How many connections may be open at a time, within what the process may open."""
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
        raise Misconfigured(f"cannot listen at {bind_address!r} (HOST:PORT is needed): {error}") from error
    listening.setblocking(False)
    return listening


# Logs

_SECRET = re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',]+|\beyJ[\w-]{8,}\.[\w.-]+")


def configure_logging(log_format: str | None, level: str, libraries: bool = True) -> None:
    """Log to standard error, as ``json`` or for a ``console``; None: json unless it is a terminal.

    *level* is for what this package says.  *libraries* are heard from WARNING on, if at all: below it they
    tell what they send, credentials included.
    """
    is_console = sys.stderr.isatty() if log_format is None else log_format == "console"
    render: list[structlog.types.Processor] = [structlog.processors.JSONRenderer()]
    if is_console:
        plain = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
        render = [_printable_values, console]
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_with_fields, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *render,
                lambda _logger, _name, line: _SECRET.sub("[secret]", str(line)),
            ],
        )
    )
    if not libraries:
        handler.addFilter(logging.Filter("rpcregistry"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("rpcregistry").setLevel(level.upper())


def _with_fields(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What ``logs.Log`` told, as structlog would have had it."""
    match event["_record"].msg:
        case Line(event=told, fields=fields):
            event.update(fields, event=told)
    return event


def _printable_values(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = printable(value)
    return event


def printable(text: str) -> str:
    r"""*text* on one line, with nothing in it that a terminal would obey.

    >>> printable("a\n\x1b[31m\u202eb ü")
    'a\\n\\x1b[31m\\u202eb ü'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# Events

EVENT_INTERVAL = 0.1  # seconds: at most ten a second
LONGEST_PAUSE = 30.0  # seconds, while the API server does not take them
MOST_WAITING = 10_000
MOST_REMEMBERED = 100_000
LONGEST_NOTE = 1000
_LONGEST_NAME = 253


class Poster(Protocol):
    """What posts Events.  Fails with an ``errors.Failure``: ``Conflict`` where the name is taken."""

    def raw(self, method: str, path: str, body: Mapping[str, Any]) -> Any: ...


def event_manifest(
    regarding: Regarding,
    problem: Problem,
    action: str,
    warning: bool,
    salt: str,
    identity: str,
    now: datetime,
) -> dict[str, Any]:
    """The Event that tells *problem*.  Its name follows from what it says, so it is there once."""
    note = _note(problem.message)
    said = (regarding.uid, problem.reason, note, *([salt] if salt else []))
    digest = sha256("\0".join(said).encode()).hexdigest()[:16]
    name = regarding.name[: _LONGEST_NAME - 1 - len(digest)].rstrip("-.")
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{name}.{digest}",
            "namespace": regarding.namespace or "default",
            "labels": dict([MANAGED_BY]),
        },
        "regarding": {
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "namespace": regarding.namespace,
            "name": regarding.name,
            "uid": regarding.uid,
        },
        "type": "Warning" if warning else "Normal",
        "reason": problem.reason,
        "action": action,
        "note": note,
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": MANAGED_BY[1],
        "reportingInstance": identity[:128],
    }


def _note(message: str) -> str:
    """*message*, cut where it is too long.  The API server counts bytes."""
    text = printable(message)
    if len(text.encode()) <= LONGEST_NOTE:
        return text
    return text.encode()[: LONGEST_NOTE - 3].decode(errors="ignore") + "…"


class EventRecorder:
    """Posts Events, ten a second at most, and each once; ``run`` in a thread of its own.

    *identity* says which process this is.  What waits is bounded: beyond that, Events are dropped, and
    told when they are recorded again.
    """

    def __init__(
        self, poster: Poster, identity: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._poster = poster
        self._identity = identity
        self._now = now
        self._condition = threading.Condition()  # protects _waiting, _known and _stopped
        self._waiting: deque[dict[str, Any]] = deque()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()  # told, or waiting; the oldest first
        self._stopped = False

    def record(
        self, regarding: Regarding, problem: Problem, action: str, *, warning: bool, salt: str = ""
    ) -> None:
        """Have *problem* told once; again with another *salt*.  Never waits."""
        event = event_manifest(regarding, problem, action, warning, salt, self._identity, self._now())
        key = _key(event)
        with self._condition:
            if key in self._known:
                return
            if len(self._waiting) >= MOST_WAITING:
                log.debug("event dropped", key=key)
                return
            self._known[key] = None
            if len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)
            self._waiting.append(event)
            self._condition.notify()

    @property
    def waiting(self) -> int:
        """How many are not told yet."""
        with self._condition:
            return len(self._waiting)

    def run(self) -> None:
        """Post what is recorded, until stopped."""
        failures = 0
        while event := self._next():
            failures, pause = self._post(event, failures)
            with self._condition:
                self._condition.wait_for(lambda: self._stopped, pause)

    def stop(self) -> None:
        """Let ``run`` return; what is still waiting is not told."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    def _next(self) -> dict[str, Any] | None:
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._stopped)
            return None if self._stopped else self._waiting.popleft()

    def _post(self, event: dict[str, Any], failures: int) -> tuple[int, float]:
        """Post *event*, or put it back; return the failures in a row, and for how long to pause."""
        path = f"/apis/events.k8s.io/v1/namespaces/{event['metadata']['namespace']}/events"
        try:
            self._poster.raw("POST", path, event)
        except Conflict:
            pass  # told before, perhaps by another process
        except Retry as retry:
            with self._condition:
                self._waiting.append(event)  # behind the others: it may be the only one that fails
            pause = min(LONGEST_PAUSE, EVENT_INTERVAL * 2.0 ** min(failures, 16))
            return failures + 1, max(EVENT_INTERVAL, retry.after or pause)
        except Ending:
            pass  # nobody is left to read it
        except Failure as failure:
            log.warning("event refused", reason=str(failure))
            with self._condition:
                self._known.pop(_key(event), None)
        return 0, EVENT_INTERVAL


def _key(event: Mapping[str, Any]) -> tuple[str, str]:
    return event["metadata"]["namespace"], event["metadata"]["name"]
