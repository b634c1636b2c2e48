"""A loud neighbour: one namespace floods, and another changes one pod a second.

What the quiet one waits, alone and beside each flood, beside what a bare client that knows only the quiet one
takes beside the same flood.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import count
from typing import NamedTuple

from hack.bench import floors
from hack.bench.figures import Cost, Figure, Outcome, Series, percentile
from hack.bench.http import Refused, Request, request
from hack.bench.population import BarePod, address, ready_status, spread, turning_ready, turning_unready
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage, until
from hack.bench.znodes import Spectator
from hack.local.webhook import Webhook

LOUD = "loud"
LOUD_PODS = f"/api/v1/namespaces/{LOUD}/pods"
LOUD_SERVICES = f"/apis/rpcregistry.dev/v1alpha1/namespaces/{LOUD}/rpcservices"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
PERIOD = 1.0  # seconds between two changes of the quiet one
SENDERS = 8  # connections of the flood
ENTRIES = 32  # of a loud pod's annotation
PATIENCE = 600.0  # seconds; bounds a failure and measures nothing
SETTLE = 3.0  # seconds until a flood is a flood
NEW_ADDRESSES = 6_000_000


class Times(NamedTuple):
    """How long until another client saw the quiet namespace's changes, in seconds."""

    published: list[float]
    withdrawn: list[float]


class Flood(NamedTuple):
    """What goes on in the loud namespace.

    Of so many *pods*, which are there, one after the other is annotated with *text* of a growing number.
    Without any, pods with that annotation come and go.  *rate*: requests a second.
    """

    pods: int
    text: Callable[[int], str]
    rate: float
    around: Callable[[Stage], AbstractContextManager[object]] = lambda _: nullcontext()


def run(stage: Stage, sizes: Sizes) -> Outcome:
    """Nothing, then each flood: first beside the bare client, then beside the controller."""
    quiet = spread(50, 5, "quiet")
    stage.populate(quiet)
    with suppress(Refused):
        stage.send(request("POST", "/api/v1/namespaces", {"metadata": {"name": LOUD}}))
    figures: list[Figure] = []
    costs: dict[str, Cost] = {}
    series: list[Series] = []
    alone: Times | None = None
    for name, flood in {"alone": None, **FLOODS}.items():
        _clean(stage)
        stage.clear()
        with stage.running():  # the bare client only changes what is there
            until(lambda: _is_right(stage), "the quiet namespace is not right")
        bare = _beside_bare(stage, quiet, flood, sizes.neighbour_changes)
        _clean(stage)
        found, costs[name] = _beside_controller(stage, quiet, flood, sizes.neighbour_changes)
        figures += _figures(name, found, bare, alone)
        series.append(Series(f"beside {name}", [*found.published, *found.withdrawn], ()))
        alone = alone or found
    _clean(stage)
    stage.delete(quiet)
    stage.clear()
    return Outcome(
        "neighbour",
        figures,
        costs=costs,
        series=series,
        notes=["the floor is a bare client that watches all pods and writes the quiet namespace's only"],
    )


def _figures(name: str, found: Times, bare: Times, alone: Times | None) -> list[Figure]:
    figures = []
    for number, what in enumerate(Times._fields):
        for p in (50, 99):
            value, floor = (percentile(times[number], p) for times in (found, bare))
            figures.append(Figure(f"{name}: {what}, p{p}", value, "s", floor))
            if alone:
                ratio = round(value / percentile(alone[number], p), 2)
                figures.append(Figure(f"{name}: {what}, p{p}, times that of alone", ratio, ""))
    return figures


def _beside_bare(stage: Stage, quiet: Sequence[BarePod], flood: Flood | None, changes: int) -> Times:
    pipeline = floors.Pipeline(stage, quiet)
    try:
        with _flooded(stage, flood):
            return _change(stage, quiet, changes)
    finally:
        pipeline.close()


def _beside_controller(
    stage: Stage, quiet: Sequence[BarePod], flood: Flood | None, changes: int
) -> tuple[Times, Cost]:
    with stage.running():
        until(lambda: stage.answers("/readyz") and _is_right(stage), "the quiet namespace is not right")
        before = stage.read()
        with _flooded(stage, flood):
            return _change(stage, quiet, changes), stage.cost_since(before)


def _is_right(stage: Stage) -> bool:
    """Whether the quiet namespace's znodes are right; the loud one's do not count."""
    found = stage.znodes.content()
    return all(found.get(name) == data for name, data in stage.population.expected().items())


def _clean(stage: Stage) -> None:
    """Remove what a flood left behind."""
    stage.send(Request("DELETE", f"{LOUD_PODS}?gracePeriodSeconds=0"), Request("DELETE", LOUD_SERVICES))


