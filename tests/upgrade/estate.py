"""What the suite publishes: one of everything that a version leaves behind outside of its process."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from kazoo.client import KazooClient

from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.ground import TOP
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.reading import subtree
from tests.faults.harness.stand import Stand

GREETER = {"serviceName": "com.example.Greeter", "port": 20880, "metadata": {"weight": "50"}}
ECHO = {"serviceName": "echo", "port": 8080, "version": "v1", "metadata": {"zone": "a"}}
BIG, HELD = 25, 12  # pods
LAYOUTS: Mapping[str, tuple[str, ...]] = {
    # One znode a service, and one an endpoint.
    "both forms": ("kube2zk=/rpc_v2", "curator=/services"),
    "all": (
        "kube2zk=/rpc_v2", "curator=/services", "spring-cloud=/spring", "dubbo=/dubbo",
        "serverset=/serversets", "sofa=/sofa-rpc", "nerve=/nerve", "go-kit=/go-kit",
    ),
}  # fmt: skip


def flags(layouts: str) -> list[str]:
    """The flags of every controller of the suite."""
    chosen = [part for layout in LAYOUTS[layouts] for part in ("--layout", layout)]
    for name in ("nerve", "go-kit"):
        if any(layout.startswith(f"{name}=") for layout in LAYOUTS[layouts]):
            chosen += ["--template", f"{name}={TOP / 'examples' / 'layouts' / f'{name}.yaml'}"]
    return [*chosen, "--endpoints-per-object", "10", "--guard-confirm", "1h"]


def build(world: World, nodes: str) -> None:
    """Make pods of several services, one of them large, and a LocalService on two nodes."""
    for number in (1, 2, 3):
        world.create_pod(f"echo-{number}", ECHO, GREETER, ip=f"10.0.0.{number}")
    for number in range(BIG):
        world.create_pod(f"big-{number}", {"serviceName": "big", "port": 9000}, ip=f"10.0.1.{number}")
    for number in range(HELD):
        world.create_pod(f"gone-{number}", {"serviceName": "gone", "port": 9000}, ip=f"10.0.2.{number}")
    for number in (1, 2):
        world.create_node(f"{nodes}{number}")
        world.create_pod(
            f"app-{number}", ip=f"10.0.3.{number}", node=f"{nodes}{number}", labels={"app": "app"}
        )
    world.create_localservice()


def hold(world: World, controller: Replica) -> None:
    """Have the controller hold what it did not see go: it is started again after the pods went."""
    assert controller.stop() == 0
    for number in range(HELD):
        world.delete_pod(f"gone-{number}")
    controller.start()
    eventually(lambda: held(world) == HELD)


def pass_by(world: World, layouts: str, marker: str) -> None:
    """Wait until a controller has read all that was there before, and has written what it had to."""
    world.create_pod(marker, {"serviceName": marker, "port": 9000}, ip="10.0.9.9")
    bases = [layout.partition("=")[2] for layout in LAYOUTS[layouts]]
    eventually(lambda: all(_has(world.zk, f"{base}/{marker}") for base in bases))
    eventually(lambda: (world.synced(marker) or [""])[0] == "True")


def _has(zk: KazooClient, path: str) -> bool:
    """Whether the znode of a service has an endpoint in it or below it."""
    return bool(zk.exists(path)) and (bool(zk.get(path)[0]) or bool(zk.get_children(path)))


def held(world: World) -> int:
    """How many rows are held of what went."""
    return sum(
        bool(row.get("held"))
        for service in world.rpcservices().values()
        for row in service.get("status", {}).get("endpoints", ())
    )


def is_built(world: World) -> bool:
    """Whether all that ``build`` made is published, and nobody writes about it any more."""
    return world.is_fine() and all(
        any(condition["type"] == "Synced" for condition in service.get("status", {}).get("conditions", ()))
        for service in world.rpcservices().values()
    )


class Left(NamedTuple):
    """What lies outside of the process: who wrote it last, by path or by kind and name.

    *znodes*: path to its last transaction; *objects*: (kind, name) to resourceVersion.
    """

    znodes: Mapping[str, int]
    objects: Mapping[tuple[str, str], str]

    @classmethod
    def of(cls, stand: Stand, world: World, layouts: str) -> "Left":
        """As it is now: all znodes below the layouts' base paths, and all objects but Leases and Events."""
        znodes = {
            path: stand.zk.get(path)[1].mzxid
            for layout in LAYOUTS[layouts]
            for path in subtree(stand.zk, layout.partition("=")[2])
        }
        return cls(znodes, versions(world))

    def differences(self, before: "Left") -> set[tuple[object, object]]:
        """What was written since *before*, or is gone."""
        return {*self.znodes.items(), *self.objects.items()} ^ {
            *before.znodes.items(),
            *before.objects.items(),
        }

    def without(self, *names: str) -> "Left":
        """All but the objects of these *names*, and the znodes of services called so."""
        return Left(
            {path: zxid for path, zxid in self.znodes.items() if set(names).isdisjoint(path.split("/"))},
            {key: version for key, version in self.objects.items() if key[1] not in names},
        )


def versions(world: World) -> dict[tuple[str, str], str]:
    """The resourceVersions of pods, RpcServices, LocalServices and Services."""
    services: Mapping[str, Any] = world.rpcservices()
    return {
        **world.versions(),
        **{("RpcService", name): item["metadata"]["resourceVersion"] for name, item in services.items()},
    }


def znodes(zk: KazooClient) -> dict[str, bytes]:
    """All znodes that a controller wrote, but what only a living one keeps up."""
    found: dict[str, bytes] = {}
    for child in zk.get_children("/"):
        found |= subtree(zk, f"/{child}")
    return found
