"""Real nodes: kubelet and containerd in namespaces of their own, beside a local control plane.

A node is one tree of processes, from an init on (``node/init``), in a network namespace, a PID namespace, a
mount namespace and so on.  So neither kubelet nor containerd knows that there are several nodes, and nothing
of the host is changed.  Pods reach the API server and Services by kube-proxy, and names by CoreDNS.

Needs root, and cgroup v1; root need not have CAP_SYS_RESOURCE.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count as count_up
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hack.local import netns
from hack.local.addons import machine_of, run_dns, start_kube_proxy
from hack.local.binaries import debian, find
from hack.local.cluster import LocalCluster, schedulable
from hack.local.images import PAUSE, test_server
from hack.local.lifeline import CGROUPS, lifeline, thaw
from hack.local.netns import Machine, Network, make_network
from hack.local.process import Process, pause
from hack.local.proxy import Proxy
from hack.local.tunnel import Tunnel, egress

SCRIPTS = Path(__file__).with_name("node")
TOOLS = ("nsenter", "apt-get", "dpkg")
PACKAGES = ("containerd", "runc", "containernetworking-plugins")  # of Debian
UNWELL = ("not-ready", "unreachable")
# All machines are on one link: a node takes, at once, what is for its pods, and passes it on.
PASSES_ON = {"ip_forward": 1, "conf/eth0/proxy_arp": 1, "neigh/eth0/proxy_delay": 0}
PROBE = "mkdir -p /tmp && mount -t tmpfs tmpfs /tmp && mkdir /tmp/1 /tmp/2 && \
mount -t overlay -o lowerdir=/var,upperdir=/tmp/1,workdir=/tmp/2 overlay /var"
CONTAINERD = """
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {sandbox}
  # Root without CAP_SYS_RESOURCE may not make the kernel spare a process.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = {runc}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {plugins}
    conf_dir = {network}
"""


def missing() -> str | None:
    """Say what this machine lacks for real nodes; None if nothing."""
    if reason := netns.missing():
        return reason
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    if absent:
        return f"real nodes need {', '.join(absent)} on PATH"
    if not (CGROUPS / "memory" / "cgroup.procs").exists():
        return "real nodes need cgroup v1"
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "sh", "-c", PROBE],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"real nodes do not work here: {done.stderr.strip()}" if done.returncode else None


class Waits(NamedTuple):
    """How long Kubernetes waits for a node that is silent, in seconds."""

    lease: int  # kubelet renews it each quarter
    period: int  # between two looks of the node lifecycle controller
    grace: int  # until the Node is not Ready
    evicts: int  # from then on until its pods are evicted

    def of_apiserver(self) -> list[str]:
        """kube-apiserver's flags."""
        return [f"--default-{what}-toleration-seconds={self.evicts}" for what in UNWELL]

    def of_manager(self) -> list[str]:
        """kube-controller-manager's flags."""
        return [f"--node-monitor-grace-period={self.grace}s", f"--node-monitor-period={self.period}s"]


HASTY = Waits(lease=8, period=1, grace=10, evicts=5)
BY_DEFAULT = Waits(lease=40, period=5, grace=50, evicts=300)


