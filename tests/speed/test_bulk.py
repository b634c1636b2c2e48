"""Many znodes are read and watched by few requests, on every ZooKeeper; or one by one, before 3.6."""

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl

from hack.local.pki import Authority
from hack.local.proxy import Proxy
from hack.local.zookeeper import Ensemble, Server, tls
from rpcregistry.errors import Conflict, Rejected, Retry
from rpcregistry.plan.ops import Create, Set, Znode
from rpcregistry.zookeeper.access import Access, acl
from rpcregistry.zookeeper.bulk import DATA, MOST
from rpcregistry.zookeeper.client import IN_FLIGHT, ZooKeeper
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.full

NEWEST = "3.9.5"  # that of hack/zookeeper, which is in the cache already
VERSIONS = ["3.4.14", "3.5.10", "3.6.4", "3.8.4", NEWEST]
IN_BULK = VERSIONS[2:]
MANY = 300
MULTI_READ, SET_WATCHES = 22, 101
TIMEOUT = 60.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Servers by version; each is started once."""
    started: dict[str, Server] = {}

    def of(version: str) -> Server:
        if version not in started:
            started[version] = Server(tmp_path_factory.mktemp("zookeeper"), version=version)
        started[version].up()
        return started[version]

    yield of
    for server in started.values():
        server.process.kill()


@pytest.fixture
def server(servers: Callable[[str], Server]) -> Server:
    return servers(NEWEST)


class Reader:
    """A connection of ours behind a proxy that counts its requests, below a chroot that is the test's own."""

    def __init__(self, proxy: Proxy, other: KazooClient, root: str, **options: Any) -> None:
        self.proxy = proxy
        self.other = other
        self.root = root
        self.changed: list[str] = []
        self.requests: list[int] = []
        self.zookeeper = ZooKeeper(proxy.address + root, on_changed=self.changed.append, **options)
        proxy.lose_request(self._count)

    def _count(self, data: bytes) -> bool:
        """Note the requests, and lose none."""
        self.requests.extend(kinds(data))
        return False

    def cut(self) -> None:
        """Break the connection, and wait for the next one."""
        before = self.zookeeper.generation
        self.proxy.cut()
        eventually(lambda: self.zookeeper.connected and self.zookeeper.generation > before, TIMEOUT)

    def make(self, paths: list[str], data: bytes = b"1") -> None:
        transaction = self.other.transaction()
        for path in paths:
            transaction.create(self.root + path, data)
        assert not any(isinstance(result, Exception) for result in transaction.commit())

    def set_all(self, paths: list[str], data: bytes) -> None:
        transaction = self.other.transaction()
        for path in paths:
            transaction.set_data(self.root + path, data)
        assert not any(isinstance(result, Exception) for result in transaction.commit())


@pytest.fixture
def reader(request: pytest.FixtureRequest) -> Iterator[Callable[..., Reader]]:
    """Makes readers of a server, which are connected when it returns."""
    with ExitStack() as stack:

        def connect(address: str, **options: Any) -> Reader:
            other = KazooClient(address)
            other.start(TIMEOUT)
            stack.callback(other.close)
            stack.callback(other.stop)
            root = f"/{abs(hash(request.node.nodeid))}"
            other.create(root)
            proxy = stack.enter_context(Proxy(address))
            made = Reader(proxy, other, root, **options)
            made.zookeeper.start()
            stack.callback(made.zookeeper.close)
            assert made.zookeeper.wait(TIMEOUT), made.zookeeper.trouble
            return made

        yield connect


def paths_of(count: int) -> list[str]:
    return [f"/{number:04}" for number in range(count)]


