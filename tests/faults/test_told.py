"""What goes wrong is told where people look, with default flags, in the words of who refused it."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes.client import EventsV1Api

from hack.local.cluster import LocalCluster
from hack.local.controller import finished
from hack.local.http_proxy import Answer, HttpProxy, error_event, is_list, is_of, is_watch
from hack.local.proxy import Proxy
from hack.local.zookeeper import Server
from tests.cluster.test_refusals import mutate, trial
from tests.cluster.waiting import TO_START, eventually
from tests.cluster.world import World
from tests.faults.harness.ground import CRDS, Ground
from tests.faults.harness.kubelet import Replica, ask
from tests.faults.harness.stand import Servers, Stand
from tests.faults.test_refused import COUNT, allow

__all__ = ["mutate"]

LATE = 60.0  # seconds: what is refused is told after ten
BACKOFF = 90.0  # what was refused is tried again each minute
HEARTBEATS = "/rpcregistry/heartbeat"
WITHIN = "a change has waited for ZooKeeper for more than 10 s"


def address(number: int) -> str:
    return f"10.0.0.{number}"


def serve(world: World, *numbers: int, service: str = "echo") -> None:
    for number in numbers:
        world.create_pod(f"p{number}", service, ip=address(number))


def said(world: World, name: str = "echo") -> str:
    """The message of an RpcService's Synced condition, where that is False."""
    conditions = world.rpcservices().get(name, {}).get("status", {}).get("conditions", [])
    synced = [c for c in conditions if (c["type"], c["status"]) == ("Synced", "False")]
    return synced[0]["message"] if synced else ""


def lines(replica: Replica, event: str) -> list[str]:
    """The reasons of its log lines about something."""
    return [line.get("reason", "") for line in replica.logged() if line["event"] == event]


# ZooKeeper refuses


@pytest.fixture
def refusing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A ZooKeeper server of the test's own, with its options."""
    server = Server(tmp_path / "refusing", **request.param)
    server.up()
    yield server
    server.process.kill()


@pytest.fixture
def zookeeper(request: pytest.FixtureRequest) -> Servers | None:
    """That one, for tests that have it."""
    if "refusing" not in request.fixturenames:
        return None
    server = request.getfixturevalue("refusing")
    return Servers(server.address, [server.data])


class Quota:
    """The quota of a path, as ``setquota -N`` of ZooKeeper's own client writes it."""

    def __init__(self, stand: Stand, path: str) -> None:
        self._zk = stand.connect(chroot="")
        self._path = f"/zookeeper/quota{stand.chroot}{path}"
        self._zk.create(f"{self._path}/zookeeper_limits", b"count=-1,bytes=-1", makepath=True)
        self._zk.create(f"{self._path}/zookeeper_stats", b"count=0,bytes=0")  # the server counts

    def set(self, znodes: int) -> None:
        """Let so many be there, itself among them."""
        limits = f"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit={znodes}"
        self._zk.set(f"{self._path}/zookeeper_limits", limits.encode())


QUOTAS = pytest.mark.parametrize("refusing", [{"options": {"enforceQuota": "true"}}], indirect=True)


@QUOTAS
@pytest.mark.usefixtures("refusing")
@pytest.mark.allows(I1="a quota refuses it")
@pytest.mark.full
def test_a_quota_of_zookeeper_is_named_and_costs_what_is_new_alone(
    world: World, stand: Stand, start_controller: Callable[..., Replica]
):
    quota = Quota(stand, world.base)
    replica = start_controller()
    serve(world, 1, 2)
    eventually(lambda: world.servers("echo") == [address(1), address(2)])
    quota.set(2)
    serve(world, 3, service="new")
    eventually(lambda: said(world, "new"), LATE)
    assert said(world, "new").startswith(WITHIN)
    assert f"create {world.base}/new: quota of znode {world.base}" in said(world, "new")
    assert "setquota" in said(world, "new")
    assert len(lines(replica, "refused")) <= 2, "one a minute, though it was tried more often"

    # Others are written meanwhile, and a restart in the middle withdraws nobody.
    world.delete_pod("p1")
    eventually(lambda: world.servers("echo") == [address(2)])
    assert world.synced("echo") == ("True", "InRegistry")
    assert replica.stop() == 0
    replica.start()
    eventually(replica.leads, TO_START)
    eventually(lambda: "quota of znode" in said(world, "new"), LATE)
    assert (world.servers("echo"), world.data("new")) == ([address(2)], None)
    quota.set(100)
    eventually(lambda: world.servers("new") == [address(3)], BACKOFF)
    eventually(lambda: world.synced("new") == ("True", "InRegistry"))


