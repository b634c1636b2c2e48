"""Which cells of a test the gate runs: those that ``DEEP.md`` names; the others are marked ``deep``."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("DEEP.md")


def parse(text: str) -> dict[str, set[str]]:
    """The rows of the table: the test, below ``tests/``, and its cells in the gate.

    >>> parse("| a crash | `a.py::test_x` | `1`, `5` | 2 to 9 |") == {"tests/a.py::test_x": {"1", "5"}}
    True
    """
    rows = [line.split("|")[2:4] for line in text.splitlines() if line.startswith("|")]
    found = [(re.findall("`(.+?)`", test), re.findall("`(.+?)`", cells)) for test, cells in rows]
    return {f"tests/{test}": set(cells) for (test, *_), cells in (row for row in found if row[0])}


def is_deep(nodeid: str, gate: Mapping[str, set[str]]) -> bool:
    """Whether a test is a cell that only the deep run has.

    >>> gate = {"tests/a.py::test_x": {"1"}}
    >>> [is_deep(f"tests/a.py::{name}", gate) for name in ("test_x[1]", "test_x[2]", "test_y[2]")]
    [False, True, False]
    """
    test, _, cell = nodeid.partition("[")
    return test in gate and cell.removesuffix("]") not in gate[test]


class Deep:
    """The plugin.  *gate*: by test its cells in the gate."""

    def __init__(self, gate: Mapping[str, set[str]]) -> None:
        self._gate = gate

    @pytest.hookimpl(tryfirst=True)  # before -m is looked at
    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        for item in items:
            if is_deep(item.nodeid, self._gate):
                item.add_marker("deep")