@pytest.mark.parametrize("version", VERSIONS)
def test_many_znodes_are_read_and_each_change_of_one_is_notified_once(
    servers: Callable[[str], Server], reader: Callable[..., Reader], version: str
) -> None:
    r = reader(servers(version).address)
    paths = paths_of(MANY)
    here, missing = paths[:-10], paths[-10:]
    r.make(here)
    found = r.zookeeper.read(paths)
    assert found == {**dict.fromkeys(here, Znode(b"1", 0)), **dict.fromkeys(missing)}
    r.set_all(here[:50], b"2")
    r.make(missing)
    r.other.delete(r.root + here[50])
    r.other.create(f"{r.root}{here[51]}/child")  # which is no change of the data
    eventually(lambda: sorted(r.changed) == [*here[:51], *missing], TIMEOUT)

    # What was not notified is watched still, and what was is watched again.
    assert r.zookeeper.read(paths) == {
        **dict.fromkeys(here[:50], Znode(b"2", 1)),
        here[50]: None,
        here[51]: Znode(b"1", 0, children=1),
        **dict.fromkeys(here[52:], Znode(b"1", 0)),
        **dict.fromkeys(missing, Znode(b"1", 0)),
    }
    r.changed.clear()
    r.make([here[50]])
    r.set_all([path for path in paths if path != here[50]], b"3")
    eventually(lambda: sorted(r.changed) == paths, TIMEOUT)


@pytest.mark.parametrize("version", VERSIONS)
def test_many_lists_are_read_and_each_change_of_one_is_notified_once(
    servers: Callable[[str], Server], reader: Callable[..., Reader], version: str
) -> None:
    r = reader(servers(version).address)
    paths = paths_of(20)
    here, missing = paths[:-2], paths[-2:]
    r.make([*here, f"{here[0]}/a"])
    for _ in range(2):
        assert r.zookeeper.listed(paths) == {
            here[0]: ["a"],
            **{path: [] for path in here[1:]},
            **dict.fromkeys(missing),
        }
    r.other.delete(f"{r.root}{here[0]}/a")
    r.make([f"{path}/b" for path in here[1:]])
    r.other.delete(f"{r.root}{here[1]}/b")  # is not notified: it was not listed again
    r.other.create(f"{r.root}{here[0]}/c")
    eventually(lambda: set(r.changed) == set(here), TIMEOUT)
    assert r.zookeeper.listed(here[:3]) == {here[0]: ["c"], here[1]: [], here[2]: ["b"]}
    assert sorted(r.changed) == here


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_watched_is_read_again_by_few_requests(
    servers: Callable[[str], Server], reader: Callable[..., Reader], version: str
) -> None:
    r = reader(servers(version).address)
    paths = paths_of(MANY)
    r.make(paths)
    for read in (r.zookeeper.read, r.zookeeper.listed):
        read(paths)
        r.requests.clear()
        read(paths)
        few = len(r.requests) <= 6 + MANY // MOST
        assert few == (version in IN_BULK)
    assert r.zookeeper.generation == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_does_not_know_the_request_costs_one_connection(
    servers: Callable[[str], Server], reader: Callable[..., Reader], version: str
) -> None:
    r = reader(servers(version).address)
    assert r.zookeeper.generation == 1
    for generation in (2, 3):
        r.cut()
        assert r.zookeeper.generation == generation
    asked = 3 if version in IN_BULK else 1
    assert r.requests.count(MULTI_READ) == asked
    assert r.zookeeper.generation == 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_znode_that_may_not_be_read_is_named_and_costs_no_other(
    servers: Callable[[str], Server], reader: Callable[..., Reader], version: str
) -> None:
    r = reader(servers(version).address)
    paths = paths_of(20)
    r.make(paths)
    r.other.set_acls(r.root + paths[7], [make_acl("world", "anyone", write=True)])
    for read in (r.zookeeper.read, r.zookeeper.listed):
        with pytest.raises(Rejected, match=paths[7]):
            read(paths)
        del paths[7:8]
        assert set(read(paths)) == set(paths)
        paths.insert(7, "/0007")
    r.set_all([path for path in paths if path != "/0007"], b"2")
    eventually(lambda: sorted(r.changed) == [path for path in paths if path != "/0007"], TIMEOUT)


def test_one_by_one_a_bounded_number_is_on_the_way(
    servers: Callable[[str], Server], reader: Callable[..., Reader]
) -> None:
    server = servers("3.4.14")
    r = reader(server.address)
    paths = paths_of(MANY)
    assert r.zookeeper.read(paths) == dict.fromkeys(paths)
    r.requests.clear()
    server.process.pause()
    with pytest.raises(Retry):
        r.zookeeper.read(paths)
    assert r.requests.count(DATA) == IN_FLIGHT  # besides a ping, perhaps


