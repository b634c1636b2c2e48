"""Our edge of ZooKeeper on a real server, which is killed, hung, emptied and lied about."""

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import structlog
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import make_acl, make_digest_acl

from hack.local.cluster import free_ports
from hack.local.proxy import Proxy
from hack.local.zookeeper import Server
from rpcregistry.errors import Conflict, Failure, Fenced, Misconfigured, Rejected, Retry
from rpcregistry.plan.ops import Check, Create, Delete, Op, Set, Znode
from rpcregistry.zookeeper.bulk import FIRST
from rpcregistry.zookeeper.client import LARGEST_TRANSACTION, OVERHEAD, ZooKeeper
from rpcregistry.zookeeper.connection import ANSWER_TIMEOUT, CONNECT_TIMEOUT, DEAD_AFTER, RECONNECT_DELAY
from rpcregistry.zookeeper.failures import Overtaken, TooLarge
from tests.cluster.waiting import eventually

SESSION_TIMEOUT = 20.0  # the longest that the server grants; a test that waits for its end has its own
SHORT_SESSION = 4.0
OUTAGE = 15.0
QUICK = 2.0  # seconds: far less than any timeout


@pytest.fixture(scope="module")
def whole_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("zookeeper"))
    server.up()
    yield server
    server.process.kill()


@pytest.fixture
def server(whole_server: Server) -> Iterator[Server]:
    """The server; what a test breaks is mended after it."""
    whole_server.up()
    yield whole_server
    whole_server.up()


@pytest.fixture
def other(server: Server) -> Iterator[KazooClient]:
    """A client that is not ours."""
    client = KazooClient(server.address)
    client.start()
    yield client
    client.stop()
    client.close()


@pytest.fixture
def base(other: KazooClient, request: pytest.FixtureRequest) -> str:
    """A znode for the test's own."""
    path = f"/{abs(hash(request.node.nodeid))}"
    other.create(path)
    return path


class Recorded:
    """A connection of ours that records its notifications."""

    def __init__(self, servers: str, **options: Any) -> None:
        self.paths: list[str] = []
        self.connections: list[bool] = []
        self.zookeeper = ZooKeeper(
            servers,
            on_connection=self.connections.append,
            on_changed=self.paths.append,
            **{"session_timeout": SESSION_TIMEOUT, **options},
        )


@pytest.fixture
def connect() -> Iterator[Callable[..., Recorded]]:
    """Makes connections of ours, which are up when it returns."""
    with ExitStack() as stack:

        def connect(servers: str, **options: Any) -> Recorded:
            recorded = Recorded(servers, **options)
            recorded.zookeeper.start()
            stack.callback(recorded.zookeeper.close)
            assert recorded.zookeeper.wait(20)
            return recorded

        yield connect


@pytest.fixture
def recorded(server: Server, connect: Callable[..., Recorded]) -> Recorded:
    return connect(server.address)


@pytest.fixture
def zookeeper(recorded: Recorded) -> ZooKeeper:
    return recorded.zookeeper


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.address) as proxy:
        yield proxy


def reconnected(zookeeper: ZooKeeper, before: int, within: float = 30.0) -> None:
    """Wait for a connection later than that of generation *before*."""
    eventually(lambda: zookeeper.connected and zookeeper.generation > before, within)


# reading


def test_a_znode_is_read_with_all_that_is_decided_on(
    zookeeper: ZooKeeper, other: KazooClient, base: str
) -> None:
    other.create(f"{base}/a", b"1")
    other.set(f"{base}/a", b"2")
    other.create(f"{base}/a/child")
    other.create(f"{base}/e", b"", ephemeral=True)
    assert zookeeper.read([f"{base}/a", f"{base}/e", f"{base}/none"]) == {
        f"{base}/a": Znode(b"2", 1, children=1),
        f"{base}/e": Znode(b"", 0, ephemeral=True),
        f"{base}/none": None,
    }


def test_a_list_holds_the_names_of_children_and_none_where_nothing_is(
    zookeeper: ZooKeeper, other: KazooClient, base: str
) -> None:
    other.create(f"{base}/a")
    other.create(f"{base}/b")
    assert sorted(zookeeper.children(base)) == ["a", "b"]
    assert zookeeper.children(f"{base}/none") == []


