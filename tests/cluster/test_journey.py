"""The main job, end to end: annotated pods → RpcService → ZooKeeper, through the public command."""

import json
from functools import partial

import pytest
from kazoo.client import KazooClient

from hack.local.controller import finished
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, Recorder, World, peculiar
from tests.pages import Page


def has_servers(world: World, count: int) -> bool:
    return len(world.servers("test-rpc-server-1") or ()) == count


def test_kube2zks_own_walk_with_a_deployment(world: World, controller: Controller, cluster):
    template = {
        "metadata": {
            "labels": {"app": "rpc", "rpc-service": "true"},
            "annotations": {"rpc-service": '[{"serviceName":"test-rpc-server-1","version":"v0"}]'},
        },
        "spec": {"containers": [{"name": "c", "image": "none"}], "terminationGracePeriodSeconds": 0},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "rpc", "namespace": world.namespace},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "rpc"}}, "template": template},
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(deployment))
    eventually(lambda: len(world.servers("test-rpc-server-1") or ()) == 3)

    for replicas in (5, 1):
        cluster.kubectl("scale", "deployment/rpc", f"--replicas={replicas}", "-n", world.namespace)
        eventually(partial(has_servers, world, replicas))
    addresses = {pod.status.pod_ip for pod in world.core.list_namespaced_pod(world.namespace).items}
    assert set(world.servers("test-rpc-server-1")) <= addresses
    cluster.kubectl("scale", "deployment/rpc", "--replicas=0", "-n", world.namespace)
    eventually(lambda: world.data("test-rpc-server-1") is None)
    eventually(lambda: world.rpcservices() == {})


def test_the_status_records_every_endpoint(world: World, controller: Controller, cluster):
    entry = {
        "serviceName": "echo", "version": "v0", "port": 20880, "group": "g",
        "protocol": "dubbo", "weight": 100, "metadata": {"k": "v"},
    }  # fmt: skip
    uid = world.create_pod("p-1", entry)
    started = {"state": {"running": {"startedAt": "2026-11-21T02:02:02Z"}}, "name": "c", "ready": True}
    statuses = [{**started, "image": "none", "imageID": "", "restartCount": 0}]
    world.set_status("p-1", "10.0.0.1", containerStatuses=statuses)
    eventually(lambda: world.listed("echo") == ["10.0.0.1"])

    status = world.rpcservices()["echo"]["status"]
    assert status["endpoints"] == [
        {
            "podName": "p-1", "podUID": uid, "ip": "10.0.0.1", "ips": ["10.0.0.1"], "port": 20880,
            "nodeName": "nowhere", "hostIP": "10.1.0.1", "version": "v0", "group": "g", "protocol": "dubbo",
            "weight": 100, "ready": True, "phase": "Running", "startedAt": "2026-11-21T02:02:02Z",
            "metadata": {"k": "v"},
        }
    ]  # fmt: skip
    assert (status["ready"], status["registryPaths"]) == ("1/1", f"{world.base}/echo")
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    lines = cluster.kubectl("get", "rpcservices", "-n", world.namespace).splitlines()
    assert [line.split()[:5] for line in lines] == [
        ["NAME", "SERVICE", "READY", "SYNCED", "REASON"],
        ["echo", "echo", "1/1", "True", "InRegistry"],
    ]


def test_two_services_in_one_pod_and_one_service_in_two_namespaces(
    world: World, controller: Controller, other_namespace: str
):
    world.create_pod("a", "one", "two", ip="172.16.0.1")
    world.create_pod("b", "one", ip="172.16.0.2", namespace=other_namespace)

    eventually(lambda: world.servers("one") == ["172.16.0.1", "172.16.0.2"])
    eventually(lambda: world.servers("two") == ["172.16.0.1"])
    world.delete_pod("b", other_namespace)
    eventually(lambda: world.servers("one") == ["172.16.0.1"])


def test_the_second_dialect(world: World, controller: Controller):
    pod = {
        "metadata": {
            "name": "a",
            "labels": {"app.io/label": "app.io-value"},
            "annotations": {"app.io/annotation": peculiar([{"k": "/dubbo/com.Echo/providers", "v": "x"}])},
        },
        "spec": {"nodeName": "nowhere", "containers": [{"name": "c", "image": "none"}]},
    }
    world.core.create_namespaced_pod(world.namespace, pod)
    world.set_status("a", "172.16.0.1")

    eventually(lambda: world.servers("com.Echo") == ["172.16.0.1"])


def changes(world: World) -> None:
    """Make some of each change that happens to pods in a day."""
    world.annotate("moved", json.dumps([{"serviceName": "b"}]))
    world.annotate("undeclared", None)
    world.set_status("evicted", "172.16.0.3", phase="Failed")
    world.set_status("unready", "172.16.0.4", ready=False)
    world.delete_pod("deleted")
    world.create_pod("new", "a", ip="172.16.0.6")


