"""What a long look does, on standard error while it lasts."""

import sys
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console

EVERY = 5.0  # seconds between two lines, off a terminal


class Progress:
    """On a terminal a line, which is rewritten and goes at the end; elsewhere a line in ``EVERY`` seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        console = Console(stderr=True, markup=False, highlight=False)
        self._line = console.status("looking …") if console.is_terminal else None
        self._clock = clock
        self._said_at = clock()

    def __enter__(self) -> Self:
        if self._line:
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._line:
            self._line.stop()

    def __call__(self, what: str) -> None:
        """Note *what* is done now."""
        if self._line:
            self._line.update(what)
        elif self._clock() - self._said_at >= EVERY:
            self._said_at = self._clock()
            sys.stderr.write(f"rpcregistry: {what}\n")
