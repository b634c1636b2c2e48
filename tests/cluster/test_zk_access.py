"""Our edge of ZooKeeper, with credentials and TLS, on real servers that ask for them."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from structlog.testing import capture_logs

from controller.errors import Failure, Rejected, Retry
from controller.plan.ops import Create, Delete, Set, Znode
from controller.zk import ZooKeeper
from controller.zkaccess import OPEN, Access, acl
from hack.local.zookeeper import Server
from tests.cluster.waiting import eventually

PASSWORD = "s3cret-of-the-registry"
PRIVATE = acl("auth::cdrwa")
TIMEOUT = 60.0
Connect = Callable[[str, Access], ZooKeeper]


@pytest.fixture
def start() -> Iterator[Callable[[str, Access], ZooKeeper]]:
    """Makes connections of ours, which may not come up."""
    with ExitStack() as stack:

        def make(servers: str, access: Access) -> ZooKeeper:
            zookeeper = ZooKeeper(servers, access=access)
            zookeeper.start()
            stack.callback(zookeeper.close)
            return zookeeper

        yield make


@pytest.fixture
def connect(start: Connect) -> Connect:
    """Makes connections of ours, up already."""

    def up(servers: str, access: Access) -> ZooKeeper:
        zookeeper = start(servers, access)
        assert zookeeper.wait(TIMEOUT), zookeeper.trouble
        return zookeeper

    return up


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows ``registry`` by SASL."""
    server = Server(tmp_path_factory.mktemp("zookeeper"), users={"registry": PASSWORD})
    server.up()
    yield server
    server.process.kill()


@pytest.fixture
def anyone(server: Server) -> Iterator[KazooClient]:
    """A client that is not ours, without credentials."""
    client = KazooClient(server.address)
    client.start()
    yield client
    client.stop()
    client.close()