def pods_before(world: World) -> None:
    for number, name in enumerate(("moved", "undeclared", "evicted", "unready", "deleted", "stays"), 1):
        world.create_pod(name, "a", ip=f"172.16.0.{number + (number > 5) * 3}")


AFTER = (["172.16.0.6", "172.16.0.9"], ["172.16.0.1"])


def test_everything_that_happens_to_pods_is_followed(world: World, controller: Controller):
    pods_before(world)
    eventually(lambda: len(world.servers("a") or ()) == 6)
    changes(world)

    eventually(lambda: (world.servers("a"), world.servers("b")) == AFTER)


def test_the_same_with_the_controller_down_meanwhile(world: World, start_controller):
    controller = start_controller("--guard-confirm", "2s")
    pods_before(world)
    eventually(lambda: len(world.servers("a") or ()) == 6)
    assert controller.stop() == 0
    changes(world)

    controller.start()
    eventually(lambda: (world.servers("a"), world.servers("b")) == AFTER)


@pytest.mark.parametrize("writes", [1, 3, 6])
def test_killed_at_any_moment_nothing_is_withdrawn(
    world: World, start_controller, zk: KazooClient, writes: int
):
    controller = start_controller()
    for number in range(1, 4):
        world.create_pod(f"p{number}", "echo", ip=f"172.16.0.{number}")
    eventually(lambda: len(world.servers("echo") or ()) == 3)
    seen = Recorder(zk, f"{world.base}/echo")
    for number in range(4, 4 + writes):
        world.create_pod(f"p{number}", "echo", ip=f"172.16.0.{number}")
    controller.kill()
    world.forget_controllers()
    world.set_status("p1", "172.16.0.1", ready=False)

    controller.start()
    eventually(lambda: len(world.servers("echo") or ()) == 2 + writes)
    assert seen.smallest() >= 2


def test_a_generated_rpcservice_deleted_by_hand(world: World, controller: Controller, zk: KazooClient):
    world.create_pod("a", "echo", ip="172.16.0.1")
    eventually(lambda: world.servers("echo") == ["172.16.0.1"])
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    uid = world.rpcservices()["echo"]["metadata"]["uid"]
    seen = Recorder(zk, f"{world.base}/echo")
    world.delete_rpcservice("echo")

    eventually(lambda: world.rpcservices().get("echo", {}).get("metadata", {}).get("uid", uid) != uid)
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    assert seen.states == [["172.16.0.1"]]


def test_a_declared_rpcservice_takes_over_and_its_deletion_gives_back(
    world: World, controller: Controller, zk: KazooClient
):
    world.create_pod("a", "echo", ip="172.16.0.1")
    eventually(lambda: world.servers("echo") == ["172.16.0.1"])
    seen = Recorder(zk, f"{world.base}/echo")

    world.apply_rpcservice("mine", serviceName="echo")
    eventually(lambda: world.listed("mine") == ["172.16.0.1"])
    eventually(lambda: world.rpcservices().keys() == {"mine"})
    world.delete_rpcservice("mine")
    eventually(lambda: world.rpcservices().keys() == {"echo"})
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    assert all(state == ["172.16.0.1"] for state in seen.states)


def test_a_person_who_applies_over_a_generated_one_makes_it_declared(world: World, controller: Controller):
    world.create_pod("a", "echo", ip="172.16.0.1")
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    world.apply_rpcservice("echo", serviceName="echo", config=["keepalive 1"])
    eventually(lambda: '"config":["keepalive 1"]' in (world.data("echo") or ""))

    world.delete_pod("a")
    eventually(lambda: world.data("echo") is None)
    assert world.rpcservices().keys() == {"echo"}


def test_a_selector_publishes_pods_that_say_nothing(world: World, controller: Controller):
    world.apply_rpcservice("echo", selector={"matchLabels": {"app": "x"}}, port=20880)
    world.create_pod("a", ip="172.16.0.1", labels={"app": "x"})
    world.create_pod("b", ip="172.16.0.2", labels={"app": "y"})
    eventually(lambda: world.servers("echo") == ["172.16.0.1"])

    world.core.patch_namespaced_pod("b", world.namespace, {"metadata": {"labels": {"app": "x"}}})
    eventually(lambda: world.servers("echo") == ["172.16.0.1", "172.16.0.2"])


def test_edits_of_a_status_are_put_back(world: World, controller: Controller):
    world.create_pod("a", "echo", ip="172.16.0.1")
    eventually(lambda: world.servers("echo") == ["172.16.0.1"])
    forged = {"podName": "x", "podUID": "y", "ip": "6.6.6.6", "ips": ["6.6.6.6"], "ready": True}
    world.custom.patch_namespaced_custom_object_status(
        "rpcregistry.dev",
        "v1alpha1",
        world.namespace,
        "rpcservices",
        "echo",
        {"status": {"endpoints": [forged]}},
    )

    eventually(lambda: (world.listed("echo"), world.servers("echo")) == (["172.16.0.1"], ["172.16.0.1"]))


