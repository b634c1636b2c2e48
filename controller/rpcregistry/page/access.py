"""Who may look: everybody who reaches the page, or whom the API server knows and allows to."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from rpcregistry.errors import Failure
from rpcregistry.page.app import Refused

PATH = "/ui"  # the nonResourceURL to which a person needs the verb get
ALLOWED_FOR = 30.0  # seconds for which an answer counts
DENIED_FOR = 5.0
MOST_ANSWERS = 1_000
TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105  (a path)
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

Post = Callable[[str, str, Mapping[str, Any]], Any]  # method, path, body; raises a ``Failure``


async def everybody(_: Mapping[str, str]) -> None:
    """Let everybody look."""


class Reviews:
    """Asks the API server whose a bearer token is and whether they may look; belongs to the page's thread."""

    def __init__(self, post: Post, clock: Callable[[], float] = time.monotonic) -> None:
        self._post = post
        self._clock = clock
        self._answers: dict[bytes, tuple[str, float]] = {}  # by the token's hash: why not, until when

    async def __call__(self, headers: Mapping[str, str]) -> None:
        """Raise ``Refused`` unless the request's token may look."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused(401, "Who are you?", "this page asks for a bearer token of this cluster")
        key = hashlib.sha256(token.encode()).digest()
        why, until = self._answers.get(key, ("", 0.0))
        if until <= self._clock():
            try:
                why = await asyncio.to_thread(self._review, token.strip())
            except Failure as failure:
                raise Refused(503, "Nobody can say who you are", f"the API server: {failure}") from failure
            if len(self._answers) >= MOST_ANSWERS:
                self._answers.clear()
            self._answers[key] = why, self._clock() + (DENIED_FOR if why else ALLOWED_FOR)
        if why:
            raise Refused(403, "You may not look", why)

    def _review(self, token: str) -> str:
        """Why the token's owner may not look; ``""`` if they may."""
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = self._post("POST", TOKEN_REVIEWS, asked).get("status") or {}
        if not status.get("authenticated"):
            return "the token is not valid in this cluster"
        user = status.get("user") or {}
        spec = {
            "nonResourceAttributes": {"path": PATH, "verb": "get"},
            "user": user.get("username", ""),
            "uid": user.get("uid", ""),
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
        }
        asked = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = self._post("POST", ACCESS_REVIEWS, asked).get("status") or {}
        return (
            "" if answer.get("allowed") else f"{spec['user']} needs the verb get on the nonResourceURL {PATH}"
        )
