"""The Helm chart, as Helm itself renders it."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hack.local.binaries import find
from hack.manifests import CHART

SETS = sorted((CHART / "ci").glob("*.yaml"))
SERVERS = "zookeeper.servers=zookeeper.rpcregistry:2181"
DEFAULTS = CHART / "ci" / "defaults-values.yaml"


def helm(*arguments: str | Path, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Helm to its end, with nothing of this user's."""
    own = {
        "HELM_CONFIG_HOME": "/nonexistent",
        "HELM_DATA_HOME": "/nonexistent",
        "KUBECONFIG": str(kubeconfig),
    }
    return subprocess.run(
        [find("helm"), *arguments], capture_output=True, text=True, check=False, env={**os.environ, **own}
    )


def rendered(*arguments: str | Path, release: str = "rpcregistry", namespace: str = "rpcregistry") -> str:
    """What the chart would apply."""
    done = helm("template", release, CHART, "--namespace", namespace, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(*arguments: str | Path) -> str:
    """What Helm says against values; empty if it takes them."""
    done = helm("template", "rpcregistry", CHART, *arguments)
    return done.stderr if done.returncode else ""


def objects(text: str) -> dict[tuple[str, str, str], Any]:
    """The manifests by kind, namespace and name."""
    return {
        (found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"]): found
        for found in yaml.safe_load_all(text)
        if found
    }


def environment(found: Mapping[tuple[str, str, str], Any]) -> dict[str, str]:
    """The variables of the Deployment, by name."""
    (deployment,) = (manifest for (kind, *_), manifest in found.items() if kind == "Deployment")
    return variables(deployment["spec"]["template"])


def variables(pod: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a pod's first container, by name."""
    return {variable["name"]: variable["value"] for variable in pod["spec"]["containers"][0]["env"]}


def hooks(found: Mapping[tuple[str, str, str], Any]) -> list[Any]:
    """The pods that ``helm test`` runs, in order."""
    pods = [manifest for (kind, *_), manifest in found.items() if kind == "Pod"]
    return sorted(pods, key=lambda pod: int(pod["metadata"]["annotations"]["helm.sh/hook-weight"]))
