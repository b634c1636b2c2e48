"""A local cluster of its own, and the controller as users run it."""

import compileall
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.request import ProxyHandler, build_opener

import msgspec

from hack.bench import gauges
from hack.bench.figures import Cost
from hack.bench.http import Client, Request, request
from hack.bench.peers import Peer
from hack.bench.population import (
    NAMESPACE,
    BarePod,
    Population,
    creation,
    deletion,
    turning_ready,
    wrong,
)
from hack.bench.znodes import Znodes
from hack.local.cluster import ADMIN_TOKEN, LocalCluster, free_ports
from hack.local.controller import controller
from hack.local.process import Process

T = TypeVar("T")
TOP = Path(__file__).parents[2]
RPCSERVICES = f"/apis/rpcregistry.dev/v1alpha1/namespaces/{NAMESPACE}/rpcservices"
PATIENCE = 600.0  # seconds; bounds a failure and measures nothing
Progress = Callable[[Iterable[T], int, str], Iterator[T]]


def until(right: Callable[[], T], what: str, every: float = 0.02) -> T:
    """Call *right* until it returns a true value; return that."""
    end = time.monotonic() + PATIENCE
    while not (found := right()):
        if time.monotonic() > end:
            raise RuntimeError(f"after {PATIENCE:g} s: {what}")
        time.sleep(every)
    return found


class _Condition(msgspec.Struct):
    type: str
    status: str


class _Status(msgspec.Struct):
    conditions: list[_Condition] = []


