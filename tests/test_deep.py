"""What DEEP.md says of the gate is so: what it names is there, and the deep run has more of each kind."""

import subprocess
import sys

import pytest

from tests.deep import FILE, parse

TOP = FILE.parents[1]
MARK = "pytest.mark." + "deep"


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """The ids of all tests that the deep run has in the files of DEEP.md."""
    files = sorted({test.partition("::")[0] for test in parse(FILE.read_text())})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True)
    return {line for line in done.stdout.splitlines() if "::" in line}


def test_what_the_gate_runs_of_a_kind_is_there(collected):
    named = {f"{test}[{cell}]" for test, cells in parse(FILE.read_text()).items() for cell in cells}
    assert named
    assert not named - collected


def test_of_each_kind_something_is_left_to_the_deep_run(collected):
    for test, cells in parse(FILE.read_text()).items():
        ids = [each.partition("[") for each in collected]
        there = {cell.removesuffix("]") for name, _, cell in ids if name == test}
        assert there - cells, test


def test_a_test_that_is_marked_deep_itself_stands_in_the_table():
    table = FILE.read_text()
    marked = [file for file in FILE.parent.rglob("test_*.py") if MARK in file.read_text()]
    assert [file for file in marked if str(file.relative_to(FILE.parent)) not in table] == []
