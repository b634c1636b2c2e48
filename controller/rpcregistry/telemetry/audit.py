"""Records who used a command: an Event on the Lease, with the API server's name for the user."""

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
    """Record an Event "USER: *note*" on *lease*, if there is one; return its text.

    The command is done by then, so a failure is only a line on standard error.
    """
    said = f"{user(kube)}: {note}"
    if lease is None:
        return said
    problem = Problem(reason, said)
    # A person may do the same again: the salt makes it an Event of its own.
    salt, now = secrets.token_hex(8), datetime.now(UTC)
    event = event_manifest(lease, problem, reason, False, salt, socket.gethostname(), now)
    try:
        kube.raw("POST", EVENTS.path(event["metadata"]["namespace"]), event)
    except Failure as failure:
        sys.stderr.write(f"rpcregistry: no Event {reason} was left on the Lease: {failure}\n")
    return said


def user(kube: Api) -> str:
    """The API server's name for us, or words that say that it gives none."""
    try:
        return str(kube.raw("POST", SELF_REVIEWS.path(), self_review())["status"]["userInfo"]["username"])
    except (Failure, KeyError):  # Kubernetes before 1.28 has no such review
        return "a user whom the API server does not name"
