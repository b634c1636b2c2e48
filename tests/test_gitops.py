"""deploy/gitops: what Argo CD makes of our statuses; and no tool takes generated objects for its own."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.local.binaries import Unavailable, debian
from rpcregistry.manifests.made import localservice, node_service, rpcservice
from rpcregistry.model import LocalService, LocalServiceSpec
from rpcregistry.plan.conditions import REASONS
from tests.pages import TOP, Page

CHECKS = yaml.safe_load((TOP / "deploy" / "gitops" / "argocd-cm.yaml").read_text())["data"]
PREFIX = "resource.customizations.health.rpcregistry.dev_"
# As Argo CD does, the script gets the object as ``obj``; what it returns is printed, a line each.
DRIVER = """\
local obj = {obj}
local found = (function()
{script}
end)()
print(found.status)
print(found.message)
"""


@pytest.fixture(scope="module")
def lua() -> str:
    """Lua 5.1, which is what Argo CD's interpreter speaks: on PATH, else Debian's package, unpacked."""
    found = shutil.which("lua5.1")
    try:
        return found or str(debian("lua5.1") / "usr" / "bin" / "lua5.1")
    except Unavailable as error:
        pytest.skip(str(error))


def in_lua(value: Any) -> str:
    """A value as a literal of Lua."""
    match value:
        case dict():
            return "{" + ", ".join(f"[{in_lua(key)}] = {in_lua(each)}" for key, each in value.items()) + "}"
        case list():
            return "{" + ", ".join(map(in_lua, value)) + "}"
    return json.dumps(value)


def health(lua: str, kind: str, tmp_path: Path, status: dict[str, Any] | None) -> list[str]:
    """Status and message that Argo CD shows for an object of generation 2."""
    obj = {"kind": kind, "metadata": {"generation": 2}} | ({} if status is None else {"status": status})
    file = tmp_path / "check.lua"
    file.write_text(DRIVER.format(obj=in_lua(obj), script=CHECKS[PREFIX + kind]))
    return subprocess.run([lua, str(file)], capture_output=True, text=True, check=True).stdout.splitlines()


def synced(status: str, reason: str, seen: int = 2) -> dict[str, Any]:
    conditions = [
        {"type": "Other", "status": "False"},
        {"type": "Synced", "status": status, "reason": reason},
    ]
    return {"observedGeneration": seen, "conditions": conditions}


@pytest.mark.parametrize("kind", ["RpcService", "LocalService"])
@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        pytest.param(None, "Progressing", id="no status"),
        pytest.param(synced("True", "InRegistry", seen=1), "Progressing", id="an old status"),
        pytest.param({"observedGeneration": 2, "conditions": []}, "Progressing", id="no answer of ZooKeeper"),
        pytest.param(synced("True", "InRegistry"), "Healthy", id="synced"),
        pytest.param(synced("False", "Held"), "Suspended", id="Held"),
        *(pytest.param(synced("False", each), "Degraded", id=each) for each in REASONS if each != "Held"),
    ],
)
def test_the_health_that_argo_cd_shows(
    lua: str, tmp_path: Path, kind: str, status: dict[str, Any] | None, wanted: str
):
    found, message = health(lua, kind, tmp_path, status)
    assert found == wanted
    if wanted != "Progressing":
        assert message.startswith(status["conditions"][1]["reason"])


def test_nothing_that_the_controller_makes_has_a_mark_by_which_tools_prune():
    marks = {code.rstrip(":") for code in Page("docs/gitops.md").code if "/" in code}
    marks &= {
        "argocd.argoproj.io/tracking-id",
        "app.kubernetes.io/instance",
        "kustomize.toolkit.fluxcd.io/name",
    }
    assert len(marks) == 3
    local = LocalService(
        namespace="a", name="b", uid="u", resource_version="1", spec=LocalServiceSpec(selector={"a": "b"})
    )
    for made in (
        rpcservice("a", "b", "b"),
        localservice("a", "b", "b", local.spec),
        node_service(local, "node1", "rpcregistry.dev/node"),
    ):
        assert made["metadata"]["labels"]
        written = {**made["metadata"]["labels"], **made["metadata"].get("annotations", {})}
        assert not marks & written.keys()
