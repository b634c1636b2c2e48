"""Notifies subscribers of changes, on one thread, in order.

A subscription remembers what it notified last, and notifies the difference to the present.  So it notifies
nothing twice, and misses nothing that lasts.  It never notifies what came and went before the thread looked.
It looks at changed pods only, so a change costs the same in a large namespace.
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
    """One callback's subscription to *topic*: *look* returns values by pod and key, *notify* calls back."""

    def __init__(self, topic: Hashable, look: Look, notify: Callable[[Kind, Any], object]) -> None:
        self.topic = topic
        self._look = look
        self._notify = notify
        self._notified: dict[str, Mapping[Any, Any]] = {}  # by pod; only the thread uses it
        self.cancelled = False  # set once, by any thread

    def cancel(self) -> None:
        """End the subscription; a callback that runs at this moment still completes."""
        self.cancelled = True

    def catch_up(self, pods: Pods = None) -> None:
        """Notify the differences at *pods*; if the callback raises, log that, and count it as notified."""
        now = self._look(pods)
        names = {**self._notified, **now}.keys() if pods is None else pods
        before = {name: self._notified.pop(name) for name in names if name in self._notified}
        self._notified |= now
        for kind, value in differences(_flat(before), _flat(now)):
            if self.cancelled:
                return
            try:
                self._notify(kind, value)
            except Exception:
                log.exception("subscriber failed", topic=str(self.topic))


def _flat(by_pod: Mapping[str, Mapping[Any, Any]]) -> dict[Any, Any]:
    return dict(chain.from_iterable(found.items() for found in by_pod.values()))


class Subscriptions:
    """All subscriptions; ``run`` in a thread of its own notifies them."""

    def __init__(self) -> None:
        self._condition = threading.Condition()  # protects _subscriptions, _due and _stopped
        self._subscriptions: dict[Hashable, list[Subscription]] = {}  # by topic
        self._due: dict[Subscription, set[str] | None] = {}  # at which pods to look; None: at all
        self._stopped = False

    def add(self, subscription: Subscription) -> Subscription:
        """Notify *subscription* of all there is, and from then on of changes."""
        with self._condition:
            self._subscriptions.setdefault(subscription.topic, []).append(subscription)
            self._due[subscription] = None
            self._condition.notify()
        return subscription

    def changed(self, topics: Iterable[Hashable], pods: Pods) -> None:
        """Look again for *topics* at *pods*, which may have changed."""
        with self._condition:
            for subscription in chain.from_iterable(self._subscriptions.get(topic, ()) for topic in topics):
                due = self._due.setdefault(subscription, set())
                if pods is None:
                    self._due[subscription] = None
                elif due is not None:
                    due.update(pods)
            self._condition.notify()

    def run(self) -> None:
        """Notify subscribers until ``stop``."""
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
        """Cancel all subscriptions, and let ``run`` return."""
        with self._condition:
            self._stopped = True
            for subscription in chain.from_iterable(self._subscriptions.values()):
                subscription.cancel()
            self._condition.notify()
