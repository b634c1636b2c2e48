"""The cluster that other suites share, and the public command as a person types it."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from hack.local.controller import finished
from tests.cluster.conftest import cluster, namespace, zk
from tests.cluster.fixtures import (
    api,
    crds,
    pytest_runtest_makereport,
    start_controller,
    start_local,
    through_api,
    world,
)
from tests.cluster.world import World

# Fixtures and hooks are found by their names in here.
__all__ = [
    "api",
    "cluster",
    "crds",
    "namespace",
    "pytest_runtest_makereport",
    "start_controller",
    "start_local",
    "through_api",
    "world",
    "zk",
]

MARKS = "✓✗?"
Typed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def typed(cluster: Any, world: World) -> Typed:
    """Runs a subcommand to its end; with *looks*, told where ZooKeeper and the Lease are, too."""

    def run(name: str, *flags: str, looks: bool = True, **where: Any) -> subprocess.CompletedProcess[str]:
        told: dict[str, Any] = {"kubeconfig": cluster.kubeconfig, "namespace": world.namespace}
        if looks:
            told |= {
                "zk_servers": cluster.zk_servers,
                "layout": f"kube2zk={world.base}",
                "cluster_id": world.cluster_id,
            }
        if name in ("status", "check"):
            told["lease_namespace"] = world.namespace
        if name == "check":
            told.pop("namespace")
        return finished(name, *flags, **{**told, **where})

    return run


def marks(printed: str) -> dict[str, str]:
    """Each hop's mark."""
    return {line[2:].split("  ")[0].strip(): line[0] for line in printed.splitlines() if line[:1] in MARKS}
