"""Types what pages show, on a terminal, and compares what a person sees."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping
from pathlib import Path

from tests.wildcards import shows

COLUMNS = 110
PIECES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\n|\r(?!\n)|[^\x1b\n\r]+")
AGE = re.compile(r"(?<=\s)\d+[smhd](?:\d+[smhd])?(?=\s|$)", re.MULTILINE)
# What may be typed again until it shows what it should: it changes nothing.
LOOKS = re.compile(
    r"kubectl( -n \S+)? (get|describe|auth|explain)|rpcregistry (get|status|explain|verify|check|ui|render)"
)


def typed(command: str, environment: Mapping[str, str], directory: Path) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code, and what stands on the screen."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    with subprocess.Popen(
        ["bash", "-c", command],
        cwd=directory,
        env={**environment, "NO_COLOR": "1", "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b""))
        os.close(ours)
    return process.returncode, on_screen(shown.decode())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the last process has closed it
        return b""


def on_screen(text: str) -> str:
    r"""What is left of a program's output on a screen: it may go up a line, and erase the one where it is.

    >>> on_screen("\x1b[?25llooking …\r\x1b[2Kin sync\r\n"), on_screen("a\r\nlooking\r\n\x1b[1A\x1b[2Kb\r\n")
    ('in sync\n', 'a\nb\n')
    """
    lines = [""]
    for piece in PIECES.findall(text):
        match piece:
            case "\n":
                lines.append("")
            case "\x1b[1A":
                del lines[-1:]
            case "\r" | "\x1b[2K":
                lines[-1] = ""
            case _ if not piece.startswith("\x1b"):
                lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def agrees(wanted: str, shown: str) -> bool:
    r"""Whether *shown* is what a page says (``shows``); ages differ.

    >>> agrees("NAME  AGE\na     4s\n…\n", "NAME    AGE\na  12s\nb 1s\n"), agrees("a\n", "a\nb\n")
    (True, False)
    """
    return shows(_ageless(wanted), _ageless(shown))


def _ageless(text: str) -> str:
    return "\n".join(AGE.sub("AGE", line) for line in text.splitlines())
