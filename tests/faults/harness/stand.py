"""Where a test stands: its own part of the ground that all share.

A ``Stand`` is a test's namespaces, its chroot in ZooKeeper and its replicas of the controller: under the
ServiceAccount of ``examples/controller.yaml``, with its rights, and with default flags, but for
``--namespace``, so that tests do not see each other's pods, and ``--lease-namespace``, as they are no pods
themselves.
"""

import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import KazooException
from kazoo.retry import KazooRetry
from kubernetes import client

from hack.local.cluster import ADMIN_TOKEN, free_ports
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness import audit, invariants, oracle, zklog
from tests.faults.harness.cluster import FaultHttpProxy, FaultProxy
from tests.faults.harness.evidence import Evidence, Fault, Request
from tests.faults.harness.ground import ACCOUNT, EXAMPLE, TOP, Ground
from tests.faults.harness.kubelet import Life, Replica, ask, log_lines
from tests.faults.harness.reading import TIMEOUT, agrees, is_in_sync, parsed, subtree, within

USER = "system:serviceaccount:rpcregistry:rpcregistry"
LEASE = "rpcregistry"
BASE = "/rpc_v2"  # of the default layout
FOREIGN = {f"{BASE}-of-others/echo": b"theirs", "/elsewhere": b"", "/elsewhere/echo": b"theirs"}
HURRY = 10.0  # a back-off of 10 s becomes one of 1 s: a kubelet's patience is not what is tested


class Package(NamedTuple):
    """The controller's import package in some checkout: its name, and where it is imported from."""

    name: str
    path: Path

    @classmethod
    def of(cls, checkout: Path) -> "Package":
        """As the checkout has it, today's or an older one's."""
        inside = checkout / "controller" / "rpcregistry"
        return cls("rpcregistry", inside.parent) if inside.exists() else cls("controller", checkout)


class Servers(NamedTuple):
    """ZooKeeper servers: their addresses, as clients write them, and one's data directories, in order."""

    addresses: str
    data: Sequence[Path]


REST_SHARE, SHORTEST_REST, LONGEST_REST = 0.02, 0.05, 1.0  # of a test's time; seconds
RESTLESS = 10.0  # seconds
TAKEOVER = 60.0  # seconds, at most, until a replica leads that was started again


