"""The command, run by pods of the real API server as ``manifest.yaml`` says.

No kubelet runs containers here, so the test stands in for one: it writes the pods' statuses, and starts the
command with the variables and the ServiceAccount of the manifest.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from hack.local.cluster import LocalCluster, free_ports
from peer_cache.addresses import loopback_twin
from tests.cluster.waiting import eventually
from tests.cluster.world import World

EXAMPLE = Path(__file__).parents[2] / "examples" / "peer-cache"
MANIFEST = (EXAMPLE / "manifest.yaml").read_text()
OBJECTS = {each["kind"]: each for each in yaml.safe_load_all(MANIFEST)}
TEMPLATE = OBJECTS["Deployment"]["spec"]["template"]
PATIENCE = 60.0  # seconds; five processes start at once, on a machine that does other things, too


class Process(NamedTuple):
    """The command in one pod."""

    pod: str
    ip: str
    http_port: int
    log_file: Path
    process: subprocess.Popen[bytes]

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        url = f"http://{loopback_twin(self.ip)}:{self.http_port}{path}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                request, timeout=30
            ) as got:
                return got.status, got.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log()
        return self.ask("GET", "/readyz")[0] == 200

    def put(self, type_: int, **values: str) -> None:
        status, text = self.ask("PUT", f"/cache/{type_}", values)
        assert status == 204, text

    def get(self, type_: int) -> dict[str, str]:
        status, text = self.ask("GET", f"/cache/{type_}")
        assert status == 200, text
        return dict(json.loads(text))

    def log(self) -> str:
        return self.log_file.read_text()


class Fleet:
    """The processes of one namespace; the n-th that is started is the n-th oldest."""

    def __init__(self, cluster: LocalCluster, world: World, directory: Path) -> None:
        self._cluster = cluster
        self._world = world
        self._directory = directory
        # Other runs on this machine have other addresses.
        self._subnet = f"10.{random.randrange(1, 250)}.{random.randrange(250)}"
        self._grpc_port, self._http_port = free_ports(2)
        self.started: list[Process] = []

    def start(self, **options: object) -> Process:
        """Make a pod, and start the command for it; *options* go to the command."""
        number = len(self.started)
        pod, ip = f"peer-cache-{number}", f"{self._subnet}.{number + 1}"
        spec = {"serviceAccountName": TEMPLATE["spec"]["serviceAccountName"]}
        uid = self._world.create_pod(pod, labels=TEMPLATE["metadata"]["labels"], **spec)
        started = f"2026-11-21T02:02:{number:02}Z"
        statuses = [
            {
                "name": "c", "image": "none", "imageID": "none", "ready": True, "restartCount": 0,
                "state": {"running": {"startedAt": started}},
            }
        ]  # fmt: skip
        self._world.set_status(pod, ip, containerStatuses=statuses)
        settings = {"grpc-port": self._grpc_port, "http-port": self._http_port, "log-level": "debug"}
        settings |= {"loopback-of": ip, "kubeconfig": self._kubeconfig(pod, uid)} | options
        flags = [f"--{name}={value}" for name, value in settings.items()]
        log = self._directory / f"{pod}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "peer_cache", *flags],
                env=os.environ
                | self._downward(pod)
                | {"PYTHONPATH": str(EXAMPLE), "GRPC_VERBOSITY": "ERROR"},
                stdout=file,
                stderr=file,
            )
        self.started.append(Process(pod, ip, self._http_port, log, process))
        return self.started[-1]

    def start_ready(self, count: int, **options: object) -> list[Process]:
        """Start so many at once, and wait until all are ready."""
        processes = [self.start(**options) for _ in range(count)]
        eventually(lambda: all(process.ready() for process in processes), PATIENCE)
        return processes

    def hide(self, process: Process) -> None:
        """Have the API server say that the pod has no address."""
        status = {"podIP": None, "podIPs": None}
        self._world.core.patch_namespaced_pod_status(process.pod, self._world.namespace, {"status": status})

    def _kubeconfig(self, pod: str, uid: str) -> Path:
        bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}", f"--bound-object-uid={uid}")
        account = TEMPLATE["spec"]["serviceAccountName"]
        token = self._cluster.kubectl("create", "token", "-n", self._world.namespace, account, *bound)
        return self._cluster.kubeconfig_for(token.strip(), self._directory / f"{pod}.kubeconfig")

    def _downward(self, pod: str) -> Mapping[str, str]:
        fields = {"metadata.name": pod, "metadata.namespace": self._world.namespace}
        (container,) = TEMPLATE["spec"]["containers"]
        return {each["name"]: fields[each["valueFrom"]["fieldRef"]["fieldPath"]] for each in container["env"]}


@pytest.fixture
def fleet(
    cluster: LocalCluster, world: World, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Fleet]:
    rights = [OBJECTS[kind] for kind in ("ServiceAccount", "Role", "RoleBinding")]
    text = yaml.safe_dump_all(rights).replace("namespace: peer-cache", f"namespace: {world.namespace}")
    cluster.kubectl("apply", "-f", "-", input=text)
    fleet = Fleet(cluster, world, tmp_path)
    yield fleet
    for process in fleet.started:
        process.process.kill()
        process.process.wait()
        print(process.pod, process.log(), sep="\n")


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
def test_the_manifest_runs_as_processes_of_this_machine(cluster: LocalCluster, tmp_path: Path) -> None:
    grpc_port, http_port = free_ports(2)
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(EXAMPLE),
        "PEER_CACHE_GRPC_PORT": str(grpc_port),
        "PEER_CACHE_HTTP_PORT": str(http_port),
    }
    log = tmp_path / "local.log"
    with log.open("wb") as file:
        local = subprocess.Popen([EXAMPLE / "local"], env=environment, stdout=file, stderr=file)
    try:
        pods: list[dict[str, Any]] = []

        def processes() -> list[Process]:
            pods[:] = json.loads(cluster.kubectl("get", "pods", "-n", "peer-cache", "-o", "json"))["items"]
            ips = [pod["status"].get("podIP") for pod in pods]
            return [Process("", ip, http_port, log, local) for ip in ips if ip]

        eventually(lambda: [p.ready() for p in processes()] == [True] * 3, PATIENCE)
        first, *others = processes()
        first.put(1, a="x")
        eventually(all_have(others, 1, {"a": "x"}), PATIENCE)
        local.send_signal(signal.SIGTERM)
        assert local.wait(PATIENCE) == 0
        assert first.ask("GET", "/healthz")[0] == 0
    finally:
        local.terminate()
        local.wait(PATIENCE)
        cluster.kubectl("delete", "--wait=false", "-f", str(EXAMPLE / "manifest.yaml"))
        print(log.read_text())


def test_the_manifest_is_taken_without_a_warning(cluster: LocalCluster, namespace: str) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
    cluster.kubectl(
        *("apply", "--dry-run=server", "--warnings-as-errors", "-f", "-"),
        input=MANIFEST.replace("namespace: peer-cache", f"namespace: {namespace}"),
    )
