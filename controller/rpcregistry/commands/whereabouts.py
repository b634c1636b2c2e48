"""The cluster and ZooKeeper that a command acts on, as its first line of output."""

from collections.abc import Sequence

import msgspec

from rpcregistry.kube.access import IN_CLUSTER
from rpcregistry.kube.client import Kube
from rpcregistry.layouts import Layout
from rpcregistry.telemetry.logging import printable


class Whereabouts(msgspec.Struct, frozen=True, kw_only=True):
    """*context*: the kubeconfig's, or ``in-cluster``; *server*: the API server's URL.

    *zk_servers* and *layouts* are empty if the command does not use ZooKeeper.
    """

    context: str
    server: str
    cluster_id: str
    zk_servers: str = ""
    layouts: tuple[Layout, ...] = ()

    @classmethod
    def of(
        cls, kube: Kube, cluster_id: str = "", zk_servers: str = "", layouts: Sequence[Layout] = ()
    ) -> "Whereabouts":
        """Describe the server of *kube*; without a *cluster_id*, ask that for it."""
        return cls(
            context=kube.context,
            server=kube.server,
            cluster_id=cluster_id or kube.cluster_id(),
            zk_servers=zk_servers,
            layouts=tuple(layouts),
        )

    def describe(self) -> str:
        """Return one line.

        >>> Whereabouts(context="prod", server="https://k8s", cluster_id="8d86", zk_servers="zk:1").describe()
        'cluster 8d86 (context prod, https://k8s), ZooKeeper zk:1'
        """
        context = self.context if self.context == IN_CLUSTER else f"context {self.context}"
        parts = [f"cluster {self.cluster_id} ({context}, {self.server})"]
        if self.zk_servers:
            parts.append(f"ZooKeeper {self.zk_servers}")
        if self.layouts:
            parts.append(f"layouts {' '.join(f'{layout.name}={layout.base}' for layout in self.layouts)}")
        return printable(", ".join(parts))
