"""Changes of pods, and how long each takes until another client reads it in ZooKeeper."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hack.bench.http import Sent
from hack.bench.population import BarePod, by_service, turning_ready
from hack.bench.stage import Stage, until
from hack.bench.znodes import Spectator


def one_at_a_time(stage: Stage, pods: Sequence[BarePod], changes: int) -> list[float]:
    """Latencies of changes; each begins some time after the one before was seen."""
    arrived = threading.Event()
    waiting = ""
    seen_at = 0.0

    def seen(_: str, servers: list[str] | None, at: float) -> None:
        nonlocal seen_at
        if servers and waiting in servers and not arrived.is_set():
            seen_at = at
            arrived.set()

    services = dict.fromkeys(pod.service for pod in pods if pod.service)
    spectator = Spectator(stage.cluster.zk_servers, services, seen)
    latencies = []
    try:
        for turn, pod in enumerate(stage.population.move(pods, changes)):
            waiting = pod.ip
            arrived.clear()
            sent = time.monotonic()
            stage.api.send(turning_ready(pod))
            until(arrived.is_set, f"{pod.ip} is not seen in ZooKeeper", every=0.001)
            latencies.append(seen_at - sent)
            # Past the batch window, and at no fixed distance from anybody's ticks.
            time.sleep(0.15 + 0.001 * (turn * 37 % 50))
    finally:
        spectator.close()
    return latencies


@dataclass(frozen=True)
class UnderLoad:
    """The outcome of a load: how long its requests took, and how long until each change was seen."""

    load: Sequence[float]
    latencies: Sequence[float]


def under_load(stage: Stage, pods: Sequence[BarePod], rate: float, seconds: float) -> UnderLoad:
    """Change pods in turn, *rate* times a second, and wait until the last change was seen."""
    moved = stage.population.move(pods, int(rate * seconds))
    observer = Observer([pod.ip for pod in moved], len(pods))
    spectator = Spectator(stage.cluster.zk_servers, by_service(pods), observer.seen)
    try:
        sent = stage.api.paced(list(map(turning_ready, moved)), rate)
        until(observer.done, "not every change is seen in ZooKeeper", every=0.01)
    finally:
        spectator.close()
    return UnderLoad(
        durations(sent), [at - request.sent for at, request in zip(observer.times(), sent, strict=True)]
    )


def durations(sent: Sequence[Sent]) -> list[float]:
    """How long requests took."""
    return [request.answered - request.sent for request in sent]


class Observer:
    """Records when each change was seen.  A change that a later one of its pod replaced is seen with that.

    *addresses*: the addresses that *pods* pods get, in turn.
    """

    def __init__(self, addresses: Sequence[str], pods: int) -> None:
        self._at: dict[int, float] = {}
        self._addresses = addresses
        self._turn_of = {ip: turn for turn, ip in enumerate(addresses)}
        # The changes of each pod that were not seen yet.
        self._unseen = [deque(range(place, len(addresses), pods)) for place in range(pods)]

    def seen(self, _: str, servers: list[str] | None, at: float) -> None:
        """Record that a service's servers were read."""
        for turn in [self._turn_of[ip] for ip in servers or () if ip in self._turn_of]:
            unseen = self._unseen[turn % len(self._unseen)]
            while unseen and unseen[0] <= turn:
                self._at[unseen.popleft()] = at

    def done(self) -> bool:
        """Whether every change was seen."""
        return len(self._at) == len(self._addresses)

    def times(self) -> list[float]:
        """When each change was seen, in order."""
        return [self._at[turn] for turn in range(len(self._addresses))]
