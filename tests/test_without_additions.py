"""Writes that add and remove in one.  Where one is refused for what it adds, it is made without that.

| write | what leads callers astray if it stays | here |
| --- | --- | --- |
| the status of an RpcService | rows of dead pods, rows with a former address | yes |
| a part of an RpcService | the same; ``test_reconcile_refused`` | yes |
| a node Service | former ports and selectors | yes |
| a generated LocalService | former ports | yes |
| labels on pods | ``test_reconcile_podlabels`` | |
| labels on generated objects | what people select by them | yes |
| the znode of a service | addresses of dead pods | yes |
| the znodes of endpoints | the same, and the former address of a pod that moved | yes |

The status of a LocalService, conditions, Events and what the Lease shows are for people: nobody is sent
anywhere by them.  Each is written as a whole once it is accepted.  An RPC process's own annotation is
changed one service at a time.
"""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from rpcregistry.errors import Failure, Partial, Rejected
from rpcregistry.layouts import Layout
from rpcregistry.manifests import RPCSERVICES, Resource, made
from rpcregistry.model import Declaration, LocalServiceSpec, Node, ObjectKey, RpcService, ServicePort
from rpcregistry.plan import generatedlabels, localservices, nodeservices
from rpcregistry.plan.ops import Create, Op, Set
from rpcregistry.plan.publication import PublicationSettings
from rpcregistry.reconcile.generatedlabels import GeneratedLabelReconciler
from rpcregistry.reconcile.troubles import LONGEST_PAUSE
from tests.builders import NODE_LABEL, localservice, pod, pod_key, rpcservice, served
from tests.worlds import Clock, Held, KubeInMemory, ZooKeeperInMemory
from tests.worlds import nodeservices as nodes
from tests.worlds.registry import World

POLICY = Rejected("422 Invalid: a policy refuses what is new")


# RpcServices and znodes


class WaryKube(KubeInMemory[RpcService]):
    """Refuses every status that lists an address which was not there before."""

    refuses_new = False

    def replace(
        self,
        resource: Resource[RpcService],
        key: ObjectKey,
        manifest: Mapping[str, Any],
        subresource: str = "",
    ) -> RpcService:
        assert self.source
        before = {row.ip for row in self.source.get(key).status.endpoints}
        if self.refuses_new and not {row["ip"] for row in manifest["status"]["endpoints"]} <= before:
            raise POLICY
        return super().replace(resource, key, manifest, subresource)


class WaryZooKeeper(ZooKeeperInMemory):
    """Refuses to create endpoints, and any other content that has an address which was not there before."""

    refuses_new = False

    def _apply(self, after: dict[str, tuple[bytes, int]], op: Op) -> int | None:
        new = isinstance(op, Create)
        if isinstance(op, Set) and b"servers" in op.data:
            before = json.loads(after[op.path][0])["servers"]
            new = not {*json.loads(op.data)["servers"]} <= {*before}
        if self.refuses_new and new:
            raise Rejected(f"quota of {op.path}")
        return super()._apply(after, op)


@pytest.fixture
def world() -> World:
    world = World()
    world.layouts = (Layout("kube2zk", "/rpc_v2"), Layout("dubbo", "/dubbo"))
    world.kube, world.zookeeper = WaryKube(), WaryZooKeeper()
    world.kube.source = world.services
    world.start()
    serve(world, 1, 2)
    world.settle()
    return world


def serve(world: World, *numbers: int, **fields: Any) -> None:
    for number in numbers:
        world.pods.put(pod(number, declarations=(Declaration(service_name="echo", port=80),), **fields))


def work_off(world: World) -> None:
    for _ in range(10):
        try:
            world.settle()
        except (Rejected, Partial):
            continue
        return


def published(world: World) -> list[set[int]]:
    """The numbers of the published addresses, in each layout."""
    servers = world.servers() or ()
    names = world.zookeeper.children("/dubbo/echo/providers")
    return [
        {int(address.rpartition(".")[2]) for address in servers},
        {int(name.partition("%3A80")[0].rpartition(".")[2]) for name in names},
    ]


