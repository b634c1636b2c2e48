"""What users of kube2zk rely on, and each of its failures (K1 to K21), on the real cluster.

The numbers are those of the list of kube2zk's failures; `world` is a namespace with a base path of its
own, `controller` the public command, running.
"""

import json
import signal

import pytest
from kazoo.client import KazooClient

from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, Recorder, World

DEFAULT = (
    '{"config":["zone kg 8M","kg_round_robin broken_tries=2 health_checks=5 max_uri_slots=0","keepalive 32"],'
    '"servers":["172.16.0.251","172.16.1.46"]}'
)


def test_the_znode_has_kube2zks_bytes_and_is_persistent(world: World, controller: Controller):
    world.create_pod("a", {"serviceName": "echo", "version": "v0"}, ip="172.16.1.46")
    world.create_pod("b", {"serviceName": "echo", "version": "v0"}, ip="172.16.0.251")

    eventually(lambda: world.data("echo") == DEFAULT)
    stat = world.zk.exists(f"{world.base}/echo")
    assert (stat.ephemeralOwner, stat.numChildren) == (0, 0)


def test_k1_a_slash_in_a_service_name_costs_that_entry_only(world: World, controller: Controller):
    world.create_pod("a", "a/b", "good", ip="172.16.0.1")

    eventually(lambda: world.servers("good") == ["172.16.0.1"])
    eventually(lambda: world.events("InvalidAnnotation", "a"))
    assert world.rpcservices().keys() == {"good"}


def test_k2_k3_a_base_path_that_is_missing_is_made_with_its_parents(world: World, start_controller):
    start_controller("--layout", f"kube2zk={world.base}/deep/er")
    world.create_pod("a", "echo", ip="172.16.0.1")

    eventually(lambda: world.zk.exists(f"{world.base}/deep/er/echo"))


def test_k4_a_base_path_without_a_slash_is_refused_in_one_line(world: World, start_controller, tmp_path):
    refused = start_controller("--layout", "kube2zk=rpc_v2", wait=False)

    assert refused.wait() == 2
    assert "'/rpc_v2'" in refused.text()


def test_k5_pods_without_an_address_are_not_published(world: World, start_controller):
    start_controller("--resync-period", "1s", "--compare-period", "1s")
    world.create_pod("a", "echo")
    world.create_pod("b", "echo", ip="10.0.0.7")
    eventually(lambda: world.servers("echo") == ["10.0.0.7"])

    world.delete_pod("b")
    eventually(lambda: world.data("echo") is None)


def test_k6_a_pod_deleted_while_the_controller_was_down_is_withdrawn(world: World, start_controller):
    controller = start_controller("--guard-confirm", "1s")
    for number in range(1, 7):
        world.create_pod(f"p{number}", "echo", ip=f"172.16.0.{number}")
    eventually(lambda: len(world.servers("echo") or ()) == 6)
    controller.stop()
    world.delete_pod("p1")

    controller.start()
    eventually(lambda: world.servers("echo") == [f"172.16.0.{n}" for n in range(2, 7)])


def test_k8_a_pod_whose_address_changes_leaves_no_old_one(world: World, controller: Controller):
    world.create_pod("a", "echo", ip="172.16.0.1")
    eventually(lambda: world.servers("echo") == ["172.16.0.1"])

    world.set_status("a", "172.16.0.2")
    eventually(lambda: world.servers("echo") == ["172.16.0.2"])


def test_k9_an_annotation_that_moves_from_one_service_to_another(world: World, controller: Controller):
    world.create_pod("a", "first", ip="172.16.0.1")
    eventually(lambda: world.servers("first") == ["172.16.0.1"])

    world.annotate("a", json.dumps([{"serviceName": "second"}]))
    eventually(lambda: world.servers("second") == ["172.16.0.1"])
    eventually(lambda: world.data("first") is None)


def test_k10_a_pod_recreated_under_its_name_while_nobody_looked(world: World, start_controller):
    controller = start_controller()
    world.create_pod("a", "echo", ip="172.16.0.1")
    world.create_pod("b", "echo", ip="172.16.0.2")
    eventually(lambda: world.servers("echo") == ["172.16.0.1", "172.16.0.2"])
    controller.signal(signal.SIGSTOP)
    world.delete_pod("a")
    world.create_pod("a", "echo", ip="172.16.0.3")

    controller.signal(signal.SIGCONT)
    eventually(lambda: world.servers("echo") == ["172.16.0.2", "172.16.0.3"])


def test_k11_two_pods_with_one_address(world: World, controller: Controller):
    world.create_pod("a", "echo", ip="10.1.0.1", hostNetwork=True)
    world.create_pod("b", "echo", ip="10.1.0.1", hostNetwork=True)
    eventually(lambda: world.listed("echo") == ["10.1.0.1", "10.1.0.1"])
    eventually(lambda: world.servers("echo") == ["10.1.0.1"])

    world.delete_pod("a")
    eventually(lambda: world.listed("echo") == ["10.1.0.1"])
    assert world.servers("echo") == ["10.1.0.1"]


