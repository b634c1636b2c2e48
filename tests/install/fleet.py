"""Installations of the controller side by side on one cluster, each in its own trouble, and a Prometheus.

To Prometheus an installation is a namespace, as each has one, with its own Lease, cluster id and base path.
"""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

from hack.clients.build import prometheus
from hack.local.cluster import ADMIN_TOKEN, LocalCluster, free_ports
from hack.local.http_proxy import HttpProxy
from hack.local.proxy import Proxy
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World

FORBIDDEN = 403, json.dumps({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"}).encode()
# A mount namespace in which the kernel says that the process may use 64 MiB.
CONFINED = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs tmpfs /sys/fs/cgroup && echo 67108864 > /sys/fs/cgroup/memory.max && exec "$@"',
    "sh",
)


class Wrapped(Controller):
    """The public command, run by another one, or as another *program* of Python's."""

    def __init__(self, wrapper: Sequence[str], program: Sequence[str], *arguments: Any) -> None:
        super().__init__(*arguments)
        python, module, name, *flags = self._command
        self._command = [*wrapper, python, *(program or (module, name)), *flags]


class Installation:
    """A namespace, and controllers that serve it through proxies of theirs to both servers."""

    def __init__(
        self, name: str, world: World, zk: Proxy, api: HttpProxy, kubeconfig: Path, logs: Path
    ) -> None:
        self.name = name
        self.world = world
        self.zk = zk
        self.api = api
        self.controllers: list[Controller] = []
        self.ports: list[int] = []
        self._kubeconfig = kubeconfig
        self._logs = logs

    def start(
        self, *flags: str, wrapper: Sequence[str] = (), program: Sequence[str] = (), leads: bool = True
    ) -> Controller:
        """Start a controller with further flags; wait until it leads, or is asked not to."""
        (port,) = free_ports(1)
        namespace = self.world.namespace
        controller = Wrapped(
            wrapper,
            program,
            self._kubeconfig,
            self.zk.address,
            self._logs / f"{self.name}-{len(self.controllers)}.log",
            *(
                "--namespace",
                namespace,
                "--lease-namespace",
                namespace,
                "--cluster-id",
                self.world.cluster_id,
            ),
            *("--bind-address", f"127.0.0.1:{port}", "--layout", f"kube2zk={self.world.base}", *flags),
        )
        self.controllers.append(controller)
        self.ports.append(port)
        controller.start()
        if leads:
            eventually(controller.leads, 180)
        return controller


class Fleet:
    """Installations on a cluster; all of them end with it."""

    def __init__(self, cluster: LocalCluster, zk: KazooClient, prefix: str, directory: Path) -> None:
        self._cluster = cluster
        self._zk = zk
        self._prefix = prefix
        self._directory = directory
        self._stack = ExitStack()
        self.installations: list[Installation] = []

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._stack.close()

    def install(self, name: str) -> Installation:
        """A new installation, without a controller as yet."""
        namespace = f"{self._prefix}-{name}"
        self._cluster.kubectl("create", "namespace", namespace)
        self._stack.callback(self._cluster.kubectl, "delete", "namespace", namespace, "--wait=false")
        world = World(
            Path(self._cluster.kubeconfig), self._cluster.kubectl, namespace, self._zk, f"/{namespace}"
        )
        self._stack.callback(world.close)
        zk = self._stack.enter_context(Proxy(self._cluster.zk_servers))
        api = self._stack.enter_context(HttpProxy(self._cluster.server, self._cluster.directory / "pki"))
        file = self._cluster.kubeconfig_for(ADMIN_TOKEN, self._directory / f"{name}.kubeconfig", api.server)
        made = Installation(name, world, zk, api, file, self._directory)
        self.installations.append(made)
        return made

    def kill(self) -> None:
        """End all controllers at once."""
        for installation in self.installations:
            for controller in installation.controllers:
                controller.kill()


class Prometheus:
    """A Prometheus that scrapes installations, and evaluates rules."""

    def __init__(self, directory: Path, targets: Mapping[str, Sequence[int]], rules: str, every: str) -> None:
        directory.mkdir()
        (directory / "rules.yaml").write_text(rules)
        static = [
            {"targets": [f"127.0.0.1:{port}" for port in ports], "labels": {"namespace": name}}
            for name, ports in targets.items()
        ]
        config = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "rpcregistry", "static_configs": static}],
        }
        (directory / "prometheus.yaml").write_text(json.dumps(config))
        (port,) = free_ports(1)
        self._url = f"http://127.0.0.1:{port}/api/v1"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    prometheus(),
                    f"--config.file={directory / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> "Prometheus":
        eventually(lambda: self.ask("up", quietly=True), 120)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, expression: str, quietly: bool = False) -> list[dict[str, Any]]:
        """The result of an expression now; *quietly*: nothing while Prometheus does not answer."""
        try:
            return list(self._get(f"query?{urllib.parse.urlencode({'query': expression})}")["result"])
        except OSError:
            if not quietly:
                raise
            return []

    def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire: name, and namespace where it has one."""
        return {
            (found["labels"]["alertname"], found["labels"].get("namespace", ""))
            for found in self._get("alerts")["alerts"]
            if found["state"] == "firing"
        }

    def _get(self, path: str) -> dict[str, Any]:
        with self._opener.open(f"{self._url}/{path}", timeout=30) as answer:
            return dict(json.load(answer)["data"])


def forbid(api: HttpProxy, matches: Callable[[str, str], bool]) -> None:
    """Answer 403 to the requests that match."""
    api.instead = lambda method, path: FORBIDDEN if matches(method, path) else None
