"""What each share of the tests may cost (``budget.txt``), and what it does cost: a table at the end of a run.

Minutes depend on what else the machine does, so CPU seconds are compared: a minute has 60 on each of two
cores.  They are taken after each test: those of this process, of every process that descends from it
(servers that go on running, too), and of those that have ended and were waited for (proc(5): ``stat``,
``children``).  A server that several tests share counts for the test during which it works.

Not counted: a process whose parent has ended before it (a daemon), one that nobody waited for, the process
that directs several workers, and what comes before the first test; without ``/proc``, nothing is.
"""

import os
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pytest

FILE = Path(__file__).with_name("budget.txt")
CHOICES = ("shown", "kept")
CORES = 2
TOLERATED = 1.5  # times what a share is allowed
EXCEEDED = 20  # the exit code: none of pytest's own, as running what failed once more is no answer
SPENT = "cpu seconds"
TICKS = os.sysconf("SC_CLK_TCK")


class Share(NamedTuple):
    """A share of the gate: its minutes, and its files, folders or patterns of files."""

    name: str
    minutes: float
    files: Sequence[str]

    @property
    def allowed(self) -> float:
        """CPU seconds."""
        return self.minutes * 60 * CORES


def parse(text: str) -> list[Share]:
    """The lines of ``budget.txt``.

    >>> parse("# why\\ntruth: 6: tests/truth tests/test_oracle.py\\n")
    [Share(name='truth', minutes=6.0, files=['tests/truth', 'tests/test_oracle.py'])]
    """
    lines = [line.split(":", 2) for line in text.splitlines() if line and not line.startswith("#")]
    return [Share(name.strip(), float(minutes), files.split()) for name, minutes, files in lines]


def share_of(path: str, shares: Sequence[Share]) -> str | None:
    """The share that a file belongs to: that of the longest pattern that has it.

    >>> shares = [Share("today", 22, ["tests/*.py", "tests/a"]), Share("truth", 6, ["tests/a/true"])]
    >>> [share_of(f"tests/{file}", shares) for file in ("test_b.py", "a/true/test_c.py", "new/test_d.py")]
    ['today', 'truth', None]
    """
    file = PurePosixPath(path)
    found = [
        (len(pattern), share.name)
        for share in shares
        for pattern in share.files
        if file.match(pattern) or file.is_relative_to(pattern)
    ]
    return max(found)[1] if found else None


def table(shares: Sequence[Share], used: Mapping[str, float], minutes: Mapping[str, float]) -> Iterator[str]:
    """Yield a line for each share that ran: CPU seconds used and allowed, and the minutes its tests took.

    >>> print(*table([Share("truth", 6, [])], {"truth": 1440.0}, {"truth": 9.0}), sep="\\n")
    truth                     1440 of   720 CPU seconds  200 %    9.0 min
    """
    for share in shares:
        if share.name in used:
            spent = used[share.name]
            yield (
                f"{share.name:24}{spent:6.0f} of {share.allowed:5.0f} CPU seconds"
                f"{spent / share.allowed:6.0%} {minutes[share.name]:6.1f} min"
            ).replace("%", " %")


def exceeded(shares: Sequence[Share], used: Mapping[str, float]) -> list[str]:
    """The shares that used more than is tolerated.

    >>> exceeded([Share("truth", 6, []), Share("speed", 2, [])], {"truth": 1081.0, "speed": 360.0})
    ['truth']
    """
    return [share.name for share in shares if used.get(share.name, 0) > TOLERATED * share.allowed]


def cpu_seconds(process: str | int = "self") -> float:
    """CPU seconds of a process, of its descendants that run, and of those that were waited for."""
    stat = _text(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()
    children = " ".join(map(_text, Path(f"/proc/{process}/task").glob("*/children"))).split()
    return sum(map(int, stat[11:15])) / TICKS + sum(map(cpu_seconds, children))


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # the process has ended meanwhile
        return ""


class Budget:
    """The plugin.  *show* what was used; *keep*: a share that is exceeded fails the run."""

    def __init__(self, shares: Sequence[Share], *, show: bool, keep: bool) -> None:
        self._shares = shares
        self._show = show
        self._keep = keep
        self._before = cpu_seconds()
        self._used: defaultdict[str, float] = defaultdict(float)
        self._minutes: defaultdict[str, float] = defaultdict(float)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        path = _path(item.nodeid)
        if share_of(path, self._shares) is None:
            pytest.fail(f"{path} belongs to no share in tests/budget.txt", pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "teardown":
            now = cpu_seconds()
            # Less than before: a process is gone that nobody waited for.
            report.user_properties.append((SPENT, max(0.0, now - self._before)))
            self._before = now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        share = share_of(_path(report.nodeid), self._shares) or ""
        self._minutes[share] += report.duration / 60
        spent = dict(report.user_properties).get(SPENT, 0.0)
        assert isinstance(spent, float)
        self._used[share] += spent

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._keep and exceeded(self._shares, self._used):
            session.exitstatus = EXCEEDED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._show:
            return
        workers = terminalreporter.config.getoption("numprocesses", None) or 1
        minutes = {share: minutes / workers for share, minutes in self._minutes.items()}
        terminalreporter.section("budget")
        for line in table(self._shares, self._used, minutes):
            terminalreporter.write_line(line)
        for share in exceeded(self._shares, self._used):
            terminalreporter.write_line(f"{share}: more than {TOLERATED:g} times what it may use", red=True)


def _path(nodeid: str) -> str:
    return nodeid.partition("::")[0]
