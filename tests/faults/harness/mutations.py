"""Mistakes made on purpose: a copy of the controller, changed by a patch of ``tests/faults/mutations``.

A patch is what ``diff -u`` makes; its name begins with the invariant that it breaks.  It is found by what it
replaces and not by line numbers, so that what changes around it does not matter.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

PATCHES = Path(__file__).parents[1] / "mutations"
CONTROLLER = Path(__file__).parents[3] / "controller"


class Stale(Exception):
    """What a patch is to replace is not there, or not there alone: the code has moved on."""


def patches() -> dict[str, Path]:
    """All patches by name."""
    return {file.stem: file for file in sorted(PATCHES.glob("*.patch"))}


def invariant(name: str) -> str:
    """Which invariant a patch breaks.

    >>> invariant("I2-a-list-is-believed")
    'I2'
    """
    return name.partition("-")[0]


def mutated(patch: Path, directory: Path) -> Path:
    """Copy the controller to *directory* and change it; return where it is imported from."""
    copy = directory / "controller"
    shutil.copytree(CONTROLLER, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file, before, after in hunks(patch.read_text()):
        target = copy / file
        target.write_text(replaced(target.read_text(), before, after, patch.stem))
    return copy


def replaced(text: str, before: str, after: str, name: str) -> str:
    """*text* with *after* where *before* was; raise ``Stale``.

    >>> replaced("a b c", "b", "d", "x")
    'a d c'
    """
    if text.count(before) != 1:
        raise Stale(f"{name}: {text.count(before)} places are as it has them, and not one:\n{before}")
    return text.replace(before, after)


def hunks(patch: str) -> Iterator[tuple[str, str, str]]:
    r"""Yield of each hunk the file, and the lines before and after.

    >>> list(hunks("--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n"))
    [('x.py', 'one\ntwo\n', 'one\nthree\n')]
    """
    for file, body in re.findall(r"^--- .*\n\+\+\+ b/(.*)\n((?:(?!--- ).*\n)*)", patch, re.MULTILINE):
        for hunk in re.split(r"^@@ .*\n", body, flags=re.MULTILINE)[1:]:
            lines = hunk.splitlines(keepends=True)
            before, after = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
            yield file, before, after
