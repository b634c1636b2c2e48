"""Where the tests stand: the ground that they share, and each one's own part of it.

``Ground`` is a cluster with its witnesses.  A ``Stand`` is a test's namespaces, its chroot in ZooKeeper and
its replicas of the controller: under the ServiceAccount of ``examples/controller.yaml``, with its rights, and
with default flags, but for ``--namespace``, so that tests do not see each other's pods, and
``--lease-namespace``, as they are no pods themselves.
"""

import shutil
import signal
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.retry import KazooRetry
from kubernetes import client, config

from hack.local.cluster import ADMIN_TOKEN, free_ports
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness import audit, invariants, oracle, zklog
from tests.faults.harness.cluster import FaultCluster, FaultHttpProxy, FaultProxy
from tests.faults.harness.evidence import Evidence, Fault, Log, Request
from tests.faults.harness.history import History
from tests.faults.harness.kubelet import Life, Replica, ask, log_lines

TOP = Path(__file__).parents[3]
CRDS = TOP / "crds"
EXAMPLE = TOP / "examples" / "controller.yaml"
ACCOUNT = ("rpcregistry", "rpcregistry")  # namespace and name of the example's ServiceAccount
USER = "system:serviceaccount:rpcregistry:rpcregistry"
LEASE = "rpcregistry"
OWNED = "/rpcregistry/owned"  # where the ledger lies
BASE = "/rpc_v2"  # of the default layout
FOREIGN = {f"{BASE}-of-others/echo": b"theirs", "/elsewhere": b"", "/elsewhere/echo": b"theirs"}
TIMEOUT = 5.0  # seconds: ZooKeeper's answer to the harness
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


class Ground:
    """A cluster in *directory*, and who watches it.  Tests that leave it whole share it."""

    def __init__(
        self,
        directory: Path,
        *,
        crds: Path = CRDS,
        example: Path = EXAMPLE,
        apiserver_flags: Sequence[str] = (),
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.cluster = FaultCluster(directory / "cluster", apiserver_flags=apiserver_flags)
        self._manifests = crds, example
        self._stack = ExitStack()

    def __enter__(self) -> "Ground":
        with ExitStack() as stack:
            stack.enter_context(self.cluster)
            self.apply()
            self.history = stack.enter_context(
                History(self.cluster.server, self.cluster.ca_file, ADMIN_TOKEN)
            )
            self.api = config.new_client_from_config(str(self.cluster.kubeconfig))
            self.core = client.CoreV1Api(self.api)
            self.cluster_id = str(self.core.read_namespace("kube-system").metadata.uid)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def make_namespace(self, name: str) -> None:
        """Create a namespace, in which pods can be made: its ServiceAccount is there."""
        self.core.create_namespace({"metadata": {"name": name}})
        eventually(lambda: self.core.list_namespaced_service_account(name).items, timeout=120)

    def apply(self) -> None:
        """Apply the CRDs and the example, without its Deployment: here, replicas are processes.

        Whoever deleted them has to: a ServiceAccount that is made again has another token.
        """
        crds, example = self._manifests
        self.cluster.kubectl("apply", "-f", str(crds))
        self.cluster.kubectl("wait", "--for=condition=Established", "-f", str(crds), "--timeout=60s")
        documents = [found for found in yaml.safe_load_all(example.read_text()) if found["kind"] not in RUN]
        self.cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))
        create = ("-n", ACCOUNT[0], "create", "token", ACCOUNT[1], "--duration=24h")
        self.token = self.cluster.kubectl(*create).strip()


RUN = ("Deployment", "PodDisruptionBudget")


TAKEOVER = 60.0  # seconds, at most, until a replica leads that was started again


