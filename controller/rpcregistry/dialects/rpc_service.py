"""``rpc-service``: a JSON array of objects, in our own words."""

from typing import Any

from rpcregistry.dialects.entries import (
    DETAILS,
    METADATA,
    SERVICE_NAME,
    Dialect,
    check,
    details_of,
)
from rpcregistry.dialects.schemas import Schema
from rpcregistry.model import Declaration

_schema = Schema(
    {
        "type": "object",
        "required": ["serviceName"],
        "properties": {
            "serviceName": SERVICE_NAME,
            **DETAILS,
            "metadata": METADATA,
            "local": {"type": "boolean"},
        },
        "if": {"properties": {"local": {"const": True}}, "required": ["local"]},
        "then": {"required": ["port"], "message": 'needs a port, because of "local": true'},
    }
)


def _declaration(entry: Any) -> Declaration:
    """``{"serviceName": NAME, "port": …, "metadata": {…}, …}``."""
    check(_schema, entry)
    details = {key: entry[key] for key in (*DETAILS, "metadata", "local") if key in entry}
    return Declaration(service_name=entry["serviceName"], **details)


def _entry(declared: Declaration) -> Any:
    local = {"local": True} if declared.local else {}
    metadata = {"metadata": declared.metadata} if declared.metadata else {}
    return {"serviceName": declared.service_name, **details_of(declared), **metadata, **local}


RPC_SERVICE = Dialect(
    "rpc-service",
    ("rpc-service", "true"),
    "rpc-service",
    str,
    _declaration,
    str,
    _entry,
    keys=("serviceName", *DETAILS, "metadata", "local"),
)
