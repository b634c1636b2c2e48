"""The product's own commands, as users run them: command lines from typed arguments, and processes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict, Unpack

from hack.local.process import Process


class Where(TypedDict, total=False):
    """Which cluster and ZooKeeper a command is for; what is missing or empty is not given."""

    kubeconfig: Path
    zk_servers: str
    namespace: str
    layout: str
    cluster_id: str
    lease_namespace: str
    bind_address: str
    ui_bind_address: str


def command(name: str, *flags: str, **where: Unpack[Where]) -> list[str]:
    """The command line of ``rpcregistry NAME``, with further *flags*.

    >>> command("verify", "--verbose", zk_servers="zk:2181")[1:]
    ['-m', 'rpcregistry', 'verify', '--zk-servers', 'zk:2181', '--verbose']
    """
    return [sys.executable, "-m", "rpcregistry", name, *_given(where), *flags]


def _given(where: Where) -> Iterator[str]:
    for field, value in where.items():
        if value:
            yield from (f"--{field.replace('_', '-')}", str(value))


def finished(
    name: str, *flags: str, said: str | None = None, **where: Unpack[Where]
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; *said*: its standard input."""
    line = command(name, *flags, **where)
    return subprocess.run(line, input=said, capture_output=True, text=True, check=False)


def controller(directory: Path, ready: Callable[[], bool], *flags: str, **where: Unpack[Where]) -> Process:
    """The controllers, as a process that outlives who starts it; its log and pid lie in *directory*."""
    return Process("controller", directory, command("run", *flags, **where), ready)
