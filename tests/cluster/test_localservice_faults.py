"""Names that collide, Services in the way, writes that are refused, nodes that cannot be seen.

The letters and numbers are those of the catalogue of faults: B3, B4, A20, A21.
"""

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from hack.local.cluster import LocalCluster
from hack.local.http_proxy import HttpProxy, is_of
from tests.cluster.waiting import eventually
from tests.cluster.world import World, lack_once

NODE_LABEL = "rpcregistry.dev/node"
LONG = 120.0  # seconds, at most: what was refused is tried again with back-off


# B3: names


@pytest.mark.full
def test_b3_two_nodes_whose_names_without_dots_are_equal(world: World, start_local):
    nodes = ["b3.x-y", "b3-x.y", "b3-x-y"]
    for node in nodes:
        world.create_node(node)
    start_local()
    world.create_localservice()
    addresses = {node: [world.run_pod(f"p{number}", node)] for number, node in enumerate(nodes)}

    eventually(lambda: world.rows() == addresses)
    names = {node: service["metadata"]["name"] for node, service in world.node_services().items()}
    assert names["b3-x-y"] == "app-b3-x-y"
    assert all(re.fullmatch("app-b3-x-y-[0-9a-f]{8}", names[node]) for node in nodes[:2])
    assert len(set(names.values())) == 3
    world.delete_node(nodes[0])
    eventually(lambda: world.serves(*nodes[1:]))


@pytest.mark.full
def test_b3_a_node_whose_name_gives_the_name_that_another_was_given(world: World, start_local):
    world.create_node("b3.taken")
    start_local()
    world.create_localservice()
    eventually(lambda: world.serves("b3.taken"))
    first = world.node_services()["b3.taken"]

    other = first["metadata"]["name"].removeprefix("app-")
    world.create_node(other)
    world.create_node("b3-free")
    eventually(lambda: world.serves("b3.taken", "b3-free"))
    eventually(lambda: other in (world.failing() or ("", ""))[1])
    assert world.node_services()["b3.taken"] == first
    eventually(lambda: world.rows() == {"b3-free": [], "b3.taken": []})

    world.delete_node("b3.taken")
    eventually(lambda: world.serves(other, "b3-free"))
    eventually(world.is_fine)


@pytest.mark.full
def test_b3_a_localservice_with_a_long_name_on_nodes_with_long_names(world: World, start_local):
    name = "b3-" + "n" * 60
    nodes = ["b3-" + "y" * 249 + "a", "b3-" + "y" * 249 + "b"]
    for node in nodes:
        world.create_node(node)
    start_local()
    world.create_localservice(name)
    addresses = {node: [world.run_pod(f"p{number}", node, app=name)] for number, node in enumerate(nodes)}

    eventually(lambda: world.rows(name) == addresses)
    assert {len(service) for service in world.services()} <= set(range(64))


# B4: Services in the way


@pytest.mark.parametrize(
    ("metadata", "spec"),
    [
        pytest.param({}, {"selector": {"mine": "x"}}, id="with a selector"),
        pytest.param({}, {}, id="without a selector", marks=pytest.mark.full),
        pytest.param({"labels": {"owner": "app"}}, {}, id="labelled as ours", marks=pytest.mark.full),
        pytest.param(
            {},
            {"type": "ExternalName", "externalName": "x.example", "ports": None},
            id="an external name",
            marks=pytest.mark.full,
        ),
    ],
)
def test_b4_a_service_in_the_way_is_left_alone_and_the_others_are_served(
    world: World, start_local, metadata: dict[str, Any], spec: dict[str, Any]
):
    for node in ("b4-a", "b4-b", "b4-c"):
        world.create_node(node)
    start_local("--resync-period", "1s")
    # In the same second, so that it need not be known when ours is made.
    foreign = world.create_service("app-b4-b", metadata=metadata, **spec)
    world.create_localservice()

    eventually(lambda: world.serves("b4-a", "b4-c"))
    reason, message = eventually(world.failing) or ("", "")
    assert reason == "NameTaken"
    assert "app-b4-b" in message
    eventually(lambda: world.warnings() == ["NameTaken"])
    world.edit_localservice(ports=[{"port": 9}])
    eventually(lambda: [s["spec"]["ports"][0]["port"] for s in world.node_services().values()] == [9, 9])
    assert world.services()["app-b4-b"] == foreign

    world.delete_service("app-b4-b")
    eventually(lambda: world.serves("b4-a", "b4-b", "b4-c"), LONG)
    eventually(world.is_fine)
    assert world.warnings() == ["NameTaken"]


