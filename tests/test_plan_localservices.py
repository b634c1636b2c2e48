"""Which LocalServices pods ask for, which labels they need, and what a status says."""

from collections.abc import Collection
from typing import Any

import msgspec
import pytest

from rpcregistry.model import (
    Declaration,
    KubeService,
    LabelSelector,
    LocalService,
    LocalServiceSpec,
    Node,
    Pod,
    Problem,
    ServicePort,
)
from rpcregistry.plan import podlabels
from rpcregistry.plan.localservices import Create, Delete, SetSpec, project, status
from tests.builders import NODE_LABEL, NOW, localservice, pod, served

OURS = "local-service.rpcregistry.dev/echo"


def asking(name: str, *ports: int, is_local: bool = True, **fields: Any) -> Pod:
    """A pod that declares echo at *ports*, and asks for node-local routing to it."""
    declarations = tuple(Declaration(service_name="echo", port=port, local=is_local) for port in ports)
    return pod(name, namespace="ns", declarations=declarations, **fields)


def generated(*ports: int) -> LocalService:
    several = len(ports) > 1
    return LocalService(
        namespace="ns",
        name="echo",
        uid="l",
        resource_version="1",
        generated=True,
        service_name="echo",
        spec=LocalServiceSpec(
            selector={OURS: "true"},
            ports=tuple(
                ServicePort(port=port, name=f"port-{port}" if several else "", target_port=port)
                for port in ports
            ),
        ),
    )


def projected(pods: list[Pod], observed: LocalService | None, may_remove: bool = True):
    return project("ns", "echo", "echo", pods, observed, may_remove)


def test_a_pod_that_asks_gets_a_local_service_of_its_port():
    op = projected([asking("p", 99)], None)
    assert op == Create("ns", "echo", generated(99).spec)


def test_several_ports_have_names():
    op = projected([asking("p", 99), asking("q", 98)], None)
    assert isinstance(op, Create)
    assert [(port.port, port.name) for port in op.spec.ports] == [(98, "port-98"), (99, "port-99")]


@pytest.mark.parametrize(
    ("pods", "may_remove", "deletes"),
    [
        pytest.param([], True, True, id="nobody asks any more"),
        pytest.param([asking("p", 99, is_local=False)], True, True, id="the pods ask for it no more"),
        pytest.param([asking("p", 99, phase="Failed")], True, True, id="those that did have finished"),
        pytest.param([], False, False, id="those that did are merely absent"),
        pytest.param([asking("p", 99)], True, False, id="a pod asks"),
    ],
)
def test_a_generated_one_is_deleted_where(pods: list[Pod], may_remove: bool, deletes: bool):
    op = projected(pods, generated(99), may_remove)
    assert op == (Delete(generated(99)) if deletes else None)


def test_the_port_of_an_absent_pod_is_kept():
    op = projected([asking("p", 99)], generated(98), may_remove=False)
    assert isinstance(op, SetSpec)
    assert [port.port for port in op.spec.ports] == [98, 99]


def test_one_that_a_person_declared_is_never_touched():
    declared = msgspec.structs.replace(generated(1), generated=False)
    assert projected([asking("p", 99)], declared) is None
    assert projected([], declared) is None


@pytest.mark.parametrize(
    ("observed", "names", "patch"),
    [
        pytest.param({"app": "x"}, [], {NODE_LABEL: "n1"}, id="selected"),
        pytest.param({"app": "x", NODE_LABEL: "n2"}, [], {NODE_LABEL: "n1"}, id="selected, and wrong"),
        pytest.param({"app": "x", NODE_LABEL: "n1"}, [], {}, id="right already"),
        pytest.param({"app": "y"}, [], {}, id="not selected"),
        pytest.param({"app": "y"}, ["echo"], {OURS: "true", NODE_LABEL: "n1"}, id="asks itself"),
        pytest.param({"app": "y", OURS: "true", NODE_LABEL: "n1"}, [], {OURS: None}, id="asks no more"),
    ],
)
def test_a_pod_needs_labels(observed: dict[str, str], names: list[str], patch: dict[str, str | None]):
    selectors = [LabelSelector(match_labels={"app": "x"})]
    assert podlabels.plan(pod("p", labels=observed, node_name="n1"), selectors, names, NODE_LABEL) == patch


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"node_name": ""}, id="it has no node yet"),
        pytest.param({"node_name": "n1", "terminating": True}, id="it is terminating"),
        pytest.param({"node_name": "n1", "phase": "Succeeded"}, id="it has finished"),
    ],
)
def test_a_pod_is_not_labelled_while(fields: dict[str, Any]):
    selectors = [LabelSelector(match_labels={"app": "x"})]
    assert podlabels.plan(pod("p", labels={"app": "x"}, **fields), selectors, [], NODE_LABEL) == {}


