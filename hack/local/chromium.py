"""Chromium for the tests of the page: the one on PATH, else Debian's package, unpacked but not installed.

The libraries that this machine lacks are unpacked beside it.
"""

import os
import shutil
import subprocess
from pathlib import Path

from hack.local.binaries import Unavailable, key_of, once, unpack

PACKAGE = "chromium"
START = """#!/bin/sh
here=$(dirname "$0")
libraries=$here/usr/lib/$(uname -m)-linux-gnu
LD_LIBRARY_PATH=$libraries:$libraries/pulseaudio exec "$here/usr/lib/chromium/chromium" "$@"
"""


def chromium() -> Path:
    """The program, fetched first if needed; raises ``Unavailable``."""
    found = shutil.which(PACKAGE)
    if found:
        return Path(found)
    packages = _needed()

    def unpack_into(target: Path) -> None:
        unpack("chromium", [name for name, _ in packages], target)
        start = target / "chromium"
        start.write_text(START)
        start.chmod(0o755)

    return once(f"chromium-{key_of(START, *map(' '.join, packages))}", unpack_into) / "chromium"


def _needed() -> list[tuple[str, str]]:
    """The package and those that it needs and this machine lacks, each with its version."""
    command = ["apt-get", "install", "--simulate", "--no-install-recommends", PACKAGE]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except FileNotFoundError as error:
        raise Unavailable(
            "chromium is not on PATH, and this is no Debian to take its package from"
        ) from error
    words = [line.split() for line in done.stdout.splitlines() if line.startswith("Inst ")]
    if not words:
        raise Unavailable(f"chromium is not on PATH, and cannot be taken from Debian: {done.stderr.strip()}")
    # "Inst NAME [OLD] (NEW …": without the old version, if there is one.
    return [(line[1], next(word for word in line if word.startswith("("))[1:]) for line in words]
