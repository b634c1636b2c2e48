"""Whether a pod may register under the name it declares: ``--require-register-permission``.

Its ServiceAccount needs the verb ``register`` on the RpcService, which the API server's own
authorizers decide: a Role with that verb, in the pod's namespace, is all it takes.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from rpcregistry.manifests import GROUP, PODS, RPCSERVICES, regarding
from rpcregistry.manifests.made import ACCESS_REVIEWS, access_review
from rpcregistry.model import Pod, Problem
from rpcregistry.reconcile.ports import Events
from rpcregistry.reconcile.reads import Reads, Unread

ALLOWED_FOR = (
    60.0  # seconds for which an answer counts; a denial counts for less, so that a new Role acts soon
)
DENIED_FOR = 5.0
MOST_DENIED = 1_000


Subject = tuple[str, str, str]  # namespace, ServiceAccount, RpcService


class _Answers:
    """A cache of answers, each with its time to live; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _answers and _denied
        self._answers: OrderedDict[Subject, tuple[bool, float]] = OrderedDict()  # the oldest first
        self._denied: dict[Subject, None] = {}  # the oldest first; beyond the time for which answers count

    def get(self, subject: Subject, now: float) -> bool | None:
        """The cached answer, or None if there is none or it is too old."""
        with self._lock:
            allowed, until = self._answers.get(subject, (False, now))
            return allowed if until > now else None

    @property
    def denied(self) -> frozenset[Subject]:
        """Those about whom the last answer was no, the last ``MOST_DENIED`` of them."""
        with self._lock:
            return frozenset(self._denied)

    def note(self, subject: Subject, allowed: bool, now: float) -> None:
        """Cache an answer, and drop those that are too old."""
        with self._lock:
            self._denied.pop(subject, None)
            if not allowed:
                self._denied[subject] = None
                if len(self._denied) > MOST_DENIED:
                    del self._denied[next(iter(self._denied))]
            self._answers[subject] = allowed, now + (ALLOWED_FOR if allowed else DENIED_FOR)
            self._answers.move_to_end(subject)
            while next(iter(self._answers.values()))[1] <= now:
                self._answers.popitem(last=False)


class Registration:
    """Asks the API server, and caches the answers for a while; for any thread.

    *post* makes a request (method, path, body) and returns the decoded answer, or raises a ``Failure``.
    Then we do not know, and the caller must leave as it is what rests on the answer.
    """

    def __init__(
        self, post: Callable[[str, str, Mapping[str, Any]], Any], events: Events, clock: Callable[[], float]
    ) -> None:
        self._post = post
        self._events = events
        self._clock = clock
        self._answers = _Answers()
        self._reads = Reads(clock)

    @property
    def denied(self) -> frozenset[Subject]:
        """Who may not register what, as far as it was asked for: for people who look."""
        return self._answers.denied

    def may_register(self, pod: Pod, name: str) -> bool:
        """Whether the pod's ServiceAccount may register the RpcService *name*; if not, record an Event.

        Raises ``Unread`` if the API server does not say.
        """
        subject = (pod.namespace, pod.service_account or "default", name)
        allowed = self._answers.get(subject, self._clock())
        if allowed is None:
            allowed = self._ask(pod, subject)
            self._answers.note(subject, allowed, self._clock())
        if not allowed:
            message = (
                f"ServiceAccount {subject[1]} may not register RpcService {name}: "
                f"it needs the verb register on {RPCSERVICES.plural}.{GROUP}"
            )
            self._events.record(
                regarding(PODS, pod), Problem("RegisterDenied", message), "Declare", warning=True
            )
        return allowed

    def _ask(self, pod: Pod, subject: Subject) -> bool:
        try:
            answer = self._reads.of(
                subject, lambda: self._post("POST", ACCESS_REVIEWS.path(), access_review(*subject))
            )
        except Unread as unread:
            if unread.is_news:
                message = (
                    f"whether ServiceAccount {subject[1]} may register RpcService {subject[2]} is unknown; "
                    f"what is published of it stays as it is: {unread}"
                )
                problem = Problem("RegisterUnknown", message)
                self._events.record(regarding(PODS, pod), problem, "Declare", warning=True)
            raise
        return bool(answer["status"].get("allowed"))
