"""Logs, on standard error: a JSON object a line, or colours for a console."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from rpcregistry.logs import Line

_SECRET = re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',]+|\beyJ[\w-]{8,}\.[\w.-]+")


def configure_logging(log_format: str | None, level: str, libraries: bool = True) -> None:
    """Log to standard error, as ``json`` or for a ``console``; None: json unless it is a terminal.

    *level* is for this package.  *libraries* may log from WARNING on, or with False nothing: at DEBUG they
    log what they send, credentials included.
    """
    is_console = sys.stderr.isatty() if log_format is None else log_format == "console"
    render: list[structlog.types.Processor] = [_in_order, structlog.processors.JSONRenderer()]
    if is_console:
        plain = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
        render = [_printable_values, console]
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_with_fields, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *render,
                lambda _logger, _name, line: _SECRET.sub("[secret]", str(line)),
            ],
        )
    )
    if not libraries:
        handler.addFilter(logging.Filter("rpcregistry"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("rpcregistry").setLevel(level.upper())


def _in_order(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put first what every line has, so that people find it."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event", "logger") if key in event}
    return {**first, **event}


def _with_fields(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Give a line of ``logs.Log`` the form of structlog's: its message is the event, with fields."""
    match event["_record"].msg:
        case Line(event=message, fields=fields):
            event.update(fields, event=message)
    return event


def _printable_values(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = printable(value)
    return event


def printable(text: str) -> str:
    r"""*text* on one line, with control characters escaped that a terminal would obey.

    >>> printable("a\n\x1b[31m\u202eb ü")
    'a\\n\\x1b[31m\\u202eb ü'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
