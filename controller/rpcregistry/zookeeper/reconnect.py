"""Why ZooKeeper is not connected, and how long to wait before it is tried again.

A server that takes a connection and closes it at once does so for one of two reasons.  It is being
started, or its ensemble elects a leader: that is over within seconds, and every second counts.  Or it
will not have us: then nothing changes before a person changes something, and each attempt is noise.
Nothing in the answer tells the two apart, but time does.
"""

import threading
import time
from collections.abc import Callable

from rpcregistry.zookeeper.access import Access

AT_ONCE = 3.0  # seconds, as all times here; kazoo's own pause between two attempts is a part of it
QUICK_TRIES = 2  # so many connections that are closed at once are no sign of anything
LONGEST_PAUSE = 30.0
ELECTION = 30.0  # a server that had us so lately is asked again each second
UNTRIED = 2.0


def pause(closed: int, unconnected: float) -> float:
    """Seconds between two connections, *closed* of which were closed at once, one after the other.

    *unconnected*: for how long we are, ``inf`` where we never were connected.

    >>> [pause(closed, float("inf")) for closed in (1, 2, 3, 4, 5, 6, 7, 8)]
    [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    >>> [pause(closed, unconnected=10.0) for closed in (1, 2, 3, 8)]
    [0.0, 1.0, 1.0, 1.0]
    """
    if closed < QUICK_TRIES:
        return 0.0
    longest = 1.0 if unconnected < ELECTION else LONGEST_PAUSE
    return min(longest, 2.0 ** min(closed - QUICK_TRIES, 10))


class Attempts:
    """What came of the attempts to connect to *servers* (``HOST:PORT,…``) as *access* says.

    Told by the threads of clients, of which one may replace another; each tries one server at a time.
    """

    def __init__(self, servers: str, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = servers
        self._count = servers.count(",") + 1
        self._access = access
        self._clock = clock
        self._lock = threading.Lock()  # protects all that follows
        self._since = clock()  # without a connection
        self._was_connected = False
        self._closed = 0  # connections in a row that were closed at once
        self._open = ""  # the server that took our connection and has not answered yet
        self._opened_at = float("-inf")
        self._denial = ""  # what it said instead
        self._tried = False
        self._reason = ""  # why the last attempt failed

    @property
    def trouble(self) -> str:
        """Why there is no connection; empty where nobody knows."""
        with self._lock:
            now = self._clock()
            if self._denial:
                return self._denial
            if self._open and now - self._opened_at > AT_ONCE:
                return _silent(self._open)
            if not self._tried and now - self._since > UNTRIED:
                return f"{self._servers}: no address is found for that name"
            return self._reason

    def next(self) -> float:
        """Note that the last attempt is over and another one due; return the seconds to wait before it."""
        with self._lock:
            now = self._clock()
            unconnected = now - self._since if self._was_connected else float("inf")
            self._tried = True
            if self._open:
                at_once = now - self._opened_at <= AT_ONCE
                self._closed = self._closed + 1 if at_once else 0
                seen = self._closes(self._open, unconnected) if at_once else _silent(self._open)
                self._reason = self._denial or seen
                self._open = self._denial = ""
            # All servers of an ensemble are tried before one is tried again.
            seconds = pause(self._closed // self._count, unconnected) / self._count
            return max(0.0, self._opened_at + seconds - now)

    def opened(self, server: str) -> None:
        """*server* took the connection."""
        with self._lock:
            self._open, self._opened_at = server, self._clock()

    def failed(self, server: str, reason: str) -> None:
        """There is no connection to *server*."""
        with self._lock:
            self._closed = 0
            self._reason, self._denial = f"{server}: {reason}", ""

    def denied(self, reason: str) -> None:
        """A server answered that it will not have us."""
        with self._lock:
            self._denial = reason

    def answered(self) -> None:
        """There is a connection."""
        with self._lock:
            self._closed, self._was_connected = 0, True
            self._open = self._reason = self._denial = ""

    def lost(self) -> None:
        """There is none any more."""
        with self._lock:
            self._since, self._tried = self._clock(), False

    def _closes(self, server: str, unconnected: float) -> str:
        closes = f"{server}: it closes the connection at once"
        if unconnected < ELECTION:
            return closes
        missing = [
            "credentials (--zk-auth-file)" if not self._access.auth_file else "",
            "TLS (--zk-tls-ca)" if not self._access.tls_ca else "",
            "a certificate (--zk-tls-cert)" if self._access.tls_ca and not self._access.tls_cert else "",
        ]
        asks = " or ".join(filter(None, missing)) or "other credentials"
        return f"{closes}: does it ask for {asks}? or maxClientCnxns, or a load balancer without servers"


def _silent(server: str) -> str:
    return f"{server}: it takes the connection, and does not answer"
