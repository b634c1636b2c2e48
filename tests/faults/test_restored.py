"""Etcd or ZooKeeper go back to an older state, and nobody who serves is withdrawn.

The backup has four pods that are dead by the time of the restore; it lacks the twelve that serve then.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from tests.cluster.waiting import eventually
from tests.cluster.world import Recorder, World
from tests.faults.harness.ground import Ground
from tests.faults.harness.kubelet import Replica, ask
from tests.faults.harness.stand import Stand
from tests.faults.test_leadership import epoch
from tests.faults.test_sure_look import audited, heartbeat, lease

LIVE = [f"10.0.0.{number}" for number in range(11, 23)]
DEAD = [f"10.0.0.{number}" for number in range(1, 5)]
LONG = 90.0  # a process that gave up is started again, takes the Lease, and looks whether another one lives
AWAY = 17.0  # seconds, for longer than a Lease lives
BUMP = 1_000_000
RESTORED = "rpcregistry.dev/restored"
TAKEN = "a person takes the restored server as it is, and the pods that it forgot are withdrawn"
SOON = ("--guard-confirm", "1s")  # so that a hold that ends by itself would show soon
DECIDED = pytest.mark.allows(
    I1=TAKEN, I2=TAKEN, I3=TAKEN, I10=TAKEN, I9="/readyz says that a person has to decide"
)
ONE, TWO, UNELECTED = "one", "two", "without a leader election"


def publish(world: World, *addresses: str) -> None:
    for address in addresses:
        world.create_pod(f"echo-{address.rpartition('.')[2]}", "echo", ip=address)


def forget(world: World, *addresses: str) -> None:
    for address in addresses:
        world.delete_pod(f"echo-{address.rpartition('.')[2]}")


def serve_and_save(ground: Ground, world: World, save: Callable[[], Path]) -> Path:
    """Four pods, the copy that *save* makes of them, and a rolling update to twelve."""
    publish(world, *DEAD)
    eventually(lambda: world.servers("echo") == DEAD, LONG)
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    saved = save()
    before, version = heartbeat(world)["at"], int(lease(world).metadata.resource_version)
    publish(world, *LIVE)
    eventually(lambda: world.servers("echo") == [*DEAD, *LIVE])
    forget(world, *DEAD)
    eventually(lambda: world.servers("echo") == LIVE)
    # What a process knows lies in ZooKeeper within ten seconds.
    eventually(
        lambda: heartbeat(world)["seen"]["leaseVersion"] > version and heartbeat(world)["at"] > before, LONG
    )
    return saved


def catch_up(ground: Ground, world: World) -> None:
    """Others write, until the server's counter is higher than it ever was."""
    highest = max(heartbeat(world)["seen"]["versions"].values())
    body = {"metadata": {"name": "others"}, "data": {}}
    world.core.create_namespaced_config_map(world.namespace, body)
    while True:
        body = {"data": {"at": str(time.monotonic())}}
        written = world.core.patch_namespaced_config_map("others", world.namespace, body)
        if int(written.metadata.resource_version) > highest + 100:
            return


def is_told(world: World, *replicas: Replica) -> bool:
    """Whether the Lease, one of its Events and the leader's probe say that the server was restored."""
    annotations = lease(world).metadata.annotations or {}
    return (
        RESTORED in annotations
        and bool(audited(world, "Restored"))
        and any("was restored to an older state" in ask(each.port, "/readyz")[1] for each in replicas)
    )


