"""Waits for a state that comes in its own time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 30.0  # seconds; machines are shared, so this bounds a failure and measures nothing
TO_START = 120.0  # the same, for a process that has to start and to lead


def eventually(look: Callable[[], T], timeout: float = PATIENCE) -> T:
    """Call *look* every 50 ms until it returns a true value; return that, or fail with the last one."""
    end = time.monotonic() + timeout
    while not (seen := look()):
        if time.monotonic() >= end:
            raise AssertionError(f"still {seen!r} after {timeout:g} s")
        time.sleep(0.05)
    return seen
