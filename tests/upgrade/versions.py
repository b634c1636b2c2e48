"""Released versions, each as its commit had it: the wheel, the CRDs and the examples, kept in the cache."""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from hack.local.binaries import once
from tests.faults.harness.ground import TOP
from tests.faults.harness.stand import Package

COMMITS = {"0.1.0": "8648242"}  # version: commit, oldest first
RECORDED = Path(__file__).parent


def checkout(version: str) -> Path:
    """A folder with the version's installed package, ``crds`` and ``examples``; built once."""
    commit = COMMITS[version]

    def build_into(target: Path) -> None:
        archive = subprocess.run(
            ["git", "-C", str(TOP), "archive", "--format=tar", commit], capture_output=True, check=False
        )
        if archive.returncode:
            said = archive.stderr.decode().strip()
            raise AssertionError(f"the clone lacks the commit of {version}; git fetch --unshallow: {said}")
        with tempfile.TemporaryDirectory() as directory:
            with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
                tar.extractall(directory, filter="data")
            wheels = Path(directory) / "wheels"
            subprocess.run(
                [
                    sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
                    "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), directory,
                ],
                check=True,
            )  # fmt: skip
            (wheel,) = wheels.glob("*.whl")
            with zipfile.ZipFile(wheel) as content:
                content.extractall(target)
            for folder in ("crds", "examples"):
                (Path(directory) / folder).rename(target / folder)

    return once(f"version-{version}-{commit}", build_into)


def package(version: str) -> Package:
    """The import package of a version's wheel."""
    folder = checkout(version)
    name = "rpcregistry" if (folder / "rpcregistry").exists() else "controller"
    return Package(name, folder)
