"""The connection to ZooKeeper: a kazoo client that is kept up, and replaced.

Under faults we do two things differently from kazoo:

- While disconnected, kazoo queues requests without end, and writes late.  Here they fail at once.
- A kazoo client can stay disconnected for ever: its server's data was wiped, its credentials were refused,
  or its thread died.  Or its server answers nothing.  We replace such a client.  That costs nothing, because
  we bind nothing to a session.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self

import structlog
from kazoo.client import KazooClient
from kazoo.exceptions import (
    ConfigurationError,
    KazooException,
    NoAuthError,
    SessionClosedRequireSaslError,
    UnimplementedError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.retry import KazooRetry

from rpcregistry.errors import Misconfigured, Retry
from rpcregistry.zookeeper.access import OPEN, Access, Handler, Secrets
from rpcregistry.zookeeper.bulk import DATA, Bulk, MultiRead, SetWatches, send
from rpcregistry.zookeeper.failures import failure
from rpcregistry.zookeeper.reconnect import Attempts

log = structlog.get_logger(__name__)


class _Once(logging.Filter):
    """Passes each log line once between two connections, and at most ``MOST_LINES`` different ones."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()  # protects _seen
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the line; answers of servers are not, since ``Attempts`` reports them."""
        if record.exc_info and isinstance(record.exc_info[1], KazooException):
            return False
        text = record.getMessage()
        with self._lock:
            if text in self._seen or len(self._seen) >= MOST_LINES:
                return False
            self._seen.add(text)
            return True

    def forget(self) -> None:
        """Start anew, since there is a connection."""
        with self._lock:
            self._seen.clear()


# At DEBUG kazoo logs each request, with credentials and data.  Above, it logs several lines an attempt.
_kazoo_log = logging.getLogger("kazoo")
_kazoo_log.setLevel(logging.WARNING)
_once = _Once()
_kazoo_log.addFilter(_once)

SESSION_TIMEOUT = 15.0  # seconds, as all times here
CONNECT_TIMEOUT = 3.0
RECONNECT_DELAY = 2.0  # at most
ANSWER_TIMEOUT = 5.0
DEAD_AFTER = 5.0
CHECK_PERIOD = 1.0
CLOSE_TIMEOUT = 1.0
MOST_LINES = 20


class Connection:
    """A connection to one ensemble, kept up until ``close``; for any number of threads.

    *servers*: ``HOST:PORT,…[/CHROOT]``; the chroot need not exist.  *on_connection* gets True or False
    whenever the connection came or was lost.  Our threads call it, so it must not block.  *access*:
    credentials, ACL and TLS; when its files change, a new client takes over.  *client_options* go to
    ``KazooClient``.  Raises ``Misconfigured``.
    """

    def __init__(
        self,
        servers: str,
        *,
        on_connection: Callable[[bool], None] = lambda _: None,
        session_timeout: float = SESSION_TIMEOUT,
        access: Access = OPEN,
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._servers = servers
        self._hosts, *chroot = servers.split("/")
        self._root = "".join(f"/{segment}" for segment in chroot if segment)
        self._on_connection = on_connection
        self._session_timeout = session_timeout
        self._access = access
        self._secrets = Secrets(access)  # only the supervisor uses it, once it runs
        self._attempts = Attempts(self._hosts, access)  # replaced as a whole, by the supervisor
        self._client_options = client_options or {}
        self._bulk = Bulk()
        self._closing = threading.Event()
        self._attention = threading.Event()  # wakes the supervisor
        self._supervisor = threading.Thread(target=self._supervise, name="zookeeper", daemon=True)
        # Readers need no lock: each attribute is replaced as a whole.
        self._lock = threading.Lock()  # protects writes of all that follows
        self._connected = threading.Event()
        self._generation = 0
        self._since = time.monotonic()  # when the client was connected last, or made
        self._silent = False  # the client has left a request unanswered
        self._client = self._make_client()

    @classmethod
    @contextmanager
    def connected_to(cls, servers: str, timeout: float, access: Access = OPEN) -> Iterator[Self]:
        """A connection for the length of a ``with``; ``Retry`` if there is none after *timeout* seconds."""
        zookeeper = cls(servers, access=access)
        zookeeper.start()
        try:
            if not zookeeper.wait(timeout):
                raise Retry(f"ZooKeeper at {servers} is not connected after {timeout:g} s{zookeeper.trouble}")
            yield zookeeper
        finally:
            zookeeper.close()

    @property
    def connected(self) -> bool:
        """Whether there is a connection; without one, each call fails at once with ``Retry``."""
        return self._connected.is_set()

    @property
    def trouble(self) -> str:
        """Why there is no connection, as the end of a sentence; empty if unknown."""
        trouble = self._attempts.trouble
        return f": {trouble}" if trouble else ""

    @property
    def generation(self) -> int:
        """The number of connections so far; changes between two of them are not notified."""
        return self._generation

    def start(self) -> None:
        """Connect, and keep the connection up."""
        self._client.start_async()
        self._supervisor.start()

    def wait(self, timeout: float) -> bool:
        """Wait up to *timeout* seconds for a connection; return whether there is one."""
        return self._connected.wait(timeout)

    def close(self) -> None:
        """End the session, within two seconds; a server that hangs ends it later, by its timeout."""
        self._closing.set()
        self._attention.set()
        if self._supervisor.is_alive():
            self._supervisor.join(CLOSE_TIMEOUT)
        with self._lock:
            self._connected.clear()
        _dismiss(self._client).join(CLOSE_TIMEOUT)

    def _ready(self) -> KazooClient:
        """Return the client; ``Retry`` if it is not connected.

        If the connection is lost right after this, kazoo sends the request late.  A late write fails on its
        versions.
        """
        if not self._connected.is_set():
            raise Retry("ZooKeeper is not connected")
        return self._client

    @contextmanager
    def _translated(self, client: KazooClient, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except KazooTimeoutError as error:
            self._give_up(client)
            raise Retry(f"{verb} {path}: no answer within {ANSWER_TIMEOUT:g} s") from error
        except UnimplementedError as error:
            self._bulk.refused()  # we asked an older server, which we have moved to meanwhile
            raise Retry(f"{verb} {path}: the server does not know that request") from error
        except (KazooException, ValueError) as error:
            raise failure(verb, path, error) from error

    def _make_client(self) -> KazooClient:
        retry = KazooRetry(max_tries=-1, max_delay=RECONNECT_DELAY)
        credentials = self._secrets.credentials
        try:
            client = KazooClient(
                self._hosts,
                timeout=self._session_timeout,
                handler=Handler(credentials.tls, CONNECT_TIMEOUT, self._attempts),
                connection_retry=retry,
                logger=_kazoo_log,
                **credentials.options,
                **self._client_options,
            )
        except (ConfigurationError, TypeError, ValueError) as error:
            raise Misconfigured(f"cannot connect to ZooKeeper at {self._servers!r}: {error}") from error
        client.add_listener(lambda state: self._follow(client, state))
        return client

    def _follow(self, client: KazooClient, state: str) -> None:
        """Note a change of the connection.  kazoo's thread calls it, which must not wait."""
        if state == KazooState.CONNECTED:
            # kazoo has not sent our credentials yet.  This answer comes after the server accepted them.
            if self._bulk.may_work:
                # Alone: a server that refuses it answers out of order, at which kazoo's thread ends.
                send(client, MultiRead(DATA, ["/"])).rawlink(lambda answer: self._probed(client, answer))
            else:
                self._greet(client)
            return
        with self._lock:
            if client is not self._client or self._silent:
                return
            self._disconnected()
            if client.client_state == KeeperState.AUTH_FAILED:
                self._attempts.denied("it refuses our credentials: mend --zk-auth-file")
        self._attention.set()

    def _greet(self, client: KazooClient) -> None:
        client.exists_async("/").rawlink(lambda answer: self._answered(client, answer))

    def _probed(self, client: KazooClient, answer: Any) -> None:
        if answer.exception is None:
            send(client, SetWatches(client, _ignore)).rawlink(lambda last: self._probed_last(client, last))
        else:
            self._probed_last(client, answer)

    def _probed_last(self, client: KazooClient, answer: Any) -> None:
        if self._bulk.note_first(answer.exception):
            self._greet(client)
        else:
            self._answered(client, answer)

    def _answered(self, client: KazooClient, answer: Any) -> None:
        with self._lock:
            if client is self._client and isinstance(answer.exception, SessionClosedRequireSaslError):
                self._attempts.denied(_asks_for_credentials(self._access))
            lost = client is not self._client or client.client_state != KeeperState.CONNECTED
            # NoAuth for "/" is an answer, too: the server works.
            if lost or self._silent or not isinstance(answer.exception, NoAuthError | None):
                return
            self._generation += 1
            self._attempts.answered()
            self._connected.set()
        self._attention.set()

    def _give_up(self, client: KazooClient) -> None:
        """Have the supervisor replace *client*, whose server did not answer a request."""
        with self._lock:
            if client is self._client:
                self._silent = True
                self._disconnected()
        self._attention.set()

    def _disconnected(self) -> None:
        if self._connected.is_set():
            self._connected.clear()
            self._since = time.monotonic()
            self._attempts.lost()

    def _supervise(self) -> None:
        """Report changes of the connection, and replace a client that cannot recover."""
        reported = 0, False
        replaced = 0  # the generation in which we replaced the client last
        reasons: set[str] = set()  # logged since the last connection
        while not self._closing.is_set():
            self._attention.clear()
            with self._lock:
                now = self._generation, self._connected.is_set()
                spent = not now[1] and is_spent(
                    self._client.client_state,
                    time.monotonic() - self._since,
                    self._session_timeout,
                    self._silent,
                )
            if now != reported:
                log.info("zookeeper connected" if now[1] else "zookeeper disconnected", servers=self._servers)
                self._on_connection(now[1])
                reported = now
            if now[1]:
                _once.forget()
                reasons.clear()
            elif (trouble := self._attempts.trouble) and trouble not in reasons:
                reasons.add(trouble)
                log.warning("zookeeper not connected", reason=trouble, servers=self._servers)
            renewed = self._secrets.renewed()
            if renewed:
                self._attempts = Attempts(self._hosts, self._access)
            if renewed or spent:
                # Log one replacement a generation: while no server answers, one follows another.
                self._replace(aloud=renewed or now[0] != replaced)
                replaced = now[0]
            self._attention.wait(CHECK_PERIOD)

    def _replace(self, aloud: bool) -> None:
        """Replace the client; *aloud*: log it as info."""
        log_it = log.info if aloud else log.debug
        log_it("zookeeper client replaced", state=self._client.client_state, servers=self._servers)
        client = self._make_client()
        with self._lock:
            spent, self._client = self._client, client
            self._connected.clear()
            self._since = time.monotonic()
            self._silent = False
        _dismiss(spent)
        client.start_async()


