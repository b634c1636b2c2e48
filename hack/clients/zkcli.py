"""ZooKeeper's own command line as a watcher: ``python -m hack.clients.zkcli COMMAND… watch SERVERS PATH``.

It polls PATH, and prints a line whenever the answer changes: the servers in the JSON of a kube2zk znode.
``write SERVERS PATH DATA`` creates a znode.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence


class CommandLine:
    """The command line, which reads commands and prints their output."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def ask(self, *words: str) -> list[str]:
        """The lines that a command prints."""
        assert self._process.stdin
        # Its answer to an unknown command marks the end of the one before.
        self._process.stdin.write(f"{' '.join(words)}\nend-of-answer\n")
        self._process.stdin.flush()
        return list(self._answer())

    def _answer(self) -> Iterator[str]:
        assert self._process.stdout
        for line in self._process.stdout:
            if "end-of-answer" in line:
                return
            yield line.strip()
        raise EOFError

    def close(self) -> None:
        """End it."""
        self._process.kill()


def main(arguments: Sequence[str]) -> None:
    """Run the mode that *arguments* ask for, until the standard input ends."""
    mode = max(i for i, word in enumerate(arguments) if word in ("watch", "write"))
    servers, path, *data = arguments[mode + 1 :]
    line = CommandLine([*arguments[:mode], "-server", servers])
    if arguments[mode] == "write":
        line.ask("create", path, *data)
        print(json.dumps({"written": True}), flush=True)
    else:
        threading.Thread(target=_watch, args=(line, path), daemon=True).start()
    sys.stdin.read()
    line.close()


def _watch(line: CommandLine, path: str) -> None:
    shown = ""
    while True:
        text = next((answer for answer in line.ask("get", path) if answer.startswith("{")), "")
        if text and text != shown:
            endpoints: dict[str, dict[str, str]] = {server: {} for server in json.loads(text)["servers"]}
            print(json.dumps({"via": "get", "endpoints": endpoints}), flush=True)
            shown = text
        time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1:])
