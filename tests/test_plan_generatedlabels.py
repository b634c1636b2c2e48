"""Labels that people want on what we generate."""

from typing import Any

import msgspec
import pytest

from rpcregistry.manifests import decode_rpcservice, made
from rpcregistry.model import RpcService
from rpcregistry.plan.generatedlabels import plan

TEAM = {"team": "shop", "a/b": ""}


def stored(
    labels: dict[str, str], edited: dict[str, Any] | None = None, spec_of: str = "rpcregistry"
) -> RpcService:
    """A generated RpcService as a server has it; *edited*: labels that others wrote; None removes one."""
    manifest = made.rpcservice("default", "echo", "echo", None, labels)
    metadata = manifest["metadata"] | {"uid": "u", "resourceVersion": "7"}
    found = {**metadata["labels"], **(edited or {})}
    metadata["labels"] = {key: value for key, value in found.items() if value is not None}
    metadata["managedFields"] = [{"manager": spec_of, "fieldsV1": {"f:spec": {}}}]
    return decode_rpcservice(msgspec.json.encode({**manifest, "metadata": metadata}))


def test_a_new_object_has_them_and_nothing_is_written_again():
    assert made.rpcservice("default", "echo", "echo", None, TEAM)["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "rpcregistry",
        **TEAM,
    }
    assert plan(stored(TEAM), TEAM) is None
    assert plan(stored({}), {}) is None


def test_an_existing_object_gets_them():
    op = plan(stored({}), TEAM)
    assert op
    assert op.patch == {
        "metadata": {
            "uid": "u",
            "resourceVersion": "7",
            "labels": TEAM,
            "annotations": {"rpcregistry.dev/generated-labels": "a/b,team"},
        }
    }


@pytest.mark.parametrize(
    ("wanted", "labels", "annotation"),
    [
        pytest.param({"team": "it"}, {"team": "it", "a/b": None}, "team", id="others are wanted"),
        pytest.param({}, {"team": None, "a/b": None}, None, id="none is wanted"),
    ],
)
def test_what_is_wanted_no_more_is_removed(
    wanted: dict[str, str], labels: dict[str, str | None], annotation: str | None
):
    op = plan(stored(TEAM, {"theirs": "1"}), wanted)
    assert op
    assert op.labels == labels
    assert op.annotations == {"rpcregistry.dev/generated-labels": annotation}


@pytest.mark.parametrize("edited", [{"team": "else"}, {"team": None}], ids=["changed", "removed"])
def test_an_edit_is_put_back(edited: dict[str, Any]):
    op = plan(stored(TEAM, edited), TEAM)
    assert op
    assert op.labels["team"] == "shop"


def test_a_declared_object_is_left_alone():
    assert plan(stored({}, spec_of="kubectl"), TEAM) is None
