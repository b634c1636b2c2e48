"""Two controllers: one writes, the other takes over, and an old leader writes nothing any more."""

import json
import signal

import pytest
from kazoo.client import KazooClient
from kubernetes.client import CoordinationV1Api

from hack.local.proxy import Proxy
from tests.cluster.layouts import ALL, PORT, children, contents, flags, holds, serve
from tests.cluster.waiting import eventually
from tests.cluster.world import Recorder, World
from tests.faults.harness.cluster import FaultProxy
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.stand import Stand

LEASE = "rpcregistry"
ONE, TWO, THREE = ["10.0.0.1"], ["10.0.0.2"], ["10.0.0.3"]
TAKEOVER = 60.0  # seconds, at most: a Lease is free after 15


def follows(controller: Replica) -> bool:
    return any(line["event"] == "following" for line in controller.logged())


def epoch(world: World) -> int:
    """How often the fence was taken over, the first time aside."""
    return int(world.zk.get(f"/rpcregistry/fence/{world.cluster_id}")[1].version)


def leases(world: World) -> CoordinationV1Api:
    return CoordinationV1Api(world.api)


def give_back(world: World) -> None:
    """Write into the Lease that its holder has given it up."""
    spec = {"holderIdentity": None, "leaseDurationSeconds": 1}
    leases(world).patch_namespaced_lease(LEASE, world.namespace, {"spec": spec})


def holder(world: World) -> str | None:
    """Whose the Lease is."""
    return leases(world).read_namespaced_lease(LEASE, world.namespace).spec.holder_identity


def version(world: World) -> str:
    """How the Lease is now."""
    return str(leases(world).read_namespaced_lease(LEASE, world.namespace).metadata.resource_version)


def test_l1_of_two_that_start_together_one_writes(world: World, start_controller):
    both = [start_controller(wait=False), start_controller(wait=False)]
    eventually(lambda: any(controller.leads() for controller in both))
    eventually(lambda: any(follows(controller) for controller in both))
    for number in range(1, 6):
        world.create_pod(f"p{number}", "echo", ip=f"10.0.0.{number}")
    eventually(lambda: len(world.servers("echo") or ()) == 5)

    assert sorted(controller.leads() for controller in both) == [False, True]
    assert epoch(world) == 0
    assert all(controller.running for controller in both)


@pytest.mark.full
def test_l2_a_leader_that_was_paused_for_longer_than_its_lease(
    world: World, start_controller, zk: KazooClient
):
    first = start_controller()
    world.create_pod("a", "echo", ip="10.0.0.1")
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, *TWO])
    second = start_controller(wait=False)
    eventually(lambda: follows(second))

    first.signal(signal.SIGSTOP)
    world.delete_pod("b")
    eventually(lambda: world.servers("echo") == ONE, TAKEOVER)
    assert (second.leads(), epoch(world)) == (True, 1)
    seen = Recorder(zk, f"{world.base}/echo")
    first.signal(signal.SIGCONT)
    assert first.wait() == 1
    world.create_pod("c", "echo", ip="10.0.0.3")
    eventually(lambda: world.servers("echo") == [*ONE, *THREE])
    eventually(lambda: seen.states == [ONE, [*ONE, *THREE]])
    assert epoch(world) == 1


@pytest.mark.full
def test_l2_what_an_old_leader_had_sent_is_refused_by_the_fence(
    stand: Stand, world: World, start_controller, zk: KazooClient, zk_proxy: Proxy
):
    """Its znode is still as it was when it was read: only the fence keeps the write from passing."""
    proxy = stand.api_bytes
    through = stand.kubeconfig(f"https://{proxy.address}")
    first = start_controller(zk=zk_proxy.address, kubeconfig=through)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    right = world.rpcservices()["echo"]["status"]
    second = start_controller("--guard-confirm", "1h", wait=False)
    eventually(lambda: follows(second))
    seen = Recorder(zk, f"{world.base}/echo")

    zk_proxy.blackhole(since=lambda data: b"10.0.0.2" in data)
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: b"10.0.0.2" in zk_proxy.held)
    first.signal(signal.SIGSTOP)
    proxy.close()
    world.delete_pod("b")
    world.custom.patch_namespaced_custom_object_status(
        "rpcregistry.dev", "v1alpha1", world.namespace, "rpcservices", "echo", {"status": right}
    )
    give_back(world)
    eventually(second.leads)
    world.create_pod("c", "other", ip="10.0.0.3")
    eventually(lambda: world.servers("other") == THREE)
    assert seen.states == [ONE]
    zk_proxy.pass_through()
    first.signal(signal.SIGCONT)
    assert first.wait() == 1
    assert "another process took over" in first.text()
    world.create_pod("d", "echo", ip="10.0.0.4")
    eventually(lambda: world.servers("echo") == [*ONE, "10.0.0.4"])
    eventually(lambda: seen.states == [ONE, [*ONE, "10.0.0.4"]])


