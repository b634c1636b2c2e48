"""``python -m hack.release``: whether every file that names the version agrees with pyproject.toml.

A release is a tag on a commit for which this prints nothing wrong.  ``--set VERSION`` writes the version into
all of them, but for the CHANGELOG and the recorded state, which need a person and a cluster.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click

TOP = Path(__file__).parents[1]
# Where the version stands: a file, and what surrounds the version there.
PLACES: tuple[tuple[str, str], ...] = (
    ("pyproject.toml", r'(?m)^version = "({})"$'),
    ("crds/rpcservice.yaml", r'app\.kubernetes\.io/version: "({})"'),
    ("crds/localservice.yaml", r'app\.kubernetes\.io/version: "({})"'),
    ("deploy/kustomize/base/deployment.yaml", r"image: rpcregistry:({})\n"),
    ("deploy/kustomize/overlays/example/kustomization.yaml", r"newTag: ({})\n"),
    ("examples/controller.yaml", r"image: rpcregistry:({})\n"),
    ("deploy/charts/rpcregistry/Chart.yaml", r"(?m)^version: ({})\nappVersion: \1$"),
)
ANY = r"[0-9]+\.[0-9]+\.[0-9]+"


def version() -> str:
    """The version in pyproject.toml."""
    return str(tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["version"])


def wrong(top: Path, expected: str) -> Iterator[str]:
    """What of the files below *top* does not fit a release of the *expected* version."""
    for name, pattern in PLACES:
        file = top / name
        if not file.exists():
            continue
        found = re.findall(pattern.format(ANY), file.read_text())
        if found != [expected]:
            yield f"{name} names {', '.join(found) or 'no version'}, not {expected}"
    changelog = (top / "CHANGELOG.md").read_text()
    section = re.search(rf"(?ms)^## {re.escape(expected)}\b.*?(?=^## |\Z)", changelog)
    if not section:
        yield f"CHANGELOG.md has no section '## {expected}'"
    elif "### Upgrade notes" not in section.group():
        yield f"CHANGELOG.md says nothing about the upgrade: '### Upgrade notes' below '## {expected}'"
    if not (top / "tests" / "upgrade" / expected / "state.json").exists():
        yield f"tests/upgrade/{expected} is missing: python -m tests.upgrade.record here"


@click.command()
@click.option("--set", "wanted", metavar="VERSION", help="Write VERSION into the files first.")
def main(wanted: str | None) -> None:
    """Exit code 0: all agree; 1: what does not is printed."""
    if wanted:
        for name, pattern in PLACES:
            file = TOP / name
            if file.exists():
                file.write_text(
                    re.sub(
                        pattern.format(ANY),
                        lambda found: found.group().replace(found[1], wanted),
                        file.read_text(),
                    )
                )
    problems = list(wrong(TOP, wanted or version()))
    for problem in problems:
        click.echo(problem, err=True)
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    main()
