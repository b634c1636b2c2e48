"""The image that the Dockerfile gives, run as the manifest says."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hack.local.cluster import LocalCluster
from tests.cluster.test_deployment import IMAGE, NO_MOUNTS, Root, entering, missing, output
from tests.cluster.waiting import eventually
from tests.peer_cache.fleet import CONTAINER, PATIENCE, TEMPLATE, Fleet

pytestmark = [
    pytest.mark.full,
    pytest.mark.needs_root,
    pytest.mark.skipif(bool(NO_MOUNTS), reason=str(NO_MOUNTS)),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    if reason := missing():
        pytest.skip(reason)
    image = output(
        IMAGE / "build",
        BASE_IMAGE=os.environ.get("BASE_IMAGE") or output(IMAGE / "base"),
        DOCKERFILE="examples/peer-cache/Dockerfile",
        IMAGE="peer-cache:test",
        PYTHON=sys.executable,
    )
    path = tmp_path_factory.mktemp("image")
    yield Root(path, (), json.loads(output(IMAGE / "unpack", image, path))["config"])
    shutil.rmtree(path)
    output(*output(IMAGE / "builder").split(), "rmi", image)


def test_the_image_does_the_whole_job(
    cluster: LocalCluster, fleet: Fleet, root: Root, tmp_path: Path
) -> None:
    (peer,) = fleet.start_ready(1)
    peer.put(1, a="x")
    pod, server = fleet.add_pod(), urlsplit(cluster.server)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "namespace").write_text(pod.variables["POD_NAMESPACE"])
    (secrets / "token").write_text(pod.token)
    shutil.copy(cluster.ca_file, secrets)
    variables = {
        **pod.variables,
        "KUBERNETES_SERVICE_HOST": server.hostname,
        "KUBERNETES_SERVICE_PORT": server.port,
    }
    command = [
        *("env", "-i", *root.config["Env"], *(f"{name}={value}" for name, value in variables.items())),
        *(*root.config["Entrypoint"], *fleet.flags(pod)),
    ]
    context = TEMPLATE["spec"]["securityContext"] | CONTAINER["securityContext"]
    script = entering(root, secrets, context, command)
    entered = ["setpriv", "--no-new-privs", "unshare", "--mount", "sh", "-c", script]
    process = fleet.run(pod, entered, os.environ)
    eventually(process.ready, PATIENCE)
    assert process.get(1) == {"a": "x"}
    process.put(1, b="y")
    eventually(lambda: peer.get(1) == {"a": "x", "b": "y"}, PATIENCE)