@pytest.mark.full
def test_l2_what_an_old_leader_had_sent_changes_no_layout_of_the_new_one(
    stand: Stand, world: World, start_controller, zk_proxy: Proxy
):
    """It would pass: what it has sent finds all that it expects, but for the fence."""
    one, two, three = (f"172.16.0.{number}" for number in (1, 2, 3))
    proxy = stand.api_bytes
    through = stand.kubeconfig(f"https://{proxy.address}")
    layouts = flags(world, *ALL)
    first = start_controller(*layouts, zk=zk_proxy.address, kubeconfig=through)
    serve(world, "a", one)
    serve(world, "b", two)
    eventually(lambda: holds(world, one, two))
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    right = world.rpcservices()["echo"]["status"]
    second = start_controller(*layouts, "--guard-confirm", "1h", wait=False)
    eventually(lambda: follows(second))

    zk_proxy.blackhole(since=lambda data: three.encode() in data)
    serve(world, "c", three)
    eventually(lambda: three.encode() in zk_proxy.held)
    first.signal(signal.SIGSTOP)
    proxy.close()
    world.delete_pod("c")
    world.custom.patch_namespaced_custom_object_status(
        "rpcregistry.dev", "v1alpha1", world.namespace, "rpcservices", "echo", {"status": right}
    )
    give_back(world)
    eventually(second.leads)
    world.annotate("a", json.dumps([{"serviceName": "echo", "port": PORT, "weight": 7}]))
    eventually(lambda: "weight%3D7" in str(children(world, "sofa")) and holds(world, one, two))
    after = contents(world)
    zk_proxy.pass_through()
    first.signal(signal.SIGCONT)
    assert first.wait(60) == 1
    assert contents(world) == after
    serve(world, "d", "172.16.0.4")
    eventually(lambda: holds(world, one, two, "172.16.0.4"))
    assert contents(world).items() >= {k: v for k, v in after.items() if "/kube2zk/" not in k}.items()


@pytest.mark.full
def test_l3_a_leader_that_is_killed(world: World, start_controller, zk: KazooClient):
    first = start_controller()
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    second = start_controller(wait=False)
    eventually(lambda: follows(second))
    seen = Recorder(zk, f"{world.base}/echo")

    first.kill()
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, *TWO], TAKEOVER)
    assert second.leads()
    eventually(lambda: seen.states == [ONE, [*ONE, *TWO]])


@pytest.mark.full
@pytest.mark.parametrize("fault", [FaultProxy.blackhole, FaultProxy.close], ids=["silently", "with refusals"])
def test_l4_a_leader_that_loses_the_api_server_only(
    stand: Stand, world: World, start_controller, zk: KazooClient, fault
):
    proxy = stand.api_bytes
    through = stand.kubeconfig(f"https://{proxy.address}")
    first = start_controller(kubeconfig=through)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    second = start_controller(wait=False)
    eventually(lambda: follows(second))
    seen = Recorder(zk, f"{world.base}/echo")

    fault(proxy)
    world.create_pod("b", "echo", ip="10.0.0.2")
    assert first.wait() == 1
    assert not second.leads()
    eventually(lambda: world.servers("echo") == [*ONE, *TWO], TAKEOVER)
    assert second.leads()
    eventually(lambda: seen.states == [ONE, [*ONE, *TWO]])


@pytest.mark.full
def test_l6_a_lease_that_is_deleted_by_hand_is_made_again(world: World, start_controller):
    leader = start_controller()
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    before = holder(world)

    leases(world).delete_namespaced_lease(LEASE, world.namespace)
    (made,) = eventually(lambda: leases(world).list_namespaced_lease(world.namespace).items)
    assert made.metadata.annotations["rpcregistry.dev/cluster-id"] == world.cluster_id
    assert holder(world) == before
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, *TWO])
    assert leader.running
    assert epoch(world) == 0


@pytest.mark.full
@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"renewTime": None, "acquireTime": None}, id="without times"),
        pytest.param({"renewTime": "2999-01-01T00:00:00.000000Z"}, id="renewed in the future"),
    ],
)
def test_l6_times_in_the_lease_mean_nothing(world: World, start_controller, spec):
    leader = start_controller()
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    before = holder(world)
    leases(world).patch_namespaced_lease(LEASE, world.namespace, {"spec": spec})
    edited = version(world)

    eventually(
        lambda: (
            leases(world).read_namespaced_lease(LEASE, world.namespace).metadata.resource_version != edited
        )
    )
    assert holder(world) == before
    assert leader.running


@pytest.mark.full
def test_l6_a_lease_that_a_person_gives_to_somebody_else(world: World, start_controller):
    first = start_controller(restarts=False)  # else it might be the next one to lead
    second = start_controller(wait=False)
    eventually(lambda: follows(second))

    leases(world).patch_namespaced_lease(LEASE, world.namespace, {"spec": {"holderIdentity": "somebody"}})
    assert first.wait() == 1
    assert not second.leads()
    eventually(second.leads, TAKEOVER)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)


def test_l9_a_leader_that_is_told_to_stop_gives_the_lease_back(
    world: World, start_controller, zk: KazooClient
):
    first = start_controller()
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    seen = Recorder(zk, f"{world.base}/echo")

    assert first.stop() == 0
    assert not holder(world)
    second = start_controller(wait=False)
    eventually(second.leads, timeout=10)  # a Lease that is not given back is free after 15 s
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, *TWO])
    eventually(lambda: seen.states == [ONE, [*ONE, *TWO]])
    assert epoch(world) == 1
