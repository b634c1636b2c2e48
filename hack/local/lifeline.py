"""Ends what a process made as soon as that process has ended, in whatever way.

The guard is a process that reads from a pipe whose other end only that process has.  When the pipe ends, the
guard kills every process in the cgroups and network namespaces of a name, and those whose pids lie in a
folder.  It removes the cgroups, the namespaces and a folder.
"""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import kill
from pathlib import Path

from hack.local.netns import FILES, NAMESPACES
from hack.local.process import Process

CGROUPS = Path("/sys/fs/cgroup")
TOP = Path(__file__).parents[2]


@contextmanager
def lifeline(name: str, pids: Path, state: Path) -> Iterator[None]:
    """Sweep at the end of the context, or of this process; *name*: see ``sweep``."""
    command = [sys.executable, "-m", "hack.local.lifeline", name, str(pids), str(state)]
    # A session of its own: a Ctrl-C in the terminal is not for the guard.
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=TOP, start_new_session=True)
    try:
        yield
    finally:
        guard.communicate()
        if guard.returncode:
            raise RuntimeError(f"not all of {name} could be removed")


def sweep(name: str, pids: Path, state: Path) -> None:
    """Remove the cgroups and network namespaces called *name* or ``<name>-…``, and the folder *state*.

    *pids*: a folder with files of pids (``Process``); these processes are killed, too.
    """
    for file in pids.glob("*.pid"):
        Process(file.stem, pids, [], lambda: False).kill()
    for group in _named(CGROUPS, f"freezer/{name}"):
        thaw(group)  # what is frozen does not die
    for group in _named(CGROUPS, f"*/{name}"):
        _remove(group)
    for namespace in _named(NAMESPACES, name):
        done = subprocess.run(
            ["ip", "netns", "pids", namespace.name], capture_output=True, text=True, check=True
        )
        _kill(done.stdout)
        subprocess.run(["ip", "netns", "delete", namespace.name], check=True)
        shutil.rmtree(FILES / namespace.name, ignore_errors=True)
    with suppress(OSError):
        FILES.rmdir()  # goes only where nobody else keeps anything in it
    shutil.rmtree(state, ignore_errors=True)


def thaw(group: Path) -> None:
    """Let all go on that was frozen of a cgroup."""
    (group / "freezer.state").write_text("THAWED")


def _named(folder: Path, pattern: str) -> list[Path]:
    return [*folder.glob(pattern), *folder.glob(f"{pattern}-*")]


def _remove(group: Path, seconds: float = 30.0) -> None:
    """Kill all in a cgroup, and remove it; the kernel lets it go once all of them are reaped."""
    end = time.monotonic() + seconds
    while group.exists():
        for part in (*sorted(group.rglob("*/"), reverse=True), group):
            with suppress(OSError):
                _kill((part / "cgroup.procs").read_text())
                part.rmdir()
        if time.monotonic() > end:
            raise RuntimeError(f"{group} cannot be removed")
        time.sleep(0.02)


def _kill(pids: str) -> None:
    for pid in pids.split():
        with suppress(ProcessLookupError):
            kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    sys.stdin.read()
    sweep(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