def _change(stage: Stage, quiet: Sequence[BarePod], changes: int) -> Times:
    """Have a pod turn not Ready, and Ready at another address; *changes* times, one change a ``PERIOD``."""
    servers: Mapping[str, set[str]] = {}
    news = threading.Condition()

    def seen(service: str, found: list[str] | None, _: float) -> None:
        nonlocal servers
        with news:
            servers = {**servers, service: set(found or ())}
            news.notify()

    def timed(asked: Request, pod: BarePod, is_there: bool) -> float:
        sent = time.monotonic()
        stage.api.send(asked)
        with news:
            if not news.wait_for(lambda: (pod.ip in servers[str(pod.service)]) == is_there, PATIENCE):
                raise RuntimeError(f"the change of {pod.name} is not seen after {PATIENCE:g} s")
        took = time.monotonic() - sent
        time.sleep(max(0.0, PERIOD - took))
        return took

    times = Times([], [])
    spectator = Spectator(stage.cluster.zk_servers, {str(pod.service) for pod in quiet}, seen)
    try:
        with news:
            news.wait_for(lambda: len(servers) == len({pod.service for pod in quiet}), PATIENCE)
        for turn in range(changes):
            before = stage.population.pods[quiet[turn % len(quiet)].name]
            times.withdrawn.append(timed(turning_unready(before), before, False))
            (after,) = stage.population.move([before], 1)
            times.published.append(timed(turning_ready(after), after, True))
    finally:
        spectator.close()
    return times


@contextmanager
def _flooded(stage: Stage, flood: Flood | None) -> Iterator[None]:
    """Flood the loud namespace meanwhile."""
    if flood is None:
        yield
        return
    over = threading.Event()
    lock = threading.Lock()  # protects the requests and turns
    turns, requests = count(), _annotating(flood) if flood.pods else _appearing(flood)
    stage.send(*(_creation(number, flood.text(0)) for number in range(flood.pods)))
    stage.send(*map(_turning_ready, range(flood.pods)))
    began = time.monotonic()

    def send() -> None:
        connection = stage.api.connect()
        while True:
            with lock:
                turn, asked = next(turns), next(requests)
            if over.wait(max(0.0, began + turn / flood.rate - time.monotonic())):
                return
            with suppress(Refused):  # it may be a pod that is not there yet, or no more
                connection.send(asked)

    senders = [threading.Thread(target=send, daemon=True) for _ in range(SENDERS)]
    with flood.around(stage):
        for sender in senders:
            sender.start()
        try:
            time.sleep(SETTLE)
            yield
        finally:
            over.set()
            for sender in senders:
                sender.join()


# the floods


def _own(number: int) -> str:
    """Services that no other pod serves."""
    return json.dumps([{"serviceName": f"{LOUD}-{number}-{n}", "port": 20880} for n in range(ENTRIES)])


def _shared(number: int) -> str:
    """Services that all loud pods serve, in some version."""
    entries = ({"serviceName": f"{LOUD}-{n}", "port": 20880, "version": str(number)} for n in range(ENTRIES))
    return json.dumps([*entries])


def _wrong(number: int) -> str:
    """Entries with a wrong port each."""
    return json.dumps([{"serviceName": f"{LOUD}-{n}", "port": 70000 + number} for n in range(ENTRIES)])


def _creation(number: int, text: str) -> Request:
    metadata = {
        "name": f"{LOUD}-{number}",
        "labels": {"rpc-service": "true"},
        "annotations": {"rpc-service": text},
    }
    spec = {
        "nodeName": "nowhere",
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "app", "image": "registry.example/app:1.0"}],
    }
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return request("POST", LOUD_PODS, manifest)


def _turning_ready(number: int) -> Request:
    path = f"{LOUD_PODS}/{LOUD}-{number}/status"
    return request("PATCH", path, {"status": ready_status(address(NEW_ADDRESSES + number))})


def _annotating(flood: Flood) -> Iterator[Request]:
    for turn in count(1):
        patch = {"metadata": {"annotations": {"rpc-service": flood.text(turn)}}}
        yield request("PATCH", f"{LOUD_PODS}/{LOUD}-{turn % flood.pods}", patch)


def _appearing(flood: Flood) -> Iterator[Request]:
    for number in count():
        yield _creation(number, flood.text(number))
        yield _turning_ready(number)
        if number >= KEPT:
            yield Request("DELETE", f"{LOUD_PODS}/{LOUD}-{number - KEPT}?gracePeriodSeconds=0")


@contextmanager
def _hooked(stage: Stage) -> Iterator[None]:
    """A webhook of the loud namespace takes nine seconds for each write of an RpcService."""
    with Webhook(stage.cluster.directory / "pki", seconds=9.0) as webhook:
        manifest = webhook.manifest(LOUD, LOUD, ["rpcservices", "rpcservices/status"])
        stage.send(request("POST", WEBHOOKS, manifest))
        try:
            yield
        finally:
            stage.send(Request("DELETE", f"{WEBHOOKS}/{LOUD}"))


KEPT = 60  # pods that come and go
FLOODS: Mapping[str, Flood] = {
    "pods appear": Flood(0, _own, 6),
    "annotations change": Flood(60, _shared, 50),
    "a webhook takes 9 s": Flood(60, _shared, 5, _hooked),
    "entries are wrong": Flood(60, _wrong, 50),
}
