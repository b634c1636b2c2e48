"""The Helm chart, without a cluster: it says the same as kustomize, and has a value for each flag."""

import json
import shlex
import subprocess
from os.path import relpath
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from jsonschema import Draft7Validator

from hack import manifests
from hack.local.binaries import find
from hack.manifests import BASE, CHART, COMPONENTS
from hack.release import version
from hack.values import documented
from rpcregistry.cli import CONTROLLERS, main
from rpcregistry.usage import ENVIRONMENT
from tests.install.chart import (
    DEFAULTS,
    SERVERS,
    SETS,
    environment,
    helm,
    hooks,
    objects,
    refusal,
    rendered,
    variables,
)
from tests.pages import Page

# What Helm's users expect on each object, beside what is ours.
HELMS = ("instance", "version", "managed-by", "name")
# Of these flags, no value is the chart's: extraArgs has the first three.
NOT_A_VALUE = {
    "kubeconfig": "the pod's own cluster is meant",
    "context": "the same",
    "once": "it ends the process",
    "bind_address": "probes and the Service name the port",
    "zkpath": "layouts has it; it is kube2zk's",
}


def values() -> dict[str, Any]:
    return dict(yaml.safe_load((CHART / "values.yaml").read_text()))


def plain(found: dict[tuple[str, str, str], Any]) -> dict[tuple[str, str, str], Any]:
    """Without what only Helm adds; variables and ports by name, since nobody sees their order."""
    result = {}
    for key, manifest in found.items():
        if key[0] in ("Namespace", "Pod"):  # helm install --create-namespace; helm test
            continue
        copy = json.loads(json.dumps(manifest))
        labels = copy["metadata"].get("labels", {})
        ours = {
            name: text for name, text in labels.items() if not name.endswith(HELMS) and "helm.sh" not in name
        }
        copy["metadata"] = {**copy["metadata"], "labels": ours}
        annotations = copy["metadata"].pop("annotations", {})
        annotations.pop("helm.sh/resource-policy", None)
        copy["metadata"]["annotations"] = annotations
        text = json.dumps(copy).replace(', "app.kubernetes.io/instance": "rpcregistry"', "")
        copy = json.loads(text.replace('"app.kubernetes.io/instance": "rpcregistry", ', ""))
        if key[0] == "Deployment":
            container = copy["spec"]["template"]["spec"]["containers"][0]
            for field in ("env", "ports"):
                container[field] = sorted(container[field], key=lambda each: str(each["name"]))
        result[key] = copy
    return result


