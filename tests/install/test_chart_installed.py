"""The Helm chart on a real API server: what Helm installs works, and can do no more than it needs."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.local.cluster import LocalCluster
from hack.local.controller import Where, command
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World
from tests.install.chart import SETS, environment, helm, hooks, objects, rendered, variables

CI = {path.name.removesuffix("-values.yaml"): path for path in SETS}
KINDS = ("rpcservices.rpcregistry.dev", "localservices.rpcregistry.dev")
IMAGE = '{"spec":{"containers":[{"name":"c","image":"evil"}]}}'
RUNTIME = """
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: runc}
handler: runc
"""
Helm = Callable[..., str]


@pytest.fixture
def release(world: World) -> str:
    """The name of the test's release, and of its namespace."""
    return f"rpcregistry-{world.namespace[-6:]}"


@pytest.fixture
def run_helm(cluster: LocalCluster, release: str) -> Iterator[Helm]:
    """Runs Helm for the test's release; what it installed goes with the test."""

    def run(verb: str, *arguments: Any) -> str:
        done = helm(verb, release, *arguments, "--namespace", release, kubeconfig=cluster.kubeconfig)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    helm("uninstall", release, "--namespace", release, "--ignore-not-found", kubeconfig=cluster.kubeconfig)
    cluster.kubectl("delete", "namespace", release, "--ignore-not-found", "--wait=false")


@pytest.fixture
def as_account(cluster: LocalCluster, release: str, tmp_path: Path) -> Callable[[], Path]:
    """Writes the kubeconfig of the release's ServiceAccount."""

    def write() -> Path:
        token = cluster.kubectl("create", "token", "-n", release, release).strip()
        return cluster.kubeconfig_for(token, tmp_path / "kubeconfig")

    return write


@pytest.fixture
def run_hooks(
    cluster: LocalCluster, world: World, release: str, as_account: Callable[[], Path]
) -> Callable[[str], None]:
    """Runs the commands of ``helm test`` as processes, since nobody runs pods here."""

    def run(values: str) -> None:
        account = as_account()
        for pod in hooks(objects(values)):
            (container,) = pod["spec"]["containers"]
            told: Where = {"kubeconfig": account, "zk_servers": cluster.zk_servers}
            told |= {"layout": f"kube2zk={world.base}", "cluster_id": world.cluster_id}
            if "check" in container["args"]:  # in a pod, its own namespace
                told["lease_namespace"] = release
            line = command(*container["args"], **told)
            own = {**os.environ, **variables(pod)}
            done = subprocess.run(line, capture_output=True, text=True, check=False, env=own)
            assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.fixture
def run(start_installed: Callable[..., Controller], release: str, as_account: Callable[[], Path]):
    """Runs the public command under the release's ServiceAccount, with the Deployment's variables."""
    return lambda values: start_installed(as_account(), release, environment(objects(values)))


@pytest.mark.full
@pytest.mark.usefixtures("operator", "crds")
def test_the_api_server_takes_every_set_of_values(cluster: LocalCluster, world: World, other_namespace: str):
    cluster.kubectl("apply", "-f", "-", input=RUNTIME)
    for name, values in CI.items():
        text = rendered("--values", values, release="r", namespace=world.namespace)
        for known, here in (("team-a", world.namespace), ("team-b", other_namespace)):
            text = text.replace(f"namespace: {known}\n", f"namespace: {here}\n")
        # A pod needs a ServiceAccount that exists.
        text = text.replace("serviceAccountName: r-rpcregistry\n", "serviceAccountName: default\n")
        try:
            said = cluster.kubectl("apply", "--dry-run=server", "-f", "-", input=text)
        except RuntimeError as error:
            pytest.fail(f"{name}: {error}")
        assert said.count("(server dry run)") == len(objects(text)), name


