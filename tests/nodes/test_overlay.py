"""The overlay to start from, on real nodes: another namespace, and a ZooKeeper with TLS and passwords."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from kazoo.client import KazooClient

from hack.local.cluster import LocalCluster
from hack.local.nodes import RealCluster
from hack.local.pki import Authority
from hack.local.zookeeper import LOGIN, NETTY, SASL
from tests.nodes.installation import EXAMPLES, KUSTOMIZE, apply, image_of, logs, published, rolled_out
from tests.nodes.pods import eventually

pytestmark = [pytest.mark.deep, pytest.mark.needs_root]

NAMESPACE = "rpc-registry"
OVERLAY = KUSTOMIZE / "overlays" / "example"
NAMES = tuple(f"zookeeper-{number}" for number in range(3))
FILES = "/access"  # where the server has them
ZOO_CFG = f"""
dataDir=/data
dataLogDir=/datalog
tickTime=1000
admin.enableServer=false
clientPort=2181
secureClientPort=2281
serverCnxnFactory={NETTY}
authProvider.sasl={SASL}
ssl.keyStore.location={FILES}/server.pem
ssl.keyStore.type=PEM
ssl.trustStore.location={FILES}/ca.pem
ssl.trustStore.type=PEM
ssl.clientAuth=none
"""
JAAS = f'Server {{\n  {LOGIN} required\n  user_registry="secret";\n}};\n'


def config(kind: str, name: str, content: dict[str, str], field: str) -> dict[str, Any]:
    """A ConfigMap or Secret."""
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        field: content,
    }


def zookeeper() -> Iterator[dict[str, Any]]:
    """Yield the manifests of a server that has the overlay's three names, and of the Secrets."""
    authority = Authority("the CA of ZooKeeper")
    key, certificate = authority.issue("zookeeper", [f"{name}.zookeeper" for name in NAMES])
    ca = authority.pem.decode()
    yield config("Secret", "zookeeper-access", {"user": "registry:secret", "ca.crt": ca}, "stringData")
    server = {"server.pem": (key + certificate).decode(), "ca.pem": ca, "jaas.conf": JAAS, "zoo.cfg": ZOO_CFG}
    yield config("Secret", "server", server, "stringData")
    deployment, service = yaml.safe_load_all((EXAMPLES / "zookeeper.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    pod["volumes"].append({"name": "server", "secret": {"secretName": "server"}})
    (container,) = pod["containers"]
    container["volumeMounts"] += [
        {"name": "server", "mountPath": FILES},
        {"name": "server", "mountPath": "/zoo.cfg", "subPath": "zoo.cfg"},
    ]
    option = f"-Djava.security.auth.login.config={FILES}/jaas.conf"
    container["env"] = [{"name": "JAVA_TOOL_OPTIONS", "value": option}]
    deployment["metadata"]["namespace"] = NAMESPACE
    yield deployment
    # Its pod has three names, as the pods of a StatefulSet have one each.
    service["metadata"]["namespace"] = NAMESPACE
    service["spec"] = {"clusterIP": "None", "ports": [{"name": "secure", "port": 2281}]}
    yield service


def names_of(address: str) -> dict[str, Any]:
    """What leads the three names to an address."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "zookeeper",
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": "zookeeper"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "secure", "port": 2281}],
        "endpoints": [{"addresses": [address], "hostname": name} for name in NAMES],
    }


@pytest.fixture(scope="module")
def overlaid(cluster: LocalCluster, crds: None, product: None) -> Iterator[LocalCluster]:
    """The overlay with nothing changed but the image's name, and a service of three pods."""
    text = cluster.kubectl("kustomize", str(OVERLAY))
    image = image_of("controller.yaml", "rpcregistry")
    text = text.replace(f"image: registry.example.com/{image}", f"image: {image}")
    cluster.kubectl("apply", "-f", "-", input=text)
    items = [*zookeeper()]
    cluster.kubectl(
        "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    )
    rolled_out(cluster, NAMESPACE, "zookeeper")
    wanted = ("-l", "app.kubernetes.io/name=zookeeper", "-o", "jsonpath={.items[*].status.podIP}")
    address = cluster.kubectl("get", "pods", "-n", NAMESPACE, *wanted)
    cluster.kubectl("apply", "-f", "-", input=json.dumps(names_of(address)))
    rolled_out(cluster, NAMESPACE, "rpcregistry")
    apply(cluster, "test-rpc-service.yaml")
    rolled_out(cluster, "default", "test-rpc-service")
    yield cluster
    cluster.kubectl("delete", "-f", str(EXAMPLES / "test-rpc-service.yaml"))
    cluster.kubectl("delete", "namespace", NAMESPACE)


def test_the_overlay_publishes_by_tls_and_what_it_wrote_is_its_users_alone(
    real: RealCluster, overlaid: LocalCluster
) -> None:
    address = overlaid.kubectl(
        "get", "endpointslice", "-n", NAMESPACE, "zookeeper", "-o", "jsonpath={.endpoints[0].addresses[0]}"
    )
    with real.forward(address, 2181) as proxy:
        client = KazooClient(f"{proxy.address}/rpc")
        client.start()
        try:
            eventually(lambda: published(overlaid, client, 3))
            assert len(client.get_children("/dubbo/test-rpc-server-1/providers")) == 3
            acls, _ = client.get_acls("/rpc_v2/test-rpc-server-1")
            assert {acl.id.id for acl in acls if "ALL" in acl.acl_list} == {"registry"}
        finally:
            client.stop()
            client.close()
    assert "orbidden" not in logs(real, NAMESPACE)
