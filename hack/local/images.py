"""Container images for real nodes, as files that containerd imports: no registry is asked."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from pathlib import Path

from hack.local.binaries import find, key_of, once

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
# What the pods of examples/ run: here, one small server stands in for each.
TEST_SERVER = "docker.io/library/test-server:1"  # in a manifest: test-server:1
STOOD_IN_FOR = ("registry.k8s.io/pause:3.10", "registry.k8s.io/e2e-test-images/agnhost:2.53")


def test_server() -> Path:
    """The image of ``hack/binaries/test-server``, under the names of what it stands in for, too."""
    program = find("test-server")
    names = (TEST_SERVER, *STOOD_IN_FOR)

    def pack_into(target: Path) -> None:
        (target / "image.tar").write_bytes(archive(program, names))

    return once(f"test-server-image-{key_of(program.parent.name, *names)}", pack_into) / "image.tar"


def archive(program: Path, names: Sequence[str]) -> bytes:
    """An image that has one program and nothing else, in the form of ``docker save``."""
    layer = _tar({program.name: program.read_bytes()}, 0o755)
    config = {
        "architecture": MACHINES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": list(names), "Layers": ["layer.tar"]}]
    return _tar(
        {
            "config.json": json.dumps(config).encode(),
            "layer.tar": layer,
            "manifest.json": json.dumps(manifest).encode(),
        },
        0o644,
    )


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
