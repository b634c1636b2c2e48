"""``python -m tests.upgrade.record VERSION``: record what a version leaves behind outside of its process.

The public command of that version runs on a real cluster of its own, and writes the estate of the suite.
``here`` records this checkout, under the version in pyproject.toml.
"""

import tempfile
from pathlib import Path

import click

from hack.release import version as current
from tests.cluster.waiting import eventually
from tests.faults.harness.ground import TOP, Ground
from tests.faults.harness.stand import Package, Stand
from tests.upgrade import estate
from tests.upgrade.recorded import CLUSTER, Recorded, namespace_of, objects
from tests.upgrade.versions import COMMITS, RECORDED, checkout, package


@click.command()
@click.argument("version", type=click.Choice([*COMMITS, "here"]))
def main(version: str) -> None:
    """Write ``tests/upgrade/VERSION/state.json``."""
    here = version == "here"
    manifests, run = (TOP, Package.of(TOP)) if here else (checkout(version), package(version))
    name = current() if here else version
    with tempfile.TemporaryDirectory(prefix="record-") as directory:
        state = recorded(Path(directory), manifests, run, namespace_of(name))
    state.save(RECORDED / name / "state.json")
    click.echo(f"wrote {RECORDED / name / 'state.json'}")


def recorded(directory: Path, manifests: Path, run: Package, namespace: str) -> Recorded:
    """Run a version, and return what it wrote."""
    crds, example = manifests / "crds", manifests / "examples" / "controller.yaml"
    with Ground(directory / "ground", crds=crds, example=example) as ground:
        ground.make_namespace(namespace)
        with Stand(ground, [namespace], directory, package=run) as stand:
            world = stand.world()
            estate.build(world, f"{namespace}-")
            controller = stand.start(*estate.flags("all"), "--cluster-id", CLUSTER)
            eventually(lambda: stand.is_right() and estate.is_built(world))
            estate.hold(world, controller)
            estate.pass_by(world, "all", "marker")
            assert controller.stop() == 0
            return Recorded(objects(ground.cluster.etcd_url, namespace), estate.znodes(stand.zk))


if __name__ == "__main__":
    main()