def test_a_long_node_name_becomes_a_label_value():
    selectors = [LabelSelector(match_labels={"app": "x"})]
    (value,) = podlabels.plan(
        pod("p", labels={"app": "x"}, node_name="n" * 64), selectors, [], NODE_LABEL
    ).values()
    assert value
    assert len(value) == 63


def nodes(count: int) -> list[Node]:
    return [Node(name=f"n{number:03}", uid=str(number), ready=True) for number in range(count)]


def running(node: str, ip: str, **fields: Any) -> Pod:
    labels = fields.pop("labels", {"app": "x", NODE_LABEL: node})
    ready = fields.pop("ready", True)
    return Pod(
        namespace="ns", name=ip, uid=ip, node_name=node, ips=(ip,), ready=ready, labels=labels, **fields
    )


def found(
    pods: list[Pod],
    count: int = 3,
    problems: dict[str, Problem] | None = None,
    held: Collection[str] = (),
    endless: str = "",
):
    asked = localservice()
    services: dict[str, KubeService] = {}
    for node in nodes(count):
        if node.name not in (problems or {}):
            service = served(asked, node.name)
            services[service.name] = service
    return status(asked, nodes(count), services, pods, NODE_LABEL, problems or {}, held, endless, NOW)


def test_a_status_counts_nodes_whose_service_has_a_ready_endpoint():
    pods = [
        running("n000", "10.0.0.1"),
        running("n000", "10.0.0.2", ready=False),
        running("n001", "10.0.0.3", terminating=True),
        running("n002", "10.0.0.4", labels={"app": "x"}),
    ]
    wanted = found(pods)
    assert (wanted.nodes, wanted.ready_nodes, wanted.truncated) == (3, 1, False)
    assert [row.endpoints for row in wanted.services] == [("10.0.0.1",), (), ()]
    assert wanted.services[0].cluster_ip == "10.96.0.7"


def test_a_status_lists_500_nodes_and_20_addresses_and_says_that_there_are_more():
    wanted = found([running("n000", f"10.0.0.{number}") for number in range(21)], 501)
    assert (len(wanted.services), len(wanted.services[0].endpoints), wanted.truncated) == (500, 20, True)
    assert wanted.nodes == 501


def test_a_condition_says_what_is_missing():
    wanted = found(
        [], 5, {"n001": Problem("QuotaExceeded", "no room"), "n003": Problem("QuotaExceeded", "nor here")}
    )
    (condition,) = wanted.conditions
    assert (condition.type, condition.status, condition.reason) == ("Synced", "False", "QuotaExceeded")
    assert condition.message.startswith("2 of 5 nodes lack their Service")
    assert len(wanted.services) == 3


def test_a_condition_says_which_nodes_keep_a_service_that_cannot_be_deleted():
    asked = localservice()
    services = {name: served(asked, name) for name in ("n000", "gone")}
    problems = {"gone": Problem("Refused", "403"), "gone with its Service": Problem("Refused", "500")}
    wanted = status(asked, nodes(1), services, [], NODE_LABEL, problems, (), "", NOW)
    (condition,) = wanted.conditions
    assert (condition.status, condition.reason) == ("False", "Refused")
    assert condition.message == "1 nodes that do not match still have a Service: 403"


def test_a_condition_says_which_nodes_are_held():
    (condition,) = found([], held={"gone"}).conditions
    assert (condition.status, condition.reason) == ("False", "Held")
    (condition,) = found([], held={"gone"}, endless="Nodes are silent (3 of 3)").conditions
    assert condition.message.startswith(
        "1 nodes are absent and are held without time limit: Nodes are silent (3 of 3);"
    )