def built(folder: Path, *components: str) -> dict[tuple[str, str, str], Any]:
    """What kustomize puts out of the base with components."""
    content = {
        "resources": [relpath(BASE, folder)],
        "components": [relpath(COMPONENTS / name, folder) for name in components],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(content))
    done = subprocess.run([find("kubectl"), "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def test_what_is_made_of_other_files_is_made_of_them_as_they_are():
    for path, text in manifests.made().items():
        assert path.read_text() == text, f"{path}: run python -m hack.manifests"
    kept = {path for path in (CHART / "files").rglob("*") if path.is_file()}
    assert kept <= manifests.made().keys()


def test_the_chart_has_the_version_of_the_program():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version(), version())


@pytest.mark.parametrize("values", SETS, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_helm_finds_nothing_to_complain_about(values: Path):
    done = helm("lint", "--strict", CHART, "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr


def test_by_default_it_is_what_kustomize_and_the_example_give(tmp_path: Path):
    ours = plain(objects(rendered("--values", DEFAULTS)))
    example = manifests.TARGET.read_text()
    kinds = (path.read_text() for path in (manifests.TOP / "crds").glob("*.yaml"))
    assert ours == plain(built(tmp_path))
    assert ours == plain(objects("---\n".join([example, *kinds])))


def test_without_localservices_it_is_what_kustomize_gives(tmp_path: Path):
    ours = rendered("--set", SERVERS, "--set", "controllers={rpcservice,registry}")
    assert plain(objects(ours)) == plain(built(tmp_path, "no-localservice"))


def test_with_the_page_for_users_it_is_what_kustomize_gives(tmp_path: Path):
    ours = rendered("--set", SERVERS, "--set", "ui.auth=kubernetes,ui.hosts={rpcregistry.example.com}")
    assert plain(objects(ours)) == plain(built(tmp_path, "page"))


def test_the_network_policy_is_what_kustomize_gives(tmp_path: Path):
    ours = rendered("--set", SERVERS, "--set", "networkPolicy.enabled=true")
    assert plain(objects(ours)) == plain(built(tmp_path, "network-policy"))


def test_what_watches_it_is_what_kustomize_gives(tmp_path: Path):
    wanted = ("podMonitor", "prometheusRule", "dashboards")
    ours = plain(
        objects(rendered("--set", SERVERS, *(f"--set=metrics.{name}.enabled=true" for name in wanted)))
    )
    theirs = plain(built(tmp_path, "monitoring", "dashboard"))
    spec = ours["PodMonitor", "rpcregistry", "rpcregistry"]["spec"]
    # Only a chart can put it into another namespace than the pods'.
    assert spec.pop("namespaceSelector") == {"matchNames": ["rpcregistry"]}
    assert ours == theirs


def test_alerts_that_not_everybody_wants_are_what_kustomize_gives(tmp_path: Path):
    wanted = "metrics.prometheusRule.enabled=true,metrics.prometheusRule.optional={RpcRegistryServiceEmpty}"
    ours = plain(objects(rendered("--set", SERVERS, "--set", wanted)))
    theirs = plain(built(tmp_path, "monitoring", "optional-alerts"))
    del theirs["PodMonitor", "rpcregistry", "rpcregistry"]
    assert ours == theirs


def test_zookeeper_has_to_be_named_and_a_value_that_there_is_not_is_refused():
    assert "/zookeeper/servers" in refusal().replace(".", "/")
    assert "replicas" in refusal("--set", SERVERS, "--set", "replicas=3")
    assert "password" in refusal("--set", SERVERS, "--set", "zookeeper.auth.password=x")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param("leaderElect=false", "set replicaCount to 1", id="two that both write"),
        pytest.param("layouts={kube2zk}", "layouts", id="a layout without a path"),
        pytest.param("controllers={rpcservices}", "controllers", id="no such controller"),
        pytest.param(
            "metrics.podMonitor.enabled=true,metrics.serviceMonitor.enabled=true",
            "not both",
            id="twice scraped",
        ),
        pytest.param(
            "metrics.serviceMonitor.enabled=true,service.enabled=false", "service.enabled", id="no Service"
        ),
        pytest.param("ui.ingress.enabled=true,ui.hosts={a}", "ui.ingress needs", id="a page for all"),
        pytest.param(
            "ui.ingress.enabled=true,ui.auth=kubernetes", "ui.ingress needs", id="no host to lead to the page"
        ),
        pytest.param(
            "metrics.prometheusRule.enabled=true,metrics.prometheusRule.disabled={Mine}",
            "there is no alert Mine",
            id="no such alert",
        ),
        pytest.param(
            "metrics.prometheusRule.enabled=true,metrics.prometheusRule.optional={RpcRegistryHeld}",
            "there is no alert RpcRegistryHeld",
            id="an alert that is not optional",
        ),
    ],
)
def test_what_cannot_work_is_refused(given: str, says: str):
    assert says in refusal("--set", SERVERS, "--set", given)


def schemas(schema: Any) -> list[Any]:
    """All schemas of objects in a schema."""
    if not isinstance(schema, dict):
        return []
    here = [schema] if "properties" in schema else []
    return here + [found for inner in schema.get("properties", {}).values() for found in schemas(inner)]


def test_the_schema_is_strict_and_knows_each_value():
    schema = json.loads((CHART / "values.schema.json").read_text())
    Draft7Validator.check_schema(schema)
    loose = [found for found in schemas(schema) if found.get("additionalProperties") is not False]
    assert loose == [schema["properties"]["global"]]  # other charts have values there
    assert schema["properties"].keys() == values().keys()


def test_every_value_has_a_comment():
    assert [value.name for value in documented((CHART / "values.yaml").read_text()) if not value.text] == []


def test_every_flag_of_run_is_a_value():
    command = main.commands["run"]
    assert isinstance(main, click.Group)
    variables = {}
    for option in command.params:
        given = option.envvar or f"RPCREGISTRY_{option.name.upper()}"
        variables[option.name] = given if isinstance(given, str) else given[0]
    wanted = {text for name, text in variables.items() if name not in NOT_A_VALUE}
    sets = [environment(objects(rendered("--values", path))) for path in SETS]
    assert {name for found in sets for name in found if name.startswith("RPCREGISTRY_")} == wanted
    assert NOT_A_VALUE.keys() <= variables.keys()


def test_what_the_values_say_the_program_understands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = CHART / "ci" / "settings-values.yaml"
    found = environment(objects(rendered("--values", file)))
    template = tmp_path / "mine.yaml"
    template.write_text(yaml.safe_load(file.read_text())["templates"]["mine"])
    assert found["RPCREGISTRY_TEMPLATE"] == "mine=/etc/rpcregistry/templates/mine.yaml"
    for name, text in {**found, "RPCREGISTRY_TEMPLATE": f"mine={template}"}.items():
        monkeypatch.setenv(name, text)
    read = main.commands["run"].make_context("run", [], **ENVIRONMENT).params
    assert (read["controllers"], read["leader_elect"], read["dry_run"]) == (CONTROLLERS, False, True)
    assert read["generated_labels"] == {"team": "rpc", "tier": "1"}
    assert [name for name, _ in read["templates"]] == ["mine"]
    monkeypatch.setenv("RPCREGISTRY_POLICY", "none")
    with pytest.raises(click.BadParameter, match="upsert-only"):
        main.commands["run"].make_context("run", [], **ENVIRONMENT)


def test_secrets_are_mounted_where_the_flags_look():
    found = objects(rendered("--values", CHART / "ci" / "zookeeper-access-values.yaml"))
    (deployment,) = (manifest for (kind, *_), manifest in found.items() if kind == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    files = [
        text for name, text in environment(found).items() if name.endswith(("_FILE", "_CA", "_CERT", "_KEY"))
    ]
    assert len(files) == 4
    assert {str(Path(file).parent) for file in files} == mounts
    # Any user may read what is mounted here, so that no group has to own it: clusters choose their own.
    assert not any("defaultMode" in volume["secret"] for volume in pod["volumes"])
    assert "fsGroup" not in pod["securityContext"]


@pytest.mark.parametrize("values", SETS, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_helm_test_runs_commands_as_the_installation_does_and_nobody_scrapes_them(values: Path):
    found = objects(rendered("--values", values))
    (deployment,) = (manifest for (kind, *_), manifest in found.items() if kind == "Deployment")
    template = deployment["spec"]["template"]
    pods = hooks(found)
    assert [pod["spec"]["containers"][0]["args"][0] for pod in pods] == ["check", "verify"]
    for pod in pods:
        assert variables(pod) == variables(template)
        assert pod["spec"]["serviceAccountName"] == template["spec"]["serviceAccountName"]
        assert pod["spec"].get("volumes") == template["spec"].get("volumes")
        assert not deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        (container,) = pod["spec"]["containers"]
        main.commands[container["args"][0]].make_context("it", container["args"][1:], **ENVIRONMENT)


def test_rights_follow_the_namespaces_and_the_controllers():
    found = objects(rendered("--values", CHART / "ci" / "least-values.yaml"))
    bound = {key[1:]: manifest for key, manifest in found.items() if key[0].endswith("RoleBinding")}
    assert bound.keys() == {
        ("", "rpcregistry"),
        ("rpcregistry", "rpcregistry"),
        ("team-a", "rpcregistry-services"),
    }
    resources = {
        resource
        for (kind, *_), manifest in found.items()
        if kind == "ClusterRole"
        for rule in manifest["rules"]
        for resource in rule["resources"]
    }
    assert resources == {"nodes", "namespaces", "customresourcedefinitions", "subjectaccessreviews"}
    assert not any(kind.startswith("ValidatingAdmissionPolicy") for kind, *_ in found)


def test_only_by_a_value_every_pod_of_the_serviceaccount_gets_its_token():
    for values, automounted in ((DEFAULTS, False), (CHART / "ci" / "least-values.yaml", True)):
        found = objects(rendered("--values", values))
        account = found["ServiceAccount", "rpcregistry", "rpcregistry"]
        pod = found["Deployment", "rpcregistry", "rpcregistry"]["spec"]["template"]["spec"]
        shown = (account["automountServiceAccountToken"], pod["automountServiceAccountToken"])
        assert shown == (automounted, True)


def test_another_label_of_nodes_stands_in_the_policy():
    text = rendered("--set", SERVERS, "--set", "nodeLabel=example.com/node")
    assert environment(objects(text))["RPCREGISTRY_NODE_LABEL"] == "example.com/node"
    (policy,) = (found for (kind, *_), found in objects(text).items() if kind == "ValidatingAdmissionPolicy")
    *_, labels = policy["spec"]["validations"]
    assert "key == 'example.com/node' ||" in labels["expression"]
    assert "'rpcregistry.dev/node'" not in text


def test_the_network_policy_lets_zookeepers_ports_out_and_only_scrapes_in():
    found = objects(rendered("--values", CHART / "ci" / "least-values.yaml"))
    spec = found["NetworkPolicy", "rpcregistry", "rpcregistry"]["spec"]
    assert [[port["port"] for port in rule["ports"]] for rule in spec["egress"]] == [
        [53, 53],
        [443, 6443],
        [2281, 2282],
        [2888],
    ]
    scrapes, page = spec["ingress"]
    assert (scrapes["ports"], page) == ([{"port": "http"}], {"ports": [{"port": "page"}]})
    assert "namespaceSelector" in scrapes["from"][0]


def test_an_ingress_leads_each_host_to_the_page():
    found = objects(rendered("--values", CHART / "ci" / "page-values.yaml"))
    spec = found["Ingress", "rpcregistry", "rpcregistry-page"]["spec"]
    service = found["Service", "rpcregistry", "rpcregistry-page"]
    (port,) = service["spec"]["ports"]
    backend = {"service": {"name": service["metadata"]["name"], "port": {"name": port["name"]}}}
    assert {rule["host"]: rule["http"]["paths"][0]["backend"] for rule in spec["rules"]} == {
        "rpcregistry.example.com": backend,
        "rpc.example.com": backend,
    }


def test_what_is_said_to_all_charts_counts_here_too():
    found = objects(rendered("--values", CHART / "ci" / "pods-values.yaml"))
    spec = found["Deployment", "default", "other"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"].startswith("mirror.example.com/rpc/rpcregistry@sha256:")
    assert spec["imagePullSecrets"] == [{"name": "pull"}, {"name": "of-all"}]
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}


def test_alerts_can_be_left_out_and_lead_to_the_runbooks_of_your_own():
    found = objects(rendered("--values", CHART / "ci" / "monitoring-values.yaml"))
    (group,) = found["PrometheusRule", "rpcregistry", "rpcregistry"]["spec"]["groups"]
    ours = yaml.safe_load(manifests.RULES.read_text())["groups"][0]["rules"]
    names = [alert["alert"] for alert in ours if alert["alert"] != "RpcRegistryInvalidAnnotations"]
    assert [alert["alert"] for alert in group["rules"]] == [*names, "Mine"]
    assert {alert["annotations"]["runbook_url"].partition("#")[0] for alert in group["rules"][:-1]} == {
        "https://wiki.example.com/rpcregistry/runbooks"
    }


def test_what_the_page_on_installing_says_to_type_is_taken():
    page = Page("docs/install.md")
    (install,) = (shown for shown in page.all_commands() if shown.startswith("helm install "))
    (several,) = (code for code in page.code if code.startswith("'zookeeper.servers="))
    done = helm("template", *shlex.split(f"{install} --set {several}".replace("PORT", "2181"))[2:])
    assert done.returncode == 0, done.stderr
    found = objects(done.stdout)
    assert environment(found)["RPCREGISTRY_ZK_SERVERS"] == "HOST:2181,HOST:2181"
    deployment = found["Deployment", "rpcregistry", "rpcregistry"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "REGISTRY/rpcregistry:TAG"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param("metrics.prometheusRule.enabled=true", True, id="a file"),
        pytest.param(
            "metrics.prometheusRule.enabled=true,metrics.prometheusRule.runbookUrl=https://a/b",
            False,
            id="a URL",
        ),
        pytest.param("replicaCount=2", False, id="no alerts"),
    ],
)
def test_the_notes_name_what_shows_that_it_works_and_ask_for_the_url_of_runbooks(given: str, said: bool):
    done = helm(
        "install", "r", CHART, "--dry-run=client", "--namespace", "n", "--set", SERVERS, "--set", given
    )
    assert done.returncode == 0, done.stderr
    _, _, notes = done.stdout.partition("\nNOTES:\n")
    assert "\n  helm -n n test r --logs\n  rpcregistry ui --lease-namespace n\n" in notes
    assert ("metrics.prometheusRule.runbookUrl" in notes) is said


def test_two_releases_share_no_name():
    """Another namespace and another release, side by side; the kinds are the first one's."""
    one = objects(rendered("--set", SERVERS))
    other = objects(
        rendered("--set", SERVERS, "--set", "crds.enabled=false", release="second", namespace="elsewhere")
    )
    assert one.keys() & other.keys() == set()
    assert {key[1] for key in other} == {"", "elsewhere"}