@pytest.mark.parametrize("version", IN_BULK)
def test_large_znodes_among_small_ones_are_read(
    servers: Callable[[str], Server], reader: Callable[..., Reader], version: str
) -> None:
    r = reader(servers(version).address)
    small, large = paths_of(100), [f"/large{number}" for number in range(12)]
    r.make(small)
    for path in large:
        r.make([path], b"x" * 512 * 1024)
    found = r.zookeeper.read([*small, *large])
    assert [len(znode.data) for znode in found.values() if znode] == [1] * 100 + [512 * 1024] * 12


def kinds(data: bytes) -> Iterator[int]:
    """The types of the requests that a client sent."""
    while len(data) >= 12:
        length, _, kind = struct.unpack(">iii", data[:12])
        yield kind
        data = data[4 + length :]


def asks(kind: int) -> Callable[[bytes], bool]:
    return lambda data: kind in kinds(data)


def test_what_changes_while_the_watches_are_set_is_read_or_notified(
    server: Server, reader: Callable[..., Reader]
) -> None:
    r = reader(server.address)
    paths = paths_of(8)
    deleted, changed, comes, comes_and_goes, *_ = paths
    r.make([path for path in paths if path not in (comes, comes_and_goes)])
    done: list[int] = []

    def meanwhile(data: bytes) -> bool:
        if asks(SET_WATCHES)(data) and not done:
            done.append(1)
            r.other.delete(r.root + deleted)
            r.set_all([changed], b"2")
            r.make([comes, comes_and_goes])
        elif asks(MULTI_READ)(data) and len(done) == 1:
            done.append(2)
            r.other.delete(r.root + comes_and_goes)
        return False

    r.proxy.lose_request(meanwhile)
    found = r.zookeeper.read(paths)
    assert done == [1, 2]
    assert (found[deleted], found[changed], found[comes]) == (None, Znode(b"2", 1), Znode(b"1", 0))
    # Of these the server set no watch.
    eventually(lambda: {deleted, comes, comes_and_goes} <= set(r.changed), TIMEOUT)
    r.zookeeper.read(paths)
    r.changed.clear()
    r.make([deleted, comes_and_goes])
    r.set_all([changed, comes], b"3")
    eventually(lambda: sorted(r.changed) == sorted(paths[:4]), TIMEOUT)


def test_what_changes_right_after_the_watches_are_set_is_read_and_notified(
    server: Server, reader: Callable[..., Reader]
) -> None:
    r = reader(server.address)
    paths = paths_of(8)
    r.make(paths)
    reads: list[bytes] = []

    def meanwhile(data: bytes) -> bool:
        if asks(MULTI_READ)(data):
            reads.append(data)
            if len(reads) == 2:  # the first of all says which znodes there are
                r.set_all(paths[:1], b"2")
        return False

    r.proxy.lose_request(meanwhile)
    assert r.zookeeper.read(paths)[paths[0]] == Znode(b"2", 1)
    eventually(lambda: r.changed == paths[:1], TIMEOUT)


@pytest.mark.parametrize("lost", [MULTI_READ, SET_WATCHES], ids=["a read", "its watches"])
def test_after_a_lost_connection_all_is_watched_anew(
    server: Server, reader: Callable[..., Reader], lost: int
) -> None:
    r = reader(server.address)
    paths = paths_of(20)
    r.make(paths)
    before = r.zookeeper.generation
    r.proxy.lose_request(asks(lost))
    with pytest.raises(Retry):
        r.zookeeper.read(paths)
    eventually(lambda: r.zookeeper.connected and r.zookeeper.generation > before, TIMEOUT)
    for _ in range(2):
        r.zookeeper.read(paths)
        r.changed.clear()
        r.cut()
    r.zookeeper.read(paths)
    r.set_all(paths, b"2")
    eventually(lambda: sorted(r.changed) == paths, TIMEOUT)