def command(ground: Ground, world: World, *arguments: str) -> tuple[int, str]:
    """A command's exit code and all that it says."""
    done = subprocess.run(
        [sys.executable, "-m", "rpcregistry", *arguments, "--kubeconfig", str(ground.cluster.kubeconfig)],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    return done.returncode, done.stdout + done.stderr


def verify(ground: Ground, world: World) -> tuple[int, str]:
    return command(
        ground, world, "verify", "--zk-servers", world.zk_servers, "--namespace", world.namespace,
        "--cluster-id", world.cluster_id,
    )  # fmt: skip


def release_all(ground: Ground, world: World) -> tuple[int, str]:
    return command(ground, world, "release", "--all", "--lease-namespace", world.namespace)


def nobody_was_lost(seen: Recorder) -> None:
    for state in seen.states:
        assert set(LIVE) <= set(state or ()), "nobody who serves was missing"
        assert not set(DEAD) & set(state or ()), "nobody dead came back"


def held_told_and_released(
    ground: Ground, world: World, seen: Recorder, *replicas: Replica, also: list[str]
) -> None:
    """What is to come of it: all serve, new pods are followed, and one command ends it.

    *also*: addresses that may be seen besides.
    """
    eventually(lambda: is_told(world, *replicas), LONG)
    eventually(lambda: world.synced("echo") == ("False", "Held"), LONG)
    code, said = verify(ground, world)
    assert (code, "was restored to an older state" in said) == (0, True), said

    publish(world, "10.0.0.40")
    eventually(lambda: "10.0.0.40" in (world.servers("echo") or ()), LONG)
    forget(world, "10.0.0.40")
    eventually(lambda: "10.0.0.40" not in (world.servers("echo") or ()), LONG)
    for state in seen.states:
        assert set(LIVE) <= set(state or ()), "nobody who serves was missing"
        assert not (set(DEAD) - set(also)) & set(state or ()), "nobody dead came back"

    code, said = release_all(ground, world)
    assert code == 0, said
    eventually(lambda: world.servers("echo") == DEAD, LONG)
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"), LONG)
    assert RESTORED not in (lease(world).metadata.annotations or {})
    eventually(lambda: not any("restored" in ask(each.port, "/readyz")[1] for each in replicas))
    eventually(lambda: not heartbeat(world)["seen"].get("restored"))


def begin(start_controller: Callable[..., Replica], replicas: str) -> list[Replica]:
    started = [start_controller(*SOON, leader_elect=replicas != UNELECTED)]
    if replicas == TWO:
        started.append(start_controller(*SOON, wait=False))
    return started


def restore(ground: Ground, world: World, saved: Path, how: str, stopped: list[Replica]) -> None:
    cluster = ground.cluster
    cluster.restore_etcd(
        saved,
        away=AWAY if how == "away for long" else 0.0,
        bump=BUMP if how == "with a raised counter" else 0,
        then=ground.history.restored,
    )
    if how == "caught up":
        catch_up(ground, world)
    for replica in stopped:
        replica.start()


@pytest.mark.full
@DECIDED
@pytest.mark.parametrize("replicas", [ONE, TWO, UNELECTED])
@pytest.mark.parametrize("down", [False, True], ids=["it runs", "it is down"])
@pytest.mark.parametrize("how", ["at once", "away for long", "caught up", "with a raised counter"])
def test_an_etcd_that_goes_back_withdraws_nobody(
    ground: Ground,
    world: World,
    zk: KazooClient,
    start_controller: Callable[..., Replica],
    replicas: str,
    down: bool,
    how: str,
):
    running = begin(start_controller, replicas)
    saved = serve_and_save(ground, world, ground.cluster.save_etcd)
    seen = Recorder(zk, f"{world.base}/echo")
    stopped = running if down else []
    for replica in stopped:
        assert replica.stop() == 0
    restore(ground, world, saved, how, stopped)
    held_told_and_released(ground, world, seen, *running, also=[])


@pytest.mark.deep
@DECIDED
def test_an_etcd_and_a_zookeeper_that_go_back_at_once_withdraw_nobody_whom_a_process_knows(
    ground: Ground, world: World, zk: KazooClient, stand: Stand, start_controller: Callable[..., Replica]
):
    """The older ZooKeeper has only the dead; whoever lives through it puts back what it has published.

    Without a leader election a process does, however long the API server is away.
    """
    (controller,) = begin(start_controller, UNELECTED)
    copies: list[Path] = []

    def save() -> Path:
        copies.append(ground.cluster.save_zookeeper())
        return ground.cluster.save_etcd()

    saved = serve_and_save(ground, world, save)
    restore(ground, world, saved, "at once", [])
    ground.cluster.restore_zookeeper(copies[0])
    stand.zk = world.zk = stand.connect()
    eventually(lambda: set(LIVE) <= set(world.servers("echo") or ()), LONG)
    seen = Recorder(world.zk, f"{world.base}/echo")
    held_told_and_released(ground, world, seen, controller, also=DEAD)


@pytest.mark.deep
@pytest.mark.parametrize("down", [False, True], ids=["it runs", "it is down"])
@pytest.mark.allows(
    I2="the older ZooKeeper lacks them",
    I3="and has others",
    I6="the numbers of both logs overlap",
    I10="and both change again",
)
def test_a_zookeeper_that_goes_back_is_put_right_at_once(
    ground: Ground, world: World, stand: Stand, start_controller: Callable[..., Replica], down: bool
):
    (controller,) = begin(start_controller, ONE)
    saved = serve_and_save(ground, world, ground.cluster.save_zookeeper)
    if down:
        assert controller.stop() == 0
    ground.cluster.restore_zookeeper(saved)
    stand.zk = world.zk = stand.connect()
    if down:
        controller.start()
    eventually(lambda: world.servers("echo") == LIVE, LONG)
    assert ask(controller.port, "/readyz")[0] == 200
    assert RESTORED not in (lease(world).metadata.annotations or {})


@pytest.mark.full
@DECIDED
def test_a_process_that_is_killed_once_it_has_seen_the_restore_leaves_it_to_the_next_one(
    ground: Ground, world: World, zk: KazooClient, start_controller: Callable[..., Replica]
):
    """The counter has caught up by then, and the Lease was written anew: only what was kept tells."""
    (controller,) = begin(start_controller, ONE)
    saved = serve_and_save(ground, world, ground.cluster.save_etcd)
    seen = Recorder(zk, f"{world.base}/echo")
    assert controller.stop() == 0
    restore(ground, world, saved, "with a raised counter", [controller])
    annotations: Callable[[], Any] = lambda: lease(world).metadata.annotations or {}  # noqa: E731
    eventually(lambda: {RESTORED, "rpcregistry.dev/taken-at"} & annotations().keys(), LONG)
    controller.crash()
    held_told_and_released(ground, world, seen, controller, also=[])


@pytest.mark.deep
@DECIDED
@pytest.mark.parametrize("how", ["at once", "with a raised counter"])
def test_a_copy_that_is_younger_than_the_last_heartbeat_of_a_killed_process(
    ground: Ground, world: World, zk: KazooClient, start_controller: Callable[..., Replica], how: str
):
    (controller,) = begin(start_controller, ONE)
    publish(world, *DEAD)
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"), LONG)
    saved = save_and_kill_before_the_next_beat(ground, world, controller)
    seen = Recorder(zk, f"{world.base}/echo")
    restore(ground, world, saved, how, [controller])
    held_told_and_released(ground, world, seen, controller, also=[])


def save_and_kill_before_the_next_beat(ground: Ground, world: World, controller: Replica) -> Path:
    """The copy, and the rolling update after it, which no beat has seen; again if one has."""
    while True:
        before = heartbeat(world)["at"]
        eventually(lambda: heartbeat(world)["at"] > before, LONG)  # noqa: B023
        at, saved = heartbeat(world)["at"], ground.cluster.save_etcd()
        publish(world, *LIVE)
        eventually(lambda: world.servers("echo") == [*DEAD, *LIVE])
        forget(world, *DEAD)
        eventually(lambda: world.servers("echo") == LIVE)
        controller.kill()
        if heartbeat(world)["at"] == at:
            return saved
        controller.start()
        publish(world, *DEAD)
        eventually(lambda: world.servers("echo") == [*DEAD, *LIVE], LONG)
        forget(world, *LIVE)
        eventually(lambda: world.servers("echo") == DEAD, LONG)


@pytest.mark.deep
@pytest.mark.allows(
    I2="the older ZooKeeper lacks them",
    I3="and has others",
    I6="the numbers of both logs overlap",
    I10="and both change again",
)
@pytest.mark.parametrize("killed", [False, True], ids=["its successor lives", "its successor was killed"])
def test_a_zookeeper_that_goes_back_lets_no_paused_leader_write(
    ground: Ground, world: World, stand: Stand, start_controller: Callable[..., Replica], killed: bool
):
    """Nothing but the fence stops it: without a leader election it has no Lease to lose.

    If its successor was killed, the version that nobody may get lies on the Lease alone.
    """
    first = start_controller(leader_elect=False)
    publish(world, "10.0.0.1")
    eventually(lambda: world.servers("echo") == ["10.0.0.1"])
    saved = ground.cluster.save_zookeeper()
    assert first.stop() == 0
    paused = start_controller(leader_elect=False, restarts=False)
    publish(world, "10.0.0.2")
    eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2"])
    assert epoch(world) == 1
    with paused.paused():
        leader = start_controller(leader_elect=False)
        publish(world, "10.0.0.3")
        right = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        eventually(lambda: world.servers("echo") == right, LONG)
        eventually(
            lambda: (lease(world).metadata.annotations or {}).get("rpcregistry.dev/fence") == "2", LONG
        )
        ground.cluster.restore_zookeeper(saved, then=leader.crash if killed else lambda: None)
        stand.zk = world.zk = stand.connect()
        eventually(lambda: world.servers("echo") == right, 2 * LONG)
        assert epoch(world) > 1, "the version of the paused one is nobody's again"
    assert paused.wait() == 1
    assert "another process took over" in paused.text()
    assert len(leader.lives) == 1 + killed
    assert world.servers("echo") == right
