"""What users of local-service-controller rely on, and each of its failures (L1 to L15), on the real cluster.

The numbers are those of the list of its failures; `start_local` runs the public command with the
LocalService controller alone, and without a resync, which would hide missed events.
"""

import json
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.local.cluster import LocalCluster, free_ports
from hack.local.http_proxy import Answer, HttpProxy, is_of
from tests.cluster.roles import cluster_role, lease_role
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World, reconciled

NODE_LABEL = "rpcregistry.dev/node"


def written(api: HttpProxy, resource: str) -> list[str]:
    """The methods of all requests that wrote objects with this plural, in order."""
    return [method for method, path in api.requests if method != "GET" and is_of(path, resource)]


def test_each_node_has_a_service_that_leads_to_its_pods_only(world: World, start_local):
    world.create_node("k8s03")
    start_local()
    world.create_localservice("localservice-app", ports=[{"name": "http", "port": 8080, "targetPort": 80}])
    world.run_pod("a", "k8s03", app="localservice-app")

    eventually(lambda: world.serves("k8s03", name="localservice-app"))
    service = world.services()["localservice-app-k8s03"]
    assert service["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "rpcregistry",
        "owner": "localservice-app",
        "rpcregistry.dev/localservice": "localservice-app",
        "rpcregistry.dev/node": "k8s03",
    }
    assert service["metadata"]["annotations"] == {"rpcregistry.dev/node-name": "k8s03"}
    assert service["spec"]["selector"] == {"app": "localservice-app", NODE_LABEL: "k8s03"}
    assert service["spec"]["ports"] == [{"name": "http", "port": 8080, "targetPort": 80, "protocol": "TCP"}]
    eventually(lambda: world.label("a", NODE_LABEL) == "k8s03")


def test_l1_nodes_that_come_go_or_are_relabelled_are_followed_at_once(world: World, start_local):
    start_local("--guard-confirm", "1h")
    world.create_localservice(nodeSelector={"world": world.namespace, "zone": "x"})
    eventually(lambda: world.is_fine())
    world.create_node("l1-comes", zone="x")
    world.create_node("l1-elsewhere", zone="y")
    eventually(lambda: world.serves("l1-comes"))

    world.relabel_node("l1-elsewhere", zone="x")
    eventually(lambda: world.serves("l1-comes", "l1-elsewhere"))
    world.relabel_node("l1-comes", zone=None)
    eventually(lambda: world.serves("l1-elsewhere"))
    world.delete_node("l1-elsewhere")
    eventually(lambda: world.serves())
    assert world.services() == {}


@pytest.mark.full
def test_l1_a_service_deleted_or_changed_by_hand_is_put_right(world: World, start_local):
    world.create_node("l1-n")
    start_local()
    world.create_localservice()
    eventually(lambda: world.serves("l1-n"))
    world.delete_service("app-l1-n")
    eventually(lambda: world.serves("l1-n"))

    wanted = world.services()["app-l1-n"]
    patch = {
        "metadata": {"labels": {"owner": "me", "mine": "kept"}},
        "spec": {"selector": {"more": "than-wanted", NODE_LABEL: "another"}, "sessionAffinity": "ClientIP"},
    }
    world.core.patch_namespaced_service("app-l1-n", world.namespace, patch)
    eventually(lambda: world.services()["app-l1-n"]["spec"] == wanted["spec"])
    mended = world.services()["app-l1-n"]["metadata"]
    assert mended["labels"] == {**wanted["metadata"]["labels"], "mine": "kept"}
    assert mended["uid"] == wanted["metadata"]["uid"]


@pytest.mark.full
def test_l2_services_labelled_with_an_owner_that_are_not_ours_stay(world: World, start_local):
    world.create_node("l2-n")
    labels = {"owner": "app", "rpcregistry.dev/localservice": "app", NODE_LABEL: "l2-gone"}
    before = [
        world.create_service("labelled", metadata={"labels": {"owner": "app"}}),
        world.create_service("labelled-more", metadata={"labels": labels}),
        world.create_service("app-l2-gone", metadata={"labels": {"owner": "app"}}),
    ]
    start_local("--resync-period", "1s")
    world.create_localservice()
    eventually(lambda: world.serves("l2-n"))

    world.delete_node("l2-n")
    eventually(lambda: "app-l2-n" not in world.services())
    world.delete_localservice()
    world.create_node("l2-later")
    world.create_localservice("later")
    eventually(lambda: world.serves("l2-later", name="later"))
    found = world.services()
    assert [found[service["metadata"]["name"]] for service in before] == before


