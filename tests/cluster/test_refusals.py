"""What the API server refuses or changes, and what it does not let us read: told, and nothing else is late.

``faults/test_refused.py`` has the refused writes of RpcServices.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from hack.local.cluster import LocalCluster
from hack.local.http_proxy import Answer, HttpProxy
from tests.cluster.waiting import eventually
from tests.cluster.world import World

LONG = 120.0  # seconds, at most: what was refused is tried again with back-off
TRAFFIC = "internalTrafficPolicy"


def address(number: int) -> str:
    return f"10.0.0.{number}"


def serve(world: World, *numbers: int) -> None:
    for number in numbers:
        world.create_pod(f"p{number}", "echo", ip=address(number))


def published(world: World) -> set[int]:
    return {int(server.rpartition(".")[2]) for server in world.servers("echo") or ()}


def refuse(api: HttpProxy, method: str, ending: str, code: int) -> None:
    """Have the requests whose path ends like that refused."""
    reason = {403: "Forbidden", 500: "InternalError"}[code]
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}

    def instead(asked: str, path: str) -> Answer | None:
        if asked != method or not path.partition("?")[0].endswith(ending):
            return None
        return code, json.dumps({**status, "message": "not that one"}).encode()

    api.instead = instead


def tried(api: HttpProxy, method: str, ending: str) -> int:
    """How many such requests were made."""
    return sum(
        asked == method and path.partition("?")[0].endswith(ending) for asked, path in list(api.requests)
    )


# Writes


@pytest.mark.full
def test_a_refused_service_waits_whatever_else_changes(
    world: World, start_local: Any, api: HttpProxy, through_api: Any
):
    world.create_node("refused-a")
    start_local(kubeconfig=through_api, leader_elect=True)
    world.create_localservice()
    eventually(lambda: world.serves("refused-a"))
    posts = f"/{world.namespace}/services"
    refuse(api, "POST", posts, 403)
    world.create_node("refused-b")
    eventually(lambda: "not that one" in (world.failing() or ("", ""))[1])

    before, edits = tried(api, "POST", posts), range(9, 21)
    for port in edits:
        world.edit_localservice(ports=[{"port": port}])
        eventually(partial(has_port, world, "refused-a", port))
    assert tried(api, "POST", posts) - before < len(edits)

    api.reset()
    eventually(lambda: world.serves("refused-a", "refused-b"), LONG)
    eventually(world.is_fine)


def has_port(world: World, node: str, port: int) -> bool:
    """Whether the Service of *node* has that port."""
    return bool(world.node_services()[node]["spec"]["ports"][0]["port"] == port)


@pytest.fixture
def mutate(cluster: LocalCluster, world: World) -> Iterator[Callable[[str, str], Callable[[], None]]]:
    """Has admission write a field into all Services of the test's namespace; returns what ends that."""
    name = f"mutate-{world.namespace[-6:]}"

    def mend() -> None:
        for kind in ("mutatingadmissionpolicybinding", "mutatingadmissionpolicy"):
            cluster.kubectl("delete", kind, name, "--ignore-not-found")

    def apply(field: str, value: str) -> Callable[[], None]:
        rule = {"apiGroups": [""], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"]}
        change = f'[JSONPatch{{op: "add", path: "/spec/{field}", value: "{value}"}}]'
        group = "admissionregistration.k8s.io/v1"
        policy = {
            "apiVersion": group,
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {
                    "resourceRules": [{**rule, "resources": ["services"]}],
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
                },
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": change}}],
                "reinvocationPolicy": "Never",
            },
        }
        binding = {
            "apiVersion": group,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name},
        }
        both = {"apiVersion": "v1", "kind": "List", "items": [policy, binding]}
        cluster.kubectl("apply", "-f", "-", input=json.dumps(both))
        eventually(lambda: trial(world) == value)
        return mend

    yield apply
    mend()


def trial(world: World) -> Any:
    """The traffic policy of a Service as the API server would create it."""
    body = {"metadata": {"name": "trial"}, "spec": {"ports": [{"port": 1}]}}
    made = world.core.create_namespaced_service(world.namespace, body, dry_run="All")
    return made.spec.internal_traffic_policy


@pytest.mark.full
def test_b12_a_field_that_a_policy_changes_is_told_and_all_else_is_right(
    world: World,
    start_local: Any,
    mutate: Callable[[str, str], Callable[[], None]],
    api: HttpProxy,
    through_api: Any,
):
    mend = mutate(TRAFFIC, "Local")
    world.create_node("mutated-a")
    start_local(kubeconfig=through_api, leader_elect=True)
    world.create_localservice()
    eventually(lambda: (world.failing() or ("", ""))[0] == "Refused")
    assert f"spec.{TRAFFIC}" in (world.failing() or ("", ""))[1]
    eventually(lambda: world.warnings() == ["Refused"])
    patches = f"/{world.namespace}/services/app-mutated-a"

    before, edits = tried(api, "PATCH", patches), range(9, 15)
    for port in edits:
        world.edit_localservice(ports=[{"port": port}])
        eventually(partial(has_port, world, "mutated-a", port))
    # Each edit is written, and tells once more that the field is not kept; else there is only the back-off.
    assert tried(api, "PATCH", patches) - before < 4 * len(edits)
    assert f"spec.{TRAFFIC}" in (world.failing() or ("", ""))[1]

    mend()
    eventually(lambda: trial(world) == "Cluster")
    eventually(lambda: world.node_services()["mutated-a"]["spec"][TRAFFIC] == "Cluster", LONG)
    eventually(world.is_fine)