def test_what_changes_in_a_list_is_notified_until_it_is_listed_again(
    server: Server, connect: Callable[..., Recorded], other: KazooClient, base: str
) -> None:
    recorded = connect(server.address)
    other.create(f"{base}/a")
    assert recorded.zookeeper.listed([base, f"{base}/none"]) == {base: ["a"], f"{base}/none": None}

    other.create(f"{base}/b")
    eventually(lambda: recorded.paths == [base])
    other.create(f"{base}/c")
    assert sorted(recorded.zookeeper.listed([base])[base] or ()) == ["a", "b", "c"]
    other.delete(f"{base}/a")
    eventually(lambda: recorded.paths == [base, base])


def test_of_thousands_that_are_read_a_bounded_number_is_on_the_way(
    server: Server, connect: Callable[..., Recorded], proxy: Proxy, base: str
) -> None:
    zookeeper = connect(proxy.address).zookeeper
    paths = [f"{base}/{number}" for number in range(2000)]
    assert zookeeper.read(paths) == dict.fromkeys(paths)
    sent = bytearray()

    def see(data: bytes) -> bool:
        sent.extend(data)
        return False

    proxy.lose_request(see)
    server.process.pause()
    with pytest.raises(Retry):
        zookeeper.read(paths)
    # All are watched, so they are read in bulk; few at first.
    assert sent.count(base.encode()) == FIRST


def test_what_comes_while_it_is_read_is_read(
    connect: Callable[..., Recorded], proxy: Proxy, other: KazooClient, base: str
) -> None:
    recorded = connect(proxy.address)
    path = f"{base}/a"

    def come(data: bytes) -> bool:
        if is_exists(data) and not other.exists(path):
            other.create(path, b"1")
        return False

    proxy.lose_request(come)
    assert recorded.zookeeper.read([path]) == {path: Znode(b"1", 0)}
    other.set(path, b"2")
    eventually(lambda: recorded.paths == [path])


def is_exists(request: bytes) -> bool:
    """Whether a request asks whether there is a znode."""
    return struct.unpack(">i", request[8:12]) == (3,)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda other, path: other.set(path, b"x"), id="set"),
        pytest.param(lambda other, path: other.delete(path), id="deleted"),
    ],
)
def test_a_change_of_what_was_read_is_notified_once_until_it_is_read_again(
    recorded: Recorded, other: KazooClient, base: str, write: Callable[[KazooClient, str], None]
) -> None:
    path, last = f"{base}/a", f"{base}/last"
    other.create(path)
    for number in range(2):
        recorded.zookeeper.read([path, path, last])
        recorded.zookeeper.read([path])
        write(other, path)
        eventually(lambda: path in recorded.paths)
        if not other.exists(path):
            other.create(path)
        other.set(path, b"not read since")
        # Notifications come in order, so none before this one is in progress.
        other.create(last)
        eventually(lambda: last in recorded.paths)
        other.delete(last)
        assert recorded.paths == [path, last], number
        recorded.paths.clear()


def test_the_coming_of_what_was_missing_is_notified(
    recorded: Recorded, other: KazooClient, base: str
) -> None:
    recorded.zookeeper.read([f"{base}/a"])
    other.create(f"{base}/a")
    eventually(lambda: recorded.paths == [f"{base}/a"])


def test_a_lost_connection_is_not_notified_as_a_change_of_what_was_read(
    server: Server, recorded: Recorded, base: str
) -> None:
    recorded.zookeeper.read([base, f"{base}/none"])
    before = recorded.zookeeper.generation
    server.process.restart()
    reconnected(recorded.zookeeper, before)
    assert recorded.paths == []


# writing


def test_a_transaction_returns_the_versions_that_it_leaves_behind(
    zookeeper: ZooKeeper, other: KazooClient, base: str
) -> None:
    other.create(f"{base}/fence")
    other.create(f"{base}/old")
    other.create(f"{base}/kept")
    ops = [
        Check(f"{base}/fence", 0),
        Create(f"{base}/new", b"1"),
        Set(f"{base}/kept", b"2", 0),
        Delete(f"{base}/old", 0),
    ]
    assert zookeeper.commit(ops) == [None, 0, 1, None]
    assert sorted(other.get_children(base)) == ["fence", "kept", "new"]
    assert (other.get(f"{base}/new")[0], other.get(f"{base}/kept")[0]) == (b"1", b"2")
    assert zookeeper.commit([]) == []


