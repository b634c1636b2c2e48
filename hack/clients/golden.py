"""Records what each client itself writes when it registers an instance: path, kind and bytes.

``tests/golden`` has a file for each client, which names as *volatile* what differs from run to run.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

from hack.clients.watcher import Watcher
from hack.clients.zookeeper import zookeeper
from hack.local.binaries import HACK

GOLDEN = HACK.parent / "tests" / "golden"
PATIENCE = 120.0


@dataclass(frozen=True)
class Recording:
    """What *client* (so *source*) registers of *service*; *more*: its other arguments, in order.

    *volatile*: the parts that differ each time.
    """

    client: str
    source: str
    base: str
    service: str
    more: Sequence[str]
    volatile: Sequence[str]

    @property
    def arguments(self) -> Sequence[str]:
        """Where to register what."""
        if self.client == "finagle":
            return (f"{self.base}/{self.service}", *self.more)
        return (self.base, self.service, *self.more)


INSTANCE = ("echo-1", "10.0.0.1", "8080")
RECORDINGS: Mapping[str, Recording] = {
    "kube2zk": Recording(
        "kube2zk", "Go's encoding/json, by kube2zk's rules", "/rpc_v2", "echo", ("10.0.0.1", "10.0.0.10"), []
    ),
    "curator": Recording(
        "curator",
        "org.apache.curator:curator-x-discovery:5.9.0",
        "/discovery",
        "echo",
        INSTANCE,
        ["registrationTimeUTC"],
    ),
    "spring-cloud": Recording(
        "spring-cloud",
        "org.springframework.cloud:spring-cloud-starter-zookeeper-discovery:4.2.1",
        "/services",
        "echo",
        INSTANCE,
        ["registrationTimeUTC"],
    ),
    "dubbo": Recording(
        "dubbo",
        "org.apache.dubbo:dubbo:3.3.5",
        "/dubbo",
        "com.example.Echo",
        ("1.0.0", "10.0.0.1", "20880"),
        ["timestamp"],
    ),
    "serverset": Recording(
        "finagle",
        "com.twitter:finagle-serversets_2.13:24.2.0",
        "/serverset",
        "echo",
        ("10.0.0.1", "8080"),
        [],
    ),
    "sofa": Recording(
        "sofa",
        "com.alipay.sofa:sofa-rpc-all:5.13.2",
        "/sofa-rpc",
        "com.example.Echo",
        ("10.0.0.1", "22101"),
        ["pid", "startTime"],
    ),
    "go-kit": Recording(
        "go-kit",
        "github.com/go-kit/kit v0.13.0",
        "/services",
        "echo",
        ("10.0.0.1:8080",),
        ["_c_"],
    ),
}


def record(layout: str) -> Path:
    """Let the client register an instance in a ZooKeeper of its own; return all znodes then."""
    recording = RECORDINGS[layout]
    with tempfile.TemporaryDirectory() as directory, zookeeper(Path(directory)) as servers:
        log = Path(directory) / "client.log"
        reader = KazooClient(servers)
        reader.start()
        with Watcher(recording.client, "write", servers, *recording.arguments, log=log) as watcher:
            _wait_until_written(watcher)
            znodes = list(_tree(reader, "/"))
        reader.stop()
        reader.close()
    content = {
        "layout": layout,
        "source": recording.source,
        "arguments": recording.arguments,
        "volatile": recording.volatile,
        "znodes": znodes,
    }
    file = GOLDEN / layout / "written.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n")
    return file


def _wait_until_written(watcher: Watcher) -> None:
    end = time.monotonic() + PATIENCE
    while not any(line.get("written") for line in watcher.lines):
        if time.monotonic() > end:
            raise TimeoutError(f"nothing was written:\n{watcher.log.read_text()[-3000:]}")
        time.sleep(0.1)


def _tree(zk: KazooClient, path: str) -> Iterator[dict[str, Any]]:
    """Every znode below *path* but ZooKeeper's own."""
    for name in sorted(zk.get_children(path)):
        child = f"{path.rstrip('/')}/{name}"
        if child == "/zookeeper":
            continue
        data, stat = zk.get(child)
        yield {"path": child, "ephemeral": stat.ephemeralOwner != 0, "data": (data or b"").decode("latin-1")}
        yield from _tree(zk, child)
