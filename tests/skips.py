"""Which tests may be skipped: those in ``skips.txt``; with ``--skips=kernel`` those that the kernel prevents.

A skip that is not allowed is a failure of the test that is skipped.
"""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

FILE = Path(__file__).with_name("skips.txt")
CHOICES = ("listed", "kernel")


class Allowed(NamedTuple):
    """A part of the test's id, a part of its reason, and the kernel's feature that it lacks, if any."""

    test: str
    reason: str
    feature: str = ""


def parse(text: str) -> list[Allowed]:
    """The lines of ``skips.txt``.

    >>> parse("# why\\ntest_a.py: no image: overlayfs (probe)\\ntests/b/: is not on PATH\\n")[1]
    Allowed(test='tests/b/', reason='is not on PATH', feature='')
    """
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [Allowed(*(part.strip() for part in line.split(": ", 2))) for line in lines]


def refusal(test: str, reason: str, allowed: Sequence[Allowed], *, kernel: bool) -> str | None:
    """Why *test* may not be skipped for *reason*, or None; *kernel*: only for what the kernel lacks.

    >>> image = Allowed("test_a.py", "no image")
    >>> refusal("tests/test_a.py::test_x", "no image builder", [image], kernel=False)
    >>> refusal("tests/test_a.py::test_x", "no image builder", [image], kernel=True)
    'no kernel feature in tests/skips.txt accounts for this skip: no image builder'
    """
    found = [each for each in allowed if each.test in test and each.reason in reason]
    if not found:
        return f"not in tests/skips.txt: {reason}"
    if kernel and not any(each.feature for each in found):
        return f"no kernel feature in tests/skips.txt accounts for this skip: {reason}"
    return None


class Skips:
    """The plugin: fails what is skipped and may not be, a test or a whole file."""

    def __init__(self, allowed: Sequence[Allowed], *, kernel: bool) -> None:
        self._allowed = allowed
        self._kernel = kernel

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._judge(report)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        self._judge(report)
        return report

    def _judge(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        why = report.longrepr
        reason = str(why[2]) if isinstance(why, tuple) else str(why)
        if refused := refusal(report.nodeid, reason, self._allowed, kernel=self._kernel):
            report.outcome, report.longrepr = "failed", refused
