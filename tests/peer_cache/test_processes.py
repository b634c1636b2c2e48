"""The command, run by the pods of the real API server."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from hack.local.cluster import LocalCluster, free_ports
from peer_cache.addresses import loopback_twin
from tests.cluster.waiting import eventually
from tests.peer_cache.fleet import EXAMPLE, MANIFEST, PATIENCE, Fleet, Process


def all_have(processes: list[Process], type_: int, expected: Mapping[str, str]) -> Callable[[], bool]:
    return lambda: all(process.get(type_) == expected for process in processes)


def test_what_any_is_given_all_have_and_a_late_one_takes_it_from_the_oldest(fleet: Fleet) -> None:
    processes = fleet.start_ready(5)
    for number, process in enumerate(processes):
        process.put(1, **{process.pod: str(number)})
    expected = {process.pod: str(number) for number, process in enumerate(processes)}
    eventually(all_have(processes, 1, expected), PATIENCE)
    (late,) = fleet.start_ready(1)
    assert late.get(1) == expected
    assert f"took 5 values from {loopback_twin(processes[0].ip)}" in late.log()
    for process in (late, *processes):
        process.process.send_signal(signal.SIGTERM)
    assert [process.process.wait(PATIENCE) for process in (late, *processes)] == [0] * 6


@pytest.mark.full
@pytest.mark.parametrize(
    "end", [pytest.param(signal.SIGKILL, id="gone"), pytest.param(signal.SIGSTOP, id="hanging")]
)
def test_where_the_oldest_is_dead_and_still_listed_the_next_one_is_asked(
    fleet: Fleet, end: signal.Signals
) -> None:
    oldest, second, third = fleet.start_ready(3)
    oldest.put(1, a="x")
    eventually(all_have([second, third], 1, {"a": "x"}), PATIENCE)
    oldest.process.send_signal(end)
    (late,) = fleet.start_ready(1)
    assert late.get(1) == {"a": "x"}
    assert f"took 1 values from {loopback_twin(second.ip)}" in late.log()


@pytest.mark.full
def test_two_sets_of_a_key_at_once_end_the_same_everywhere(fleet: Fleet) -> None:
    processes = fleet.start_ready(5)
    together = threading.Barrier(2)

    def set_often(process: Process) -> None:
        for number in range(20):
            together.wait(PATIENCE)
            process.put(1, **{str(number): process.pod})

    setting = [threading.Thread(target=set_often, args=(process,)) for process in processes[1:3]]
    for thread in setting:
        thread.start()
    for thread in setting:
        thread.join()

    def same() -> bool:
        held = [process.get(1) for process in processes]
        return len(held[0]) == 20 and all(each == held[0] for each in held)

    eventually(same, PATIENCE)


@pytest.mark.full
def test_what_a_fan_out_missed_is_healed(fleet: Fleet) -> None:
    oldest, second = fleet.start_ready(2, **{"heal-period": 3600})
    (missed,) = fleet.start_ready(1, **{"heal-period": 1})
    fleet.hide(missed)
    told = f"to tell {loopback_twin(oldest.ip)}:"

    def set_for_the_oldest_alone() -> bool:
        second.put(1, a="x")
        return any(told in line and "," not in line.split("to tell")[1] for line in second.log().splitlines())

    eventually(set_for_the_oldest_alone, PATIENCE)
    second.put(1, b="y")
    eventually(all_have([oldest, second, missed], 1, {"a": "x", "b": "y"}), PATIENCE)
    assert f"values from {loopback_twin(oldest.ip)}" in missed.log()


@pytest.mark.full
@pytest.mark.parametrize(
    "end", [pytest.param(signal.SIGINT, id="Ctrl-C"), pytest.param(signal.SIGTERM, id="SIGTERM")]
)
def test_the_manifest_runs_as_processes_of_this_machine(
    cluster: LocalCluster, tmp_path: Path, end: signal.Signals
) -> None:
    grpc_port, http_port = free_ports(2)
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PEER_CACHE_GRPC_PORT": str(grpc_port),
        "PEER_CACHE_HTTP_PORT": str(http_port),
    }
    log = tmp_path / "local.log"
    with log.open("wb") as file:
        local = subprocess.Popen(
            [EXAMPLE / "local"], env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:

        def processes() -> list[Process]:
            shown = re.findall(r"(\S+): http://127\.([0-9.]+):", log.read_text())
            return [Process(name, f"10.{ip}", http_port, log, local) for name, ip in shown]

        eventually(lambda: [p.ready() for p in processes()] == [True] * 3, PATIENCE)
        first, *others = processes()
        first.put(1, a="x")
        eventually(all_have(others, 1, {"a": "x"}), PATIENCE)
        for told in ("registered, at port", "filled: holds", "peer added: "):
            assert log.read_text().count(told) >= 3, told
        os.killpg(local.pid, end)  # a terminal sends to all of the group
        assert local.wait(PATIENCE) == 0
        assert not is_group_alive(local.pid)
        assert not cluster.kubectl("get", "namespace", "peer-cache", "--ignore-not-found")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(local.pid, signal.SIGKILL)
        cluster.kubectl("delete", "--ignore-not-found", "-f", str(EXAMPLE / "manifest.yaml"))
        print(log.read_text())


def is_group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_without_a_cluster_local_says_what_to_do_first() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    done = subprocess.run([EXAMPLE / "local"], env=environment, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert "run '. .local/env' first" in done.stderr


@pytest.mark.full
def test_local_fails_where_a_process_dies_and_leaves_what_was_there_before(cluster: LocalCluster) -> None:
    cluster.kubectl("create", "namespace", "peer-cache")
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHON": "false",
    }
    try:
        done = subprocess.run(
            [EXAMPLE / "local"], env=environment, capture_output=True, text=True, check=False, timeout=90
        )
        kept = cluster.kubectl("get", "deployment", "-n", "peer-cache", "-o", "name")
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "-f", str(EXAMPLE / "manifest.yaml"))

    assert done.returncode == 1
    assert "a process ended with exit code 1" in done.stderr
    assert "to remove them: kubectl delete -f" in done.stderr
    assert kept


def test_two_signals_back_to_back_end_a_process(fleet: Fleet) -> None:
    (process,) = fleet.start_ready(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        process.process.send_signal(number)
    assert process.process.wait(PATIENCE) == 0


def test_the_manifest_is_taken_without_a_warning(cluster: LocalCluster, namespace: str) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
    cluster.kubectl(
        *("apply", "--dry-run=server", "--warnings-as-errors", "-f", "-"),
        input=MANIFEST.replace("namespace: peer-cache", f"namespace: {namespace}"),
    )
