"""Container images for real nodes, as files that containerd imports: no image registry is asked.

Their names are those of the manifests, so that these are applied as they are.
"""

import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from hack.local.binaries import HACK, Unavailable, find, key_of, once, run_with_progress, zookeeper_jars

SCRIPTS = HACK / "image"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
LIBRARY = "docker.io/library/"  # what a name without a registry stands for
TEST_SERVER = "test-server:1"
# What the pods of examples/ run: here, the test server stands in for it.
PAUSE = "registry.k8s.io/pause:3.10"
STOOD_IN_FOR = (PAUSE, "registry.k8s.io/e2e-test-images/agnhost:2.53")
MODULES = (
    "java.base,java.logging,java.management,java.naming,java.security.jgss,java.security.sasl,java.xml,"
    "jdk.crypto.ec,jdk.unsupported"
)
ZOO_CFG = b"""
dataDir=/data
dataLogDir=/datalog
clientPort=2181
tickTime=1000
admin.enableServer=false
4lw.commands.whitelist=srvr
"""


def test_server() -> Path:
    """The image of ``hack/binaries/test-server``, under the names of what it stands in for, too."""
    program = find("test-server")
    names = (f"{LIBRARY}{TEST_SERVER}", *STOOD_IN_FOR)

    def pack_into(target: Path) -> None:
        files = {"test-server": program.read_bytes()}
        (target / "image.tar").write_bytes(archive(files, names, ["/test-server"]))

    return once(f"test-server-image-{key_of(program.parent.name, *names)}", pack_into) / "image.tar"


def zookeeper(tag: str) -> Path:
    """ZooKeeper with a Java of its own, which stands in for the official image of a *tag*."""
    if not shutil.which("jlink"):
        raise Unavailable("jlink is not on PATH: install a JDK (17 or newer), which makes ZooKeeper's image")
    jars = zookeeper_jars()
    entrypoint = [
        *("/jre/bin/java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:-UsePerfData"),
        *("-cp", "/jars/*", "org.apache.zookeeper.server.quorum.QuorumPeerMain", "/zoo.cfg"),
    ]

    def pack_into(target: Path) -> None:
        jre = target / "jre"
        link = ["jlink", "--add-modules", MODULES, "--strip-debug", "--no-man-pages", "--output", str(jre)]
        run_with_progress("linking a Java for ZooKeeper", link, target, os.environ)
        parts = [*jre.rglob("*.so"), jre / "bin" / "java"]
        found = subprocess.run(["ldd", *parts], capture_output=True, text=True, check=True).stdout
        libraries = {Path(name) for name in re.findall(r"(/\S+) \(0x", found) if str(jre) not in name}
        files = {
            "zoo.cfg": ZOO_CFG,
            **{str(library)[1:]: library.read_bytes() for library in libraries},
            **{f"jars/{jar.name}": jar.read_bytes() for jar in jars.glob("*.jar")},
            **{str(file.relative_to(target)): file.read_bytes() for file in jre.rglob("*") if file.is_file()},
        }
        shutil.rmtree(jre)
        image = archive(files, [f"{LIBRARY}zookeeper:{tag}"], entrypoint)
        (target / "image.tar").write_bytes(image)

    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    key = key_of(tag, jars.name, java, MODULES, ZOO_CFG.decode(), *entrypoint)
    return once(f"zookeeper-image-{key}", pack_into) / "image.tar"


def unbuildable() -> str | None:
    """Why no image can be built here without reaching an image registry, or None."""
    builder = subprocess.run([SCRIPTS / "builder"], capture_output=True, text=True, check=False)
    if builder.returncode:
        return builder.stderr.strip()
    if "BASE_IMAGE" not in os.environ and not shutil.which("debootstrap"):
        return "no base image: set BASE_IMAGE, or install debootstrap"
    return None


def built(name: str, dockerfile: str, directory: Path) -> Path:
    """The image that a Dockerfile of the repository gives, called *name*: a file in *directory*."""
    file = directory / f"{name.replace(':', '-')}.tar"
    local = f"{name.partition(':')[0]}:nodes-{os.getpid()}"
    base = os.environ.get("BASE_IMAGE") or _output(SCRIPTS / "base")
    _output(SCRIPTS / "build", BASE_IMAGE=base, DOCKERFILE=dockerfile, IMAGE=local, PYTHON=sys.executable)
    _output(SCRIPTS / "save", local, file, f"{LIBRARY}{name}")
    _output(*_output(SCRIPTS / "builder").split(), "rmi", local)
    return file


def _output(*command: str | Path, **variables: str) -> str:
    environment = {**os.environ, **variables}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def archive(files: Mapping[str, bytes], names: Sequence[str], entrypoint: Sequence[str]) -> bytes:
    """An image of these files, all of them executable, in the form of ``docker save``."""
    layer = _tar(files, 0o755)
    config = {
        "architecture": MACHINES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": entrypoint},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"]}]
    parts = {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    return _tar({**parts, "layer.tar": layer}, 0o644)


def _tar(files: Mapping[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
