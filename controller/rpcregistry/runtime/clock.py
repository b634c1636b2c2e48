"""The process's clock."""

import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """``reconcile.ports.Clock``, as the machine has it."""

    def monotonic(self) -> float:
        """Seconds, of which only differences mean something."""
        return time.monotonic()

    def now(self) -> datetime:
        """The wall clock."""
        return datetime.now(UTC)

    def stamp(self, later: float = 0.0) -> str:
        """The wall clock, so many seconds *later*, in RFC 3339."""
        return (self.now() + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")
