"""``python -m hack.local``: find or build what the tests run on local clusters, and show the progress."""

import sys

from hack.local import images, netns, nodes
from hack.local.binaries import Unavailable, debian, find, kwok_stages, zookeeper_command

NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "kubectl")
OF_CHARTS = ("helm",)
OF_NETWORKS = ("kube-proxy", "coredns")
OF_NODES = ("kubelet", "test-server")


def main() -> int:
    """Return the exit code."""
    try:
        of_nodes = () if nodes.missing() else OF_NODES
        for name in (*NEEDED, *(() if netns.missing() else OF_NETWORKS), *of_nodes, *OF_CHARTS):
            find(name)
        if of_nodes:
            for package in nodes.PACKAGES:
                debian(package)
            images.test_server()
        kwok_stages()
        zookeeper_command()
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
