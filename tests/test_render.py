"""What ``render`` and ``run --dry-run`` say, which change nothing."""

import json
import re
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


def test_the_directories_and_static_znodes_of_a_template_show(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    template = tmp_path / "mine.yaml"
    says = "directory: ${group:-main}/${service}\nname: ${id}\nencoding: java-string\ndata: ${ip}\n"
    template.write_text(says + 'static: {"a/b/${service}/c": "x"}\n')
    flags = [f"--template=mine={template}", "--layout=mine=/mine"]
    code, documents, _ = render(tmp_path, capfd, DEPLOYMENT.replace("REPLICAS", "1"), flags=flags)

    shown = documents[-1]["znodes"]
    shown = {path: data for path, data in shown.items() if "cart" not in path}
    made = {path: data for path, data in shown.items() if not path.startswith("/mine/main/echo/")}
    assert code == 0
    assert made == {
        "/mine/a": "",
        "/mine/a/b": "",
        "/mine/a/b/echo": "",
        "/mine/a/b/echo/c": "x",
        "/mine/main": "",
        "/mine/main/echo": "",
    }
    assert [data for path, data in shown.items() if path not in made] == [
        "\\xac\\xed\x00\x05t\x00\t192.0.2.1"
    ]
    assert documents[1]["status"]["registryPaths"] == "/mine/*/echo"


@pytest.mark.parametrize(
    ("says", "told"),
    [
        pytest.param("name: ${id}/x\n", "line 1 .*no name of a znode", id="a name that is no znode's"),
        pytest.param(
            "name: ${id}\ndata: {port: ${port}}\n",
            "line 2 .*quote each placeholder",
            id="a placeholder without quotes",
        ),
    ],
)
def test_a_template_that_cannot_work_renders_nothing_and_says_where(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], says: str, told: str
):
    template = tmp_path / "mine.yaml"
    template.write_text(says)
    flags = [f"--template=mine={template}", "--layout=mine=/mine"]
    code, documents, err = render(tmp_path, capfd, DEPLOYMENT.replace("REPLICAS", "1"), flags=flags)

    assert (code, documents) == (2, [])
    assert re.search(told, err), err


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


def stated(manifest: str, *more: str) -> str:
    return "---".join((manifest, *more))


JOB = """
kind: Job
metadata: {generateName: fill-}
spec:
  parallelism: 3
  completions: 2
  template:
    metadata:
      labels: {rpc-service: "true"}
      annotations: {rpc-service: '[{"serviceName": "fill"}]'}
"""
STATEFUL = DEPLOYMENT.replace("Deployment", "StatefulSet").replace(
    "replicas: REPLICAS", "replicas: 2\n  ordinals: {start: 5}"
)
LOCAL = """
kind: LocalService
metadata: {name: app}
spec:
  ports: [{port: 80}]
  selector: {app: x}
  serviceLabels: {team: shop}
"""
NODE = """
kind: Node
metadata: {name: k8s01, uid: n}
"""


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        pytest.param(
            POD.replace('"true"', '"yes"'),
            'Pod default/p: annotation rpc-service is ignored: label rpc-service is "yes", not "true"',
            id="another value of the label",
        ),
        pytest.param(
            POD.replace('labels: {rpc-service: "true"}', "labels: {}"),
            'annotation rpc-service is ignored: label rpc-service is missing: set it to "true"',
            id="no label",
        ),
        pytest.param(
            POD.replace("annotations: {rpc-service:", "annotations: {rpc-services:"),
            "annotation rpc-services is ignored: did you mean rpc-service?",
            id="a misspelt annotation",
        ),
        pytest.param(
            POD.replace("annotations: {rpc-service:", "annotations: {other:"),
            'label rpc-service is "true", and there is no annotation rpc-service: it says nothing',
            id="no annotation",
        ),
        pytest.param(
            POD.replace('"echo"', '"echo", "ports": 80'),
            'annotation rpc-service: /0: "ports" is ignored: did you mean port?',
            id="a misspelt key",
        ),
        pytest.param(
            POD.replace('"echo"', '"echo", "colour": "red"'),
            '"colour" is ignored: there is no such key',
            id="an unknown key",
        ),
        pytest.param(
            "kind: Deployment\nmetadata: {name: d, annotations: {rpc-service: '[]'}}\n"
            "spec: {template: {metadata: {}}}\n",
            "Deployment default/d: annotation rpc-service stands on the Deployment, and is ignored: "
            "it belongs into its pod template",
            id="on the Deployment",
        ),
        pytest.param(DEPLOYMENT.replace("REPLICAS", "0"), "it has no pod now (0 replicas)", id="no replicas"),
        pytest.param(JOB.replace("parallelism: 3", "suspend: true"), "it is suspended", id="suspended"),
        pytest.param("kind: ConfigMap\nmetadata: {name: c}\n", "there is no RPC service here", id="nothing"),
        pytest.param(
            stated(POD, "\nkind: RpcService\nmetadata: {name: e}\nspec: {selector: {matchLabels: {a: b}}}\n"),
            "RpcService default/e: its selector selects none of the pods here",
            id="a selector",
        ),
        pytest.param(
            "\nkind: RpcService\nmetadata: {name: e}\nspec: {ports: 80}\n",
            "RpcService default/e: spec.ports is ignored: did you mean port?",
            id="a field of the spec",
        ),
    ],
)
def test_what_leads_to_nothing_is_warned_of_and_strict_makes_it_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], manifest: str, said: str
):
    code, _, err = render(tmp_path, capfd, manifest)
    assert (code, "warning: " in err) == (0, True)
    assert said in err
    assert render(tmp_path, capfd, manifest, flags=["--strict"])[0] == 1
    clean = render(tmp_path, capfd, POD, flags=["--strict"])
    assert (clean[0], clean[2]) == (0, "")


