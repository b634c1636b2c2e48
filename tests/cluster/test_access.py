"""The public command with a ZooKeeper that asks who it is: what it writes, and what others may do."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from controller.layouts import LAYOUTS
from hack.local.cluster import LocalCluster, free_ports
from hack.local.zookeeper import Server
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
    """The server, with a chroot of the test's own: the first who writes there is whose it is."""
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
def mount(tmp_path: Path) -> Callable[[str], Path]:
    """Mounts a Secret as Kubernetes does: a directory a version, and a link that is swapped."""
    versions = iter(range(100))

    def write(content: str) -> Path:
        directory = tmp_path / f"..{next(versions)}"
        directory.mkdir()
        (directory / "user").write_text(content)
        (tmp_path / "new").symlink_to(directory)
        os.replace(tmp_path / "new", tmp_path / "..data")
        file = tmp_path / "user"
        if not file.is_symlink():
            file.symlink_to("..data/user")
        return file

    return write


@pytest.fixture
def user(mount: Callable[[str], Path]) -> Path:
    return mount(f"registry:{PASSWORD}\n")


def everything(zk: KazooClient, path: str) -> Iterator[str]:
    """A znode and all below it."""
    yield path
    for child in zk.get_children(path or "/"):
        yield from everything(zk, f"{path}/{child}")


def who(zk: KazooClient, path: str) -> list[tuple[str, list[str]]]:
    """A znode's ACL: schemes, and what they may do."""
    return [(entry.id.scheme, entry.acl_list) for entry in zk.get_acls(path or "/")[0]]


def wrote(controller: Controller, path: str) -> bool:
    """Whether the controller says that it wrote a znode."""
    return any(line.get("path") == path for line in controller.logged())


def command(cluster: LocalCluster, name: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end."""
    return subprocess.run(
        [sys.executable, "-m", "controller", name, "--kubeconfig", str(cluster.kubeconfig), *flags],
        capture_output=True,
        text=True,
        check=False,
    )


def ready(port: int) -> str:
    """Why the controller is not ready; empty where it is."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10):
            return ""
    except HTTPError as error:
        return error.read().decode()
    except OSError as error:
        return str(error)


@pytest.mark.parametrize(
    ("scheme", "flags", "acl"),
    [
        pytest.param("digest", [], [("digest", ["ALL"]), ("world", ["READ"])], id="digest"),
        pytest.param(
            "sasl", ["--zk-auth-scheme", "sasl"], [("sasl", ["ALL"]), ("world", ["READ"])], id="sasl",
            marks=pytest.mark.full,
        ),
        pytest.param("", [], [("world", ["ALL"])], id="without flags", marks=pytest.mark.full),
    ],
)  # fmt: skip
def test_all_that_is_written_has_the_acl_and_is_read_by_everybody(
    zk_servers: str, world: World, start_controller, user: Path, scheme, flags, acl
):
    layouts = [text for name in LAYOUTS for text in ("--layout", f"{name}=/{name}")]
    credentials = ["--zk-auth-file", str(user), *flags] if scheme else []
    start_controller("--zk-servers", zk_servers, *layouts, *credentials)
    world.create_pod("a", {"serviceName": "echo", "port": 80}, ip="10.0.0.1")
    world.base = "/kube2zk"
    eventually(lambda: world.servers("echo") == ["10.0.0.1"], TIMEOUT)
    eventually(lambda: world.synced("echo") == ("True", "Synced"), TIMEOUT)
    eventually(lambda: world.zk.exists("/rpcregistry/heartbeat"), TIMEOUT)

    paths = set(everything(world.zk, ""))
    assert {f"/{name}/echo" for name in LAYOUTS} <= paths
    assert any(path.startswith("/rpcregistry/fence/") for path in paths)
    assert {path: who(world.zk, path) for path in paths} == dict.fromkeys(paths, acl)


def test_a_secret_stands_in_no_log_event_metric_or_process_list(
    cluster: LocalCluster, zk_servers: str, world: World, start_controller, mount
):
    (port,) = free_ports(1)
    file = mount("registry:wrong-" + PASSWORD)
    controller = start_controller(
        "--zk-servers", zk_servers, "--zk-auth-file", str(file), "--zk-auth-scheme", "sasl",
        "--log-level", "debug", "--bind-address", f"127.0.0.1:{port}",
    )  # fmt: skip
    eventually(lambda: "refuses our credentials" in ready(port), TIMEOUT)
    mount(PASSWORD)  # no user
    eventually(lambda: "credentials kept" in controller.text(), TIMEOUT)
    mount(f"registry:{PASSWORD}")
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo") == ["10.0.0.1"], TIMEOUT)
    eventually(lambda: ready(port) == "", TIMEOUT)

    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    events = cluster.kubectl("get", "events.events.k8s.io", "-n", world.namespace, "-o", "json")
    arguments = Path(f"/proc/{controller.pid}/cmdline").read_text()
    for said in (controller.text(), metrics, events, json.dumps(world.rpcservices()), arguments):
        assert PASSWORD not in said


def test_a_wrong_password_is_told_and_mended_without_a_restart(
    zk_servers: str, world: World, start_controller, mount
):
    flags = ["--zk-servers", zk_servers, "--zk-acl", "auth::cdrwa"]
    file = mount(f"registry:{PASSWORD}")
    first = start_controller(*flags, "--zk-auth-file", str(file))
    world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: wrote(first, f"{world.base}/echo"), TIMEOUT)
    first.stop()
    with pytest.raises(NoAuthError):
        world.servers("echo")

    (port,) = free_ports(1)
    mount("registry:wrong")
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
    mount(f"registry:{PASSWORD}")
    eventually(lambda: world.synced("echo") == ("True", "Synced"), TIMEOUT)
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
    assert (looked.returncode, looked.stdout) == (0, "in sync\n")

    controller.stop()
    lease = ["--lease-namespace", world.namespace]
    refused = command(cluster, "purge", *where, *lease, "--yes")
    assert refused.returncode == 1
    assert "--zk-auth-file" in refused.stderr
    purged = command(cluster, "purge", *where, *lease, *access, "--yes")
    assert purged.returncode == 0, purged.stderr
    world.zk.add_auth("digest", f"registry:{PASSWORD}")
    assert world.zk.get_children(world.base) == []
