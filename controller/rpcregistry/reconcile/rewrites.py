"""Rewrites of statuses that others had written, or that could not be decoded."""

import threading

from rpcregistry.plan.repairs import rewrite_pause
from rpcregistry.reconcile.lately import Lately


class Rewrites:
    """The rewrites of each object, by uid; for any thread.

    Lost with the process: the next one rewrites each object once without a pause.
    """

    def __init__(self) -> None:
        self._at = Lately()
        self._lock = threading.Lock()  # protects _lost
        self._lost: dict[str, str] = {}

    def note(self, uid: str, now: float) -> None:
        """Note that we rewrote the object's status."""
        self._at.note(uid, now)

    def pause(self, uid: str, now: float) -> float:
        """The seconds to wait before the next rewrite."""
        return rewrite_pause(self._at.at(uid), now)

    def lost(self, uid: str, resource_version: str) -> None:
        """Note that the server did not keep our write: its answer could not be decoded."""
        with self._lock:
            self._lost[uid] = resource_version

    def is_lost(self, uid: str, resource_version: str) -> bool:
        """Whether a rewrite would be lost again: the object is unchanged since the last lost one."""
        with self._lock:
            return self._lost.get(uid) == resource_version

    def kept(self, uid: str) -> None:
        """Note that the object can be decoded."""
        with self._lock:
            self._lost.pop(uid, None)
