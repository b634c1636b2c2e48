"""The ground of the fault tests, and its judge, for tests of two namespaces."""

from tests.faults.conftest import (
    cluster,
    ground,
    namespace,
    pytest_runtest_makereport,
    stand,
    start_controller,
    world,
    zookeeper,
)

# Fixtures and hooks are found by their names in here.
__all__ = [
    "cluster",
    "ground",
    "namespace",
    "pytest_runtest_makereport",
    "stand",
    "start_controller",
    "world",
    "zookeeper",
]
