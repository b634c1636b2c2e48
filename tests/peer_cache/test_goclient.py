"""A client that Go's tool chain makes of the proto: it knows nothing else of the peer cache."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hack.local.binaries import go
from peer_cache.entries import Key
from tests.cluster.waiting import eventually

MODULE = Path(__file__).parent / "goclient"
PROTO = Path(__file__).parents[2] / "examples" / "peer-cache" / "peer_cache"
GENERATORS = {
    "go": "google.golang.org/protobuf/cmd/protoc-gen-go",
    "go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
}

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def goclient(tmp_path_factory):
    """Runs the client, made of the proto as it is now; returns what it prints."""
    module = tmp_path_factory.mktemp("go") / "goclient"
    shutil.copytree(MODULE, module)
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}", "sync.proto"]
    build = [go(), "build", "-mod=readonly", "-o"]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}

    def run(command):
        done = subprocess.run(command, cwd=module, env=environment, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        return done.stdout

    for name, package in GENERATORS.items():
        plugin = f"bin/protoc-gen-{name}"
        run([*build, plugin, package])
        protoc += [
            f"--plugin={plugin}",
            f"--{name}_out=.",
            f"--{name}_opt=module=goclient,Msync.proto=goclient/sync",
        ]
    run(protoc)
    run([*build, "bin/goclient", "."])

    def client(node, *words):
        answered = json.loads(run(["bin/goclient", node.address, *words]))
        return {int(type_): values for type_, values in answered.items()}

    return client


def test_it_reads_what_others_set(network, goclient):
    node = network.add()
    node.replica.set({Key(1, "a"): "x", Key(1, "b"): "ü"})
    node.replica.set({Key(2, "c"): ""})
    assert goclient(node, "get", "1") == {1: {"a": "x", "b": "ü"}}
    assert goclient(node, "get", "1", "b") == {1: {"b": "ü"}}
    assert goclient(node, "get-all") == {1: {"a": "x", "b": "ü"}, 2: {"c": ""}}


def test_what_it_sets_is_on_all(network, goclient):
    nodes = [network.add() for _ in range(3)]
    nodes[0].replica.set({Key(1, "a"): "first"})
    assert goclient(nodes[1], "set", "1", "a", "second") == {}
    eventually(lambda: [node.value("a", 1) for node in nodes] == ["second"] * 3)
    assert [goclient(node, "get-all") for node in nodes] == [{1: {"a": "second"}}] * 3
