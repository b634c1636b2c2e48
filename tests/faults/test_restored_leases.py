"""Leases lie in an etcd of their own, as large clusters have it: each of the two may go back alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copytree
from urllib.request import urlopen

import pytest
from kazoo.client import KazooClient

from hack.local.binaries import find
from hack.local.cluster import free_ports
from hack.local.process import Process
from tests.cluster.waiting import eventually
from tests.cluster.world import Recorder, World
from tests.faults.harness.ground import Ground
from tests.faults.harness.kubelet import Replica
from tests.faults.test_restored import (
    DECIDED,
    LIVE,
    LONG,
    ONE,
    begin,
    held_told_and_released,
    is_told,
    nobody_was_lost,
    release_all,
    restore,
    serve_and_save,
)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, str, Path]]:
    """The etcd of the Leases: its process, its URL and its data."""
    directory = tmp_path_factory.mktemp("leases")
    client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    command = [
        str(find("etcd")),
        "--data-dir=etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
        "--unsafe-no-fsync",
    ]

    def answers() -> bool:
        with suppress(OSError), urlopen(f"{client}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    process = Process("etcd-leases", directory, command, answers)
    process.start()
    try:
        process.wait_until_ready()
        yield process, client, directory / "etcd"
    finally:
        process.kill()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, etcd: tuple[Process, str, Path]) -> Iterator[Ground]:
    """A control plane that has its Leases there."""
    flags = [f"--etcd-servers-overrides=coordination.k8s.io/leases#{etcd[1]}"]
    with Ground(tmp_path_factory.mktemp("faults"), apiserver_flags=flags) as made:
        yield made


@pytest.mark.deep
@DECIDED
@pytest.mark.parametrize("down", [False, True], ids=["it runs", "it is down"])
@pytest.mark.parametrize("how", ["at once", "with a raised counter"])
def test_the_etcd_of_all_but_the_leases_goes_back(
    ground: Ground,
    world: World,
    zk: KazooClient,
    start_controller: Callable[..., Replica],
    down: bool,
    how: str,
):
    running = begin(start_controller, ONE)
    saved = serve_and_save(ground, world, ground.cluster.save_etcd)
    seen = Recorder(zk, f"{world.base}/echo")
    for replica in running if down else []:
        assert replica.stop() == 0
    restore(ground, world, saved, how, running if down else [])
    held_told_and_released(ground, world, seen, *running, also=[])


@pytest.mark.deep
@DECIDED
def test_the_etcd_of_the_leases_goes_back(
    ground: Ground,
    world: World,
    zk: KazooClient,
    start_controller: Callable[..., Replica],
    etcd: tuple[Process, str, Path],
):
    """All pods are known, so nothing is held; it is told all the same, since nobody can tell it apart."""
    process, _, data = etcd
    (controller,) = begin(start_controller, ONE)

    def save() -> Path:
        with process_paused(process):
            return Path(copytree(data, data.with_name("etcd.copy")))

    saved = serve_and_save(ground, world, save)
    seen = Recorder(zk, f"{world.base}/echo")
    assert controller.stop() == 0
    with ground.cluster.without_control_plane():
        process.stop()
        data.rename(data.with_name("etcd.old"))
        copytree(saved, data)
        process.start()
        process.wait_until_ready()
    controller.start()
    eventually(lambda: is_told(world, controller), LONG)
    nobody_was_lost(seen)
    assert world.servers("echo") == LIVE
    code, said = release_all(ground, world)
    assert code == 0, said
    eventually(lambda: not is_told(world, controller), LONG)
    nobody_was_lost(seen)


@contextmanager
def process_paused(process: Process) -> Iterator[None]:
    process.pause()
    try:
        yield
    finally:
        process.resume()
