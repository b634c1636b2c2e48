"""The pods of LocalServices: their labels, what they ask for themselves, and the status."""

import json
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hack.local.http_proxy import HttpProxy
from tests.cluster.waiting import eventually
from tests.cluster.world import World, lack_once

NODE_LABEL = "rpcregistry.dev/node"
ECHO = {"serviceName": "echo", "port": 20880, "local": True}
ECHO_LABEL = "local-service.rpcregistry.dev/echo"


@pytest.fixture
def start_both(start_controller):
    """Starts the public command with both controllers of pods."""
    return lambda *flags: start_controller("--controllers", "rpcservice,localservice", *flags)


def labels(world: World, name: str) -> dict[str, str]:
    """All labels of a pod."""
    return dict(world.pod(name)["metadata"].get("labels", {}))


def test_pods_that_ask_for_it_get_a_localservice_and_it_goes_with_the_last_of_them(world: World, start_both):
    world.create_node("ask-a")
    start_both()
    first = world.run_pod("a", "ask-a", ECHO)
    second = world.run_pod("b", "ask-a", ECHO)

    eventually(lambda: sorted(world.rows("echo").get("ask-a", [])) == sorted([first, second]))
    local = world.localservice("echo")
    assert local["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "rpcregistry"
    assert local["spec"]["selector"] == {ECHO_LABEL: "true"}
    assert [port["port"] for port in local["spec"]["ports"]] == [20880]
    ours = {ECHO_LABEL: "true", NODE_LABEL: "ask-a"}
    assert labels(world, "a") == {"app": "app", "rpc-service": "true", **ours}

    world.delete_pod("a")
    eventually(lambda: world.rows("echo").get("ask-a") == [second])
    world.delete_pod("b")
    eventually(lambda: world.localservice("echo") == {})
    eventually(lambda: world.services() == {})


@pytest.mark.full
def test_a_pod_that_asks_for_it_no_longer_loses_the_label_and_the_others_keep_theirs(
    world: World, start_both
):
    world.create_node("less-a")
    start_both()
    world.run_pod("a", "less-a", ECHO, labels={"mine": "kept"})
    stays = world.run_pod("b", "less-a", ECHO)
    eventually(lambda: len(world.rows("echo").get("less-a", [])) == 2)

    world.annotate("a", json.dumps([{**ECHO, "local": False}]))
    eventually(lambda: world.rows("echo").get("less-a") == [stays])
    assert ECHO_LABEL not in labels(world, "a")
    assert labels(world, "a")["mine"] == "kept"
    assert labels(world, "b")[ECHO_LABEL] == "true"


@pytest.mark.full
def test_pods_that_ask_for_it_while_nobody_looks_and_stop_to(world: World, start_both):
    world.create_node("away-a")
    controller = start_both("--guard-confirm", "1s")
    world.run_pod("a", "away-a", ECHO)
    eventually(lambda: "away-a" in world.rows("echo"))
    assert controller.stop() == 0
    world.annotate("a", json.dumps([{**ECHO, "serviceName": "next"}]))

    controller.start()
    eventually(lambda: "away-a" in world.rows("next"))
    eventually(lambda: world.localservice("echo") == {})
    eventually(lambda: ECHO_LABEL not in labels(world, "a"))


@pytest.mark.full
@pytest.mark.parametrize("resource", ["pods", "rpcservices", "localservices"])
def test_what_one_list_lacks_ends_no_routing_that_pods_ask_for(
    world: World, start_controller, api: HttpProxy, through_api: Path, resource: str
):
    world.create_node("lack-a")
    both = ("--controllers", "rpcservice,localservice")
    start_controller(*both, "--guard-confirm", "1s", kubeconfig=through_api)
    address = world.run_pod("a", "lack-a", ECHO)
    eventually(lambda: world.rows("echo").get("lack-a") == [address])
    since, uid = world.now(), world.localservice("echo")["metadata"]["uid"]

    eventually(lack_once(api, resource))
    later = world.run_pod("b", "lack-a", {**ECHO, "serviceName": "later"})
    eventually(lambda: world.rows("later").get("lack-a") == [later])
    eventually(lambda: world.rows("echo").get("lack-a") == [address])
    assert [event for event in world.happened(since) if event[0] == "DELETED"] == []
    assert world.localservice("echo")["metadata"]["uid"] == uid
    assert labels(world, "a")[ECHO_LABEL] == "true"


@pytest.mark.full
def test_a_declared_localservice_is_never_overwritten_nor_deleted(world: World, start_both):
    world.create_node("mine-a")
    world.create_localservice("echo", ports=[{"port": 7}])
    mine = world.localservice("echo")
    start_both()
    world.run_pod("a", "mine-a", ECHO)
    address = world.run_pod("b", "mine-a", app="echo")
    eventually(lambda: world.rows("echo") == {"mine-a": [address]})
    assert world.localservice("echo")["spec"] == mine["spec"]

    world.delete_pod("a")
    eventually(lambda: "echo" not in world.rpcservices())
    world.run_pod("c", "mine-a", {**ECHO, "serviceName": "next"})
    eventually(lambda: "mine-a" in world.rows("next"))
    found = world.localservice("echo")
    assert (found["metadata"]["uid"], found["spec"]) == (mine["metadata"]["uid"], mine["spec"])


@pytest.mark.full
def test_a_generated_localservice_that_a_person_applies_over_is_declared(world: World, start_both):
    world.create_node("over-a")
    start_both()
    world.run_pod("a", "over-a", ECHO)
    eventually(lambda: "over-a" in world.rows("echo"))
    manifest = {
        "apiVersion": "rpcregistry.dev/v1alpha1",
        "kind": "LocalService",
        "metadata": {"name": "echo", "namespace": world.namespace},
        "spec": {
            "selector": {"app": "app"},
            "ports": [{"port": 20880, "name": "mine"}],
            "nodeSelector": {"world": world.namespace},
        },
    }
    world.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(manifest))
    eventually(lambda: world.serves("over-a", name="echo"))
    applied = world.localservice("echo")["spec"]

    world.delete_pod("a")
    eventually(lambda: world.rows("echo") == {"over-a": []})
    eventually(lambda: "echo" not in world.rpcservices())
    world.run_pod("b", "over-a", {**ECHO, "serviceName": "next"})
    eventually(lambda: "over-a" in world.rows("next"))
    assert world.localservice("echo")["spec"] == applied
    assert applied["selector"]["app"] == "app"