@QUOTAS
@pytest.mark.usefixtures("refusing")
@pytest.mark.allows(I3="what went while no process ran is confirmed first", I9="/readyz says so")
@pytest.mark.full
def test_a_heartbeat_that_is_refused_is_told_and_keeps_nobody_published_who_went(
    world: World, stand: Stand, start_controller: Callable[..., Replica]
):
    quota = Quota(stand, HEARTBEATS)
    replica = start_controller()
    serve(world, 1, 2)
    serve(world, 3, service="gone")
    eventually(lambda: world.servers("echo") == [address(1), address(2)])
    eventually(lambda: world.servers("gone") == [address(3)])
    assert replica.stop() == 0
    stand.zk.delete(f"{HEARTBEATS}/{stand.ground.cluster_id}")
    quota.set(1)
    world.delete_pod("p1")
    world.delete_pod("p3")
    world.delete_rpcservice("gone")
    replica.start()
    eventually(lambda: world.servers("echo") == [address(2)], TO_START)
    eventually(lambda: world.data("gone") is None, LATE)
    refusal = f"quota of znode {HEARTBEATS}"
    eventually(lambda: refusal in ask(replica.port, "/readyz")[1])
    assert sum(refusal in reason for reason in lines(replica, "cannot compare")) <= 2, "one a minute"
    quota.set(2)
    eventually(lambda: ask(replica.port, "/readyz")[0] == 200)


@pytest.mark.deep
@pytest.mark.parametrize(
    "refusing",
    [
        {
            "options": {"enforce.auth.enabled": "true", "enforce.auth.schemes": "sasl"},
            "users": {"registry": "right"},
        }
    ],
    indirect=True,
)
def test_a_zookeeper_that_asks_for_credentials_is_asked_seldom_and_told_in_its_words(
    ground: Ground, namespace: str, tmp_path: Path, refusing: Server
):
    """Nothing is published that a judge could look at."""
    with Stand(ground, [namespace], tmp_path) as stand:
        world = stand.world()
        serve(world, 1)
        replica = stand.start(zk=refusing.address)
        wanted = "it asks for credentials: give --zk-auth-file"
        eventually(lambda: wanted in ask(replica.port, "/readyz")[1], LATE)
        eventually(lambda: said(world).startswith(WITHIN), LATE)
        assert wanted in ask(replica.port, "/readyz")[1], "it goes on to say so"
        assert len(lines(replica, "zookeeper not connected")) <= 2
        assert len(replica.logged()) < 50, "and not twenty lines a second"

        done = finished(
            *("verify", "--timeout", "20s"),
            kubeconfig=ground.cluster.kubeconfig,
            zk_servers=refusing.address,
            namespace=namespace,
        )
        assert (done.returncode, wanted in done.stderr) == (2, True), done.stderr
        assert len(done.stderr.splitlines()) < 5
        assert replica.stop() == 0


@pytest.mark.deep
def test_b2_a_change_that_came_while_another_one_was_written_is_told_when_zookeeper_is_away(
    world: World, stand: Stand, start_controller: Callable[..., Replica], zk_proxy: Proxy
):
    start_controller(zk=zk_proxy.address)
    serve(world, 1)
    eventually(lambda: world.servers("echo") == [address(1)])
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    zk_proxy.blackhole(since=lambda data: address(2).encode() in data)
    serve(world, 2)
    eventually(lambda: address(2).encode() in zk_proxy.held)
    serve(world, 3)
    eventually(lambda: len(world.listed("echo") or ()) == 3)
    with stand.fault("zookeeper", recovery=LATE, note="nobody lets it through"):
        zk_proxy.lose_request(lambda data: address(3).encode() in data, zk_proxy.close)
        zk_proxy.pass_through()
        eventually(lambda: said(world).startswith(WITHIN), LATE)
        assert world.servers("echo") == [address(1), address(2)]
        zk_proxy.pass_through()
    eventually(lambda: len(world.servers("echo") or ()) == 3, LATE)
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))