def frames(data: bytes) -> Iterator[bytes]:
    """The packets that ZooKeeper's bytes hold."""
    while data:
        (length,) = struct.unpack(">i", data[:4])
        yield data[4 : 4 + length]
        data = data[4 + length :]


def test_a_transaction_of_a_hundred_takes_one_round_trip(
    server: Server, connect: Callable[..., Recorded], base: str
) -> None:
    answers: list[bytes] = []
    with Proxy(server.address, answers.append) as proxy:
        zookeeper = connect(proxy.address).zookeeper
        answers.clear()
        zookeeper.commit([Create(f"{base}/{number}", b"x" * 200) for number in range(100)])
    ping = struct.pack(">i", -2)
    assert len([answer for answer in frames(b"".join(answers)) if not answer.startswith(ping)]) == 1


@pytest.mark.parametrize(
    ("op", "failure"),
    [
        pytest.param(Set("/a", b"", 7), Overtaken, id="set at another version"),
        pytest.param(Set("/none", b"", 0), Overtaken, id="set a deleted znode"),
        pytest.param(Create("/a", b""), Overtaken, id="create what is there"),
        pytest.param(Create("/none/a", b""), Overtaken, id="create without a parent"),
        pytest.param(Delete("/a", 7), Overtaken, id="delete at another version"),
        pytest.param(Delete("/none", 0), Overtaken, id="delete a deleted znode"),
        pytest.param(Delete("/full", 0), Overtaken, id="delete what has children"),
        pytest.param(Check("/a", 7), Overtaken, id="a check that is no fence"),
        pytest.param(Set("/locked", b"", 0), Rejected, id="set without permission"),
        pytest.param(Create("/locked/a", b""), Rejected, id="create without permission"),
        pytest.param(Create("/ephemeral/a", b""), Rejected, id="create under an ephemeral one"),
        pytest.param(Create("/a/../b", b""), Rejected, id="a path that leads elsewhere"),
        pytest.param(Create("/a\x01", b""), Rejected, id="a path that the server refuses"),
    ],
)
def test_where_one_op_fails_none_is_done_and_the_failure_says_which(
    zookeeper: ZooKeeper, other: KazooClient, base: str, op: Op, failure: type[Failure]
) -> None:
    for path in ("a", "full", "full/child"):
        other.create(f"{base}/{path}")
    other.create(f"{base}/ephemeral", ephemeral=True)
    other.create(f"{base}/locked", acl=[make_acl("world", "anyone", read=True)])
    at_base = type(op)(base + op.path, *[getattr(op, field) for field in op.__struct_fields__[1:]])
    with pytest.raises(Failure) as raised:
        zookeeper.commit([Create(f"{base}/first", b""), at_base, Create(f"{base}/last", b"")])
    assert raised.type is failure
    if isinstance(raised.value, Overtaken):
        assert raised.value.path == at_base.path
        assert isinstance(raised.value, Conflict)
    assert not {"first", "last"} & set(other.get_children(base))


def test_a_fence_at_another_version_stops_the_writer(
    zookeeper: ZooKeeper, other: KazooClient, base: str
) -> None:
    other.create(f"{base}/fence")
    other.set(f"{base}/fence", b"taken over")
    with pytest.raises(Fenced):
        zookeeper.commit([Check(f"{base}/fence", 0), Create(f"{base}/a", b"")])
    assert other.get_children(base) == ["fence"]


def test_a_deleted_fence_can_be_made_again(zookeeper: ZooKeeper, base: str) -> None:
    with pytest.raises(Overtaken) as raised:
        zookeeper.commit([Check(f"{base}/fence", 0), Create(f"{base}/a", b"")])
    assert raised.value.path == f"{base}/fence"


def test_parents_are_made_where_they_are_missing(zookeeper: ZooKeeper, other: KazooClient, base: str) -> None:
    other.set(base, b"kept")
    for _ in range(2):
        zookeeper.make_parents(f"{base}/a/b/c")
    assert other.get(f"{base}/a/b")[1].ephemeralOwner == 0
    assert other.get_children(f"{base}/a/b") == []
    assert other.get(base)[0] == b"kept"


def test_parents_that_somebody_else_makes_meanwhile_are_made(
    connect: Callable[..., Recorded], proxy: Proxy, other: KazooClient, base: str
) -> None:
    zookeeper = connect(proxy.address).zookeeper

    def come(data: bytes) -> bool:
        if not is_exists(data):
            other.ensure_path(f"{base}/a")
        return False

    proxy.lose_request(come)
    zookeeper.make_parents(f"{base}/a/b/c")
    assert other.exists(f"{base}/a/b")


