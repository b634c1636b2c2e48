"""Connections to the peers; translates gRPC's failures."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from peer_cache import messages
from peer_cache.entries import Entries
from peer_cache.sync_pb2 import SyncRequest
from peer_cache.sync_pb2_grpc import SyncStub

CONNECT_TIMEOUT = 5.0  # seconds
CALL_TIMEOUT = 30.0  # seconds, for all that a peer has
DELIVERY_TIMEOUT = 5.0  # seconds, for what was set just now
LARGEST_MESSAGE = 64 * 2**20  # bytes; a larger cache cannot be copied

MESSAGE_SIZES = [
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
]
_OPTIONS = [
    *MESSAGE_SIZES,
    # Also the time limit for a connection.
    # Source: grpc/grpc, doc/connection-backoff.md, MIN_CONNECT_TIMEOUT.
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT * 1000)),
    ("grpc.initial_reconnect_backoff_ms", 200),
    # A peer whose container restarts keeps its address, so do not back off for long.
    ("grpc.max_reconnect_backoff_ms", int(CONNECT_TIMEOUT * 1000)),
    # Connect to pods directly, without the environment's proxy.
    ("grpc.enable_http_proxy", 0),
]


class Unavailable(Exception):
    """The peer fails to answer: ask another one, or try again."""


class NotFilled(Unavailable):
    """The peer answers, but has not yet copied its own peers' values."""


class Link:
    """The connection to one peer, made at the first call, and again after it broke."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, _OPTIONS)
        self._stub = SyncStub(self._channel)

    def get_all(self) -> Entries:
        """All entries of the peer; raises ``Unavailable``, ``NotFilled``."""
        with _failures_named():
            response = self._stub.GetAll(SyncRequest(data=messages.WITH_VERSIONS), timeout=CALL_TIMEOUT)
            # Another implementation may send no versions: then its values replace nothing.
            _, entries = messages.parse(response.data)
        return entries

    def set(self, entries: Entries, timeout: float) -> None:
        """Send *entries* to the peer, within *timeout* seconds; raises ``Unavailable``."""
        data = [*messages.values(entries), *messages.versions(entries)]
        with _failures_named():
            self._stub.Set(SyncRequest(data=data), timeout=timeout)

    def close(self) -> None:
        """Close the connection; calls in progress fail."""
        self._channel.close()


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
            raise NotFilled(error.details()) from error
        raise Unavailable(f"{error.code().name}: {error.details()}") from error
    except ValueError as error:  # what it answers cannot be read, or the link has been closed
        raise Unavailable(str(error)) from error


class Links:
    """One ``Link`` for each address in use; for any thread."""

    def __init__(self, make: Callable[[str], Link] = Link) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._links: dict[str, Link] = {}

    def to(self, address: str) -> Link:
        """The link to *address*."""
        with self._lock:
            if address not in self._links:
                self._links[address] = self._make(address)
            return self._links[address]

    def keep(self, addresses: frozenset[str]) -> None:
        """Close the links to all other addresses."""
        with self._lock:
            unused = [self._links.pop(address) for address in self._links.keys() - addresses]
        for link in unused:
            link.close()
