"""One journey on each version that docs/versions.md calls tested: Kubernetes, ZooKeeper and Python."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.local.binaries import key_of, once, run_with_progress
from hack.local.zookeeper import Server
from tests.cluster.waiting import TO_START, eventually
from tests.cluster.world import World
from tests.faults.harness.ground import Ground
from tests.faults.harness.stand import Servers, Stand
from tests.pages import TOP, Page

PAGE = Page("docs/versions.md")
KUBERNETES = ("1.35", "1.34")
ZOOKEEPER = ("3.4.14", "3.5.10", "3.6.4", "3.7.2", "3.8.4")
PYTHON = ("3.12", "3.13")


def journey(stand: Stand, world: World, *wrap: str) -> None:
    """Pods come, move and go, also while no controller runs; the judge says whether all was right."""
    controller = stand.start(wrap=wrap)
    eventually(controller.leads, TO_START)
    for number in (1, 2, 3):
        world.create_pod(f"p{number}", "echo", ip=f"10.0.0.{number}", labels={"app": "app"})
    world.create_node(f"node-of-{world.namespace}")
    world.create_localservice()
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"), TO_START)
    eventually(lambda: world.serves(f"node-of-{world.namespace}"))
    world.set_status("p1", "10.0.0.4")
    world.set_status("p2", "10.0.0.2", ready=False)
    eventually(lambda: world.servers("echo") == ["10.0.0.3", "10.0.0.4"])

    assert controller.stop() == 0
    world.delete_pod("p3")
    controller.start()
    eventually(lambda: world.servers("echo") == ["10.0.0.4"], TO_START)
    world.zk.set(f"{world.base}/echo", b'{"config":[],"servers":["10.9.9.9"]}')
    eventually(lambda: world.servers("echo") == ["10.0.0.4"])


class TestKubernetes:
    """API servers that behave as an older one; the built one runs all suites."""

    @pytest.fixture(scope="class", params=KUBERNETES)
    @classmethod
    def ground(
        cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Ground]:
        flags = (f"--emulated-version={request.param}",)
        with Ground(tmp_path_factory.mktemp("emulated"), apiserver_flags=flags) as made:
            served = json.loads(made.cluster.kubectl("get", "--raw", "/version"))
            assert f"{served['emulationMajor']}.{served['emulationMinor']}" == request.param
            yield made

    @pytest.mark.deep
    def test_a_journey(self, stand: Stand, world: World):
        journey(stand, world)


class TestZooKeeper:
    """Servers of each minor version before the one that runs all suites."""

    @pytest.fixture(params=ZOOKEEPER)
    def version(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def zookeeper(self, version: str, tmp_path: Path) -> Iterator[Servers]:
        server = Server(tmp_path / "zookeeper", version=version)
        try:
            server.up()
            yield Servers(server.address, [server.data])
        finally:
            server.process.kill()

    @pytest.mark.deep
    def test_a_journey(self, version: str, stand: Stand, world: World):
        assert ".".join(map(str, world.zk.server_version())) == version
        journey(stand, world)


class TestPython:
    """Interpreters besides the one that runs all suites, where the machine has them."""

    @pytest.mark.deep
    @pytest.mark.parametrize("version", PYTHON)
    def test_a_journey(self, version: str, stand: Stand, world: World):
        # The harness's command begins with its own interpreter: this one takes its place.
        journey(stand, world, "sh", "-c", 'shift; exec "$0" "$@"', str(interpreter(version)))


def interpreter(version: str) -> Path:
    """A Python of that version with what the controller needs; skips the test where the machine has none."""
    roots = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    # pyenv's own first: what it has on PATH works only for a version that is switched on.
    found = [*roots.glob(f"{version}.*/bin"), *map(Path, os.environ["PATH"].split(os.pathsep))]
    python = next((path / f"python{version}" for path in found if (path / f"python{version}").exists()), None)
    if python is None:
        pytest.skip(f"python{version} is not on PATH")
    lock = TOP / "requirements.lock"

    def install_into(target: Path) -> None:
        run_with_progress(
            f"making an environment of Python {version}",
            [str(python), "-m", "venv", str(target)],
            TOP,
            os.environ,
        )
        pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--require-hashes", "-r", str(lock)]
        run_with_progress(f"installing for Python {version}", pip, TOP, os.environ)
        # The code is this checkout's, found by PYTHONPATH; it asks for its own version.
        (site,) = target.glob("lib/python*/site-packages")
        (site / "rpcregistry-0.dist-info").mkdir()
        (site / "rpcregistry-0.dist-info" / "METADATA").write_text("Name: rpcregistry\nVersion: 0\n")

    return once(f"python-{version}-{key_of(str(python), lock.read_text())}", install_into) / "bin" / "python"


# The page says no more than that.


@pytest.mark.parametrize(
    ("heading", "tested"),
    [("Kubernetes", KUBERNETES), ("ZooKeeper", ZOOKEEPER), ("Python", PYTHON)],
)
def test_the_page_calls_tested_what_is_tested_here(heading: str, tested: tuple[str, ...]):
    named = PAGE.first_column(heading)
    assert named[0].startswith(built()[heading])
    assert tuple(named[1 : len(tested) + 1]) == tested
    assert "not tested" not in PAGE.text(heading) or heading == "Kubernetes"


def built() -> dict[str, str]:
    """What runs all suites."""
    modules = (TOP / "hack" / "binaries" / "kubernetes" / "go.mod").read_text()
    pom = (TOP / "hack" / "zookeeper" / "pom.xml").read_text()
    return {
        "Kubernetes": modules.partition("k8s.io/kubernetes v")[2].split()[0],
        "ZooKeeper": pom.partition("<artifactId>zookeeper</artifactId>\n      <version>")[2].partition("<")[
            0
        ],
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
