"""How far the registry may rely on statuses, by service name: the pod controller notes, the registry asks."""

import threading
from collections.abc import Callable, Iterable

import msgspec

from rpcregistry.model import ServiceKey
from rpcregistry.plan.publication import ALL_LISTED, Place, Unlisted


class InitialSync:
    """Which names the pod controller has not reconciled yet, and what refused writes keep out of statuses.

    For any thread.  Lost with the process: the next one relies on a name once it reconciled all its keys.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _pending and _unlisted
        self._pending: dict[str, set[ServiceKey]] = {}
        self._unlisted: dict[str, dict[ServiceKey, Unlisted]] = {}
        self._changed: list[Callable[[ServiceKey], None]] = []  # grows before anything starts

    def subscribe(self, changed: Callable[[ServiceKey], None]) -> None:
        """Call *changed* with each key that ended its name's initial sync, or changed its ``unlisted``."""
        self._changed.append(changed)

    def begin(self, keys: Iterable[ServiceKey]) -> None:
        """Make each name pending until all its *keys* were reconciled.

        Until then its statuses may lack pods: an earlier process may not have listed them, or not correctly.
        """
        with self._lock:
            for key in keys:
                self._pending.setdefault(key.service_name, set()).add(key)

    def is_pending(self, name: str) -> bool:
        """True until every RpcService of the name was reconciled once since the start."""
        with self._lock:
            return name in self._pending

    def done(self, key: ServiceKey) -> None:
        """Note that *key* was reconciled: its statuses list all that they can."""
        with self._lock:
            left = self._pending.get(key.service_name)
            if left is None:
                return
            left.discard(key)
            if left:
                return
            del self._pending[key.service_name]
        self._notify(key)

    def unlisted(self, name: str) -> Unlisted:
        """What the pods of the name show and no status lists, because the API server refused a write.

        The registry keeps what it has published of that.
        """
        with self._lock:
            found = list(self._unlisted.get(name, {}).values())
        if not found:
            return ALL_LISTED
        return Unlisted(
            endpoints=tuple(row for unlisted in found for row in unlisted.endpoints),
            services={uid for unlisted in found for uid in unlisted.services},
            obsolete=frozenset().union(*(unlisted.obsolete for unlisted in found)),
            unready=frozenset().union(*(unlisted.unready for unlisted in found)),
            refusals={ns: refusal for unlisted in found for ns, refusal in unlisted.refusals.items()},
            endless=next((unlisted.endless for unlisted in found if unlisted.endless), ""),
        )

    def note_unlisted(self, key: ServiceKey, unlisted: Unlisted) -> None:
        """Note that the statuses of *key* lack *unlisted*."""
        with self._lock:
            of_name = self._unlisted.setdefault(key.service_name, {})
            before = of_name.pop(key, ALL_LISTED)
            if unlisted != ALL_LISTED:
                of_name[key] = unlisted
            if not of_name:
                del self._unlisted[key.service_name]
        if unlisted != before:
            self._notify(key)

    def note_obsolete(self, key: ServiceKey, obsolete: frozenset[Place], unready: frozenset[Place]) -> None:
        """Note that the statuses of *key* still list what is *obsolete* or *unready*."""
        with self._lock:
            before = self._unlisted.get(key.service_name, {}).get(key, ALL_LISTED)
        self.note_unlisted(key, msgspec.structs.replace(before, obsolete=obsolete, unready=unready))

    def _notify(self, key: ServiceKey) -> None:
        for changed in self._changed:
            changed(key)
