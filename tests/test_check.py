"""What ``rpcregistry check`` says of the kinds, by what the API server serves."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from rpcregistry.commands.check import OPENAPI, _kinds
from rpcregistry.errors import Unknown
from rpcregistry.plan.explain import Seen

GROUP = "apis/rpcregistry.dev/v1alpha1"


class Kube:
    """An API server that serves *schemas* of our group; None: no such group."""

    def __init__(self, schemas: Mapping[str, Any] | None) -> None:
        paths: dict[str, object] = {"api/v1": {}, **({} if schemas is None else {GROUP: {}})}
        self._answers = {
            OPENAPI: {"paths": paths},
            f"{OPENAPI}/{GROUP}": {"components": {"schemas": schemas}},
        }

    def read(self, what: str, path: str) -> bytes:
        return json.dumps(self._answers[path]).encode()


class Refusing:
    def read(self, what: str, path: str) -> bytes:
        raise Unknown(f"{what}: 403 Forbidden")


def kind(part: str, *fields: str) -> Mapping[str, Any]:
    return {"properties": {part: {"properties": {name: {} for name in fields}}}}


NEW = {
    "dev.rpcregistry.v1alpha1.RpcService": kind("status", "endpoints", "origin"),
    "dev.rpcregistry.v1alpha1.LocalService": kind("spec", "selector", "serviceLabels"),
}


@pytest.mark.parametrize(
    ("kube", "seen", "why"),
    [
        pytest.param(Kube(NEW), Seen.RIGHT, "localservices.rpcregistry.dev is served", id="served"),
        pytest.param(Kube(None), Seen.WRONG, "is not served", id="never applied"),
        pytest.param(Kube({}), Seen.WRONG, "is not served", id="deleted"),
        pytest.param(
            Kube({**NEW, "dev.rpcregistry.v1alpha1.LocalService": kind("spec", "selector")}),
            Seen.WRONG,
            "it has no spec.serviceLabels",
            id="an older version's",
        ),
        pytest.param(Kube({name: {} for name in NEW}), Seen.WRONG, "older", id="somebody else's"),
        pytest.param(Refusing(), Seen.UNSEEN, "list the schemas: 403", id="refused"),
    ],
)
def test_a_kind_is_judged_by_what_the_server_serves(kube, seen: Seen, why: str):
    *_, local = _kinds(kube)
    assert (local.seen, why in local.why) == (seen, True), local
