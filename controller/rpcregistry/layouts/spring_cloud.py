"""The layout of Spring Cloud Zookeeper: Curator's, with a payload of its own, in ``BASE/<application>/<id>``.

    "payload":{"@class":"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","id":"…",
               "name":"echo","metadata":{"instance_status":"UP"}}

Without ``@class`` or without a port the client drops the whole service; without *uriSpec* it has no URI.
All values of *metadata* are strings.  Source of the format: spring-cloud/spring-cloud-zookeeper 6118f7ab,
``ZookeeperInstance.java``; clients see data that changes in place.  Ids are Curator's: with the address.
"""

from rpcregistry.layouts import curator
from rpcregistry.layouts.forms import Child, PerEndpoint, described, missing_port
from rpcregistry.model import Endpoint, Problem

_CLASS = "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance"
_URI_SPEC = {
    "parts": [
        {"value": value, "variable": variable}
        for value, variable in [
            ("scheme", True),
            ("://", False),
            ("address", True),
            (":", False),
            ("port", True),
        ]
    ]
}


def child(service_name: str, endpoint: Endpoint, cluster_id: str) -> Child | Problem:
    """The endpoint's znode."""
    return _child(curator.identity(endpoint, cluster_id), service_name, endpoint)


def former(service_name: str, endpoint: Endpoint, cluster_id: str) -> Child | Problem:
    """As earlier versions wrote it."""
    return _child(curator.former_identity(endpoint, cluster_id), service_name, endpoint)


def _child(name: str, service_name: str, endpoint: Endpoint) -> Child | Problem:
    if endpoint.port is None:
        return missing_port(endpoint)
    payload = {
        "@class": _CLASS,
        "id": name,
        "name": service_name,
        "metadata": {"instance_status": "UP", **described(endpoint)},
    }
    return curator.instance(name, service_name, endpoint, payload, _URI_SPEC)


LAYOUT = PerEndpoint(child, former=former, overlap=True, address=curator.address)
