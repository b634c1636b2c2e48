"""When ZooKeeper is tried again, and what is said meanwhile."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from rpcregistry.zookeeper.access import OPEN, Access
from rpcregistry.zookeeper.reconnect import ELECTION, LONGEST_PAUSE, Attempts
from tests.worlds import Clock


class World:
    """Servers that take connections, and a client that tries them in turn, 0.1 s after each other."""

    def __init__(self, servers: str = "zk:1", access: Access = OPEN) -> None:
        self.clock = Clock()
        self.servers = servers.split(",")
        self.attempts = Attempts(servers, access, self.clock)
        self.turn = 0

    def attempt(self, outcome: Callable[[str], None], seconds: float = 0.0) -> float:
        """Try the next server, and have it answer after *seconds*; return when it was tried."""
        self.clock.sleep(self.attempts.next())
        tried_at = self.clock()
        outcome(self.servers[self.turn % len(self.servers)])
        self.turn += 1
        self.clock.sleep(seconds + 0.1)
        return tried_at

    def closed(self, times: int) -> list[float]:
        """Have so many connections closed at once; return the seconds between them."""
        at = [self.attempt(self.attempts.opened) for _ in range(times)]
        return [round(after - before, 1) for before, after in pairwise(at)]

    def connect(self) -> None:
        self.attempt(self.attempts.opened)
        self.attempts.answered()


def test_a_server_that_will_not_have_us_is_asked_ever_less_often():
    assert World().closed(10) == [0.1, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_server_that_had_us_lately_is_asked_each_second():
    world = World()
    world.connect()
    world.attempts.lost()
    gaps = world.closed(60)
    assert gaps[:2] == [0.1, 1]
    assert max(gaps[: int(ELECTION)]) == 1
    assert gaps[-1] == LONGEST_PAUSE


def test_all_servers_of_an_ensemble_are_tried_before_one_is_left_alone():
    gaps = World("a:1,b:1,c:1").closed(40)
    assert gaps[:5] == [0.1] * 5
    assert sum(gaps[-3:]) == pytest.approx(LONGEST_PAUSE)


@pytest.mark.parametrize("outcome", ["answered", "failed"])
def test_a_server_that_is_started_anew_is_tried_fast_again(outcome: str):
    world = World()
    world.closed(6)
    if outcome == "answered":
        world.connect()
    else:
        world.attempt(lambda server: world.attempts.failed(server, "Connection refused"))
    assert world.closed(3) == [0.1, 1]


def test_a_server_that_says_nothing_is_slow_enough():
    world = World()
    times = [world.attempt(world.attempts.opened, 15.0) for _ in range(4)]
    assert times[-1] - times[0] == pytest.approx(3 * 15.1)


CLOSES = "zk:1: it closes the connection at once"


@pytest.mark.parametrize(
    ("access", "asked"),
    [
        pytest.param(OPEN, "credentials (--zk-auth-file) or TLS (--zk-tls-ca)?", id="neither"),
        pytest.param(Access(auth_file="/f"), "does it ask for TLS (--zk-tls-ca)?", id="credentials"),
        pytest.param(
            Access(tls_ca="/f"), "credentials (--zk-auth-file) or a certificate (--zk-tls-cert)?", id="TLS"
        ),
        pytest.param(
            Access(auth_file="/f", tls_ca="/f", tls_cert="/f"), "does it ask for other credentials?", id="all"
        ),
    ],
)
def test_why_a_server_closes_connections_is_guessed_from_what_it_was_not_given(access: Access, asked: str):
    world = World(access=access)
    world.closed(2)
    assert world.attempts.trouble.startswith(CLOSES)
    assert asked in world.attempts.trouble
    assert world.attempts.trouble.endswith("or maxClientCnxns, or a load balancer without servers")


def test_while_an_ensemble_elects_nothing_is_guessed():
    world = World()
    world.connect()
    world.attempts.lost()
    world.closed(10)
    assert world.attempts.trouble == CLOSES
    world.closed(40)
    assert "--zk-auth-file" in world.attempts.trouble


def test_what_a_server_said_counts_more_than_a_guess():
    world = World()
    world.attempt(world.attempts.opened)
    world.attempts.denied("it asks for credentials")
    assert world.attempts.trouble == "it asks for credentials"
    world.attempts.next()
    assert world.attempts.trouble == "it asks for credentials"
    world.attempt(world.attempts.opened)
    assert world.attempts.trouble == "it asks for credentials"  # nothing else is known yet


def test_what_a_server_said_once_counts_until_it_behaves_otherwise():
    """It says so, and closes the connection; often the second is seen first."""
    world = World("a:1,b:2")
    world.attempt(world.attempts.opened)
    world.attempts.denied("it asks for credentials")
    world.closed(1)
    assert world.attempts.trouble == "it asks for credentials"  # nothing else is known yet
    world.attempts.next()
    assert world.attempts.trouble.startswith("b:2: it closes the connection at once")
    world.closed(1)
    world.attempts.next()
    assert world.attempts.trouble == "it asks for credentials"

    world.turn = 0
    world.attempt(lambda server: world.attempts.failed(server, "Connection refused"))
    world.turn = 0
    world.closed(1)
    world.attempts.next()
    assert world.attempts.trouble.startswith("a:1: it closes the connection at once")


def test_a_server_that_says_nothing_is_reported_while_it_does():
    world = World()
    world.attempt(world.attempts.opened, 4.0)
    assert world.attempts.trouble == "zk:1: it takes the connection, and does not answer"


def test_a_name_that_has_no_address_is_reported():
    world = World("zk-0.zk:1")
    assert world.attempts.trouble == ""
    world.clock.sleep(3.0)
    assert world.attempts.trouble == "zk-0.zk:1: no address is found for that name"
    world.connect()
    assert world.attempts.trouble == ""
    world.attempts.lost()
    world.clock.sleep(3.0)
    assert "no address" in world.attempts.trouble


def test_a_refused_connection_is_reported_with_its_server():
    world = World("a:1,b:2")
    for _ in range(2):
        world.attempt(lambda server: world.attempts.failed(server, "Connection refused"))
    assert world.attempts.trouble == "b:2: Connection refused"
