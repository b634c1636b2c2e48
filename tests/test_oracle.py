"""The fault harness's oracle and the controllers, on random worlds: two ways to the same answer.

A failure prints the worlds and a ``@reproduce_failure`` line, which replays it; ``--hypothesis-seed=N``
replays a whole run.
"""

import base64
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcregistry.layouts import Layout, template
from rpcregistry.manifests import decode_node, decode_pod, decode_rpcservice
from rpcregistry.model import RELEASE, ObjectKey, RpcService
from rpcregistry.names import object_name
from rpcregistry.plan.publication import CrossNamespace
from tests.faults.harness import oracle
from tests.faults.harness.oracle import Manifest
from tests.worlds.registry import CONFIRM, World

LAYOUTS = [
    ("kube2zk", "/rpc_v2"),
    ("curator", "/curator"),
    ("spring-cloud", "/services"),
    ("dubbo", "/dubbo"),
    ("serverset", "/serverset"),
    ("sofa", "/sofa-rpc"),
]
SERVICES = ["echo", "com.example.Outer$Echo", "a_b"]
NAMES = st.sampled_from(SERVICES)
SPACES = ["default", "other"]
TEXTS = st.sampled_from(["", "1.0", "1 0", "a&b", "ü", "x" * 256])
PROTOCOLS = st.sampled_from(["", "dubbo", "bolt", "a b"])
PORTS = st.sampled_from([80, 20880])


# What a pod's annotations may say


DETAILS = {"version": TEXTS, "port": PORTS, "group": TEXTS, "protocol": PROTOCOLS}
ENTRIES = st.fixed_dictionaries(
    {"serviceName": NAMES},
    optional={
        **DETAILS,
        "weight": st.sampled_from([0, 10000]),
        "metadata": st.sampled_from([{}, {"zone": "a"}]),
        "local": st.booleans(),
        "unknown": st.none(),
    },
)
ECHO: Mapping[str, Any] = {"serviceName": "echo"}
SHAPELESS: Sequence[Any] = [7, None, [], {}, *({"serviceName": name} for name in ("../a", "zookeeper", None))]
BAD_DETAILS: Sequence[Mapping[str, Any]] = [
    *({"port": port} for port in (0, 65536, True, 80.0, "80", None, 10**30)),
    *({"version": text} for text in (1, "x" * 257, "a\nb", None)),
    *({"weight": weight} for weight in (-1, 10001, "1")),
    {"metadata": []},
    {"metadata": {"k": 1}},
    {"metadata": {"k" * 257: ""}},
    {"metadata": {str(n): "" for n in range(33)}},
    {"local": True},
    {"local": 1},
]
BAD_ENTRIES = st.sampled_from([*SHAPELESS, *({**ECHO, **detail} for detail in BAD_DETAILS)])

IN_THE_KEY = "dubbo%3A%2F%2F127.0.0.1%3A20880%2Fx%3Fversion%3D1.0%26weight%3D7"
KEYS = st.sampled_from(
    [
        key.format(name)
        for key in ("{}", "/{}/providers", "/dubbo/{}/providers/" + IN_THE_KEY)
        for name in SERVICES
    ]
)
VALUES = st.fixed_dictionaries({}, optional={**DETAILS, "zone": st.sampled_from(["a", 1, True])})
OTHER_VALUES = st.sampled_from(["", "any text", "tri://10.9.9.9:50051/x?group=g", "tri://10.9.9.9/x"])
KEY_VALUES = st.fixed_dictionaries({"k": KEYS, "v": st.one_of(VALUES, VALUES.map(json.dumps), OTHER_VALUES)})
BAD_KEY_VALUES = st.sampled_from(
    [7, {"k": "echo"}, {"k": "/x/echo/consumers", "v": ""}, {"k": "echo", "v": {"port": "80"}}]
    + [{"k": "echo", "v": text} for text in ("{", "tri://h:99999/x", "tri://h:1/?weight=x", '{"a": [1]}')]
    + [{"k": "/providers", "v": ""}, {"k": "a/providers", "v": ""}, {"k": "echo", "v": 1}]
)


