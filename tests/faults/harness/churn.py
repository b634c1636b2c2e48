"""What happens in a cluster all the time: pods, nodes and declarations come, change and go, and people err.

``steps`` decides by a seed alone: the same seed gives the same steps, whatever becomes of them.  ``Churn``
takes them, one after the other and no faster than it is to; what an outage prevents, it does later.
"""

import json
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tests.cluster.world import World

SERVICES = ("alpha", "beta", "com.example.Gamma", "delta", "quiet")
PODS = 8  # in each namespace, at most
BAD = (
    "{",
    '{"serviceName": "alpha"}',
    '[{"serviceName": "a/b"}]',
    '[{"serviceName": "alpha", "port": 0}]',
    "[17]",
)
NODES = 3  # in each namespace, at most
LOCALS = ("app", "cache")
LOCAL_SPECS = (
    {"ports": [{"port": 80}]},
    {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b", "targetPort": "http"}]},
    {"ports": [{"port": 80}], "clusterIP": "None"},
    None,
)
ABOUT_NODES = 0.2  # so many steps about nodes for each of the others
AGAIN = 0.5  # seconds


@dataclass(frozen=True)
class Create:
    """A pod that says that it serves *services*; Ready at *ip*, or not yet."""

    namespace: str
    pod: str
    ip: str
    services: Sequence[str]
    ready: bool


@dataclass(frozen=True)
class Turn:
    """A pod turns Ready, or not Ready."""

    namespace: str
    pod: str
    ip: str
    ready: bool


@dataclass(frozen=True)
class Delete:
    """A pod is gone at once."""

    namespace: str
    pod: str


@dataclass(frozen=True)
class Annotate:
    """A pod's annotation is replaced: it serves something else, or cannot be read."""

    namespace: str
    pod: str
    text: str


@dataclass(frozen=True)
class Declare:
    """A person declares an RpcService, or takes it away again."""

    namespace: str
    service: str
    there: bool


@dataclass(frozen=True)
class Serve:
    """A person declares a LocalService for the namespace's nodes, changes it, or takes it away (None)."""

    namespace: str
    local: str
    spec: Mapping[str, Any] | None


@dataclass(frozen=True)
class Join:
    """A node of the namespace comes, or goes."""

    namespace: str
    node: str
    there: bool


Step = Create | Turn | Delete | Annotate | Declare | Serve | Join


@dataclass
class _Pod:
    ip: str
    ready: bool


def steps(seed: int, namespaces: Sequence[str], bad: bool = True) -> Iterator[Step]:
    """Yield what happens in these namespaces, without end; *bad*: some annotations cannot be read.

    An address is one pod's alone for ever, so that whoever is sent to it can tell whose it was.

    >>> from itertools import islice
    >>> first = list(islice(steps(7, ["a", "b"]), 50))
    >>> first == list(islice(steps(7, ["a", "b"]), 50)), first == list(islice(steps(8, ["a", "b"]), 50))
    (True, False)
    """
    apart = random.Random(f"{seed}, nodes")
    about_nodes = _about_nodes(apart, namespaces)
    choose = random.Random(seed)
    pods: dict[tuple[str, str], _Pod] = {}
    declared: set[tuple[str, str]] = set()
    made = 0
    while True:
        if apart.random() < ABOUT_NODES:
            yield next(about_nodes)
        namespace = choose.choice(namespaces)
        there = sorted(pod for where, pod in pods if where == namespace)
        missing = [pod for pod in (f"p{number}" for number in range(PODS)) if pod not in there]
        kind = choose.choices(("create", "turn", "delete", "annotate", "declare"), (4, 3, 2, 2, 1))[0]
        if kind == "declare":
            service = choose.choice(SERVICES)
            declared ^= {(namespace, service)}
            yield Declare(namespace, service, (namespace, service) in declared)
        elif not there or (kind == "create" and missing):
            made += 1
            pod, ip, ready = (
                choose.choice(missing),
                f"10.{made // 62500}.{made // 250 % 250}.{made % 250 + 1}",
                choose.random() < 0.8,
            )
            pods[namespace, pod] = _Pod(ip, ready)
            yield Create(namespace, pod, ip, _some(choose), ready)
        elif kind == "delete":
            pod = choose.choice(there)
            del pods[namespace, pod]
            yield Delete(namespace, pod)
        elif kind == "annotate":
            wrong = bad and choose.random() < 0.3
            yield Annotate(
                namespace, choose.choice(there), choose.choice(BAD) if wrong else annotation(_some(choose))
            )
        else:
            pod = choose.choice(there)
            found = pods[namespace, pod]
            found.ready = not found.ready
            yield Turn(namespace, pod, found.ip, found.ready)


def _about_nodes(choose: random.Random, namespaces: Sequence[str]) -> Iterator[Serve | Join]:
    nodes: set[tuple[str, str]] = set()
    while True:
        namespace = choose.choice(namespaces)
        if choose.random() < 0.5:
            node = f"{namespace}-n{choose.randrange(NODES)}"
            nodes ^= {(namespace, node)}
            yield Join(namespace, node, (namespace, node) in nodes)
        else:
            yield Serve(namespace, choose.choice(LOCALS), choose.choice(LOCAL_SPECS))


def _some(choose: random.Random) -> tuple[str, ...]:
    return tuple(sorted(choose.sample(SERVICES, choose.randint(1, 3))))


def annotation(services: Sequence[str]) -> str:
    """What a pod says that serves them."""
    return json.dumps([{"serviceName": name, "port": 20880} for name in services])


class Churn:
    """Takes *steps* in *world*, *rate* a second at most, in a thread of its own, from ``with`` to its end.

    *taken* is what it has done so far, as it can be printed and read.
    """

    def __init__(self, world: World, steps: Iterator[Step], rate: float = 5.0) -> None:
        self.taken: list[Step] = []
        self._world = world
        self._steps = steps
        self._pause = 1 / rate
        self._over = threading.Event()
        self._at_rest = threading.Lock()  # held while a step is taken, and by whoever wants none taken
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Churn":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)
        if self._failed:
            raise self._failed[0]

    def resting(self) -> threading.Lock:
        """``with`` this, no step is being taken."""
        return self._at_rest

    def _run(self) -> None:
        try:
            for step in self._steps:
                with self._at_rest:
                    if self._over.is_set():
                        return
                    self._take(step)
                    self.taken.append(step)
                if self._over.wait(self._pause):
                    return
        except BaseException as failure:  # noqa: BLE001  (whoever ends the churn is shown it)
            self._failed.append(failure)

    def _take(self, step: Step) -> None:
        """Take a step; as often as it needs while the server is away."""
        while not self._over.is_set():
            try:
                return take(self._world, step)
            except ApiException as error:
                if error.status in (400, 422):
                    raise
            except (HTTPError, OSError):
                pass
            self._over.wait(AGAIN)
        return None


def take(world: World, step: Step) -> None:
    """Do it; what was done before, by a request whose answer was lost, or an older server, is no error."""
    match step:
        case Create(namespace, pod, ip, services, ready):
            with ignored(409):
                world.create_pod(pod, namespace=namespace, annotation=annotation(services))
            with ignored(404):
                world.set_status(pod, ip, ready, namespace=namespace)
        case Turn(namespace, pod, ip, ready):
            with ignored(404):
                world.set_status(pod, ip, ready, namespace=namespace)
        case Delete(namespace, pod):
            with ignored(404):
                world.delete_pod(pod, namespace)
        case Annotate(namespace, pod, text):
            with ignored(404):
                world.annotate(pod, text, namespace)
        case Declare(namespace, service, there):
            declare(world, namespace, service, there)
        case Serve(namespace, local, spec):
            serve(world, namespace, local, spec)
        case Join(namespace, node, there):
            with ignored(409 if there else 404):
                world.create_node(node, world=namespace) if there else world.delete_node(node)


def declare(world: World, namespace: str, service: str, there: bool) -> None:
    """Declare ``mine-…`` for a service, or delete it."""
    name = f"mine-{service.lower()}"
    where = ("rpcregistry.dev", "v1alpha1", namespace, "rpcservices")
    if not there:
        with ignored(404):
            world.custom.delete_namespaced_custom_object(*where, name)
        return
    manifest: Mapping[str, Any] = {
        "apiVersion": "rpcregistry.dev/v1alpha1",
        "kind": "RpcService",
        "metadata": {"name": name},
        "spec": {"serviceName": service},
    }
    with ignored(409):
        world.custom.create_namespaced_custom_object(*where, manifest)


def serve(world: World, namespace: str, local: str, spec: Mapping[str, Any] | None) -> None:
    """Declare a LocalService, put another spec in its place, or delete it."""
    if spec is None:
        with ignored(404):
            world.delete_localservice(local, namespace)
        return
    whole = {"selector": {"app": local}, "nodeSelector": {"world": namespace}, **spec}
    if world.localservice(local, namespace):
        world.replace_localservice(local, namespace, **whole)
    else:
        with ignored(409):
            world.create_localservice(local, namespace, **whole)


class ignored(suppress):  # noqa: N801  (it stands where ``suppress`` would)
    """Suppresses an ``ApiException`` with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(ApiException)
        self._status = status

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return isinstance(error, ApiException) and error.status == self._status
