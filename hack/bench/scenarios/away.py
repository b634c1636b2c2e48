"""ZooKeeper hangs for a while, and pods go on changing: how long until the registry is right."""

import threading
import time

from kazoo.client import KazooClient

from hack.bench.changes import Observer
from hack.bench.figures import Figure, Outcome
from hack.bench.http import Sent
from hack.bench.population import by_service, turning_ready
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage, until
from hack.bench.znodes import Znodes

BEFORE = 5.0  # seconds of changes before it hangs
AFTERWARDS = 15.0  # and after it answers again


def run(stage: Stage, sizes: Sizes) -> Outcome:
    """Pause the server's process under load, and resume it."""
    population = sizes.population()
    stage.populate(population)
    services = list(by_service(population))[: sizes.services_changed]
    pods = [pod for pod in population if pod.service in services]
    rate, away = sizes.rate_while_away, sizes.seconds_away
    with stage.running():
        stage.until_up_to_date()
        moved = stage.population.move(pods, int(rate * (BEFORE + away + AFTERWARDS)))
        observer = Observer([pod.ip for pod in moved], len(pods))
        sent: list[Sent] = []
        reading = stage.read()
        load = threading.Thread(
            target=lambda: sent.extend(stage.api.paced(list(map(turning_ready, moved)), rate))
        )
        load.start()
        zookeeper = stage.cluster.process("zookeeper")
        time.sleep(BEFORE)
        zookeeper.pause()
        time.sleep(away)
        zookeeper.resume()
        resumed = time.monotonic()
        bare = KazooClient(stage.cluster.zk_servers)
        bare.start(timeout=60)
        bare.exists("/")
        reachable = time.monotonic() - resumed
        bare.stop()
        znodes = Znodes(stage.cluster.zk_servers)
        fewest = min(map(len, by_service(pods).values()))
        full = fewest

        def look() -> bool:
            nonlocal fewest
            at = time.monotonic()
            for service, servers in znodes.servers(services).items():
                observer.seen(service, servers, at)
                fewest = min(fewest, len(servers))
            return observer.done()

        until(look, "not every change is seen in ZooKeeper", every=0.05)
        load.join()
        znodes.close()
        stage.until_right()
        cost = stage.cost_since(reading)
    late = [at for at, request in zip(observer.times(), sent, strict=True) if request.sent < resumed]
    return Outcome(
        "away",
        [
            Figure(
                f"{away:g} s away, {rate:g} changes/s: caught up after", max(late) - resumed, "s", reachable
            ),
            Figure("fewest servers of a service seen", fewest, "", full),
        ],
        costs={"the whole": cost},
        notes=["the floor is when a bare client is connected again"],
    )