class _Service(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


class _Services(msgspec.Struct):
    items: list[_Service]


class Stage:
    """A cluster in *directory*; *track* shows progress: ``track(steps, how many, what)``.

    There is no kubelet, no scheduler and no garbage collector: scenarios do their work.
    """

    def __init__(self, directory: Path, track: Progress[bytes]) -> None:
        self._directory = directory
        self._track = track
        # Pods are made as objects; nobody makes service accounts for them.
        self.cluster = LocalCluster(
            directory / "cluster", nodes=0, apiserver_flags=["--disable-admission-plugins=ServiceAccount"]
        )
        self.population = Population()
        self._controller: Process | None = None
        self._port: int | None = None
        self._peer: Peer | None = None

    def __enter__(self) -> "Stage":
        compileall.compile_dir(TOP / "controller" / "rpcregistry", quiet=1)  # as in the image
        try:
            self.cluster.up()
            for name in ("kube-scheduler", "kube-controller-manager"):
                self.cluster.process(name).stop()
            self.cluster.kubectl("apply", "-f", str(TOP / "crds"))
            self.cluster.kubectl("wait", "--for=condition=Established", "-f", str(TOP / "crds"))
            self.api = Client(self.cluster.server, self.cluster.ca_file, ADMIN_TOKEN)
            self.znodes = Znodes(self.cluster.zk_servers)
            self.send(request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}))
            self._warm_up()
        except BaseException:
            self.cluster.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.znodes.close()
        self.api.close()
        self.cluster.down()

    def _warm_up(self) -> None:
        """Make an RpcService: the first object of a new CRD takes the API server two seconds."""
        name = "warm-up"
        until(lambda: self._serves(RPCSERVICES), "the API server does not serve rpcservices")
        manifest = {
            "apiVersion": "rpcregistry.dev/v1alpha1",
            "kind": "RpcService",
            "metadata": {"name": name},
        }
        self.send(request("POST", RPCSERVICES, manifest))
        self.send(request("DELETE", f"{RPCSERVICES}/{name}"))

    def _serves(self, path: str) -> bool:
        return bool(self.cluster.kubectl("get", "--raw", path))

    def send(self, *asked: Request) -> list[bytes]:
        """Send requests, over all connections."""
        return list(self.api.each(asked))

    # pods

    def populate(self, pods: Iterable[BarePod]) -> None:
        """Create the pods that do not exist yet, Ready at their addresses."""
        added = self.population.add(pods)
        self.follow("creating pods", map(creation, added), len(added))
        self.follow("turning pods Ready", map(turning_ready, added), len(added))

    def delete(self, pods: Sequence[BarePod]) -> None:
        """Delete pods at once."""
        self.population.remove(pods)
        self.follow("deleting pods", map(deletion, pods), len(pods))

    def follow(self, what: str, asked: Iterable[Request], total: int) -> None:
        """Send requests over all connections, and show how far that is."""
        for _ in self._track(self.api.each(list(asked)), total, what):
            pass

    def clear(self) -> None:
        """Delete all RpcServices and znodes."""
        self.send(Request("DELETE", RPCSERVICES))
        self.znodes.wipe()

    # the controller

    @contextmanager
    def instead(self, peer: Peer) -> Iterator[None]:
        """Have *peer* run wherever a scenario runs the controller, until the end of a ``with``."""
        self.clear()
        self._peer = peer
        try:
            yield
        finally:
            self._peer = None
            self.clear()

    @property
    def is_ours(self) -> bool:
        """Whether the controller is ours: no other one has probes and conditions."""
        return self._peer is None

    def start(self, *flags: str) -> float:
        """Start the controller; return when that was, by the monotonic clock."""
        self._controller = self._of_peer(self._peer) if self._peer else self._ours(*flags)
        started = time.monotonic()
        self._controller.start()
        return started

    def _of_peer(self, peer: Peer) -> Process:
        command = peer.command(self.cluster.kubeconfig, self.cluster.zk_servers)
        return Process(peer.name, self._directory.resolve(), command, lambda: True)

    def _ours(self, *flags: str) -> Process:
        self._port = free_ports(1)[0]
        return controller(
            self._directory.resolve(),
            lambda: True,
            *flags,
            kubeconfig=self.cluster.kubeconfig,
            zk_servers=self.cluster.zk_servers,
            lease_namespace=NAMESPACE,
            bind_address=f"127.0.0.1:{self._port}",
        )

    def stop(self) -> None:
        """Stop the controller, if one runs."""
        if self._controller:
            self._controller.stop()
        self._controller = self._port = None

    def answers(self, path: str) -> bool:
        """Whether the controller answers a probe with 200; raises if it has ended."""
        if not self.controller.pid:
            raise RuntimeError(f"the controller has ended: see {self.controller.log}")
        opener = build_opener(ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    @property
    def controller(self) -> Process:
        """The controller's process."""
        assert self._controller
        return self._controller

    @contextmanager
    def running(self, *flags: str) -> Iterator[float]:
        """The controller, from its start to the end of a ``with``."""
        try:
            yield self.start(*flags)
        finally:
            self.stop()

    def until_right(self, content: Mapping[str, bytes] | None = None) -> float:
        """Wait until the znodes are right, byte for byte; return when we saw that.

        *content*: by default that of all pods.  The znodes are read once there are enough of them:
        reading all the time would cost, too.
        """
        wanted = self.population.expected() if content is None else content

        def look() -> float | None:
            if not self.controller.pid:
                raise RuntimeError(f"the controller has ended: see {self.controller.log}")
            if self.znodes.count() != len(wanted):
                return None
            at = time.monotonic()
            return None if wrong(self.znodes.content(), wanted) else at

        return until(look, "the znodes are not right") or 0.0

    def until_up_to_date(self) -> None:
        """Wait until the controller is ready, the znodes are right and every RpcService says so."""
        if self.is_ours:
            until(lambda: self.answers("/readyz"), "the controller does not become ready")
        self.until_right()
        if self.is_ours:
            self.until_synced()

    def until_synced(self) -> None:
        """Wait until every RpcService says that it is in ZooKeeper."""
        # Rarely, since each LIST costs the API server as much as many writes.
        until(self._all_synced, "Synced is not written", every=2.0)

    def _all_synced(self) -> bool:
        listed = msgspec.json.decode(self.api.send(Request("GET", RPCSERVICES)), type=_Services)
        return all(
            any((c.type, c.status) == ("Synced", "True") for c in item.status.conditions)
            for item in listed.items
        )

    # gauges

    def read(self) -> gauges.Reading:
        """Read the usage of all programs."""
        pids = {name: self.cluster.process(name).pid for name in ("kube-apiserver", "etcd", "zookeeper")}
        pids["controller"] = self._controller.pid if self._controller else None
        return gauges.read(self.api, self.cluster.zk_servers, pids, self._port)

    def change_seconds(self) -> dict[str, tuple[float, float]]:
        """How long changes took our controller so far, by part: the sum of seconds, and how many changes."""
        return gauges.change_seconds(self._port)

    def cost_since(self, before: gauges.Reading) -> Cost:
        """Usage since *before*."""
        return gauges.cost(before, self.read())
