"""What was written anew of objects whose status others had written, or that could not be read."""

import threading
from collections import OrderedDict

from rpcregistry.plan.repairs import rewrite_pause

REMEMBERED = 8  # of one object: with more, the pause does not grow any more
MOST_OBJECTS = 1000


class Rewrites:
    """By uid; for any thread.

    Lost with the process, which then writes each of them anew once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _at and _lost
        self._at: OrderedDict[str, tuple[float, ...]] = OrderedDict()  # the longest ago first
        self._lost: dict[str, str] = {}

    def note(self, uid: str, now: float) -> None:
        """The object's status was put right."""
        with self._lock:
            self._at[uid] = (*self._at.pop(uid, ()), now)[-REMEMBERED:]
            if len(self._at) > MOST_OBJECTS:
                self._at.popitem(last=False)

    def pause(self, uid: str, now: float) -> float:
        """The seconds to wait before that is done once more."""
        with self._lock:
            return rewrite_pause(self._at.get(uid, ()), now)

    def lost(self, uid: str, resource_version: str) -> None:
        """Our own write came back as what cannot be read: the server does not keep what we write."""
        with self._lock:
            self._lost[uid] = resource_version

    def is_lost(self, uid: str, resource_version: str) -> bool:
        """Whether to write the object anew would bring the same as before: nobody changed it since."""
        with self._lock:
            return self._lost.get(uid) == resource_version

    def kept(self, uid: str) -> None:
        """The object can be read."""
        with self._lock:
            self._lost.pop(uid, None)
