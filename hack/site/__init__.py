"""The docs as a site; a link that leads nowhere fails the build.

The pages are those that people read in the repository, at the same paths, so their links need no change.  The
menu is the index, docs/README.md.  The generator lives in an environment of its own, in the cache.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from hack.local.binaries import key_of, once, run_with_progress

TOP = Path(__file__).parents[2]
LOCK = Path(__file__).with_name("requirements.lock")
INDEX = "docs/README.md"
# What pages lie in, and lead to.
PARTS = (
    "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "Dockerfile", "crds",
    "deploy", "docs", "examples", "tests/DEEP.md", "tests/budget.txt", "tests/skips.txt",
    "tests/docs/elsewhere.txt",
)  # fmt: skip


def build(target: Path) -> None:
    """Write the site into *target*; raises ``Unavailable`` with what the generator warns of."""
    generator = _generator()
    with tempfile.TemporaryDirectory(prefix="rpcregistry-site-") as temporary:
        folder = Path(temporary)
        for part in PARTS:
            to = folder / "pages" / part
            to.parent.mkdir(parents=True, exist_ok=True)
            if (TOP / part).is_dir():
                shutil.copytree(TOP / part, to, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
            else:
                shutil.copy(TOP / part, to)
        (folder / "mkdocs.yml").write_text(yaml.safe_dump(_settings(), sort_keys=False))
        command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
        environment = {**os.environ, "PYTHONPATH": str(generator), "NO_COLOR": "1"}
        run_with_progress("building the site", command, folder, environment)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "site", target)


def _generator() -> Path:
    """The folder with the generator's packages, installed first if needed."""

    def install_into(target: Path) -> None:
        options = [
            "--disable-pip-version-check",
            "--require-hashes",
            "--target",
            str(target),
            "-r",
            str(LOCK),
        ]
        run_with_progress(
            "installing the site's generator",
            [sys.executable, "-m", "pip", "install", *options],
            TOP,
            os.environ,
        )

    return once(f"site-{key_of(LOCK.read_text(), sys.version)}", install_into)


def _settings() -> dict[str, Any]:
    return {
        "site_name": "rpcregistry",
        "docs_dir": "pages",
        "site_dir": "site",
        "theme": {"name": "material", "font": False, "features": ["content.code.copy"]},  # fonts from outside
        "nav": [{"rpcregistry": "README.md"}, {"All pages": INDEX}, *sections()],
    }


def sections() -> list[dict[str, list[dict[str, str]]]]:
    """The index as a menu: each of its headings with the first link of each row below it."""
    menu: list[dict[str, list[dict[str, str]]]] = []
    tokens = MarkdownIt().enable("table").parse((TOP / INDEX).read_text())
    for number, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            menu.append({tokens[number + 1].content: []})
        elif token.type == "tr_open" and (found := _first_link(tokens[number + 2])):
            title, link = found
            menu[-1][next(iter(menu[-1]))].append({title: link})
    return menu


def _first_link(cell: Token) -> tuple[str, str] | None:
    """The text of a cell's first link, and the page that it leads to."""
    children = cell.children or []
    for number, child in enumerate(children):
        if child.type == "link_open":
            path = str(child.attrGet("href")).partition("#")[0]
            return children[number + 1].content, os.path.normpath(Path(INDEX).parent / path)
    return None
