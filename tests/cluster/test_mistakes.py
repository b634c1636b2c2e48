"""A mistake in the flags, made at a restart: nothing is withdrawn, and once it is mended all goes on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hack.local.cluster import free_ports
from tests.cluster.layouts import ALL, contents, drift, flags, holds, serve
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World, reconciled

ONE, TWO, THREE = "172.16.0.1", "172.16.0.2", "172.16.0.3"
QUICK = ("--guard-confirm", "1s", "--compare-period", "1s", "--resync-period", "1s")


@pytest.fixture
def published(world: World, start_controller: Callable[..., Controller]) -> Controller:
    """Two pods in every layout, and no controller that runs any more."""
    controller = start_controller(*flags(world, *ALL), *QUICK)
    serve(world, "a", ONE)
    serve(world, "b", TWO)
    eventually(lambda: holds(world, ONE, TWO))
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    assert controller.stop() == 0
    return controller


def anything(_: str) -> bool:
    return True


@pytest.mark.full
@pytest.mark.parametrize(
    ("mistake", "scope", "is_left_out"),
    [
        pytest.param(lambda world: flags(world, *ALL), "typo", anything, id="a typo in the namespace"),
        pytest.param(
            lambda world: flags(world, "kube2zk"),
            None,
            lambda path: "/kube2zk" not in path,
            id="all layouts but one are lost",
        ),
        pytest.param(
            lambda world: flags(world, *ALL[1:]),
            None,
            lambda path: "/kube2zk" in path,
            id="one layout is lost",
        ),
        pytest.param(
            lambda world: ["--zkpath", f"{world.base}/typo"], None, anything, id="a typo in --zkpath"
        ),
        pytest.param(
            lambda world: [*flags(world, *ALL), "--controllers", "registry"],
            None,
            anything,
            id="a controller is lost",
        ),
        pytest.param(
            lambda world: [*flags(world, *ALL), "--controllers", "rpcservice,localservice"],
            None,
            anything,
            id="the registry controller is lost",
        ),
    ],
)
def test_a_mistake_at_a_restart_withdraws_nothing_of_what_it_leaves_out(
    cluster: Any,
    world: World,
    start_controller: Callable[..., Controller],
    published: Controller,
    mistake: Callable[[World], Sequence[str]],
    scope: str | None,
    is_left_out: Callable[[str], bool],
):
    before = contents(world)
    (port,) = free_ports(1)
    wrong = start_controller(*mistake(world), *QUICK, "--bind-address", f"127.0.0.1:{port}", only=scope)
    eventually(lambda: reconciled(port))
    world.delete_pod("b")
    serve(world, "c", THREE)
    several = reconciled(port) + 5
    eventually(lambda: reconciled(port) > several)
    assert wrong.stop() == 0
    left_out = {path for path in before if is_left_out(path)}
    assert left_out
    assert {path: before[path] for path in left_out}.items() <= contents(world).items()

    published.start()
    eventually(lambda: holds(world, ONE, THREE), timeout=60)


def test_a_layout_whose_template_is_lost_is_bad_configuration(
    world: World, start_controller: Callable[..., Controller]
):
    refused = start_controller("--layout", f"nerve={world.base}/nerve", wait=False)

    assert refused.wait(60) == 2
    assert "there is no layout 'nerve'" in refused.text()


@pytest.mark.full
def test_a_template_that_names_znodes_otherwise_replaces_them(
    cluster: Any,
    world: World,
    start_controller: Callable[..., Controller],
    tmp_path: Path,
):
    def template(name: str) -> list[str]:
        file = tmp_path / "mine.yaml"
        file.write_text(f'name: "{name}"\ndata: "${{address}}"\n')
        return ["--template", f"mine={file}", "--layout", f"mine={world.base}/mine"]

    serve(world, "a", ONE)
    controller = start_controller(*template("${pod}-${id}"))
    eventually(lambda: holds(world, ONE, layouts=("mine",)))
    controller.stop()
    start_controller(*template("other-${pod}-${id}"))
    eventually(lambda: any("/other-a-" in path for path in contents(world)))
    eventually(lambda: holds(world, ONE, layouts=("mine",)))
    assert drift(cluster, world, "kube2zk") >= {("mine", "left")}
