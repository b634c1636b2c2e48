"""The pods that a scenario creates, and the znodes that have to follow.

This computes the znodes a second time, on purpose: it shares no code with the controller.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import count
from typing import Any

from hack.bench.http import Request, request

NAMESPACE = "bench"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
CONFIG = [
    "zone kg 8M",
    "kg_round_robin broken_tries=2 health_checks=5 max_uri_slots=0",
    "keepalive 32",
]
FIRST_ADDRESS = int(IPv4Address("10.0.0.1"))
FIRST_NEW_ADDRESS = 4_000_000  # none that a pod begins with


@dataclass(frozen=True)
class BarePod:
    """A pod to create; *service* None: it declares nothing."""

    name: str
    service: str | None
    ip: str
    node: str = "nowhere"
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str:
        """The pod's URL path."""
        return f"{PODS}/{self.name}"


def address(number: int) -> str:
    """Make an address from a number.

    >>> address(0), address(70000)
    ('10.0.0.1', '10.1.17.113')
    """
    return str(IPv4Address(FIRST_ADDRESS + number))


def spread(pods: int, services: int, prefix: str = "p") -> list[BarePod]:
    """Distribute *pods* over *services* in turn, labelled with their prefix.

    >>> [(pod.name, pod.service) for pod in spread(3, 2)]
    [('p-0', 'p-s0'), ('p-1', 'p-s1'), ('p-2', 'p-s0')]
    """
    return [
        BarePod(f"{prefix}-{n}", f"{prefix}-s{n % services}", address(n), labels=(("app", prefix),))
        for n in range(pods)
    ]


class Population:
    """The present pods and their present addresses."""

    def __init__(self) -> None:
        self.pods: dict[str, BarePod] = {}
        self._numbers = count(FIRST_NEW_ADDRESS)

    def add(self, pods: Iterable[BarePod]) -> list[BarePod]:
        """Add the pods that are new; return those."""
        added = [pod for pod in pods if pod.name not in self.pods]
        self.pods.update((pod.name, pod) for pod in added)
        return added

    def remove(self, pods: Iterable[BarePod]) -> None:
        """Remove pods."""
        for pod in pods:
            del self.pods[pod.name]

    def move(self, pods: Sequence[BarePod], changes: int) -> list[BarePod]:
        """Make *changes* of *pods* in turn: each gives a pod a new address."""
        moved = [replace(pods[turn % len(pods)], ip=address(next(self._numbers))) for turn in range(changes)]
        self.pods.update((pod.name, pod) for pod in moved)
        return moved

    def expected(self) -> dict[str, bytes]:
        """The znodes that ZooKeeper has to have."""
        return expected(self.pods.values())


def creation(pod: BarePod) -> Request:
    """The request that makes a pod."""
    labels, annotations = dict(pod.labels), {}
    if pod.service:
        labels["rpc-service"] = "true"
        annotations["rpc-service"] = json.dumps([{"serviceName": pod.service, "port": 20880}])
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "labels": labels, "annotations": annotations},
        "spec": {
            "nodeName": pod.node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": "registry.example/app:1.0"}],
        },
    }
    return request("POST", PODS, manifest)


def turning_ready(pod: BarePod) -> Request:
    """The status patch with which a kubelet says that the pod is Ready at its address."""
    return request("PATCH", f"{pod.path}/status", {"status": ready_status(pod.ip)})


def turning_unready(pod: BarePod) -> Request:
    """The status patch with which a kubelet says that the pod is not Ready (any more)."""
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "ContainersNotReady",
        "lastTransitionTime": "2026-11-21T02:02:03Z",
    }
    return request("PATCH", f"{pod.path}/status", {"status": {"conditions": [condition]}})


def deletion(pod: BarePod) -> Request:
    """The request that deletes a pod, as a kubelet that has stopped it does."""
    return Request("DELETE", f"{pod.path}?gracePeriodSeconds=0")


def ready_status(ip: str) -> dict[str, Any]:
    """The status of a Ready pod."""
    since = "2026-11-21T02:02:02Z"
    return {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "hostIP": "10.255.0.1",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}],
        "containerStatuses": [
            {
                "name": "app",
                "image": "registry.example/app:1.0",
                "imageID": "",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": since}},
            }
        ],
    }


def by_service(pods: Iterable[BarePod]) -> dict[str, list[BarePod]]:
    """The pods of each service."""
    found: dict[str, list[BarePod]] = {}
    for pod in pods:
        if pod.service:
            found.setdefault(pod.service, []).append(pod)
    return found


def expected(pods: Iterable[BarePod]) -> dict[str, bytes]:
    """The bytes of each service's znode.

    >>> expected([BarePod("b", "s", "10.0.0.10"), BarePod("a", "s", "10.0.0.9")])["s"][-35:]
    b'"servers":["10.0.0.9","10.0.0.10"]}'
    """
    return {service: znode(pod.ip for pod in members) for service, members in by_service(pods).items()}


def znode(addresses: Iterable[str]) -> bytes:
    """The bytes of an unedited znode."""
    servers = [str(ip) for ip in sorted({IPv4Address(ip) for ip in addresses})]
    return json.dumps({"config": CONFIG, "servers": servers}, separators=(",", ":")).encode()


def wrong(found: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> list[str]:
    """Services whose znodes are missing, different or too many.

    >>> wrong({"a": b"1", "b": b"2"}, {"a": b"1", "c": b"3"})
    ['b', 'c']
    """
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
