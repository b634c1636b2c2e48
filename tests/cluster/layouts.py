"""Several layouts at once: the controller's flags, and the znodes of the service ``echo``."""

import json
import subprocess
from pathlib import Path
from typing import Any

from kazoo.exceptions import NoNodeError

from hack.local.controller import finished
from tests.cluster.world import World

EXAMPLES = Path(__file__).parents[2] / "examples/layouts"
PLACES = {
    "dubbo": "/{}/providers",
    "sofa": "/{}/providers",
    "nerve": "/{}/services",
    "d2": "/uris/{}",
    "motan": "/default_rpc/{}/server",
    "vertx": "",
}
PORT = 20880
BY_TEMPLATE = ("nerve", "go-kit", "d2", "motan", "vertx", "kratos")
ALL = ("kube2zk", "curator", "spring-cloud", "dubbo", "serverset", "sofa", *BY_TEMPLATE)


def flags(world: World, *layouts: str) -> list[str]:
    """Each layout below the test's base path, under its own name."""
    templates = [f"--template={name}={EXAMPLES / name}.yaml" for name in BY_TEMPLATE if name in layouts]
    return templates + [flag for name in layouts for flag in ("--layout", f"{name}={world.base}/{name}")]


def directory(world: World, layout: str, service: str = "echo") -> str:
    return f"{world.base}/{layout}{PLACES.get(layout, '/{}').format(service)}"


def children(world: World, layout: str) -> dict[str, bytes]:
    """The endpoints' znodes, by name; none where there is no directory."""
    path = directory(world, layout)
    try:
        return {name: world.get(f"{path}/{name}") for name in world.zk.get_children(path)}
    except NoNodeError:
        return {}


def serve(world: World, name: str, ip: str, **fields: Any) -> None:
    world.create_pod(name, {"serviceName": "echo", "port": PORT, **fields}, ip=ip)


def text(data: bytes) -> str:
    """A znode's bytes as text; Motan's begin with some that are none."""
    return data.decode(errors="replace")


def shows(world: World, layout: str, *ips: str) -> bool:
    """Whether the layout's znodes are those of these addresses."""
    found = [f"{name} {text(data)}" for name, data in children(world, layout).items()]
    return len(found) == len(ips) and all(any(ip in each for each in found) for ip in ips)


def command(cluster: Any, world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    return finished(
        *arguments,
        kubeconfig=cluster.kubeconfig,
        zk_servers=cluster.zk_servers,
        cluster_id=f"test-{world.namespace}",
    )


def drift(cluster: Any, world: World, *layouts: str) -> set[tuple[str, str]]:
    """What ``rpcregistry verify`` finds: layouts and states."""
    scope = ["--namespace", world.namespace, "--output", "json"]
    done = command(cluster, world, "verify", *scope, *flags(world, *layouts))
    return {(found["layout"], found["state"]) for found in json.loads(done.stdout)["findings"]}


def servers(world: World) -> list[str]:
    """The addresses in the kube2zk layout's znode; none where there is no such znode."""
    try:
        return list(json.loads(world.get(directory(world, "kube2zk")))["servers"])
    except (NoNodeError, ValueError):
        return []


def contents(world: World, base: str = "") -> dict[str, bytes]:
    """All znodes from the test's base path (or another *base*) on, with their bytes, parents first."""
    found: dict[str, bytes] = {}
    waiting = [base or world.base]
    while waiting:
        path = waiting.pop()
        try:
            found[path] = world.get(path)
            waiting += [f"{path}/{name}" for name in world.zk.get_children(path)]
        except NoNodeError:
            found.pop(path, None)
    return found


def delete_all(world: World, base: str) -> None:
    """Delete a znode and all below it in one transaction, which the controller cannot interrupt."""
    transaction = world.zk.transaction()
    for path in reversed(contents(world, base)):
        transaction.delete(path)
    assert set(transaction.commit()) == {True}


def holds(world: World, *ips: str, layouts: tuple[str, ...] = ALL) -> bool:
    """Whether each of *layouts* holds these addresses."""
    return all(
        servers(world) == sorted(ips) if layout == "kube2zk" else shows(world, layout, *ips)
        for layout in layouts
    )
