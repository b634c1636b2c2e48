"""An API server that takes long to answer, or has much to do for others."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import urllib3

from hack.local.cluster import ADMIN_TOKEN
from hack.local.http_proxy import HttpProxy
from hack.local.webhook import Webhook
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.cluster import FaultProxy
from tests.faults.harness.ground import Ground
from tests.faults.harness.stand import Stand
from tests.faults.test_leadership import LEASE, holder, leases

SLOW = 4.0  # seconds
FEW_SEATS = ("--max-requests-inflight=20", "--max-mutating-requests-inflight=10")
CLIENTS = 120
HOOK = "holds-seats"


def renewed(world: World) -> object:
    return leases(world).read_namespaced_lease(LEASE, world.namespace).spec.renew_time


def is_renewed_since(world: World, before: object) -> bool:
    return renewed(world) != before


def renewals(world: World, count: int) -> None:
    """Wait for so many renewals."""
    for _ in range(count):
        before = renewed(world)
        eventually(partial(is_renewed_since, world, before), timeout=30)


@pytest.mark.deep
@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(False, id="on a connection that is there"),
        pytest.param(True, id="on a new connection"),
    ],
)
def test_a_leader_keeps_its_lease_while_each_answer_takes_four_seconds(
    world: World, api: HttpProxy, through_api, start_controller, cut: bool
):
    leader = start_controller(kubeconfig=through_api)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ["10.0.0.1"])
    before = holder(world)
    renewals(world, 1)
    api.latency = SLOW
    if cut:
        api.cut_all()
    renewals(world, 3)
    assert holder(world) == before
    assert len(leader.lives) == 1
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2"], timeout=60)
    assert len(leader.lives) == 1
    api.reset()
    renewals(world, 2)  # the answer that is under way keeps a release waiting


@pytest.mark.deep
def test_a_process_starts_while_each_connection_takes_four_seconds(
    world: World, api: HttpProxy, through_api, start_controller
):
    api.latency = SLOW
    world.create_pod("a", "echo", ip="10.0.0.1")
    leader = start_controller(kubeconfig=through_api, wait=False)
    eventually(lambda: world.servers("echo") == ["10.0.0.1"], timeout=90)
    assert len(leader.lives) == 1
    api.reset()
    renewals(world, 2)


@pytest.mark.deep
def test_a_watch_of_a_server_that_lost_its_etcd_is_left_for_another_server(
    ground: Ground, stand: Stand, world: World, start_controller
):
    """Both are behind one load balancer, and connections stay where they are."""
    faults = ground.cluster.faults
    right = ground.cluster.server.removeprefix("https://")
    with (
        FaultProxy(ground.cluster.etcd, faults) as etcd,
        ground.cluster.another_apiserver(etcd.address) as stale,
        FaultProxy(stale.removeprefix("https://"), faults) as balancer,
    ):
        leader = start_controller(kubeconfig=stand.kubeconfig(f"https://{balancer.address}"))
        for number in range(1, 4):
            world.create_pod(f"p{number}", "echo", ip=f"10.0.0.{number}")
        eventually(lambda: len(world.servers("echo") or ()) == 3)
        balancer.lead(right)
        etcd.blackhole()
        world.delete_pod("p1")
        eventually(lambda: world.servers("echo") == ["10.0.0.2", "10.0.0.3"], timeout=80)
        assert len(leader.lives) == 1
        assert leader.stop() == 0


@contextmanager
def flooded(ground: Ground, namespace: str) -> Iterator[None]:
    """Many users, none of them ours, ask at once for what takes long: each keeps a seat for 5 s."""
    pool = urllib3.PoolManager(maxsize=CLIENTS, ca_certs=str(ground.cluster.ca_file), retries=False)
    over = threading.Event()

    def ask(number: int) -> None:
        while not over.is_set():
            api_request(ground, pool, f"flood-{number}", namespace, method="POST")

    with Webhook(ground.cluster.directory / "pki", seconds=5.0) as webhook:
        manifest = webhook.manifest(HOOK, namespace, ["configmaps"])
        ground.cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))
        threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            ground.cluster.kubectl("delete", "validatingwebhookconfiguration", HOOK)
    for thread in threads:
        thread.join(60)


def api_request(
    ground: Ground, pool: urllib3.PoolManager, name: str, namespace: str, method: str = "GET"
) -> int:
    """What a ServiceAccount is answered that makes a ConfigMap, as a trial, or reads all; 0: no answer."""
    headers = urllib3.HTTPHeaderDict({"Authorization": f"Bearer {ADMIN_TOKEN}"})
    headers["Impersonate-User"] = f"system:serviceaccount:{namespace}:{name}"
    for group in ("system:serviceaccounts", "system:authenticated"):
        headers.add("Impersonate-Group", group)
    url = f"{ground.cluster.server}/api/v1/namespaces/{namespace}/configmaps?dryRun=All"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x"}}
    try:
        answer = pool.request(
            method,
            url if method == "POST" else url.partition("?")[0],
            headers=headers,
            body=json.dumps(body) if method == "POST" else None,
            timeout=30.0 if method == "POST" else 5.0,
        )
    except urllib3.exceptions.HTTPError:
        return 0
    return answer.status


def allow_everybody(ground: Ground, namespace: str) -> None:
    """Let all ServiceAccounts write there."""
    command = ("create", "rolebinding", "flood", "--clusterrole=edit", "--group=system:serviceaccounts")
    ground.cluster.kubectl(*command, "-n", namespace)


@pytest.mark.deep
@pytest.mark.parametrize("protected", [True, False], ids=["with the manifests", "without seats of its own"])
def test_the_load_of_others_costs_no_lease(tmp_path: Path, protected: bool):
    with Ground(tmp_path / "ground", apiserver_flags=FEW_SEATS) as ground:
        for name in ("ours", "theirs"):
            ground.make_namespace(name)
        allow_everybody(ground, "theirs")
        if not protected:
            for each in ("flowschema/rpcregistry", "flowschema/rpcregistry-lease"):
                ground.cluster.kubectl("delete", each)
        with Stand(ground, ["ours"], tmp_path) as stand:
            world = stand.world()
            leader = stand.start()
            world.create_pod("a", "echo", ip="10.0.0.1")
            eventually(lambda: world.servers("echo") == ["10.0.0.1"], timeout=60)
            before = holder(world)
            pool = urllib3.PoolManager(ca_certs=str(ground.cluster.ca_file), retries=False)
            with stand.fault("apiserver"), flooded(ground, "theirs"):
                # Another ServiceAccount feels it.
                eventually(lambda: api_request(ground, pool, "bystander", "theirs") != 200, timeout=60)
                if protected:
                    renewals(world, 20)
                    world.create_pod("b", "echo", ip="10.0.0.2")
                    eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2"])
                    assert (holder(world), len(leader.lives)) == (before, 1)
                else:
                    eventually(
                        lambda: len(leader.lives) > 1 or "cannot be renewed" in leader.text(), timeout=120
                    )
