"""``python -m tests.nodes.holder FOLDER``: runs a real node; lines of input freeze it, and say how to end."""

import sys
from pathlib import Path

from hack.local.nodes import real_cluster

if __name__ == "__main__":
    with real_cluster(Path(sys.argv[1]), 1) as cluster:
        print("up", flush=True)
        word = sys.stdin.readline().strip()
        if word == "freeze":
            cluster.nodes["node1"].freeze()
            print("frozen", flush=True)
            word = sys.stdin.readline().strip()
        if word == "fail":
            raise RuntimeError("a test that fails")
