"""The public command with a ZooKeeper that authenticates it: what it writes, and what others may do."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError, NotEmptyError
from kazoo.retry import KazooRetry

from hack.local.cluster import LocalCluster, free_ports
from hack.local.controller import finished
from hack.local.pki import Authority
from hack.local.zookeeper import Server, tls
from rpcregistry.layouts import LAYOUTS
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World

PASSWORD = "s3cret-of-the-registry"
TIMEOUT = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ZooKeeper of this suite's own, in which ``registry`` is known by SASL."""
    server = Server(tmp_path_factory.mktemp("zookeeper"), users={"registry": PASSWORD})
    server.up()
    yield server
    server.process.kill()


@pytest.fixture
def zk_servers(server: Server, namespace: str) -> str:
    """The server, with a chroot of the test's own, which the first client that writes there owns."""
    return f"{server.address}/{namespace}"


@pytest.fixture
def zk(server: Server, namespace: str) -> Iterator[KazooClient]:
    """An RPC client's connection: without credentials."""
    client = KazooClient(server.address)
    client.start()
    client.chroot = f"/{namespace}"
    yield client
    client.stop()
    client.close()


@pytest.fixture
def mount(tmp_path: Path) -> Callable[..., Path]:
    """Mounts a Secret as Kubernetes does, a directory a version and a link that is swapped; returns where."""
    versions = iter(range(100))

    def write(**files: str | bytes) -> Path:
        directory = tmp_path / f"..{next(versions)}"
        directory.mkdir()
        for name, content in files.items():
            (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            if not (tmp_path / name).is_symlink():
                (tmp_path / name).symlink_to(f"..data/{name}")
        (tmp_path / "new").symlink_to(directory)
        os.replace(tmp_path / "new", tmp_path / "..data")
        return tmp_path

    return write


@pytest.fixture
def user(mount: Callable[..., Path]) -> Path:
    return mount(user=f"registry:{PASSWORD}\n") / "user"


@pytest.fixture
def anyone(server: Server) -> Iterator[KazooClient]:
    """Somebody without credentials."""
    client = KazooClient(server.address)
    client.start()
    yield client
    client.stop()
    client.close()


def everything(zk: KazooClient, path: str) -> Iterator[str]:
    """A znode and all below it."""
    yield path
    for child in zk.get_children(path or "/"):
        yield from everything(zk, f"{path}/{child}")


def who(zk: KazooClient, path: str) -> list[tuple[str, list[str]]]:
    """A znode's ACL: schemes, and what they may do."""
    return [(entry.id.scheme, entry.acl_list) for entry in zk.get_acls(path or "/")[0]]


def wrote(controller: Controller, path: str) -> bool:
    """Whether the controller logged that it wrote a znode."""
    return any(line.get("path") == path for line in controller.logged())


def command(cluster: LocalCluster, name: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end."""
    return finished(name, *flags, kubeconfig=cluster.kubeconfig)


def ready(port: int) -> str:
    """Why the controller is not ready; empty if it is."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10):
            return ""
    except HTTPError as error:
        return error.read().decode()
    except OSError as error:
        return str(error)


OURS = [("digest", ["ALL"])]
READERS = ("world", ["READ"])


@pytest.mark.parametrize(
    ("scheme", "flags", "acl"),
    [
        pytest.param("digest", [], [*OURS, READERS], id="digest"),
        pytest.param("digest", ["--zk-acl", "auth::cdrwa"], OURS, id="private", marks=pytest.mark.full),
        pytest.param("sasl", [], [("sasl", ["ALL"]), READERS], id="sasl", marks=pytest.mark.full),
        pytest.param("", [], [("world", ["ALL"])], id="without flags", marks=pytest.mark.full),
    ],
)
def test_all_that_is_written_has_the_acl_and_nobody_else_may_change_it(
    zk_servers: str, world: World, anyone: KazooClient, start_controller, user: Path, scheme, flags, acl
):
    layouts = [text for name in LAYOUTS for text in ("--layout", f"{name}=/{name}")]
    credentials = ["--zk-auth-file", str(user), "--zk-auth-scheme", scheme, *flags] if scheme else []
    controller = start_controller("--zk-servers", zk_servers, *layouts, *credentials)
    world.create_pod("a", {"serviceName": "echo", "port": 80}, ip="10.0.0.1")
    for name in LAYOUTS:
        eventually(partial(wrote, controller, f"/{name}/echo"), TIMEOUT)
    if READERS not in acl and scheme:
        world.zk.add_auth("digest", f"registry:{PASSWORD}")
    eventually(lambda: world.zk.exists("/rpcregistry/heartbeat"), TIMEOUT)
    world.base = "/kube2zk"
    assert world.servers("echo") == ["10.0.0.1"]

    paths = set(everything(world.zk, ""))
    assert {f"/{name}/echo" for name in LAYOUTS} <= paths
    assert any(path.startswith("/rpcregistry/fence/") for path in paths)
    assert {path: who(world.zk, path) for path in paths} == dict.fromkeys(paths, acl)
    for path in sorted(f"/{world.namespace}{path}" for path in paths if scheme):
        for change in (
            partial(anyone.delete, path),
            partial(anyone.set, path, b""),
            partial(anyone.create, f"{path}/x"),
        ):
            with pytest.raises((NoAuthError, NotEmptyError)):
                change()
        if READERS not in acl:
            with pytest.raises(NoAuthError):
                anyone.get(path)


def test_a_secret_stands_in_no_log_event_metric_or_process_list(
    cluster: LocalCluster, zk_servers: str, world: World, start_controller, mount
):
    (port,) = free_ports(1)
    file = mount(user="registry:wrong-" + PASSWORD) / "user"
    controller = start_controller(
        "--zk-servers", zk_servers, "--zk-auth-file", str(file), "--zk-auth-scheme", "sasl",
        "--log-level", "debug", "--bind-address", f"127.0.0.1:{port}",
    )  # fmt: skip
    eventually(lambda: "refuses our credentials" in ready(port), TIMEOUT)
    mount(user=PASSWORD)  # and no user's name
    eventually(lambda: "credentials kept" in controller.text(), TIMEOUT)
    mount(user=f"registry:{PASSWORD}")
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ["10.0.0.1"], TIMEOUT)
    eventually(lambda: ready(port) == "", TIMEOUT)

    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    events = cluster.kubectl("get", "events.events.k8s.io", "-n", world.namespace, "-o", "json")
    arguments = Path(f"/proc/{controller.pid}/cmdline").read_text()
    for said in (controller.text(), metrics, events, json.dumps(world.rpcservices()), arguments):
        assert PASSWORD not in said


def test_a_wrong_password_is_reported_and_mended_without_a_restart(
    zk_servers: str, world: World, start_controller, mount
):
    flags = ["--zk-servers", zk_servers, "--zk-acl", "auth::cdrwa"]
    file = mount(user=f"registry:{PASSWORD}") / "user"
    first = start_controller(*flags, "--zk-auth-file", str(file))
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: wrote(first, f"{world.base}/echo"), TIMEOUT)
    first.stop()
    with pytest.raises(NoAuthError):
        world.servers("echo")

    (port,) = free_ports(1)
    mount(user="registry:wrong")
    controller = start_controller(*flags, "--zk-auth-file", str(file), "--bind-address", f"127.0.0.1:{port}")
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: world.synced("echo") == ("False", "RegistryUnavailable"), TIMEOUT)
    (condition,) = [
        condition
        for condition in world.rpcservices()["echo"]["status"]["conditions"]
        if condition["type"] == "Synced"
    ]
    assert "--zk-auth-file" in condition["message"]
    assert "ZooKeeper refuses" in ready(port)
    mount(user=f"registry:{PASSWORD}")
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"), TIMEOUT)
    eventually(lambda: ready(port) == "", TIMEOUT)
    world.zk.add_auth("digest", f"registry:{PASSWORD}")
    assert world.servers("echo") == ["10.0.0.1", "10.0.0.2"]
    assert controller.running


