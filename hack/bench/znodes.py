"""ZooKeeper as any other client sees it, and as a bare client writes it."""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

BASE = "/rpc_v2"
TRANSACTION = 100  # ops
IN_FLIGHT = 100

# Scenarios stop the server: its lost connections need no log.
logging.getLogger("kazoo").setLevel(logging.CRITICAL)


class Znodes:
    """The services' znodes, read and written by a client of its own."""

    def __init__(self, servers: str) -> None:
        self.client = KazooClient(servers)
        self.client.start()

    def close(self) -> None:
        """End the session."""
        self.client.stop()
        self.client.close()

    def count(self) -> int:
        """The number of services."""
        stat = self.client.exists(BASE)
        return stat.children_count if stat else 0

    def content(self) -> dict[str, bytes]:
        """The bytes of every service's znode."""
        return self._read(self.client.get_children(BASE)) if self.client.exists(BASE) else {}

    def servers(self, services: Iterable[str]) -> dict[str, list[str]]:
        """The servers of each of *services*."""
        return {name: json.loads(data)["servers"] for name, data in self._read(services).items()}

    def _read(self, services: Iterable[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        waiting: deque[tuple[str, object]] = deque()
        for name in services:
            waiting.append((name, self.client.get_async(f"{BASE}/{name}")))
            if len(waiting) == IN_FLIGHT:
                _take(waiting, found)
        while waiting:
            _take(waiting, found)
        return found

    def write(self, content: Mapping[str, bytes]) -> None:
        """Create the znodes, in transactions."""
        self.client.ensure_path(BASE)
        todo = list(content.items())
        answers = []
        for start in range(0, len(todo), TRANSACTION):
            transaction = self.client.transaction()
            for name, data in todo[start : start + TRANSACTION]:
                transaction.create(f"{BASE}/{name}", data)
            answers.append(transaction.commit_async())
        for answer in answers:
            for result in answer.get():
                if isinstance(result, Exception):
                    raise result

    def wipe(self) -> None:
        """Delete all that the controller or a bare client wrote."""
        for path in (BASE, "/rpcregistry"):
            self._wipe(path)

    def _wipe(self, path: str) -> None:
        try:
            children = self.client.get_children(path)
        except NoNodeError:
            return
        leaves: deque[object] = deque()
        for child in children:
            below = f"{path}/{child}"
            stat = self.client.exists(below) if path.count("/") < 3 else None
            if stat and stat.children_count:
                self._wipe(below)
            else:
                leaves.append(self.client.delete_async(below))
            if len(leaves) == IN_FLIGHT:
                leaves.popleft().get()  # type: ignore[attr-defined]
        for leaf in leaves:
            leaf.get()  # type: ignore[attr-defined]
        self.client.delete(path)


def _take(waiting: deque[tuple[str, object]], found: dict[str, bytes]) -> None:
    name, answer = waiting.popleft()
    found[name] = answer.get()[0]  # type: ignore[attr-defined]


class Spectator:
    """Watches services' znodes as an RPC client does: notified of a change, it reads again.

    *seen* gets the service, its servers and when they were read, in one thread at a time; None as servers
    means that there is no znode.
    """

    def __init__(
        self, servers: str, services: Iterable[str], seen: Callable[[str, list[str] | None, float], None]
    ) -> None:
        self._seen = seen
        self._lock = threading.Lock()
        self._client = KazooClient(servers)
        self._client.start()
        self._closed = False
        for service in services:
            self._look(service)

    def close(self) -> None:
        """End the watches."""
        self._closed = True
        self._client.stop()
        self._client.close()

    def _look(self, service: str) -> None:
        path = f"{BASE}/{service}"

        def changed(_: object) -> None:
            if not self._closed:
                self._look(service)

        def read(answer: object) -> None:
            if self._closed:
                return
            now = time.monotonic()
            try:
                data = answer.get()[0]  # type: ignore[attr-defined]
            except NoNodeError:
                # Reading a missing znode sets no watch, but exists() does.
                self._client.exists_async(path, changed)
                data = None
            with self._lock:
                self._seen(service, None if data is None else json.loads(data)["servers"], now)

        self._client.get_async(path, changed).rawlink(read)
