"""Problems of node Services, and which of them wait: eight workers note them, status writers read them."""

import threading
from collections.abc import Mapping

from rpcregistry.model import NodeServiceKey, ObjectKey, Problem


class Problems:
    """The last problem of each node Service; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _problems
        self._problems: dict[ObjectKey, dict[str, Problem]] = {}  # by LocalService and node

    def set(self, key: NodeServiceKey, problem: Problem) -> bool:
        """Replace the key's problem; return whether it changed."""
        with self._lock:
            by_node = self._problems.setdefault(key.owner, {})
            changed = by_node.get(key.node) != problem
            by_node[key.node] = problem
            return changed

    def clear(self, key: NodeServiceKey) -> bool:
        """Note that the key has no problem; return whether it had one."""
        with self._lock:
            by_node = self._problems.get(key.owner, {})
            changed = by_node.pop(key.node, None) is not None
            if changed and not by_node:
                del self._problems[key.owner]
            return changed

    def of(self, local: ObjectKey) -> Mapping[str, Problem]:
        """A copy of a LocalService's problems, by node."""
        with self._lock:
            return dict(self._problems.get(local, {}))


class Waiting:
    """Which node Services wait for the deletion of another's Service of the same name; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _waiting
        self._waiting: dict[ObjectKey, set[NodeServiceKey]] = {}  # by the Service that has the name

    def begin(self, name: ObjectKey, key: NodeServiceKey) -> None:
        """Note that *key* waits for the Service *name*."""
        with self._lock:
            self._waiting.setdefault(name, set()).add(key)

    def end(self, name: ObjectKey, key: NodeServiceKey) -> None:
        """Note that *key* does not wait for it (any more)."""
        with self._lock:
            keys = self._waiting.get(name, set())
            keys.discard(key)
            if not keys:
                self._waiting.pop(name, None)

    def on(self, name: ObjectKey) -> frozenset[NodeServiceKey]:
        """The keys that wait for the Service *name*."""
        with self._lock:
            return frozenset(self._waiting.get(name, ()))
