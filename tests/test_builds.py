"""What the first hour shows: which programs are built, whose build is waited for, and what is installed."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hack.local import binaries
from tests.cluster.waiting import eventually

TOP = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rpcregistry"


def test_who_waits_for_another_build_hears_whose_it_is_and_how_long(capfd: pytest.CaptureFixture[str]):
    begun, go_on = threading.Event(), threading.Event()

    def build_into(_: Path) -> None:
        begun.set()
        go_on.wait()

    builds = [threading.Thread(target=binaries.once, args=("a", build_into), daemon=True) for _ in "12"]
    said = ""

    def waiting() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "waiting for another build of a (" in said

    for build in builds:
        build.start()
        assert begun.wait(5)
    eventually(waiting)
    go_on.set()
    for build in builds:
        build.join()
    assert f"'s process {os.getpid()}, for " in said


def test_the_second_of_two_builds_finds_the_first_ones(cache: Path):
    made = []
    for _ in range(2):
        binaries.once("a", lambda folder: made.append(folder))
    assert len(made) == 1
    assert (cache / "a").is_dir()


def test_what_has_to_be_built_is_known_before(monkeypatch: pytest.MonkeyPatch, cache: Path):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    assert binaries.unbuilt(["zookeeper", "etcd", "kwok"]) == ["etcd", "kwok"]
    (cache / binaries._key("etcd")).mkdir(parents=True)
    assert binaries.unbuilt(["etcd", "kwok"]) == ["kwok"]


@pytest.mark.parametrize("target", ["demo", "up", "down"])
def test_a_playground_installs_nothing_of_the_developers(target: str, tmp_path: Path):
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(TOP / name, tmp_path)
    (tmp_path / "hack" / "local").mkdir(parents=True)
    shutil.copy(TOP / "hack" / "local" / "requirements.lock", tmp_path / "hack" / "local")
    planned = subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "hack/install.py requirements.lock hack/local/requirements.lock" in planned.stdout
    assert "requirements-dev.lock" not in planned.stdout


def test_an_installation_that_fails_says_why(tmp_path: Path):
    lock = tmp_path / "lock"
    lock.write_text("nothing-is-called-so==1 --hash=sha256:" + 64 * "0" + "\n")
    line = [sys.executable, str(TOP / "hack" / "install.py"), str(lock)]
    offline = {**os.environ, "PIP_NO_INDEX": "1"}
    done = subprocess.run(line, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nothing-is-called-so" in done.stdout