@pytest.mark.parametrize("where", ["kube", "zookeeper"])
@pytest.mark.parametrize(
    ("change", "left", "after"),
    [
        pytest.param("one goes, another comes", {2}, {2, 3}, id="one goes, another comes"),
        pytest.param("one moves", {2}, {2, 9}, id="one moves"),
        pytest.param("all move", set(), {8, 9}, id="all move"),
    ],
)
def test_endpoints(world: World, where: str, change: str, left: set[int], after: set[int]):
    refusing = getattr(world, where)
    refusing.refuses_new = True
    if change == "one goes, another comes":
        world.pods.drop(pod_key(1))
        serve(world, 3)
    else:
        serve(world, 1, ip="10.0.0.9")
    if change == "all move":
        serve(world, 2, ip="10.0.0.8")
    work_off(world)
    assert published(world) == [left, left]

    refusing.refuses_new = False
    world.clock.seconds += LONGEST_PAUSE
    world.keys |= world.rpcservices.every_key()
    world.names |= world.registry.every_name()
    work_off(world)
    assert published(world) == [after, after]


@pytest.mark.parametrize("limit", [1, 200])
def test_what_our_own_limit_refuses(world: World, limit: int):
    """No more fits, by --max-znode-bytes; who is dead leaves all the same."""
    world.registry._settings = PublicationSettings("c1", max_znode_bytes=limit)
    world.pods.drop(pod_key(1))
    serve(world, *range(3, 30))
    serve(world, 30, ip="10.0.0.200")
    work_off(world)
    servers, _ = published(world)
    assert servers == {2}
    (service,) = world.services.values()
    assert service.status.condition("Synced").reason == "TooLarge"


# node Services


class WaryServer(nodes.Server):
    """Refuses what adds a label, as a policy may."""

    refuses_new: Failure | None = None

    def patch(
        self, resource: Resource[Any], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> Any:
        before = self._manifests[key.name]
        labels = {**before["metadata"]["labels"], **patch["metadata"].get("labels", {})}
        if self.refuses_new and labels.keys() - before["metadata"]["labels"].keys():
            self.writes.append(f"patch {key.name}, refused")
            raise self.refuses_new
        metadata = {**before["metadata"], "labels": {key: value for key, value in labels.items() if value}}
        annotations = {**before["metadata"]["annotations"], **patch["metadata"].get("annotations", {})}
        metadata["annotations"] = {key: value for key, value in annotations.items() if value is not None}
        self._manifests[key.name] = {**before, "metadata": metadata}
        return super().patch(resource, key, patch, subresource)


def test_a_node_service_leads_to_no_former_ports_and_pods_while_what_is_new_is_refused():
    world = nodes.World(0)
    world.server = world.under._kube = WaryServer(world.services)
    world.nodes.put(Node(name="n0", uid="0", ready=True))
    world.locals.put(localservice(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81}]))
    world.settle()
    world.server.refuses_new = POLICY
    wanted = localservice(
        ports=[{"name": "b", "port": 81}, {"name": "c", "port": 82}],
        selector={"app": "y"},
        serviceLabels={"new": "1"},
    )
    world.locals.put(wanted)

    def look() -> tuple[list[int], str, bool]:
        world.add(world.under.every_key())
        while world.queue:
            try:
                world.settle()
            except Partial:
                continue
        (service,) = world.services.values()
        spec = json.loads(service.spec)
        return [port["port"] for port in spec["ports"]], spec["selector"]["app"], "new" in service.labels

    assert look() == ([81], "y", False)
    writes = len(world.server.writes)
    assert look() == ([81], "y", False)
    assert len(world.server.writes) == writes, "all waits for its pause"
    assert world.under.problems(ObjectKey("ns", "app"))["n0"].reason == "Refused"

    world.server.refuses_new = None
    world.clock.seconds += LONGEST_PAUSE
    assert look() == ([81, 82], "y", True)
    assert world.under.problems(ObjectKey("ns", "app")) == {}


