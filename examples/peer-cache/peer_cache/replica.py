"""One process's copy of the cache, kept equal to its peers' copies."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_fixed,
    wait_random_exponential,
)

from peer_cache.entries import Cache, Entries, Key, newer
from peer_cache.links import CALL_TIMEOUT, DELIVERY_TIMEOUT, Links, NotFilled, Unavailable

DELIVERIES_AT_ONCE = 16
DELIVERY_PATIENCE = 10.0  # seconds; after that, the next exchange delivers
BETWEEN_ROUNDS = 0.5  # seconds
FIRST_HEALING = 2.0  # seconds

_log = logging.getLogger(__name__)


class Peer(Protocol):
    """The part of ``rpcregistry.sdk.Peer`` that we use."""

    @property
    def ip(self) -> str: ...
    @property
    def started_at(self) -> object: ...  # False if no container of it runs


class Replica:
    """The copy, and the threads that keep it equal to the others.

    *peers* returns the other pods of the cache, the longest running first; *address* returns the address of a
    peer's gRPC server.
    """

    def __init__(
        self,
        cache: Cache,
        peers: Callable[[], Sequence[Peer]],
        address: Callable[[Peer], str],
        links: Links,
    ) -> None:
        self.cache = cache
        self._peers = peers
        self._address = address
        self._links = links
        self._filled = threading.Event()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(DELIVERIES_AT_ONCE, thread_name_prefix="deliver")
        self._lock = threading.Lock()
        # By address; an address has a key while a worker sends to it.
        self._undelivered: dict[str, Entries] = {}

    @property
    def filled(self) -> bool:
        """Whether it has copied the values that its peers had when it started.

        Until then it is not ready, and refuses to get and set values: a value that it has not seen may have a
        version above the one that it would give.
        """
        return self._filled.is_set()

    @property
    def delivering(self) -> bool:
        """Whether some peer has not received all values that were set here."""
        with self._lock:
            return bool(self._undelivered)

    # what is set here

    def set(self, values: Mapping[Key, str]) -> None:
        """Set *values* here, and send them to all peers; only once this is filled.

        Workers send them in the background, and retry failures.
        """
        entries = self.cache.set(values)
        addresses = [self._address(peer) for peer in self._peers()]
        _log.debug("set %d values, to tell %s", len(entries), ", ".join(addresses) or "nobody")
        for address in addresses:
            self._deliver(address, entries)

    def _deliver(self, address: str, entries: Entries) -> None:
        with self._lock:
            undelivered = self._undelivered.get(address)
            self._undelivered[address] = {**(undelivered or {}), **newer(entries, undelivered or {})}
        if undelivered is None:
            self._pool.submit(self._deliver_all, address)

    def _deliver_all(self, address: str) -> None:
        while entries := self._next_for(address):
            deliver = Retrying(
                retry=retry_if_exception_type(Unavailable),
                wait=wait_random_exponential(multiplier=0.2, max=5),
                stop=stop_after_delay(DELIVERY_PATIENCE) | stop_when_event_set(self._stopping),
                sleep=sleep_using_event(self._stopping),
                reraise=True,
            )
            try:
                deliver(self._links.to(address).set, entries, DELIVERY_TIMEOUT)
            except Unavailable as error:
                _log.warning("%s did not take %d values, and will later: %s", address, len(entries), error)

    def _next_for(self, address: str) -> Entries:
        with self._lock:
            entries = self._undelivered[address]
            if entries:
                self._undelivered[address] = {}
            else:
                del self._undelivered[address]
        return entries

    # what was set elsewhere

    def fill(self, patience: float) -> None:
        """Copy the peers' values, and be filled then.

        If none of the listed peers answers for *patience* seconds, it goes on without: a later exchange
        copies their values.
        """
        fill = Retrying(
            retry=retry_if_result(lambda done: not done),
            wait=wait_fixed(BETWEEN_ROUNDS),
            stop=stop_after_delay(patience) | stop_when_event_set(self._stopping),
            sleep=sleep_using_event(self._stopping),
            retry_error_callback=lambda _: False,
        )
        done = fill(self.exchange)
        if self._stopping.is_set():
            return
        if not done:
            _log.warning("no peer answers: starting with what there is")
        self._filled.set()
        _log.info("filled: holds %d values, has %d peers", len(self.cache.entries()), len(self._peers()))

    def exchange(self) -> bool:
        """Copy all values of the longest running peer, and send it what it lacks.

        If that fails, ask the next one.  Return False if none succeeded and a peer did not answer.
        """
        unreachable = False
        peers = self._peers()
        self._links.keep(frozenset(map(self._address, peers)))
        for peer in peers:
            if self._stopping.is_set():
                break
            if not peer.started_at:
                continue  # a pod that does not run holds no values
            address = self._address(peer)
            link = self._links.to(address)
            try:
                theirs = link.get_all()
                held = self.cache.entries()
                taken, lacking = newer(theirs, held), newer(held, theirs)
                self.cache.take(taken)
                if lacking:
                    link.set(lacking, CALL_TIMEOUT)
            except NotFilled:
                _log.info("%s is still filling its own cache", address)
            except Unavailable as error:
                _log.warning("%s does not answer: %s", address, error)
                unreachable = True
            else:
                if taken or lacking:
                    _log.info("took %d values from %s, gave it %d", len(taken), address, len(lacking))
                return True
        return not unreachable

    def heal(self, period: float) -> None:
        """Exchange with a peer every *period* seconds, until ``stop``."""
        # The first exchange comes soon: we missed values set before the peers knew of us.
        wait = min(FIRST_HEALING, period)
        while not self._stopping.wait(wait):
            self.exchange()
            wait = period

    def stop(self) -> None:
        """Try once more to send what peers lack, and end ``fill`` and ``heal``."""
        self._stopping.set()
        self._pool.shutdown()
        self._links.keep(frozenset())
