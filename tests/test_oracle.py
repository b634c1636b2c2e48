"""The fault harness's oracle and the controllers, on random worlds: two ways to the same answer.

A failure prints the worlds and a ``@reproduce_failure`` line, which replays it; ``--hypothesis-seed=N`` replays
a whole run.
"""

import base64
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcregistry.manifests import decode_node, decode_pod, decode_rpcservice
from rpcregistry.model import ObjectKey, RpcService
from rpcregistry.plan.ledger import Layout
from tests import test_reconcile
from tests.faults.harness import oracle
from tests.faults.harness.oracle import Manifest

LAYOUTS = [
    ("kube2zk", "/rpc_v2"),
    ("curator", "/curator"),
    ("spring-cloud", "/services"),
    ("dubbo", "/dubbo"),
    ("serverset", "/serverset"),
    ("sofa", "/sofa-rpc"),
]
NAMES = st.sampled_from(["echo", "com.example.Echo", "a_b"])
SPACES = ["default", "other"]
TEXTS = st.sampled_from(["", "1.0", "1 0", "a&b", "ü", "x" * 256])
PROTOCOLS = st.sampled_from(["", "dubbo", "bolt", "a b"])
PORTS = st.sampled_from([80, 20880])


# What a pod's annotations may say


def entries() -> st.SearchStrategy[Any]:
    details = {
        "version": TEXTS,
        "port": PORTS,
        "group": TEXTS,
        "protocol": PROTOCOLS,
        "weight": st.sampled_from([0, 10000]),
        "metadata": st.sampled_from([{}, {"zone": "a"}]),
        "local": st.booleans(),
        "unknown": st.none(),
    }
    return st.fixed_dictionaries({"serviceName": NAMES}, optional=details)


def bad_entries() -> st.SearchStrategy[Any]:
    shapes = [
        7,
        None,
        [],
        {},
        {"serviceName": "../echo"},
        {"serviceName": "zookeeper"},
        {"serviceName": None},
    ]
    details = [
        *[{"port": port} for port in (0, 65536, True, 80.0, "80", None, 10**30)],
        *[{"version": text} for text in (1, "x" * 257, "a\nb", None)],
        *[{"weight": weight} for weight in (-1, 10001, "1")],
        *[
            {"metadata": metadata}
            for metadata in ([], {"k": 1}, {"k" * 257: ""}, {str(n): "" for n in range(33)})
        ],
        {"local": True},
        {"local": 1},
    ]
    return st.sampled_from([*shapes, *({"serviceName": "echo", **detail} for detail in details)])