def test_a_server_that_closes_the_connection_without_an_answer_is_asked_a_few_times(
    server: Server, reader: Callable[..., Reader]
) -> None:
    r = reader(server.address)
    closes = asks(MULTI_READ)

    def close_again(*_: object) -> None:
        r.proxy.lose_request(closes, close_again)

    close_again()
    r.cut()
    paths = paths_of(20)
    r.make(paths)
    assert set(r.zookeeper.read(paths)) == set(paths)


def test_a_connection_that_moves_to_an_older_server_reads_one_by_one(
    servers: Callable[[str], Server], reader: Callable[..., Reader]
) -> None:
    r = reader(servers(NEWEST).address)
    paths = paths_of(20)
    old = servers("3.4.14")
    moved = KazooClient(old.address)
    moved.start(TIMEOUT)
    moved.create(r.root)
    r.proxy.lead(old.address)
    r.cut()
    assert r.zookeeper.read(paths) == dict.fromkeys(paths)
    moved.stop()
    moved.close()


def received(server: Server) -> int:
    """How many packets the clients sent that are connected."""
    return sum(map(int, re.findall(r"recved=(\d+)", server.sessions())))


@pytest.mark.parametrize("version", IN_BULK)
def test_by_tls_as_a_user_whom_sasl_knows(tmp_path: Path, version: str) -> None:
    authority = Authority("a test's")
    ca, certificate, user = (tmp_path / name for name in ("ca.pem", "server.pem", "user"))
    ca.write_bytes(authority.pem)
    certificate.write_bytes(b"".join(authority.issue("zookeeper", ["localhost"])))
    user.write_text("registry:s3cret")
    server = Server(
        tmp_path / "zookeeper", tls=tls(certificate, ca), users={"registry": "s3cret"}, version=version
    )
    server.up()
    changed: list[str] = []
    access = Access(tls_ca=str(ca), auth_file=str(user), auth_scheme="sasl", acl=acl("sasl:registry:cdrwa"))
    zookeeper = ZooKeeper(f"localhost:{server.secure_port}/root", on_changed=changed.append, access=access)
    try:
        zookeeper.start()
        assert zookeeper.wait(TIMEOUT), zookeeper.trouble
        zookeeper.make_parents("/x")
        paths = paths_of(MANY)
        zookeeper.commit([Create(path, b"1") for path in paths])
        before = received(server)
        for _ in range(2):
            assert zookeeper.read(paths) == dict.fromkeys(paths, Znode(b"1", 0))
        assert received(server) - before < MANY / 2
        zookeeper.commit([Set(path, b"2", 0) for path in paths])
        eventually(lambda: sorted(changed) == paths, TIMEOUT)
    finally:
        zookeeper.close()
        server.process.kill()


def written(zookeeper: ZooKeeper, ops: list[Set]) -> bool:
    """Whether *ops* are written, now or by an attempt whose answer was lost."""
    try:
        zookeeper.commit(ops)
    except Conflict:
        return True
    except Retry:
        return False
    return True


def readable(zookeeper: ZooKeeper, paths: list[str]) -> dict[str, Znode | None] | None:
    with suppress(Retry):
        return zookeeper.read(paths)
    return None


def test_of_an_ensemble_that_loses_the_server_in_use(tmp_path: Path) -> None:
    ensemble = Ensemble(tmp_path)
    changed: list[str] = []
    zookeeper = ZooKeeper(ensemble.address + "/root", on_changed=changed.append)
    try:
        ensemble.up()
        zookeeper.start()
        assert zookeeper.wait(TIMEOUT), zookeeper.trouble
        zookeeper.make_parents("/x")
        paths = paths_of(MANY)
        zookeeper.commit([Create(path, b"1") for path in paths])
        zookeeper.read(paths)
        before = zookeeper.generation
        in_use = next(server for server in ensemble.servers if "sid=" in server.sessions())
        in_use.process.kill()
        eventually(lambda: zookeeper.connected and zookeeper.generation > before, TIMEOUT)
        assert eventually(lambda: readable(zookeeper, paths), TIMEOUT) == dict.fromkeys(paths, Znode(b"1", 0))
        ops = [Set(path, b"2", 0) for path in paths]
        eventually(lambda: written(zookeeper, ops), TIMEOUT)
        eventually(lambda: sorted(changed) == paths, TIMEOUT)
    finally:
        zookeeper.close()
        ensemble.down()
