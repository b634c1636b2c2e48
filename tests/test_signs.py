"""Whether something shows, from outside, that controllers keep a registry up."""

from collections.abc import Callable, Mapping

import msgspec
import pytest

from rpcregistry.commands.reading import FoundLease
from rpcregistry.commands.signs import Leases, SignsOfLife, require_nobody
from rpcregistry.errors import Rejected
from rpcregistry.leases import CLUSTER_ID, ZOOKEEPER
from rpcregistry.model import Lease, Regarding
from rpcregistry.plan import heartbeat
from rpcregistry.plan.heartbeat import SURE, Heartbeat
from rpcregistry.reconcile.lookout import Lookout
from tests.worlds import Clock, ZooKeeperInMemory

NAME = "rpcregistry/rpcregistry"


def found_lease(lease: Lease, annotations: Mapping[str, str] = {}) -> FoundLease:
    regarding = Regarding("coordination.k8s.io/v1", "Lease", "rpcregistry", "rpcregistry", "")
    return FoundLease(regarding, lease, annotations)


class World:
    """A registry, Leases, and somebody who keeps both up every so often, until they end."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.began = self.clock.seconds
        self.zookeeper = ZooKeeperInMemory()
        self.leases: list[FoundLease] = []
        self.blind = False  # whether no Lease may be looked at
        self.at: dict[
            float, list[Callable[[], None]]
        ] = {}  # what happens at which second after the beginning
        self.said: list[str] = []

    def beat(self, stopped: bool = False, **fields) -> None:
        path = heartbeat.path("c1")
        _, version = self.zookeeper.znodes.get(path, (b"", -1))
        says = Heartbeat(**{"lease": NAME, "holder": "a", "stopped": stopped, **fields})
        self.zookeeper.znodes[path] = (msgspec.json.encode(says), version + 1)

    def hold(self, renewed: str = "", holder: str = "a", seconds: int = 15) -> None:
        self.leases = [found_lease(Lease(holder=holder, seconds=seconds, renewed=renewed))]

    def sleep(self, seconds: float) -> None:
        self.clock.seconds += seconds
        for when in sorted(when for when in self.at if when <= self.passed):
            for happens in self.at.pop(when):
                happens()

    @property
    def passed(self) -> float:
        return self.clock.seconds - self.began

    def _find(self, named: str) -> Leases:
        return Leases(tuple(self.leases), blind=self.blind)

    def require_nobody(self, wait: float = 0.0) -> SignsOfLife:
        lookout = Lookout(self.zookeeper, "c1", self.clock)
        return require_nobody(
            lambda: SignsOfLife(lookout, self._find, self.clock),
            wait,
            self.clock,
            self.sleep,
            self.said.append,
        )


@pytest.fixture
def world() -> World:
    return World()


def test_where_there_is_nothing_nobody_waits(world: World):
    world.require_nobody()

    assert (world.passed, world.said) == (0, [])


def test_a_controller_that_said_it_stopped_costs_no_time(world: World):
    world.beat(stopped=True)
    world.hold(holder="", seconds=1)
    world.require_nobody()

    assert (world.passed, world.said) == (0, [])


def test_a_heartbeat_that_is_still_is_watched_for_long_enough_and_that_is_said(world: World):
    world.beat()
    world.require_nobody()

    assert SURE <= world.passed <= SURE + 1
    assert world.said == [
        f"a holds the Lease {NAME}, and did not say that it stopped:"
        " watching for 25 s whether a controller lives"
    ]


@pytest.mark.parametrize("when", [1.0, 24.0])
def test_a_heartbeat_that_moves_while_it_is_watched_is_alive(world: World, when: float):
    world.beat()
    world.at[when] = [world.beat]
    with pytest.raises(Rejected, match=f"a holds the Lease {NAME}: stop the controllers first"):
        world.require_nobody()

    assert when <= world.passed <= when + 1


def test_an_older_versions_heartbeat_that_moves_is_alive(world: World):
    world.beat(lease="", holder="")
    world.at[9.0] = [lambda: world.beat(lease="", holder="")]
    with pytest.raises(Rejected, match="its heartbeat goes on: stop the controllers first"):
        world.require_nobody()


def test_a_lease_that_is_renewed_is_held_though_its_holder_cannot_reach_zookeeper(world: World):
    world.hold("1")
    world.at[2.0] = [lambda: world.hold("2")]
    with pytest.raises(Rejected, match="a holds the Lease"):
        world.require_nobody()


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(lambda world: None, id="its holder renews it no more"),
        pytest.param(lambda world: world.leases.clear(), id="deleted meanwhile"),
        pytest.param(lambda world: world.hold(holder="", seconds=1), id="given back meanwhile"),
    ],
)
def test_a_lease_that_nobody_holds(world: World, happens):
    world.hold("1")
    world.at[2.0] = [lambda: happens(world)]
    world.require_nobody()

    assert world.passed <= 16


def test_a_lease_that_lasts_for_hours_is_held_though_nobody_renews_it(world: World):
    world.hold("1", seconds=3600)
    with pytest.raises(Rejected, match="a holds the Lease"):
        world.require_nobody()

    assert world.passed <= SURE + 1


def test_waiting_for_a_controller_that_stops(world: World):
    world.beat()
    world.hold("1")
    world.at = {
        2.0: [lambda: world.hold("2")],
        4.0: [lambda: world.hold("3"), world.beat],
        8.0: [lambda: world.beat(stopped=True), lambda: world.hold(holder="", seconds=1)],
    }
    world.require_nobody(wait=40)

    assert 8 <= world.passed <= 9
    assert f"a holds the Lease {NAME}: waiting for it to stop, up to 40 s" in world.said


def test_waiting_for_a_controller_that_does_not_stop(world: World):
    world.beat()
    world.at = {float(when): [world.beat] for when in range(9, 99, 10)}
    with pytest.raises(Rejected, match="stop the controllers first"):
        world.require_nobody(wait=40)

    assert 40 <= world.passed <= 41
    assert len(world.said) == 2
    assert world.said[1] == f"a holds the Lease {NAME}: waiting for it to stop, up to 40 s"


def test_where_no_lease_may_be_looked_at_the_heartbeat_is_watched_though_it_says_stopped(world: World):
    """Who has just taken over has not beaten yet."""
    world.beat(stopped=True)
    world.blind = True
    world.at[20.0] = [world.beat]
    world.at[29.0] = [world.beat]
    with pytest.raises(Rejected, match="stop the controllers first"):
        world.require_nobody()

    world.at = {}
    world.beat(stopped=True)
    world.began = world.clock.seconds
    world.require_nobody()
    assert SURE <= world.passed <= SURE + 1


@pytest.mark.parametrize(
    ("cluster_id", "zookeeper", "may_be"),
    [
        pytest.param("", "", True, id="an older version's"),
        pytest.param("c1", "zk:2181", True, id="this registry's"),
        pytest.param("c2", "zk:2181", False, id="another cluster's, or another part of this one"),
        pytest.param("c1", "zk:2182", False, id="this cluster's, in another ZooKeeper"),
    ],
)
def test_whose_leases_count(cluster_id: str, zookeeper: str, may_be: bool):
    found = found_lease(Lease(holder="a"), {CLUSTER_ID: cluster_id, ZOOKEEPER: zookeeper})

    assert found.is_of("c1", "zk:2181") is may_be
