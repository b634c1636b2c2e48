"""``python -m hack.manifests``: write ``examples/controller.yaml`` anew from ``deploy/kustomize/base``.

The files are joined as they are, since kustomize's output has neither their comments nor their order.
"""

from pathlib import Path

import yaml

TOP = Path(__file__).parents[1]
BASE = TOP / "deploy" / "kustomize" / "base"
TARGET = TOP / "examples" / "controller.yaml"
HEADER = """\
# The controller: two replicas, of which one leads, with the rights that it needs and no others.
# Before you apply it: apply crds/, build the image (make image), push it to a registry of your nodes, and
# write the image's name and ZooKeeper's address below.
# `python -m hack.manifests` makes this of deploy/kustomize/base. To run it for good, make an overlay of that:
# deploy/kustomize/README.md says how.
"""


def controller() -> str:
    """All of the base but the kinds, which people apply by themselves."""
    resources = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    files = [path for path in (BASE / name for name in resources) if path.is_file()]
    return HEADER + "---\n".join(file.read_text() for file in files)


if __name__ == "__main__":
    TARGET.write_text(controller())
