"""How commands print for people: aligned tables, hops with a mark, colours on a terminal.

Off a terminal nothing is cut or coloured.  ``NO_COLOR`` switches colours off (no-color.org).
"""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import yaml

from rpcregistry.errors import Failure
from rpcregistry.plan.explain import Hop, Seen
from rpcregistry.telemetry.logging import printable

MARKS = {Seen.RIGHT: "✓", Seen.WRONG: "✗", Seen.UNSEEN: "?"}
_GREEN, _RED, _AMBER, _BOLD = "32", "31", "33", "1"
_COLOURS = {Seen.RIGHT: _GREEN, Seen.WRONG: _RED, Seen.UNSEEN: _AMBER}
GAP = 3  # columns between two of a table


class Paint:
    """Colours text for a stream, if that is a terminal and nobody objects."""

    def __init__(self, stream: TextIO) -> None:
        self._on = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def __call__(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._on and text else text


def table(headers: Sequence[str], lines: Iterable[Sequence[str]], stream: TextIO | None = None) -> str:
    """Lines of aligned columns; True and False stand out on a terminal.

    >>> print(table(["NAME", "READY"], [["echo", "1/1"]]), end="")
    NAME   READY
    echo   1/1
    """
    paint = Paint(stream or sys.stdout)
    cells = [[printable(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    out = [paint(_joined(headers, widths), _BOLD)]
    out += ["".join(_padded(line, widths, paint)).rstrip() for line in cells]
    return "".join(f"{line}\n" for line in out)


def _joined(line: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(cell.ljust(width + GAP) for cell, width in zip(line, widths, strict=True)).rstrip()


def _padded(line: Sequence[str], widths: Sequence[int], paint: Paint) -> Iterable[str]:
    for cell, width in zip(line, widths, strict=True):
        colour = {"False": _RED, "True": _GREEN, "Unknown": _AMBER}.get(cell)
        yield (paint(cell, colour) if colour else cell) + " " * (width + GAP - len(cell))


def hops(found: Sequence[Hop], stream: TextIO | None = None) -> str:
    """A line a hop, with its mark; below it the details, and what to type."""
    paint = Paint(stream or sys.stdout)
    width = max((len(hop.what) for hop in found), default=0)
    out = []
    for hop in found:
        mark = paint(MARKS[hop.seen], _COLOURS[hop.seen])
        out.append(f"{mark} {printable(hop.what).ljust(width)}  {printable(hop.why)}")
        out += [f"  {'':{width}}  {printable(detail)}" for detail in hop.details]
        if hop.next:
            out.append(f"  {'':{width}}  → {paint(printable(hop.next), _BOLD)}")
    return "".join(f"{line}\n" for line in out)


def report(about: str, found: Sequence[Hop], output: str) -> None:
    """Print hops as ``text``, or for programs; *about*: the first line, ``""`` for none."""
    if output == "text":
        say(f"{printable(about)}\n{hops(found)}" if about else hops(found))
        return
    objects = [
        {"what": hop.what, "state": hop.seen.value, "why": hop.why, "details": hop.details, "next": hop.next}
        for hop in found
    ]
    say(encoded({**({"about": about} if about else {}), "hops": objects}, output))


def encoded(value: Any, output: str) -> str:
    """*value* as ``json`` or ``yaml``, for programs."""
    if output == "json":
        return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"
    dumped: str = yaml.safe_dump(
        msgspec.to_builtins(value), sort_keys=False, allow_unicode=True, width=1_000_000
    )
    return dumped


def say(text: str) -> None:
    """Write to standard output at once; its reader may stop early, like ``head``."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # At exit, Python would write the rest of the buffer, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def cannot_look(failure: Failure) -> int:
    """Print why in one line; return the exit code."""
    sys.stderr.write(f"rpcregistry: cannot look: {' '.join(str(failure).split())}\n")
    return 2


def age(stamp: str, now: datetime | None = None) -> str:
    """The time since an RFC 3339 *stamp*, as kubectl prints it; ``<unknown>`` if it is none.

    >>> age("2026-11-21T02:02:02Z", datetime(2026, 11, 21, 2, 5, 2, tzinfo=UTC)), age("")
    ('3m', '<unknown>')
    """
    seconds = seconds_since(stamp, now)
    if seconds is None:
        return "<unknown>"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def seconds_since(stamp: str, now: datetime | None = None) -> float | None:
    """The seconds since an RFC 3339 *stamp*; None if it is none."""
    try:
        return ((now or datetime.now(UTC)) - datetime.fromisoformat(stamp)).total_seconds()
    except (ValueError, TypeError):
        return None
