"""Prints what ``verify`` found.

On a terminal all goes to standard output, with findings as a table.  Elsewhere standard output has only
findings: one a line, fields separated by tabs, nothing cut.  Without findings it is one line, which says how
much is in sync.  All else goes to standard error.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec
from rich.console import Console
from rich.table import Table

from rpcregistry.commands.whereabouts import Whereabouts
from rpcregistry.plan.findings import Counts, Finding, summary
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.scope import Scope, differences, keeper


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """The findings; *beat*: the controllers' heartbeat, if any; *notes*: what we could not read."""

    findings: tuple[Finding, ...]
    counts: Counts
    beat: Heartbeat | None = None
    notes: tuple[str, ...] = ()


class Report(Protocol):
    """Prints the header when made, before the inspection, and the rest by ``show``."""

    def show(self, inspection: Inspection) -> None:
        """Print the outcome."""


class Text:
    """Text for people, and for pipes."""

    def __init__(self, where: Whereabouts, scope: Scope) -> None:
        self._where = where
        self._scope = scope
        self._aside = sys.stdout if sys.stdout.isatty() else sys.stderr
        self._say(f"{where.describe()}, {_namespaces(scope)}")

    def show(self, inspection: Inspection) -> None:
        """Print which controllers run, the findings, and how much was compared."""
        beat = inspection.beat
        self._say(keeper(beat, self._where.cluster_id))
        for line in (*(differences(self._scope, beat) if beat else ()), *inspection.notes):
            self._say(str(line))
        findings = sorted(inspection.findings)
        if sys.stdout.isatty():
            show_table(findings, Console(markup=False, highlight=False))
        else:
            _write(map(line_of, findings))
        said = summary(findings, inspection.counts, self._scope.namespaces)
        if findings or sys.stdout.isatty():
            self._say(said)
        else:
            _write([_printable(f"{said}; {self._where.describe()}") + "\n"])

    def _say(self, line: str) -> None:
        self._aside.write(f"{_printable(line)}\n")
        self._aside.flush()


class Json:
    """One JSON object for programs."""

    def __init__(self, where: Whereabouts, scope: Scope) -> None:
        self._where = where
        self._scope = scope

    def show(self, inspection: Inspection) -> None:
        """Print all on standard output."""
        encoded = msgspec.json.encode(as_object(self._where, self._scope, inspection))
        _write([msgspec.json.format(encoded).decode() + "\n"])


REPORTS: Mapping[str, Callable[[Whereabouts, Scope], Report]] = {"table": Text, "json": Json}


def as_object(where: Whereabouts, scope: Scope, inspection: Inspection) -> dict[str, Any]:
    """The object that ``--output json`` prints."""
    beat = inspection.beat
    return {
        "context": where.context,
        "server": where.server,
        "cluster": where.cluster_id,
        "zookeeper": where.zk_servers,
        "layouts": scope.layouts,
        "namespaces": scope.namespaces,
        "heartbeat": beat,
        "differences": differences(scope, beat) if beat else (),
        "notes": inspection.notes,
        "counts": inspection.counts,
        "findings": sorted(inspection.findings),
        "summary": summary(inspection.findings, inspection.counts, scope.namespaces),
    }


def line_of(finding: Finding) -> str:
    r"""Format a finding as a line, its fields separated by tabs.

    >>> line_of(Finding("", "shop/echo/echo-1", "not listed", "it serves\n…"))
    'not listed\t-\tshop/echo/echo-1\tit serves\\n…\n'
    """
    fields = (finding.state, finding.layout or "-", finding.path, finding.detail)
    return "\t".join(map(_printable, fields)) + "\n"


def show_table(findings: Iterable[Finding], console: Console) -> None:
    """Print the findings as a table; long fields are folded, never cut."""
    table = Table(box=None, pad_edge=False)
    for column in ("STATE", "LAYOUT", "PATH", "DETAIL"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(
            finding.state, finding.layout or "-", _printable(finding.path), _printable(finding.detail)
        )
    if table.row_count:
        console.print(table)


def _write(lines: Iterable[str]) -> None:
    """Write to standard output; its reader may stop early, like ``head``."""
    try:
        sys.stdout.writelines(lines)
        sys.stdout.flush()
    except BrokenPipeError:
        # At exit, Python would write the rest of the buffer, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _printable(text: str) -> str:
    r"""Escape the control characters in a text that others may have written.

    >>> _printable("a\x1b[31m\tb")
    'a\\x1b[31m\\tb'
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _namespaces(scope: Scope) -> str:
    if not scope.namespaces:
        return "all namespaces"
    return f"namespace{'s' if len(scope.namespaces) > 1 else ''} {' '.join(scope.namespaces)}"
