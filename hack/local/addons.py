"""What a cluster's network needs on its machines: the way to the API server, CoreDNS, and kube-proxy."""

from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from hack.local.binaries import find
from hack.local.cluster import LocalCluster
from hack.local.netns import Machine, Network
from hack.local.proxy import Proxy

COREFILE = """
.:53 {{
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local {{
        kubeconfig {kubeconfig}
        ttl 0
    }}
}}
"""


@contextmanager
def run_dns(network: Network, cluster: LocalCluster) -> Iterator[str]:
    """A CoreDNS that knows the cluster's Services, on a machine of its own; its address."""
    with machine_of("dns", network, cluster) as machine:
        corefile = machine.directory / "Corefile"
        corefile.write_text(COREFILE.format(kubeconfig=cluster.kubeconfig))
        command = [str(find("coredns")), "-conf", str(corefile)]
        machine.start("coredns", command, lambda: machine.answers("http://127.0.0.1:8181/ready"))
        yield machine.address


@contextmanager
def machine_of(name: str, network: Network, cluster: LocalCluster) -> Iterator[Machine]:
    """A machine that reaches the API server where the host does, so that kubeconfigs hold in it as well."""
    target = cluster.server.removeprefix("https://")
    host, port = target.split(":")
    with network.machine(name) as machine, Proxy(target, listener=machine.listen(host, int(port))):
        yield machine


def start_kube_proxy(name: str, machine: Machine, cluster: LocalCluster) -> None:
    """Run kube-proxy on a machine that is a node."""
    # https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": name,
        "clientConnection": {"kubeconfig": str(cluster.kubeconfig)},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # The host's limits of connection tracking are not a namespace's to set.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    file = machine.directory / "kube-proxy.yaml"
    file.write_text(yaml.safe_dump(configuration))
    command = [str(find("kube-proxy")), f"--config={file}"]
    machine.start("kube-proxy", command, lambda: machine.answers("http://127.0.0.1:10256/healthz"))
