"""``python -m hack.local``: find or build all that the local cluster needs, and show the progress."""

import sys

from hack.local import netns
from hack.local.binaries import Unavailable, find, kwok_stages, zookeeper_command

NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "kubectl")
OF_NETWORKS = ("kube-proxy", "coredns")


def main() -> int:
    """Return the exit code."""
    try:
        for name in (*NEEDED, *(() if netns.missing() else OF_NETWORKS)):
            find(name)
        kwok_stages()
        zookeeper_command()
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