@pytest.mark.full
def test_b4_a_service_that_appears_where_ours_was_deleted(world: World, start_local):
    world.create_node("b4-x")
    world.create_node("b4-y")
    controller = start_local()
    world.create_localservice()
    eventually(lambda: world.serves("b4-x", "b4-y"))
    controller.signal(signal.SIGSTOP)
    world.delete_service("app-b4-x")
    foreign = world.create_service("app-b4-x")
    world.edit_localservice(ports=[{"port": 9}])
    controller.signal(signal.SIGCONT)

    eventually(lambda: (world.failing() or ("", ""))[0] == "NameTaken")
    eventually(lambda: world.services()["app-b4-y"]["spec"]["ports"][0]["port"] == 9)
    world.delete_node("b4-x")
    eventually(world.is_fine)
    world.delete_localservice()
    eventually(lambda: world.services().keys() == {"app-b4-x"})
    assert world.services()["app-b4-x"] == foreign


# A20: refused by a policy


@pytest.fixture
def deny(cluster: LocalCluster, world: World) -> Iterator[Callable[..., Callable[[], None]]]:
    """Makes the API server refuse writes in the test's namespace; returns a function that ends this."""
    name = f"deny-{world.namespace[-6:]}"  # short, since messages repeat it

    def mend() -> None:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            cluster.kubectl("delete", kind, name, "--ignore-not-found")

    def apply(resource: str, unless: str, is_denied: Callable[[], bool]) -> Callable[[], None]:
        rule = {"apiGroups": [""], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"]}
        policy = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {
                    "resourceRules": [{**rule, "resources": [resource]}],
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
                },
                "validations": [{"expression": unless, "message": "not that one"}],
            },
        }
        binding = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }
        both = {"apiVersion": "v1", "kind": "List", "items": [policy, binding]}
        cluster.kubectl("apply", "-f", "-", input=json.dumps(both))
        eventually(is_denied)
        return mend

    yield apply
    mend()


def is_denied(write: Callable[[], Any]) -> bool:
    """Whether admission refuses *write*."""
    try:
        write()
    except ApiException as error:
        return "not that one" in str(error.body)
    return False


@pytest.mark.full
def test_a20_a_policy_that_denies_some_of_the_services(world: World, start_local, deny):
    denied = {"metadata": {"name": "app-a20-b"}, "spec": {"ports": [{"port": 1}]}}
    mend = deny(
        "services",
        "!object.metadata.name.endsWith('-a20-b')",
        lambda: is_denied(
            lambda: world.core.create_namespaced_service(world.namespace, denied, dry_run="All")
        ),
    )
    for node in ("a20-a", "a20-b", "a20-c"):
        world.create_node(node)
    start_local("--resync-period", "1s")
    world.create_localservice()

    eventually(lambda: world.serves("a20-a", "a20-c"))
    reason, message = eventually(world.failing) or ("", "")
    assert "a20-b" in message
    assert "not that one" in message
    world.edit_localservice(ports=[{"port": 9}])
    world.create_node("a20-d")
    eventually(lambda: world.serves("a20-a", "a20-c", "a20-d"))
    eventually(lambda: world.warnings() == [reason])

    mend()
    eventually(lambda: world.serves("a20-a", "a20-b", "a20-c", "a20-d"), LONG)
    eventually(world.is_fine)
    assert world.warnings() == [reason]


