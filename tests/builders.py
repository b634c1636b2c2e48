"""Nouns as tests need them: each with what most tests take for granted."""

import json
import re
from typing import Any

from rpcregistry.manifests import decode_localservice, decode_service
from rpcregistry.manifests.made import node_service
from rpcregistry.model import (
    Declaration,
    Endpoint,
    KubeService,
    LocalService,
    ObjectKey,
    Pod,
    RpcService,
    RpcServiceSpec,
    RpcServiceStatus,
)

NOW = "2026-11-21T02:02:02Z"
NODE_LABEL = "rpcregistry.dev/node"


def name_of(pod: str | int) -> str:
    """The name of a pod, or of the one of that number."""
    return f"p{pod}" if isinstance(pod, int) else pod


def pod_key(pod: str | int) -> ObjectKey:
    """The key of a pod."""
    return ObjectKey("default", name_of(pod))


def address(name: str) -> str:
    """The address of a pod: by the number that its name ends with, else by its last letter.

    >>> address("p7"), address("a"), address("b")
    ('10.0.0.7', '10.0.0.1', '10.0.0.2')
    """
    number = re.search(r"\d+$", name)
    return f"10.0.0.{(int(number[0]) if number else ord(name[-1]) - ord('a') + 1) % 250}"


def pod(
    name: str | int, *services: str, port: int | None = None, ip: str | None = None, **fields: Any
) -> Pod:
    """A Ready pod that declares *services*; *ip*: its address, "" where it has none."""
    name = name_of(name)
    ip = address(name) if ip is None else ip
    defaults: dict[str, Any] = {
        "namespace": "default",
        "uid": f"uid-{name}",
        "ips": (ip,) if ip else (),
        "phase": "Running",
        "ready": True,
        "node_name": "n1",
        "declarations": tuple(Declaration(service_name=service, port=port) for service in services),
    }
    return Pod(name=name, **{**defaults, **fields})


def row(pod: str | int, ip: str = "", **fields: Any) -> Endpoint:
    """The row of a Ready pod, as ``pod`` makes it."""
    name = name_of(pod)
    ip = ip or address(name)
    defaults: dict[str, Any] = {
        "pod_uid": f"uid-{name}",
        "ips": (ip,),
        "ready": True,
        "phase": "Running",
        "node_name": "n1",
    }
    return Endpoint(pod_name=name, ip=ip, **{**defaults, **fields})


def rpcservice(name: str, *rows: Endpoint, serves: str = "", known: bool = True, **fields: Any) -> RpcService:
    """A generated RpcService that lists *rows*; *serves*: its serviceName; *known*: it has a status."""
    defaults: dict[str, Any] = {
        "namespace": "default",
        "uid": f"uid-{name}",
        "generated": True,
        "created": "1",
        "spec": RpcServiceSpec(service_name=serves),
        "status": RpcServiceStatus(observed_generation=1 if known else None, endpoints=rows),
    }
    return RpcService(name=name, resource_version="1", **{**defaults, **fields})


def declared(name: str, uid: str = "", created: str = "", **spec: Any) -> RpcService:
    """An RpcService of the service echo, as a person declared it: it has no status yet."""
    return rpcservice(
        name,
        known=False,
        generated=False,
        uid=uid or name,
        created=created,
        spec=RpcServiceSpec(service_name="echo", **spec),
    )


def localservice(name: str = "app", uid: str = "l", **spec: Any) -> LocalService:
    """A LocalService that a person declared; *spec*: its fields, as JSON has them."""
    fields = {"ports": [{"port": 80}], "selector": {"app": "x"}, **spec}
    metadata = {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": "1"}
    return decode_localservice(json.dumps({"metadata": metadata, "spec": fields}).encode())


def served(asked: LocalService, node: str = "n1", **changes: Any) -> KubeService:
    """The Service for *node* as the server has it: with its defaults, and with *changes* of its fields."""
    manifest = node_service(asked, node, NODE_LABEL)
    metadata = {**manifest["metadata"], "uid": "s", "resourceVersion": "7", **changes.pop("metadata", {})}
    spec = {key: value for key, value in manifest["spec"].items() if value}
    ports = [{**port, "nodePort": 30080} for port in spec.get("ports", ())]
    defaults = {"clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}
    spec = {**defaults, **spec, "ports": ports, **changes}
    return decode_service(json.dumps({"metadata": metadata, "spec": spec}).encode())
