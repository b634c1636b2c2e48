"""A live registry is cut off by nobody: who would write to it looks for other controllers first."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kubernetes.client import CoordinationV1Api, EventsV1Api

from hack.local.cluster import LocalCluster
from hack.local.http_proxy import HttpProxy, is_of, unanswered
from tests.cluster.waiting import eventually
from tests.cluster.world import Recorder, World
from tests.faults.harness.kubelet import Replica

LEASE = "rpcregistry"
ONE = ["10.0.0.1"]
LONG = 60.0  # a Lease is free after 15 s, and a heartbeat is still for 25 s
LOOK = "watching the heartbeat"
WITHDRAWN = "what was published is purged, while its pods are Ready"
NOBODY = "no controller leads, and there is no pod"
BY_OTHERS = ("I1", "I2", "I3", "I4", "I5", "I6", "I8", "I10")  # judged by what a leader does
PURGED = pytest.mark.allows(
    I1=WITHDRAWN, I2=WITHDRAWN, I10=WITHDRAWN, I6="the purge is no process of the stand's"
)


def heartbeat(world: World) -> dict[str, Any]:
    return dict(json.loads(world.get(f"/rpcregistry/heartbeat/{world.cluster_id}")))


def fence(world: World) -> int:
    return int(world.zk.get(f"/rpcregistry/fence/{world.cluster_id}")[1].version)


def lease(world: World, namespace: str | None = None) -> Any:
    return CoordinationV1Api(world.api).read_namespaced_lease(LEASE, namespace or world.namespace)


def audited(world: World, reason: str, namespace: str | None = None) -> list[str]:
    """The notes of the Events of a reason on the Lease."""
    found = EventsV1Api(world.api).list_namespaced_event(namespace or world.namespace).items
    return [str(e.note) for e in found if e.reason == reason and e.regarding.kind == "Lease"]


def logged(controller: Replica) -> list[str]:
    return [line["event"] for line in controller.logged()]


def command(
    cluster: LocalCluster, world: World, *arguments: str, kubeconfig: Path | None = None
) -> "subprocess.Popen[str]":
    """A command of this cluster id, running."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "rpcregistry", *arguments,
            "--kubeconfig", str(kubeconfig or cluster.kubeconfig), "--zk-servers", world.zk_servers,
            "--cluster-id", world.cluster_id,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit code, output and complaints."""
    out, err = process.communicate(timeout=90)
    return process.returncode, out, err


@pytest.fixture
def published(world: World, start_controller: Callable[..., Replica]) -> Replica:
    """A controller with default flags, which publishes one pod."""
    controller = start_controller()
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)
    eventually(lambda: heartbeat(world)["holder"])
    return controller


def test_nobody_cuts_off_a_controller_that_lives(
    cluster: LocalCluster,
    world: World,
    published: Replica,
    start_controller: Callable[..., Replica],
    other_namespace: str,
    zk: KazooClient,
):
    """Neither one with another Lease, nor one without any, nor a purge; the one that lives never stops."""
    seen, before = Recorder(zk, f"{world.base}/echo"), fence(world)
    holder = heartbeat(world)["holder"]
    # A person started them, and nobody starts them again.
    by_hand = {"lease_namespace": other_namespace, "restarts": False, "wait": False}
    elsewhere = start_controller(**by_hand)
    unelected = start_controller(**by_hand, leader_elect=False)
    purges = [
        command(cluster, world, "purge", "--yes", *where)
        for where in ([], ["--lease-namespace", other_namespace])
    ]

    for other in (elsewhere, unelected):
        assert other.wait(LONG) == 1
        assert "leading" not in logged(other)
        assert logged(other).count(LOOK) == 1
        (said,) = [line["reason"] for line in other.logged() if line["event"] == "not leading"]
        assert f"{holder} (Lease {world.namespace}/{LEASE}) keeps up the registry" in said
    for purge in purges:
        code, out, err = ended(purge)
        assert (code, "1 services (kube2zk 1)" in out) == (1, True)
        assert f"{holder} holds the Lease {world.namespace}/{LEASE}: stop the controllers first" in err
    assert any(holder in note for note in audited(world, "NotLeading", other_namespace))
    assert (published.running, fence(world), seen.states) == (True, before, [ONE])
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, "10.0.0.2"])


def test_without_a_lease_namespace_it_follows_the_leader_that_the_heartbeat_names(
    cluster: LocalCluster, world: World, published: Replica
):
    """As from a laptop: its kubeconfig's namespace says nothing."""
    scope = ["--namespace", world.namespace, "--layout", f"kube2zk={world.base}"]
    process = command(cluster, world, "run", *scope, "--bind-address", "127.0.0.1:0")
    try:
        eventually(lambda: "following" in (process.stderr.readline() if process.stderr else ""))
    finally:
        process.terminate()
        ended(process)
    assert published.running
    assert lease(world).metadata.annotations["rpcregistry.dev/cluster-id"] == world.cluster_id
    assert lease(world).metadata.annotations["rpcregistry.dev/zookeeper"] == world.zk_servers