@pytest.mark.full
def test_where_no_registry_runs_the_pod_controller_tells_what_it_finds(
    world: World, start_controller: Any, api: HttpProxy, through_api: Any
):
    flags = ("--controllers", "rpcservice", "--endpoints-per-object", "3")
    controller = start_controller(*flags, kubeconfig=through_api, leader_elect=True)
    serve(world, 1, 2, 3)
    eventually(lambda: len(world.listed("echo") or ()) == 3)
    assert world.synced("echo") is None
    refuse(api, "POST", f"/{world.namespace}/rpcservices", 403)
    serve(world, 4)
    eventually(lambda: world.synced("echo") == ("False", "Refused"))

    assert controller.stop() == 0
    controller.start()
    world.delete_pod("p1")
    eventually(lambda: set(world.listed("echo") or ()) == {address(n) for n in (2, 3, 4)}, LONG)
    eventually(lambda: world.synced("echo") is None)


# Reads


@pytest.mark.full
@pytest.mark.parametrize("code", [403, 500])
def test_a_node_that_cannot_be_read_keeps_its_pods_and_costs_nobody_else(
    world: World, start_controller: Any, api: HttpProxy, through_api: Any, code: int
):
    start_controller(kubeconfig=through_api, leader_elect=True)
    serve(world, 1, 2, 3)
    eventually(lambda: published(world) == {1, 2, 3})
    refuse(api, "GET", "/nodes/nowhere", code)
    silenced = [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-21T02:02:02Z"}]
    world.set_status("p1", address(1), conditions=silenced)
    eventually(lambda: tried(api, "GET", "/nodes/nowhere"))
    world.delete_pod("p2")
    serve(world, 4)
    eventually(lambda: published(world) == {1, 3, 4})

    api.reset()
    eventually(lambda: published(world) == {3, 4}, LONG)
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))


@pytest.mark.full
@pytest.mark.parametrize("code", [403, 500])
def test_while_no_permission_can_be_asked_for_nobody_joins_and_those_who_end_leave(
    cluster: LocalCluster,
    world: World,
    start_controller: Any,
    api: HttpProxy,
    through_api: Any,
    code: int,
):
    role = ["create", "role", "registrar", "-n", world.namespace, "--verb=register"]
    cluster.kubectl(*role, "--resource=rpcservices.rpcregistry.dev", "--resource-name=echo")
    account = f"--serviceaccount={world.namespace}:default"
    cluster.kubectl("create", "rolebinding", "registrar", "-n", world.namespace, "--role=registrar", account)
    flags = ("--require-register-permission",)
    controller = start_controller(*flags, kubeconfig=through_api, leader_elect=True)
    serve(world, 1, 2, 3)
    eventually(lambda: published(world) == {1, 2, 3})

    # A new process has asked for nothing yet.
    assert controller.stop() == 0
    refuse(api, "POST", "/subjectaccessreviews", code)
    controller.start()
    serve(world, 4)
    world.delete_pod("p1")
    eventually(lambda: published(world) == {2, 3}, LONG)
    eventually(lambda: world.events("RegisterUnknown", "p4"), LONG)
    assert published(world) == {2, 3}

    api.reset()
    eventually(lambda: published(world) == {2, 3, 4}, LONG)


# Addresses


@pytest.mark.full
def test_an_address_that_an_earlier_version_published_stays_until_its_pod_goes(
    world: World, start_controller: Any
):
    controller = start_controller(leader_elect=True)
    serve(world, 1, 2)
    world.create_pod("p3", "echo", ip="127.0.0.1")
    eventually(lambda: world.events("AddressRefused", "p3"))
    eventually(lambda: published(world) == {1, 2})

    assert controller.stop() == 0
    world.set_status("p1", "0.1.2.3")
    rows = world.rpcservices()["echo"]["status"]["endpoints"]
    earlier = {"ip": "0.1.2.3", "ips": ["0.1.2.3"]}
    rows = [{**row, **(earlier if row["podName"] == "p1" else {})} for row in rows]
    where = ("rpcregistry.dev", "v1alpha1", world.namespace, "rpcservices", "echo")
    world.custom.patch_namespaced_custom_object_status(*where, {"status": {"endpoints": rows}})
    controller.start()
    eventually(lambda: world.servers("echo") == ["0.1.2.3", address(2)])
    eventually(lambda: world.events("AddressRefused", "p1"))
    world.create_pod("p4", "echo", ip=address(4))
    eventually(lambda: world.servers("echo") == ["0.1.2.3", address(2), address(4)])

    world.delete_pod("p1")
    eventually(lambda: world.servers("echo") == [address(2), address(4)])
    assert "127.0.0.1" not in (world.listed("echo") or ())
