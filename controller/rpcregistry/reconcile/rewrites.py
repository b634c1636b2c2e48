"""Rewrites of statuses that others had written, or that could not be decoded."""

import threading
from collections import OrderedDict

from rpcregistry.plan.repairs import rewrite_pause

REMEMBERED = 8  # rewrites of one object: with more, the pause grows no further
MOST_OBJECTS = 1000


class Rewrites:
    """The rewrites of each object, by uid; for any thread.

    Lost with the process: the next one rewrites each object once without a pause.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _at and _lost
        self._at: OrderedDict[str, tuple[float, ...]] = OrderedDict()  # the longest ago first
        self._lost: dict[str, str] = {}

    def note(self, uid: str, now: float) -> None:
        """Note that we rewrote the object's status."""
        with self._lock:
            self._at[uid] = (*self._at.pop(uid, ()), now)[-REMEMBERED:]
            if len(self._at) > MOST_OBJECTS:
                self._at.popitem(last=False)

    def pause(self, uid: str, now: float) -> float:
        """The seconds to wait before the next rewrite."""
        with self._lock:
            return rewrite_pause(self._at.get(uid, ()), now)

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