@PURGED
def test_a_rolling_update_and_a_scale_to_0_before_a_purge_look_for_nothing(
    cluster: LocalCluster, world: World, published: Replica, start_controller: Callable[..., Replica]
):
    second = start_controller(wait=False)
    eventually(lambda: "following" in logged(second))
    assert published.stop() == 0
    eventually(second.leads)
    assert second.stop() == 0
    assert heartbeat(world)["stopped"] is True
    third = start_controller()
    assert third.stop() == 0

    code, out, err = ended(command(cluster, world, "purge", "--yes", "--lease-namespace", world.namespace))
    assert (code, err) == (0, "")
    assert world.zk_servers in out.splitlines()[0]
    assert world.cluster_id in out.splitlines()[0]
    assert world.servers("echo") is None
    for controller in (second, third):
        events = logged(controller)
        assert LOOK not in events
        assert events.index("holding the Lease") < events.index("leading")
    (note,) = audited(world, "Purged")
    assert note in out
    assert "1 services (kube2zk 1)" in note


@pytest.mark.full
def test_a_failover_after_a_sigkill_looks_for_nothing_and_says_that_it_took_over(
    world: World, published: Replica, start_controller: Callable[..., Replica]
):
    second = start_controller(wait=False)
    eventually(lambda: "following" in logged(second))
    holder = heartbeat(world)["holder"]
    published.kill()
    eventually(second.leads, LONG)

    assert LOOK not in logged(second)
    (note,) = eventually(lambda: audited(world, "TookOver"))
    assert f"took over from {holder} (Lease {world.namespace}/{LEASE})" in note
    assert "1 services" in note


@pytest.mark.full
def test_what_a_killed_controller_left_is_watched_and_then_taken_over_or_purged(
    cluster: LocalCluster,
    world: World,
    published: Replica,
    start_controller: Callable[..., Replica],
    other_namespace: str,
):
    published.kill()
    held = world.servers("echo")
    purge = command(cluster, world, "purge")  # only shows
    elsewhere = start_controller("--lease-namespace", other_namespace, "--leader-elect", wait=False)
    eventually(lambda: LOOK in logged(elsewhere))
    assert world.servers("echo") == held
    eventually(elsewhere.leads, LONG)
    events = logged(elsewhere)
    assert events.index(LOOK) < events.index("leading")
    code, _, err = ended(purge)
    # It was still watching as the new one began to beat, or had found nobody before.
    assert (code, "stop the controllers first" in err) in ((1, True), (0, False))
    assert "watching for 25 s whether a controller lives" in err
    assert world.servers("echo") == held
    (note,) = eventually(lambda: audited(world, "TookOver", other_namespace))
    assert f"(Lease {world.namespace}/{LEASE})" in note


@contextmanager
def beating(zk: KazooClient, world: World, **says: Any) -> Iterator[None]:
    """Somebody who writes the heartbeat every two seconds, and takes no Lease that we see."""
    path = f"/rpcregistry/heartbeat/{world.cluster_id}"
    zk.ensure_path(path)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(2):
            zk.set(path, json.dumps({"at": "2026-11-21T02:02:02Z", "waiting": 0, **says}).encode())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.full
@pytest.mark.allows(**dict.fromkeys(BY_OTHERS, NOBODY))
def test_in_a_copy_of_the_cluster_the_lease_stands_still_and_the_heartbeat_goes_on(
    world: World, zk: KazooClient, start_controller: Callable[..., Replica]
):
    """A cluster that was cloned with its kube-system has the same id, and its Lease has the same holder."""
    spec = {"holderIdentity": "original", "leaseDurationSeconds": 15}
    CoordinationV1Api(world.api).create_namespaced_lease(
        world.namespace, {"metadata": {"name": LEASE}, "spec": spec}
    )
    with beating(zk, world, lease=f"{world.namespace}/{LEASE}", holder="original"):
        copy = start_controller(wait=False)
        assert copy.wait(LONG) == 1
        assert "leading" not in logged(copy)
        assert copy.wait(LONG) == 1
        assert "leading" not in logged(copy)
    assert zk.exists(f"/rpcregistry/fence/{world.cluster_id}") is None


@pytest.mark.full
def test_beside_an_older_version_a_new_one_leads_as_before_and_a_purge_is_refused(
    cluster: LocalCluster, world: World, zk: KazooClient, start_controller: Callable[..., Replica]
):
    with beating(zk, world):
        purge = command(cluster, world, "purge", "--yes", "--lease-namespace", world.namespace)
        code, _, err = ended(purge)
        assert (code, "its heartbeat goes on: stop the controllers first" in err) == (1, True)
        controller = start_controller()
        assert LOOK not in logged(controller)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ONE)