@pytest.mark.full
def test_the_node_label_has_the_name_that_is_asked_for(world: World, start_local):
    world.create_node("flag-a")
    start_local("--node-label", "vm/rack")
    world.create_localservice()
    address = world.run_pod("a", "flag-a")

    eventually(lambda: world.rows() == {"flag-a": [address]})
    assert labels(world, "a") == {"app": "app", "vm/rack": "flag-a"}
    assert world.services()["app-flag-a"]["spec"]["selector"] == {"app": "app", "vm/rack": "flag-a"}


@pytest.mark.full
def test_a_pod_is_labelled_once_it_is_bound(world: World, start_local):
    world.create_node("bound-a")
    start_local()
    world.create_localservice()
    world.create_pod("a", labels={"app": "app"}, node=None, schedulerName="nobody")
    world.run_pod("before", "bound-a")
    eventually(lambda: world.label("before", NODE_LABEL) == "bound-a")
    assert world.label("a", NODE_LABEL) is None

    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "a"},
        "target": {"kind": "Node", "name": "bound-a"},
    }
    path = f"/api/v1/namespaces/{world.namespace}/pods/a/binding"
    world.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(binding))
    eventually(lambda: world.label("a", NODE_LABEL) == "bound-a")


@pytest.mark.full
@pytest.mark.parametrize("by_hand", [pytest.param("-", id="removed"), pytest.param("=other", id="changed")])
def test_a_label_that_somebody_spoils_is_put_back(world: World, start_local, by_hand: str):
    world.create_node("spoilt-a")
    start_local()
    world.create_localservice()
    world.run_pod("a", "spoilt-a")
    eventually(lambda: world.label("a", NODE_LABEL) == "spoilt-a")

    world.kubectl(
        "label", "pod", "a", "-n", world.namespace, "--overwrite", f"{NODE_LABEL}{by_hand}", "mine=kept"
    )
    eventually(lambda: labels(world, "a") == {"app": "app", "mine": "kept", NODE_LABEL: "spoilt-a"})


@pytest.mark.full
def test_a_pod_that_comes_to_be_selected_is_labelled_then(world: World, start_local):
    world.create_node("later-a")
    start_local()
    world.create_localservice()
    world.create_localservice("other")
    address = world.run_pod("a", "later-a", app="none")
    world.run_pod("b", "later-a")
    eventually(lambda: world.label("b", NODE_LABEL))
    assert world.label("a", NODE_LABEL) is None

    world.kubectl("label", "pod", "a", "-n", world.namespace, "--overwrite", "app=other")
    eventually(lambda: world.rows("other") == {"later-a": [address]})


@pytest.mark.full
def test_the_rows_follow_the_pods(world: World, start_local):
    world.create_node("rows-a")
    world.create_node("rows-b")
    start_local()
    world.create_localservice()
    first = world.run_pod("a", "rows-a")
    eventually(lambda: world.rows() == {"rows-a": [first], "rows-b": []})

    world.set_status("a", first, ready=False)
    eventually(lambda: world.rows() == {"rows-a": [], "rows-b": []})
    assert world.localservice()["status"]["readyNodes"] == 0
    world.delete_pod("a")
    moved = world.run_pod("b", "rows-b")
    eventually(lambda: world.rows() == {"rows-a": [], "rows-b": [moved]})
    world.set_status("b", moved, phase="Failed")
    eventually(lambda: world.rows() == {"rows-a": [], "rows-b": []})


