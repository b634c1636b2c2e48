"""The budget: which share a file belongs to, what a run costs, and what comes of one that costs too much."""

import subprocess
import sys

import pytest

from tests.budget import EXCEEDED, FILE, cpu_seconds, parse, share_of

pytest_plugins = ["pytester"]

BURN = "import time\nwhile time.process_time() < 0.4: pass\n"
ON = "import sys\nprint(flush=True)\nsys.stdin.read()\n"  # goes on until it is ended
CONFTEST = """
from tests.budget import Budget, parse

def pytest_configure(config):
    config.pluginmanager.register(Budget(parse(%r), show=True, keep=%r))
"""
BURNING = """
import time
def test_x():
    end = time.process_time() + 0.2
    while time.process_time() < end: pass
"""


@pytest.fixture
def run(pytester: pytest.Pytester):
    """Runs ``test_a.py``, which burns 0.2 CPU seconds, under a budget."""

    def run(text: str, *options: str, keep: bool = True, source: str = BURNING) -> pytest.RunResult:
        pytester.makeconftest(CONFTEST % (text, keep))
        pytester.makepyfile(test_a=source)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)

    return run


def test_every_test_file_belongs_to_one_share_and_the_gate_to_an_hour():
    shares = parse(FILE.read_text())
    assert sum(share.minutes for share in shares) == 60
    assert len({share.name for share in shares}) == len(shares)
    patterns = [pattern for share in shares for pattern in share.files]
    assert len(set(patterns)) == len(patterns)
    files = [str(file.relative_to(FILE.parents[1])) for file in FILE.parent.rglob("test_*.py")]
    assert [file for file in files if not share_of(file, shares)] == []


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["in this process", "in workers"])
def test_a_share_that_is_exceeded_fails_the_run_and_what_failed_is_not_run_once_more(run, workers):
    done = run("little: 0.0001: test_a.py\nidle: 1: test_b.py", *workers)
    assert done.ret == EXCEEDED
    done.stdout.fnmatch_lines(["little * of * CPU seconds * min", "little: more than 1.5 times*"])
    done.stdout.no_fnmatch_line("idle*")


def test_a_share_within_its_budget_passes(run):
    done = run("enough: 1: test_a.py")
    assert done.ret == pytest.ExitCode.OK
    done.stdout.fnmatch_lines(["enough * of   120 CPU seconds * min"])


def test_a_share_that_is_only_shown_fails_nothing(run):
    assert run("little: 0.0001: test_a.py", keep=False).ret == pytest.ExitCode.OK


def test_a_test_that_fails_is_still_the_failure_where_the_budget_is_kept(run):
    assert (
        run("enough: 1: test_a.py", source="def test_x(): assert False").ret == pytest.ExitCode.TESTS_FAILED
    )


def test_a_file_without_a_share_fails(run):
    done = run("other: 1: test_b.py")
    assert done.parseoutcomes() == {"errors": 1}
    done.stdout.fnmatch_lines(["*test_a.py belongs to no share in tests/budget.txt"])


def child(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()  # it has burnt, and goes on
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def test_a_child_counts_while_it_runs_and_once_it_was_waited_for():
    before = cpu_seconds()
    process = child(BURN + ON)
    assert cpu_seconds() - before >= 0.3
    end(process)
    assert cpu_seconds() - before >= 0.3


def test_a_grandchild_counts_that_is_a_session_leader_and_runs():
    command = [sys.executable, "-c", BURN + ON]
    before = cpu_seconds()
    process = child(f"import subprocess\nsubprocess.Popen({command!r}, start_new_session=True).wait()")
    spent = cpu_seconds() - before
    end(process)
    assert spent >= 0.3


def test_what_has_ended_counts_nothing():
    process = child(ON)
    end(process)
    assert cpu_seconds(process.pid) == 0
