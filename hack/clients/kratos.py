"""A reader that is as strict as go-kratos: ``python -m hack.clients.kratos watch SERVERS BASE SERVICE``.

Kratos' own client for ZooKeeper is in no index of Go modules, so this stands in.  It follows its rules
(contrib/registry/zookeeper, service.go and register.go): it watches the names of the children only, reads
all of them after each change, and one that it cannot decode fails the whole service.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from kazoo.client import KazooClient


class Instance(msgspec.Struct):
    """``registry.ServiceInstance``; as Go's decoder does, it ignores other keys and refuses other types."""

    id: str = ""
    name: str = ""
    version: str = ""
    metadata: dict[str, str] | None = None
    endpoints: list[str] | None = None


def main(arguments: Sequence[str]) -> None:
    """Run until the standard input ends."""
    _, servers, base, service = arguments
    client = KazooClient(servers)
    client.start(60)

    @client.ChildrenWatch(f"{base}/{service}")  # type: ignore[untyped-decorator]
    def changed(names: Sequence[str]) -> None:
        try:
            shown: dict[str, Any] = {
                "endpoints": dict(_read(client, f"{base}/{service}/{name}", service) for name in names)
            }
        except ValueError as error:
            shown = {"error": str(error)}
        print(json.dumps({"via": "watch", **shown}), flush=True)

    sys.stdin.read()
    client.stop()


def _read(client: KazooClient, path: str, service: str) -> tuple[str, Mapping[str, str]]:
    data, _ = client.get(path)
    instance = msgspec.json.decode(data, type=Instance)
    if instance.name != service or not instance.id or not instance.endpoints:
        raise ValueError(f"{path} is no instance of {service}: {instance}")
    (endpoint,) = map(urlsplit, instance.endpoints)
    if endpoint.scheme != "grpc":
        raise ValueError(f"{path} has no gRPC endpoint: {instance}")
    return endpoint.netloc, instance.metadata or {}


if __name__ == "__main__":
    main(sys.argv[1:])