@pytest.fixture
def base(anyone: KazooClient, request: pytest.FixtureRequest) -> str:
    """A znode for the test's own, which everybody may change."""
    path = f"/{abs(hash(request.node.nodeid))}"
    anyone.create(path)
    return path


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A file with credentials."""
    file = tmp_path / "user"
    file.write_text(f"registry:{PASSWORD}\n")
    return file


SCHEMES = pytest.mark.parametrize("scheme", ["digest", "sasl"])


# ACLs


def test_without_flags_everybody_may_do_everything(
    server: Server, connect: Connect, anyone: KazooClient, base: str
) -> None:
    zookeeper = connect(server.address, OPEN)
    zookeeper.make_parents(f"{base}/a/b")
    zookeeper.commit([Create(f"{base}/a/b", b"1")])
    for path in (f"{base}/a", f"{base}/a/b"):
        (entry,) = anyone.get_acls(path)[0]
        assert (entry.id.scheme, entry.id.id, entry.acl_list) == ("world", "anyone", ["ALL"])


@SCHEMES
def test_others_may_read_what_we_create_and_change_nothing(
    server: Server, connect: Connect, anyone: KazooClient, base: str, user: Path, scheme: str
) -> None:
    zookeeper = connect(f"{server.address}{base}/chroot", Access(auth_file=str(user), auth_scheme=scheme))
    zookeeper.make_parents("/a/b")
    zookeeper.commit([Create("/a/b", b"1")])
    assert anyone.get(f"{base}/chroot/a/b")[0] == b"1"
    for path in (f"{base}/chroot", f"{base}/chroot/a", f"{base}/chroot/a/b"):
        assert [entry.id.scheme for entry in anyone.get_acls(path)[0]] == [scheme, "world"]
        for write in (
            lambda path=path: anyone.set(path, b"2"),
            lambda path=path: anyone.create(f"{path}/c"),
            lambda path=path: anyone.set_acls(path, list(acl("world:anyone:cdrwa"))),
        ):
            with pytest.raises(NoAuthError):
                write()
    with pytest.raises(NoAuthError):
        anyone.delete(f"{base}/chroot/a/b")
    assert zookeeper.commit([Set("/a/b", b"3", 0)]) == [1]
    assert zookeeper.commit([Delete("/a/b", 1)]) == [None]


@SCHEMES
def test_what_is_private_is_read_by_nobody_else(
    server: Server, connect: Connect, anyone: KazooClient, base: str, user: Path, scheme: str
) -> None:
    access = Access(auth_file=str(user), auth_scheme=scheme, acl=PRIVATE)
    zookeeper = connect(server.address, access)
    zookeeper.make_parents(f"{base}/a/b")
    zookeeper.commit([Create(f"{base}/a/b", b"1")])
    for read in (anyone.get, anyone.get_children):
        for path in (f"{base}/a", f"{base}/a/b"):
            with pytest.raises(NoAuthError):
                read(path)
    assert zookeeper.children(f"{base}/a") == ["b"]
    with pytest.raises(Rejected, match=rf"{base}/a/b: its ACL .* --zk-auth-file"):
        connect(server.address, OPEN).read([f"{base}/a/b"])


def test_parents_that_are_there_keep_their_acl(
    server: Server, connect: Connect, anyone: KazooClient, base: str, user: Path
) -> None:
    before = anyone.get_acls(base)
    connect(server.address, Access(auth_file=str(user))).make_parents(f"{base}/a")
    assert anyone.get_acls(base) == before


def test_an_acl_that_names_nobody_whom_the_server_knows_is_refused(
    server: Server, connect: Connect, base: str
) -> None:
    zookeeper = connect(server.address, Access(acl=acl("x509:CN=a:cdrwa")))
    with pytest.raises(Rejected, match="--zk-acl"):
        zookeeper.commit([Create(f"{base}/a", b"")])


# credentials that change, or are wrong


def test_a_password_that_is_mended_is_taken_without_a_restart(
    server: Server, connect: Connect, base: str, user: Path
) -> None:
    access = Access(auth_file=str(user), acl=PRIVATE)
    connect(server.address, access).commit([Create(f"{base}/a", b"1")])
    user.write_text("registry:wrong")
    zookeeper = connect(server.address, access)
    with pytest.raises(Rejected, match=f"{base}/a"):
        zookeeper.read([f"{base}/a"])
    user.write_text(f"registry:{PASSWORD}")
    assert eventually(lambda: readable(zookeeper, f"{base}/a"), TIMEOUT)


def test_a_user_whom_sasl_refuses_is_never_connected_until_that_is_mended(
    server: Server, start: Connect, base: str, user: Path
) -> None:
    user.write_text("registry:wrong")
    zookeeper = start(server.address, Access(auth_file=str(user), auth_scheme="sasl"))
    eventually(lambda: zookeeper.trouble == ": it refuses our credentials", TIMEOUT)
    assert not zookeeper.connected
    assert zookeeper.generation == 0
    user.write_text(f"registry:{PASSWORD}")
    assert zookeeper.wait(TIMEOUT)
    zookeeper.commit([Create(f"{base}/a", b"1")])


def test_a_mounted_secret_that_is_replaced_is_read_again_and_loses_no_write(
    server: Server, connect: Connect, anyone: KazooClient, base: str, tmp_path: Path
) -> None:
    """Kubernetes writes a new directory, and swaps the link to it."""

    def mount(version: str, content: str) -> None:
        (tmp_path / version).mkdir()
        (tmp_path / version / "user").write_text(content)
        (tmp_path / "new").symlink_to(tmp_path / version)
        os.replace(tmp_path / "new", tmp_path / "..data")

    mount("v1", "one:first")
    (tmp_path / "user").symlink_to("..data/user")
    zookeeper = connect(
        server.address, Access(auth_file=str(tmp_path / "user"), acl=acl("world:anyone:cdrwa"))
    )
    written: list[str] = []
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            path = f"{base}/{number:05}"
            try:
                zookeeper.commit([Create(path, b"")])
            except Retry:
                continue  # read, and plan again
            written.append(path)
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        eventually(lambda: len(written) > 10, TIMEOUT)
        before = zookeeper.generation
        mount("v2", "two:second")
        eventually(lambda: zookeeper.generation > before, TIMEOUT)
        count = len(written)
        eventually(lambda: len(written) > count + 10, TIMEOUT)
    finally:
        stop.set()
        thread.join()
    assert {f"{base}/{name}" for name in anyone.get_children(base)} >= set(written)
    own = connect(server.address, Access(auth_file=str(tmp_path / "user"), acl=PRIVATE))
    own.commit([Create(f"{base}/private", b"1")])
    assert readable(zookeeper, f"{base}/private")


def test_a_file_that_vanishes_costs_no_connection(
    server: Server, connect: Connect, base: str, user: Path
) -> None:
    zookeeper = connect(server.address, Access(auth_file=str(user)))
    before = zookeeper.generation
    with capture_logs() as logs:
        user.unlink()
        eventually(lambda: any("credentials kept" in line["event"] for line in logs), TIMEOUT)
    zookeeper.commit([Create(f"{base}/a", b"")])
    assert zookeeper.generation == before


def readable(zookeeper: ZooKeeper, path: str) -> bool:
    """Whether the znode is read, now."""
    try:
        return isinstance(zookeeper.read([path])[path], Znode)
    except Failure:
        return False
