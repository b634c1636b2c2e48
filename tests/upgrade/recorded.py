"""States as a version left them outside of its process: what etcd and ZooKeeper hold, byte by byte.

A recorded state is a JSON file: ``etcd``, the keys of one namespace's objects with their values (base64, as
the API server encoded them, so that uids stay what they were), and ``znodes``, paths with their data.
"""

import base64
import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kazoo.client import KazooClient

CLUSTER = "recorded"  # the cluster id with which it was recorded, as the cluster itself is gone
KINDS = (  # the order in which they are put back: owners first
    "namespaces",
    "minions",
    "rpcregistry.dev/localservices",
    "rpcregistry.dev/rpcservices",
    "services/specs",
    "pods",
)


class Recorded(NamedTuple):
    """*etcd*: key to value; *znodes*: path to data."""

    etcd: Mapping[str, bytes]
    znodes: Mapping[str, bytes]

    @classmethod
    def load(cls, file: Path) -> "Recorded":
        """Read a recorded state."""
        found = json.loads(file.read_text())
        return cls(
            {key: base64.b64decode(value) for key, value in found["etcd"].items()},
            {path: data.encode() for path, data in found["znodes"].items()},
        )

    def save(self, file: Path) -> None:
        """Write it."""
        file.parent.mkdir(exist_ok=True)
        content = {
            "etcd": {key: base64.b64encode(value).decode() for key, value in self.etcd.items()},
            "znodes": {path: data.decode() for path, data in self.znodes.items()},
        }
        file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")

    def put_objects_back(self, etcd: str) -> None:
        """Write the objects into an etcd (its URL): the API server finds them as they were."""
        for key in sorted(self.etcd, key=_order):
            _ask(etcd, "put", {"key": _base64(key.encode()), "value": _base64(self.etcd[key])})

    def put_znodes_back(self, zk: KazooClient) -> None:
        """Write the znodes below a chroot, but those that every test finds there."""
        for path in sorted(self.znodes):
            if not zk.exists(path):
                zk.create(path, self.znodes[path], makepath=True)


def namespace_of(version: str) -> str:
    """The namespace of a version's recorded state; its Nodes' names begin with that, too.

    >>> namespace_of("0.1.0")
    'recorded-0-1-0'
    """
    return f"recorded-{version.replace('.', '-')}"


def objects(etcd: str, namespace: str) -> dict[str, bytes]:
    """The namespace's objects as etcd (its URL) has them, and the Nodes whose names begin with its name."""
    found: dict[str, bytes] = {}
    for kind in KINDS:
        prefix = f"/registry/{kind}/{namespace}"
        answer = _ask(
            etcd, "range", {"key": _base64(prefix.encode()), "range_end": _base64(_after(prefix.encode()))}
        )
        for entry in answer.get("kvs", ()):
            found[base64.b64decode(entry["key"]).decode()] = base64.b64decode(entry["value"])
    return found


def _order(key: str) -> tuple[int, str]:
    return next(n for n, kind in enumerate(KINDS) if key.startswith(f"/registry/{kind}/")), key


def _after(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _ask(etcd: str, method: str, body: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{etcd}/v3/kv/{method}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return json.load(answer)
