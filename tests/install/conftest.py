"""The cluster that other suites share."""

from tests.cluster.conftest import cluster, namespace, zk
from tests.cluster.fixtures import (
    crds,
    operator,
    other_namespace,
    pytest_runtest_makereport,
    start_installed,
    world,
)

# Fixtures and hooks are found by their names in here.
__all__ = [
    "cluster",
    "crds",
    "namespace",
    "operator",
    "other_namespace",
    "pytest_runtest_makereport",
    "start_installed",
    "world",
    "zk",
]