def texts(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """Most are arrays with an entry or two, and now and then a bad one among them."""
    array = st.lists(good, min_size=1, max_size=3).map(json.dumps)
    mixed = st.tuples(good, bad, good).map(json.dumps)
    return st.one_of(array, array, array, array, mixed, mixed, st.sampled_from(BROKEN))


BROKEN = [
    *("", "{}", "nope", "[NaN]", '[{"serviceName": "echo"}', "[" * 2000),
    '[{"serviceName": "echo", "serviceName": "a_b"}, {"serviceName": "echo", "port": 80}]',
    *(json.dumps([ECHO] * count) for count in (32, 33)),
    json.dumps([{**ECHO, "x": "x" * 16 * 1024}]),
]


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


RPC_SERVICE = texts(ENTRIES, BAD_ENTRIES)
APP_IO = texts(KEY_VALUES, BAD_KEY_VALUES).map(in_base64) | st.just("%")


# Pods, Nodes, RpcServices


def not_ready(reason: str = "", status: str = "False") -> Any:
    return [{"type": "Ready", "status": status, "reason": reason}]


CONTAINERS = [
    {"state": {"running": {"startedAt": "2026-11-21T02:02:02Z"}}},
    {"state": {"running": {"startedAt": "2026-11-21T02:02:03Z"}}},
    {"state": {"waiting": {}}},
]
# What can be otherwise with a pod: where in its manifest, and what is there.
OTHERWISE: Sequence[tuple[str, str, Any]] = [
    ("metadata", "deletionTimestamp", "2026-11-21T02:02:02Z"),
    ("metadata", "uid", "made again"),
    ("metadata", "labels", {"rpc-service": "false", "app": "x"}),
    ("metadata", "labels", {"rpc-service": "true", "app": "y", "app.io/label": "out"}),
    ("spec", "nodeName", "n2"),
    ("spec", "nodeName", "gone"),
    ("spec", "serviceAccountName", "stranger"),
    *(("status", "phase", phase) for phase in ("Pending", "Succeeded", "Failed", "Unknown")),
    *(
        ("status", "conditions", not_ready(reason))
        for reason in ("ContainersNotReady", "ContainersNotReady", "", "")
    ),
    ("status", "conditions", not_ready(status="Unknown")),
    ("status", "conditions", None),
    ("status", "containerStatuses", CONTAINERS),
    *(("status", "address", ip) for ip in ("", "10.1.0.1", "127.0.0.1", "169.254.0.1", "fd00::1", "fe80::1")),
]


@st.composite
def pods(draw: st.DrawFn, number: int) -> Manifest:
    """One that is published, but for at most three things that are otherwise with it."""
    own = f"10.0.0.{number + 1}"
    metadata: dict[str, Any] = {
        "name": f"p{number}",
        "namespace": SPACES[number % 3 == 2],
        "uid": "made once",
        "labels": {"rpc-service": "true", "app": "x", "app.io/label": "app.io-value"},
        "annotations": draw(ANNOTATIONS),
    }
    spec = {"nodeName": "n1", "serviceAccountName": "trusted"}
    status: dict[str, Any] = {
        "phase": "Running",
        "address": own,
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    pod: dict[str, dict[str, Any]] = {"metadata": metadata, "spec": spec, "status": status}
    for part, key, value in draw(FLAWS):
        pod[part][key] = value
    metadata["uid"] = f"p{number}, {metadata['uid']}"
    ip = status.pop("address")
    status |= {"podIP": ip, "podIPs": [{"ip": each} for each in (ip, own, f"fd00::{number}")] if ip else None}
    return pod


ANNOTATIONS = st.fixed_dictionaries({"rpc-service": RPC_SERVICE}, optional={"app.io/annotation": APP_IO})
FLAWS = st.lists(st.sampled_from(OTHERWISE), max_size=3)
SELECTORS = st.sampled_from(
    [{"matchLabels": {"app": "x"}}, {"matchLabels": {"app": "x", "rpc-service": "false"}}, {}, None]
    + [
        {"matchExpressions": [{"key": "app", "operator": operator, **values}]}
        for operator, values in [("In", {"values": ["y"]}), ("NotIn", {"values": ["y"]}), ("Exists", {})]
    ]
    + [{"matchExpressions": [{"key": "app.io/label", "operator": "DoesNotExist"}]}]
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        **DETAILS,
        "selector": SELECTORS,
        "publishNotReadyAddresses": st.booleans(),
        "protectThreshold": st.sampled_from([50, 100, 0]),
    },
)
AGES = st.sampled_from(["001", "002"])  # in the manner of KubeInMemory, and older than what is made there
MADE_BY = st.sampled_from(["a person", "a person", "the controller", "the controller, then a person"])


@st.composite
def rpcservices(draw: st.DrawFn, name: str, namespace: str) -> Manifest:
    service, made_by = draw(NAMES), draw(MADE_BY)
    managers = {"a person": [], "the controller": ["rpcregistry"]}.get(made_by, ["rpcregistry", "kubectl"])
    return {
        "metadata": {
            "name": f"{name}-{service}".lower().translate(str.maketrans("_$", "--")),
            "namespace": namespace,
            "uid": f"uid-{namespace}-{name}-{service}",
            "creationTimestamp": draw(AGES),
            "labels": {"app.kubernetes.io/managed-by": "rpcregistry"} if managers else {},
            "managedFields": [{"manager": manager, "fieldsV1": {"f:spec": {}}} for manager in managers],
        },
        "spec": {
            "serviceName": service,
            **(draw(SPECS) if made_by != "the controller" else {}),
        },
    }


def node(name: str, ready: str) -> Manifest:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


NUMBERS = st.lists(st.sampled_from(range(12)), unique=True, min_size=4, max_size=8)
PLACES = st.lists(st.sampled_from([(name, space) for name in "ab" for space in SPACES]), unique=True)
READY = st.sampled_from(["True", "True", "Unknown"])
NODES = st.tuples(*(st.builds(node, st.just(name), READY) for name in ("n1", "n2")))


@st.composite
def moments(draw: st.DrawFn) -> oracle.World:
    """The objects of one moment, under the default flags."""
    return oracle.World(
        pods=[draw(pods(number)) for number in draw(NUMBERS)],
        nodes=draw(NODES),
        rpcservices=[draw(rpcservices(*place)) for place in draw(PLACES)],
    )


TRUSTED = [
    (space, "trusted", name) for space in SPACES for name in ("echo", "a-com.example.outer-echo", "a-echo")
]


# Layouts of a person's own

TEXT_FIELDS = ["service", "pod", "node", "ip", "host", "address", "version", "group", "protocol"]
DEFAULTS = {
    **dict.fromkeys([*TEXT_FIELDS, "metadata.zone"], "a b~"),
    **dict.fromkeys(["port", "weight"], "07"),
}
FIELDS = [*TEXT_FIELDS, "port", "weight", "started", "metadata", "metadata.zone", "instance"]
FIELDS += [f"{field}:-{default}" for field, default in {**DEFAULTS, "group": ""}.items()]
PLACEHOLDERS = st.sampled_from([f"${{{field}{url}}}" for field in FIELDS for url in ("", "", "|url")])


def data_of(placeholders: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """What a template may say of a znode's data."""
    texts_of_fields = st.lists(placeholders | st.sampled_from(["x", "$$", "/"]), max_size=3).map("".join)
    return st.recursive(
        placeholders | texts_of_fields | st.sampled_from([1, True, None]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["a", "b", "$$"]) | placeholders, inner, max_size=3)
        ),
        max_leaves=5,
    ).filter(lambda data: isinstance(data, str | dict | list))


