"""The layout of Apache Curator's x-discovery: ``BASE/<serviceName>/<id>`` with JSON in it, one an endpoint.

    {"name":"echo","id":"…","address":"10.0.0.1","port":80,"sslPort":null,"payload":null,
     "registrationTimeUTC":1795227715008,"serviceType":"DYNAMIC","uriSpec":null}

Exactly these nine keys, in this order: readers before 2.12 fail on any other, and one child that cannot
be read fails the whole service.  *payload* is the metadata, where there is some: a client whose payload
class is neither ``Object`` nor a map cannot read one.  Source of the format: apache/curator 88dee99a,
``JsonInstanceSerializer.java``.  Curator's own clients see data that changes in place.  Armeria's do not:
they take an address from a child when it comes, and give it up when it goes.  So it is part of the id.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from rpcregistry.layouts import marks
from rpcregistry.layouts.forms import Address, Child, PerEndpoint, started
from rpcregistry.model import Endpoint


def child(service_name: str, endpoint: Endpoint, cluster_id: str) -> Child:
    """The endpoint's znode."""
    return _child(identity(endpoint, cluster_id), service_name, endpoint)


def former(service_name: str, endpoint: Endpoint, cluster_id: str) -> Child:
    """As earlier versions wrote it."""
    return _child(former_identity(endpoint, cluster_id), service_name, endpoint)


def _child(name: str, service_name: str, endpoint: Endpoint) -> Child:
    payload = {"@class": "java.util.LinkedHashMap", **dict(sorted(endpoint.metadata.items()))}
    return instance(name, service_name, endpoint, payload if endpoint.metadata else None, None)


def instance(
    name: str,
    service_name: str,
    endpoint: Endpoint,
    payload: Mapping[str, Any] | None,
    uri_spec: Mapping[str, Any] | None,
) -> Child:
    """A ``ServiceInstance`` whose id is *name*."""
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
    """The instance's id, which is its znode's name, too: another address is another instance."""
    address = f"{endpoint.ip} {endpoint.port}".encode()
    return f"{endpoint.pod_name}-{marks.mark(cluster_id, endpoint, address)}"


def former_identity(endpoint: Endpoint, cluster_id: str) -> str:
    """As earlier versions named it: the same at another address."""
    return f"{endpoint.pod_name}-{marks.mark(cluster_id, endpoint)}"


class _Instance(msgspec.Struct, frozen=True):
    address: str
    port: int | None = None


def address(_: str, data: bytes) -> Address:
    """Where an instance is; None if *data* is none."""
    try:
        found = msgspec.json.decode(data, type=_Instance)
    except msgspec.MsgspecError:
        return None
    return found.address, found.port


LAYOUT = PerEndpoint(child, former=former, overlap=True, address=address)
