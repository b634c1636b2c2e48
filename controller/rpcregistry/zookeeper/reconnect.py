"""Why ZooKeeper is not connected, and how long to wait before the next attempt.

A server that accepts a connection and closes it at once has one of two reasons.  It starts, or its ensemble
elects a leader: that takes seconds, and every second counts.  Or it refuses us: then nothing changes before a
person changes something, and each attempt is noise.  The server gives no reason; only time shows which it is.
"""

import threading
import time
from collections.abc import Callable

from rpcregistry.zookeeper.access import Access

AT_ONCE = 3.0  # seconds, as all times here; kazoo's own pause between two attempts is a part of it
QUICK_TRIES = 2  # so many connections closed at once mean nothing yet
LONGEST_PAUSE = 30.0
ELECTION = 30.0  # for so long after a lost connection we try each second
UNTRIED = 2.0


def pause(closed: int, unconnected: float) -> float:
    """Seconds to wait after *closed* connections in a row that the server closed at once.

    *unconnected*: seconds since the last connection, ``inf`` if there was none.

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
    """The attempts to connect to *servers* (``HOST:PORT,…``) with *access*, and why they failed.

    The clients' threads report to it, also those of a client and its successor at once.  Each client tries
    one server at a time.
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
        self._open = ""  # the server that accepted our connection and has not answered yet
        self._opened_at = float("-inf")
        self._denial = ""  # the reason that it gave instead
        self._denials: dict[str, str] = {}  # by server: the last reason that it gave; often it gives none
        self._tried = False
        self._reason = ""  # why the last attempt failed

    @property
    def trouble(self) -> str:
        """Why there is no connection; empty if unknown."""
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
        """End the last attempt, and begin the next; return the seconds to wait before it."""
        with self._lock:
            now = self._clock()
            unconnected = now - self._since if self._was_connected else float("inf")
            self._tried = True
            # The last server accepted our connection, but never answered: it closed it, or hangs.
            if self._open:
                at_once = now - self._opened_at <= AT_ONCE
                self._closed = self._closed + 1 if at_once else 0
                seen = self._closed_at_once(self._open, unconnected) if at_once else _silent(self._open)
                self._reason = self._denial or seen
                self._open = self._denial = ""
            # kazoo tries each server of an ensemble before it tries one again.
            seconds = pause(self._closed // self._count, unconnected) / self._count
            # The time since the last connection counts as waited.
            return max(0.0, self._opened_at + seconds - now)

    def opened(self, server: str) -> None:
        """*server* accepted the connection."""
        with self._lock:
            self._open, self._opened_at = server, self._clock()

    def failed(self, server: str, reason: str) -> None:
        """*server* cannot be connected."""
        with self._lock:
            self._closed = 0
            self._reason, self._denial = f"{server}: {reason}", ""
            self._denials.pop(server, None)

    def denied(self, reason: str) -> None:
        """A server refused us, and gave this *reason*."""
        with self._lock:
            self._denial = self._denials[self._open] = reason

    def answered(self) -> None:
        """The server answered: there is a connection."""
        with self._lock:
            self._closed, self._was_connected = 0, True
            self._open = self._reason = self._denial = ""
            self._denials.clear()

    def lost(self) -> None:
        """The connection was lost."""
        with self._lock:
            self._since, self._tried = self._clock(), False

    def _closed_at_once(self, server: str, unconnected: float) -> str:
        if server in self._denials:
            return self._denials[server]
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