def test_verify_and_purge_take_the_same_flags(
    cluster: LocalCluster, zk_servers: str, world: World, start_controller, user: Path
):
    where = ["--zk-servers", zk_servers, "--cluster-id", f"test-{world.namespace}"]
    access = ["--zk-auth-file", str(user), "--zk-acl", "auth::cdrwa"]
    scope = ["--namespace", world.namespace, "--layout", f"kube2zk={world.base}"]
    controller = start_controller(*where, *access)
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: wrote(controller, f"{world.base}/echo"), TIMEOUT)

    refused = command(cluster, "verify", *where, *scope)
    assert refused.returncode == 2
    assert "--zk-auth-file" in refused.stderr
    looked = command(cluster, "verify", *where, *scope, *access)
    assert looked.returncode == 0
    assert looked.stdout.startswith("in sync: 1 service, 1 znode, 1 pod; cluster ")

    controller.stop()
    lease = ["--lease-namespace", world.namespace]
    refused = command(cluster, "purge", *where, *lease, "--yes")
    assert refused.returncode == 1
    assert "--zk-auth-file" in refused.stderr
    purged = command(cluster, "purge", *where, *lease, *access, "--yes")
    assert purged.returncode == 0, purged.stderr
    world.zk.add_auth("digest", f"registry:{PASSWORD}")
    assert world.zk.get_children(world.base) == []


