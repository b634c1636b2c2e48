"""What happens to a controller while a judge looks on: everything by a seed, nothing that the judge is told.

A scenario begins with a stand on which nothing runs, and ends with all that it broke mended.  To add one,
write the function and list it in ``SCENARIOS``.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.churn import Churn, steps
from tests.faults.harness.cluster import FaultProxy
from tests.faults.harness.edits import Edits
from tests.faults.harness.stand import Stand

Scenario = Callable[[Stand, World, int], None]
PATIENCE = 120.0  # seconds
BUMP = 10**9  # revisions
QUIET = 3.0  # seconds
LATE = 45.0  # seconds in which a process that gave up is started again, has the Lease, and acts


def _take(churn: Churn, count: int) -> None:
    """Wait until so many more steps were taken."""
    goal = len(churn.taken) + count
    eventually(lambda: len(churn.taken) >= goal, PATIENCE)


def churn(stand: Stand, world: World, seed: int) -> None:
    """Nothing goes wrong."""
    stand.start()
    with Churn(world, steps(seed, stand.namespaces)) as running:
        _take(running, 60)
    stand.rest = QUIET


def churn_with_restore(stand: Stand, world: World, seed: int, bump: int = 0) -> None:
    """Etcd goes back to an older state, as after a backup was put back; one replica or two."""
    choose = random.Random(seed)
    replicas = [stand.start() for _ in range(choose.choice((1, 2)))]
    eventually(lambda: any(replica.leads() for replica in replicas))
    with Churn(world, steps(seed, stand.namespaces)) as running:
        _take(running, choose.randint(15, 30))
        with running.resting():
            saved = stand.ground.cluster.save_etcd()
        _take(running, choose.randint(30, 60))
    eventually(stand.is_right)
    # Who is away for longer than a Lease lives finds nobody leading, and no process that remembers.
    away, then = choose.uniform(15, 25), stand.ground.history.restored
    stand.ground.cluster.restore_etcd(saved, away=away, then=then, bump=bump)
    time.sleep(LATE)


def churn_with_bumped_restore(stand: Stand, world: World, seed: int) -> None:
    """The same, as etcd recommends it for Kubernetes: no revision comes twice, and old ones are compacted."""
    churn_with_restore(stand, world, seed, BUMP)


def random_status_edits(stand: Stand, world: World, seed: int) -> None:
    """Others write into statuses whatever the schema accepts; then they stop, and pods go on."""
    stand.start()
    with Churn(world, steps(seed, stand.namespaces)) as running:
        _take(running, 25)
        with Edits(world, tuple(stand.namespaces), seed, rate=3.0):
            _take(running, 75)
        _take(running, 20)


def churn_with_faults(stand: Stand, world: World, seed: int) -> None:
    """Servers, replicas and links fail, one after the other: which, and for how long, the seed says."""
    choose = random.Random(seed)
    between = {"api": f"https://{stand.api_bytes.address}", "zk": stand.zk_proxy.address}
    replicas = [stand.start(**between) for _ in range(2)]
    eventually(lambda: any(replica.leads() for replica in replicas))
    with Churn(world, steps(seed, stand.namespaces)) as running:
        for _ in range(5):
            _take(running, choose.randint(5, 15))
            choose.choice(FAULTS)(stand, choose)
        _take(running, 10)


def _server_dies(stand: Stand, choose: random.Random) -> None:
    with stand.ground.cluster.process(choose.choice(SERVERS)).down():
        time.sleep(choose.uniform(0, 15))


def _server_hangs(stand: Stand, choose: random.Random) -> None:
    with stand.ground.cluster.process(choose.choice(SERVERS)).paused():
        time.sleep(choose.uniform(1, 20))


def _replica_dies(stand: Stand, choose: random.Random) -> None:
    choose.choice(stand.replicas).crash()


def _replica_hangs(stand: Stand, choose: random.Random) -> None:
    with choose.choice(stand.replicas).paused():
        time.sleep(choose.uniform(1, 20))


def _link_is_slow(stand: Stand, choose: random.Random) -> None:
    with _link(stand, choose) as link:
        link.throttle(choose.choice((1_000, 5_000, 20_000)))
        time.sleep(choose.uniform(1, 20))


def _link_is_dead(stand: Stand, choose: random.Random) -> None:
    with _link(stand, choose) as link:
        link.blackhole()
        time.sleep(choose.uniform(1, 20))


def _link_is_reset(stand: Stand, choose: random.Random) -> None:
    with _link(stand, choose) as link:
        for _ in range(choose.randint(1, 10)):
            link.reset()
            time.sleep(choose.uniform(0, 1))


@contextmanager
def _link(stand: Stand, choose: random.Random) -> Iterator[FaultProxy]:
    """One of the links of all replicas, which is mended in the end."""
    link = choose.choice((stand.api_bytes, stand.zk_proxy))
    try:
        yield link
    finally:
        link.pass_through()


SERVERS = ("kube-apiserver", "zookeeper", "etcd")
FAULTS = (
    *(_server_dies, _server_hangs, _replica_dies, _replica_hangs),
    *(_link_is_slow, _link_is_dead, _link_is_reset),
)


SCENARIOS: Mapping[str, Scenario] = {
    "churn": churn,
    "churn-with-bumped-restore": churn_with_bumped_restore,
    "churn-with-faults": churn_with_faults,
    "churn-with-restore": churn_with_restore,
    "random-status-edits": random_status_edits,
}