@pytest.mark.full
def test_a20_a_policy_that_denies_changes_of_a_service(world: World, start_local, deny):
    world.create_node("a20-x")
    world.create_node("a20-y")
    start_local()
    world.create_localservice()
    eventually(lambda: world.serves("a20-x", "a20-y"))
    uid = world.services()["app-a20-x"]["metadata"]["uid"]
    change = {"metadata": {"labels": {"a": "b"}}}
    mend = deny(
        "services",
        "object.metadata.name != 'app-a20-x'",
        lambda: is_denied(
            lambda: world.core.patch_namespaced_service("app-a20-x", world.namespace, change, dry_run="All")
        ),
    )
    world.edit_localservice(ports=[{"port": 9}])

    eventually(lambda: world.services()["app-a20-y"]["spec"]["ports"][0]["port"] == 9)
    eventually(lambda: "not that one" in (world.failing() or ("", ""))[1])
    mend()
    eventually(lambda: world.services()["app-a20-x"]["spec"]["ports"][0]["port"] == 9, LONG)
    eventually(world.is_fine)
    assert world.services()["app-a20-x"]["metadata"]["uid"] == uid


@pytest.mark.full
def test_a20_a_policy_that_denies_what_is_new_of_a_service_lets_the_rest_go(world: World, start_local, deny):
    world.create_node("a20-n")
    start_local()
    one, two, three = ({"name": f"p{port}", "port": port} for port in (80, 81, 82))
    world.create_localservice(type="NodePort", ports=[one, two])
    eventually(lambda: world.serves("a20-n"))
    mend = deny(
        "services",
        "!has(object.metadata.labels) || !('new' in object.metadata.labels)",
        lambda: is_denied(
            lambda: world.core.patch_namespaced_service(
                "app-a20-n", world.namespace, {"metadata": {"labels": {"new": "1"}}}, dry_run="All"
            )
        ),
    )
    before = world.services()["app-a20-n"]["spec"]["ports"][1]["nodePort"]
    world.edit_localservice(ports=[two, three], selector={"app": "another"}, serviceLabels={"new": "1"})

    def ports() -> list[int]:
        return [port["port"] for port in world.services()["app-a20-n"]["spec"]["ports"]]

    eventually(lambda: ports() == [81])
    service = world.services()["app-a20-n"]
    assert service["spec"]["selector"]["app"] == "another"
    assert service["spec"]["ports"][0]["nodePort"] == before
    eventually(lambda: "not that one" in (world.failing() or ("", ""))[1])
    mend()
    eventually(lambda: ports() == [81, 82], LONG)
    eventually(world.is_fine)


@pytest.mark.full
def test_a20_a_policy_that_denies_the_label_of_a_pod(world: World, start_local, deny):
    world.create_node("a20-p")
    world.run_pod("denied", "a20-p")
    mend = deny(
        "pods",
        f"object.metadata.name != 'denied' || !('{NODE_LABEL}' in object.metadata.labels)",
        lambda: is_denied(
            lambda: world.core.patch_namespaced_pod(
                "denied", world.namespace, {"metadata": {"labels": {NODE_LABEL: "x"}}}, dry_run="All"
            )
        ),
    )
    start_local()
    world.create_localservice()
    fine = world.run_pod("fine", "a20-p")

    eventually(lambda: world.rows() == {"a20-p": [fine]})
    assert world.label("denied", NODE_LABEL) is None
    (event,) = eventually(lambda: world.events("LabelRefused", "denied"))
    assert "not that one" in event.message
    mend()
    eventually(lambda: world.label("denied", NODE_LABEL) == "a20-p", LONG)
    eventually(lambda: len(world.rows()["a20-p"]) == 2)


# A21: quota


@pytest.mark.full
def test_a21_a_quota_that_is_too_small_serves_what_fits_and_says_what_is_missing(world: World, start_local):
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"count/services": "3"}}}
    world.core.create_namespaced_resource_quota(world.namespace, quota)
    eventually(
        lambda: world.core.read_namespaced_resource_quota("few", world.namespace).status.hard, timeout=60
    )
    nodes = [f"a21-{number}" for number in range(5)]
    for node in nodes:
        world.create_node(node)
    start_local("--resync-period", "1s")
    world.create_localservice()

    eventually(lambda: len(world.node_services()) == 3)
    reason, message = eventually(world.failing) or ("", "")
    assert "exceeded quota" in message
    eventually(lambda: "2 of 5" in (world.failing() or ("", ""))[1])
    eventually(lambda: len(world.rows()) == 3)
    assert world.localservice()["status"]["nodes"] == 5
    eventually(lambda: set(world.warnings()) == {reason})
    reported = len(world.warnings())

    world.core.patch_namespaced_resource_quota(
        "few", world.namespace, {"spec": {"hard": {"count/services": "5"}}}
    )
    eventually(lambda: world.serves(*nodes), LONG)
    eventually(world.is_fine)
    assert len(world.warnings()) == reported