def test_parents_that_are_there_need_no_permission(
    zookeeper: ZooKeeper, other: KazooClient, base: str
) -> None:
    other.create(f"{base}/locked", acl=[make_acl("world", "anyone", read=True)])
    zookeeper.make_parents(f"{base}/locked/a")
    with pytest.raises(Rejected):
        zookeeper.make_parents(f"{base}/locked/a/b")


def test_a_chroot_is_made_and_seen_by_nobody_above_this_edge(
    server: Server, connect: Callable[..., Recorded], other: KazooClient, base: str
) -> None:
    recorded = connect(f"{server.address}{base}/deep/chroot")
    recorded.zookeeper.make_parents("/a/b")
    recorded.zookeeper.commit([Create("/a/b", b"1")])
    assert other.get(f"{base}/deep/chroot/a/b")[0] == b"1"
    assert recorded.zookeeper.children("/") == ["a"]
    assert recorded.zookeeper.read(["/a/b"]) == {"/a/b": Znode(b"1", 0)}
    other.set(f"{base}/deep/chroot/a/b", b"2")
    eventually(lambda: recorded.paths == ["/a/b"])
    with pytest.raises(Overtaken) as raised:
        recorded.zookeeper.commit([Set("/a/b", b"3", 0)])
    assert raised.value.path == "/a/b"


# Z9