def test_the_kinds_and_all_objects_survive_what_helm_does(
    cluster: LocalCluster, crds: None, world: World, release: str, run_helm: Helm, tmp_path: Path
):
    """Kinds that kubectl applied are taken over, as the page on the chart says."""
    chart = "deploy/charts/rpcregistry"
    servers = ("--set", f"zookeeper.servers={cluster.zk_servers.replace(',', chr(92) + ',')}")
    said = run_helm("install", chart, "--create-namespace", "--take-ownership", *servers)
    assert f"publishes pods in {cluster.zk_servers}" in said
    rollout = ("rollout", "status", "-n", release, f"deployment/{release}", "--timeout=60s")
    cluster.kubectl(*rollout)
    world.apply_rpcservice("echo")
    world.create_localservice("echo")
    run_helm(
        "upgrade", chart, *servers, "--set", "controllers={rpcservice,registry}", "--set", "replicaCount=3"
    )
    cluster.kubectl(*rollout)
    deployment = json.loads(cluster.kubectl("get", "deployment", "-n", release, release, "-o", "json"))
    assert deployment["spec"]["replicas"] == 3
    roles = cluster.kubectl("get", "clusterroles", "-o", "name")
    assert f"{release}-services" in roles
    assert f"{release}-localservices" not in roles
    run_helm("uninstall", "--wait")
    assert release not in cluster.kubectl("get", "clusterroles,clusterrolebindings", "-o", "name")
    assert set(world.rpcservices()) == {"echo"}
    assert world.localservice("echo")
    # The same release finds its kinds again.
    run_helm("install", chart, *servers)
    for kind in KINDS:
        labels = json.loads(cluster.kubectl("get", "crd", kind, "-o", "json"))["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


ALWAYS_REFUSED = [
    ("get", "secrets"),
    ("delete", "pod", "p"),
    ("annotate", "pod", "p", "a=b"),
    ("annotate", "node", "n-{tag}", "a=b"),
    ("get", "leases", "-n", "kube-system"),
    ("get", "crd", KINDS[1]),
    ("auth", "reconcile", "-f", "-"),
]
OF_LOCALSERVICES = [
    ("patch", "pod", "p", "-p", '{"metadata":{"labels":{"rpcregistry.dev/node":"n"}}}'),
    ("create", "service", "clusterip", "s", "--tcp=80"),
    ("get", "services"),
    ("get", "localservices"),
]
ELSEWHERE = [
    ("get", "pods", "-n", "default"),
    ("get", "pods", "-A"),
    ("get", "rpcservices", "-n", "default"),
    ("get", "services", "-n", "default"),
]


def refused(cluster: LocalCluster, account: Path, world: World, *command: str) -> str:
    """What the API server says against a command in the ServiceAccount's name; empty where it is done."""
    where = () if "-A" in command or "-n" in command else ("-n", world.namespace)
    own = ("--kubeconfig", str(account))
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "more"}}
    more = {**role, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}
    try:
        cluster.kubectl(*own, *command, *where, input=json.dumps(more))
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("values", "local", "everywhere"),
    [
        pytest.param("defaults", True, True, id="all that it can do", marks=pytest.mark.full),
        pytest.param("no-localservice", False, True, id="without LocalServices", marks=pytest.mark.full),
        pytest.param("namespaced", True, False, id="in two namespaces", marks=pytest.mark.full),
        pytest.param("least", False, False, id="with the least rights"),
    ],
)
def test_a_set_of_values_is_enough_for_the_journey_and_for_nothing_else(
    cluster: LocalCluster, crds, world: World, other_namespace: str, release: str, run_helm: Helm, run,
    as_account, run_hooks, values: str, local: bool, everywhere: bool,
):  # fmt: skip
    tag = world.namespace[-6:]
    served = [] if everywhere else [world.namespace, *([other_namespace] if local else [])]
    given = (
        *("--values", CI[values], "--set", "crds.enabled=false"),
        *(("--set", f"namespaces={{{','.join(served)}}}") if served else ()),
    )
    run_helm("install", "deploy/charts/rpcregistry", "--create-namespace", *given)
    world.create_node(f"n-{tag}")
    world.create_pod("p", ip="10.9.9.9")
    text = rendered(*given, release=release, namespace=release)
    controller = run(text)
    if local:
        world.create_localservice()
    address = world.run_pod("a", f"n-{tag}", "echo")
    eventually(lambda: world.servers("echo") == [address])
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    world.create_pod("bad", annotation="[7]")
    eventually(lambda: world.events("InvalidAnnotation", "bad"))
    if local:
        eventually(lambda: world.rows() == {f"n-{tag}": [address]})
    if local == everywhere:  # with most rights, and with the least
        run_hooks(text)
    account = as_account()
    wrong = [*ALWAYS_REFUSED, *([] if local else OF_LOCALSERVICES), *([] if everywhere else ELSEWHERE)]
    for attempt in wrong:
        words = [word.replace("{tag}", tag) for word in attempt]
        said = refused(cluster, account, world, *words)
        assert "orbidden" in said or "rpcregistry changes" in said, (words, said)
    if local:
        image = refused(cluster, account, world, "patch", "pod", "p", "-p", IMAGE)
        assert "changes nothing of a pod but labels" in image
    world.delete_pod("a")
    eventually(lambda: world.rpcservices() == {} and world.data("echo") is None)
    assert controller.stop() == 0
    assert "orbidden" not in controller.text()
