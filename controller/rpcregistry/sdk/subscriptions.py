"""Tells subscribers what changed, on one thread, in order.

A subscription knows what it told last, and tells the difference to what there is now.  So nothing is
told twice, nothing that lasts is missed, and what came and went before the thread got to it is not
told at all.  It looks at those pods only that changed: a change costs the same in a large namespace.
"""

import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from itertools import chain
from typing import Any

from rpcregistry.logs import Log
from rpcregistry.sdk.instances import Kind, differences

log = Log(__name__)

Pods = Collection[str] | None  # names; None: all
Look = Callable[[Pods], Mapping[str, Mapping[Any, Any]]]


class Subscription:
    """One callback's wish to be told of *topic*: what *look* sees there, by pod and by key."""

    def __init__(self, topic: Hashable, look: Look, tell: Callable[[Kind, Any], object]) -> None:
        self.topic = topic
        self._look = look
        self._tell = tell
        self._told: dict[str, Mapping[Any, Any]] = {}  # of the thread that tells
        self.cancelled = False  # set once, by any thread

    def cancel(self) -> None:
        """Be told nothing more; a callback that runs at this moment still comes to its end."""
        self.cancelled = True

    def catch_up(self, pods: Pods = None) -> None:
        """Tell the difference at *pods*.  What a callback raises is logged, and counts as told."""
        now = self._look(pods)
        names = {**self._told, **now}.keys() if pods is None else pods
        before = {name: self._told.pop(name) for name in names if name in self._told}
        self._told |= now
        for kind, value in differences(_flat(before), _flat(now)):
            if self.cancelled:
                return
            try:
                self._tell(kind, value)
            except Exception:
                log.exception("subscriber failed", topic=str(self.topic))


def _flat(by_pod: Mapping[str, Mapping[Any, Any]]) -> dict[Any, Any]:
    return dict(chain.from_iterable(found.items() for found in by_pod.values()))


class Subscriptions:
    """All subscriptions, and the body of the thread that serves them (``run``)."""

    def __init__(self) -> None:
        self._condition = threading.Condition()  # protects _subscriptions, _due and _stopped
        self._subscriptions: dict[Hashable, list[Subscription]] = {}  # by topic
        self._due: dict[Subscription, set[str] | None] = {}  # where to look: at these pods, or at all
        self._stopped = False

    def add(self, subscription: Subscription) -> Subscription:
        """Tell *subscription* what there is, and from then on what changes."""
        with self._condition:
            self._subscriptions.setdefault(subscription.topic, []).append(subscription)
            self._due[subscription] = None
            self._condition.notify()
        return subscription

    def changed(self, topics: Iterable[Hashable], pods: Pods) -> None:
        """What is to be seen of *topics* at *pods* may have changed."""
        with self._condition:
            for subscription in chain.from_iterable(self._subscriptions.get(topic, ()) for topic in topics):
                due = self._due.setdefault(subscription, set())
                if pods is None:
                    self._due[subscription] = None
                elif due is not None:
                    due.update(pods)
            self._condition.notify()

    def run(self) -> None:
        """Serve until ``stop``."""
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopped or self._due)
                if self._stopped:
                    return
                due, self._due = self._due, {}
                for subscription in due:
                    if subscription.cancelled:
                        self._subscriptions[subscription.topic].remove(subscription)
            for subscription, pods in due.items():
                if not subscription.cancelled:
                    subscription.catch_up(pods)

    def stop(self) -> None:
        """Let ``run`` return, and tell nobody anything any more."""
        with self._condition:
            self._stopped = True
            for subscription in chain.from_iterable(self._subscriptions.values()):
                subscription.cancel()
            self._condition.notify()
