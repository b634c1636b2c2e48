"""Reading and watching many znodes by one request each: what ZooKeeper can, and kazoo cannot.

A request costs kazoo and the server a hundred times what a znode in its answer does.  Here are two more:

- ``MultiRead`` (ZooKeeper 3.6 and later) reads any number of znodes, and watches none.
- ``SetWatches`` watches any number, once each.  Clients send it after a reconnect, to all versions.

kazoo sends any object that has what these have (``KazooClient._call``).  It keeps the watches that are set in
``_data_watchers`` and ``_child_watchers``, which belong to its thread that sends and receives.
"""

import struct
import threading
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    EXCEPTIONS,
    AuthFailedError,
    ConnectionLoss,
    SessionClosedRequireSaslError,
    SessionExpiredError,
    UnimplementedError,
)
from kazoo.protocol.serialization import (
    GetChildren,
    GetData,
    MultiHeader,
    int_struct,
    read_buffer,
    read_string,
    stat_struct,
    write_string,
)
from kazoo.protocol.states import ZnodeStat

DATA, CHILDREN = GetData.type, GetChildren.type  # what to read of a znode
FIRST, MOST = 4, 128  # znodes in one request
QUICK, SLOW = 0.25, 1.0  # seconds for an answer
LARGEST_ANSWER = 512 * 1024  # bytes; a server that is small does not have to hold many of one znode's limit
END = 9  # bytes: the header after the last answer
LATER = (1 << 63) - 1  # a transaction that never was: nothing is newer
UNANSWERED = 3  # connections that ended with the question: the server closes them for it

_ENDED = (AuthFailedError, SessionClosedRequireSaslError, SessionExpiredError)  # this says nothing of bulk

Watchers = MutableMapping[str, set[Callable[..., None]]]


class MultiRead:
    """Reads the ``DATA`` or the ``CHILDREN`` of each path.

    The result has an answer a path, an exception if it cannot be read; and the bytes of all.
    """

    type = 22

    def __init__(self, what: int, paths: Sequence[str]) -> None:
        self._header = MultiHeader(what, False, -1).serialize()
        self._paths = paths

    def serialize(self) -> bytes:
        """The request, as kazoo sends it."""
        reads = (self._header + write_string(path) + b"\0" for path in self._paths)
        return b"".join((*reads, MultiHeader(-1, True, -1).serialize()))

    def deserialize(self, answer: bytes, offset: int) -> tuple[list[Any], int]:
        """The result; kazoo calls it."""
        results: list[Any] = []
        while True:
            header, offset = MultiHeader.deserialize(answer, offset)
            if header.done:
                return results, len(answer)
            result: Any
            if header.type == DATA:
                data, offset = read_buffer(answer, offset)
                result = data, ZnodeStat._make(stat_struct.unpack_from(answer, offset))
                offset += stat_struct.size
            elif header.type == CHILDREN:
                (count,) = int_struct.unpack_from(answer, offset)
                offset += int_struct.size
                result = []
                for _ in range(count):
                    name, offset = read_string(answer, offset)
                    result.append(name)
            else:
                (code,) = int_struct.unpack_from(answer, offset)
                offset += int_struct.size
                result = EXCEPTIONS[code]()
            results.append(result)


class MultiSeal(MultiRead):
    """As ``MultiRead``, but the result is the answer as it came: another one, if anything changed.

    Of each znode it has the numbers of the transactions that changed it, or its children, last.
    """

    def deserialize(self, answer: bytes, offset: int) -> tuple[bytes, int]:  # type: ignore[override]
        """The result; kazoo calls it."""
        return bytes(answer[offset:-END]), len(answer)


class SetWatches:
    """Has *watcher* called once, with the next change of each path.

    *data*: znodes whose data is watched; *missing*: paths without one; *children*: znodes whose children are.
    If one is not as that says, the server does not watch it, and sends the event of its change at once.
    """

    type = 101

    def __init__(
        self,
        client: KazooClient,
        watcher: Callable[..., None],
        *,
        data: Sequence[str] = (),
        missing: Sequence[str] = (),
        children: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._watcher = watcher
        self._data = data
        self._missing = missing
        self._children = children

    def serialize(self) -> bytes:
        """The request, as kazoo sends it; also registers the watcher.

        kazoo calls this in the thread that owns its watchers, right before it sends.  So no event is missed,
        and what is registered is what this connection's server was asked for.
        """
        watchers_of(self._client, DATA).update((at, {self._watcher}) for at in (*self._data, *self._missing))
        watchers_of(self._client, CHILDREN).update((at, {self._watcher}) for at in self._children)
        return struct.pack("!q", LATER) + b"".join(map(_list, (self._data, self._missing, self._children)))

    def deserialize(self, _: bytes, __: int) -> bool:
        """The result; kazoo calls it."""
        return True


def _list(paths: Sequence[str]) -> bytes:
    return b"".join((int_struct.pack(len(paths)), *map(write_string, paths)))


def watchers_of(client: KazooClient, what: int) -> Watchers:
    """The watchers that kazoo has of ``DATA`` or ``CHILDREN``, by path.

    They belong to kazoo's thread; others only look whether there is one.
    """
    found: Watchers = client._data_watchers if what == DATA else client._child_watchers
    return found


def send(client: KazooClient, request: MultiRead | SetWatches) -> Any:
    """Send *request*; return kazoo's ``AsyncResult``."""
    result = client.handler.async_result()
    client._call(request, result)
    return result


def next_count(count: int, seconds: float, size: int) -> int:
    """How many znodes to read at once, after *count* took so many *seconds* and bytes.

    Over a slow link, half of too many is asked for before an answer takes too long.

    >>> next_count(4, 0.01, 2_000), next_count(128, 0.01, 20_000)
    (8, 128)
    >>> next_count(64, 0.5, 2_000), next_count(64, 2.0, 2_000), next_count(1, 2.0, 2_000)
    (64, 32, 1)
    >>> next_count(64, 0.01, LARGEST_ANSWER // 2 + 1), next_count(64, 0.01, 2 * LARGEST_ANSWER)
    (64, 32)
    """
    if seconds > SLOW or size > LARGEST_ANSWER:
        return max(1, count // 2)
    if seconds < QUICK and 2 * size <= LARGEST_ANSWER:
        return min(MOST, 2 * count)
    return count


class Bulk:
    """Whether the connected server reads in bulk; kazoo's threads tell it, any thread asks.

    A server before 3.6 closes the connection at such a request.  So it is the first one of each connection,
    until a server refused it: then this process asks no more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects all that follows
        self._works = False
        self._unanswered = 0

    @property
    def works(self) -> bool:
        """Whether the server answered the first request of this connection."""
        with self._lock:
            return self._works

    @property
    def may_work(self) -> bool:
        """Whether to ask the next server."""
        with self._lock:
            return self._unanswered < UNANSWERED

    def refused(self) -> None:
        """Note that a server does not know the request."""
        with self._lock:
            self._works, self._unanswered = False, UNANSWERED

    def note_first(self, failure: Exception | None) -> bool:
        """Note how the first request ended; return whether to send another one.

        There is none after an ``UnimplementedError``: the server closes the connection.
        """
        lost = isinstance(failure, ConnectionLoss)
        if failure and not lost and not isinstance(failure, _ENDED):
            self.refused()
            return not isinstance(failure, UnimplementedError)
        with self._lock:
            self._works = failure is None
            self._unanswered = 0 if failure is None else self._unanswered + lost
        return False
