"""``crds/`` on a real API server: what it accepts and refuses, and what kubectl shows."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hack.local.cluster import LocalCluster

CRDS = Path(__file__).parents[2] / "crds"
Manifest = Mapping[str, Any]
pytestmark = pytest.mark.usefixtures("crds")


def rpc_service(name: str = "echo", **spec: object) -> Manifest:
    """An RpcService with that *spec*."""
    return manifest("RpcService", name, spec)


def local_service(name: str = "app", **spec: object) -> Manifest:
    """A LocalService with a port and a selector, and *spec* over them."""
    return manifest("LocalService", name, {"ports": [{"port": 80}], "selector": {"app": "x"}} | spec)


def manifest(kind: str, name: str, spec: Mapping[str, object]) -> Manifest:
    metadata = {"name": name}
    return {"apiVersion": "rpcregistry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def create(cluster: LocalCluster, namespace: str, manifest: Manifest, *options: str) -> dict[str, Any]:
    """Create the object, and return what the server made of it."""
    answer = cluster.kubectl(
        "create", "-n", namespace, "-f", "-", "-o", "json", *options, input=json.dumps(manifest)
    )
    created: dict[str, Any] = json.loads(answer)
    return created


def read(cluster: LocalCluster, namespace: str, resource: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "-n", namespace, resource, name, "-o", "json"))
    return found


def patch(cluster: LocalCluster, namespace: str, target: str, body: object, *options: str) -> None:
    """Merge *body* into *target*, such as ``rpcservice/echo``."""
    cluster.kubectl(
        *("patch", "-n", namespace, target, "--type=merge", "--patch-file=/dev/stdin", *options),
        input=json.dumps(body),
    )


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(rpc_service(), id="nothing given: the service is called as the object"),
        pytest.param(rpc_service(serviceName="com.foo.Bar$Baz_1"), id="a Java class"),
        pytest.param(rpc_service(serviceName="1"), id="a digit"),
        pytest.param(rpc_service(serviceName="a" * 253), id="253 characters"),
        pytest.param(rpc_service("zookeeper", serviceName="echo"), id="the object may be called zookeeper"),
        pytest.param(rpc_service("n" * 253), id="an object's name of 253 characters"),
        pytest.param(rpc_service(selector={"matchLabels": {"example.com/a": ""}}), id="an empty label value"),
        pytest.param(
            rpc_service(
                selector={
                    "matchExpressions": [
                        {"key": "a", "operator": "In", "values": ["1", "2"]},
                        {"key": "b", "operator": "Exists"},
                    ]
                }
            ),
            id="a selector by expressions",
        ),
        pytest.param(
            rpc_service(
                port=20880,
                version="v0",
                group="g",
                protocol="dubbo",
                weight=0,
                metadata={"k" * 256: "v" * 256},
            ),
            id="every default for selected pods",
        ),
        pytest.param(rpc_service(config=[]), id="an empty config"),
        pytest.param(rpc_service(config=["zone kg 8M"], protectThreshold=100), id="config and protection"),
        pytest.param(local_service(), id="a LocalService"),
        pytest.param(local_service("n" * 63), id="a LocalService's name of 63 characters"),
        pytest.param(local_service(clusterIP="None", ports=[]), id="headless, without ports"),
        pytest.param(
            local_service(ports=[{"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 81}]),
            id="two ports with names",
        ),
        pytest.param(
            local_service(
                ports=[{"name": n, "port": 53, "protocol": n.upper()} for n in ("tcp", "udp", "sctp")]
            ),
            id="one port with three protocols",
        ),
        pytest.param(local_service(ports=[{"port": 80, "targetPort": 65535}]), id="the highest port"),
        pytest.param(
            local_service(ports=[{"name": f"p{n}", "port": n} for n in range(1, 101)]), id="100 ports"
        ),
        pytest.param(
            local_service(
                type="NodePort",
                sessionAffinity="ClientIP",
                sessionAffinityConfig={"clientIP": {"timeoutSeconds": 86400}},
                publishNotReadyAddresses=True,
                ipFamilies=["IPv6", "IPv4"],
                ipFamilyPolicy="PreferDualStack",
                internalTrafficPolicy="Local",
                externalTrafficPolicy="Local",
                nodeSelector={"topology.kubernetes.io/zone": "a"},
                serviceLabels={"team": "shop", "example.com/tier": ""},
                serviceAnnotations={"example.com/note": "x" * 4096},
            ),
            id="everything that Services can share",
        ),
    ],
)
def test_the_server_accepts(cluster: LocalCluster, namespace: str, manifest: Manifest) -> None:
    created = create(cluster, namespace, manifest, "--dry-run=server")
    assert created["spec"].keys() >= manifest["spec"].keys()


NAME = "spec.serviceName in body should match"
OURS_ALONE = {"nodeSelector", "serviceLabels", "serviceAnnotations"}
OURS = "rpcregistry.dev/* and service.kubernetes.io/* cannot be set"
SHARE = "several Services cannot share"


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        *(
            pytest.param(local_service(**{field: {key: "x"}}), OURS, id=f"{field} {key}")
            for field in ("serviceLabels", "serviceAnnotations")
            for key in (
                "owner",
                "app.kubernetes.io/managed-by",
                "rpcregistry.dev/node",
                "service.kubernetes.io/topology-mode",
            )
        ),
        pytest.param(
            local_service(serviceLabels={"a b": "x"}), "not the name of a label", id="a label with a space"
        ),
        pytest.param(rpc_service(serviceName=""), NAME, id="an empty serviceName"),
        pytest.param(rpc_service(serviceName="../esc"), NAME, id="a way out of the base path"),
        pytest.param(rpc_service(serviceName="a/b"), NAME, id="a slash"),
        pytest.param(rpc_service(serviceName="."), NAME, id="a dot"),
        pytest.param(rpc_service(serviceName="a b"), NAME, id="a space"),
        pytest.param(rpc_service(serviceName="a\n"), NAME, id="a newline at the end"),
        pytest.param(rpc_service(serviceName="é"), NAME, id="not ASCII"),
        pytest.param(rpc_service(serviceName="a" * 254), "more than 253", id="254 characters"),
        pytest.param(rpc_service(serviceName="zookeeper"), "keeps that name for itself", id="zookeeper"),
        pytest.param(rpc_service("zookeeper"), "keeps that name for itself", id="zookeeper, by default"),
        pytest.param(
            rpc_service(nonsense=1), 'unknown field "spec.nonsense"', id="a field that is not there"
        ),
        pytest.param(rpc_service(selector={}), "empty selector", id="an empty selector"),
        pytest.param(rpc_service(selector={"matchLabels": {}}), "empty selector", id="empty matchLabels"),
        pytest.param(
            rpc_service(selector={"matchLabels": {"a": "b c"}}), "matchLabels.a in body", id="no label value"
        ),
        pytest.param(
            rpc_service(selector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "In and NotIn need values",
            id="In without values",
        ),
        pytest.param(
            rpc_service(selector={"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
            "Exists and DoesNotExist take none",
            id="Exists with values",
        ),
        pytest.param(rpc_service(port=0), "greater than or equal to 1", id="port 0"),
        pytest.param(rpc_service(port=65536), "less than or equal to 65535", id="port 65536"),
        pytest.param(rpc_service(port="80"), "must be of type integer", id="a port as a string"),
        pytest.param(rpc_service(weight=-1), "greater than or equal to 0", id="a negative weight"),
        pytest.param(rpc_service(weight=10001), "less than or equal to 10000", id="weight 10001"),
        pytest.param(rpc_service(protectThreshold=101), "less than or equal to 100", id="101 percent"),
        pytest.param(
            rpc_service(metadata={"k" * 257: ""}), "at most 256 characters", id="a long metadata key"
        ),
        pytest.param(rpc_service(metadata={"k": "v" * 257}), "more than 256", id="a long metadata value"),
        pytest.param(
            rpc_service(metadata={str(n): "" for n in range(33)}), "at most 32", id="33 keys of metadata"
        ),
        pytest.param(rpc_service(config=["x"] * 65), "at most 64", id="65 settings"),
        pytest.param(local_service("n" * 64), "63", id="a LocalService's name of 64 characters"),
        pytest.param(local_service(selector={}), "at least 1", id="an empty LocalService selector"),
        pytest.param(
            manifest("LocalService", "app", {"ports": [{"port": 80}]}),
            "spec.selector: Required",
            id="no selector",
        ),
        pytest.param(local_service(selector={"a/b/c": "d"}), "not the name of a label", id="no label"),
        pytest.param(local_service(nodeSelector={"a b": "d"}), "not the name of a label", id="no node label"),
        pytest.param(local_service(ports=[]), "a Service needs a port", id="no ports"),
        pytest.param(
            local_service(ports=[{"port": 80}, {"port": 81}]),
            "each needs a name",
            id="two ports without names",
        ),
        pytest.param(
            local_service(ports=[{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]),
            "two ports cannot have the same name",
            id="two ports of one name",
        ),
        pytest.param(
            local_service(ports=[{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]),
            "spec.ports[1]: Duplicate value",
            id="one port twice",
        ),
        pytest.param(
            local_service(ports=[{"port": 80, "targetPort": "Not_A_Name"}]),
            "targetPort in body",
            id="no port name",
        ),
        pytest.param(
            local_service(ports=[{"port": 80, "targetPort": 0}]),
            "greater than or equal to 1",
            id="target port 0",
        ),
        pytest.param(local_service(type="NodePort", clusterIP="None"), "headless", id="a headless NodePort"),
        pytest.param(local_service(clusterIP="10.96.0.7"), "only None is possible", id="a cluster IP"),
        pytest.param(local_service(clusterIP=""), "only None is possible", id="an empty cluster IP"),
        pytest.param(
            local_service(externalTrafficPolicy="Local"),
            "only Services of type NodePort",
            id="policy in vain",
        ),
        pytest.param(
            local_service(sessionAffinityConfig={"clientIP": {"timeoutSeconds": 1}}),
            "where it is ClientIP",
            id="affinity in vain",
        ),
        pytest.param(
            local_service(type="LoadBalancer"), 'values: "ClusterIP", "NodePort"', id="LoadBalancer"
        ),
        pytest.param(
            local_service(type="ExternalName"), 'values: "ClusterIP", "NodePort"', id="ExternalName"
        ),
        pytest.param(local_service(ports=[{"port": 80, "nodePort": 30080}]), SHARE, id="nodePort"),
        pytest.param(
            local_service(ports=[{"port": 80, "appProtocol": "h2c"}]), "hand this", id="appProtocol"
        ),
        pytest.param(local_service(clusterIPs=["None"]), SHARE, id="clusterIPs"),
        pytest.param(local_service(externalIPs=["192.0.2.1"]), SHARE, id="externalIPs"),
        pytest.param(local_service(externalName="example.com"), "not to an external name", id="externalName"),
        pytest.param(local_service(healthCheckNodePort=30081), SHARE, id="healthCheckNodePort"),
        pytest.param(local_service(loadBalancerIP="192.0.2.1"), SHARE, id="loadBalancerIP"),
        pytest.param(local_service(loadBalancerClass="a/b"), SHARE, id="loadBalancerClass"),
        pytest.param(local_service(loadBalancerSourceRanges=[]), SHARE, id="loadBalancerSourceRanges"),
        pytest.param(
            local_service(allocateLoadBalancerNodePorts=True), SHARE, id="allocateLoadBalancerNodePorts"
        ),
        pytest.param(local_service(trafficDistribution="PreferClose"), "one node", id="trafficDistribution"),
    ],
)
def test_the_server_refuses(cluster: LocalCluster, namespace: str, manifest: Manifest, message: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(message)):
        create(cluster, namespace, manifest, "--dry-run=server")


@pytest.mark.parametrize("kind", ["rpcservice", "localservice"])
def test_it_installs_without_a_warning(cluster: LocalCluster, kind: str) -> None:
    """Under another group, since the server says nothing of what it has warned of before."""
    unseen = (CRDS / f"{kind}.yaml").read_text().replace("rpcregistry.dev", "unseen.example.com")
    cluster.kubectl("create", "--dry-run=server", "--warnings-as-errors", "-f", "-", input=unseen)


@pytest.mark.parametrize("kind", ["rpcservice", "localservice"])
def test_kubectl_explains_every_field(cluster: LocalCluster, kind: str) -> None:
    for path in objects(json.loads(cluster.kubectl("get", "-o", "json", "crd", f"{kind}s.rpcregistry.dev"))):
        explanation = cluster.kubectl("explain", f"{kind}{path}")
        assert "<empty>" not in explanation, path
        assert "<no description>" not in explanation, path


def objects(crd: Manifest) -> Iterator[str]:
    """Yield the path of every schema of *crd* that has fields, such as ``.status.endpoints``."""

    def inside(schema: Manifest, path: str) -> Iterator[str]:
        if "properties" in schema:
            yield path
        for name, child in schema.get("properties", {}).items():
            yield from inside(child.get("items", child), f"{path}.{name}")

    yield from inside(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "")


def test_every_field_of_a_service_is_allowed_or_refused_with_a_message(cluster: LocalCluster) -> None:
    """A field that the schema did not name would be dropped in silence."""

    def fields(document: str, schema: str) -> set[str]:
        schemas = json.loads(cluster.kubectl("get", "--raw", f"/openapi/v3/{document}"))["components"][
            "schemas"
        ]
        return set(schemas[schema]["properties"])

    ours = json.loads(cluster.kubectl("get", "-o", "json", "crd", "localservices.rpcregistry.dev"))
    spec = ours["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert fields("api/v1", "io.k8s.api.core.v1.ServiceSpec") == spec.keys() - OURS_ALONE
    assert fields("api/v1", "io.k8s.api.core.v1.ServicePort") == spec["ports"]["items"]["properties"].keys()


def test_absent_fields_have_defaults(cluster: LocalCluster, namespace: str) -> None:
    bare = {"apiVersion": "rpcregistry.dev/v1alpha1", "kind": "RpcService", "metadata": {"name": "echo"}}
    assert create(cluster, namespace, bare)["spec"] == {
        "protectThreshold": 0,
        "publishNotReadyAddresses": False,
    }
    assert create(cluster, namespace, local_service())["spec"] == {
        "type": "ClusterIP",
        "ports": [{"port": 80, "protocol": "TCP"}],
        "selector": {"app": "x"},
        "sessionAffinity": "None",
        "publishNotReadyAddresses": False,
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"serviceName": "a"}, {"serviceName": "b"}, id="another name"),
        pytest.param({}, {"serviceName": "b"}, id="not the object's name"),
        pytest.param({"serviceName": "a"}, {"serviceName": None}, id="back to the object's name"),
    ],
)
def test_a_service_cannot_be_renamed(
    cluster: LocalCluster, namespace: str, before: Manifest, after: Manifest
) -> None:
    create(cluster, namespace, rpc_service("echo", **before))
    with pytest.raises(
        RuntimeError, match=re.escape("spec.serviceName: Invalid value: a service cannot be renamed")
    ):
        patch(cluster, namespace, "rpcservice/echo", {"spec": after})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, {"serviceName": "echo"}, id="the default, written out"),
        pytest.param({"serviceName": "echo"}, None, id="the default, left out again"),
        pytest.param({"serviceName": "a"}, {"port": 20880, "config": ["keepalive 32"]}, id="other fields"),
    ],
)
def test_a_service_that_keeps_its_name_can_be_changed(
    cluster: LocalCluster, namespace: str, before: Manifest, after: Manifest | None
) -> None:
    create(cluster, namespace, rpc_service("echo", **before))
    patch(cluster, namespace, "rpcservice/echo", {"spec": after})
    changed = read(cluster, namespace, "rpcservice", "echo")
    assert changed["spec"].keys() >= (after or {}).keys()
    assert changed["metadata"]["generation"] == 2


ENDPOINT = {
    "podName": "p-1",
    "podUID": "0a4f8d0e-6cf5-4b9c-9c60-0e5a3c0d7c11",
    "ip": "10.0.0.1",
    "ips": ["10.0.0.1", "fd00::1"],
    "port": 20880,
    "nodeName": "n1",
    "hostIP": "10.1.0.1",
    "version": "v0",
    "group": "g",
    "protocol": "dubbo",
    "weight": 100,
    "ready": True,
    "phase": "Running",
    "startedAt": "2026-11-21T02:02:02Z",
    "metadata": {"k": "v"},
    "held": True,
}
SYNCED = {
    "type": "Synced",
    "status": "False",
    "reason": "Held",
    "message": "9 listed pods are absent",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-11-21T02:02:02Z",
}
STATUS = {
    "observedGeneration": 1,
    "serviceName": "com.foo.Bar",
    "origin": "declared",
    "ready": "1/1",
    "readyEndpoints": 1,
    "totalEndpoints": 1,
    "registryPaths": "/rpc_v2/com.foo.Bar",
    "endpoints": [ENDPOINT],
    "conditions": [SYNCED],
}


def test_the_status_is_written_through_its_own_door_only(cluster: LocalCluster, namespace: str) -> None:
    created = create(cluster, namespace, {**rpc_service(port=1), "status": STATUS})
    assert "status" not in created
    patch(cluster, namespace, "rpcservice/echo", {"status": STATUS})
    assert "status" not in read(cluster, namespace, "rpcservice", "echo")
    patch(
        *(cluster, namespace, "rpcservice/echo", {"spec": {"port": 2}, "status": STATUS}),
        "--subresource=status",
    )
    written = read(cluster, namespace, "rpcservice", "echo")
    assert written["status"] == STATUS
    assert (written["spec"]["port"], written["metadata"]["generation"]) == (1, 1)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        pytest.param(
            {"endpoints": [{"podName": "p"}]}, "endpoints[0].ip: Required", id="a row without an address"
        ),
        pytest.param({"conditions": [SYNCED, SYNCED]}, "conditions[1]: Duplicate", id="a condition twice"),
        pytest.param({"conditions": [{**SYNCED, "status": "Maybe"}]}, '"Maybe"', id="a status of Maybe"),
        pytest.param({"endpoints": [ENDPOINT] * 2001}, "at most 2000 items", id="2001 endpoints"),
        pytest.param(
            {"endpoints": [{**ENDPOINT, "metadata": {"k": "v" * 256, "l": "v" * 256}}] * 2000},
            "request is too large",
            id="more than the 1.5 MiB that etcd takes",
        ),
    ],
)
def test_the_server_refuses_a_status_with(
    cluster: LocalCluster, namespace: str, status: Manifest, message: str
) -> None:
    create(cluster, namespace, rpc_service())
    with pytest.raises(RuntimeError, match=re.escape(message)):
        patch(cluster, namespace, "rpcservice/echo", {"status": status}, "--subresource=status")


def test_2000_endpoints_fit_into_one_object(cluster: LocalCluster, namespace: str) -> None:
    rows = [{**ENDPOINT, "podName": "p" * 100, "metadata": {"k": "v" * 150}}] * 2000
    create(cluster, namespace, rpc_service())
    patch(cluster, namespace, "rpcservice/echo", {"status": {"endpoints": rows}}, "--subresource=status")
    assert read(cluster, namespace, "rpcservice", "echo")["status"]["endpoints"] == rows


def test_a_list_shows_what_was_found(cluster: LocalCluster, namespace: str) -> None:
    create(cluster, namespace, rpc_service(serviceName="com.foo.Bar"))
    patch(cluster, namespace, "rpcservice/echo", {"status": STATUS}, "--subresource=status")
    create(cluster, namespace, local_service())
    found = {"nodes": 3, "readyNodes": 2, "conditions": [{**SYNCED, "message": "3 nodes are absent"}]}
    patch(cluster, namespace, "localservice/app", {"status": found}, "--subresource=status")

    def table(resource: str, *options: str) -> list[list[str]]:
        printed = cluster.kubectl("get", "-n", namespace, resource, *options)
        return [re.split(r" {2,}", line.strip()) for line in printed.splitlines()]

    header, row = table("rpc")
    assert header == ["NAME", "SERVICE", "READY", "SYNCED", "REASON", "AGE"]
    assert row[:-1] == ["echo", "com.foo.Bar", "1/1", "False", "Held"]
    header, row = table("rpc", "-o", "wide")
    assert header[-3:] == ["ORIGIN", "MESSAGE", "PATHS"]
    assert row[-3:] == ["declared", "9 listed pods are absent", "/rpc_v2/com.foo.Bar"]
    header, row = table("lsvc")
    assert header == ["NAME", "NODES", "READY", "SYNCED", "REASON", "AGE"]
    assert row[:-1] == ["app", "3", "2", "False", "Held"]
    header, row = table("lsvc", "-o", "wide")
    assert (header[-1], row[-1]) == ("MESSAGE", "3 nodes are absent")


def test_a_field_selector_finds_a_service_under_any_name(cluster: LocalCluster, namespace: str) -> None:
    for name, service in (("echo", "com.foo.Bar"), ("echo-part", "com.foo.Bar"), ("other", "other")):
        create(cluster, namespace, rpc_service(name, serviceName=service))
        status = {**STATUS, "serviceName": service}
        patch(cluster, namespace, f"rpcservice/{name}", {"status": status}, "--subresource=status")

    selected = ("get", "rpc", "-n", namespace, "--field-selector", "status.serviceName=com.foo.Bar")
    assert cluster.kubectl(*selected, "-o", "name").split() == [
        "rpcservice.rpcregistry.dev/echo",
        "rpcservice.rpcregistry.dev/echo-part",
    ]


def test_what_belongs_to_us_is_found_by_category(cluster: LocalCluster, namespace: str) -> None:
    create(cluster, namespace, rpc_service())
    create(cluster, namespace, local_service())

    assert sorted(cluster.kubectl("get", "-n", namespace, "rpcregistry", "-o", "name").split()) == [
        "localservice.rpcregistry.dev/app",
        "rpcservice.rpcregistry.dev/echo",
    ]