def test_a_bad_annotation_is_recorded_once_even_across_restarts(world: World, start_controller):
    controller = start_controller()
    world.create_pod("a", annotation="{not json", ip="172.16.0.1")
    (event,) = eventually(lambda: world.events("InvalidAnnotation", "a"))
    assert "rpc-service" in event.message
    controller.stop()
    controller.start()
    world.create_pod("b", "later", ip="172.16.0.2")
    eventually(lambda: world.servers("later"))

    assert len(world.events("InvalidAnnotation", "a")) == 1


def test_when_all_is_right_a_restart_writes_nothing(world: World, start_controller):
    controller = start_controller()
    for number in range(1, 21):
        world.create_pod(f"p{number}", f"s{number % 4}", ip=f"172.16.0.{number}")
    eventually(lambda: all(len(world.servers(f"s{n}") or ()) == 5 for n in range(4)))
    eventually(lambda: all(world.synced(f"s{n}") == ("True", "InRegistry") for n in range(4)))
    controller.stop()
    versions = {name: item["metadata"]["resourceVersion"] for name, item in world.rpcservices().items()}
    znodes = {name: world.zk.exists(f"{world.base}/{name}").mzxid for name in versions}

    controller.start()
    world.create_pod("later", "later", ip="172.16.1.1")
    eventually(lambda: world.synced("later") == ("True", "InRegistry"))
    after = world.rpcservices()
    del after["later"]
    assert {name: item["metadata"]["resourceVersion"] for name, item in after.items()} == versions
    assert {name: world.zk.exists(f"{world.base}/{name}").mzxid for name in versions} == znodes


def test_a_pod_whose_account_may_not_register_gets_an_event_and_is_published_once_it_may(
    world: World, start_controller, cluster
):
    start_controller("--require-register-permission", "--resync-period", "1s")
    world.create_pod("a", "echo", ip="172.16.0.1")
    (event,) = eventually(lambda: world.events("RegisterDenied", "a"))
    assert "register" in event.message
    assert world.rpcservices() == {}

    role = ["create", "role", "registrar", "-n", world.namespace, "--verb=register"]
    cluster.kubectl(*role, "--resource=rpcservices.rpcregistry.dev", "--resource-name=echo")
    account = f"--serviceaccount={world.namespace}:default"
    cluster.kubectl("create", "rolebinding", "registrar", "-n", world.namespace, "--role=registrar", account)
    eventually(lambda: world.servers("echo") == ["172.16.0.1"])


def test_verify_tells_drift_from_sync(world: World, controller: Controller, verify):
    world.create_pod("a", "echo", ip="172.16.0.1")
    eventually(lambda: world.servers("echo"))
    assert verify() == (0, [])
    controller.kill()
    world.zk.set(f"{world.base}/echo", b'{"config":[],"servers":[]}')
    world.zk.create(f"{world.base}/other", b"mine")

    code, findings = verify()
    assert code == 1
    assert {(f["path"], f["state"]) for f in findings} == {
        (f"{world.base}/echo", "different"),
        (f"{world.base}/other", "foreign"),
    }


def test_render_shows_offline_what_a_manifest_gives():
    manifest = {
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 2,
            "template": {
                "metadata": {
                    "labels": {"rpc-service": "true"},
                    "annotations": {"rpc-service": '[{"serviceName":"good"},{"serviceName":"b/d"}]'},
                },
                "spec": {},
            },
        },
    }
    rendered = finished("render", "-", said=json.dumps(manifest))

    assert rendered.returncode == 1
    assert '"servers":["192.0.2.1","192.0.2.2"]' in rendered.stdout
    assert "/1/serviceName" in rendered.stderr


@pytest.mark.full
def test_one_pod_is_taken_out_by_hand_and_put_in_again(world: World, controller: Controller):
    for number in (1, 2):
        world.create_pod(f"p{number}", "echo", ip=f"10.0.0.{number}")
    eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2"])
    page = Page("docs/faq.md")
    (out,) = page.commands("How do I take one pod out by hand?")
    (back,) = (code for code in page.code if code.startswith("kubectl label pod POD rpc-service="))

    for line, servers in ((out, ["10.0.0.2"]), (back, ["10.0.0.1", "10.0.0.2"])):
        world.kubectl(*line.replace("POD", "p1").split()[1:], "-n", world.namespace)
        eventually(partial(lambda wanted: world.servers("echo") == wanted, servers))
        assert world.pod("p1")["status"]["phase"] == "Running"
