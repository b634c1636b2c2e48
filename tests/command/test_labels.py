"""Labels that people want on node Services and on what we generate, through their lives."""

from typing import Any

import pytest

from tests.cluster.waiting import eventually
from tests.cluster.world import World

KEYS = "rpcregistry.dev/spec-keys"

pytestmark = pytest.mark.full


def metadata(world: World) -> dict[str, Any]:
    (service,) = world.node_services().values()
    return dict(service["metadata"])


def test_a_localservice_labels_its_services_through_create_change_removal_and_foreign_edit(
    world: World, start_local
):
    world.create_node("label-a")
    start_local()
    world.create_localservice(serviceLabels={"team": "shop"}, serviceAnnotations={"note": "x"})
    eventually(lambda: world.serves("label-a"))
    assert metadata(world)["labels"]["team"] == "shop"
    assert metadata(world)["annotations"]["note"] == "x"

    world.edit_localservice(serviceLabels={"team": None, "tier": "1"})
    eventually(lambda: metadata(world)["labels"].get("tier") == "1")
    assert "team" not in metadata(world)["labels"]

    name = metadata(world)["name"]
    edit = {"labels": {"tier": "2", "theirs": "1"}, "annotations": {"note": None}}
    world.core.patch_namespaced_service(name, world.namespace, {"metadata": edit})
    eventually(lambda: metadata(world)["labels"]["tier"] == "1" and "note" in metadata(world)["annotations"])
    assert metadata(world)["labels"]["theirs"] == "1"

    world.edit_localservice(serviceLabels=None, serviceAnnotations=None)
    eventually(lambda: KEYS not in metadata(world)["annotations"])
    assert "tier" not in metadata(world)["labels"]
    assert metadata(world)["labels"]["theirs"] == "1"


def test_what_is_generated_has_the_labels_of_the_flag_as_long_as_it_says(world: World, start_controller):
    def labels(kind: str) -> dict[str, str]:
        found = world.rpcservices() if kind == "rpc" else {"echo": world.localservice("echo")}
        return dict(found.get("echo", {}).get("metadata", {}).get("labels", {}))

    def both(team: str | None) -> bool:
        return all(labels(kind).get("team") == team for kind in ("rpc", "local"))

    controller = start_controller("--generated-labels", "team=shop")
    world.create_pod("a", {"serviceName": "echo", "port": 80, "local": True}, ip="10.0.0.1")
    world.apply_rpcservice("declared", port=1)
    eventually(lambda: both("shop"))

    world.kubectl("label", "rpc/echo", "lsvc/echo", "-n", world.namespace, "team=else", "--overwrite")
    eventually(lambda: both("shop"))
    eventually(lambda: world.servers("echo") == ["10.0.0.1"])
    controller.stop()

    controller = start_controller("--generated-labels", "team=it")
    eventually(lambda: both("it"))
    controller.stop()
    start_controller()
    eventually(lambda: labels("rpc") and both(None))
    assert "labels" not in world.rpcservices()["declared"]["metadata"]