class Node:
    """A node that runs: its *machine*, and the processes of it."""

    def __init__(self, name: str, machine: Machine, group: str, state: Path, init: Process) -> None:
        self.name = name
        self.machine = machine
        self.manifests = machine.directory / "manifests"  # static pods: kubelet runs what lies in here
        self._addresses = machine.directory / "addresses"
        self._group = group
        self._pods = state / "var" / "log" / "pods"
        self._init = init

    def silence(self) -> None:
        """Stop the kubelet alone; the pods go on."""
        pause(self._pid("kubelet"))

    def resume(self) -> None:
        """Let the kubelet go on."""
        os.kill(self._pid("kubelet"), signal.SIGCONT)

    def freeze(self) -> None:
        """Stop all that runs on the node, as a machine does that hangs; what it was told waits for it."""
        state = CGROUPS / "freezer" / self._group / "freezer.state"
        state.write_text("FROZEN")
        while state.read_text().strip() != "FROZEN":
            time.sleep(0.001)

    def thaw(self) -> None:
        """Let all go on."""
        thaw(CGROUPS / "freezer" / self._group)

    def restart_kubelet(self) -> None:
        """Kill the kubelet; its init starts another, which serves when this returns."""
        os.kill(before := self._pid("kubelet"), signal.SIGKILL)
        end = time.monotonic() + 60
        while self._find("kubelet") in (before, None) or not self.serves():
            if time.monotonic() > end:
                raise RuntimeError(f"no new kubelet serves on {self.name}")
            time.sleep(0.05)

    def give_out_again(self) -> None:
        """Give the next pod the lowest address that is free, and not the one after the last."""
        for file in self._addresses.glob("*/last_reserved_ip.*"):
            file.unlink()

    def serves(self) -> bool:
        """Whether its kubelet is well."""
        return self.machine.answers("http://127.0.0.1:10248/healthz")

    def get(self, url: str) -> str | None:
        """What an HTTP server answers to a program on this node; None if it does not, or with an error."""
        done = self.machine.run("curl", "--silent", "--fail", "--max-time", "5", url)
        return None if done.returncode else done.stdout

    def logs(self, namespace: str, pod: str) -> str:
        """What the containers of a pod have printed, the former ones, too."""
        files = self._pods.glob(f"{namespace}_{pod}_*/*/*.log")
        return "".join(file.read_text() for file in sorted(files))

    def load(self, image: Path) -> None:
        """Give the node one more image, an archive."""
        enter = ["nsenter", f"--mount=/proc/{self._pid('containerd')}/ns/mnt"]
        command = [str(debian("containerd") / "usr" / "bin" / "ctr"), "--namespace", "k8s.io"]
        subprocess.run([*enter, *command, "images", "import", str(image)], check=True, capture_output=True)

    def _pid(self, program: str) -> int:
        """The host's pid of a program of the node."""
        if not (found := self._find(program)):
            raise RuntimeError(f"no {program} runs on {self.name}: see {self._init.log.parent}")
        return found

    def _find(self, program: str) -> int | None:
        for pid in (CGROUPS / "pids" / self._group / "cgroup.procs").read_text().split():
            with suppress(OSError):  # it has ended meanwhile
                if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                    return int(pid)
        return None


class RealCluster(NamedTuple):
    """A control plane, and its nodes by name."""

    control: LocalCluster
    nodes: Mapping[str, Node]

    def load(self, *archives: Path) -> None:
        """Give all nodes more images."""
        with ThreadPoolExecutor() as threads:
            for archive in archives:
                list(threads.map(partial(Node.load, image=archive), self.nodes.values()))

    def forward(self, host: str, port: int) -> Proxy:
        """A proxy by which programs of this machine reach a Service or pod, as programs on a node do."""
        machine = next(iter(self.nodes.values())).machine
        return Proxy(f"{host}:{port}", connect=machine.connect)


@contextmanager
def real_cluster(directory: Path, count: int = 2, waits: Waits = HASTY) -> Iterator[RealCluster]:
    """A cluster with the nodes ``node1``…, all Ready.

    They have the image of the test server, and what ``load`` gives them.
    """
    name, directory = f"rpcregistry-nodes-{os.getpid()}-{next(_clusters)}", directory.resolve()
    state, folders = directory / "state", directory / "nodes"
    folders.mkdir(parents=True)
    selection = directory / "egress.yaml"
    selection.write_text(yaml.safe_dump(egress(name)))
    by_tunnel = (f"--egress-selector-config-file={selection}", "--kubelet-preferred-address-types=InternalIP")
    control = LocalCluster(
        directory,
        nodes=0,
        kubelets=True,
        apiserver_flags=[*waits.of_apiserver(), *by_tunnel],
        manager_flags=waits.of_manager(),
    )
    with ExitStack() as stack:
        stack.enter_context(lifeline(name, directory, state))
        stack.enter_context(control)
        network = stack.enter_context(make_network(folders, name))
        _serve_api(stack, network, control, name)
        dns = stack.enter_context(run_dns(network, control))
        machines = {
            f"node{n}": (stack.enter_context(machine_of(f"node{n}", network, control)), f"10.244.{n}.0/24")
            for n in range(1, count + 1)
        }
        nodes = {
            node: _start(node, machine, f"{name}-{node}", subnet, dns, control, state / node, waits)
            for node, (machine, subnet) in machines.items()
        }
        _wait_until_ready(control, nodes)
        for node, (machine, _) in machines.items():
            machine.resolve_through(dns, "svc.cluster.local")
            start_kube_proxy(node, machine, control)
        yield RealCluster(control, nodes)


