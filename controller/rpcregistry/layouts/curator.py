"""The layout of Apache Curator's x-discovery: ``BASE/<serviceName>/<id>`` with JSON in it, one an endpoint.

    {"name":"echo","id":"…","address":"10.0.0.1","port":80,"sslPort":null,"payload":null,
     "registrationTimeUTC":1795227715008,"serviceType":"DYNAMIC","uriSpec":null}

Exactly these nine keys, in this order: readers before 2.12 fail on any other, and one child that cannot
be read fails the whole service.  *payload* is the metadata, where there is some: a client whose payload
class is neither ``Object`` nor a map cannot read one.  Source of the format: apache/curator 88dee99a,
``JsonInstanceSerializer.java``; clients see data that changes in place.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from rpcregistry.layouts import marks
from rpcregistry.layouts.forms import Child, PerEndpoint, started
from rpcregistry.model import Endpoint


def child(service_name: str, endpoint: Endpoint, cluster_id: str) -> Child:
    """The endpoint's znode."""
    payload = {"@class": "java.util.LinkedHashMap", **dict(sorted(endpoint.metadata.items()))}
    return instance(service_name, endpoint, cluster_id, payload if endpoint.metadata else None, None)


def instance(
    service_name: str,
    endpoint: Endpoint,
    cluster_id: str,
    payload: Mapping[str, Any] | None,
    uri_spec: Mapping[str, Any] | None,
) -> Child:
    """A ``ServiceInstance``."""
    name = identity(endpoint, cluster_id)
    fields = {
        "name": service_name,
        "id": name,
        "address": endpoint.ip,
        "port": endpoint.port,
        "sslPort": None,
        "payload": payload,
        "registrationTimeUTC": started(endpoint),
        "serviceType": "DYNAMIC",
        "uriSpec": uri_spec,
    }
    return Child(name, msgspec.json.encode(fields))


def identity(endpoint: Endpoint, cluster_id: str) -> str:
    """The instance's id, which is its znode's name, too."""
    return f"{endpoint.pod_name}-{marks.mark(cluster_id, endpoint)}"


LAYOUT = PerEndpoint(child)