def test_k13_a_znode_that_another_writer_made_is_still_written(world: World, controller: Controller):
    world.zk.ensure_path(world.base)
    world.zk.create(f"{world.base}/echo", b'{"config":["mine"],"servers":["9.9.9.9"]}')
    world.create_pod("a", "echo", ip="172.16.0.1")

    eventually(lambda: world.data("echo") == '{"config":["mine"],"servers":["172.16.0.1"]}')


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            b'{"config":["a"],"servers":[],"zone":{"b":1}}', '"zone":{"b":1}', id="other keys are kept"
        ),
        pytest.param(b'{"servers":["9.9.9.9"]}', '"keepalive 32"', id="a missing config becomes the default"),
        pytest.param(b"", '"keepalive 32"', id="an empty znode is filled"),
    ],
)
def test_k14_what_else_a_znode_held(world: World, controller: Controller, before: bytes, after: str):
    world.zk.ensure_path(world.base)
    world.zk.create(f"{world.base}/echo", before)
    world.create_pod("a", "echo", ip="172.16.0.1")

    eventually(lambda: world.servers("echo") == ["172.16.0.1"])
    assert after in (world.data("echo") or "")


def test_k15_a_znode_with_a_child_keeps_no_dead_address(world: World, controller: Controller):
    world.create_pod("a", "echo", ip="172.16.0.1")
    eventually(lambda: world.servers("echo") == ["172.16.0.1"])
    world.zk.create(f"{world.base}/echo/lock", b"")

    world.delete_pod("a")
    eventually(lambda: world.servers("echo") == [])


@pytest.mark.parametrize("name", ["../esc", "a b", "ünï", "zookeeper", ".", "..", "a\n", "", "x" * 254])
def test_k16_k17_names_that_are_no_path_segment(world: World, controller: Controller, name: str):
    world.create_pod("a", name, "good", ip="172.16.0.1")

    eventually(lambda: world.servers("good") == ["172.16.0.1"])
    eventually(lambda: world.events("InvalidAnnotation", "a"))
    assert world.zk.get_children(world.base) == ["good"]


@pytest.mark.parametrize(
    ("status", "published"),
    [
        pytest.param({"ready": False}, False, id="not ready"),
        pytest.param({"ready": True, "phase": "Failed"}, False, id="failed"),
        pytest.param({"ready": True, "phase": "Succeeded"}, False, id="succeeded"),
        pytest.param({"ready": True}, True, id="ready"),
    ],
)
def test_k19_only_pods_that_can_answer_are_published(world: World, controller: Controller, status, published):
    world.create_pod("other", "echo", ip="172.16.0.9")
    world.create_pod("a", "echo", ip="172.16.0.1")
    eventually(lambda: world.servers("echo") == ["172.16.0.1", "172.16.0.9"])

    world.set_status("a", "172.16.0.1", **status)
    eventually(lambda: ("172.16.0.1" in (world.servers("echo") or ())) is published)


def test_k19_a_terminating_pod_is_withdrawn_while_it_still_runs(world: World, controller: Controller):
    world.create_pod("other", "echo", ip="172.16.0.9")
    world.create_pod("a", "echo", ip="172.16.0.1")
    eventually(lambda: world.servers("echo") == ["172.16.0.1", "172.16.0.9"])

    world.core.delete_namespaced_pod("a", world.namespace, grace_period_seconds=300)
    eventually(lambda: world.servers("echo") == ["172.16.0.9"])
    assert world.core.read_namespaced_pod("a", world.namespace).metadata.deletion_timestamp
    world.delete_pod("a")


def test_k20_one_bad_entry_drops_only_itself_and_the_pod_is_not_logged(world: World, controller: Controller):
    world.create_pod("a", {"serviceName": "good"}, {"serviceName": "bad", "port": 70000}, ip="172.16.0.1")

    eventually(lambda: world.servers("good") == ["172.16.0.1"])
    (event,) = eventually(lambda: world.events("InvalidAnnotation", "a"))
    assert "/1/port" in event.message
    assert world.data("bad") is None
    assert not any("containers" in json.dumps(line) for line in controller.logged())


def test_k21_of_two_replicas_one_writes_and_the_other_takes_over(
    world: World, start_controller, zk: KazooClient
):
    first = start_controller(leader_elect=True)
    world.create_pod("a", "echo", ip="172.16.0.1")
    eventually(lambda: world.servers("echo") == ["172.16.0.1"])
    second = start_controller(leader_elect=True, wait=False)
    seen = Recorder(zk, f"{world.base}/echo")

    assert first.stop() == 0
    world.create_pod("b", "echo", ip="172.16.0.2")

    eventually(lambda: world.servers("echo") == ["172.16.0.1", "172.16.0.2"])
    assert seen.smallest() == 1
    assert second.running
