"""``rpcregistry verify`` against real servers: what it finds, says, and exits with."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hack.local.controller import finished
from tests.cluster.layouts import PORT, flags, serve, shows
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World

Verify = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def look(cluster: Any, world: World) -> Verify:
    """The command as a pipe sees it; without a layout, for that of the test."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return finished(
            "verify",
            *arguments,
            kubeconfig=cluster.kubeconfig,
            zk_servers=cluster.zk_servers,
            cluster_id=f"test-{world.namespace}",
            namespace="" if "--namespace" in arguments else world.namespace,
            layout="" if "--layout" in arguments else f"kube2zk={world.base}",
        )

    return run


def findings(looked: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """State, layout and path of each line."""
    return [line.split("\t")[:3] for line in looked.stdout.splitlines() if "\t" in line]


def test_a_service_whose_rpcservice_is_refused_is_found(world: World, start_controller, look: Verify):
    start_controller()
    world.create_pod("a", "first", ip="10.0.0.1")
    eventually(lambda: world.servers("first"))
    assert look().returncode == 0
    quota = {"metadata": {"name": "one"}, "spec": {"hard": {"count/rpcservices.rpcregistry.dev": "1"}}}
    world.core.create_namespaced_resource_quota(world.namespace, quota)
    eventually(lambda: world.core.read_namespaced_resource_quota("one", world.namespace).status.hard)
    world.create_pod("b", "first", "second", ip="10.0.0.2")
    eventually(lambda: world.servers("first") == ["10.0.0.1", "10.0.0.2"])

    looked = look()
    assert (looked.returncode, findings(looked)) == (
        1,
        [["not listed", "-", f"{world.namespace}/second/b"]],
    )
    said = looked.stderr.splitlines()
    assert said[0].startswith(f"cluster test-{world.namespace} (context ")
    assert said[0].endswith(f"layouts kube2zk={world.base}, namespace {world.namespace}")
    assert said[-1] == "drift: 1 not listed (looked at 2 services, 1 znode, 2 pods)"

    quota["spec"]["hard"]["count/rpcservices.rpcregistry.dev"] = "0"
    world.core.patch_namespaced_resource_quota("one", world.namespace, quota)
    world.delete_rpcservice("first")
    eventually(lambda: world.events("RpcServiceRefused", "a"))
    looked = look()
    assert [state for state, *_ in findings(looked)] == ["not listed"] * 3
    assert world.servers("first") == ["10.0.0.1", "10.0.0.2"]


def test_what_is_held_is_no_drift(world: World, start_controller, look: Verify):
    controller: Controller = start_controller("--guard-confirm", "1h")
    for number in range(4):
        world.create_pod(f"p{number}", "echo", ip=f"10.0.0.{number}")
    eventually(lambda: len(world.servers("echo") or ()) == 4)
    controller.stop()
    for number in range(2):
        world.delete_pod(f"p{number}")
    missing = [["listed but gone", "-", f"{world.namespace}/echo/p{number}"] for number in range(2)]
    looked = look()
    assert (looked.returncode, findings(looked)) == (1, missing)

    controller.start()
    eventually(lambda: world.synced("echo") == ("False", "Held"))
    looked = look()
    assert (looked.returncode, findings(looked)) == (0, [["held", *rest] for _, *rest in missing])


def test_what_is_held_without_an_rpcservice_is_no_drift(world: World, start_controller, look: Verify):
    start_controller("--guard-confirm", "1h", leader_elect=True)
    world.apply_rpcservice("echo", selector={"matchLabels": {"app": "x"}})
    for number in (1, 2):
        world.create_pod(f"p{number}", ip=f"10.0.0.{number}", labels={"app": "x"})
    eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2"])
    eventually(lambda: world.zk.exists(f"/rpcregistry/heartbeat/test-{world.namespace}"))
    world.delete_rpcservice("echo")
    lease = ["lease", "rpcregistry", "-n", world.namespace]
    eventually(lambda: "rpcregistry.dev/held" in world.kubectl("get", *lease, "-o", "yaml"))

    looked = look()
    assert (looked.returncode, findings(looked)) == (0, [["held", "kube2zk", f"{world.base}/echo"]])


def test_findings_are_whole_in_a_pipe_and_in_json(world: World, start_controller, look: Verify):
    layouts = flags(world, "kube2zk", "dubbo")
    controller: Controller = start_controller(*layouts)
    serve(world, "a", "10.0.0.1", metadata={"long": "x" * 200})
    eventually(lambda: shows(world, "dubbo", "10.0.0.1") and world.get(f"{world.base}/kube2zk/echo"))
    controller.stop()
    directory = f"{world.base}/dubbo/echo/providers"
    (child,) = world.zk.get_children(directory)
    world.zk.delete(f"{directory}/{child}")

    looked = look(*layouts)
    assert (looked.returncode, findings(looked)) == (1, [["missing", "dubbo", f"{directory}/{child}"]])
    assert len(child) > 300
    printed = json.loads(look(*layouts, "--output", "json").stdout)
    assert [finding["path"] for finding in printed["findings"]] == [f"{directory}/{child}"]
    assert (printed["counts"], printed["namespaces"]) == (
        {"services": 1, "znodes": 1, "pods": 1},
        [world.namespace],
    )


def test_what_no_layout_covers_is_left_while_it_is_there(world: World, start_controller, look: Verify):
    controller: Controller = start_controller()
    world.create_pod("stays", "stays", ip="10.0.0.1")
    world.create_pod("goes", "goes", ip="10.0.0.2")
    eventually(lambda: world.servers("stays") and world.servers("goes"))
    world.delete_pod("goes")
    eventually(lambda: world.servers("goes") is None)
    controller.stop()

    looked = look("--layout", f"kube2zk={world.base}-new", "--exit-on", "left")
    assert [line for line in findings(looked) if line[0] == "left"] == [
        ["left", "kube2zk", f"{world.base}/stays"]
    ]
    assert looked.returncode == 1


def test_flags_that_differ_from_the_controllers_are_reported(world: World, start_controller, look: Verify):
    assert "no controller keeps this registry up: ZooKeeper has no heartbeat" in look().stderr
    layouts = ["--layout", f"kube2zk={world.base}", "--layout", f"dubbo={world.base}-dubbo"]
    selector = ["--pod-label-selector", "rpc-service=true"]
    controller: Controller = start_controller(*layouts, *selector, leader_elect=True)
    eventually(lambda: world.zk.exists(f"/rpcregistry/heartbeat/test-{world.namespace}"))

    looked = look()
    _, kept, *others = looked.stderr.splitlines()
    assert kept.startswith("the last heartbeat of ")
    assert f"(Lease {world.namespace}/rpcregistry) is of 20" in kept
    assert looked.stdout.startswith("nothing to compare: ")
    assert others == [
        f"--layout is kube2zk={world.base} here, "
        f"and dubbo={world.base}-dubbo kube2zk={world.base} in the controllers",
        "--pod-label-selector is not set here, and rpc-service=true in the controllers",
    ]
    assert len(look(*layouts, *selector).stderr.splitlines()) == 2
    assert controller.stop() == 0
    assert "no controller keeps this registry up: the last one stopped at 20" in look().stderr


def test_nothing_at_all_is_said_aloud(world: World, look: Verify):
    looked = look()

    assert looked.returncode == 0
    nothing = "nothing to compare: no pod names a service, and there is no RpcService, in namespace"
    assert looked.stdout.startswith(f"{nothing} {world.namespace}; cluster test-{world.namespace} (context ")


def test_a_namespace_that_does_not_exist_is_no_place_to_look(look: Verify):
    looked = look("--namespace", "nosuch")

    assert (looked.returncode, looked.stdout) == (2, "")
    assert looked.stderr.splitlines()[-1] == (
        "rpcregistry: cannot look: --namespace: there is no namespace 'nosuch'"
    )


def test_who_may_not_list_pods_could_not_look(cluster: Any, world: World, look: Verify, tmp_path: Path):
    account = f"--serviceaccount={world.namespace}:reader"
    within = ("-n", world.namespace)
    cluster.kubectl("create", "serviceaccount", "reader", *within)
    cluster.kubectl(
        "create", "role", "reader", *within, "--verb=list", "--resource=rpcservices.rpcregistry.dev"
    )
    cluster.kubectl("create", "rolebinding", "reader", *within, "--role=reader", account)
    token = cluster.kubectl("create", "token", "reader", *within).strip()
    kubeconfig = cluster.kubeconfig_for(token, tmp_path / "reader")

    looked = look("--kubeconfig", str(kubeconfig))
    assert (looked.returncode, looked.stdout) == (2, "")
    assert 'cannot list resource "pods"' in looked.stderr

    cluster.kubectl("create", "role", "pods", *within, "--verb=list", "--resource=pods")
    cluster.kubectl("create", "rolebinding", "pods", *within, "--role=pods", account)
    eventually(lambda: look("--kubeconfig", str(kubeconfig)).returncode == 0)


def test_pods_that_may_not_register_are_not_missed(world: World, start_controller, look: Verify):
    start_controller("--require-register-permission")
    world.create_pod("a", {"serviceName": "echo", "port": PORT}, ip="10.0.0.1")
    eventually(lambda: world.events("RegisterDenied", "a"))

    assert findings(look()) == [["not listed", "-", f"{world.namespace}/echo/a"]]
    looked = look("--require-register-permission")
    assert (looked.returncode, findings(looked)) == (0, [])
