"""Other controllers, measured beside ours: any command that has kube2zk's flags."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hack.bench.population import NAMESPACE
from hack.bench.znodes import BASE
from hack.clients import build

LEAST = "least"  # the Go program of hack/clients that does the least work possible


class Peer(NamedTuple):
    """Another controller; *name* is what figures call it."""

    name: str
    program: Sequence[str]

    def command(self, kubeconfig: Path, zk_servers: str) -> list[str]:
        """Its command line.

        >>> Peer("it", ["./it"]).command(Path("/k"), "zk:2181")[:4]
        ['env', 'KUBECONFIG=/k', './it', '-namespace']
        """
        flags = ("-namespace", NAMESPACE, "-zkservers", zk_servers, "-zkpath", BASE)
        return ["env", f"KUBECONFIG={kubeconfig}", *self.program, *flags]


def peer(text: str) -> Peer:
    """The controller that a person asked for: ``least``, or a command.

    >>> peer("/opt/kube2zk/kube2zk -syncperiod 5m")
    Peer(name='kube2zk', program=['/opt/kube2zk/kube2zk', '-syncperiod', '5m'])
    """
    program = build.command(LEAST) if text == LEAST else shlex.split(text)
    return Peer(Path(program[0]).name, program)
