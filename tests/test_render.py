"""What ``render`` and ``run --dry-run`` say, which change nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from rpcregistry.cli import run_command
from rpcregistry.manifests import RPCSERVICES, made
from rpcregistry.model import ObjectKey, RpcService
from rpcregistry.plan.ops import Create, Delete, Set, Znode
from rpcregistry.reconcile import observing
from rpcregistry.run.dryrun import Diff, DryRunKube, DryRunZooKeeper
from tests.worlds import Held, ZooKeeperInMemory

POD = """
kind: Pod
metadata:
  name: p
  labels: {rpc-service: "true"}
  annotations: {rpc-service: '[{"serviceName": "echo"}]'}
"""
DEPLOYMENT = """
kind: Deployment
metadata: {name: d, namespace: shop}
spec:
  replicas: REPLICAS
  template:
    metadata:
      labels: {rpc-service: "true"}
      annotations: {rpc-service: '[{"serviceName": "echo", "port": 80}, {"serviceName": "cart"}]'}
"""


def render(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], *manifests: str, flags: Sequence[str] = ()
) -> tuple[int, list[Any], str]:
    """The exit code, the documents printed, and what was said on standard error."""
    file = tmp_path / "manifests.yaml"
    file.write_text("---".join(manifests))
    try:
        code = run_command(["render", *flags, str(file)])
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capfd.readouterr()
    return code, list(yaml.safe_load_all(out)), err


def test_a_workload_stands_for_its_replicas(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    code, (cart, echo, last), err = render(tmp_path, capfd, DEPLOYMENT.replace("REPLICAS", "2"))

    assert (code, err) == (0, "")
    assert [service["metadata"] for service in (cart, echo)] == [
        {"name": "cart", "namespace": "shop"},
        {"name": "echo", "namespace": "shop"},
    ]
    assert [row["port"] for row in echo["status"]["endpoints"]] == [80, 80]
    servers = {path: json.loads(data)["servers"] for path, data in last["znodes"].items()}
    assert servers == {path: ["192.0.2.1", "192.0.2.2"] for path in ("/rpc_v2/cart", "/rpc_v2/echo")}


def test_each_of_many_replicas_has_an_address(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    code, documents, _ = render(tmp_path, capfd, DEPLOYMENT.replace("REPLICAS", "300"))

    assert code == 0
    assert len(json.loads(documents[-1]["znodes"]["/rpc_v2/echo"])["servers"]) == 300


def test_an_rpcservice_as_a_cluster_prints_it_is_taken_for_declared(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    printed = """
kind: RpcService
metadata: {name: echo, labels: {app.kubernetes.io/managed-by: rpcregistry}}
spec: {serviceName: echo}
"""
    code, documents, _ = render(tmp_path, capfd, printed)

    assert (code, documents[0]["status"]["ready"], documents[-1]) == (0, "0/0", {"znodes": {}})


def test_each_layout_and_template_shows_what_it_would_hold(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    template = tmp_path / "mine.yaml"
    template.write_text("name: ${id}\ndata: ${address}\n")
    flags = [f"--template=mine={template}", "--layout=mine=/mine", "--layout=dubbo=/dubbo"]
    code, documents, err = render(tmp_path, capfd, DEPLOYMENT.replace("REPLICAS", "2"), flags=flags)

    shown = documents[-1]["znodes"]
    needs = "d-0 declares no port, and this layout needs one (and 1 more)"
    assert (code, err.splitlines()) == (
        1,
        [f"shop/cart: MissingPort in layout {layout}: {needs}" for layout in ("mine=/mine", "dubbo=/dubbo")],
    )
    assert sorted(data for path, data in shown.items() if path.startswith("/mine/echo/")) == [
        "192.0.2.1:80",
        "192.0.2.2:80",
    ]
    assert sum(path.startswith("/dubbo/echo/providers/dubbo%3A%2F%2F192.0.2.") for path in shown) == 2
    assert documents[1]["status"]["registryPaths"] == "/mine/echo,/dubbo/echo/providers"


@pytest.mark.parametrize(
    ("manifest", "code", "said"),
    [
        pytest.param(POD.replace("echo", "a/b"), 1, "InvalidAnnotation", id="a wrong annotation"),
        pytest.param(POD.replace('"true"', "true"), 2, "labels", id="a label that is no string"),
        pytest.param("a: [", 2, "line 1", id="no YAML"),
        pytest.param(DEPLOYMENT.replace("REPLICAS", "many"), 2, "many", id="a word for a number"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], manifest: str, code: int, said: str
):
    found, _, err = render(tmp_path, capfd, manifest)

    assert found == code
    assert err.count("\n") == 1
    assert said in err


def test_a_dry_run_goes_on_from_what_it_would_have_created():
    services: Held[RpcService] = Held(observing.service_indexes(), lambda _: None)
    kube = DryRunKube({"rpcservices": services}, Diff(print))
    created = kube.create(RPCSERVICES, "default", made.rpcservice("default", "echo", "echo"))
    patched = kube.patch(RPCSERVICES, ObjectKey("default", "echo"), {"status": {}}, "status")

    assert (patched, services.values()) == (created, [])


def test_a_dry_run_reads_zookeeper_and_writes_nothing():
    zookeeper = ZooKeeperInMemory()
    zookeeper.znodes["/rpc_v2/echo"] = (b"1", 4)
    printed: list[str] = []
    diff = Diff(printed.append)
    dry = DryRunZooKeeper(zookeeper, diff)
    dry.make_parents("/rpc_v2/x/y")
    versions = dry.commit([Set("/rpc_v2/echo", b"2", 4), Create("/rpc_v2/x", b""), Delete("/rpc_v2/echo", 4)])

    assert versions == [4, None, None]
    assert dry.read(["/rpc_v2/echo"]) == {"/rpc_v2/echo": Znode(b"1", 4)}
    assert (dry.connected, dry.generation, dry.children("/rpc_v2")) == (True, 1, ["echo"])
    assert not zookeeper.commits
    assert printed == ["~ /rpc_v2/echo  2", "+ /rpc_v2/x", "- /rpc_v2/echo"]
    dry.commit([Create("/rpc_v2/x", b""), Create("/rpcregistry/owned/kube2zk/x", b"")])
    assert (len(printed), str(diff)) == (3, "1 to make, 1 to change, 1 to remove")
