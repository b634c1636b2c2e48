"""Whatever the CRDs' schemas accept is read: by both controllers, by verify and by the SDK."""

import json

import msgspec
from hypothesis import given

from rpcregistry.manifests import LOCALSERVICES, RPCSERVICES
from rpcregistry.model import ObjectKey
from tests.schemas import objects
from tests.worlds.registry import World

ECHO = ObjectKey("default", "echo")


@given(objects("rpcservice"))
def test_an_rpcservice_that_the_schema_accepts_is_read_in_full(found) -> None:
    service = RPCSERVICES.decode(json.dumps(found).encode())

    assert (service.damaged, service.unreadable) == ("", "")
    rows = (found.get("status") or {}).get("endpoints") or []
    assert [(row.pod_uid, row.ip, row.ready) for row in service.status.endpoints] == [
        (row["podUID"], row["ip"], row["ready"]) for row in rows
    ]


@given(objects("localservice"))
def test_a_localservice_that_the_schema_accepts_is_read_in_full(found) -> None:
    local = LOCALSERVICES.decode(json.dumps(found).encode())

    assert local.spec.selector == found["spec"]["selector"]


@given(objects("rpcservice"))
def test_both_controllers_work_with_it_and_publish_what_pods_show(found) -> None:
    world = World()
    service = RPCSERVICES.decode(json.dumps(found).encode())
    spec = msgspec.structs.replace(service.spec, service_name="echo", selector=None)
    world.serve(1, 2)
    world.settle()
    world.services.put(msgspec.structs.replace(service, spec=spec))
    world.settle()

    assert world.servers() == ["10.0.0.1", "10.0.0.2"]
    (left,) = world.services.values()
    assert [row.pod_name for row in left.status.endpoints] == ["p1", "p2"]