def test_what_a_server_would_drop_the_connection_for_is_never_sent(
    zookeeper: ZooKeeper, other: KazooClient, base: str
) -> None:
    before = zookeeper.generation
    for ops in (
        [Create(f"{base}/a", b"x" * LARGEST_TRANSACTION)],
        [Create(f"{base}/{number}", b"x" * 1024) for number in range(LARGEST_TRANSACTION // 1024)],
    ):
        with pytest.raises(TooLarge, match=base):
            zookeeper.commit(ops)
    assert zookeeper.commit([Create(f"{base}/small", b"")]) == [0]
    assert zookeeper.generation == before


@pytest.mark.parametrize("data", [0, 100, 100_000])
def test_the_largest_transaction_that_is_sent_is_taken(zookeeper: ZooKeeper, base: str, data: int) -> None:
    each = len(f"{base}/00000") + data + OVERHEAD
    ops = [Create(f"{base}/{number:05}", b"x" * data) for number in range(LARGEST_TRANSACTION // each)]
    assert zookeeper.commit(ops) == [0] * len(ops)


# credentials


def test_credentials_and_an_acl_are_passed_on(
    server: Server, connect: Callable[..., Recorded], other: KazooClient, base: str
) -> None:
    acl = [make_digest_acl("controller", "s3cret", all=True), make_acl("world", "anyone", read=True)]
    options = {"auth_data": [("digest", "controller:s3cret")], "default_acl": acl}
    zookeeper = connect(server.address, client_options=options).zookeeper
    zookeeper.make_parents(f"{base}/a/b")
    zookeeper.commit([Create(f"{base}/a/b", b"1")])
    assert other.get(f"{base}/a/b")[0] == b"1"
    for path in (f"{base}/a", f"{base}/a/b"):
        with pytest.raises(NoAuthError):
            other.set(path, b"2")
    assert zookeeper.commit([Set(f"{base}/a/b", b"3", 0)]) == [1]


def test_credentials_are_not_logged_at_debug(
    server: Server, connect: Callable[..., Recorded], base: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    options = {"auth_data": [("digest", "controller:s3cret")]}
    connect(server.address, client_options=options).zookeeper.commit([Create(f"{base}/a", b"s3cret")])
    assert "s3cret" not in caplog.text


def test_refused_credentials_are_offered_again_and_again_by_few_threads(server: Server) -> None:
    before = threading.active_count()
    recorded = Recorded(server.address, client_options={"auth_data": [("nosuchscheme", "x")]})
    with structlog.testing.capture_logs() as logs:
        recorded.zookeeper.start()
        again = "zookeeper client replaced"
        eventually(lambda: [line["event"] for line in logs].count(again) >= 2, 3 * (DEAD_AFTER + QUICK))
    assert recorded.connections == []
    assert recorded.zookeeper.trouble == ": it refuses our credentials: mend --zk-auth-file"
    assert [line["event"] for line in logs if line["log_level"] != "debug"] == ["zookeeper not connected"]
    with pytest.raises(Retry):
        recorded.zookeeper.children("/")
    recorded.zookeeper.close()
    eventually(lambda: threading.active_count() <= before)


@pytest.mark.parametrize(
    ("servers", "options"),
    [
        pytest.param("", {}, id="no server"),
        pytest.param("127.0.0.1:port", {}, id="a port that is no number"),
        pytest.param("127.0.0.1:2181", {"no_such_option": 1}, id="an option that there is not"),
    ],
)
def test_what_can_never_connect_is_a_mistake_of_the_configuration(
    servers: str, options: dict[str, Any]
) -> None:
    with pytest.raises(Misconfigured, match="ZooKeeper"):
        ZooKeeper(servers, client_options=options)


# connections


def test_a_connection_for_a_while_is_closed_after_it(server: Server) -> None:
    with ZooKeeper.connected_to(server.address, 10) as zookeeper:
        assert zookeeper.children("/zookeeper")
        within = server.sessions().count("sid=")
    eventually(lambda: server.sessions().count("sid=") < within)


def test_where_no_server_is_there_is_no_connection() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(Retry, match=address), ZooKeeper.connected_to(address, 0.1):
        pass


def test_a_server_that_takes_no_connection_keeps_nobody_from_its_neighbour(
    server: Server, connect: Callable[..., Recorded]
) -> None:
    with ExitStack() as stack:
        hung = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        # The one connection that its backlog has room for; the next one gets no answer.
        stack.enter_context(socket.create_connection(hung.getsockname()))
        hosts = f"127.0.0.1:{hung.getsockname()[1]},{server.address}"
        began = time.monotonic()
        connect(hosts, client_options={"randomize_hosts": False})
        assert CONNECT_TIMEOUT <= time.monotonic() - began < CONNECT_TIMEOUT + QUICK


# Z1
def test_a_server_that_restarts_is_connected_again(server: Server, recorded: Recorded, base: str) -> None:
    zookeeper = recorded.zookeeper
    zookeeper.commit([Create(f"{base}/a", b"1")])
    before = zookeeper.generation
    server.process.kill()
    eventually(lambda: not zookeeper.connected)
    server.up()
    reconnected(zookeeper, before)
    assert zookeeper.read([f"{base}/a"]) == {f"{base}/a": Znode(b"1", 0)}
    eventually(lambda: recorded.connections == [True, False, True])


# Z2
@pytest.mark.parametrize("session_timeout", [SHORT_SESSION, SESSION_TIMEOUT])
def test_a_server_that_hangs_holds_up_one_call_for_a_few_seconds_and_no_other(
    server: Server, connect: Callable[..., Recorded], base: str, session_timeout: float
) -> None:
    zookeeper = connect(server.address, session_timeout=session_timeout).zookeeper
    before = zookeeper.generation
    server.process.pause()
    began = time.monotonic()
    with pytest.raises(Retry):
        zookeeper.commit([Create(f"{base}/a", b"1")])
    assert time.monotonic() < began + ANSWER_TIMEOUT + QUICK
    assert not zookeeper.connected
    for _ in range(300):
        with pytest.raises(Retry, match="not connected"):
            zookeeper.commit([Create(f"{base}/b", b"1")])
    assert time.monotonic() < began + ANSWER_TIMEOUT + 2 * QUICK
    eventually(lambda: time.monotonic() > began + 2 * SHORT_SESSION)
    server.process.resume()
    reconnected(zookeeper, before, within=10)
    assert zookeeper.commit([Create(f"{base}/c", b"1")]) == [0]
    assert zookeeper.read([f"{base}/b"]) == {f"{base}/b": None}


def test_a_hung_server_does_not_keep_the_process_from_ending(server: Server, recorded: Recorded) -> None:
    server.process.pause()
    began = time.monotonic()
    recorded.zookeeper.close()
    assert time.monotonic() < began + 2 + QUICK
    assert not recorded.zookeeper.connected


# Z3
def test_a_server_whose_data_was_lost_is_connected_again(
    server: Server, connect: Callable[..., Recorded], base: str
) -> None:
    zookeeper = connect(server.address, session_timeout=SHORT_SESSION).zookeeper
    zookeeper.commit([Create(f"{base}/a", b"1")])
    before = zookeeper.generation
    server.process.kill()
    server.wipe()
    server.up()
    reconnected(zookeeper, before, within=3 * SHORT_SESSION)
    assert zookeeper.read([f"{base}/a"]) == {f"{base}/a": None}
    zookeeper.make_parents(f"{base}/a")
    assert zookeeper.commit([Create(f"{base}/a", b"2")]) == [0]


# Z4
@pytest.mark.full
@pytest.mark.parametrize("session_timeout", [SHORT_SESSION, SESSION_TIMEOUT])
def test_after_a_long_outage_the_server_is_connected_within_seconds(
    server: Server, connect: Callable[..., Recorded], session_timeout: float
) -> None:
    zookeeper = connect(server.address, session_timeout=session_timeout).zookeeper
    before = zookeeper.generation
    threads = threading.active_count()
    server.process.kill()
    with structlog.testing.capture_logs() as logs:
        down = time.monotonic()
        eventually(lambda: time.monotonic() > down + OUTAGE)
    assert threading.active_count() <= threads + 4  # one client, and one that is being stopped
    replaced = [line for line in logs if line["event"] == "zookeeper client replaced"]
    assert len(replaced) <= OUTAGE / session_timeout
    server.up()
    reconnected(zookeeper, before, within=RECONNECT_DELAY + 2 * QUICK)


# Z5
def test_a_session_that_somebody_else_ends_is_made_anew(
    server: Server, connect: Callable[..., Recorded], other: KazooClient, base: str
) -> None:
    answers: list[bytes] = []
    with Proxy(server.address, answers.append) as proxy:
        recorded = connect(proxy.address)
        _, _, session, _, password = struct.unpack(">iiqi16s", answers[0][4:40])
        recorded.zookeeper.read([base])
        before = recorded.zookeeper.generation
        thief = KazooClient(server.address, client_id=(session, password))
        thief.start()
        thief.stop()
        thief.close()
        reconnected(recorded.zookeeper, before)
        recorded.zookeeper.read([base])
        other.set(base, b"x")
        eventually(lambda: recorded.paths == [base])


# Z12
def mentions(path: str) -> Callable[[bytes], bool]:
    """Whether a request is about *path*."""
    return lambda data: path.encode() in data


LOST: list[Sequence[Op]] = [
    [Create("/new", b"2")],
    [Set("/old", b"2", 0)],
    [Delete("/old", 0)],
    [Check("/fence", 0), Create("/new", b"2"), Set("/old", b"2", 0)],
]


def under(base: str, ops: Sequence[Op]) -> list[Op]:
    """The same ops below *base*."""
    return [
        type(op)(base + op.path, *[getattr(op, field) for field in op.__struct_fields__[1:]]) for op in ops
    ]


@pytest.fixture
def written(other: KazooClient, base: str) -> str:
    """The base, with the znodes that the lost writes change."""
    other.create(f"{base}/old", b"1")
    other.create(f"{base}/fence")
    return base


@pytest.mark.parametrize("ops", LOST, ids=["create", "set", "delete", "several"])
def test_a_write_whose_answer_is_lost_is_found_done_and_not_done_twice(
    connect: Callable[..., Recorded], proxy: Proxy, written: str, ops: Sequence[Op]
) -> None:
    zookeeper = connect(proxy.address).zookeeper
    before = zookeeper.generation
    ops = under(written, ops)
    proxy.lose_reply(mentions(ops[-1].path))
    with pytest.raises(Retry) as raised:
        zookeeper.commit(ops)
    assert not isinstance(raised.value, Conflict)
    reconnected(zookeeper, before)
    znode = zookeeper.read([ops[-1].path])[ops[-1].path]
    assert znode is None if isinstance(ops[-1], Delete) else znode.data == b"2"
    with pytest.raises(Overtaken):
        zookeeper.commit(ops)


@pytest.mark.parametrize("ops", LOST, ids=["create", "set", "delete", "several"])
def test_a_write_that_is_lost_on_the_way_is_found_not_done(
    connect: Callable[..., Recorded], proxy: Proxy, written: str, ops: Sequence[Op]
) -> None:
    zookeeper = connect(proxy.address).zookeeper
    before = zookeeper.generation
    ops = under(written, ops)
    proxy.lose_request(mentions(ops[-1].path))
    with pytest.raises(Retry) as raised:
        zookeeper.commit(ops)
    assert not isinstance(raised.value, Conflict)
    reconnected(zookeeper, before)
    assert len(zookeeper.commit(ops)) == len(ops)
