"""The rights that ``examples/controller.yaml`` gives the controller."""

from pathlib import Path
from typing import Any

import yaml

EXAMPLE = Path(__file__).parents[2] / "examples" / "controller.yaml"


def cluster_role(name: str) -> dict[str, Any]:
    """One ClusterRole with all that is given by ClusterRoleBindings."""
    manifests = list(yaml.safe_load_all(EXAMPLE.read_text()))
    bound = {found["roleRef"]["name"] for found in manifests if found["kind"] == "ClusterRoleBinding"}
    roles = [
        found for found in manifests if found["kind"] == "ClusterRole" and found["metadata"]["name"] in bound
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [rule for role in roles for rule in role["rules"]],
    }


def lease_role(namespace: str) -> dict[str, Any]:
    """The Role of its own namespace."""
    (role,) = (found for found in yaml.safe_load_all(EXAMPLE.read_text()) if found["kind"] == "Role")
    return {**role, "metadata": {"name": role["metadata"]["name"], "namespace": namespace}}
