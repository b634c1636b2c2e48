"""The chart on real nodes: what it installs runs, and ``helm test`` says so."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hack.local import images
from hack.local.cluster import LocalCluster
from hack.local.nodes import RealCluster
from hack.manifests import BASE, CHART
from tests.install.chart import helm
from tests.nodes.installation import EXAMPLES, image_of, rolled_out

pytestmark = [pytest.mark.deep, pytest.mark.needs_root]

Helm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def installed(
    real: RealCluster, cluster: LocalCluster, crds: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Helm]:
    """Runs Helm for a release that is rolled out, and whose ZooKeeper runs in the cluster, too."""
    if reason := images.unbuildable():
        pytest.skip(reason)
    product = images.built(
        image_of("controller.yaml", "rpcregistry"), "Dockerfile", tmp_path_factory.mktemp("images")
    )
    tag = image_of("zookeeper.yaml", "zookeeper").partition(":")[2]
    real.load(product, images.zookeeper(tag))
    names = ("zookeeper.yaml", "test-rpc-service.yaml")
    files = [str(BASE / "namespace.yaml"), *(str(EXAMPLES / name) for name in names)]
    for file in files:
        cluster.kubectl("apply", "-f", file)

    def run(verb: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        release = ("rpcregistry", "--namespace", "rpcregistry")
        return helm(verb, *release, *arguments, kubeconfig=cluster.kubeconfig)

    done = run("install", CHART, "--set", "zookeeper.servers=zookeeper:2181,crds.enabled=false")
    assert done.returncode == 0, done.stderr
    rolled_out(cluster, "rpcregistry", "zookeeper", "rpcregistry")
    rolled_out(cluster, "default", "test-rpc-service")
    yield run
    run("uninstall", "--wait")
    for file in reversed(files):
        cluster.kubectl("delete", "-f", file)


def test_helm_test_says_that_it_runs_and_is_in_sync(installed: Helm) -> None:
    done = installed("test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"TEST SUITE: +(\S+)", done.stdout) == ["rpcregistry-check", "rpcregistry-verify"]
    assert re.findall(r"Phase: +(\S+)", done.stdout) == ["Succeeded", "Succeeded"]


def test_helm_test_fails_where_nobody_leads(cluster: LocalCluster, installed: Helm) -> None:
    cluster.kubectl("scale", "-n", "rpcregistry", "deployment/rpcregistry", "--replicas=0")
    done = installed("test")
    assert done.returncode != 0, done.stdout
    pod = json.loads(cluster.kubectl("get", "pod", "-n", "rpcregistry", "rpcregistry-check", "-o", "json"))
    (status,) = pod["status"]["containerStatuses"]
    assert "nobody leads" in status["state"]["terminated"]["message"]
    cluster.kubectl("scale", "-n", "rpcregistry", "deployment/rpcregistry", "--replicas=2")
    rolled_out(cluster, "rpcregistry", "rpcregistry")
