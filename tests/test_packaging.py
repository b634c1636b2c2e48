"""What is built of this folder, and what a program gets that installs it; nothing is fetched."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "controller" / "rpcregistry"
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "*.egg-info")
CONTROLLERS_ONLY = {"click", "kazoo", "kubernetes", "prometheus-client", "pyyaml", "rich", "structlog"}


def run(*command: object, cwd: Path = ROOT, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run *command* with nothing of this process's environment, so that no path leads back to this folder."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env={"PATH": os.defpath}, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """What the distribution *name* requires here, with *extras*."""
    if name == "rpcregistry":  # what is installed of it may be older than this folder
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        yield from map(Requirement, project["dependencies"])
        for extra in extras:
            yield from map(Requirement, project["optional-dependencies"][extra])
        return
    for requirement in map(Requirement, requires(name) or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def needed(*extras: str) -> set[str]:
    """The names of all distributions that rpcregistry comes with, with *extras*."""
    found = {("rpcregistry", frozenset(extras))}
    new = found
    while new:
        new = {
            (str(canonicalize_name(requirement.name)), frozenset(requirement.extras))
            for name, asked in new
            for requirement in requirements(name, asked)
        } - found
        found |= new
    return {name for name, _ in found} - {"rpcregistry"}


def pinned(file: str) -> set[str]:
    """What a lock file has, as ``name==version``."""
    return set(re.findall(r"^\S+==\S+", (ROOT / file).read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    copy = shutil.copytree(ROOT, folder / "copy", ignore=NOT_SOURCE)
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, folder, cwd=copy)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel, built of the source distribution as the Dockerfile builds it."""
    pip = (sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", sdist.parent, sdist)
    (built,) = sdist.parent.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and its base dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    interpreter = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", interpreter, "install", "--no-index", "--no-deps")
    run(*pip, wheel)
    (site,) = folder.glob("lib/python3*/site-packages")
    for name in needed():
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
            (site / top).symlink_to(installed.locate_file(top))
    return interpreter


def test_images_are_made_of_one_base_which_its_digest_names():
    files = [ROOT / "Dockerfile", ROOT / "examples" / "peer-cache" / "Dockerfile"]
    bases = {
        base
        for file in files
        for base in re.findall(r"^ARG BASE_IMAGE=(.*)$", file.read_text(), re.MULTILINE)
    }
    (base,) = bases
    assert re.fullmatch(r"[a-z]+:[0-9a-z.-]+@sha256:[0-9a-f]{64}", base)


def test_the_source_distribution_has_what_a_build_needs_and_no_tests(sdist: Path):
    ours = {"MANIFEST.in", "README.md", "controller", "pyproject.toml"}
    assert {path.name for path in sdist.iterdir()} == ours | {"PKG-INFO", "setup.cfg"}


def test_the_wheel_holds_the_package_alone(wheel: Path):
    source = {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    with zipfile.ZipFile(wheel) as opened:
        files = {name for name in opened.namelist() if ".dist-info/" not in name}
    assert files == source
    assert "rpcregistry/py.typed" in files


def test_a_program_has_a_package_called_controller_beside_it(python: Path, tmp_path: Path):
    (tmp_path / "controller").mkdir()
    (tmp_path / "controller" / "__init__.py").write_text("whose = 'the application'")
    (tmp_path / "application.py").write_text(
        "import controller\n"
        "from rpcregistry import Failure, Registry, Service\n"
        "print(controller.whose, Service(name='echo', port=8080).name, Registry.__module__)\n"
    )
    done = run(python, "application.py", cwd=tmp_path)
    assert done.stdout.split("\n") == ["the application echo rpcregistry.sdk.registry", ""]


def test_an_rpc_process_needs_nothing_of_the_controllers():
    assert needed().isdisjoint(CONTROLLERS_ONLY)
    assert needed("controller") > CONTROLLERS_ONLY


@pytest.mark.parametrize("command", [("-m", "rpcregistry"), ("-m", "rpcregistry", "verify", "--help")])
def test_the_command_says_which_extra_it_needs(python: Path, command: tuple[str, ...]):
    done = run(python, *command, code=2)
    assert done.stdout == ""
    assert done.stderr == (
        'rpcregistry: the command needs the extra "controller" (there is no module click):'
        ' pip install "rpcregistry[controller]"\n'
    )


def test_the_script_says_so_too(python: Path):
    assert run(python.parent / "rpcregistry", code=2).stderr.count("\n") == 1


def test_a_kubeconfig_needs_an_extra(python: Path, tmp_path: Path):
    code = (
        "from rpcregistry import Misconfigured, Registry\n"
        "try:\n"
        "    Registry.from_kubeconfig('kubeconfig', namespace='default', pod_name='p')\n"
        "except Misconfigured as error:\n"
        "    print(error)\n"
    )
    assert run(python, "-c", code, cwd=tmp_path).stdout == (
        'cannot connect to a cluster with kubeconfig: to read it takes the extra "kubeconfig" (there is no'
        ' module kubernetes): pip install "rpcregistry[kubeconfig]"\n'
    )


@pytest.mark.parametrize(
    ("file", "extra"),
    [
        pytest.param("requirements.lock", "controller", id="controller"),
        pytest.param("examples/peer-cache/requirements.lock", "peer-cache", id="peer-cache"),
    ],
)
def test_an_image_holds_what_its_extra_needs_in_the_versions_that_are_tested(file: str, extra: str):
    assert {line.partition("==")[0] for line in pinned(file)} == needed(extra)
    assert pinned(file) <= pinned("requirements-dev.lock")


def test_a_playground_has_versions_that_are_tested():
    assert pinned("hack/local/requirements.lock") <= pinned("requirements-dev.lock")


def test_developers_have_all_that_is_needed():
    assert {line.partition("==")[0] for line in pinned("requirements-dev.lock")} >= needed("dev")
