"""How workers share the tests: one by one, but for those that each worker would start much for.

A worker has a cluster of its own for each kind that there is, ports that no other takes (``free_ports``), and
namespaces of the network called after its process.  So any two tests may run at once.
"""

from typing import Any

import pytest

TOGETHER = {
    "tests/packets": "network",  # with a kube-proxy for each node
    "tests/nodes": "nodes",  # with a kubelet each
    "tests/cluster/test_deployment.py": "images",  # which are built, on a base that is built, too
    "tests/peer_cache/test_image.py": "images",
    "tests/peer_cache/test_goclient.py": "go client",  # which is built
}


def unit_of(nodeid: str) -> str:
    """The tests that one worker runs together: those of a file or folder in ``TOGETHER``, or this one alone.

    >>> unit_of("tests/packets/test_routing.py::test_a"), unit_of("tests/test_held.py::test_b")
    ('network', 'tests/test_held.py::test_b')
    """
    found = (unit for place, unit in TOGETHER.items() if nodeid.startswith((f"{place}/", f"{place}::")))
    return next(found, nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Have xdist share the tests by ``unit_of``, the largest units first."""
    from xdist.scheduler import LoadScopeScheduling
    from xdist.workermanage import NodeManager

    # After a Ctrl-C, workers have this long to end their clusters; those of a killed worker would go on.
    NodeManager.EXIT_TIMEOUT = 60

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    return Scheduling(config, log)
