"""ZooKeeper's own log as the witness reads it, compared with what a client reads of real servers."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NoNodeError
from kazoo.protocol.serialization import Create as KazooCreate
from kazoo.retry import KazooRetry
from kazoo.security import make_acl

from hack.local.cluster import free_ports
from hack.local.zookeeper import Server
from tests.cluster.waiting import eventually
from tests.faults.harness.evidence import Check, CloseSession, Create, Failed
from tests.faults.harness.zklog import end, read, sessions, states

# Who missed more than 500 transactions, which is what a leader has in memory, is sent a snapshot.
NO_HISTORY = {"snapshotSizeFactor": -1}
MANY = 600
EXTENDED = {"extendedTypesEnabled": "true"}  # znodes that live for a time
ANYONE = make_acl("world", "anyone", all=True)
ENSEMBLE = {"initLimit": 20, "syncLimit": 5, **EXTENDED}


class CreateContainer(KazooCreate):  # type: ignore[misc]
    """A request that kazoo has no method for; its flags are 4."""

    type = 19


class CreateTtl(KazooCreate):  # type: ignore[misc]
    """Another one; its flags are 5."""

    type = 21

    def serialize(self) -> bytearray:
        return super().serialize() + struct.pack(">q", 3_600_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One server, up."""
    one = Server(tmp_path / "zookeeper", options=EXTENDED)
    one.up()
    yield one
    one.process.kill()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Server]]:
    """Three servers that know each other, up, and sent a snapshot when they come back."""
    ports = free_ports(6)
    lines = [f"server.{n}=127.0.0.1:{ports[2 * n - 2]}:{ports[2 * n - 1]}" for n in (1, 2, 3)]
    servers = [
        Server(tmp_path / f"{n}", options={**ENSEMBLE, **NO_HISTORY}, ensemble=lines, number=n)
        for n in (1, 2, 3)
    ]
    for one in servers:
        one.start()
    for one in servers:
        one.process.wait_until_ready()
    yield servers
    for one in servers:
        one.process.kill()


@pytest.fixture
def connect() -> Iterator[Callable[[str], KazooClient]]:
    """Makes clients."""
    made: list[KazooClient] = []

    def client(address: str) -> KazooClient:
        made.append(KazooClient(address, connection_retry=KazooRetry(max_tries=-1, max_delay=0.2)))
        made[-1].start()
        return made[-1]

    yield client
    for one in made:
        one.stop()
        one.close()


def data(server: Server) -> Path:
    return server.process.log.parents[1] / "data"


def tree(zk: KazooClient, path: str = "") -> dict[str, bytes]:
    """All that a client reads, but for what every server has."""
    found = {}
    for name in zk.get_children(path or "/"):
        child = f"{path}/{name}"
        if child != "/zookeeper":
            found[child] = bytes(zk.get(child)[0])
            found |= tree(zk, child)
    return found


def written(server: Server) -> dict[str, bytes]:
    return {path: content for path, content in end(read(data(server))).items() if path not in ("/", "")}


def ours(server: Server) -> dict[str, bytes]:
    return {path: content for path, content in written(server).items() if not path.startswith("/zookeeper")}


def write_everything(zk: KazooClient) -> None:
    """One of each kind of transaction, refused ones too."""
    zk.create("/a", b"1")
    zk.create("/a/b", b"\0\xff")
    zk.create("/a/n-", sequence=True)
    zk.create("/mine", b"", ephemeral=True)
    for request in (CreateContainer("/box", b"5", [ANYONE], 4), CreateTtl("/short", b"6", [ANYONE], 5)):
        answer = zk.handler.async_result()
        zk._call(request, answer)
        answer.get(10)
    zk.set("/a", b"2")
    zk.set_acls("/a", [ANYONE])
    zk.create("/gone")
    zk.delete("/gone")
    with pytest.raises(BadVersionError):
        zk.set("/a", b"never", version=99)
    with pytest.raises(NoNodeError):
        zk.delete("/never")
    transaction = zk.transaction()
    transaction.check("/a", version=1)
    transaction.set_data("/a", b"3")
    transaction.create("/a/c", b"4")
    transaction.delete("/a/b")
    assert len(transaction.commit()) == 4
    refused = zk.transaction()
    refused.create("/never", b"")
    refused.check("/a", version=99)
    refused.commit()


def test_the_log_of_a_running_server_ends_with_what_a_client_reads(server: Server, connect):
    zk = connect(server.address)
    write_everything(zk)
    assert ours(server) == tree(zk)

    ops = [op for transaction in read(data(server)).transactions for op in transaction.ops]
    assert Create("/mine", b"", zk.client_id[0]) in ops
    assert Check("/a", 1) in ops
    assert sum(isinstance(op, Failed) for op in ops) == 3
    assert not any("never" in str(op) for op in ops)
    [last] = [state for state in states(read(data(server)), "/a") if len(state.changed) == 3]
    assert dict(last.changed) == {"/a": b"3", "/a/c": b"4", "/a/b": None}


def test_ephemeral_znodes_vanish_with_their_session(server: Server, connect):
    zk, other = connect(server.address), connect(server.address)
    other.create("/theirs", b"x", ephemeral=True)
    zk.create("/mine", b"y", ephemeral=True)
    session = other.client_id[0]
    other.stop()
    assert ours(server) == tree(zk) == {"/mine": b"y"}
    log = read(data(server))
    began, ended = sessions(log)[session]
    assert ended is not None
    assert began <= ended
    assert CloseSession(("/theirs",)) in [op for transaction in log.transactions for op in transaction.ops]


def test_the_log_goes_on_after_the_server_was_killed(server: Server, connect):
    zk = connect(server.address)
    write_everything(zk)
    server.process.restart()
    eventually(lambda: zk.connected)
    zk.retry(zk.create, "/later", b"5")
    assert len(list((data(server) / "version-2").glob("log.*"))) == 2
    assert ours(server) == tree(zk)
    assert read(data(server)).start == {}


@pytest.mark.full
def test_every_member_of_an_ensemble_has_it_even_one_that_was_sent_a_snapshot(three: list[Server], connect):
    zk = connect(",".join(server.address for server in three))
    write_everything(zk)
    away = next(server for server in three if server.mode == "follower")
    away.process.kill()
    eventually(lambda: zk.connected)
    zk.retry(zk.ensure_path, "/while-away")
    for answer in [zk.create_async(f"/while-away/{number}") for number in range(MANY)]:
        answer.get(30)
    away.up()
    zk.retry(zk.create, "/later", b"5")
    eventually(lambda: all(ours(server) == tree(zk) for server in three))
    assert read(data(away)).start[f"/while-away/{MANY - 1}"] == b""
    assert all(read(data(server)).start == {} for server in three if server is not away)
