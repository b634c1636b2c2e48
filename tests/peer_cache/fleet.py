"""Processes of the peer cache, run by pods of the real API server as ``manifest.yaml`` says.

No kubelet runs containers here, so the tests stand in for one: they write the pods' statuses, and start the
command with the variables and the ServiceAccount of the manifest.
"""

import json
import os
import random
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hack.local.cluster import LocalCluster, free_ports
from peer_cache.addresses import loopback_twin
from tests.cluster.waiting import eventually
from tests.cluster.world import World

EXAMPLE = Path(__file__).parents[2] / "examples" / "peer-cache"
MANIFEST = (EXAMPLE / "manifest.yaml").read_text()
OBJECTS = {each["kind"]: each for each in yaml.safe_load_all(MANIFEST)}
TEMPLATE = OBJECTS["Deployment"]["spec"]["template"]
(CONTAINER,) = TEMPLATE["spec"]["containers"]
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


class Pod(NamedTuple):
    """A pod of the API server: a token that is its own, and the variables of its container."""

    name: str
    ip: str
    token: str
    variables: Mapping[str, str]


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

    def add_pod(self) -> Pod:
        """One more pod of the Deployment, younger than all others, whose container seems to run."""
        number = len(self.started)
        name, ip = f"peer-cache-{number}", f"{self._subnet}.{number + 1}"
        account = TEMPLATE["spec"]["serviceAccountName"]
        uid = self._world.create_pod(name, labels=TEMPLATE["metadata"]["labels"], serviceAccountName=account)
        running = {"running": {"startedAt": f"2026-11-21T02:02:{number:02}Z"}}
        status = {"name": "c", "image": "none", "imageID": "none", "ready": True, "restartCount": 0}
        self._world.set_status(name, ip, containerStatuses=[status | {"state": running}])
        bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}", f"--bound-object-uid={uid}")
        token = self._cluster.kubectl("create", "token", "-n", self._world.namespace, account, *bound)
        fields = {"metadata.name": name, "metadata.namespace": self._world.namespace}
        variables = {
            each["name"]: fields[each["valueFrom"]["fieldRef"]["fieldPath"]] for each in CONTAINER["env"]
        }
        return Pod(name, ip, token.strip(), variables)

    def flags(self, pod: Pod, **options: object) -> list[str]:
        """The command's flags in that pod, and *options* that are flags, too."""
        flags = {"grpc-port": self._grpc_port, "http-port": self._http_port, "loopback-of": pod.ip}
        return [f"--{name}={value}" for name, value in (flags | {"log-level": "debug"} | options).items()]

    def run(self, pod: Pod, command: Sequence[str], environment: Mapping[str, str]) -> Process:
        """Start *command* in the pod."""
        log = self._directory / f"{pod.name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(command, env=dict(environment), stdout=file, stderr=file)
        self.started.append(Process(pod.name, pod.ip, self._http_port, log, process))
        return self.started[-1]

    def start(self, **options: object) -> Process:
        """Start the command in one more pod; *options* are flags of it."""
        pod = self.add_pod()
        kubeconfig = self._cluster.kubeconfig_for(pod.token, self._directory / f"{pod.name}.kubeconfig")
        command = [sys.executable, "-m", "peer_cache", *self.flags(pod, kubeconfig=kubeconfig, **options)]
        return self.run(pod, command, {**os.environ, **pod.variables, "PYTHONPATH": str(EXAMPLE)})

    def start_ready(self, count: int, **options: object) -> list[Process]:
        """Start so many at once, and wait until all are ready."""
        processes = [self.start(**options) for _ in range(count)]
        eventually(lambda: all(process.ready() for process in processes), PATIENCE)
        return processes

    def hide(self, process: Process) -> None:
        """Have the API server say that the pod has no address."""
        status = {"podIP": None, "podIPs": None}
        self._world.core.patch_namespaced_pod_status(process.pod, self._world.namespace, {"status": status})