# the API server refuses


@pytest.mark.full
def test_what_a_quota_keeps_out_is_told_and_what_goes_goes_though_its_rpcservice_cannot_be_made(
    ground: Ground, world: World, stand: Stand, start_controller: Callable[..., Replica]
):
    """B1, and then A5."""
    replica = start_controller()
    serve(world, 1, 2)
    eventually(lambda: world.servers("echo") == [address(1), address(2)])
    with stand.fault("refused", recovery=BACKOFF):
        allow(world, 1)
        serve(world, 3, service="second")
        told = eventually(lambda: world.events("RpcServiceRefused", "p3"), LATE)
        assert "exceeded quota: few" in told[0].message
        done = verified(ground, stand)
        assert done.returncode == 1, done.stderr
        assert f"not listed\t-\t{world.namespace}/second/p3" in done.stdout

        allow_no_more(world)
        world.delete_rpcservice("echo")
        eventually(lambda: world.events("RpcServiceRefused", "p1"), LATE)
        assert replica.stop() == 0
        replica.start()
        eventually(replica.leads, TO_START)
        serve(world, 4)
        world.delete_pod("p1")
        eventually(lambda: world.servers("echo") == [address(2)], LATE)
        eventually(lambda: world.events("RpcServiceRefused", "p4"), LATE)
        world.core.delete_namespaced_resource_quota("few", world.namespace)
    eventually(lambda: world.servers("echo") == [address(2), address(4)], BACKOFF)
    eventually(lambda: world.servers("second") == [address(3)], BACKOFF)


def allow_no_more(world: World) -> None:
    """Lower the quota of ``allow`` to nothing."""
    world.core.patch_namespaced_resource_quota("few", world.namespace, {"spec": {"hard": {COUNT: "0"}}})
    eventually(
        lambda: world.core.read_namespaced_resource_quota("few", world.namespace).status.hard[COUNT] == "0"
    )


def verified(ground: Ground, stand: Stand) -> "subprocess.CompletedProcess[str]":
    """What ``rpcregistry verify`` says of the test's namespace."""
    return finished(
        *("verify", "--timeout", "20s"),
        kubeconfig=ground.cluster.kubeconfig,
        zk_servers=stand.zk_servers,
        namespace=stand.namespaces[0],
    )


# the API server lacks something, or changes it


def on_the_lease(world: World, reason: str) -> list[str]:
    found = EventsV1Api(world.api).list_namespaced_event(world.namespace).items
    return [str(e.note) for e in found if (e.reason, e.regarding.kind) == (reason, "Lease")]


@pytest.mark.deep
@pytest.mark.allows(I1="without its kind nothing is right", I9="/readyz says so")
def test_b9_kinds_that_nobody_applied_or_somebody_deleted_are_told_while_they_lack(
    cluster: LocalCluster, ground: Ground, world: World, stand: Stand
):
    missing = "the kind RpcService is not there: kubectl apply -f crds/"

    def is_told(replica: Replica) -> bool:
        code, page = ask(replica.port, "/readyz")
        return code == 503 and missing in page

    try:
        with stand.fault("apiserver", note="the kinds lack", recovery=LATE):
            cluster.kubectl("delete", "-f", str(CRDS))
            serve(world, 1)
            replica = stand.start()
            eventually(lambda: is_told(replica), TO_START)
            eventually(lambda: any(missing in note for note in on_the_lease(world, "KindMissing")), LATE)
            ground.apply()
        eventually(lambda: world.servers("echo") == [address(1)], BACKOFF)
        eventually(lambda: ask(replica.port, "/readyz")[0] == 200)

        before = len(on_the_lease(world, "KindMissing"))
        with stand.fault("apiserver", note="the kinds lack", recovery=LATE):
            cluster.kubectl("delete", "-f", str(CRDS))
            eventually(lambda: is_told(replica), LATE)
            eventually(lambda: len(on_the_lease(world, "KindMissing")) > before, LATE)
            assert world.servers("echo") == [address(1)]
            ground.apply()
        eventually(lambda: ask(replica.port, "/readyz")[0] == 200, BACKOFF)
        eventually(lambda: world.synced("echo") == ("True", "InRegistry"), LATE)
    finally:
        ground.apply()