class Stand:
    """One test's part of *ground*, its files in *directory*.

    The Lease lies in the first of *namespaces*, which are there already.  *zookeeper*: servers of the test's
    own, in place of the ground's.
    """

    def __init__(
        self,
        ground: Ground,
        namespaces: Sequence[str],
        directory: Path,
        *,
        package: Package = Package.of(TOP),  # noqa: B008  (it is frozen)
        zookeeper: Servers | None = None,
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
        self._servers = zookeeper.addresses if zookeeper else ground.cluster.zk_servers
        self._sessions: set[int] = set()
        self._layouts: list[tuple[str, str]] = []
        self._flags: dict[str, Any] = {"namespace": tuple(namespaces)}
        self._unjudged: set[str] = set()  # paths below which nobody knows what is right
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

    def world(self) -> World:
        """What the test does to its namespaces, and sees of them and its chroot."""
        made = World(
            self.ground.cluster.kubeconfig, self.ground.cluster.kubectl, self.namespaces[0], self.zk, BASE
        )
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

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """The public command with *arguments*: what to run, and its variables."""
        return [sys.executable, "-m", self._package.name, *arguments], {"PYTHONPATH": str(self._package.path)}

    def start(
        self,
        *flags: str,
        api: str | None = None,
        zk: str | None = None,
        kubeconfig: Path | None = None,
        namespaces: Sequence[str] | None = None,
        lease_namespace: str | None = None,
        wrap: Sequence[str] = (),
        **more: Any,
    ) -> Replica:
        """Start a replica of the controller with *flags*.

        *api* (a URL), *zk* (``HOST:PORT``): proxies in between.  *wrap*: a command that runs the
        controller's.  *more* is ``Replica``'s.
        """
        (port,) = free_ports(1)
        scope = [f"--namespace={name}" for name in namespaces or self.namespaces]
        command, environment = self.command(
            "run",
            *("--kubeconfig", str(kubeconfig or self.kubeconfig(api))),
            *("--zk-servers", f"{zk or self._servers}{self.chroot}"),
            *scope,
            *("--lease-namespace", lease_namespace or self.namespaces[0]),
            *("--bind-address", f"127.0.0.1:{port}"),
            *flags,
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
        """Whether statuses and ZooKeeper hold what the objects come to; what those leave open, they may."""
        listed = {
            kind: self.ground.history.listed(kind, self.namespaces)
            for kind in ("Pod", "Node", "RpcService", "Namespace")
        }
        world = oracle.World(
            listed["Pod"], listed["Node"], listed["RpcService"], listed["Namespace"],
            layouts=self._layouts, **self._flags,
        )  # fmt: skip
        desired, undecided = oracle.desired(world), oracle.undecided(world)
        return oracle.statuses(world) == oracle.listed(world.rpcservices) and all(
            _is_right(
                oracle.read(*layout, self._znodes(layout[1])),
                desired.get(layout, {}),
                undecided.get(layout, {}),
            )
            for layout in self._layouts
        )

    def _znodes(self, base: str) -> Mapping[str, bytes]:
        found = subtree(self.zk, base)
        return {path: data for path, data in found.items() if path not in self.foreign}

    def close(self) -> Evidence:
        """Wait until all is right, as far as that is to be; stop the replicas; what was witnessed."""
        if "I1" not in self.allowed and any(
            replica.wanted and any(life.has_led() for life in replica.lives) for replica in self.replicas
        ):  # one that led is to lead again
            self.zk = self.connect()  # one that knew wiped data is refused for ever
            within = max([15.0, *(fault.recovery for fault in self._all_faults())])
            if not any(replica.leads() for replica in self.replicas):
                within += TAKEOVER
            with suppress(AssertionError):  # the judge says what is wrong, and better
                eventually(self._is_right_if_seen, timeout=within)
        texts = {
            f"metrics of {replica.name}": ask(replica.port, "/metrics")[1]
            for replica in self.replicas
            if replica.running
        }
        for replica in self.replicas:
            if replica.wanted:
                with suppress(AssertionError):  # one that has just begun does not know the signal yet
                    eventually(lambda: ask(replica.port, "/healthz")[0])  # noqa: B023
                replica.stop()
        self.ground.history.catch_up(self.namespaces)
        return self._evidence(texts)

    def check(self) -> None:
        """Judge what was witnessed, once, where a controller ran; raise all that is wrong as one error."""
        if self.replicas and not self._judged:
            self._judged = True
            invariants.check(self.close())

    def _evidence(self, texts: Mapping[str, str]) -> Evidence:
        ended = time.time()
        data = self._zookeeper.data if self._zookeeper else self.ground.cluster.zookeeper_data
        logs = [
            part
            for path in data
            if (part := within(zklog.read(path), self.chroot, self._began, self._unjudged))
        ]
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
        chosen = [tuple(text.split("=", 1)) for text in given.get("--layout", [f"kube2zk={BASE}"])]
        for name, base in chosen:
            if name in LAYOUTS:
                self._layouts += [(name, base)] if (name, base) not in self._layouts else []
            else:
                self._unjudged |= {base, f"{OWNED}/{name}"}
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


LAYOUTS = ("kube2zk", "curator", "spring-cloud", "dubbo", "serverset", "sofa")  # those that the oracle knows
ORACLES_FLAGS = {"--cross-namespace": "cross_namespace", "--pod-label-selector": "pod_label_selector"}


def parsed(flags: Sequence[str]) -> Mapping[str, list[str]]:
    """The values of flags, given as ``--flag value`` or ``--flag=value``.

    >>> parsed(["--layout", "a=/a", "--layout=b=/b", "--dry-run"])
    {'--layout': ['a=/a', 'b=/b'], '--dry-run': []}
    """
    found: dict[str, list[str]] = {}
    flag = ""
    for word in flags:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            found.setdefault(flag, []).extend([value] if equals else [])
        else:
            found[flag].append(word)
    return found


def within(log: Log, chroot: str, since: float, unjudged: Collection[str] = ()) -> Log | None:
    """What a log says of a chroot, with paths as its clients see them; None where it ends before *since*.

    What another test did is no part of it, but for sessions: they have no path; nor is what lies below
    *unjudged*.
    """
    if log.transactions and log.transactions[-1].at < since:
        return None

    def counts(path: str) -> bool:
        below = path.startswith(f"{chroot}/")
        return below and not any(zklog.is_below(path[len(chroot) :], other) for other in unjudged)

    start = {path[len(chroot) :]: data for path, data in log.start.items() if counts(path)}
    kept = []
    for transaction in log.transactions:
        ops = tuple(
            replace(op, path=op.path[len(chroot) :]) if hasattr(op, "path") else op
            for op in transaction.ops
            if not hasattr(op, "path") or counts(op.path)
        )
        if ops:
            kept.append(replace(transaction, ops=ops))
    return Log(start, kept)


def subtree(zk: KazooClient, base: str) -> dict[str, bytes]:
    """All znodes from *base* on."""
    found: dict[str, bytes] = {}
    waiting = [base]
    while waiting:
        path = waiting.pop()
        try:
            found[path] = zk.get_async(path).get(timeout=TIMEOUT)[0]
            waiting += [f"{path}/{name}" for name in zk.get_children_async(path).get(timeout=TIMEOUT)]
        except NoNodeError:
            found.pop(path, None)
    return found


def _is_right(
    found: Mapping[str, frozenset[str]],
    desired: Mapping[str, frozenset[str]],
    undecided: Mapping[str, frozenset[str]],
) -> bool:
    nothing: frozenset[str] = frozenset()
    return all(
        (found.get(name, nothing) ^ desired.get(name, nothing)) <= undecided.get(name, nothing)
        for name in {*found, *desired}
    )
