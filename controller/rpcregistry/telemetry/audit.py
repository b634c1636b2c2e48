"""Who did what by a command: an Event on the Lease, with the user as the API server names it."""

import secrets
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from rpcregistry.errors import Failure
from rpcregistry.manifests import EVENTS
from rpcregistry.manifests.made import SELF_REVIEWS, self_review
from rpcregistry.model import Problem, Regarding
from rpcregistry.telemetry.events import event_manifest


class Api(Protocol):
    """The API server, as ``Kube.raw`` reaches it.  Fails with an ``errors.Failure``."""

    def raw(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any: ...


def audit(kube: Api, lease: Regarding | None, reason: str, note: str) -> str:
    """Leave an Event on *lease*, where there is one, that says who did it: "USER: *note*"; return that.

    What was done stays done: where no Event can be written, one line on standard error says so.
    """
    said = f"{user(kube)}: {note}"
    if lease is None:
        return said
    problem = Problem(reason, said)
    # The same person may do the same once more: each time is an Event of its own.
    salt, now = secrets.token_hex(8), datetime.now(UTC)
    event = event_manifest(lease, problem, reason, False, salt, socket.gethostname(), now)
    try:
        kube.raw("POST", EVENTS.path(event["metadata"]["namespace"]), event)
    except Failure as failure:
        sys.stderr.write(f"rpcregistry: no Event {reason} was left on the Lease: {failure}\n")
    return said


def user(kube: Api) -> str:
    """The name by which the API server knows us; where it does not say, that."""
    try:
        return str(kube.raw("POST", SELF_REVIEWS.path(), self_review())["status"]["userInfo"]["username"])
    except (Failure, KeyError):  # Kubernetes before 1.28 has no such review
        return "a user whom the API server does not name"
