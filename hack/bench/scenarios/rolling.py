"""A rolling update: all pods of a service are replaced, some at a time."""

import threading
import time

from hack.bench.figures import Cost, Figure, Outcome, written
from hack.bench.population import BarePod, address
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage
from hack.bench.znodes import Spectator

BATCHES = 10
NEW_ADDRESSES = 2_000_000


def run(stage: Stage, sizes: Sizes) -> Outcome:
    """Replace the pods of services of several sizes."""
    stage.populate(sizes.population())
    figures: list[Figure] = []
    costs: dict[str, Cost] = {}
    with stage.running():
        for size in sizes.rolled:
            _replace(stage, size, figures, costs)
    return Outcome(
        "rolling", figures, costs, notes=["the floor is how long the update itself takes, with nobody there"]
    )


def _replace(stage: Stage, size: int, figures: list[Figure], costs: dict[str, Cost]) -> None:
    service = f"rolled-{size}"
    before, after = _generation(service, "a", size, 0), _generation(service, "b", size, NEW_ADDRESSES)
    stage.populate(before)
    stage.until_up_to_date()
    fewest = size
    right = threading.Event()
    wanted = {pod.ip for pod in after}

    def seen(_: str, servers: list[str] | None, __: float) -> None:
        nonlocal fewest
        fewest = min(fewest, len(servers or ()))
        if set(servers or ()) == wanted:
            right.set()

    spectator = Spectator(stage.cluster.zk_servers, [service], seen)
    reading = stage.read()
    started = time.monotonic()
    try:
        batch = max(1, size // BATCHES)
        for start in range(0, size, batch):
            stage.populate(after[start : start + batch])
            stage.delete(before[start : start + batch])
        updated = time.monotonic()
        right.wait(60)
        seconds = time.monotonic() - started
    finally:
        spectator.close()
    stage.until_right()
    cost = stage.cost_since(reading)
    name = f"{size} pods"
    costs[name] = cost
    figures += [
        Figure(f"{name}: until the znode is right", seconds, "s", updated - started),
        Figure(f"{name}: fewest servers seen", fewest, "", size),
        Figure(f"{name}: znode writes, beside batches", cost.znode_writes, "", BATCHES),
        Figure(f"{name}: RpcService writes", written(cost.requests, "rpcservices"), "", BATCHES),
    ]
    stage.delete(after)


def _generation(service: str, generation: str, size: int, first: int) -> list[BarePod]:
    return [BarePod(f"{service}-{generation}-{n}", service, address(first + n)) for n in range(size)]
