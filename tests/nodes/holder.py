"""``python -m tests.nodes.holder FOLDER``: runs a real node until a line of input says how to end."""

import sys
from pathlib import Path

from hack.local.nodes import real_cluster

if __name__ == "__main__":
    with real_cluster(Path(sys.argv[1]), 1):
        print("up", flush=True)
        if sys.stdin.readline().strip() == "fail":
            raise RuntimeError("a test that fails")
