"""What a newer version writes into objects of an older one: nothing, before they change."""

from typing import Any

import msgspec
import pytest

from rpcregistry.model import Condition, ObjectKey, RpcService
from tests.worlds.registry import World

ECHO = ObjectKey("default", "echo")


@pytest.fixture
def world() -> World:
    """A settled world whose RpcService is as an older version left it."""
    world = World()
    world.serve(1)
    world.settle()
    found = world.services.get(ECHO)
    was = tuple(
        msgspec.structs.replace(each, reason="Synced") if each.type == "Synced" else each
        for each in found.status.conditions
    )
    older = msgspec.structs.replace(found.status, origin="", conditions=was)
    world.services.put(msgspec.structs.replace(found, status=older))
    world.settle()
    world.kube.writes.clear()
    world.events.told.clear()
    return world


def older(world: World) -> RpcService:
    found = world.services.get(ECHO)
    assert found
    conditions = tuple(
        Condition(type="Synced", status="True", reason="Synced", last_transition_time="2026-01-01T00:00:00Z")
        if each.type == "Synced"
        else each
        for each in found.status.conditions
    )
    status = msgspec.structs.replace(found.status, origin="", conditions=conditions)
    return msgspec.structs.replace(found, status=status)


def test_an_upgrade_writes_nothing_and_the_next_change_brings_the_new_words(world: World):
    world.services.put(older(world))
    world.start()
    world.settle()
    assert world.kube.writes == []
    assert world.events.told == []

    world.serve(1, ready=False)
    world.settle()
    assert world.services.get(ECHO).status.origin == "generated"


def test_an_older_crd_that_drops_the_origin_has_it_written_once(world: World):
    write = world.kube._write

    def without_origin(verb: str, key: ObjectKey, manifest: dict[str, Any], subresource: str) -> Any:
        status = {**manifest["status"], "origin": ""}
        return write(verb, key, {**manifest, "status": status}, subresource)

    world.kube._write = without_origin  # type: ignore[assignment]
    world.services.put(older(world))
    world.start()
    world.settle()
    world.kube.writes.clear()
    for _ in range(3):
        world.keys |= world.rpcservices.every_key()
        world.settle()

    assert world.kube.writes == []


def test_an_edit_of_the_origin_is_put_back(world: World):
    found = world.services.get(ECHO)
    world.services.put(
        msgspec.structs.replace(
            found, status=msgspec.structs.replace(found.status, origin="declared"), resource_version="999"
        )
    )
    world.settle()

    assert world.services.get(ECHO).status.origin == "generated"


def test_an_object_that_a_person_takes_over_is_declared(world: World):
    found = world.services.get(ECHO)
    shown = msgspec.structs.replace(found.status, origin="generated")
    changed = msgspec.structs.replace(found, generated=False, status=shown, resource_version="999")
    world.services.put(changed)
    world.settle()

    assert world.services.get(ECHO).status.origin == "declared"
