"""All nodes fall silent at once, and come back."""

from collections.abc import Callable
from functools import partial

from hack.local.nodes import RealCluster
from tests.cluster.world import Recorder, World
from tests.nodes.pods import PATIENCE, STAYS, Pods, eventually


def outlast_silence(
    pods: Pods,
    world: World,
    real: RealCluster,
    is_noticed: Callable[[World, str], bool],
    timeout: float = PATIENCE,
) -> None:
    """Silence all nodes until *is_noticed* of a service on each; fail unless all addresses stay published."""
    addresses = {name: pods.run(f"on-{name}", node=name, tolerations=STAYS) for name in real.nodes}
    seen = {name: Recorder(world.zk, f"{world.base}/on-{name}") for name in real.nodes}
    for node in real.nodes.values():
        node.silence()
    try:
        for name in real.nodes:
            eventually(partial(is_noticed, world, f"on-{name}"), timeout)
    finally:
        for node in real.nodes.values():
            node.resume()
    for name in real.nodes:
        eventually(partial(is_synced, world, f"on-{name}"), timeout)
    assert {name: recorder.states for name, recorder in seen.items()} == {
        name: [[address]] for name, address in addresses.items()
    }


def is_synced(world: World, service: str) -> bool:
    """Whether the service is in the registry."""
    return world.synced(service) == ("True", "InRegistry")
