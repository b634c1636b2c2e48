"""Builds the watchers once, into the user's cache directory, under a key of all their sources."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from hack.local.binaries import (
    HACK,
    Unavailable,
    debian,
    go,
    go_version,
    key_of,
    once,
    run_with_progress,
    texts,
)

CLIENTS = HACK / "clients"
JAVA_FLAGS = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true")
# Dubbo's and SOFARPC's serializers reach into the JDK.
OPENED = tuple(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "math", "util"))

JAVA_CLIENTS = ("curator", "spring-cloud", "dubbo", "finagle", "sofa", "armeria", "d2", "motan", "vertx")
ALL = ("go-kit", *JAVA_CLIENTS, "zkcli", "serverset_sd", "nerve_sd")


def command(client: str) -> list[str]:
    """The command that runs a watcher, built first if needed; raises ``Unavailable``."""
    match client:
        case "go-kit" | "kube2zk" | "least":
            return [str(_go_build(client) / client)]
        case "zkcli":
            return [sys.executable, "-m", "hack.clients.zkcli", *zkcli()]
        case "kratos":
            return [sys.executable, "-m", "hack.clients.kratos"]
        case "serverset_sd" | "nerve_sd":
            return [sys.executable, "-m", "hack.clients.prometheus", prometheus(), client]
    return _java(client)


def zkcli() -> list[str]:
    """ZooKeeper's own command line."""
    return [*_java_command(), "-cp", f"{_jars('zkcli')}/*", "org.apache.zookeeper.ZooKeeperMain"]


def prometheus() -> str:
    """Prometheus: the one on PATH, else Debian's package, unpacked but not installed."""
    return _of_prometheus("prometheus")


def promtool() -> str:
    """The program that checks rules for Prometheus, from the same place."""
    return _of_prometheus("promtool")


def _of_prometheus(program: str) -> str:
    found = shutil.which(program)
    if found:
        return found
    return str(debian("prometheus") / "usr" / "bin" / program)


def _go_build(client: str) -> Path:
    module = CLIENTS / client

    def compile_into(target: Path) -> None:
        build = [go(), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(target / client), "."]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
        run_with_progress(f"building {client}", build, module, environment)

    machine = f"{platform.system()} {platform.machine()}"
    return once(f"client-{client}-{key_of(machine, go_version(), *texts(module))}", compile_into)


def _java(client: str) -> list[str]:
    jars = _jars(client)
    sources = [*sorted((CLIENTS / client).glob("*.java")), *sorted((CLIENTS / "java").glob("*.java"))]

    def compile_into(target: Path) -> None:
        build = ["javac", "-nowarn", "-cp", f"{jars}/*", "-d", str(target), *map(str, sources)]
        run_with_progress(f"compiling {client}", build, CLIENTS, os.environ)

    texts = [source.read_text() for source in sources]
    classes = once(f"client-{client}-{key_of(_javac_version(), jars.name, *texts)}", compile_into)
    return [*_java_command(), "-cp", f"{classes}:{jars}/*", "watcher.Client"]


def _java_command() -> list[str]:
    return ["java", *JAVA_FLAGS, *OPENED, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]


def _jars(client: str) -> Path:
    pom = CLIENTS / client / "pom.xml"

    def fetch_into(target: Path) -> None:
        maven = shutil.which("mvn")
        if not maven:
            raise Unavailable(f"mvn is not on PATH: install Maven, which fetches {client}'s jars")
        fetch = [maven, "-B", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        run_with_progress(f"fetching {client}", [*fetch, f"-DoutputDirectory={target}"], CLIENTS, os.environ)

    return once(f"jars-{client}-{key_of(*(p.read_text() for p in (pom, CLIENTS / 'pom.xml')))}", fetch_into)


def _javac_version() -> str:
    version = _output("javac", "-version")
    if not version:
        raise Unavailable("javac is not on PATH: install a JDK (17 or newer), which compiles the watchers")
    return version


def _output(*line: str) -> str:
    """The output of a program; empty if it is missing or fails."""
    if not shutil.which(line[0]):
        return ""
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout
