"""What a command says of where it acts."""

import pytest

from rpcregistry.commands.whereabouts import Whereabouts
from rpcregistry.layouts import Layout

CLUSTER = {"server": "https://k8s:6443", "cluster_id": "8d86"}


@pytest.mark.parametrize(
    ("whereabouts", "said"),
    [
        pytest.param(
            Whereabouts(**CLUSTER, context="prod", zk_servers="zk1:2181"),
            "cluster 8d86 (context prod, https://k8s:6443), ZooKeeper zk1:2181",
            id="a context",
        ),
        pytest.param(
            Whereabouts(**CLUSTER, context="in-cluster"),
            "cluster 8d86 (in-cluster, https://k8s:6443)",
            id="a pod, without ZooKeeper",
        ),
        pytest.param(
            Whereabouts(
                **CLUSTER,
                context="prod",
                zk_servers="zk1:2181",
                layouts=(Layout("kube2zk", "/rpc_v2"), Layout("dubbo", "/dubbo")),
            ),
            "cluster 8d86 (context prod, https://k8s:6443), ZooKeeper zk1:2181,"
            " layouts kube2zk=/rpc_v2 dubbo=/dubbo",
            id="layouts",
        ),
    ],
)
def test_it_is_one_line(whereabouts: Whereabouts, said: str):
    assert whereabouts.describe() == said
