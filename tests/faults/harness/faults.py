"""What was broken, and from when to when, as those say who break it."""

import threading
import time
from dataclasses import replace

from tests.faults.harness.evidence import Fault

RECOVERY = 60.0  # seconds: sessions end, a process that gave up is started again, and a Lease runs out


class Faults:
    """What was broken, and from when to when; any thread may say so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects the lists
        self._begun: dict[str, Fault] = {}  # by what is broken
        self._over: list[Fault] = []

    def begin(self, what: str, kind: str) -> None:
        """Something is broken from now on; said again, it is broken still."""
        with self._lock:
            now = time.time()
            self._begun.setdefault(what, Fault(kind, now, float("inf"), recovery=RECOVERY, note=what))

    def end(self, what: str) -> None:
        """It is mended."""
        with self._lock:
            if fault := self._begun.pop(what, None):
                self._over.append(replace(fault, ended=time.time()))

    def add(self, fault: Fault) -> None:
        """Declare a fault that is over."""
        with self._lock:
            self._over.append(fault)

    def since(self, began: float) -> list[Fault]:
        """Those that were not over by then."""
        with self._lock:
            return [fault for fault in (*self._over, *self._begun.values()) if fault.ended >= began]
