"""The oracle's node Services and those that the controller plans: two ways to the same answer."""

from typing import Any

import msgspec
import pytest

from rpcregistry.manifests import decode_localservice
from rpcregistry.model import Node
from rpcregistry.plan.nodeservices import Create, ObservedNodeService, plan
from tests.builders import NODE_LABEL
from tests.faults.harness import oracle
from tests.faults.harness.oracle import Manifest

NODES = ["n1", "ip-10-0-0-1.ec2.internal", "n" * 60, "n" * 80, "1st"]


def localservice(name: str = "app", space: str = "ns", **spec: Any) -> Manifest:
    return {
        "metadata": {"name": name, "namespace": space, "uid": f"uid-{space}-{name}", "resourceVersion": "1"},
        "spec": {"type": "ClusterIP", "selector": {"app": "x"}, "ports": [{"port": 80}], **spec},
    }


def node(name: str, **labels: str) -> Manifest:
    return {"metadata": {"name": name, "labels": labels}}


def made(local: Manifest, *names: str) -> list[Manifest]:
    """The Services that the controller makes for nodes."""
    found = []
    for name in names:
        there = ObservedNodeService(Node(name=name, uid=name, ready=True, labels={}), None, [])
        decoded = decode_localservice(msgspec.json.encode(local))
        ops = plan(decoded, name, there, NODE_LABEL).ops
        found += [msgspec.to_builtins(op.manifest) for op in ops if isinstance(op, Create)]
    return found


def wrong(
    local: Manifest, services: list[Manifest], *nodes: Manifest, **more: Any
) -> list[tuple[str, str, str]]:
    world = oracle.World(nodes=nodes, localservices=[local], services=services, **more)
    return [key for key, _, _ in oracle.wrong_node_services(world)]


@pytest.mark.parametrize("name", ["app", "a" * 63])
@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"type": "NodePort", "externalTrafficPolicy": "Local"},
        {"clusterIP": "None"},
        {"clusterIP": "None", "ports": []},
        {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}},
        {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"},
        {"ports": [{"port": 80, "name": "a", "targetPort": "http"}, {"port": 81, "name": "b"}]},
        {"publishNotReadyAddresses": True, "internalTrafficPolicy": "Local"},
    ],
)
def test_the_controller_makes_the_services_that_the_oracle_wants(name: str, spec: dict[str, Any]):
    local = localservice(name, **spec)
    services = made(local, *NODES)
    assert len(services) == len(NODES)
    assert wrong(local, services, *map(node, NODES)) == []
    assert len(wrong(local, [], *map(node, NODES))) == len(NODES)


def changed(service: Manifest, part: str, **fields: Any) -> Manifest:
    return {**service, part: {**service[part], **fields}}


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda service: changed(service, "metadata", name="app-n2"), id="another name"),
        pytest.param(lambda service: changed(service, "metadata", labels={}), id="no labels"),
        pytest.param(lambda service: changed(service, "spec", selector={"app": "x"}), id="any node's pods"),
        pytest.param(lambda service: changed(service, "spec", ports=[]), id="no port"),
        pytest.param(lambda service: changed(service, "spec", type="NodePort"), id="another type"),
        pytest.param(lambda service: changed(service, "metadata", ownerReferences=[]), id="nobody's"),
        pytest.param(lambda service: changed(service, "metadata", deletionTimestamp="now"), id="it goes"),
    ],
)
def test_a_service_that_is_otherwise_is_wrong(spoil):
    local = localservice()
    (service,) = made(local, "n1")
    services = [spoil(service)]
    if not services[0]["metadata"]["ownerReferences"]:  # it has the name, and may have it
        services[0]["metadata"]["name"] = "others"
    assert wrong(local, services, node("n1")) == [("ns", "app", "n1")]


def test_a_service_too_many_is_wrong():
    local = localservice(nodeSelector={"disk": "ssd"})
    services = made(localservice(), "n1", "n2")
    assert wrong(local, services, node("n1", disk="ssd")) == [("ns", "app", "n2")]
    assert wrong(local, services, node("n1", disk="ssd"), node("n2")) == [("ns", "app", "n2")]
    (one, two) = services
    again = changed(one, "metadata", name="app-n1-again")
    assert wrong(local, [one, two, again], *(node(name, disk="ssd") for name in ("n1", "n2"))) == [
        ("ns", "app", "n1")
    ]


def test_what_somebody_else_has_called_so_may_be_missing():
    others = {"metadata": {"name": "app-n1", "namespace": "ns"}, "spec": {}}
    assert wrong(localservice(), [others], node("n1")) == []


def test_in_a_namespace_that_ends_or_is_not_watched_nothing_is_missed():
    ending = {"metadata": {"name": "ns", "deletionTimestamp": "2026-11-21T02:02:02Z"}}
    assert wrong(localservice(), [], node("n1"), namespaces=[ending]) == []
    assert wrong(localservice(), [], node("n1"), namespace=["other"]) == []
