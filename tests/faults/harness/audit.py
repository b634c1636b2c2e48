"""The API server's audit log: who asked it for what, and what it answered.

``flags`` have an API server write one by ``audit-policy.yaml``; ``read`` reads it, with the files that were
rotated away.  An entry is an ``Event`` of ``audit.k8s.io/v1``, which is described at
kubernetes.io/docs/reference/config-api/apiserver-audit.v1.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.harness.evidence import Request

POLICY = Path(__file__).parent / "audit-policy.yaml"
WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def flags(log: Path) -> list[str]:
    """What has kube-apiserver write its audit log to *log*, each entry before the answer is sent."""
    return [
        f"--audit-policy-file={POLICY}",
        f"--audit-log-path={log}",
        "--audit-log-mode=blocking",
        "--audit-log-maxsize=256",  # MiB, and no file is deleted
    ]


def read(log: Path) -> tuple[Request, ...]:
    """The requests in *log* and in what was rotated away before it, in the order in which they came in.

    A watch is one request, from its begin on.  A line that is still being written is left out.
    """
    rotated = sorted(log.parent.glob(f"{log.stem}-*{log.suffix}"))
    found: dict[str, Request] = {}
    for file in [*rotated, *([log] if log.exists() else [])]:
        for event in _events(file.read_bytes()):
            if "responseStatus" in event:
                found[event["auditID"]] = _request(event)
    return tuple(sorted(found.values(), key=lambda request: request.at))


class Write(NamedTuple):
    """A kind of write: who wrote what, and what came of it."""

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int


def writes(requests: Iterable[Request], user: str) -> Counter[Write]:
    """How often *user* wrote what.

    >>> made = Request(0.0, "me", "", "create", "pods", "ns", "a", 201)
    >>> writes([made, made], "me").most_common()
    [(Write(user='me', verb='create', resource='pods', namespace='ns', name='a', code=201), 2)]
    """
    return Counter(
        Write(r.user, r.verb, r.resource, r.namespace, r.name, r.code)
        for r in requests
        if r.user == user and r.verb in WRITES
    )


def _events(content: bytes) -> Iterator[Mapping[str, Any]]:
    complete, _, _ = content.rpartition(b"\n")
    return map(json.loads, complete.splitlines())


def _request(event: Mapping[str, Any]) -> Request:
    thing = event.get("objectRef", {})
    answered = event.get("responseObject") or {}
    group = f".{thing['apiGroup']}" if thing.get("apiGroup") else ""
    subresource = f"/{thing['subresource']}" if thing.get("subresource") else ""
    return Request(
        at=datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp(),
        user=event["user"].get("username", ""),
        agent=event.get("userAgent", ""),
        verb=event["verb"],
        resource=f"{thing['resource']}{group}{subresource}" if thing else event["requestURI"],
        namespace=thing.get("namespace", ""),
        # Of what is created, the URL has no name.
        name=thing.get("name") or answered.get("metadata", {}).get("name", ""),
        code=event["responseStatus"].get("code", 0),
        sent=event.get("requestObject") or {},
        answered=answered,
    )
