"""Whether a pod may register under the name it declares: ``--require-register-permission``.

Its ServiceAccount needs the verb ``register`` on the RpcService, which the API server's own
authorizers decide: a Role with that verb, in the pod's namespace, is all it takes.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from controller.manifests import GROUP, PODS, RPCSERVICES, regarding
from controller.model import Pod, Problem
from controller.reconcile.ports import Events

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
ALLOWED_FOR = 60.0  # seconds for which an answer is believed; whoever was denied is told to try again soon
DENIED_FOR = 5.0


class Registration:
    """Asks the API server, and remembers the answers for a while; for any number of threads.

    *post* makes a request (method, path, body) and returns the decoded answer, or raises a ``Failure``:
    then nobody knows, and nothing is to change.
    """

    def __init__(
        self, post: Callable[[str, str, Mapping[str, Any]], Any], events: Events, clock: Callable[[], float]
    ) -> None:
        self._post = post
        self._events = events
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, str, str], tuple[bool, float]] = {}  # and until when they count

    def may_register(self, pod: Pod, name: str) -> bool:
        """Whether the pod's ServiceAccount may register the RpcService *name*; told to the pod where not."""
        subject = (pod.namespace, pod.service_account or "default", name)
        allowed, until = self._answers.get(subject, (False, 0.0))
        if until <= self._clock():
            answer = self._post("POST", REVIEWS, review(*subject))
            allowed = bool(answer["status"].get("allowed"))
            with self._lock:
                until = self._clock() + (ALLOWED_FOR if allowed else DENIED_FOR)
                self._answers[subject] = (allowed, until)
        if not allowed:
            message = (
                f"ServiceAccount {subject[1]} may not register RpcService {name}: "
                f"it needs the verb register on {RPCSERVICES.plural}.{GROUP}"
            )
            self._events.record(
                regarding(PODS, pod), Problem("RegisterDenied", message), "Declare", warning=True
            )
        return allowed


def review(namespace: str, account: str, name: str) -> dict[str, Any]:
    """The question, as a SubjectAccessReview (authorization.k8s.io/v1)."""
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": [
                "system:serviceaccounts",
                f"system:serviceaccounts:{namespace}",
                "system:authenticated",
            ],
            "resourceAttributes": {
                "namespace": namespace,
                "verb": "register",
                "group": GROUP,
                "resource": RPCSERVICES.plural,
                "name": name,
            },
        },
    }