DIRECTORIES = [
    *("", "flat", "${service}", "uris/${service|url}/$$", "${service}/${version:-v}/${service}"),
    *("${group:-main}/${service}/server", "${group|url}-${service}", "${version:-v|url}/${group}"),
]
LYING = st.fixed_dictionaries({}, optional={"below": st.sampled_from(["services", "a/b"])}) | (
    st.fixed_dictionaries({"directory": st.sampled_from(DIRECTORIES)})
)
# None begins with the name of a service, whose endpoints could lie there.
STATIC_PATHS = ["$$/all", "$$/of-${service|url}/x/y", "$$/x/y/${service}", "${service}/$$/${service}"]
CONTENTS = st.one_of(
    st.fixed_dictionaries({}, optional={"data": data_of(PLACEHOLDERS)}),
    st.fixed_dictionaries(
        {
            "encoding": st.just("java-string"),
            "data": st.lists(PLACEHOLDERS | st.sampled_from(["\0", "\U0001f600"])).map("".join),
        }
    ),
)


def is_accepted(says: Mapping[str, Any]) -> bool:
    """Whether it is a template; which are is for ``test_templates``."""
    with suppress(ValueError):
        return bool(template.layout(says))
    return False


TEMPLATES = st.builds(
    lambda *parts: {key: value for part in parts for key, value in part.items()},
    st.fixed_dictionaries(
        {
            "name": st.lists(PLACEHOLDERS | st.just("x"), max_size=3)
            .flatmap(
                lambda parts: st.permutations([*parts, "${id}"]) | st.permutations([*parts, "${digits}"])
            )
            .map("_".join),
        },
        optional={
            "protocol": st.just("http"),
            "static": st.dictionaries(
                st.sampled_from(STATIC_PATHS), data_of(st.sampled_from(["${service}", "${service|url}"]))
            ),
        },
    ),
    LYING,
    CONTENTS,
).filter(is_accepted)
OWN = ("mine", "/mine")

