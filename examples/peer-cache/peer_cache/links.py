"""Connections to the peers: where gRPC's failures become ours."""

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
LARGEST_MESSAGE = 64 * 2**20  # bytes: a cache that is larger cannot be taken over

MESSAGE_SIZES = [
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
]
_OPTIONS = [
    *MESSAGE_SIZES,
    # Also the time within which a connection has to come about.
    # Source: grpc/grpc, doc/connection-backoff.md, MIN_CONNECT_TIMEOUT.
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT * 1000)),
    ("grpc.initial_reconnect_backoff_ms", 200),
    # A peer whose container is restarted has the same address, and should not be avoided for long.
    ("grpc.max_reconnect_backoff_ms", int(CONNECT_TIMEOUT * 1000)),
    # Pods are reached directly, whatever proxy leads to the world outside.
    ("grpc.enable_http_proxy", 0),
]


class Unavailable(Exception):
    """The peer does not answer as it should: ask another one, or try again."""


class NotFilled(Unavailable):
    """It answers, and has not yet taken over what its peers have."""


class Link:
    """The connection to one peer, made when it is first needed, and again when it broke."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, _OPTIONS)
        self._stub = SyncStub(self._channel)

    def get_all(self) -> Entries:
        """All that the peer holds; raises ``Unavailable``, ``NotFilled``."""
        with _failures_named():
            response = self._stub.GetAll(SyncRequest(data=messages.WITH_VERSIONS), timeout=CALL_TIMEOUT)
            # A peer of another make may give no versions: its values replace nothing then.
            _, entries = messages.parse(response.data)
        return entries

    def set(self, entries: Entries, timeout: float) -> None:
        """Have the peer hold *entries*, within *timeout* seconds; raises ``Unavailable``."""
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
    """One ``Link`` for each address that was asked for; to be used from any thread."""

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
            gone = [self._links.pop(address) for address in self._links.keys() - addresses]
        for link in gone:
            link.close()
