"""The service that the journeys are about: its pods, its layouts, and what ZooKeeper holds of it."""

from pathlib import Path

from tests.clients.readers import Reader
from tests.cluster.world import World

SERVICE = "com.example.Echo"
TEMPLATES = Path(__file__).parents[2] / "examples" / "layouts"


def base(world: World, layout: str) -> str:
    """Where the layout's services are; SOFARPC wants a name of its own there."""
    return f"{world.base}/{layout}/sofa-rpc" if layout == "sofa" else f"{world.base}/{layout}"


def layout_flags(world: World, *readers: Reader) -> list[str]:
    """What tells the controller of the readers' layouts."""
    flags = []
    for layout in sorted({reader.layout for reader in readers}):
        flags += ["--layout", f"{layout}={base(world, layout)}"]
        template = TEMPLATES / f"{layout}.yaml"
        if template.exists():
            flags += ["--template", f"{layout}={template}"]
    return flags


def entry(port: int = 8080, **more: object) -> dict[str, object]:
    """What a pod of the service declares."""
    return {"serviceName": SERVICE, "port": port, "version": "1.0.0", **more}


def published(world: World, reader: Reader, *ips: str) -> bool:
    """Whether these addresses are in ZooKeeper, in the reader's layout."""
    held = _contents(world, base(world, reader.layout))
    return all(ip in held for ip in ips)


def _contents(world: World, path: str) -> str:
    """All names and data from *path* on."""
    if not world.zk.exists(path):
        return ""
    data, _ = world.zk.get(path)
    below = (_contents(world, f"{path}/{name}") for name in world.zk.get_children(path))
    return "\n".join([path, (data or b"").decode(errors="replace"), *below])
