"""What each LocalService asks for on one node, given what is there."""

from typing import Any

import msgspec
import pytest

from rpcregistry.manifests.made import node_service
from rpcregistry.model import KubeService, LocalService, Node
from rpcregistry.names import node_service_name
from rpcregistry.plan.nodeservices import Create, Delete, ObservedNodeService, Outcome, Patch, Replace, plan
from tests.builders import NODE_LABEL, localservice, served

NODE = Node(name="n1", uid="n", ready=True, labels={"disk": "ssd"})


def planned(
    asked: LocalService, named: KubeService | None, node: Node | None = NODE, absence_confirmed: bool = False
) -> Outcome:
    return plan(
        asked, "n1", ObservedNodeService(node, named, [named] if named else [], absence_confirmed), NODE_LABEL
    )


def test_a_node_that_matches_gets_a_service():
    (op,) = planned(localservice(), None).ops
    assert isinstance(op, Create)
    assert op.manifest["metadata"]["name"] == "app-n1"
    assert op.manifest["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "rpcregistry",
        "owner": "app",
        "rpcregistry.dev/localservice": "app",
        "rpcregistry.dev/node": "n1",
    }
    assert op.manifest["spec"]["selector"] == {"app": "x", NODE_LABEL: "n1"}
    assert None not in op.manifest["spec"].values()


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="as little as possible"),
        pytest.param({"type": "NodePort"}, id="NodePort"),
        pytest.param({"clusterIP": "None"}, id="headless"),
        pytest.param({"clusterIP": "None", "ports": []}, id="headless without ports"),
        pytest.param({"sessionAffinity": "ClientIP"}, id="sticky"),
        pytest.param({"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}, id="IP families"),
        pytest.param({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}, id="two ports"),
        pytest.param({"publishNotReadyAddresses": True}, id="all addresses"),
    ],
)
def test_what_the_server_filled_in_is_no_difference(spec: dict[str, Any]):
    asked = localservice(**spec)
    assert planned(asked, served(asked)) == Outcome()


@pytest.mark.parametrize(
    ("spec", "observed", "field", "value"),
    [
        pytest.param({"ports": [{"port": 81}]}, {}, "ports",
                     [{"port": 81, "protocol": "TCP", "targetPort": 81}], id="another port"),
        pytest.param({}, {"selector": {"app": "y", "old": "1", NODE_LABEL: "n1"}}, "selector",
                     {"app": "x", "old": None, NODE_LABEL: "n1"}, id="a selector edited"),
        pytest.param({}, {"internalTrafficPolicy": "Local"}, "internalTrafficPolicy", "Cluster",
                     id="a policy that is asked for no more"),
        pytest.param({}, {"externalTrafficPolicy": "Local"}, "externalTrafficPolicy", None,
                     id="what only a NodePort has"),
        pytest.param({}, {"publishNotReadyAddresses": True}, "publishNotReadyAddresses", False,
                     id="all addresses no more"),
        pytest.param({"type": "NodePort"}, {"type": "ClusterIP"}, "type", "NodePort", id="another type"),
    ],
)  # fmt: skip
def test_what_differs_is_patched_and_nothing_else(
    spec: dict[str, Any], observed: dict[str, Any], field: str, value: Any
):
    before = served(localservice(), **observed) if observed else served(localservice())
    if spec.get("type"):
        before = served(localservice(**spec), **observed)
    (op,) = planned(localservice(**spec), before).ops
    assert isinstance(op, Patch)
    assert op.patch["spec"] == {field: value}
    assert op.patch["metadata"] == {"uid": "s", "resourceVersion": "7"}


@pytest.mark.parametrize(
    ("spec", "observed"),
    [
        pytest.param({"clusterIP": "None"}, {"clusterIP": "10.96.0.7"}, id="headless from now on"),
        pytest.param({}, {"clusterIP": "None"}, id="headless no more"),
        pytest.param({"ipFamilies": ["IPv6"]}, {"ipFamilies": ["IPv4"]}, id="another IP family"),
    ],
)
def test_what_cannot_be_changed_is_replaced_once(spec: dict[str, Any], observed: dict[str, Any]):
    asked = localservice(**spec)
    (op,) = planned(asked, served(asked, **observed)).ops
    assert isinstance(op, Replace)
    assert planned(asked, served(asked)) == Outcome()


@pytest.mark.parametrize(
    ("metadata", "taken_over"),
    [
        pytest.param({"labels": {}, "ownerReferences": None}, False, id="somebody's"),
        pytest.param({"labels": {"owner": "app"}, "ownerReferences": None}, False, id="only labelled owner"),
        pytest.param({"ownerReferences": None}, True, id="orphaned by a person"),
        pytest.param({"labels": {}}, True, id="ours, its labels edited away"),
        pytest.param({"annotations": {}}, True, id="ours, its annotation edited away"),
    ],
)
def test_a_service_of_the_name_is_taken_over_only_if_it_is_ours(metadata: dict[str, Any], taken_over: bool):
    outcome = planned(localservice(), served(localservice(), metadata=metadata))
    if taken_over:
        assert outcome.problem is None
        assert [type(op) for op in outcome.ops] == [Patch]
    else:
        assert outcome.problem is not None
        assert (outcome.problem.reason, outcome.ops) == ("NameTaken", ())