@pytest.mark.full
@pytest.mark.allows(**dict.fromkeys(BY_OTHERS, NOBODY))
def test_leases_of_other_registries_keep_nobody_from_purging(
    cluster: LocalCluster,
    world: World,
    start_controller: Callable[..., Replica],
    other_namespace: str,
):
    """This cluster in another ZooKeeper, and another part of this cluster in the same one."""
    lead = ["--lease-namespace", other_namespace]
    chroot = ["--zk-servers", f"{world.zk_servers}/another"]
    in_another_zookeeper = start_controller(*lead, *chroot)
    code, out, err = ended(command(cluster, world, "purge", "--yes", "--lease-namespace", world.namespace))
    assert code == 0, out + err
    other = (
        f"the Lease {other_namespace}/{LEASE} is taken for another registry's: it names ZooKeeper {chroot[1]}"
    )
    assert err.splitlines() == [f"rpcregistry: {other}"]
    assert in_another_zookeeper.stop() == 0

    another_part = start_controller(*lead, "--cluster-id", f"part-{world.namespace}")
    code, out, err = ended(command(cluster, world, "purge", "--yes", "--lease-namespace", world.namespace))
    assert (code, err) == (0, ""), out
    assert another_part.running


@pytest.mark.full
def test_who_may_not_list_leases_is_told_so_and_sees_the_heartbeat(
    cluster: LocalCluster, world: World, published: Replica, tmp_path: Path
):
    world.core.create_namespaced_service_account(world.namespace, {"metadata": {"name": "nobody"}})
    token = world.kubectl("-n", world.namespace, "create", "token", "nobody").strip()
    nobody = cluster.kubeconfig_for(token, tmp_path / "nobody")
    code, _, err = ended(command(cluster, world, "purge", "--yes", kubeconfig=nobody))

    assert (code, "stop the controllers first" in err) == (1, True)
    assert "Leases of all namespaces may not be listed (list leases.coordination.k8s.io): none was" in err
    assert published.running


@pytest.mark.full
@PURGED
def test_a_purge_waits_for_a_controller_that_is_told_to_stop(
    cluster: LocalCluster, world: World, published: Replica
):
    purge = command(cluster, world, "purge", "--yes", "--wait", "60s", "--lease-namespace", world.namespace)
    said = eventually(lambda: purge.stderr.readline() if purge.stderr else "", LONG)
    while "waiting for it to stop, up to 60 s" not in said:
        said = purge.stderr.readline()
    assert world.servers("echo") == ONE
    assert published.stop() == 0
    code, out, _ = ended(purge)
    assert (code, "1 services withdrawn" in out) == (0, True)
    assert world.servers("echo") is None


@pytest.mark.full
@pytest.mark.allows(
    **dict.fromkeys((*BY_OTHERS, "I7", "I11"), f"{NOBODY}; the requests are an administrator's")
)
def test_a_namespace_for_the_lease_that_is_not_there_is_said(
    cluster: LocalCluster, world: World, start_controller: Callable[..., Replica]
):
    # With the rights of the example it is told only that it may make none there.
    controller = start_controller(lease_namespace="nosuch", kubeconfig=cluster.kubeconfig, wait=False)
    said = "there is no namespace nosuch for the Lease: kubectl create namespace nosuch, or give another"
    eventually(lambda: said in controller.text())
    assert "leading" not in logged(controller)


@pytest.mark.parametrize(
    "leader_elect", [True, pytest.param(False, id="without a leader election", marks=pytest.mark.full)]
)
def test_a_leader_whose_lists_are_long_in_coming_is_no_less_alive(
    cluster: LocalCluster,
    world: World,
    published: Replica,
    start_controller: Callable[..., Replica],
    api: HttpProxy,
    through_api: Path,
    tmp_path: Path,
    leader_elect: bool,
):
    """A rolling update of a big cluster: the last one has stopped, and the next one reads for a minute."""
    assert published.stop() == 0
    assert heartbeat(world)["stopped"] is True
    forbidden = (403, b'{"kind":"Status","reason":"Forbidden","message":"no","code":403}')
    api.instead = lambda method, path: forbidden if is_of(path, "nodes") else None
    controller = start_controller(kubeconfig=through_api, leader_elect=leader_elect)
    _, port = world.zk_servers.split(":", 1)  # with the chroot
    world.core.create_namespaced_service_account(world.namespace, {"metadata": {"name": "nobody"}})
    token = world.kubectl("-n", world.namespace, "create", "token", "nobody").strip()
    nobody = cluster.kubeconfig_for(token, tmp_path / "nobody")
    purges = [
        command(cluster, world, "purge", "--yes", "--zk-servers", f"localhost:{port}"),
        command(cluster, world, "purge", "--yes", "--lease-namespace", "default"),
        command(cluster, world, "purge", "--yes", kubeconfig=nobody),
    ]

    for purge in purges:
        code, out, err = ended(purge)
        assert (code, "stop the controllers first" in err) == (1, True), out + err
    assert world.servers("echo") == ONE
    assert controller.running
    api.instead = unanswered
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == [*ONE, "10.0.0.2"], LONG)
