"""``python hack/install.py LOCK…``: install what lock files name for this Python, and show how far it is.

It runs before anything is installed, so it needs the standard library alone.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

SAY_EVERY = 10.0  # seconds, off a terminal
STEP = re.compile(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)")


def main(locks: list[str]) -> int:
    """Return pip's exit code; its output is shown if it fails."""
    count = sum(len(re.findall(r"^[\w.-]+==", Path(lock).read_text(), re.MULTILINE)) for lock in locks)
    options = [option for lock in locks for option in ("-r", lock)]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--require-hashes",
        "--no-compile",  # that is half of the work, and Python compiles what it imports
        *options,
    ]
    began = said = time.monotonic()
    lines: list[str] = []
    done = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout
        for line in pip.stdout:
            lines.append(line)
            step = STEP.match(line)
            done += bool(step)
            now = time.monotonic()
            what = line.partition(" (")[0].strip()[:60]
            what = f"{min(done, count)} of {count} packages, {now - began:.0f} s: {what}"
            if sys.stdout.isatty():
                print(f"\r\x1b[2K  {what}", end="", flush=True)
            elif now - said >= SAY_EVERY:
                said = now
                print(f"  {what}", flush=True)
    if sys.stdout.isatty():
        print("\r\x1b[2K", end="")
    if pip.returncode:
        print("".join(lines[-30:]), end="")
    else:
        print(f"  {count} packages in {time.monotonic() - began:.0f} s")
    return pip.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