def test_the_status_says_what_each_layout_refuses(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    flags = ["--layout=kube2zk=/rpc_v2", "--layout=dubbo=/dubbo", "--layout=sofa=/sofa-rpc"]
    code, (echo, last), err = render(tmp_path, capfd, POD, flags=flags)

    conditions = {each["type"]: each for each in echo["status"]["conditions"]}
    assert (conditions["Synced"]["status"], conditions["Synced"]["reason"]) == ("False", "MissingPort")
    assert (code, list(last["znodes"])) == (1, ["/rpc_v2/echo"])
    assert [line.split(":")[1].strip() for line in err.splitlines()] == [
        "MissingPort in layout dubbo=/dubbo",
        "MissingPort in layout sofa=/sofa-rpc",
    ]


@pytest.mark.parametrize(
    ("manifest", "names"),
    [
        pytest.param(JOB, ["fill-0dad1-0", "fill-0dad1-1"], id="a Job, no more pods than completions"),
        pytest.param(STATEFUL, ["d-5", "d-6"], id="ordinals"),
        pytest.param(POD.replace("name: p", "generateName: p-"), ["p-64518"], id="generateName"),
    ],
)
def test_pods_have_the_names_that_they_would_have(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], manifest: str, names: list[str]
):
    code, documents, _ = render(tmp_path, capfd, manifest)
    found = [row["podName"] for row in documents[0]["status"]["endpoints"]]
    assert (code, found) == (0, names)


def test_a_localservice_shows_the_services_of_nodes(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    local = POD.replace('"echo"', '"echo", "port": 80, "local": true')
    _, (_, app, echo, _), _ = render(tmp_path, capfd, LOCAL, NODE, local)
    assert [app["metadata"]["name"], echo["metadata"]["name"]] == ["app-k8s01", "echo-k8s01"]
    assert app["metadata"]["labels"]["team"] == "shop"
    assert echo["spec"]["selector"] == {
        "local-service.rpcregistry.dev/echo": "true",
        "rpcregistry.dev/node": "k8s01",
    }
    _, (sample, _), _ = render(tmp_path, capfd, LOCAL)
    assert sample["metadata"]["name"] == "app-node-1"


def test_json_has_all_of_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    file = tmp_path / "pod.yaml"
    file.write_text(POD.replace('"echo"', '"echo", "ports": 80'))
    with pytest.raises(SystemExit):
        run_command(["render", "-o", "json", "--layout=dubbo=/dubbo", str(file)])
    printed = json.loads(capfd.readouterr().out)

    assert printed["rpcServices"][0]["status"]["ready"] == "1/1"
    assert printed["refusals"][0] == {
        "service": "default/echo",
        "layout": "dubbo=/dubbo",
        "reason": "MissingPort",
        "message": "p declares no port, and this layout needs one",
    }
    assert printed["warnings"][0]["about"] == "Pod default/p"


def test_the_mistake_of_many_pods_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    code, _, err = render(tmp_path, capfd, DEPLOYMENT.replace("REPLICAS", "300").replace('"echo"', '"Über"'))
    (line,) = err.splitlines()
    assert code == 1
    assert line.startswith(
        'shop/d-0 (and 299 more): InvalidAnnotation: rpc-service: /0/serviceName: "Über" is'
    )


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert run_command(["render", "nosuch.yaml"]) == 2
    assert capfd.readouterr().err == "rpcregistry: nosuch.yaml: No such file or directory\n"
