"""The layout of Twitter's serversets, which Finagle, Aurora and Prometheus read.

    BASE/<serviceName>/member_123456789012345678
    {"serviceEndpoint":{"host":"10.0.0.1","port":9001},"additionalEndpoints":{},"status":"ALIVE"}

A member's data is read once, so its name changes with its data; it is digits behind ``member_``, without
leading zeros.  *metadata* is there where something is declared.  Armeria's clients are told of members one
by one.  Source of the format: twitter/finagle
4feb34cb, ``serverset2/Entry.scala``; twitter-archive/commons, ``zookeeper/serverset/endpoint.py``.
"""

import msgspec

from rpcregistry.layouts import marks
from rpcregistry.layouts.forms import Address, Child, PerEndpoint, described, missing_port
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


class _Place(msgspec.Struct, frozen=True):
    host: str
    port: int


class _Member(msgspec.Struct, frozen=True, rename="camel"):
    service_endpoint: _Place


def address(_: str, data: bytes) -> Address:
    """Where a member is; None if *data* is none."""
    try:
        return msgspec.json.decode(data, type=_Member).service_endpoint
    except msgspec.MsgspecError:
        return None


LAYOUT = PerEndpoint(child, slot=marks.number_slot, overlap=True, address=address)
