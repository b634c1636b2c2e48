"""For all suites: logging and signals as they were; which tests are deep, may be skipped, and their cost."""

import logging
import os
import signal
from collections.abc import Iterator

import hypothesis
import jsonschema  # noqa: F401  (a test whose example is the first with a mistake would pay for its import)
import pytest
import structlog

from hack.local.cluster import LocalCluster
from tests import budget, deep, skips, workers

# A machine that others use says nothing by how long an example takes.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rpcregistry")
    group.addoption("--skips", choices=skips.CHOICES, default="listed", help="which skips are no failures")
    group.addoption("--budget", choices=budget.CHOICES, help="what comes of a share that costs too much")


def pytest_configure(config: pytest.Config) -> None:
    # A shell that starts the suite in the background has it ignore Ctrl-C, and all that it starts would, too.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Each controller has a page, as by default, and a port of its own for it: all share one machine.
    os.environ.setdefault("RPCREGISTRY_UI_BIND_ADDRESS", "127.0.0.1:0")
    allowed = skips.parse(skips.FILE.read_text())
    config.pluginmanager.register(skips.Skips(allowed, kernel=config.getoption("skips") == "kernel"))
    shares, wanted = budget.parse(budget.FILE.read_text()), config.getoption("budget")
    config.pluginmanager.register(budget.Budget(shares, show=bool(wanted), keep=wanted == "kept"))
    config.pluginmanager.register(deep.Deep(deep.parse(deep.FILE.read_text())))
    if config.pluginmanager.has_plugin("xdist"):
        config.pluginmanager.register(workers)


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


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """A command that a test runs in this process ignores signals at its end; child processes inherit that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A control plane, three kwok nodes and a ZooKeeper: one for all suites that break nothing of it."""
    with LocalCluster(tmp_path_factory.mktemp("cluster")) as local:
        yield local