def test_the_service_of_an_earlier_local_service_of_the_name_is_taken_over_without_a_gap():
    (op,) = planned(localservice(uid="new"), served(localservice(uid="old"))).ops
    assert isinstance(op, Patch)
    assert [owner["uid"] for owner in op.patch["metadata"]["ownerReferences"]] == ["new"]


def test_the_service_of_another_local_service_is_left_alone():
    other = served(localservice(name="other", uid="other"), metadata={"name": "app-n1"})
    assert planned(localservice(), other).problem is not None


@pytest.mark.parametrize(
    ("node", "absence_confirmed", "deleted"),
    [
        pytest.param(None, False, False, id="a node that merely is absent keeps its Service"),
        pytest.param(None, True, True, id="one whose absence is confirmed does not"),
        pytest.param(
            msgspec.structs.replace(NODE, ready=False), False, False, id="one that is not Ready does"
        ),
        pytest.param(
            msgspec.structs.replace(NODE, labels={}), False, True, id="one that matches no more does not"
        ),
    ],
)
def test_of_the_node(node: Node | None, absence_confirmed: bool, deleted: bool):
    asked = localservice(nodeSelector={"disk": "ssd"})
    observed = served(asked)
    assert planned(asked, observed, node, absence_confirmed).ops == ((Delete(observed),) if deleted else ())


def test_a_service_that_is_being_deleted_is_waited_for():
    ending = served(localservice(), metadata={"deletionTimestamp": "2026-11-21T02:02:02Z"})
    assert planned(localservice(), ending) == Outcome()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("app", "a.b"), ("app", "a-b"), id="the same when the dots are gone"),
        pytest.param(("a", "b-c.d"), ("a-b", "c.d"), id="the same when put together"),
        pytest.param(("app", "n" * 80), ("app", "n" * 81), id="the same head"),
        pytest.param(("x" * 60, "node1"), ("x" * 60, "node2"), id="a long LocalService"),
    ],
)
def test_names_that_do_not_fit_differ_all_the_same(one: tuple[str, str], other: tuple[str, str]):
    names = {node_service_name(*one), node_service_name(*other)}
    assert len(names) == 2
    assert all(len(name) <= 63 and "." not in name for name in names)


def test_a_name_starts_with_a_letter():
    assert node_service_name("9app", "n1")[0].isalpha()


def test_what_was_read_is_never_changed():
    asked, observed = localservice(), served(localservice(ports=[{"port": 81}]))
    before = (msgspec.json.encode(asked), msgspec.json.encode(observed))
    planned(asked, observed)
    assert (msgspec.json.encode(asked), msgspec.json.encode(observed)) == before


TEAM = {"serviceLabels": {"team": "shop"}, "serviceAnnotations": {"note": "x"}}


def metadata_of(outcome: Outcome) -> dict[str, Any]:
    (op,) = outcome.ops
    assert isinstance(op, Patch)
    return {key: op.patch["metadata"].get(key) for key in ("labels", "annotations")}


def test_labels_and_annotations_of_the_spec_are_put_on_the_service_and_remembered():
    (op,) = planned(localservice(**TEAM), None).ops
    assert isinstance(op, Create)
    assert op.manifest["metadata"]["labels"]["team"] == "shop"
    assert op.manifest["metadata"]["annotations"] == {
        "note": "x",
        "rpcregistry.dev/node-name": "n1",
        "rpcregistry.dev/spec-keys": '{"labels":["team"],"annotations":["note"]}',
    }
    assert planned(localservice(**TEAM), served(localservice(**TEAM))) == Outcome()


def test_what_is_removed_from_the_spec_is_taken_off_and_nothing_else():
    asked = localservice(**TEAM)
    manifest = node_service(asked, "n1", NODE_LABEL)["metadata"]
    theirs = {
        "labels": {**manifest["labels"], "theirs": "1"},
        "annotations": {**manifest["annotations"], "theirs": "1"},
    }
    patch = metadata_of(planned(localservice(), served(asked, metadata=theirs)))

    assert patch["labels"]["team"] is None
    assert patch["annotations"]["note"] is patch["annotations"]["rpcregistry.dev/spec-keys"] is None
    assert "theirs" not in {**patch["labels"], **patch["annotations"]}


@pytest.mark.parametrize("edit", [{"team": "else"}, {}], ids=["changed", "removed"])
def test_an_edit_of_a_label_of_the_spec_is_put_back(edit: dict[str, str]):
    asked = localservice(**TEAM)
    labels = {**node_service(asked, "n1", NODE_LABEL)["metadata"]["labels"]}
    del labels["team"]
    patch = metadata_of(planned(asked, served(asked, metadata={"labels": {**labels, **edit}})))

    assert (patch["labels"]["team"], patch["annotations"]) == ("shop", None)


@pytest.mark.parametrize("keys", ["", "{", "[]", '{"labels":7}', '{"labels":["owner"]}'])
def test_what_others_write_into_the_memory_removes_nothing_of_ours(keys: str):
    asked = localservice()
    annotations = {"rpcregistry.dev/node-name": "n1", "rpcregistry.dev/spec-keys": keys}
    patch = metadata_of(planned(asked, served(asked, metadata={"annotations": annotations})))

    assert patch["annotations"]["rpcregistry.dev/spec-keys"] is None
    assert None not in (patch["labels"] or {}).values()
