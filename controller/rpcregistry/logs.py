"""Logger for modules that RPC processes import as well: ``logging``, with fields.

structlog imports rich and asyncio, takes as much memory as two thousand pods, and would have to be configured
in a program that is not ours.  In the controllers, ``telemetry`` formats the lines of both.
"""

import logging
from typing import Any


class Line:
    """An *event* in constant words, and its *fields*.

    >>> str(Line("watch interrupted", {"resource": "pods", "retry_seconds": 1.6}))
    'watch interrupted resource=pods retry_seconds=1.6'
    """

    def __init__(self, event: str, fields: dict[str, Any]) -> None:
        self.event = event
        self.fields = fields

    def __str__(self) -> str:
        return " ".join((self.event, *(f"{key}={value}" for key, value in self.fields.items())))


class Log:
    """The logger *name* of ``logging``, called as structlog's are."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **fields: Any) -> None:
        """Log what happened."""
        self._logger.info(Line(event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        """Log what an operator may have to look at."""
        self._logger.warning(Line(event, fields))

    def exception(self, event: str, **fields: Any) -> None:
        """Log the current exception, within an ``except``."""
        self._logger.exception(Line(event, fields))
