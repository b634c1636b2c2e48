"""What workers do with the tests: which of them stay together, and what is run once more."""

import pytest

from tests import workers

pytest_plugins = ["pytester"]

CONFTEST = """
from tests import workers

def pytest_configure(config):
    config.pluginmanager.register(workers)
"""
IN_ORDER = """
import pytest

seen = []

@pytest.mark.parametrize("n", range(6))
def test_x(n):
    seen.append(n)
    assert seen == list(range(n + 1))
"""


def test_what_is_named_runs_in_one_worker_and_all_else_in_both(pytester: pytest.Pytester, monkeypatch):
    monkeypatch.setattr(workers, "TOGETHER", {"test_together.py": "unit"})
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_together=IN_ORDER)
    assert pytester.runpytest_inprocess("-n", "2").parseoutcomes() == {"passed": 6}
    monkeypatch.setattr(workers, "TOGETHER", {})
    assert pytester.runpytest_inprocess("-n", "2").parseoutcomes()["failed"]


def test_what_failed_in_a_worker_is_found_again_without_workers(pytester: pytest.Pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        "import pytest\n@pytest.mark.parametrize('n', range(6))\ndef test_x(n): assert n != 3"
    )
    assert pytester.runpytest_inprocess("-n", "2").parseoutcomes() == {"failed": 1, "passed": 5}
    again = pytester.runpytest_inprocess("--last-failed", "--last-failed-no-failures", "none")
    assert again.parseoutcomes() == {"failed": 1}