@pytest.mark.full
def test_l3_one_name_in_two_namespaces(world: World, other_namespace: str, start_local):
    world.create_node("l3-a")
    world.create_node("l3-b")
    start_local()
    world.create_localservice()
    world.create_localservice(namespace=other_namespace, ports=[{"port": 9090}])
    here = world.run_pod("a", "l3-a")
    there = world.run_pod("a", "l3-a", namespace=other_namespace)

    eventually(lambda: world.rows() == {"l3-a": [here], "l3-b": []})
    eventually(lambda: world.rows(namespace=other_namespace) == {"l3-a": [there], "l3-b": []})
    world.delete_localservice(namespace=other_namespace)
    eventually(lambda: not world.services(other_namespace))
    world.delete_node("l3-b")
    eventually(lambda: world.rows() == {"l3-a": [here]})
    assert world.services()["app-l3-a"]["spec"]["ports"][0]["port"] == 8080
    assert world.warnings() == []


@pytest.mark.full
@pytest.mark.parametrize(
    "selector",
    [pytest.param("{}", id="empty"), pytest.param("null", id="null"), pytest.param("", id="missing")],
)
def test_l4_a_localservice_without_a_selector_is_refused(
    world: World, start_local: Callable[..., Controller], selector: str
):
    world.create_node("l4-n")
    controller = start_local()
    with pytest.raises(RuntimeError, match=r"spec\.selector"):
        apply_localservice(world, "none", *([f"selector: {selector}"] if selector else []))

    world.create_localservice()
    eventually(lambda: world.serves("l4-n"))
    assert controller.running


def apply_localservice(world: World, name: str, *spec: str) -> None:
    """Apply a LocalService whose spec is written as lines of YAML; raises with what kubectl says."""
    fields = [yaml.safe_load(line) for line in ["ports: [{port: 80}]", *spec]]
    manifest = {
        "apiVersion": "rpcregistry.dev/v1alpha1",
        "kind": "LocalService",
        "metadata": {"name": name, "namespace": world.namespace},
        "spec": {key: value for field in fields for key, value in field.items()},
    }
    world.kubectl("apply", "-f", "-", input=json.dumps(manifest))


@pytest.mark.full
def test_l5_a_scheduled_pod_without_labels_stops_nobody(world: World, start_local):
    world.create_node("l5-n")
    controller = start_local()
    world.create_localservice()
    world.create_pod("bare", node="l5-n")
    address = world.run_pod("a", "l5-n")

    eventually(lambda: world.rows() == {"l5-n": [address]})
    assert "labels" not in world.pod("bare")["metadata"]
    assert controller.running


@pytest.mark.full
def test_l6_a_pod_with_fields_of_later_versions_is_labelled_and_otherwise_left_alone(
    world: World, start_local, api: HttpProxy, through_api: Path
):
    world.create_node("l6-n")
    world.create_pod(
        "a",
        node="l6-n",
        labels={"app": "app"},
        hostUsers=False,
        os={"name": "linux"},
        initContainers=[{"name": "i", "image": "none", "restartPolicy": "Always"}],
        resources={"requests": {"cpu": "1"}},
    )
    eventually(lambda: world.pod("a")["status"]["phase"] == "Running")
    before = world.pod("a")
    start_local(kubeconfig=through_api)
    world.create_localservice()

    eventually(lambda: world.label("a", NODE_LABEL) == "l6-n")
    after = world.pod("a")
    assert after["metadata"]["labels"] == {**before["metadata"]["labels"], NODE_LABEL: "l6-n"}
    assert but_for_labels(after) == but_for_labels(before)
    assert written(api, "pods") == ["PATCH"]


def but_for_labels(pod: dict[str, Any]) -> dict[str, Any]:
    """The pod, without what any write of a label changes."""
    changed = ("labels", "resourceVersion", "managedFields")
    return {**pod, "metadata": {key: value for key, value in pod["metadata"].items() if key not in changed}}


@pytest.mark.full
def test_l7_a_pod_whose_label_was_refused_once_is_labelled_all_the_same(
    world: World, start_local, api: HttpProxy, through_api: Path
):
    refused: list[str] = []

    def refuse_once(method: str, path: str) -> Answer | None:
        if method != "PATCH" or not is_of(path, "pods") or refused:
            return None
        refused.append(path)
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}
        return 422, json.dumps({**status, "message": "not now"}).encode()

    api.instead = refuse_once
    world.create_node("l7-n")
    start_local(kubeconfig=through_api)
    world.create_localservice()
    world.run_pod("a", "l7-n")

    eventually(lambda: world.label("a", NODE_LABEL) == "l7-n", timeout=90)
    assert refused


