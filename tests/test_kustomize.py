"""What ``deploy/kustomize`` puts out, without a cluster: one source, nothing that names what is not there."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from os.path import relpath
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from hack import manifests
from hack.local.binaries import find
from hack.release import version
from rpcregistry.cli import main

DEPLOY = manifests.BASE.parent
COMPONENTS = sorted(path.name for path in (DEPLOY / "components").iterdir())
OVERLAYS = sorted((DEPLOY / "overlays").iterdir())
RENAMED = {"namespace": "elsewhere", "namePrefix": "our-", "nameSuffix": "-2"}


def build(folder: Path) -> str:
    done = subprocess.run([find("kubectl"), "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def overlay(folder: Path, *components: str, **names: Any) -> Path:
    """A kustomization in *folder*: the base with *components*, and what else it says."""
    content = {
        **names,
        "resources": [relpath(manifests.BASE, folder)],
        "components": [relpath(DEPLOY / "components" / name, folder) for name in components],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(content))
    return folder


def objects(text: str) -> dict[tuple[str, str, str], Any]:
    """The manifests by kind, namespace and name."""
    return {
        (found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"]): found
        for found in yaml.safe_load_all(text)
    }


def test_the_example_is_made_of_the_base():
    assert manifests.TARGET.read_text() == manifests.controller(), "run: python -m hack.manifests"


def test_kustomize_puts_out_the_example_and_the_kinds():
    kinds = (path.read_text() for path in (manifests.TOP / "crds").glob("*.yaml"))
    assert objects(build(manifests.BASE)) == objects("---\n".join([manifests.TARGET.read_text(), *kinds]))


@pytest.mark.parametrize("folder", [manifests.BASE, *OVERLAYS], ids=lambda folder: folder.name)
def test_what_is_put_out_is_the_same_each_time(folder: Path):
    assert build(folder) == build(folder)


def test_the_order_of_components_does_not_matter(tmp_path: Path):
    one, other = (objects(build(overlay(tmp_path, *order))) for order in (COMPONENTS, COMPONENTS[::-1]))
    assert without_order(one) == without_order(other)


def test_an_older_server_can_do_without_the_selectable_field(tmp_path: Path):
    readme = (DEPLOY / "README.md").read_text()
    (patches,) = (block for block in readme.split("```") if "selectableFields" in block)
    said = yaml.safe_load(patches.removeprefix("yaml"))
    folder = overlay(tmp_path, **said)
    kind = objects(build(folder))["CustomResourceDefinition", "", "rpcservices.rpcregistry.dev"]
    assert "selectableFields" not in kind["spec"]["versions"][0]
    assert "selectableFields" in build(manifests.BASE)


def test_alerts_lead_to_the_runbooks_of_your_own(tmp_path: Path):
    readme = (DEPLOY / "README.md").read_text()
    (said,) = (block for block in readme.split("```") if "runbook_url" in block and "replacements" in block)
    components = ("monitoring", "optional-alerts")
    found = objects(build(overlay(tmp_path, *components, **yaml.safe_load(said.removeprefix("yaml")))))
    for name, file in (("rpcregistry", manifests.RULES), ("rpcregistry-optional", manifests.OPTIONAL)):
        (group,) = found["PrometheusRule", "rpcregistry", name]["spec"]["groups"]
        (ours,) = yaml.safe_load(file.read_text())["groups"]
        assert [rule["annotations"]["runbook_url"] for rule in group["rules"]] == [
            rule["annotations"]["runbook_url"].replace(
                "docs/runbooks.md", "https://wiki.example.com/rpcregistry/runbooks"
            )
            for rule in ours["rules"]
        ]


def without_order(found: Any) -> Any:
    """*found*, its lists sorted: variables and patches come in the order of components."""
    if isinstance(found, Mapping):
        return {key: without_order(value) for key, value in found.items()}
    if isinstance(found, list):
        return sorted(map(without_order, found), key=str)
    return found


def named(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What a manifest names that is applied with it."""
    kind, namespace = manifest["kind"], manifest["metadata"].get("namespace", "")
    if kind in ("ClusterRoleBinding", "RoleBinding"):
        role = manifest["roleRef"]
        yield role["kind"], namespace if role["kind"] == "Role" else "", role["name"]
        for subject in manifest["subjects"]:
            yield subject["kind"], subject["namespace"], subject["name"]
    elif kind == "Deployment":
        yield "ServiceAccount", namespace, manifest["spec"]["template"]["spec"]["serviceAccountName"]
    elif kind == "ValidatingAdmissionPolicyBinding":
        yield "ValidatingAdmissionPolicy", namespace, manifest["spec"]["policyName"]
    elif kind == "FlowSchema":
        level = manifest["spec"]["priorityLevelConfiguration"]["name"]
        if level != "leader-election":
            yield "PriorityLevelConfiguration", namespace, level
        for rule in manifest["spec"]["rules"]:
            for subject in rule["subjects"]:
                account = subject["serviceAccount"]
                yield subject["kind"], account["namespace"], account["name"]


@pytest.mark.parametrize("names", [{}, RENAMED], ids=["as they are", "renamed"])
@pytest.mark.parametrize(
    "components",
    [(), *((name,) for name in COMPONENTS), COMPONENTS],
    ids=lambda names: "+".join(names) or "base",
)
def test_all_that_is_named_is_there(tmp_path: Path, components: Sequence[str], names: Mapping[str, str]):
    found = objects(build(overlay(tmp_path, *components, **names)))
    assert {one for manifest in found.values() for one in named(manifest)} <= found.keys()
    # What has no namespace of its own is not moved, and all else is.
    assert {namespace for _, namespace, _ in found} <= {"", names.get("namespace", "rpcregistry")}


def variables() -> set[str]:
    """The environment variables of ``rpcregistry run``."""
    found: set[str] = set()
    assert isinstance(main, click.Group)
    for option in main.commands["run"].params:
        given = option.envvar or f"RPCREGISTRY_{option.name.upper()}"
        found.update([given] if isinstance(given, str) else given)
    return found


def test_every_setting_is_one_that_the_controller_has(tmp_path: Path):
    texts = [build(overlay(tmp_path, *COMPONENTS)), *map(build, OVERLAYS)]
    assert {name for text in texts for name in settings(text)} <= variables()


def settings(text: str) -> dict[str, Any]:
    """The variables of the Deployment."""
    (deployment,) = (found for found in objects(text).values() if found["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable for variable in container["env"]}


def test_the_example_overlay_is_what_it_says():
    found = build(DEPLOY / "overlays" / "example")
    (deployment,) = (found for found in objects(found).values() if found["kind"] == "Deployment")
    assert deployment["metadata"]["namespace"] == "rpc-registry"
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.com/rpcregistry:{version()}"
    assert settings(found)["RPCREGISTRY_ZK_SERVERS"]["value"].startswith("zookeeper-0.zookeeper:2281,")


def test_the_readme_names_each_folder():
    said = (DEPLOY / "README.md").read_text()
    folders = [manifests.BASE, *(DEPLOY / "components").iterdir(), *OVERLAYS]
    assert [folder for folder in folders if f"`{folder.relative_to(DEPLOY)}`" not in said] == []
