"""Real clients, without credentials, in a registry that only the controller may write."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from hack.clients.build import zkcli
from hack.clients.zkcli import CommandLine
from hack.local.zookeeper import Server
from tests.clients.journeys import SERVICE, base, entry, layout_flags
from tests.clients.readers import DUBBO, FULL, PATIENCE, SMOKE, SOFA, ZKCLI, Reader, lists, parameters
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("zookeeper"))
    server.up()
    yield server
    server.process.kill()


@pytest.fixture
def zk(server: Server) -> Iterator[KazooClient]:
    client = KazooClient(server.address)
    client.start(PATIENCE)
    yield client
    client.stop()
    client.close()


@pytest.mark.parametrize("reader", parameters(SMOKE[:1], (*SMOKE[1:], *FULL, ZKCLI)))
def test_a_client_without_credentials_lists_the_endpoints(
    reader: Reader,
    server: Server,
    world: World,
    start_controller: Callable[..., object],
    start_watcher,
    tmp_path: Path,
):
    user = tmp_path / "user"
    user.write_text("rpcregistry:s3cret")
    access = ["--zk-servers", server.address, "--zk-auth-file", str(user)]
    if reader in (DUBBO, SOFA):  # whose consumers register themselves
        access += ["--zk-acl", "auth::cdrwa,world:anyone:cr"]
    start_controller(*layout_flags(world, reader), *access)
    a, b = (reader.address(f"172.16.0.{number}", 8080) for number in (1, 2))
    world.create_pod("a", entry(), ip="172.16.0.1")
    directory = f"{base(world, reader.layout)}/{SERVICE}"
    eventually(lambda: world.zk.exists(directory), PATIENCE)
    with pytest.raises(NoAuthError):
        world.zk.set(directory, b"mine")

    watcher = start_watcher(
        reader.client, "watch", server.address, *reader.follow(base(world, reader.layout), SERVICE)
    )
    eventually(lambda: lists(watcher, a), PATIENCE)
    world.create_pod("b", entry(), ip="172.16.0.2")
    eventually(lambda: lists(watcher, a, b), PATIENCE)
    assert watcher.errors() == []


@pytest.mark.full
def test_a_registry_that_was_open_is_closed_by_the_commands_of_the_readme(
    server: Server, world: World, start_controller: Callable[..., Controller], tmp_path: Path
):
    servers = f"{server.address}/{world.namespace}"  # with a ledger of its own
    controller = start_controller("--zk-servers", servers)
    world.create_pod("a", entry(), ip="172.16.0.1")
    base_path, directory = world.base, f"/{world.namespace}{world.base}"
    eventually(lambda: world.zk.exists(f"{directory}/{SERVICE}"), PATIENCE)
    controller.stop()

    own(servers, base_path, "s3cret")
    for change in (
        world.zk.delete,
        lambda path: world.zk.set(path, b""),
        lambda path: world.zk.create(f"{path}/a"),
    ):
        with pytest.raises(NoAuthError):
            change(f"{directory}/{SERVICE}")

    user = tmp_path / "user"
    user.write_text("rpcregistry:s3cret")
    changed = start_controller("--zk-servers", servers, "--zk-auth-file", str(user))
    world.create_pod("b", entry(), ip="172.16.0.2")
    world.base = directory
    eventually(lambda: world.servers(SERVICE) == ["172.16.0.1", "172.16.0.2"], PATIENCE)

    # The password has leaked.
    own(servers, base_path, "s3cret", "fresh")
    world.create_pod("c", entry(serviceName="made-between"), ip="172.16.0.3")
    eventually(lambda: world.servers("made-between") == ["172.16.0.3"], PATIENCE)
    user.write_text("rpcregistry:fresh")
    eventually(lambda: changed.text().count("zookeeper connected") == 2, PATIENCE)
    own(servers, base_path, "s3cret", "fresh")
    own(servers, base_path, "fresh")
    world.create_pod("d", entry(serviceName="made-between"), ip="172.16.0.4")
    eventually(lambda: world.servers("made-between") == ["172.16.0.3", "172.16.0.4"], PATIENCE)
    world.zk.add_auth("digest", "rpcregistry:s3cret")
    for service in (SERVICE, "made-between"):
        with pytest.raises(NoAuthError):
            world.zk.set(f"{directory}/{service}", b"")


def own(servers: str, base: str, *passwords: str) -> None:
    """Type what the page shows: znodes belong to the user with each of *passwords*."""
    line = CommandLine([*zkcli(), "-server", servers])
    try:
        for password in passwords:
            line.ask("addauth", "digest", f"rpcregistry:{password}")
        for path in (base, "/rpcregistry"):
            line.ask("setAcl", "-R", path, "auth::cdrwa,world:anyone:r")
    finally:
        line.close()
