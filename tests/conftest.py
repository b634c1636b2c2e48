"""For all suites: logging as it was before, and skipped tests, of which only those in skips.txt may be."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

ALLOWED = [
    tuple(part.strip() for part in line.split(": ", 1))
    for line in (Path(__file__).parent / "skips.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that a test runs in this process configures logging, for all that comes after it."""
    root, ours = logging.getLogger(), logging.getLogger("rpcregistry")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    structlog.reset_defaults()


def _reason(report: pytest.TestReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


def _is_allowed(report: pytest.TestReport) -> bool:
    return any(test in report.nodeid and reason in _reason(report) for test, reason in ALLOWED)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if session.exitstatus == pytest.ExitCode.OK and not all(map(_is_allowed, skipped)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("skipped", []):
        if not _is_allowed(report):
            terminalreporter.write_line(
                f"not in tests/skips.txt: {report.nodeid}: {_reason(report)}", red=True
            )