def patch_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> nodeservices.Patch:
    """The patch of the Service of one LocalService, which changes."""
    observed = served(localservice(**before))
    local = localservice(**after)
    seen = nodeservices.ObservedNodeService(Node(name="n1", uid="1", ready=True), observed, [observed])
    (op,) = nodeservices.plan(local, "n1", seen, NODE_LABEL).ops
    assert isinstance(op, nodeservices.Patch)
    return op


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        pytest.param({}, {"serviceLabels": {"a": "1"}}, None, id="only adds"),
        pytest.param({}, {"selector": {"app": "y"}}, None, id="only replaces"),
        pytest.param({"ports": [{"port": 80}]}, {"ports": [{"port": 81}]}, None, id="a Service has a port"),
        pytest.param(
            {"serviceLabels": {"a": "1"}},
            {"serviceLabels": {"b": "1"}},
            {"metadata": {"labels": {"a": None}}},
            id="labels",
        ),
        pytest.param(
            {"type": "NodePort"},
            {"type": "ClusterIP", "serviceAnnotations": {"b": "1"}},
            {"metadata": {}, "spec": {"type": "ClusterIP", "externalTrafficPolicy": None}},
            id="what opens it",
        ),
    ],
)
def test_what_is_left_of_a_node_services_patch(before: Any, after: Any, left: Any):
    less = nodeservices.without_additions(patch_of(before, after))
    if left is None:
        assert less is None
        return
    assert less
    assert less.patch == {**left, "metadata": {**left["metadata"], "uid": "s", "resourceVersion": "7"}}
    assert nodeservices.write_of(less) != nodeservices.write_of(
        msgspec.structs.replace(less, only_removes=False)
    )


# generated LocalServices


def ports(*numbers: int) -> tuple[ServicePort, ...]:
    return tuple(ServicePort(name=f"p-{number}", port=number) for number in numbers)


@pytest.mark.parametrize(
    ("after", "left"),
    [
        pytest.param((81, 82), (81,), id="one goes, another comes"),
        pytest.param((80, 81, 82), None, id="only adds"),
        pytest.param((81,), None, id="only removes"),
        pytest.param((82,), None, id="it has to have a port"),
    ],
)
def test_what_is_left_of_a_localservices_ports(after: tuple[int, ...], left: tuple[int, ...] | None):
    spec = LocalServiceSpec(selector={"a": "b"}, ports=ports(80, 81))
    local = msgspec.structs.replace(localservice(), spec=spec)
    op = localservices.SetSpec(local, msgspec.structs.replace(spec, ports=ports(*after)))
    less = localservices.without_additions(op)
    assert (less and less.spec.ports) == (left and ports(*left))


# labels on generated objects


class LabelServer(KubeInMemory[RpcService]):
    """Refuses the label that is new."""

    def patch(
        self, resource: Resource[RpcService], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> RpcService:
        assert self.source
        self.writes.append(("patch", key.name))
        labels = patch["metadata"]["labels"]
        if labels.get("new"):
            raise POLICY
        found = self.source.get(key)
        assert found
        after = {**found.labels, **labels}
        written = msgspec.structs.replace(
            found, labels={key: value for key, value in after.items() if value is not None}
        )
        self.source.put(written)
        return written


def test_labels_of_generated_objects():
    found: Held[RpcService] = Held({}, lambda _: None)
    found.put(rpcservice("echo", labels={"old": "1", "theirs": "2"}, label_keys=("old",)))
    server = LabelServer()
    server.source = found
    clock = Clock()
    under = GeneratedLabelReconciler(
        kube=server, resource=RPCSERVICES, found=found, labels={"new": "1"}, clock=clock
    )
    for _ in range(3):
        with pytest.raises(Partial):
            under.reconcile(ObjectKey("default", "echo"))
    (service,) = found.values()
    assert service.labels == {"theirs": "2"}
    # What is left to do is the same write as before, and waits for its pause.
    assert len(server.writes) == 2
    assert generatedlabels.without_additions(generatedlabels.plan(service, {"new": "1"})) is None
    assert made.label_keys({"new": "1"}) == "new"