def _serve_api(stack: ExitStack, network: Network, control: LocalCluster, tunnel: str) -> None:
    """Let pods reach the API server by its Service, and it the kubelets: a machine stands for the host."""
    machine = stack.enter_context(network.machine("api"))
    stack.enter_context(Tunnel(tunnel, machine.connect))
    listener = machine.listen(machine.address, 443)
    stack.enter_context(Proxy(control.server.removeprefix("https://"), listener=listener))
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": 443}],
        "endpoints": [{"addresses": [machine.address]}],
    }
    control.kubectl("apply", "-f", "-", input=json.dumps(endpoints))


def _start(
    name: str,
    machine: Machine,
    group: str,
    subnet: str,
    dns: str,
    control: LocalCluster,
    state: Path,
    waits: Waits,
) -> Node:
    folder = machine.directory
    for part in ("network", "manifests", "logs", "settings"):
        (folder / part).mkdir()
    for part in ("containerd", "kubelet", "var", "work"):
        (state / part).mkdir(parents=True)
    containerd = debian("containerd") / "usr" / "bin"
    settings = {
        "sandbox": PAUSE,
        "runc": str(debian("runc") / "usr" / "sbin" / "runc"),
        "plugins": str(debian("containernetworking-plugins") / "usr" / "lib" / "cni"),
        "network": str(folder / "network"),
    }
    quoted = {key: json.dumps(value) for key, value in settings.items()}
    (folder / "containerd.toml").write_text(CONTAINERD.format(**quoted))
    (folder / "network" / "10-pods.conflist").write_text(json.dumps(_network(subnet, folder / "addresses")))
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(_configuration(folder, dns, waits)))
    environment = {
        "NODE": name,
        "STATE": str(state),
        "ADDRESS": machine.address,
        "KUBECONFIG": str(control.kubeconfig),
        "KUBELET": str(find("kubelet")),
        "CONTAINERD": str(containerd / "containerd"),
        "CTR": str(containerd / "ctr"),
        "IMAGE": str(test_server()),
        "PATH": f"{containerd}:{os.environ['PATH']}",  # containerd finds its shim on it
    }
    lines = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in environment.items())
    (folder / "environment").write_text(lines)
    for setting, value in PASSES_ON.items():
        machine.run("sh", "-c", f"echo {value} > /proc/sys/net/ipv4/{setting}")
    command = [str(SCRIPTS / "start"), group, str(machine.file), str(folder)]
    init = Process("init", folder, command, lambda: True)
    init.start()
    return Node(name, machine, group, state, init)


def _network(subnet: str, addresses: Path) -> dict[str, Any]:
    """The pods' network of a node: a bridge, from which the node passes packets on."""
    ranges = {
        "type": "host-local",
        "dataDir": str(addresses),
        "ranges": [[{"subnet": subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True, "ipam": ranges}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def _configuration(folder: Path, dns: str, waits: Waits) -> dict[str, Any]:
    # https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "clusterDNS": [dns],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "failSwapOn": False,
        "staticPodPath": str(folder / "manifests"),
        "fileCheckFrequency": "1s",
        "nodeLeaseDurationSeconds": waits.lease,
        # The disk and the memory are the host's, which others use, too.
        "localStorageCapacityIsolation": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "1Mi",
            **dict.fromkeys(
                ("nodefs.available", "imagefs.available", "nodefs.inodesFree", "imagefs.inodesFree"), "0%"
            ),
        },
    }


def _wait_until_ready(control: LocalCluster, names: Collection[str], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = json.loads(control.kubectl("get", "nodes", "-o", "json"))["items"]
        if {node["metadata"]["name"] for node in found if schedulable(node)} >= set(names):
            return
        time.sleep(0.2)
    raise RuntimeError(f"{', '.join(names)} do not become Ready: see {control.directory}/nodes/*/logs")


_clusters = count_up(1)  # of this process
