"""A skip that nothing accounts for fails the run: a test's or a file's, in this process or in workers."""

import pytest

from tests.skips import FILE, parse

pytest_plugins = ["pytester"]

LISTED = "test_a.py: no builder\ntest_a.py: no namespaces: namespaces (probe)\n"
CONFTEST = f"""
from tests.skips import Skips, parse

def pytest_configure(config):
    config.pluginmanager.register(Skips(parse({LISTED!r}), kernel=%s))
"""


@pytest.fixture
def run(pytester: pytest.Pytester):
    """Runs a test file under the rule; returns its outcomes.  *kernel*: only the kernel's features count."""

    def run(source: str, *options: str, kernel: bool = False, file: str = "test_a") -> dict[str, int]:
        pytester.makeconftest(CONFTEST % kernel)
        pytester.makepyfile(**{file: f"import pytest\n{source}"})
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options).parseoutcomes()

    return run


def skipping(reason: str) -> str:
    return f"@pytest.mark.skipif(True, reason={reason!r})\ndef test_x(): pass"


@pytest.mark.parametrize(
    ("reason", "kernel", "outcome"),
    [
        pytest.param("no builder is here", False, "skipped", id="listed"),
        pytest.param("no time", False, "errors", id="not listed"),
        pytest.param("no builder is here", True, "errors", id="listed, but not the kernel's: in the gate"),
        pytest.param("no namespaces", True, "skipped", id="the kernel's: in the gate"),
    ],
)
def test_a_skip_fails_unless_its_reason_is_listed(run, reason, kernel, outcome):
    assert run(skipping(reason), kernel=kernel) == {outcome: 1}


def test_another_file_s_reason_is_no_excuse(run):
    assert run(skipping("no builder"), file="test_b") == {"errors": 1}


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["in this process", "in a worker"])
def test_a_skip_in_the_middle_of_a_test_or_a_fixture_fails(run, workers):
    source = """
@pytest.fixture
def lazy(): pytest.skip("no time")
def test_x(lazy): pass
def test_y(): pytest.skip("no time")
"""
    assert run(source, *workers) == {"failed": 1, "errors": 1}


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["in this process", "in a worker"])
def test_a_file_that_is_skipped_as_a_whole_fails(run, workers):
    assert "errors" in run("pytest.skip('no time', allow_module_level=True)", *workers)


def test_an_expected_failure_is_no_skip(run):
    assert run("@pytest.mark.xfail\ndef test_x(): assert False") == {"xfailed": 1}


def test_each_feature_of_skips_txt_names_the_test_that_looked_for_it():
    features = [line.feature for line in parse(FILE.read_text()) if line.feature]
    assert features
    for feature in features:
        file, _, name = feature.rpartition("(")[2].rstrip(")").partition(": ")
        assert f"def {name}(" in (FILE.parents[1] / file).read_text()
