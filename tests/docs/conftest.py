"""The playground that ``make up`` leaves running, for what pages show."""

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hack.playground import Playground
from tests.cluster.waiting import eventually
from tests.pages import TOP

KINDS = "deployments,pods,rpcservices,localservices,services"
NAMESPACES = "custom-columns=NAMESPACE:.metadata.namespace"
OURS = ("crds", "deploy", "docs", "examples")


@pytest.fixture(scope="session")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """The playground, up and running."""
    playground = Playground(tmp_path_factory.mktemp("playground"))
    try:
        with pytest.MonkeyPatch.context() as patch:  # other tests have theirs before the last page
            for name in filter(is_ours, [*os.environ]):
                patch.delenv(name)
            playground.up(lambda _: None)
        yield playground
    finally:
        playground.down()


def is_ours(variable: str) -> bool:
    """Whether it is one of the product's: a person has none at first."""
    return variable.startswith("RPCREGISTRY_")


@pytest.fixture
def folder(tmp_path: Path, playground: Playground) -> Path:
    """A copy of what commands name of this repository, and ``.local/env``, as ``make up`` writes it."""
    for name in OURS:
        shutil.copytree(TOP / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "cluster").symlink_to(playground.cluster.directory)
    playground.write_env(tmp_path / ".local" / "env")
    return tmp_path


@pytest.fixture
def environment(playground: Playground, folder: Path) -> Iterator[Mapping[str, str]]:
    """A person's environment; what was made is deleted at the end, and what runs is stopped."""
    kubectl = playground.cluster.kubectl
    kept = kubectl("get", KINDS, "-o", "name").split()
    mine = {name: value for name, value in os.environ.items() if not is_ours(name)}
    yield {**mine, "BROWSER": "true", "HOME": str(folder)}
    if zookeeper := playground.cluster.process("zookeeper").pid:
        os.kill(zookeeper, signal.SIGCONT)  # a page that failed may have left it stopped
    made = set(kubectl("get", KINDS, "-o", "name").split()) - set(kept)
    if made:
        kubectl("delete", "--ignore-not-found", "--wait=true", *sorted(made))
    # A page may have installed it in another namespace, whose account has the rights since then.
    kubectl("apply", "-f", str(TOP / "examples" / "controller.yaml"))
    for namespace in set(kubectl("get", "deployments", "-A", "--no-headers", "-o", NAMESPACES).split()):
        kubectl("-n", namespace, "scale", "deployment", "--all", "--replicas=0")
    eventually(lambda: not kubectl("get", "pods,rpcservices", "-A", "-o", "name"))
