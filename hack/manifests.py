"""``python -m hack.manifests``: write ``examples/controller.yaml`` anew from ``deploy/kustomize/base``.

The files are joined as they are, since kustomize's output has neither their comments nor their order.
"""

from pathlib import Path

import yaml

TOP = Path(__file__).parents[1]
BASE = TOP / "deploy" / "kustomize" / "base"
TARGET = TOP / "examples" / "controller.yaml"
HEADER = """\
# The controller: two replicas, of which one at a time works, with the rights that it needs and no others.
# Before you apply it: install crds/, build the image (make image) and push it to where your nodes pull
# from, write its name below, and say where ZooKeeper is.
# Made of deploy/kustomize/base by `python -m hack.manifests`. To run it for good, make an overlay of that:
# deploy/kustomize/README.md says how.
"""


def controller() -> str:
    """All of the base but the kinds, which people apply by themselves."""
    resources = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    files = [path for path in (BASE / name for name in resources) if path.is_file()]
    return HEADER + "---\n".join(file.read_text() for file in files)


if __name__ == "__main__":
    TARGET.write_text(controller())