@pytest.mark.full
@pytest.mark.parametrize(
    "node",
    [
        pytest.param("ip-10-0-0-1.eu-west-1.compute.internal", id="dotted"),
        pytest.param("l8-" + "x" * 60, id="63 characters"),
        pytest.param("0." + "l8-" * 83 + "ab", id="253 characters"),
    ],
)
def test_l8_l9_node_names_that_are_no_service_name(world: World, start_local, node: str):
    world.create_node("l8-goes")
    start_local()
    world.create_localservice()
    eventually(lambda: world.serves("l8-goes"))
    world.create_node(node)
    address = world.run_pod("a", node)

    eventually(lambda: world.rows() == {"l8-goes": [], node: [address]})
    service = world.node_services()[node]
    name, selected = service["metadata"]["name"], service["spec"]["selector"][NODE_LABEL]
    assert re.fullmatch("app-[a-z0-9-]{1,50}-[0-9a-f]{8}", name)
    digest = sha256(node.encode()).hexdigest()[:8]
    assert selected == (node if len(node) <= 63 else f"{node[:54]}-{digest}")
    assert world.label("a", NODE_LABEL) == service["metadata"]["labels"][NODE_LABEL] == selected
    world.delete_node("l8-goes")
    eventually(lambda: world.serves(node))


@pytest.mark.full
def test_l10_two_localservices_whose_services_would_have_one_name(world: World, start_local):
    world.create_node("b-c")
    world.create_node("c")
    start_local()
    world.create_localservice("a")
    eventually(lambda: world.serves("b-c", "c", name="a"))
    first = world.services()["a-b-c"]

    world.create_localservice("a-b")
    eventually(lambda: world.serves("b-c", name="a-b"))
    eventually(lambda: "a-b-c" in (world.failing("a-b") or ("", ""))[1])
    assert world.failing("a-b")[0] == "NameTaken"
    assert world.services()["a-b-c"] == first
    eventually(lambda: world.is_fine("a"))
    world.delete_localservice("a")
    eventually(lambda: world.serves("b-c", "c", name="a-b"), timeout=90)
    eventually(lambda: world.is_fine("a-b"))


@pytest.mark.full
def test_l11_a_node_whose_service_cannot_be_made_stops_no_other(world: World, start_local):
    for node in ("l11-a", "l11-b", "l11-c"):
        world.create_node(node)
    in_the_way = world.create_service("app-l11-a")
    start_local()
    world.create_localservice()

    eventually(lambda: world.serves("l11-b", "l11-c"))
    world.delete_node("l11-b")
    world.create_node("l11-d")
    eventually(lambda: world.serves("l11-c", "l11-d"))
    assert world.services()["app-l11-a"] == in_the_way


@pytest.mark.full
@pytest.mark.parametrize(
    "field",
    [
        pytest.param("clusterIP: 10.96.7.7", id="clusterIP"),
        pytest.param("ports: [{port: 80, nodePort: 30080}]", id="nodePort"),
        pytest.param("externalIPs: [192.0.2.1]", id="externalIPs"),
    ],
)
def test_l12_what_several_services_cannot_share_is_refused(world: World, field: str):
    with pytest.raises(RuntimeError, match=r"cannot|only None"):
        apply_localservice(world, "app", "selector: {app: app}", field)


@pytest.mark.full
def test_l12_each_service_gets_an_address_and_a_node_port_of_its_own(world: World, start_local):
    world.create_node("l12-a")
    world.create_node("l12-b")
    start_local()
    world.create_localservice(type="NodePort")

    eventually(lambda: world.serves("l12-a", "l12-b"))
    specs = [service["spec"] for service in world.node_services().values()]
    assert len({spec["clusterIP"] for spec in specs}) == 2
    assert len({spec["ports"][0]["nodePort"] for spec in specs}) == 2


def test_l13_each_service_is_written_once_and_nothing_when_nothing_changed(
    world: World, start_local, api: HttpProxy, through_api: Path
):
    nodes = [f"l13-{number}" for number in range(5)]
    for node in nodes:
        world.create_node(node)
    controller = start_local(kubeconfig=through_api)
    world.create_localservice()
    address = world.run_pod("a", nodes[0])
    rows = {node: [address] if node == nodes[0] else [] for node in nodes}
    eventually(lambda: world.serves(*nodes) and world.rows() == rows)
    assert written(api, "services") == ["POST"] * len(nodes)
    assert written(api, "pods") == ["PATCH"]
    versions = world.versions()
    assert controller.stop() == 0

    api.requests.clear()
    (port,) = free_ports(1)
    start_local("--resync-period", "1s", "--bind-address", f"127.0.0.1:{port}", kubeconfig=through_api)
    eventually(lambda: reconciled(port) > 5 * len(nodes))
    written_now = [
        request for request in api.requests if request[0] != "GET" and "/leases/" not in request[1]
    ]
    assert written_now == [], "but the Lease, which says that it goes on"
    assert world.versions() == versions
    assert world.warnings() == []


