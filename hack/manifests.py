"""``python -m hack.manifests``: write anew what is made of other files.

- ``examples/controller.yaml``, of ``deploy/kustomize/base``.  The files are joined as they are, since
  kustomize's output has neither their comments nor their order.
- the PrometheusRules, of ``deploy/monitoring/rules.yaml`` and ``optional.yaml``.
- what the chart has of other folders: Helm reads no file outside of a chart.
- the chart's README, of the comments in its values.
"""

from collections.abc import Mapping
from pathlib import Path

import yaml

from hack.values import documented, table

TOP = Path(__file__).parents[1]
BASE = TOP / "deploy" / "kustomize" / "base"
COMPONENTS = TOP / "deploy" / "kustomize" / "components"
RULES = TOP / "deploy" / "monitoring" / "rules.yaml"
OPTIONAL = RULES.with_name("optional.yaml")
CHART = TOP / "deploy" / "charts" / "rpcregistry"
TARGET = TOP / "examples" / "controller.yaml"
HEADER = """\
# The controller: two replicas, of which one leads, with the rights that it needs and no others.
# Before you apply it: apply crds/, build the image (make image), push it to a registry of your nodes, and
# write the image's name and ZooKeeper's address below.
# `python -m hack.manifests` makes this of deploy/kustomize/base. To run it for good, make an overlay of that:
# deploy/kustomize/README.md says how.
"""
RULE = """\
# `python -m hack.manifests` makes this of deploy/monitoring/{file}.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {name}
  namespace: rpcregistry
  labels:
    app.kubernetes.io/name: rpcregistry
spec:
"""
COPIED = {
    "crds/localservice.yaml": "crds",
    "crds/rpcservice.yaml": "crds",
    "deploy/kustomize/base/rbac.yaml": "base",
    "deploy/kustomize/base/users.yaml": "base",
    "deploy/kustomize/base/pod-label-policy.yaml": "base",
    "deploy/kustomize/base/flow-control.yaml": "base",
    "deploy/kustomize/components/page/rbac.yaml": "page",
    "deploy/monitoring/rules.yaml": "",
    "deploy/monitoring/optional.yaml": "",
    "deploy/kustomize/components/dashboard/rpcregistry.json": "",
}


def controller() -> str:
    """All of the base but the kinds, which people apply by themselves."""
    resources = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    files = [path for path in (BASE / name for name in resources) if path.is_file()]
    return HEADER + "---\n".join(file.read_text() for file in files)


def rule(file: Path, name: str) -> str:
    """The alerts of *file* as an object of the Prometheus Operator."""
    lines = file.read_text().splitlines(keepends=True)
    spec = "".join(f"  {line}" if line.strip() else line for line in lines)
    return RULE.format(file=file.name, name=name) + spec


def readme() -> str:
    """The page on the chart: its text as it is, and the table of values after it."""
    text, _, _ = (CHART / "README.md").read_text().partition("## Values\n")
    return f"{text}## Values\n\n{table(documented((CHART / 'values.yaml').read_text()))}"


def made() -> Mapping[Path, str]:
    """The files that this makes, with what belongs in them."""
    copies = {
        CHART / "files" / to / Path(source).name: (TOP / source).read_text() for source, to in COPIED.items()
    }
    return {
        TARGET: controller(),
        COMPONENTS / "monitoring" / "prometheusrule.yaml": rule(RULES, "rpcregistry"),
        COMPONENTS / "optional-alerts" / "prometheusrule.yaml": rule(OPTIONAL, "rpcregistry-optional"),
        CHART / "README.md": readme(),
        **copies,
    }


if __name__ == "__main__":
    for path, text in made().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
