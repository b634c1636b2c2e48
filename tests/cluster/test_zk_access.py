"""Our edge of ZooKeeper, with credentials and TLS, on real servers that ask for them."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from structlog.testing import capture_logs

from hack.local.pki import Authority
from hack.local.zookeeper import Server, tls
from rpcregistry.errors import Failure, Rejected, Retry
from rpcregistry.plan.ops import Create, Delete, Set, Znode
from rpcregistry.zookeeper.access import OPEN, Access, acl
from rpcregistry.zookeeper.client import ZooKeeper
from tests.cluster.waiting import eventually

PASSWORD = 's3cret "of": the\\registry, '  # what SASL and JAAS have to quote
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


def test_a_root_that_nobody_else_may_look_at_keeps_nobody_from_its_chroot(
    server: Server, connect: Connect, anyone: KazooClient, base: str, user: Path
) -> None:
    access = Access(auth_file=str(user))
    connect(f"{server.address}{base}/chroot", access).make_parents("/a")
    before = anyone.get_acls("/")[0]
    anyone.add_auth("digest", "root:root")
    anyone.set_acls("/", list(PRIVATE))
    try:
        zookeeper = connect(f"{server.address}{base}/chroot", access)
        zookeeper.make_parents("/a/b")
        zookeeper.commit([Create("/a/b", b"1")])
    finally:
        anyone.set_acls("/", before)


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
    eventually(lambda: zookeeper.trouble == ": it refuses our credentials: mend --zk-auth-file", TIMEOUT)
    assert not zookeeper.connected
    assert zookeeper.generation == 0
    user.write_text(f"registry:{PASSWORD}")
    assert zookeeper.wait(TIMEOUT)
    zookeeper.commit([Create(f"{base}/a", b"1")])


def test_a_server_without_sasl_is_not_asked_for_ever(start: Connect, tmp_path: Path, user: Path) -> None:
    plain = Server(tmp_path / "plain")
    plain.up()
    try:
        zookeeper = start(plain.address, Access(auth_file=str(user), auth_scheme="sasl"))
        eventually(lambda: zookeeper.trouble == ": it refuses our credentials: mend --zk-auth-file", TIMEOUT)
        assert zookeeper.generation == 0
    finally:
        plain.process.kill()


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


# connections that a server closes at once


class Closing:
    """A listener that closes each connection: an ensemble that refuses us, or a proxy without servers."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._close_all, daemon=True).start()

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _close_all(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.at.append(time.monotonic())
                connection.close()


@pytest.fixture
def closing() -> Iterator[Closing]:
    closing = Closing()
    yield closing
    with suppress(OSError):
        closing.stop()


def test_a_server_that_closes_each_connection_at_once_is_asked_ever_less_often_and_reported_once(
    start: Connect, closing: Closing, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logs:
        zookeeper = start(closing.address, OPEN)
        eventually(lambda: len(closing.at) >= 5, TIMEOUT)
    gaps = [after - before for before, after in pairwise(closing.at)]
    assert all(gap > least for gap, least in zip(gaps[1:], (0.9, 1.9, 3.9), strict=False)), gaps
    reason = f"{closing.address}: it closes the connection at once: does it ask for credentials"
    assert zookeeper.trouble.startswith(f": {reason}")
    assert [line["event"] for line in logs] == ["zookeeper not connected"]
    assert len({record.getMessage() for record in caplog.records}) == len(caplog.records)


def test_credentials_that_come_are_tried_at_once_however_long_the_pause_is(
    start: Connect, closing: Closing, user: Path
) -> None:
    start(closing.address, Access(auth_file=str(user)))
    eventually(lambda: len(closing.at) >= 5, TIMEOUT)  # the next one is due in 8 s
    user.write_text("registry:other")
    eventually(lambda: len(closing.at) >= 6, 5)


@pytest.fixture(scope="module")
def enforcing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that accepts only users of SASL, and one connection of a machine."""
    options = {"enforce.auth.enabled": "true", "enforce.auth.schemes": "sasl"}
    server = Server(tmp_path_factory.mktemp("enforcing"), options=options, users={"registry": PASSWORD})
    server.up()
    yield server
    server.process.kill()


def test_a_server_that_asks_for_credentials_is_not_said_to_be_away(
    enforcing: Server, start: Connect, connect: Connect, user: Path
) -> None:
    with capture_logs() as logs:
        nobody = start(enforcing.address, OPEN)
        eventually(lambda: "asks for credentials: give --zk-auth-file" in nobody.trouble, TIMEOUT)
        someone = start(enforcing.address, Access(auth_file=str(user)))
        eventually(lambda: "does not accept our credentials" in someone.trouble, TIMEOUT)
        time.sleep(3)
    assert [line["event"] for line in logs] == ["zookeeper not connected"] * 2
    connect(enforcing.address, Access(auth_file=str(user), auth_scheme="sasl"))


def test_a_server_without_room_for_one_more_is_connected_once_there_is(
    start: Connect, connect: Connect, tmp_path: Path
) -> None:
    server = Server(tmp_path / "full", options={"maxClientCnxns": 1})
    server.start()
    try:
        first = connect(server.address, OPEN)
        second = start(server.address, OPEN)
        eventually(lambda: "maxClientCnxns" in second.trouble, TIMEOUT)
        first.close()
        assert second.wait(TIMEOUT)
        assert second.trouble == ""
    finally:
        server.process.kill()


# TLS


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("the ensemble's CA")


def pem(directory: Path, name: str, *contents: bytes) -> Path:
    """A PEM file."""
    file = directory / f"{name}.pem"
    file.write_bytes(b"".join(contents))
    return file


def secure_server(
    directory: Path, authority: Authority, certificate: tuple[bytes, bytes], client_auth: bool = False
) -> Server:
    """A server that shows *certificate*, and knows clients by certificates of *authority*."""
    directory.mkdir(exist_ok=True)
    ca = pem(directory, "server-ca", authority.pem)
    server = Server(directory, tls=tls(pem(directory, "server", *certificate), ca, client_auth=client_auth))
    server.up()
    return server


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    """A server that is found as ``localhost``, and nowhere else."""
    directory = tmp_path_factory.mktemp("secure")
    server = secure_server(directory, authority, authority.issue("zookeeper", ["localhost"]))
    yield server
    server.process.kill()


@pytest.fixture
def ca(tmp_path: Path, authority: Authority) -> Path:
    return pem(tmp_path, "ca", authority.pem)


def test_a_server_of_the_ca_is_written_to_by_tls(
    secure: Server, connect: Connect, ca: Path, user: Path
) -> None:
    zookeeper = connect(f"localhost:{secure.secure_port}", Access(tls_ca=str(ca), auth_file=str(user)))
    zookeeper.commit([Create("/a", b"1"), Create("/b", b"2" * 300_000)])
    assert zookeeper.read(["/b"])["/b"] == Znode(b"2" * 300_000, 0)
    assert zookeeper.commit([Delete("/a", 0), Delete("/b", 0)]) == [None, None]


def test_a_certificate_for_another_name_is_refused(secure: Server, start: Connect, ca: Path) -> None:
    zookeeper = start(f"127.0.0.1:{secure.secure_port}", Access(tls_ca=str(ca)))
    refused = rf": 127\.0\.0\.1:{secure.secure_port}: its certificate is not accepted: .*mismatch"
    eventually(lambda: re.match(refused, zookeeper.trouble), TIMEOUT)
    assert zookeeper.generation == 0


def test_a_ca_that_the_system_trusts_is_not_believed_where_another_is_given(
    secure: Server, tmp_path: Path, ca: Path
) -> None:
    """As anybody could have a certificate of a public CA.  OpenSSL reads the variable once a process."""
    other = pem(tmp_path, "other", Authority("another CA").pem)
    program = (
        "import sys, ssl, structlog\n"
        "from rpcregistry.zookeeper.client import ZooKeeper\n"
        "from rpcregistry.zookeeper.access import Access\n"
        "structlog.configure(logger_factory=structlog.ReturnLoggerFactory())\n"
        "print(len(ssl.create_default_context().get_ca_certs()))\n"
        "zookeeper = ZooKeeper(sys.argv[1], access=Access(tls_ca=sys.argv[2]))\n"
        "zookeeper.start()\n"
        "while not (zookeeper.wait(0.1) or zookeeper.trouble): pass\n"
        "print(zookeeper.connected, zookeeper.trouble)\n"
        "zookeeper.close()\n"
    )

    def tried(trusted: Path) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", program, f"localhost:{secure.secure_port}", str(trusted)],
            env={**os.environ, "SSL_CERT_FILE": str(ca), "SSL_CERT_DIR": str(tmp_path)},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT,
        )
        return done.stdout.splitlines()

    count, outcome = tried(other)
    assert count == "1"
    assert outcome.startswith("False : localhost:")
    assert "its certificate is not accepted: unable to get local issuer certificate" in outcome
    assert tried(ca) == ["1", "True "]


def test_an_expired_certificate_is_refused_until_the_server_has_another(
    tmp_path: Path, authority: Authority, start: Connect, ca: Path
) -> None:
    expired = authority.issue("zookeeper", ["localhost"], life=timedelta(days=-1))
    server = secure_server(tmp_path / "server", authority, expired)
    try:
        zookeeper = start(f"localhost:{server.secure_port}", Access(tls_ca=str(ca)))
        eventually(lambda: "certificate has expired" in zookeeper.trouble, TIMEOUT)
        pem(tmp_path / "server", "server", *authority.issue("zookeeper", ["localhost"]))
        server.process.restart()
        assert zookeeper.wait(TIMEOUT)
        assert zookeeper.trouble == ""
    finally:
        server.process.kill()


def test_a_ca_that_is_mended_in_its_file_is_believed(secure: Server, start: Connect, ca: Path) -> None:
    right = ca.read_bytes()
    ca.write_bytes(Authority("another CA").pem)
    zookeeper = start(f"localhost:{secure.secure_port}", Access(tls_ca=str(ca)))
    eventually(lambda: "its certificate is not accepted" in zookeeper.trouble, TIMEOUT)
    ca.write_bytes(ca.read_bytes() + right)
    assert zookeeper.wait(TIMEOUT)


def test_a_connection_without_tls_to_a_port_for_tls_is_reported(secure: Server, start: Connect) -> None:
    plain = start(f"localhost:{secure.secure_port}", OPEN)
    eventually(lambda: "TLS (--zk-tls-ca)" in plain.trouble, TIMEOUT)


def test_a_connection_by_tls_to_a_port_without_is_reported(server: Server, start: Connect, ca: Path) -> None:
    secured = start(server.address, Access(tls_ca=str(ca)))
    eventually(lambda: "is that its port for TLS?" in secured.trouble, TIMEOUT)


def test_where_a_server_does_not_speak_tls_nothing_is_sent_in_the_clear(
    start: Connect, ca: Path, user: Path
) -> None:
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def listen() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        received.append(connection.recv(4096))
                        connection.sendall(b"no TLS here")

        threading.Thread(target=listen, daemon=True).start()
        port = listening.getsockname()[1]
        zookeeper = start(f"localhost:{port}", Access(tls_ca=str(ca), auth_file=str(user)))
        eventually(lambda: f"localhost:{port}: no TLS" in zookeeper.trouble, TIMEOUT)
        eventually(lambda: len(received) >= 2, TIMEOUT)
        listening.shutdown(socket.SHUT_RDWR)
    assert all(hello.startswith(b"\x16\x03") for hello in received)  # TLS handshake records, RFC 8446, 5.1
    assert not zookeeper.connected


def test_a_client_certificate_is_an_identity_and_is_renewed_with_its_key(
    tmp_path: Path,
    authority: Authority,
    start: Connect,
    connect: Connect,
    ca: Path,
) -> None:
    certificate = authority.issue("zookeeper", ["localhost"])
    server = secure_server(tmp_path / "server", authority, certificate, client_auth=True)
    try:
        address = f"localhost:{server.secure_port}"
        key, own = authority.issue("rpcregistry")
        access = Access(
            tls_ca=str(ca),
            tls_cert=str(pem(tmp_path, "cert", own)),
            tls_key=str(pem(tmp_path, "key", key)),
            acl=PRIVATE,
        )
        zookeeper = connect(address, access)
        zookeeper.commit([Create("/a", b"1")])
        with pytest.raises(Rejected):
            connect(server.address, OPEN).read(["/a"])
        key, own = authority.issue("rpcregistry")
        before = zookeeper.generation
        with capture_logs() as logs:
            pem(tmp_path, "cert", own)
            eventually(lambda: any("credentials kept" in line["event"] for line in logs), TIMEOUT)
        assert zookeeper.commit([Set("/a", b"2", 0)]) == [1]
        assert zookeeper.generation == before
        pem(tmp_path, "key", key)
        eventually(lambda: zookeeper.generation > before, TIMEOUT)
        assert zookeeper.commit([Set("/a", b"3", 1)]) == [2]

        stranger = start(address, Access(tls_ca=str(ca)))
        eventually(lambda: "a certificate (--zk-tls-cert)" in stranger.trouble, TIMEOUT)
        assert stranger.generation == 0
    finally:
        server.process.kill()


def readable(zookeeper: ZooKeeper, path: str) -> bool:
    """Whether the znode is read, now."""
    try:
        return isinstance(zookeeper.read([path])[path], Znode)
    except Failure:
        return False