@pytest.mark.full
def test_a_row_lists_20_addresses_and_says_that_there_are_more(world: World, start_local):
    world.create_node("many-a")
    start_local()
    world.create_localservice()
    for number in range(20):
        world.create_pod(f"p{number}", node="many-a", labels={"app": "app"})
    eventually(lambda: len(world.rows().get("many-a", [])) == 20)
    assert not world.localservice()["status"]["truncated"]

    world.run_pod("one-more", "many-a")
    eventually(lambda: world.localservice()["status"]["truncated"])
    assert len(world.rows()["many-a"]) == 20


@pytest.mark.full
def test_the_status_is_written_once_a_second_at_most(world: World, start_local):
    world.create_node("churn-a")
    start_local()
    world.create_localservice()
    address = world.run_pod("a", "churn-a")
    eventually(lambda: world.rows() == {"churn-a": [address]})
    since, start = world.now(), time.monotonic()

    changes = 0
    while time.monotonic() - start < 4:
        world.set_status("a", address, ready=bool(changes % 2))
        changes += 1
    world.set_status("a", "10.9.9.9")
    eventually(lambda: world.rows() == {"churn-a": ["10.9.9.9"]})
    seconds = time.monotonic() - start
    assert 1 <= len(world.happened(since, "localservices")) <= seconds + 2


@pytest.mark.full
def test_other_peoples_labels_stay(world: World, start_local):
    world.create_node("theirs-a")
    start_local()
    world.create_localservice()
    eventually(world.is_fine)
    world.kubectl("label", "lsvc", "app", "-n", world.namespace, "mine=kept")
    world.kubectl("label", "service", "app-theirs-a", "-n", world.namespace, "mine=kept")

    world.edit_localservice(ports=[{"port": 5}])
    eventually(lambda: world.services()["app-theirs-a"]["spec"]["ports"][0]["port"] == 5)
    eventually(world.is_fine)
    found: list[Any] = [world.services()["app-theirs-a"], world.localservice()]
    assert [item["metadata"]["labels"]["mine"] for item in found] == ["kept", "kept"]


@pytest.mark.full
@pytest.mark.parametrize(
    "service",
    [
        pytest.param("s" * 100, id="long"),
        pytest.param("org.apache.Echo_V1$x", id="no name of an object"),
        pytest.param("a.b.c", id="dotted"),
        pytest.param("1st", id="beginning with a digit"),
    ],
)
def test_services_with_any_name_can_be_asked_for(world: World, start_both, service: str):
    world.create_node("name-a")
    start_both()
    address = world.run_pod("a", "name-a", {**ECHO, "serviceName": service})

    (name,) = eventually(lambda: [*world.rpcservices()])
    shown = name if len(name) <= 63 else f"{name[:54]}-{sha256(name.encode()).hexdigest()[:8]}"
    eventually(lambda: world.rows(shown).get("name-a") == [address])
    label = f"local-service.rpcregistry.dev/{shown}"
    assert labels(world, "a")[label] == "true"
    assert world.localservice(shown)["spec"]["selector"] == {label: "true"}
    assert world.node_services(shown)["name-a"]["spec"]["selector"] == {label: "true", NODE_LABEL: "name-a"}


@pytest.mark.full
def test_a_pod_may_ask_for_several_services_and_several_ports(world: World, start_both):
    world.create_node("several-a")
    start_both()
    address = world.run_pod(
        "a", "several-a", ECHO, {**ECHO, "port": 20881}, {**ECHO, "serviceName": "more", "port": 7}
    )

    eventually(lambda: world.rows("echo").get("several-a") == [address])
    eventually(lambda: world.rows("more").get("several-a") == [address])
    ports = world.node_services("echo")["several-a"]["spec"]["ports"]
    assert sorted(port["port"] for port in ports) == [20880, 20881]
    world.annotate("a", json.dumps([ECHO]))
    eventually(
        lambda: [p["port"] for p in world.node_services("echo")["several-a"]["spec"]["ports"]] == [20880]
    )
    eventually(lambda: world.localservice("more") == {})


@pytest.mark.full
def test_pods_that_ask_for_it_without_a_port_get_an_event(world: World, start_both):
    world.create_node("portless-a")
    start_both()
    world.run_pod("a", "portless-a", {"serviceName": "echo", "local": True}, {**ECHO, "serviceName": "fine"})

    eventually(lambda: "portless-a" in world.rows("fine"))
    (event,) = eventually(lambda: world.events("InvalidAnnotation", "a"))
    assert "/0" in event.message
    assert world.localservice("echo") == {}
