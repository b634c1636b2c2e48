"""Release words while pods cannot be read; workers, the guard and informers note and ask."""

import threading
from collections.abc import Iterable

from rpcregistry.model import RpcService
from rpcregistry.plan.guard import is_released


class UnknownWords:
    """The release annotations as a namespace became unreadable, by RpcService; for any thread.

    Lost with the process, which withdraws nothing: the next one takes the words that it finds for old ones.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _words
        self._words: dict[str, dict[str, str]] = {}  # by namespace, and uid

    def note(self, service: RpcService) -> None:
        """Note the word of *service*, whose pods cannot be read, as an old one; keep an earlier note."""
        with self._lock:
            self._words.setdefault(service.namespace, {}).setdefault(service.uid, service.released)

    def forget(self, namespace: str) -> None:
        """Forget the words of a namespace whose pods can be read."""
        with self._lock:
            self._words.pop(namespace, None)

    def are_released(self, namespace: str, services: Iterable[RpcService]) -> bool:
        """Whether one of *services* has a new word, which releases what is held of them."""
        words = {service.uid: service.released for service in services}
        with self._lock:
            return is_released(self._words.get(namespace, {}), words)

    def use_up(self, service: RpcService) -> bool:
        """Take the word of *service* for an old one, since it releases once; return whether it was new."""
        with self._lock:
            words = self._words.get(service.namespace, {})
            is_new = is_released(words, {service.uid: service.released})
            if is_new:
                words[service.uid] = service.released
            return is_new