@pytest.mark.full
def test_b10_a_hold_is_told_with_its_count_and_again_once_that_has_grown_tenfold(
    world: World, start_controller: Callable[..., Replica], api: HttpProxy, through_api: Path
):
    start_controller(kubeconfig=through_api)
    serve(world, *range(1, 31))
    serve(world, *range(101, 113), service="other")
    eventually(lambda: len(world.servers("echo") or ()) == 30)
    eventually(lambda: len(world.servers("other") or ()) == 12)

    lack(api, {f"p{number}" for number in (1, 2, *range(101, 113))})
    eventually(lambda: held(world) == 2)
    (event,) = eventually(lambda: world.events("Held", "echo"))
    assert event.message.startswith("2 listed pods are absent")
    lack(api, {f"p{number}" for number in (*range(1, 26), *range(101, 113))})
    eventually(lambda: held(world) == 25)
    eventually(lambda: len(world.events("Held", "echo")) == 2)
    assert any(e.message.startswith("25 listed pods are absent") for e in world.events("Held", "echo"))
    api.reset()
    api.cut_watches("pods")
    eventually(lambda: held(world) == 0)
    assert len(world.servers("echo") or ()) == 30


def lack(api: HttpProxy, names: set[str]) -> None:
    """From now on, no LIST has these pods, and no watch lasts."""

    def instead(_method: str, path: str) -> Answer | None:
        return error_event(410, "Expired") if is_watch(path) and is_of(path, "pods") else None

    def rewrite(method: str, path: str, status: int, body: bytes) -> Answer:
        if not is_list(method, path, "pods"):
            return status, body
        listing = json.loads(body)
        listing["items"] = [item for item in listing["items"] if item["metadata"]["name"] not in names]
        return status, json.dumps(listing).encode()

    api.rewrite, api.instead = rewrite, instead
    api.cut_watches("pods")


def held(world: World) -> int:
    """How many rows are held of echo."""
    rows = world.rpcservices()["echo"].get("status", {}).get("endpoints", [])
    return sum(row.get("held", False) for row in rows)


@pytest.mark.deep
def test_b12_a_field_that_a_policy_changes_is_told_through_a_restart(
    world: World,
    start_controller: Callable[..., Replica],
    mutate: Callable[[str, str], Callable[[], None]],
):
    mend = mutate("internalTrafficPolicy", "Local")
    node = f"{world.namespace[:40]}-a"
    world.create_node(node)
    replica = start_controller()
    serve(world, 1)
    world.create_localservice()
    for _ in range(2):
        eventually(lambda: (world.failing() or ("", ""))[0] == "Refused", LATE)
        assert "does not keep spec.internalTrafficPolicy" in (world.failing() or ("", ""))[1]
        assert replica.stop() == 0
        replica.start()
        eventually(replica.leads, TO_START)
    assert "Refused" in world.warnings()
    mend()
    eventually(lambda: trial(world) == "Cluster")
    eventually(world.is_fine, 2 * BACKOFF)


@pytest.mark.deep
def test_b5_a_change_that_needs_no_write_ends_and_is_not_timed_by_the_next_one(
    world: World, start_controller: Callable[..., Replica]
):
    replica = start_controller()
    world.apply_rpcservice("echo", publishNotReadyAddresses=True)
    serve(world, 1)
    eventually(lambda: world.servers("echo") == [address(1)])
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    world.set_status("p1", address(1), ready=False)
    eventually(lambda: sample(replica, 'rpcregistry_changes_ended_total{ending="nothing"}') >= 1)
    assert sample(replica, "rpcregistry_oldest_waiting_seconds") == 0
    serve(world, 2)
    eventually(lambda: world.servers("echo") == [address(1), address(2)])
    eventually(lambda: sample(replica, 'rpcregistry_propagation_seconds_count{layout="kube2zk"}') == 2)


def sample(replica: Replica, name: str) -> float:
    """One of its metrics; -1 where it has none of that name."""
    samples = (line.rpartition(" ") for line in ask(replica.port, "/metrics")[1].splitlines())
    return next((float(value) for found, _, value in samples if found == name), -1.0)
