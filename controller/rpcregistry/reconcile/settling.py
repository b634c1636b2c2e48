"""How far statuses can be relied on, by service name: the pod controller says, the registry asks."""

import threading
from collections.abc import Callable, Iterable

from rpcregistry.model import ServiceKey
from rpcregistry.plan.publication import ALL_LISTED, Unlisted


class Settling:
    """Which names were not looked at since the start, and what refused writes keep out of statuses.

    For any thread.  Lost with the process: the next one looks at every name before it relies on any.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _unsettled and _unlisted
        self._unsettled: dict[str, set[ServiceKey]] = {}
        self._unlisted: dict[str, dict[ServiceKey, Unlisted]] = {}
        self._changed: list[Callable[[str], None]] = []  # grows before anything starts

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Call *changed* with each name that settles, or of which something else is unlisted than before."""
        self._changed.append(changed)

    def begin(self, keys: Iterable[ServiceKey]) -> None:
        """Call each name unsettled until all its *keys* were looked at.

        Meanwhile its statuses do not list all that there is: somebody may have to be listed anew, or
        never was.
        """
        with self._lock:
            for key in keys:
                self._unsettled.setdefault(key.service_name, set()).add(key)

    def is_unsettled(self, name: str) -> bool:
        """Whether some RpcService of the name was not looked at since the start."""
        with self._lock:
            return name in self._unsettled

    def settle(self, key: ServiceKey) -> None:
        """The statuses of *key* list all that can be listed."""
        with self._lock:
            left = self._unsettled.get(key.service_name)
            if left is None:
                return
            left.discard(key)
            if left:
                return
            del self._unsettled[key.service_name]
        self._tell(key.service_name)

    def unlisted(self, name: str) -> Unlisted:
        """What pods show of the name and no status lists, since a write was refused.

        What is published of that stays so.
        """
        with self._lock:
            found = list(self._unlisted.get(name, {}).values())
        return Unlisted(
            endpoints=tuple(row for unlisted in found for row in unlisted.endpoints),
            services={uid for unlisted in found for uid in unlisted.services},
            gone=frozenset().union(*(unlisted.gone for unlisted in found)),
            unready=frozenset().union(*(unlisted.unready for unlisted in found)),
            refusals={ns: told for unlisted in found for ns, told in unlisted.refusals.items()},
        )

    def note_unlisted(self, key: ServiceKey, unlisted: Unlisted) -> None:
        """The statuses of *key* lack *unlisted*."""
        with self._lock:
            of_name = self._unlisted.setdefault(key.service_name, {})
            before = of_name.pop(key, ALL_LISTED)
            if unlisted != ALL_LISTED:
                of_name[key] = unlisted
            if not of_name:
                del self._unlisted[key.service_name]
        if unlisted != before:
            self._tell(key.service_name)

    def _tell(self, name: str) -> None:
        for changed in self._changed:
            changed(name)