FLAGS = st.fixed_dictionaries(
    {
        "layouts": st.lists(st.sampled_from([*LAYOUTS, OWN, OWN]), unique=True, min_size=1),
        "templates": st.fixed_dictionaries({OWN[0]: TEMPLATES}),
        "cross_namespace": st.sampled_from(["union", "deny"]),
        "register": st.sampled_from([None, None, None, TRUSTED]),
        "namespace": st.sampled_from([(), (), (), ("default",)]),
    }
)


# The controllers, on the same objects


def denied(world: oracle.World, names: Iterable[str]) -> set[tuple[str, str]]:
    """Which pod may not register which of the RpcServices *names*, by the world's flags."""
    return {
        (pod["metadata"]["name"], name)
        for pod in world.pods
        for name in names
        if world.register is not None
        and (pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"], name) not in world.register
    }


class Controllers:
    """Both controllers in memory: shown one moment after the other, and left to do all there is to do."""

    def __init__(self, world: oracle.World, endpoints_per_object: int = 100) -> None:
        self._memory = memory = World()
        memory.endpoints_per_object = endpoints_per_object
        memory.cross_namespace = CrossNamespace(world.cross_namespace)
        templates = {name: template.layout(fields) for name, fields in world.templates.items()}
        memory.layouts = tuple(Layout(name, base, templates.get(name)) for name, base in world.layouts)
        for base in (base for name, base in world.layouts if name in templates):
            memory.zookeeper.znodes[base] = (b"", 0)  # ZooKeeper in memory makes no parents
        memory.start()
        self._shown: dict[ObjectKey, Manifest] = {}
        self._names = {object_name(name, ()) for name in SERVICES}  # of RpcServices that there may be
        self._versions = itertools.count(1000)

    def show(self, moment: oracle.World, listed: bool = False, restart: bool = False) -> None:
        """What the API server has now; *listed*: pods that are gone are missing from a LIST.

        *restart*: it is a new process that sees it.
        """
        memory = self._memory
        self._names |= {m["metadata"]["name"] for m in moment.rpcservices}
        memory.denied = denied(moment, self._names)
        for node in moment.nodes:
            memory.nodes.put(decode_node(encoded(node)))
        found = {pod.key: pod for pod in map(decode_pod, map(encoded, seen(moment, moment.pods)))}
        for pod in memory.pods.values():
            if pod.key not in found:
                memory.pods.drop(pod.key, listed=listed)
        for pod in found.values():
            memory.pods.put(pod)
        self._show_rpcservices(seen(moment, moment.rpcservices))
        if restart:
            memory.start()

    def _show_rpcservices(self, manifests: Sequence[Manifest]) -> None:
        services = self._memory.services
        found = {service.key: service for service in map(decode_rpcservice, map(encoded, manifests))}
        for service in services.values():
            if service.key not in found and not service.generated:
                services.drop(service.key)
        for key, service in found.items():
            there = services.get(key)
            services.put(
                msgspec.structs.replace(
                    service,
                    resource_version=str(next(self._versions)),
                    generation=there.generation + 1 if there else 1,
                    status=there.status if there else service.status,
                )
            )
        self._shown = dict(zip(found, manifests, strict=True))

    def settle(self) -> None:
        """Do all there is to do now: what is held stays."""
        self._memory.settle()

    def finish(self) -> None:
        """Do all there is to do, until nothing is held any more; a person lets go what has no time limit."""
        for word in "ab":
            self.settle()
            self._memory.clock.seconds += CONFIRM + 1
            self.settle()
            self._memory.notes.annotations = {RELEASE: f"{word}{self._memory.clock.seconds}"}
        self.settle()

    def rpcservices(self) -> Sequence[Manifest]:
        """Those that there are now, as the API server would answer."""
        return [self._as_json(service) for service in self._memory.services.values()]

    def _as_json(self, service: RpcService) -> Manifest:
        part_of = {"rpcregistry.dev/part-of": service.part_of} if service.part_of else {}
        metadata = {
            "name": service.name,
            "namespace": service.namespace,
            "uid": service.uid,
            "creationTimestamp": service.created,
            "labels": {"app.kubernetes.io/managed-by": "rpcregistry", **part_of},
        }
        made = {"metadata": metadata, "spec": msgspec.to_builtins(service.spec)}
        return {**self._shown.get(service.key, made), "status": msgspec.to_builtins(service.status)}

    def znodes(self) -> Mapping[str, bytes]:
        return {path: data for path, (data, _) in self._memory.zookeeper.znodes.items()}


def encoded(manifest: Manifest) -> bytes:
    return json.dumps(manifest).encode()


def seen(world: oracle.World, manifests: Sequence[Manifest]) -> Sequence[Manifest]:
    """What the API server answers a controller with the world's ``--namespace``."""
    return [m for m in manifests if not world.namespace or m["metadata"]["namespace"] in world.namespace]


def show(flags: Mapping[str, Any], *moments: oracle.World) -> tuple[Controllers, oracle.World]:
    """The controllers after *moments*, and the last of them."""
    worlds = [replace(moment, **flags) for moment in moments]
    controllers = Controllers(worlds[0])
    for world in worlds:
        controllers.show(world)
        controllers.finish()
    return controllers, worlds[-1]


def found(controllers: Controllers, world: oracle.World) -> oracle.Found:
    znodes = controllers.znodes()
    return {layout: oracle.read(*layout, znodes, world.templates) for layout in world.layouts}


def observed(controllers: Controllers, world: oracle.World) -> oracle.World:
    """The world with what the controllers made of its RpcServices."""
    return replace(world, rpcservices=controllers.rpcservices())


def agree(controllers: Controllers, moment: oracle.World, frozen: Iterable[str] = ()) -> None:
    """Assert that the statuses are as the oracle has them, and ZooKeeper, but for the services *frozen*."""
    world = observed(controllers, moment)
    assert oracle.listed(world.rpcservices) == oracle.statuses(world)
    right = entries_of(oracle.desired(world))
    spared = {
        (layout, oracle.known_as(layout[0], n, world.templates)) for layout in world.layouts for n in frozen
    }
    assert {e for e in entries_of(found(controllers, world)) ^ right if e[:2] not in spared} == set()


def give_or_take(controllers: Controllers, moment: oracle.World) -> None:
    """Assert that ZooKeeper is as the oracle has it, but for what it calls undecided."""
    world = observed(controllers, moment)
    services = found(controllers, world)
    right, undecided = entries_of(oracle.desired(world)), entries_of(oracle.undecided(world))
    assert entries_of(services) - undecided == right - undecided


def entries_of(found: oracle.Found) -> set[tuple[tuple[str, str], str, str]]:
    return {(layout, name, ip) for layout in found for name, ips in found[layout].items() for ip in ips}


def where(manifests: Iterable[Manifest]) -> set[tuple[str, str]]:
    return {(m["metadata"]["namespace"], m["metadata"]["name"]) for m in manifests}


def frozen_names(first: oracle.World, then: oracle.World) -> set[str]:
    """The services of which nothing is withdrawn *then*.

    An RpcService was deleted by hand, and pods that name its service may perhaps not register.
    """
    left = where(then.rpcservices)
    return {
        m["spec"]["serviceName"]
        for m in first.rpcservices
        if then.register is not None and not where([m]) <= left
    }


@settings(max_examples=200, print_blob=True)
@given(FLAGS, moments(), moments(), st.sampled_from([1, 2, 100]), st.booleans(), st.booleans())
def test_the_controllers_make_of_any_world_what_the_oracle_says(
    flags: Mapping[str, Any],
    first: oracle.World,
    then: oracle.World,
    endpoints_per_object: int,
    listed: bool,
    restart: bool,
):
    first, then = replace(first, **flags), replace(then, **flags)
    controllers = Controllers(first, endpoints_per_object)
    controllers.show(first)
    controllers.finish()
    agree(controllers, first)

    controllers.show(then, listed, restart)
    controllers.settle()
    if not (listed or restart) and where(first.rpcservices) == where(then.rpcservices):
        give_or_take(controllers, then)
    controllers.finish()
    agree(controllers, then, frozen_names(first, then))


# What the rules say, case by case


def pod(number: int, *declared: str, space: str = "default", **otherwise: Any) -> Manifest:
    """A published one that declares services; *otherwise*: other fields of its metadata and status."""
    return {
        "metadata": {
            "name": f"p{number}",
            "namespace": space,
            "uid": f"u{number}",
            "labels": {"rpc-service": "true"},
            "annotations": {
                "rpc-service": json.dumps([{"serviceName": name, "port": 80} for name in declared])
            },
            **otherwise.get("metadata", {}),
        },
        "spec": {"nodeName": "n1", "serviceAccountName": "default", **otherwise.get("spec", {})},
        "status": {
            "phase": "Running",
            "podIP": f"10.0.0.{number}",
            "conditions": [{"type": "Ready", "status": "True"}],
            **otherwise.get("status", {}),
        },
    }


def rpcservice(name: str, space: str = "default", created: str = "", **spec: Any) -> Manifest:
    """A declared one."""
    uid = f"uid-{space}-{name}"
    metadata = {"name": name, "namespace": space, "uid": uid, "creationTimestamp": created}
    return {"metadata": metadata, "spec": spec}


def generated(name: str, space: str = "default", created: str = "") -> Manifest:
    declared = rpcservice(name, space, created, serviceName=name)
    return {**declared, "metadata": {**declared["metadata"], "labels": GENERATED}}


GENERATED = {"app.kubernetes.io/managed-by": "rpcregistry"}
SELECTED = {"labels": {"app": "x"}}
SELECTOR = {"matchLabels": SELECTED["labels"]}
KUBE2ZK = ("kube2zk", "/rpc_v2")

CASES = [
    pytest.param(
        oracle.World(
            pods=[pod(1, "echo"), pod(2, "echo", space="other")],
            rpcservices=[generated("echo", created="001"), rpcservice("echo", "other", created="002")],
            cross_namespace="deny",
        ),
        {"10.0.0.2:80"},
        id="a name is a declared RpcService's before it is an older, generated one's",
    ),
    pytest.param(
        oracle.World(
            pods=[pod(1, "echo"), pod(2, "echo", space="other")],
            rpcservices=[rpcservice("echo", created="001"), rpcservice("echo", "other", created="002")],
            cross_namespace="deny",
        ),
        {"10.0.0.1:80"},
        id="of two declared ones the older has the name",
    ),
    pytest.param(
        oracle.World(
            pods=[pod(1, metadata=SELECTED)],
            rpcservices=[
                rpcservice("b", serviceName="echo", created="002", selector=SELECTOR, port=81),
                rpcservice("a", serviceName="echo", created="001", selector=SELECTOR, port=80),
            ],
        ),
        {"10.0.0.1:80"},
        id="of two RpcServices of a name that select a pod, the older has it to itself",
    ),
    pytest.param(
        oracle.World(
            pods=[pod(1, "echo", metadata={"labels": {"app": "x", "rpc-service": "true"}})],
            rpcservices=[rpcservice("echo", selector=SELECTOR, port=81)],
        ),
        {"10.0.0.1:80"},
        id="what a pod says of a service itself counts, not that it is selected",
    ),
    pytest.param(
        oracle.World(
            pods=[pod(1, "echo", metadata={"labels": {"app": "x", "rpc-service": "true"}})],
            rpcservices=[rpcservice("echo", selector=SELECTOR, port=81)],
            register=[],
        ),
        {"10.0.0.1:81"},
        id="an entry that does not count leaves the pod to the selector",
    ),
    pytest.param(
        oracle.World(
            pods=[
                pod(1, "echo"),
                pod(2, "echo", status={"conditions": not_ready("ContainersNotReady")}),
                pod(3, "echo", status={"conditions": not_ready("ContainersNotReady"), "phase": "Pending"}),
            ],
            rpcservices=[rpcservice("echo", protectThreshold=51)],
        ),
        {"10.0.0.1:80", "10.0.0.2:80"},
        id="below the threshold all are published whose containers have started once",
    ),
]


@pytest.mark.parametrize(("world", "addresses"), CASES)
def test_a_case_is_the_same_to_both(world: oracle.World, addresses: set[str]):
    curator = ("curator", "/services")
    controllers, world = show({"layouts": [curator]}, world)
    agree(controllers, world)
    assert found(controllers, world)[curator] == {"echo": addresses}


@pytest.mark.parametrize(
    ("address", "published"),
    [
        ("0.1.2.3", False),
        ("255.255.255.255", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:1", False),
        ("::ffff:169.254.0.1", False),
        ("ff02::1", False),
        ("::", False),
        ("::ffff:10.0.0.1", True),
        ("64:ff9b::a00:1", True),
        ("240.0.0.1", True),
    ],
)
def test_an_address_is_the_same_to_both(address: str, published: bool):
    world = oracle.World(pods=[pod(1, "echo", status={"podIP": address})])
    controllers, world = show({"layouts": [KUBE2ZK]}, world)
    agree(controllers, world)
    assert set().union(*found(controllers, world)[KUBE2ZK].values()) == ({address} if published else set())


@pytest.mark.parametrize(
    ("fields", "entry", "child"),
    [
        pytest.param(
            {
                "name": "${pod}_${digits}",
                "data": {"host": "${ip}", "port": "${port}", "labels": "${metadata}", "weight": "${weight}"},
                "below": "services",
            },
            {"port": 80, "metadata": {"zone": "a"}},
            'p1_* {"host": "10.0.0.1", "labels": {"zone": "a"}, "port": 80}',
            id="as the page has it: fields keep their type, and what is not declared is left out",
        ),
        pytest.param(
            {"name": "${id}", "data": "${address}"}, {"port": 80}, "* 10.0.0.1:80", id="a text as it is"
        ),
        pytest.param({"name": "${id}", "data": "${port}"}, {}, None, id="a port that nobody declared"),
        pytest.param(
            {"name": "${protocol}-${id}", "protocol": "http"}, {}, "http-* ", id="a protocol of its own"
        ),
        pytest.param(
            {"name": "${metadata.zone}-${id}"}, {"metadata": {"zone": "a/b"}}, None, id="no name of a znode"
        ),
        pytest.param(
            {"name": "${metadata.zone|url}-${id}", "data": ["$$", "${version|url}", "${group}"]},
            {"metadata": {"zone": "a/b ~*"}},
            'a%2Fb+%7E*-* ["$"]',
            id="encoded as a part of a URL",
        ),
        pytest.param(
            {"name": "${id}", "data": "${port}${instance}${service}"},
            {"port": 80},
            "* 80*echo",
            id="what identifies the endpoint, between hex digits",
        ),
        pytest.param(
            {"name": "${id}", "data": {"a": 1, "${instance}": 2}},
            {},
            '* {"*": 2, "a": 1}',
            id="what identifies the endpoint, as a key",
        ),
        pytest.param(
            {"name": "${id}", "directory": "${group:-main}/${service}", "data": ["${port:-07}", None]},
            {},
            "main/echo/* [7, null]",
            id="a directory, and defaults",
        ),
        pytest.param(
            {"name": "${id}", "directory": "${group}/${service}"},
            {"port": 80},
            None,
            id="no directory's name",
        ),
        pytest.param(
            {"name": "${id}", "encoding": "java-string", "data": "\0" + "x" * 2**16},
            {},
            "* \0" + "x" * 2**16,
            id="a long text of Java's",
        ),
    ],
)
def test_a_layout_of_ones_own_is_as_its_page_says(
    fields: Mapping[str, Any], entry: Mapping[str, Any], child: str | None
):
    annotations = {"rpc-service": json.dumps([{"serviceName": "echo", **entry}])}
    declared = pod(1, metadata={"annotations": annotations})
    controllers, world = show(
        {"layouts": [OWN], "templates": {OWN[0]: fields}}, oracle.World(pods=[declared])
    )
    agree(controllers, world)
    assert found(controllers, world)[OWN] == ({"echo": {child}} if child else {})


def test_what_lies_beside_the_endpoints_or_among_those_of_others_is_as_the_page_says():
    fields = {"name": "${id}", "directory": "flat", "static": {"$$/${service|url}": {"a": "${service}"}}}
    own = {"layouts": [OWN], "templates": {OWN[0]: fields}}
    controllers, world = show(own, oracle.World(pods=[pod(1, "echo", "a$b"), pod(2, "echo")]))
    agree(controllers, world)
    shown = {
        name: {e for e in found if "static" in e} for name, found in found(controllers, world)[OWN].items()
    }
    assert shown == {
        oracle.known_as(OWN[0], "echo", world.templates): {'static $/echo {"a": "echo"}'},
        oracle.known_as(OWN[0], "a$b", world.templates): {'static $/a%24b {"a": "a$b"}'},
    }


def test_what_ends_with_its_namespace_is_undecided():
    ending = {"metadata": {"name": "other", "deletionTimestamp": "2026-11-21T02:02:02Z"}}
    world = oracle.World(
        pods=[pod(1, "echo"), pod(2, "echo", space="other")],
        namespaces=[{"metadata": {"name": "default"}}, ending],
    )
    assert oracle.desired(world) == {KUBE2ZK: {"echo": {"10.0.0.1", "10.0.0.2"}}}
    assert oracle.undecided(world) == {KUBE2ZK: {"echo": {"10.0.0.2"}}}


def test_where_a_threshold_counts_pods_one_that_is_undecided_makes_all_so():
    silent = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}, "spec": {"nodeName": "n2"}}
    world = oracle.World(
        pods=[pod(1, "echo"), pod(2, "echo", **silent), pod(3, "other")],
        nodes=[node("n1", "True"), node("n2", "Unknown")],
        rpcservices=[rpcservice("echo", protectThreshold=30)],
    )
    assert oracle.undecided(world) == {KUBE2ZK: {"echo": {"10.0.0.1", "10.0.0.2"}}}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", [1, 2, 3]),
        ("app", [1, 2]),
        ("!app", [3]),
        ("app=x", [1]),
        ("app == x, rpc-service=true", [1]),
        ("app!=x", [2, 3]),
        ("app in (x, y),rpc-service", [1, 2]),
        ("app notin (x)", [2, 3]),
    ],
)
def test_a_pod_label_selector_selects_as_kubernetes_does(selector: str, selected: list[int]):
    labels = [{"rpc-service": "true", **app} for app in ({"app": "x"}, {"app": "y"}, {})]
    pods = [pod(number, "echo", metadata={"labels": each}) for number, each in enumerate(labels, 1)]
    found = oracle.desired(oracle.World(pods=pods, pod_label_selector=selector))
    assert found[KUBE2ZK]["echo"] == {f"10.0.0.{number}" for number in selected}