# Withdrawing: nodes that cannot be seen


@pytest.mark.full
@pytest.mark.parametrize("resource", ["nodes", "localservices", "services", "pods"])
def test_what_one_list_lacks_is_not_lost(
    world: World, start_local, api: HttpProxy, through_api: Path, resource: str
):
    nodes = [f"list-{number}" for number in range(4)]
    for node in nodes:
        world.create_node(node)
    start_local("--guard-confirm", "1s", kubeconfig=through_api)
    world.create_localservice()
    address = world.run_pod("a", nodes[0])
    eventually(lambda: world.serves(*nodes) and world.rows().get(nodes[0]) == [address])
    since = world.now()

    eventually(lack_once(api, resource))
    world.create_node("list-later")
    eventually(lambda: world.serves(*nodes, "list-later"))
    eventually(lambda: world.rows().keys() == {*nodes, "list-later"})
    eventually(world.is_fine)
    assert world.happened(since) == [("ADDED", "app-list-later")]
    assert world.warnings() == []


@pytest.mark.full
def test_nodes_that_may_not_be_read_for_a_while_lose_nothing(
    world: World, start_local, api: HttpProxy, through_api: Path
):
    for node in ("hidden-a", "hidden-b"):
        world.create_node(node)
    controller = start_local("--guard-confirm", "1s", kubeconfig=through_api)
    world.create_localservice()
    eventually(lambda: world.serves("hidden-a", "hidden-b"))
    forbidden = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "Forbidden",
        "code": 403,
    }
    api.instead = lambda _method, path: (
        (403, json.dumps({**forbidden, "message": "nodes is forbidden"}).encode())
        if is_of(path, "nodes")
        else None
    )
    api.cut_watches("nodes")
    eventually(lambda: any("403" in line.get("reason", "") for line in controller.logged()))

    world.delete_node("hidden-a")
    world.delete_node("hidden-b")
    world.edit_localservice(ports=[{"port": 9}])
    eventually(lambda: [s["spec"]["ports"][0]["port"] for s in world.node_services().values()] == [9, 9])
    assert world.serves("hidden-a", "hidden-b")
    api.reset()
    world.create_node("hidden-c")
    eventually(lambda: world.serves("hidden-c"), LONG)


@pytest.mark.full
def test_many_nodes_deleted_while_no_controller_ran_are_held_and_then_withdrawn(world: World, start_local):
    nodes = [f"held-{number:02}" for number in range(12)]
    for node in nodes:
        world.create_node(node)
    controller = start_local("--guard-confirm", "5s")
    world.create_localservice()
    eventually(lambda: world.serves(*nodes))
    assert controller.stop() == 0
    for node in nodes[1:]:
        world.delete_node(node)

    since = world.now()
    controller.start()
    eventually(lambda: (world.failing() or ("", ""))[0] == "Held")
    assert world.happened(since) == []
    eventually(lambda: world.serves(nodes[0]), LONG)
    eventually(world.is_fine)


@pytest.mark.full
def test_a_node_that_is_not_ready_keeps_its_service(cluster: LocalCluster, world: World, start_local):
    world.create_node("unready-a")
    start_local("--guard-confirm", "1s")
    world.create_localservice()
    eventually(lambda: world.serves("unready-a"))
    before = world.services()["app-unready-a"]
    kubelet = cluster.process("kwok")
    kubelet.pause()
    try:
        silent = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": ""}
        world.core.patch_node_status("unready-a", {"status": {"conditions": [silent]}})
        world.create_node("unready-later")
        eventually(lambda: world.serves("unready-a", "unready-later"))
        assert world.services()["app-unready-a"] == before
        eventually(lambda: world.rows().keys() == {"unready-a", "unready-later"})
        world.delete_node("unready-a")
        eventually(lambda: world.serves("unready-later"))
    finally:
        kubelet.resume()
