"""A world with several layouts at once."""

from rpcregistry.layouts import Layout
from tests.builders import pod
from tests.worlds.registry import World

KUBE2ZK, DUBBO, CURATOR = (
    Layout("kube2zk", "/rpc_v2"),
    Layout("dubbo", "/dubbo"),
    Layout("curator", "/services"),
)


def serve(world: World, *numbers: int, **fields: object) -> None:
    for number in numbers:
        served = pod(number, "echo", **fields)
        (declaration,) = served.declarations
        world.pods.put(
            pod(number, "echo", declarations=(type(declaration)(service_name="echo", port=80),), **fields)
        )


def providers(world: World) -> list[str]:
    return sorted(world.zookeeper.children("/dubbo/echo/providers"))


def instances(world: World) -> list[str]:
    return sorted(world.zookeeper.children("/services/echo"))


def everywhere(world: World, count: int) -> bool:
    return count == len(world.servers() or ()) == len(providers(world)) == len(instances(world))