# What clients read


GOLDEN = {path.parent.name: path for path in (Path(__file__).parent / "golden").glob("*/written.json")}


@pytest.mark.parametrize("layout", [name for name, _ in LAYOUTS])
def test_what_each_clients_own_library_wrote_is_read_and_is_not_ours(layout: str):
    golden = json.loads(GOLDEN[layout].read_text())
    znodes = {znode["path"]: znode["data"].encode() for znode in golden["znodes"]}
    base = golden["arguments"][0].removesuffix("/echo")
    (addresses,) = oracle.read(layout, base, znodes).values()
    if layout == "kube2zk":  # one znode for all who write
        assert addresses == {"10.0.0.1", "10.0.0.10"}
    else:
        assert addresses == {f"10.0.0.1:{golden['arguments'][-1]}"}
        assert not any(oracle.owned(layout, base, path) for path in znodes)


@pytest.mark.parametrize("layout", LAYOUTS, ids=[name for name, _ in LAYOUTS])
def test_what_the_controllers_write_is_ours_and_directories_are_nobodys(layout: tuple[str, str]):
    controllers, _ = show({"layouts": [layout]}, oracle.World(pods=[pod(1, "echo"), pod(2, "a_b")]))
    below = [path for path in controllers.znodes() if path.startswith(layout[1])]
    leaves = {path for path in below if not any(other.startswith(path + "/") for other in below)}
    assert {path: oracle.owned(*layout, path) for path in below if oracle.owned(*layout, path)} == {
        path: path.removeprefix(layout[1]).split("/")[1] for path in leaves
    }


