"""One process of the local cluster, found again by the file that has its pid."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

STOP_WITHIN = 10.0


class Process:
    """A program with its log; it outlives the process that started it, and any process may stop it."""

    def __init__(self, name: str, directory: Path, command: Sequence[str], ready: Callable[[], bool]) -> None:
        self.name = name
        self.log = directory / "logs" / f"{name}.log"
        self._command = command
        self._directory = directory
        self._pid_file = directory / f"{name}.pid"
        self._ready = ready
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The pid, while the program runs."""
        try:
            pid, started = self._pid_file.read_text().split()
        except (OSError, ValueError):
            return None
        if self._child and self._child.pid == int(pid):
            # A killed program may look dead while its last threads hold its ports; once reaped, it is dead.
            return int(pid) if self._child.poll() is None else None
        return int(pid) if _start_time(int(pid)) == started else None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.pid:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                cwd=self._directory,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._pid_file.write_text(f"{self._child.pid} {_start_time(self._child.pid)}")

    def wait_until_ready(self, seconds: float = 180.0) -> None:
        """Wait until it serves; raise with the end of its log if it does not."""
        end = time.monotonic() + seconds
        while not self.pid or not self._ready():
            if not self.pid or time.monotonic() > end:
                state = "did not become ready" if self.pid else "has ended"
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                raise RuntimeError(f"{self.name} {state}; the end of {self.log}:\n{tail}")
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        pid = self.pid
        if pid:
            os.kill(pid, number)

    def pause(self) -> None:
        """SIGSTOP: it hangs, and its kernel goes on answering."""
        if pid := self.pid:
            pause(pid)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        self._wait_for_end(STOP_WITHIN)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not end it."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if not self._wait_for_end(STOP_WITHIN):
            self.kill()

    def restart(self) -> None:
        """Kill it and start it again, on the same port and data."""
        self.kill()
        self.start()
        self.wait_until_ready()

    def _wait_for_end(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self.pid:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True


def pause(pid: int) -> None:
    """SIGSTOP, and wait until none of its threads runs any more, which takes a moment."""
    os.kill(pid, signal.SIGSTOP)
    while not all(map(_stopped, Path(f"/proc/{pid}/task").glob("*/stat"))):
        time.sleep(0.001)


def _stopped(stat: Path) -> bool:
    """Whether a thread is stopped, or has ended."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] in "TtZX"
    except OSError:
        return True


def _start_time(pid: int) -> str | None:
    """The start time: a later process of the same pid has another (proc(5), field 22); None if dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
