"""Each component of ``deploy/kustomize`` on real nodes: the pods run with it, and do what it is for."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from os.path import relpath
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from hack.local.cluster import LocalCluster
from hack.local.nodes import Node, RealCluster
from tests.nodes.installation import (
    EXAMPLES,
    KUSTOMIZE,
    NAMESPACE,
    WAITS,
    addresses,
    controllers,
    leader,
    logs,
    rolled_out,
    scale,
    servers,
)
from tests.nodes.pods import eventually

pytestmark = [pytest.mark.deep, pytest.mark.needs_root]

PAGE = "http://rpcregistry-page.rpcregistry/api/services"
BINDINGS = ("clusterrolebinding/rpcregistry-services", "clusterrolebinding/rpcregistry-localservices")


@pytest.fixture
def install(installed: LocalCluster, operator: None, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Applies a folder, or the base with components, over what is installed; in the end, the base again."""

    def install(*components: str, folder: Path = tmp_path) -> None:
        if components:
            content = {
                "resources": [relpath(KUSTOMIZE / "base", tmp_path)],
                "components": [relpath(KUSTOMIZE / "components" / name, tmp_path) for name in components],
            }
            (tmp_path / "kustomization.yaml").write_text(json.dumps(content))
        installed.kubectl("apply", "-k", str(folder))
        rolled_out(installed, NAMESPACE, "rpcregistry")
        eventually(lambda: any(name in leader(installed) for name in controllers(installed)))

    yield install
    install(folder=KUSTOMIZE / "base")


def test_the_page_is_shown_to_who_may_look(installed: LocalCluster, install, node1: Node) -> None:
    install("page")
    host = ("--header", "Host: rpcregistry.example.com")
    code = ("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", *host)
    eventually(lambda: node1.machine.run(*code, PAGE).stdout == "401")
    installed.kubectl("create", "serviceaccount", "-n", "default", "person")
    token = installed.kubectl("create", "token", "-n", "default", "person").strip()
    bearer = ("--header", f"Authorization: Bearer {token}")
    eventually(lambda: node1.machine.run(*code, *bearer, PAGE).stdout == "403")
    who = ("--clusterrole=rpcregistry-page", "--serviceaccount=default:person")
    installed.kubectl("create", "clusterrolebinding", "person", *who)
    eventually(lambda: node1.machine.run(*code, *bearer, PAGE).stdout == "200")
    shows = ("curl", "--silent", *host, *bearer, PAGE)
    eventually(lambda: "test-rpc-server-1" in node1.machine.run(*shows).stdout)


def test_prometheus_and_grafana_find_what_they_look_for(
    installed: LocalCluster, install, node1: Node
) -> None:
    """The PodMonitor selects the pods and names a port of theirs; the Service leads to all of them."""
    install("monitoring", "dashboard")
    wanted = "jsonpath={.spec.podMetricsEndpoints[*].port}/{.spec.selector.matchLabels}"
    port, _, labels = installed.kubectl(
        "get", "podmonitor", "-n", NAMESPACE, "rpcregistry", "-o", wanted
    ).partition("/")
    selector = ",".join(f"{key}={value}" for key, value in json.loads(labels).items())
    found = json.loads(installed.kubectl("get", "pods", "-n", NAMESPACE, "-l", selector, "-o", "json"))
    urls = [
        f"http://{pod['status']['podIP']}:{its['containerPort']}/metrics"
        for pod in found["items"]
        for its in pod["spec"]["containers"][0]["ports"]
        if its["name"] == port
    ]
    assert len(urls) == len(controllers(installed)) == 2
    leads = sorted(line for url in urls for line in metric(node1, url, "rpcregistry_leader"))
    assert leads == ["rpcregistry_leader 0.0", "rpcregistry_leader 1.0"]
    service = f"http://rpcregistry.{NAMESPACE}:8080/metrics"
    eventually(lambda: {*metric(node1, service, "rpcregistry_leader")} <= {*leads} != set())
    labelled = ("-l", "grafana_dashboard=1", "-o", "name")
    assert installed.kubectl("get", "configmaps", "-n", NAMESPACE, *labelled).split()


def metric(node: Node, url: str, name: str) -> list[str]:
    """The lines of a metric."""
    return [line for line in (node.get(url) or "").splitlines() if line.split(" ")[0] == name]


def test_without_localservices_services_are_published_and_nothing_is_refused(
    installed: LocalCluster, install, their_zookeeper: KazooClient, real: RealCluster
) -> None:
    install("no-localservice")
    bindings = installed.kubectl("get", "clusterrolebindings", "-o", "name")
    # `kubectl apply` takes nothing away: who leaves a component out, or lists one that removes, does.
    assert BINDINGS[1].split("/")[1] in bindings
    installed.kubectl("delete", BINDINGS[1])
    installed.kubectl("delete", "service", "localservice-app-node1")
    scale(installed, their_zookeeper, 4)
    assert "localservice-app-node1" not in installed.kubectl("get", "services", "-o", "name")
    assert "orbidden" not in logs(real)
    scale(installed, their_zookeeper, 3)


def test_a_controller_of_some_namespaces_needs_no_rights_elsewhere(
    installed: LocalCluster, install, their_zookeeper: KazooClient, real: RealCluster
) -> None:
    for team in ("team-a", "team-b"):
        installed.kubectl("create", "namespace", team)
    install(folder=KUSTOMIZE / "overlays" / "several-namespaces")
    installed.kubectl("delete", *BINDINGS)
    text = (EXAMPLES / "test-rpc-service.yaml").read_text()
    for team in ("team-a", "team-b"):
        installed.kubectl("apply", "-n", team, "-f", "-", input=text.replace("test-rpc-server", team))
    for team in ("team-a", "team-b"):
        installed.kubectl("rollout", "status", "-n", team, "deployment/test-rpc-service", WAITS)
        eventually(partial(has, installed, their_zookeeper, team))
    assert "orbidden" not in logs(real)
    for team in ("team-a", "team-b"):
        installed.kubectl("delete", "deployment", "-n", team, "test-rpc-service")
        eventually(partial(nothing_of, their_zookeeper, team))


def has(cluster: LocalCluster, client: KazooClient, team: str) -> bool:
    return servers(client, f"{team}-1") == addresses(cluster, "app=test-rpc-service", team) != []


def nothing_of(client: KazooClient, team: str) -> bool:
    return not servers(client, f"{team}-1")