def texts(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """Most are arrays with an entry or two, and now and then a bad one among them."""
    array = st.lists(good, min_size=1, max_size=3).map(json.dumps)
    mixed = st.tuples(good, bad, good).map(json.dumps)
    twice = '[{"serviceName": "echo", "serviceName": "a_b"}, {"serviceName": "echo", "port": 80}]'
    broken = ["", "{}", "nope", "[NaN]", '[{"serviceName": "echo"}', "[" * 2000, twice]
    echo = {"serviceName": "echo"}
    broken += [json.dumps([echo] * 33), json.dumps([{**echo, "x": "x" * 16 * 1024}]), json.dumps([echo] * 32)]
    return st.one_of(array, array, array, array, mixed, mixed, st.sampled_from(broken))


def key_values() -> st.SearchStrategy[Any]:
    url = "dubbo%3A%2F%2F127.0.0.1%3A20880%2Fx%3Fversion%3D1.0%26weight%3D7"
    keys = st.builds(
        str.format, st.sampled_from(["{}", "/{}/providers", "/dubbo/{}/providers/" + url]), NAMES
    )
    details = {"port": PORTS, "group": TEXTS, "protocol": PROTOCOLS, "zone": st.sampled_from(["a", 1, True])}
    values = st.fixed_dictionaries({}, optional=details)
    others = st.sampled_from(["", "any text", "tri://10.9.9.9:50051/x?group=g", "tri://10.9.9.9/x"])
    return st.fixed_dictionaries({"k": keys, "v": st.one_of(values, values.map(json.dumps), others)})


BAD_KEY_VALUES = st.sampled_from(
    [7, {"k": "echo"}, {"k": "/x/echo/consumers", "v": ""}, {"k": "echo", "v": {"port": "80"}}]
    + [{"k": "echo", "v": text} for text in ("{", "tri://h:99999/x", "tri://h:1/?weight=x", '{"a": [1]}')]
    + [{"k": "/providers", "v": ""}, {"k": "a/providers", "v": ""}, {"k": "echo", "v": 1}]
)


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# Pods, Nodes, RpcServices


def not_ready(reason: str = "", status: str = "False") -> Any:
    return [{"type": "Ready", "status": status, "reason": reason}]


# What can be otherwise with a pod: where in its manifest, and what is there.
OTHERWISE: Sequence[tuple[str, str, Any]] = [
    ("metadata", "deletionTimestamp", "2026-11-21T02:02:02Z"),
    ("metadata", "uid", "made again"),
    ("metadata", "labels", {"rpc-service": "false", "app": "x"}),
    ("metadata", "labels", {"rpc-service": "true", "app": "y", "app.io/label": "out"}),
    ("spec", "nodeName", "silent"),
    ("spec", "nodeName", "gone"),
    ("spec", "serviceAccountName", "stranger"),
    *(("status", "phase", phase) for phase in ("Pending", "Succeeded", "Failed", "Unknown")),
    *(("status", "conditions", not_ready(reason)) for reason in ("ContainersNotReady", "")),
    *(("status", "conditions", unready) for unready in (not_ready(status="Unknown"), [], None)),
    *(("status", "address", ip) for ip in ("", "10.1.0.1", "127.0.0.1", "169.254.0.1", "fd00::1", "fe80::1")),
]


@st.composite
def pods(draw: st.DrawFn, number: int) -> Manifest:
    """One that is published, but for at most three things that are otherwise with it."""
    own = f"10.0.0.{number + 1}"
    pod: dict[str, dict[str, Any]] = {
        "metadata": {
            "name": f"p{number}",
            "namespace": SPACES[number % 3 == 2],
            "uid": "",
            "labels": {"rpc-service": "true", "app": "x", "app.io/label": "app.io-value"},
            "annotations": {
                "rpc-service": draw(texts(entries(), bad_entries())),
                **draw(st.sampled_from([{}, {}, {"app.io/annotation": "%"}])),
            },
        },
        "spec": {"nodeName": "ready", "serviceAccountName": "trusted"},
        "status": {
            "phase": "Running",
            "address": own,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    if draw(st.sampled_from([False, True])):
        pod["metadata"]["annotations"]["app.io/annotation"] = in_base64(
            draw(texts(key_values(), BAD_KEY_VALUES))
        )
    for part, key, value in draw(st.lists(st.sampled_from(OTHERWISE), max_size=3)):
        pod[part][key] = value
    pod["metadata"]["uid"] = f"{pod['metadata']['name']} {pod['metadata']['uid']}"
    ip = pod["status"].pop("address")
    pod["status"] |= {
        "podIP": ip,
        "podIPs": [{"ip": ip}, {"ip": own}, {"ip": f"fd00::{number}"}] if ip else None,
    }
    return pod


SELECTORS = st.sampled_from(
    [{"matchLabels": {"app": "x"}}, {"matchLabels": {"app": "x", "rpc-service": "false"}}, {}, None]
    + [
        {"matchExpressions": [{"key": "app", "operator": operator, **values}]}
        for operator, values in [("In", {"values": ["y"]}), ("NotIn", {"values": ["y"]}), ("Exists", {})]
    ]
    + [{"matchExpressions": [{"key": "app.io/label", "operator": "DoesNotExist"}]}]
)
MADE_BY = st.sampled_from(["a person", "a person", "the controller", "the controller, then a person"])


@st.composite
def rpcservices(draw: st.DrawFn, name: str, namespace: str) -> Manifest:
    service, made_by = draw(NAMES), draw(MADE_BY)
    optional = {
        "selector": SELECTORS,
        "port": PORTS,
        "version": TEXTS,
        "protocol": PROTOCOLS,
        "publishNotReadyAddresses": st.booleans(),
        "protectThreshold": st.sampled_from([0, 50, 100]),
    }
    managers = {"a person": [], "the controller": ["rpcregistry"]}.get(made_by, ["rpcregistry", "kubectl"])
    return {
        "metadata": {
            "name": f"{name}-{service}".lower().replace("_", "-"),  # serviceName is immutable
            "namespace": namespace,
            "uid": f"uid-{namespace}-{name}-{service}",
            "creationTimestamp": draw(st.sampled_from(["2026-11-21T02:02:02Z", "2026-11-21T02:02:03Z"])),
            "labels": {"app.kubernetes.io/managed-by": "rpcregistry"} if managers else {},
            "managedFields": [{"manager": manager, "fieldsV1": {"f:spec": {}}} for manager in managers],
        },
        "spec": {
            "serviceName": service,
            **draw(st.fixed_dictionaries({}, optional=optional if made_by != "the controller" else {})),
        },
    }


def node(name: str, ready: str) -> Manifest:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


NODES = [node("ready", "True"), node("silent", "Unknown")]


@st.composite
def moments(draw: st.DrawFn) -> oracle.World:
    """The objects of one moment, under the default flags."""
    numbers = draw(st.lists(st.integers(0, 11), unique=True, min_size=4, max_size=8))
    places = st.tuples(st.sampled_from("ab"), st.sampled_from(SPACES))
    names = draw(st.lists(places, unique=True, min_size=draw(st.sampled_from([0, 2])), max_size=4))
    return oracle.World(
        pods=[draw(pods(number)) for number in numbers],
        nodes=NODES,
        rpcservices=[draw(rpcservices(*name)) for name in names],
    )


@st.composite
def flags(draw: st.DrawFn) -> Mapping[str, Any]:
    trusted = [
        (space, "trusted", name) for space in SPACES for name in ("echo", "a-com.example.echo", "a-echo")
    ]
    return {
        "layouts": draw(st.lists(st.sampled_from(LAYOUTS), unique=True, min_size=1)),
        "cross_namespace": draw(st.sampled_from(["union", "union", "deny"])),
        "register": draw(st.sampled_from([None, None, None, trusted])),
        "namespace": draw(st.sampled_from([(), (), (), ("default",)])),
    }


# The controllers, on the same objects


class Denied:
    """Pods and RpcServices of which a world's flags say that the pod may not register them."""

    def __init__(self, world: oracle.World) -> None:
        self._register = world.register
        self._account = {
            pod["metadata"]["name"]: (pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"])
            for pod in world.pods
        }

    def __contains__(self, asked: tuple[str, str]) -> bool:
        pod, rpcservice = asked
        return self._register is not None and (*self._account[pod], rpcservice) not in self._register


class Controllers:
    """Both controllers in memory: shown one moment after the other, and left to do all there is to do."""

    def __init__(self, world: oracle.World, endpoints_per_object: int) -> None:
        self._memory = memory = test_reconcile.World()
        memory.endpoints_per_object = endpoints_per_object
        memory.cross_namespace = world.cross_namespace
        memory.layouts = tuple(Layout(*layout) for layout in world.layouts)
        memory.start()
        self._shown: dict[ObjectKey, Manifest] = {}
        self._versions = itertools.count(1000)

    def show(self, moment: oracle.World, listed: bool, restart: bool) -> None:
        """What the API server has now; *listed*: pods that are gone are missing from a LIST.

        *restart*: it is a new process that sees it.
        """
        memory = self._memory
        memory.denied = Denied(moment)
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

    def finish(self) -> None:
        """Do all there is to do, until nothing is held any more."""
        for _ in range(3):
            self._memory.settle()
            self._memory.clock.seconds += test_reconcile.CONFIRM + 1
            self._memory.names |= self._memory.registry.compare()

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


def agree(controllers: Controllers, moment: oracle.World, frozen: Collection[str] = ()) -> None:
    """Assert that ZooKeeper and the statuses are as the oracle has them; *frozen*: where more may be found."""
    world = replace(moment, rpcservices=controllers.rpcservices())
    assert oracle.listed(world.rpcservices) == oracle.statuses(world)
    znodes = controllers.znodes()
    for layout, services in oracle.desired(world).items():
        found = dict(oracle.read(*layout, znodes))
        for name in frozen:
            if services.get(name, frozenset()) < found.get(name, frozenset()):
                found[name] = services.get(name, frozenset())
        assert {name: found[name] for name in found if found[name]} == services, layout


def frozen_names(first: oracle.World, then: oracle.World) -> set[str]:
    """The services of which nothing is withdrawn *then*: one of ``DIFFERENCES``.

    A person deleted an RpcService, while a pod of the namespace is there that no other can list.
    """
    lingering = {
        pod["metadata"]["namespace"]
        for pod in then.pods
        if then.register or not pod["status"]["podIP"] or "deletionTimestamp" in pod["metadata"]
    }
    left = {(m["metadata"]["namespace"], m["metadata"]["name"]) for m in then.rpcservices}
    return {
        m["spec"]["serviceName"]
        for m in first.rpcservices
        if m["metadata"]["namespace"] in lingering
        and (m["metadata"]["namespace"], m["metadata"]["name"]) not in left
    }


@settings(max_examples=150, deadline=None, print_blob=True)
@given(flags(), moments(), moments(), st.sampled_from([1, 2, 100]), st.booleans(), st.booleans())
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
    controllers.show(first, listed=False, restart=True)
    controllers.finish()
    agree(controllers, first)
    controllers.show(then, listed, restart)
    controllers.finish()
    agree(controllers, then, frozen_names(first, then))