def _asks_for_credentials(access: Access) -> str:
    if not access.has_identity:
        return "it asks for credentials: give --zk-auth-file"
    return "it does not accept our credentials: mend --zk-auth-file, or --zk-auth-scheme"


def _ignore(*_: object) -> None:
    """No watch calls it."""


def _dismiss(client: KazooClient) -> threading.Thread:
    """Stop *client* in a thread of its own, since that may take as long as a session."""

    def stop() -> None:
        # Nobody uses it any more, so its errors do not matter.
        with suppress(Exception):
            client.stop()
        with suppress(Exception):
            client.close()

    thread = threading.Thread(target=stop, name="zookeeper-stop", daemon=True)
    thread.start()
    return thread


def is_spent(state: str, disconnected: float, session_timeout: float, silent: bool) -> bool:
    """Whether the client is beyond recovery after *disconnected* seconds.

    Its thread may have ended (the server refused it, or it failed), or the servers may not know its session.
    *silent*: its server did not answer a request.

    >>> is_spent(KeeperState.CONNECTING, 20.0, session_timeout=15.0, silent=False)
    True
    >>> is_spent(KeeperState.CONNECTING, 10.0, session_timeout=15.0, silent=False)
    False
    """
    ended = state in (KeeperState.AUTH_FAILED, KeeperState.CLOSED)
    return silent or disconnected > (DEAD_AFTER if ended else session_timeout)
