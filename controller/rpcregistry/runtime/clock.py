"""The process's clock."""

import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """The machine's clock, as a ``reconcile.ports.Clock``."""

    def monotonic(self) -> float:
        """Seconds; only differences are meaningful."""
        return time.monotonic()

    def now(self) -> datetime:
        """The wall clock."""
        return datetime.now(UTC)

    def stamp(self, later: float = 0.0) -> str:
        """The wall clock, so many seconds *later*, in RFC 3339."""
        return (self.now() + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")