@pytest.mark.full
def test_l14_only_pods_that_are_selected_are_labelled_and_each_once(
    world: World, other_namespace: str, start_local, api: HttpProxy, through_api: Path
):
    world.create_node("l14-n")
    selected = [f"p{number}" for number in range(30)]
    for name in selected:
        world.create_pod(name, node="l14-n", labels={"app": "app"})
    world.create_pod("other", node="l14-n", labels={"app": "another"})
    world.create_pod("elsewhere", node="l14-n", labels={"app": "app"}, namespace=other_namespace)
    system = f"l14-{world.namespace[-6:]}"
    world.create_pod(system, node="l14-n", labels={"app": "app"}, namespace="kube-system")
    start_local("--namespace", "kube-system", kubeconfig=through_api)
    world.create_localservice()

    eventually(lambda: all(world.label(name, NODE_LABEL) == "l14-n" for name in selected))
    eventually(lambda: len(world.rows().get("l14-n", [])) == 20)
    assert written(api, "pods") == ["PATCH"] * len(selected)
    assert world.label("other", NODE_LABEL) is None
    assert world.label("elsewhere", NODE_LABEL, other_namespace) is None
    assert world.label(system, NODE_LABEL, "kube-system") is None
    world.delete_pod(system, "kube-system")


def test_l15_the_status_says_what_is_there(world: World, start_local):
    world.create_node("l15-a")
    world.create_node("l15-b")
    start_local()
    world.create_localservice()
    address = world.run_pod("a", "l15-a")
    unready = world.run_pod("b", "l15-b")
    world.set_status("b", unready, ready=False)

    eventually(lambda: world.rows() == {"l15-a": [address], "l15-b": []})
    status = world.localservice()["status"]
    services = world.node_services()
    assert (status["observedGeneration"], status["nodes"], status["readyNodes"]) == (1, 2, 1)
    assert [(row["service"], row["clusterIP"]) for row in status["services"]] == [
        (f"app-{node}", services[node]["spec"]["clusterIP"]) for node in ("l15-a", "l15-b")
    ]
    assert not status["truncated"]
    assert [condition["status"] for condition in status["conditions"]] == ["True"]
    printed = world.kubectl("get", "lsvc", "-n", world.namespace)
    heading, row = (line.split() for line in printed.splitlines())
    assert heading == ["NAME", "NODES", "READY", "SYNCED", "REASON", "AGE"]
    assert row[:4] == ["app", "2", "1", "True"]


@pytest.mark.full
def test_l15_of_two_replicas_one_writes_and_the_other_takes_over(world: World, start_local):
    world.create_node("l15-x")
    first = start_local(leader_elect=True)
    world.create_localservice()
    eventually(lambda: world.serves("l15-x"))
    second = start_local(leader_elect=True, wait=False)
    before = world.services()

    assert first.stop() == 0
    world.create_node("l15-y")
    eventually(lambda: world.serves("l15-x", "l15-y"))
    assert second.leads()
    assert world.services()["app-l15-x"] == before["app-l15-x"]


@pytest.fixture
def with_least_rights(cluster: LocalCluster, world: World, tmp_path: Path) -> Iterator[Path]:
    """A kubeconfig of a ServiceAccount with the rights of the examples, and no others."""
    name = world.namespace
    cluster.kubectl("apply", "-f", "-", input=json.dumps(cluster_role(name)))
    cluster.kubectl("apply", "-f", "-", input=json.dumps(lease_role(name)))
    cluster.kubectl("create", "serviceaccount", "rpcregistry", "-n", name)
    account = f"--serviceaccount={name}:rpcregistry"
    cluster.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", account)
    cluster.kubectl("create", "rolebinding", "rpcregistry", "--role=rpcregistry", account, "-n", name)
    token = cluster.kubectl("create", "token", "rpcregistry", "-n", name).strip()
    yield cluster.kubeconfig_for(token, tmp_path / "least-rights")
    cluster.kubectl("delete", "clusterrole,clusterrolebinding", name)


@pytest.mark.full
def test_l15_the_rights_of_the_examples_are_enough(world: World, start_local, with_least_rights: Path):
    world.create_node("l15-r")
    controller = start_local(kubeconfig=with_least_rights)
    world.create_localservice(ports=[{"port": 1}])
    address = world.run_pod("a", "l15-r")
    eventually(lambda: world.rows() == {"l15-r": [address]})

    world.edit_localservice(ports=[{"port": 2}])
    eventually(lambda: world.services()["app-l15-r"]["spec"]["ports"][0]["port"] == 2)
    world.create_service("app-l15-s")
    world.create_node("l15-s")
    eventually(lambda: world.warnings() == ["NameTaken"])
    world.delete_node("l15-r")
    eventually(lambda: world.serves())
    assert "cannot" not in controller.text()
