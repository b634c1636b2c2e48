"""``python -m tests.faults.harness``: run a scenario on any checkout, and judge what happened."""

import json
import random
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from tests.faults.harness import invariants
from tests.faults.harness.evidence import Evidence
from tests.faults.harness.ground import TOP, Ground
from tests.faults.harness.scenarios import SCENARIOS
from tests.faults.harness.stand import Package, Stand


@click.command()
@click.option(
    "--package",
    "checkout",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=TOP,
    help="A checkout of this repository, of any time.  Default: this one.",
)
@click.option("--scenario", type=click.Choice(sorted(SCENARIOS)), required=True)
@click.option("--seed", type=int, help="Default: another one each time; it is printed.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where logs, data and the evidence are left.  Default: nowhere.",
)
def main(checkout: Path, scenario: str, seed: int | None, keep: Path | None) -> None:
    """Exit code 0: every invariant held; 1: what did not is printed."""
    seed = random.randrange(10**6) if seed is None else seed
    click.echo(f"{scenario}, seed {seed}, {checkout}")
    if keep:
        evidence = witnessed(keep, checkout, scenario, seed)
        (keep / "evidence.json").write_text(json.dumps(asdict(evidence), default=str))
    else:
        with tempfile.TemporaryDirectory(prefix="faults-") as directory:
            evidence = witnessed(Path(directory), checkout, scenario, seed)
    try:
        invariants.check(evidence)
    except AssertionError as error:
        raise click.ClickException(str(error)) from error
    click.echo("every invariant held")


def witnessed(directory: Path, checkout: Path, scenario: str, seed: int) -> Evidence:
    """Run a scenario in a cluster of its own."""
    crds, example = checkout / "crds", checkout / "examples" / "controller.yaml"
    directory.mkdir(parents=True, exist_ok=True)
    with Ground(directory / "ground", crds=crds, example=example) as ground:
        namespaces = [f"run-{seed}-a", f"run-{seed}-b"]
        for name in namespaces:
            ground.make_namespace(name)
        with Stand(ground, namespaces, directory, package=Package.of(checkout)) as stand:
            SCENARIOS[scenario](stand, stand.world(), seed)
            return stand.close()


if __name__ == "__main__":
    main()
