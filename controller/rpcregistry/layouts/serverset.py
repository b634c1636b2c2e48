"""The layout of Twitter's serversets, which Finagle, Aurora and Prometheus read.

    BASE/<serviceName>/member_123456789012345678
    {"serviceEndpoint":{"host":"10.0.0.1","port":9001},"additionalEndpoints":{},"status":"ALIVE"}

A member's data is read once, so its name changes with its data; it is digits behind ``member_``, without
leading zeros.  *metadata* is there where something is declared.  Source of the format: twitter/finagle
4feb34cb, ``serverset2/Entry.scala``; twitter-archive/commons, ``zookeeper/serverset/endpoint.py``.
"""

import msgspec

from rpcregistry.layouts import marks
from rpcregistry.layouts.forms import Child, PerEndpoint, described, missing_port
from rpcregistry.model import Endpoint, Problem


def child(_: str, endpoint: Endpoint, cluster_id: str) -> Child | Problem:
    """The endpoint's znode."""
    if endpoint.port is None:
        return missing_port(endpoint)
    fields = {
        "serviceEndpoint": {"host": endpoint.ip, "port": endpoint.port},
        "additionalEndpoints": {},
        "status": "ALIVE",
    }
    metadata = described(endpoint)
    data = msgspec.json.encode({**fields, "metadata": metadata} if metadata else fields)
    return Child(f"member_{marks.number(cluster_id, endpoint, data)}", data)


LAYOUT = PerEndpoint(child, slot=marks.number_slot)
