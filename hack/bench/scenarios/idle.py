"""Idle minutes: all is right, and nothing changes; what the controller and its servers use all the same."""

import time

from hack.bench.figures import Cost, Figure, Outcome, written
from hack.bench.population import spread
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage

SETTLING = 90.0  # seconds: one comparison of all, and half of the next


def run(stage: Stage, sizes: Sizes) -> Outcome:
    """Services of one pod each, few and many; raises if the controller wrote anything."""
    figures: list[Figure] = []
    costs: dict[str, Cost] = {}
    stage.delete(list(stage.population.pods.values()))
    for services in sizes.idle_services:
        stage.clear()
        stage.populate(spread(services, services))
        with stage.running():
            stage.until_up_to_date()
            time.sleep(min(SETTLING, 60 * sizes.idle_minutes))
            before = stage.read()
            time.sleep(60 * sizes.idle_minutes)
            cost = stage.cost_since(before)
        if count := cost.znode_writes + written(cost.requests, "rpcservices"):
            raise RuntimeError(f"idle: {count} writes, where none is needed")
        name = f"{services} services"
        costs[name] = cost
        figures += [
            Figure(f"{name}: CPU of {program}", 100 * seconds / cost.seconds, "% of a core")
            for program, seconds in (
                ("the controller", cost.controller_cpu_seconds),
                ("the API server", cost.apiserver_cpu_seconds),
                ("etcd", cost.etcd_cpu_seconds),
                ("ZooKeeper", cost.zookeeper_cpu_seconds),
            )
        ]
    return Outcome(
        "idle", figures, costs, notes=["the API server, etcd and ZooKeeper use some without a controller"]
    )