class Stand:
    """One test's part of *ground*, its files in *directory*.

    The Lease lies in the first of *namespaces*, which are there already.  *zookeeper*: servers of the test's
    own, in place of the ground's.  *everywhere*: the controller serves all namespaces of the ground, without
    ``--namespace``; ``serve`` names those that the test makes.  *rest*: for how many seconds the product is
    to have had nothing to do before its end; by default a share of what the test takes.
    """

    def __init__(
        self,
        ground: Ground,
        namespaces: Sequence[str],
        directory: Path,
        *,
        package: Package = Package.of(TOP),  # noqa: B008  (it is frozen)
        zookeeper: Servers | None = None,
        everywhere: bool = False,
        rest: float | None = None,
    ) -> None:
        self.ground = ground
        self.namespaces = namespaces
        self.chroot = f"/{namespaces[0]}"
        self.allowed: dict[str, str] = {}
        self.foreign = dict(FOREIGN)
        self.user = USER
        self.zk_answers: list[bytes] = []
        self.replicas: list[Replica] = []
        self._began = time.time()
        self._mark = ground.history.mark()
        self._audited = ground.cluster.audit_log.stat().st_size
        self._directory = directory
        self._package = package
        self._zookeeper = zookeeper
        self.rest = rest
        self._servers = zookeeper.addresses if zookeeper else ground.cluster.zk_servers
        self._sessions: set[int] = set()
        self._layouts: list[tuple[str, str]] = []
        self._everywhere = everywhere
        self._templates: dict[str, oracle.Manifest] = {}
        self._flags: dict[str, Any] = {"templates": self._templates}
        if not everywhere:
            self._flags["namespace"] = tuple(namespaces)
        self._quiet: list[tuple[float, float]] = []
        self._faults: list[Fault] = []
        self._judged = False
        self._stack = ExitStack()

    def __enter__(self) -> "Stand":
        for namespace in self.namespaces:
            self._may_have_lease(namespace)
        self.connect(chroot="").create(self.chroot, b"", makepath=True)
        self.zk = self.connect()
        for path, data in FOREIGN.items():
            self.put_foreign(path, data)
        return self

    def __exit__(self, *_: object) -> None:
        for replica in self.replicas:
            replica.kill()
        leases = client.CoordinationV1Api(self.ground.api)
        for namespace in self.namespaces:
            with suppress(client.ApiException):  # who purges looks at those of all namespaces
                leases.delete_namespaced_lease(LEASE, namespace)
        self._stack.close()

    @property
    def zk_servers(self) -> str:
        """Where its controllers find ZooKeeper."""
        return self._servers + self.chroot

    def serve(self, namespace: str) -> World:
        """One more namespace that is there already: what the test does to it, and sees of it."""
        self.namespaces = [*self.namespaces, namespace]
        return self.world(namespace)

    def world(self, namespace: str | None = None) -> World:
        """What the test does to its namespaces, and sees of them and its chroot."""
        cluster = self.ground.cluster
        made = World(cluster.kubeconfig, cluster.kubectl, namespace or self.namespaces[0], self.zk, BASE)
        made.cluster_id = self.ground.cluster_id
        self._stack.callback(made.close)
        return made

    def connect(self, chroot: str | None = None) -> KazooClient:
        """A ZooKeeper client that is not the product's."""
        hosts = self._servers + (self.chroot if chroot is None else chroot)
        made = KazooClient(hosts, connection_retry=KazooRetry(max_tries=-1, max_delay=0.5))

        @made.add_listener
        def note(state: KazooState) -> None:
            if state == KazooState.CONNECTED:
                self._sessions.add(made.client_id[0])

        made.start(60)
        self._stack.callback(made.close)
        self._stack.callback(made.stop)
        return made

    def kubeconfig(self, server: str | None = None) -> Path:
        """The controller's kubeconfig; *server*: a proxy in between."""
        file = self._directory / f"kubeconfig-{len(list(self._directory.glob('kubeconfig-*')))}"
        return self.ground.cluster.kubeconfig_for(self.ground.token, file, server)

    # the controller

    def command(self, *arguments: str, package: Package | None = None) -> tuple[list[str], dict[str, str]]:
        """The public command with *arguments*: what to run, and its variables."""
        found = package or self._package
        return [sys.executable, "-m", found.name, *arguments], {"PYTHONPATH": str(found.path)}

    def start(
        self,
        *flags: str,
        api: str | None = None,
        zk: str | None = None,
        kubeconfig: Path | None = None,
        namespaces: Sequence[str] | None = None,
        lease_namespace: str | None = None,
        wrap: Sequence[str] = (),
        package: Package | None = None,
        **more: Any,
    ) -> Replica:
        """Start a replica of the controller with *flags*.

        *api* (a URL), *zk* (``HOST:PORT``): proxies in between.  *wrap*: a command that runs the
        controller's.  *package*: another version.  *more* is ``Replica``'s.
        """
        (port,) = free_ports(1)
        served = namespaces or (() if self._everywhere else self.namespaces)
        scope = [f"--namespace={name}" for name in served]
        command, environment = self.command(
            "run",
            *("--kubeconfig", str(kubeconfig or self.kubeconfig(api))),
            *("--zk-servers", f"{zk or self._servers}{self.chroot}"),
            *scope,
            *("--lease-namespace", lease_namespace or self.namespaces[0]),
            *("--bind-address", f"127.0.0.1:{port}"),
            *flags,
            package=package,
        )
        self._note(flags)
        name = f"controller-{len(self.replicas)}"
        options = {"hurry": HURRY, "faults": self.ground.cluster.faults, **more}
        replica = Replica([*wrap, *command], environment, self._directory, name, port=port, **options)
        self.replicas.append(replica)
        return replica.start()

    def bury(self, life: Life) -> None:
        """Have the Lease of a process that was killed be free now, as if it had run out.

        Fifteen seconds are the Lease's own, and its own tests wait for them.
        """
        leases = client.CoordinationV1Api(self.ground.api)
        try:
            found = leases.read_namespaced_lease(LEASE, self.namespaces[0])
        except client.ApiException:
            return  # it has not come to have one
        holder = found.spec.holder_identity
        if holder not in {line.get("identity", "") for line in log_lines(life.text())}:
            return
        body = {
            "metadata": {"annotations": {"rpcregistry.dev/released-by": holder}},
            "spec": {"holderIdentity": None, "leaseDurationSeconds": 1},
        }
        leases.patch_namespaced_lease(LEASE, self.namespaces[0], body)

    # what stands in between

    @cached_property
    def api(self) -> FaultHttpProxy:
        """A proxy that sees requests to the API server."""
        cluster = self.ground.cluster
        proxy = FaultHttpProxy(cluster.server, cluster.directory / "pki", cluster.faults)
        return self._stack.enter_context(proxy)

    @cached_property
    def api_bytes(self) -> FaultProxy:
        """A proxy in front of the API server that sees bytes."""
        server = self.ground.cluster.server.removeprefix("https://")
        proxy = FaultProxy(server, self.ground.cluster.faults)
        return self._stack.enter_context(proxy)

    @cached_property
    def zk_proxy(self) -> FaultProxy:
        """A proxy in front of ZooKeeper; ``zk_answers`` grows by what ZooKeeper sends through it."""
        faults = self.ground.cluster.faults
        proxy = FaultProxy(self._servers, faults, on_answer=self.zk_answers.append)
        return self._stack.enter_context(proxy)

    def heal(self) -> None:
        """Mend all that was broken, and let replicas go on that were stopped."""
        if "api" in vars(self):
            self.api.reset()
        for name in ("api_bytes", "zk_proxy"):
            if name in vars(self):
                getattr(self, name).pass_through()
        self.ground.cluster.heal()
        for replica in self.replicas:
            if replica.running:
                replica.signal(signal.SIGCONT)

    # what a judge has to know

    def allow(self, invariant: str, reason: str) -> None:
        """The test breaks an invariant by intent."""
        self.allowed[invariant] = reason

    def put_foreign(self, path: str, data: bytes, *, ephemeral: bool = False) -> None:
        """Somebody else's znode; nobody touches it, and no client of ours reads it."""
        self.foreign[path] = data
        self.zk.create(path, data, makepath=True, ephemeral=ephemeral)

    @contextmanager
    def fault(self, kind: str, services: Iterable[str] | None = None, **more: Any) -> Iterator[None]:
        """Something is broken that no server or proxy tells of by itself; see ``evidence.Fault``."""
        began = time.time()
        try:
            yield
        finally:
            only = None if services is None else frozenset(services)
            self._faults.append(Fault(kind, began, time.time(), only, **more))

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Nobody changes anything meanwhile."""
        began = time.time()
        yield
        self._quiet.append((began, time.time()))

    def is_right(self) -> bool:
        """Whether statuses, ZooKeeper and node Services are as the objects have it, or leave it open."""
        listed = {kind: self.ground.history.listed(kind, self.namespaces) for kind in oracle.KINDS}
        world = oracle.world_of(listed, layouts=self._layouts, **self._flags)
        desired, undecided = oracle.desired(world), oracle.undecided(world)
        return (
            oracle.statuses(world) == oracle.listed(world.rpcservices)
            and not any(True for _ in oracle.wrong_node_services(world))
            and all(
                agrees(
                    oracle.read(*layout, self._znodes(layout[1]), world.templates),
                    desired.get(layout, {}),
                    undecided.get(layout, {}),
                )
                for layout in self._layouts
            )
        )

    def _znodes(self, base: str) -> Mapping[str, bytes]:
        found = subtree(self.zk, base)
        return {path: data for path, data in found.items() if path not in self.foreign}

    def close(self) -> Evidence:
        """Wait until all is right, as far as that is to be; stop the replicas; what was witnessed."""
        rests = None
        if "I1" not in self.allowed and any(
            replica.wanted and any(life.has_led() for life in replica.lives) for replica in self.replicas
        ):  # one that led is to lead again
            self.zk = self.connect()  # one that knew wiped data is refused for ever
            within = max([15.0, *(fault.recovery for fault in self._all_faults())])
            if not any(replica.leads() for replica in self.replicas):
                within += TAKEOVER
            with suppress(AssertionError):  # the judge says what is wrong, and better
                eventually(self._is_right_if_seen, timeout=within)
                rests = self._rest()
        texts = {
            f"metrics of {replica.name}": ask(replica.port, "/metrics")[1]
            for replica in self.replicas
            if replica.running
        }
        if rests:
            self._quiet.append((rests, time.time()))
        for replica in self.replicas:
            if replica.wanted:
                with suppress(AssertionError):  # one that has just begun does not know the signal yet
                    eventually(lambda: ask(replica.port, "/healthz")[0])  # noqa: B023
                replica.stop()
        self.ground.history.catch_up(self.namespaces)
        return self._evidence(texts)

    def _rest(self) -> float | None:
        """Wait until nothing more comes of what happened; return since when, None where not all is in sync.

        That nothing was asked for a moment shows it: from then on nothing is to be written.  By default the
        moment is short beside what the test has taken.  The last moment counts where the product never rests.
        """
        if not all(map(is_in_sync, self.ground.history.listed("RpcService", self.namespaces))):
            return None
        share = (time.time() - self._began) * REST_SHARE
        moment = self.rest or min(max(share, SHORTEST_REST), LONGEST_REST)
        seen, since, end = self._asked(), time.time(), time.time() + RESTLESS
        while time.time() < min(since + moment, end):
            time.sleep(0.02)
            if (asked := self._asked()) != seen:
                seen, since = asked, time.time()
        return since if time.time() < end else time.time() - moment

    def _asked(self) -> tuple[int, int]:
        """What changes with each request of the product that is for no Lease, and each transaction."""
        self.zk.exists_async("/").get(timeout=TIMEOUT)
        ours = f'"username":"{self.user}"'.encode()
        with self.ground.cluster.audit_log.open("rb") as file:
            file.seek(self._audited)
            asked = sum(ours in line and b'"resource":"leases"' not in line for line in file)
        return asked, self.zk.last_zxid

    def check(self) -> None:
        """Judge what was witnessed, once, where a controller ran; raise all that is wrong as one error."""
        if self.replicas and not self._judged:
            self._judged = True
            invariants.check(self.close())

    def _evidence(self, texts: Mapping[str, str]) -> Evidence:
        ended = time.time()
        data = self._zookeeper.data if self._zookeeper else self.ground.cluster.zookeeper_data
        logs = [part for path in data if (part := within(zklog.read(path), self.chroot, self._began))]
        return Evidence(
            began=self._began,
            ended=ended,
            cluster_id=self.ground.cluster_id,
            layouts=tuple(self._layouts),
            own_user=self.user,
            logs=logs,
            requests=[request for request in self._requests() if self._concerns(request)],
            history=self.ground.history.since(self._mark, self.namespaces),
            processes=[life.record() for replica in self.replicas for life in replica.lives],
            other_sessions=frozenset(self._sessions),
            flags=self._flags,
            faults=self._all_faults(),
            quiet=tuple(self._quiet),
            foreign=self.foreign,
            secrets=(self.ground.token, ADMIN_TOKEN),
            texts=texts,
            allow=self.allowed,
        )

    def _requests(self) -> Sequence[Request]:
        """What was asked since the test began; what was before is not read again for every test."""
        log = self.ground.cluster.audit_log
        own = self._directory / log.name
        with log.open("rb") as file:
            file.seek(self._audited)
            own.write_bytes(file.read())
        for second in log.parent.glob(f"{log.stem}-*"):
            shutil.copy(second, self._directory)
        return [request for request in audit.read(own) if request.at >= self._began]

    def _all_faults(self) -> list[Fault]:
        return [*self._faults, *self.ground.cluster.faults.since(self._began)]

    def _concerns(self, request: Request) -> bool:
        return not request.namespace or request.namespace in self.namespaces

    def _is_right_if_seen(self) -> bool:
        try:
            return self.is_right()
        except (OSError, KazooException, self.zk.handler.timeout_exception):
            return False

    def _note(self, flags: Sequence[str]) -> None:
        """What of a replica's flags decides what is published, and where."""
        given = dict(parsed(flags))
        for name, file in (text.split("=", 1) for text in given.get("--template", ())):
            self._templates[name] = yaml.safe_load(Path(file).read_text())
        for text in given.get("--layout", [f"kube2zk={BASE}"]):
            name, base = text.split("=", 1)
            if (name, base) not in self._layouts:
                self._layouts.append((name, base))
        for flag, field in ORACLES_FLAGS.items():
            if flag in given:
                self._flags[field] = given[flag][-1]

    def _may_have_lease(self, namespace: str) -> None:
        """Give the ServiceAccount in another namespace the rights that the example gives it in its own."""
        examples = yaml.safe_load_all(EXAMPLE.read_text())
        (role,) = [found for found in examples if found["kind"] == "Role"]
        rbac = client.RbacAuthorizationV1Api(self.ground.api)
        rbac.create_namespaced_role(namespace, {**role, "metadata": {"name": LEASE}})
        subject = {"kind": "ServiceAccount", "namespace": ACCOUNT[0], "name": ACCOUNT[1]}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": LEASE}
        binding = {"metadata": {"name": LEASE}, "roleRef": reference, "subjects": [subject]}
        rbac.create_namespaced_role_binding(namespace, binding)


ORACLES_FLAGS = {
    "--cross-namespace": "cross_namespace",
    "--node-label": "node_label",
    "--pod-label-selector": "pod_label_selector",
}
