"""The local cluster: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok and ZooKeeper.

All of it listens on loopback, on ports of its own, and lives in one directory, so several clusters can run at
a time.  From the directory, another process can find, stop or restart it.
"""

import json
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from hack.local.binaries import find, kwok_stages, zookeeper_command
from hack.local.pki import make_key, make_pki
from hack.local.process import Process

ADMIN_TOKEN = "admin-of-the-local-cluster"
PORTS = ("etcd", "etcd-peer", "apiserver", "kwok", "zookeeper")
CONTROLLERS = ("kube-controller-manager", "kube-scheduler", "kwok")
ORDER = ("zookeeper", "etcd", "kube-apiserver", *CONTROLLERS)
BLOCK = 50  # ports that a process claims at a time
# With the usual 20 requests a second, the controllers alone take 5 s to start, and 1,000 pods a minute.
UNTHROTTLED = ("--kube-api-qps=1000", "--kube-api-burst=1000")


class LocalCluster:
    """A cluster in *directory*.  ``up`` may be called again, by any process; ``down`` ends it.

    *durable*: etcd and ZooKeeper sync each write to the disk.  *nodes*: how many kwok nodes, ``node1``…;
    with none, it is the caller alone who makes nodes and says how they and their pods are, unless
    *kubelets* will (``hack.local.nodes``).  *apiserver_flags* are added to kube-apiserver's,
    *manager_flags* to kube-controller-manager's.
    """

    def __init__(
        self,
        directory: Path,
        *,
        durable: bool = False,
        nodes: int = 3,
        kubelets: bool = False,
        apiserver_flags: Sequence[str] = (),
        manager_flags: Sequence[str] = (),
    ) -> None:
        self.directory = directory.resolve()
        self.kubeconfig = self.directory / "kubeconfig"
        self.ca_file = self.directory / "pki" / "ca.crt"
        self._durable = durable
        self._nodes = nodes
        self._kubelets = kubelets
        self._apiserver_flags = apiserver_flags
        self._manager_flags = manager_flags
        self._controllers = [name for name in CONTROLLERS if nodes or name != "kwok"]
        self._processes: dict[str, Process] = {}
        ports = self.directory / "ports.json"
        self._ports: dict[str, int] = json.loads(ports.read_text()) if ports.exists() else {}

    def __enter__(self) -> "LocalCluster":
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://127.0.0.1:{self._ports['apiserver']}"

    @property
    def etcd_url(self) -> str:
        """The URL of etcd."""
        return f"http://127.0.0.1:{self._ports['etcd']}"

    @property
    def zk_servers(self) -> str:
        """The ZooKeeper server's address."""
        return f"127.0.0.1:{self._ports['zookeeper']}"

    def process(self, name: str) -> Process:
        """A process by its program's name."""
        return self._processes[name]

    def up(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Start what does not run yet, and wait until all of it serves."""
        self._prepare()
        for name in ("zookeeper", "etcd"):
            self.process(name).start()
        self.process("etcd").wait_until_ready()
        progress("etcd is ready")
        self.process("kube-apiserver").start()
        self.process("kube-apiserver").wait_until_ready()
        progress("kube-apiserver is ready")
        for name in self._controllers:
            self.process(name).start()
        if self._nodes:
            self._add_nodes()
        self.process("zookeeper").wait_until_ready()
        progress("ZooKeeper is ready")
        self._wait_for_nodes()
        if self._nodes:
            progress(f"{self._nodes} nodes are ready")

    def down(self) -> None:
        """Stop everything; the directory stays, and ``up`` uses its data."""
        for name in reversed(ORDER):
            # What others started is found by its pid: to end it, no program has to be found or built.
            process = self._processes.get(name) or Process(name, self.directory, [], lambda: False)
            # Of a cluster that goes, nothing is worth waiting for.
            process.kill()

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002
        """Run kubectl as the administrator; return its output, or raise with its errors."""
        done = subprocess.run(
            [str(find("kubectl")), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def kubeconfig_for(self, token: str, file: Path, server: str | None = None) -> Path:
        """Write a kubeconfig with *token*; *server*: a proxy to use."""
        cluster: dict[str, Any] = {
            "server": server or self.server,
            "certificate-authority": str(self.ca_file),
        }
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "user"}}],
            "current-context": "local",
        }
        file.write_text(yaml.safe_dump(content))
        file.chmod(0o600)
        return file

    def wipe_zookeeper(self) -> None:
        """Delete ZooKeeper's data, as a person does by mistake; call it while ZooKeeper is down."""
        shutil.rmtree(self.directory / "zookeeper")

    # making

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "pki").mkdir(exist_ok=True)
        ports = self.directory / "ports.json"
        if not ports.exists():
            make_pki(self.directory / "pki")
            make_key(self.directory / "pki" / "service-accounts.key")
            (self.directory / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')
            # The last, as it says that the others are there.
            ports.write_text(json.dumps(dict(zip(PORTS, free_ports(len(PORTS)), strict=True))))
        self._load()
        self.kubeconfig_for(ADMIN_TOKEN, self.kubeconfig)
        self._write_configuration()

    def _load(self) -> None:
        self._ports = json.loads((self.directory / "ports.json").read_text())
        makers = {
            "etcd": (self._etcd, self._answers(f"{self.etcd_url}/health")),
            "kube-apiserver": (self._apiserver, self._answers(f"{self.server}/readyz")),
            "kube-controller-manager": (self._controller_manager, lambda: True),
            "kube-scheduler": (self._scheduler, lambda: True),
            "zookeeper": (self._zookeeper, self._zookeeper_serves),
        }
        if self._nodes:
            makers["kwok"] = (self._kwok, lambda: True)
        for name, (command, ready) in makers.items():
            if name not in self._processes:
                self._processes[name] = Process(name, self.directory, command(), ready)

    def _etcd(self) -> list[str]:
        client = self.etcd_url
        peer = f"http://127.0.0.1:{self._ports['etcd-peer']}"
        return [
            str(find("etcd")),
            "--data-dir=etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
            *([] if self._durable else ["--unsafe-no-fsync"]),
        ]

    def _apiserver(self) -> list[str]:
        return [
            str(find("kube-apiserver")),
            f"--etcd-servers={self.etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._ports['apiserver']}",
            "--tls-cert-file=pki/apiserver.crt",
            "--tls-private-key-file=pki/apiserver.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=pki/service-accounts.key",
            "--service-account-signing-key-file=pki/service-accounts.key",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            *self._apiserver_flags,
        ]

    def _controller_manager(self) -> list[str]:
        return [
            str(find("kube-controller-manager")),
            "--kubeconfig=kubeconfig",
            "--use-service-account-credentials",
            "--service-account-private-key-file=pki/service-accounts.key",
            "--root-ca-file=pki/ca.crt",
            "--secure-port=0",
            "--leader-elect=false",
            *UNTHROTTLED,
            "--controllers=*",
            # Tests bind pods to a node that does not exist, so that nobody else writes their status.
            *([] if self._kubelets else ["--controllers=-pod-garbage-collector-controller"]),
            # Without kwok or kubelets, nobody sends the heartbeats of nodes.
            *([] if self._nodes or self._kubelets else ["--controllers=-node-lifecycle-controller"]),
            *self._manager_flags,
        ]

    def _scheduler(self) -> list[str]:
        return [
            str(find("kube-scheduler")),
            "--kubeconfig=kubeconfig",
            "--secure-port=0",
            "--leader-elect=false",
            *UNTHROTTLED,
        ]

    def _kwok(self) -> list[str]:
        return [str(find("kwok")), "--kubeconfig=kubeconfig", "--config=kwok.yaml"]

    def _zookeeper(self) -> list[str]:
        return [*zookeeper_command(), str(self.directory / "zoo.cfg")]

    def _write_configuration(self) -> None:
        if self._nodes:
            self._write_kwok_configuration()
        zookeeper = {
            "tickTime": 1000,
            "dataDir": self.directory / "zookeeper",
            "clientPort": self._ports["zookeeper"],
            "clientPortAddress": "127.0.0.1",
            "admin.enableServer": "false",
            "maxClientCnxns": 0,
            "forceSync": "yes" if self._durable else "no",
            "4lw.commands.whitelist": "*",
        }
        lines = "".join(f"{key}={value}\n" for key, value in zookeeper.items())
        (self.directory / "zoo.cfg").write_text(lines)

    def _write_kwok_configuration(self) -> None:
        options = {
            "manageAllNodes": True,
            "cidr": "10.0.0.1/16",
            "nodeIP": "10.1.0.1",
            "serverAddress": f"127.0.0.1:{self._ports['kwok']}",
            "nodeLeaseDurationSeconds": 40,
            "podPlayStageParallelism": 8,
            "nodePlayStageParallelism": 8,
            "nodeLeaseParallelism": 8,
            "podsOnNodeSyncParallelism": 8,
        }
        kwok = {
            "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
            "kind": "KwokConfiguration",
            "options": options,
        }
        stages = [stage.read_text() for stage in kwok_stages()]
        (self.directory / "kwok.yaml").write_text("\n---\n".join([yaml.safe_dump(kwok), *stages]))

    def _add_nodes(self) -> None:
        nodes = [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": f"node{n}",
                    "labels": {"kubernetes.io/hostname": f"node{n}", "kubernetes.io/os": "linux"},
                },
                "spec": {"podCIDR": f"10.{100 + n // 250}.{n % 250}.0/24"},
            }
            for n in range(1, self._nodes + 1)
        ]
        self.kubectl(
            "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes})
        )

    def _wait_for_nodes(self, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while True:
            for name in self._controllers:
                self.process(name).wait_until_ready()
            nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
            waiting = [node["metadata"]["name"] for node in nodes if not schedulable(node)]
            # Pods need their namespace's ServiceAccount, which the controller manager makes.
            if not waiting and "default" in self.kubectl("get", "serviceaccounts", "-o", "name"):
                return
            if time.monotonic() > end:
                raise RuntimeError(
                    f"nodes {', '.join(waiting)} do not become ready: see {self.directory}/logs"
                )
            time.sleep(0.2)

    # looking

    def _answers(self, url: str) -> Callable[[], bool]:
        def look() -> bool:
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
            context = (
                ssl.create_default_context(cafile=str(self.ca_file)) if url.startswith("https") else None
            )
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            try:
                with opener.open(request, timeout=2) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        return look

    def _zookeeper_serves(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._ports["zookeeper"]), timeout=2) as connection:
                connection.sendall(b"srvr")
                return b"Mode:" in connection.makefile("rb").read()
        except OSError:
            return False


def schedulable(node: dict[str, Any]) -> bool:
    """Whether a Node is Ready, and takes any pod."""
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))
    return ready and not node["spec"].get("taints")


def free_ports(count: int) -> list[int]:
    """Find *count* free ports of loopback, below those that Linux makes connections from.

    While this process runs, this function gives them to no other process, whether somebody listens or not.
    """
    with _lock:
        return list(islice(_ports, count))


def _own_ports() -> Iterator[int]:
    """Yield free ports of blocks that are this process's: it has bound the first port of each."""
    while True:
        with suppress(OSError):
            first = random.randrange(10000, 30000, BLOCK)
            _claims.append(_bind(first))
            for port in range(first + 1, first + BLOCK):
                with suppress(OSError):
                    _bind(port).close()
                    yield port


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    try:
        bound.bind(("127.0.0.1", port))
    except OSError:
        bound.close()
        raise
    return bound


_lock = threading.Lock()  # guards _ports, and _claims that it fills
_claims: list[socket.socket] = []
_ports = _own_ports()