@pytest.mark.parametrize(
    ("layout", "znodes"),
    [
        ("kube2zk", {"/b/echo": b""}),
        ("kube2zk", {"/b/echo": b'{"servers":["echo.example.com"]}'}),
        ("curator", {"/b/echo/x": b""}),
        ("curator", {"/b/echo/x": b'{"address":"10.0.0.1","port":80,"owner":"x"}'}),
        ("spring-cloud", {"/b/echo/x": b'{"address":"10.0.0.1","port":80,"payload":null}'}),
        ("dubbo", {"/b/echo/providers/x": b""}),
        ("serverset", {"/b/echo/member_1": b""}),
        ("sofa", {"/b/echo/providers/x": b""}),
    ],
)
def test_what_a_client_cannot_read_is_said(layout: str, znodes: Mapping[str, bytes]):
    ((service, addresses),) = oracle.read(layout, "/b", znodes).items()
    assert service == "echo"
    assert [address.split()[0] for address in addresses] == ["unreadable"]


@pytest.mark.parametrize(
    ("layout", "znodes"),
    [
        ("kube2zk", {"/b/echo": b'{"config":null,"servers":null}', "/b": b"", "/c/echo": b""}),
        ("curator", {"/b/echo/x": b'{"address":"10.0.0.1","port":80,"enabled":false}', "/b/echo": b"x"}),
        ("dubbo", {"/b/echo/consumers/x": b"", "/b/echo/providers/a%3A%2F%2Fh%3A1%3Fenabled%3Dfalse": b""}),
        ("dubbo", {"/b/a$b/providers/dubbo%3A%2F%2Fh%3A1": b""}),
        (
            "serverset",
            {
                "/b/echo/vector_1": b"",
                "/b/echo/member_0000000001": b'{"status":"DEAD",'
                b'"additionalEndpoints":{},"serviceEndpoint":{"host":"10.0.0.1","port":80}}',
            },
        ),
        ("sofa", {"/b/echo/providers/bolt%3A%2F%2F10.0.0.1%3A80%3Fversion%3D1": b""}),
    ],
)
def test_what_a_client_passes_over_is_not_there(layout: str, znodes: Mapping[str, bytes]):
    assert oracle.read(layout, "/b", znodes) == {}