@pytest.mark.full
def test_certificates_in_a_mounted_secret_are_mended_and_renewed_while_the_controller_runs(
    cluster: LocalCluster, world: World, start_controller, mount, tmp_path_factory: pytest.TempPathFactory
):
    """Those of the CA, of ours, and of the server; its plain port is for the readers."""
    authority, stranger = Authority("the ensemble's CA"), Authority("another CA")
    directory = tmp_path_factory.mktemp("secure")

    def show(certificate: tuple[bytes, bytes]) -> None:
        (directory / "server.pem").write_bytes(b"".join(certificate))

    def secret(ca: Authority) -> Path:
        key, certificate = authority.issue("rpcregistry")
        return mount(**{"ca.crt": ca.pem, "tls.crt": certificate, "tls.key": key})

    show(authority.issue("zookeeper", ["localhost"]))
    (directory / "ca.pem").write_bytes(authority.pem)
    server = Server(directory, tls=tls(directory / "server.pem", directory / "ca.pem", client_auth=True))
    try:
        server.up()
        world.zk = KazooClient(server.address, connection_retry=KazooRetry(max_tries=-1, max_delay=0.5))
        world.zk.start()
        files = secret(stranger)
        access = [
            "--zk-servers", f"localhost:{server.secure_port}", "--zk-tls-ca", str(files / "ca.crt"),
            "--zk-tls-cert", str(files / "tls.crt"), "--zk-tls-key", str(files / "tls.key"),
        ]  # fmt: skip
        (port,) = free_ports(1)
        start_controller(*access, "--bind-address", f"127.0.0.1:{port}")
        world.create_pod("a", "echo", ip="10.0.0.1")
        eventually(lambda: "its certificate is not accepted" in ready(port), TIMEOUT)
        secret(authority)
        eventually(lambda: world.servers("echo") == ["10.0.0.1"], TIMEOUT)
        assert who(world.zk, f"{world.base}/echo") == [("x509", ["ALL"]), READERS]

        secret(authority)  # renewed
        world.create_pod("b", "echo", ip="10.0.0.2")
        eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2"], TIMEOUT)

        show(authority.issue("zookeeper", ["elsewhere"]))
        server.process.restart()
        eventually(lambda: "localhost" in ready(port) and "not accepted" in ready(port), TIMEOUT)
        world.create_pod("c", "echo", ip="10.0.0.3")
        show(authority.issue("zookeeper", ["localhost"]))
        server.process.restart()
        eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2", "10.0.0.3"], TIMEOUT)
        eventually(lambda: ready(port) == "", TIMEOUT)

        scope = [
            "--cluster-id", f"test-{world.namespace}", "--namespace", world.namespace,
            "--layout", f"kube2zk={world.base}",
        ]  # fmt: skip
        looked = command(cluster, "verify", *access, *scope)
        assert looked.returncode == 0
        assert looked.stdout.startswith("in sync: 1 service, 1 znode, 3 pods; cluster ")
        world.zk.stop()
        world.zk.close()
    finally:
        server.process.kill()
