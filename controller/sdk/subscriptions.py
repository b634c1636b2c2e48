"""Tells subscribers what changed, on one thread, in order.

A subscription knows what it told last, and tells the difference to what there is now.  So nothing is
told twice, nothing that lasts is missed, and what came and went before the thread got to it is not
told at all.
"""

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from controller.logs import Log
from controller.sdk.instances import Kind, differences

log = Log(__name__)


class Subscription:
    """One callback's wish to be told of *topic*: what *look* sees there, by key."""

    def __init__(
        self, topic: Hashable, look: Callable[[], Mapping[Any, Any]], tell: Callable[[Kind, Any], object]
    ) -> None:
        self.topic = topic
        self._look = look
        self._tell = tell
        self._told: Mapping[Any, Any] = {}
        self.cancelled = False

    def cancel(self) -> None:
        """Be told nothing more; a callback that runs at this moment still comes to its end."""
        self.cancelled = True

    def catch_up(self) -> None:
        """Tell the difference.  What a callback raises is logged, and counts as told."""
        before, self._told = self._told, self._look()
        for kind, value in differences(before, self._told):
            if self.cancelled:
                return
            try:
                self._tell(kind, value)
            except Exception:
                log.exception("subscriber failed", topic=str(self.topic))


class Subscriptions:
    """All subscriptions, and the body of the thread that serves them (``run``)."""

    def __init__(self) -> None:
        self._condition = threading.Condition()  # guards what follows
        self._subscriptions: list[Subscription] = []
        self._changed: set[Hashable] = set()
        self._stopped = False

    def add(self, subscription: Subscription) -> Subscription:
        """Tell *subscription* what there is, and from then on what changes."""
        with self._condition:
            self._subscriptions.append(subscription)
        self.changed([subscription.topic])
        return subscription

    def changed(self, topics: Iterable[Hashable]) -> None:
        """What is to be seen of *topics* may have changed."""
        with self._condition:
            self._changed.update(topics)
            self._condition.notify()

    def run(self) -> None:
        """Serve until ``stop``."""
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopped or self._changed)
                if self._stopped:
                    return
                changed, self._changed = self._changed, set()
                self._subscriptions = [known for known in self._subscriptions if not known.cancelled]
                due = [known for known in self._subscriptions if known.topic in changed]
            for subscription in due:
                subscription.catch_up()

    def stop(self) -> None:
        """Let ``run`` return, and tell nobody anything any more."""
        with self._condition:
            self._stopped = True
            for subscription in self._subscriptions:
                subscription.cancel()
            self._condition.notify()
