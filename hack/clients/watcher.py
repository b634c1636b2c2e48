"""A watcher's process, and its output so far."""

import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hack.clients.build import command

Endpoints = Mapping[str, Mapping[str, str]]


class Watcher:
    """The watcher of *client*, as a process; *arguments*: its mode, the ZooKeeper server, and what follows.

    *log* gets its standard error.  *within*: a command that runs it elsewhere, in a network namespace, say.
    """

    def __init__(self, client: str, *arguments: str, log: Path, within: Sequence[str] = ()) -> None:
        self.log = log
        self.lines: list[dict[str, Any]] = []
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*within, *command(client), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=Path(__file__).parents[2],
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                if line.startswith("{"):
                    self.lines.append(json.loads(line))

    def seen(self, via: str | None = None) -> list[Endpoints]:
        """Every list it was shown, in order; with *via*: by that way of the client only."""
        return [
            line["endpoints"] for line in self.lines if "endpoints" in line and via in (None, line.get("via"))
        ]

    def ways(self) -> set[str]:
        """The ways by which the client came to its lists."""
        return {line["via"] for line in self.lines if "endpoints" in line or "error" in line}

    def errors(self, via: str | None = None) -> list[str]:
        """What the client raised in place of a list; with *via*: by that way of the client only."""
        return [line["error"] for line in self.lines if "error" in line and via in (None, line.get("via"))]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)
