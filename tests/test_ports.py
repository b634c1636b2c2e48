"""Ports that several processes take at once."""

import random
import subprocess
import sys
from itertools import islice

from hack.local.cluster import BLOCK, _own_ports

TAKES = "from hack.local.cluster import free_ports; print(*free_ports(60), flush=True); input()"


def test_no_port_is_given_out_that_another_process_was_given(monkeypatch):
    command = [sys.executable, "-c", TAKES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        theirs = set(map(int, other.stdout.readline().split()))
        blocks = iter([*{port // BLOCK * BLOCK for port in theirs}, *range(29950, 10000, -BLOCK)])
        monkeypatch.setattr(random, "randrange", lambda *_: next(blocks))
        ours = set(islice(_own_ports(), 60))
        other.communicate("")
    assert len(theirs) == len(ours) == 60
    assert not theirs & ours
