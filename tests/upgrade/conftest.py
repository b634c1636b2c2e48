"""The ground of the upgrades: today's CRDs and rights, as an upgrade applies them first."""

from tests.faults.conftest import (
    cluster,
    ground,
    namespace,
    pytest_runtest_makereport,
    stand,
    world,
    zookeeper,
)

__all__ = ["cluster", "ground", "namespace", "pytest_runtest_makereport", "stand", "world", "zookeeper"]
