"""A bare client that does the least work that any controller has to do."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from kazoo.client import KazooClient

from hack.bench.http import Connection, Request, request
from hack.bench.population import NAMESPACE, BarePod, address, by_service, spread, znode
from hack.bench.stage import RPCSERVICES, Stage
from hack.bench.znodes import BASE

ALL_PODS = "/api/v1/pods"


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str
    uid: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta


class _List(msgspec.Struct):
    metadata: _Meta
    items: list[_Object]


def lists(stage: Stage) -> float:
    """The seconds that the LISTs take, of pods and of RpcServices."""
    started = time.monotonic()
    for path in (ALL_PODS, RPCSERVICES):
        msgspec.json.decode(stage.api.send(Request("GET", path)), type=_List)
    return time.monotonic() - started


def cold_start(stage: Stage) -> float:
    """The seconds that it takes to list the pods, and to write every RpcService, its status and its znode."""
    services, content = by_service(stage.population.pods.values()), stage.population.expected()
    creations = [request("POST", RPCSERVICES, rpcservice(name)) for name in services]
    statuses = {name: status(members) for name, members in services.items()}
    started = time.monotonic()
    lists(stage)
    answers = stage.api.each(creations)
    # Write a status as soon as its object exists; both share the connections.
    writes = [
        Request(
            "PUT",
            f"{RPCSERVICES}/{name}/status",
            json.dumps({**rpcservice(name, _version(answer)), "status": statuses[name]}).encode(),
        )
        for name, answer in zip(services, answers, strict=True)
    ]
    list(stage.api.each(writes))
    stage.znodes.write(content)
    return time.monotonic() - started


def _version(answer: bytes) -> str:
    return msgspec.json.decode(answer, type=_Object).metadata.resource_version


def rpcservice(name: str, version: str = "") -> dict[str, Any]:
    """An RpcService's manifest, without status."""
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "labels": {"app.kubernetes.io/managed-by": "rpcregistry"},
        **({"resourceVersion": version} if version else {}),
    }
    return {
        "apiVersion": "rpcregistry.dev/v1alpha1",
        "kind": "RpcService",
        "metadata": metadata,
        "spec": {"serviceName": name},
    }


def status(pods: Sequence[BarePod], addresses: Mapping[str, str] = {}) -> dict[str, Any]:
    """An RpcService's status that lists *pods*; *addresses*: those that have another one by now."""
    rows = [
        {
            "podName": pod.name,
            "podUID": "00000000-0000-0000-0000-000000000000",
            "ip": addresses.get(pod.name, pod.ip),
            "ips": [addresses.get(pod.name, pod.ip)],
            "port": 20880,
            "nodeName": pod.node,
            "hostIP": "10.255.0.1",
            "ready": True,
            "phase": "Running",
            "startedAt": "2026-11-21T02:02:02Z",
        }
        for pod in pods
    ]
    return {
        "observedGeneration": 1,
        "serviceName": pods[0].service,
        "ready": f"{len(rows)}/{len(rows)}",
        "readyEndpoints": len(rows),
        "totalEndpoints": len(rows),
        "registryPaths": f"{BASE}/{pods[0].service}",
        "endpoints": sorted(rows, key=lambda row: str(row["podName"])),
    }


def status_writes(stage: Stage, endpoints: int, count: int) -> list[float]:
    """The seconds that each of *count* status writes of an RpcService with so many endpoints takes."""
    pods = spread(endpoints, 1, f"bare-{endpoints}")
    name = str(pods[0].service)
    connection = stage.api.connect()
    version = _version(connection.send(request("POST", RPCSERVICES, rpcservice(name))))
    found = []
    for number in range(count):
        rows = status(pods, {pods[0].name: address(number)})
        asked = request("PUT", f"{RPCSERVICES}/{name}/status", {**rpcservice(name, version), "status": rows})
        started = time.monotonic()
        version = _version(connection.send(asked))
        found.append(time.monotonic() - started)
    return found


class Pipeline:
    """A bare controller: a pod's watch event, then the status of its RpcService, then its znode.

    One change at a time, nothing planned, nothing checked: no controller has a shorter way.
    """

    def __init__(self, stage: Stage, pods: Sequence[BarePod]) -> None:
        self._services = by_service(pods)
        self._service_of = {pod.name: pod.service for pod in pods if pod.service}
        self._addresses = {pod.name: pod.ip for pod in pods}
        self._unready: set[str] = set()
        self._versions: dict[str, str] = {}
        self._writer = stage.api.connect()
        self._client = KazooClient(stage.cluster.zk_servers)
        self._client.start()
        listed = msgspec.json.decode(stage.api.send(Request("GET", ALL_PODS)), type=_List)
        self._watch = stage.api.connect()
        path = f"{ALL_PODS}?watch=true&resourceVersion={listed.metadata.resource_version}"
        self._thread = threading.Thread(target=self._run, args=(self._watch, path), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close its connections."""
        self._watch.shutdown()
        self._thread.join()
        self._client.stop()
        self._client.close()

    def _run(self, watch: Connection, path: str) -> None:
        try:
            for line in watch.watch(path):
                pod = msgspec.json.decode(line)["object"]
                if pod["metadata"]["name"] in self._service_of:
                    self._write(pod["metadata"]["name"], pod["status"])
        except (OSError, ValueError):  # closed
            return

    def _write(self, name: str, says: Mapping[str, Any]) -> None:
        service = self._service_of[name]
        self._addresses[name] = says["podIP"]
        is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in says["conditions"])
        (self._unready.discard if is_ready else self._unready.add)(name)
        if service not in self._versions:
            answer = self._writer.send(Request("GET", f"{RPCSERVICES}/{service}"))
            self._versions[service] = _version(answer)
        members = [pod for pod in self._services[service] if pod.name not in self._unready]
        manifest = {
            **rpcservice(service, self._versions[service]),
            "status": status(members, self._addresses),
        }
        written = self._writer.send(
            Request("PUT", f"{RPCSERVICES}/{service}/status", json.dumps(manifest).encode())
        )
        self._versions[service] = _version(written)
        self._client.set(f"{BASE}/{service}", znode(self._addresses[pod.name] for pod in members))
