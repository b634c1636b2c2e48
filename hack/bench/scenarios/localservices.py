"""LocalServices: a Service for each node, and the node's label on the pods."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

from hack.bench.figures import Cost, Figure, Outcome
from hack.bench.http import Request, request
from hack.bench.population import NAMESPACE, PODS
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage, until

NODES = "/api/v1/nodes"
SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
LOCALSERVICES = f"/apis/rpcregistry.dev/v1alpha1/namespaces/{NAMESPACE}/localservices"


def run(stage: Stage, sizes: Sizes) -> Outcome:
    """One for all nodes, several for some, and one that selects every pod."""
    population = sizes.population()
    stage.populate(population)
    nodes = [_node(number, sizes.few_nodes) for number in range(sizes.nodes)]
    stage.follow("creating nodes", [request("POST", NODES, node) for node in nodes], len(nodes))
    figures: list[Figure] = []
    costs: dict[str, Cost] = {}
    try:
        for name, local, on in (
            (f"{sizes.nodes} nodes by 1", 1, "many"),
            (f"{sizes.few_nodes} nodes by {sizes.localservices}", sizes.localservices, "few"),
        ):
            count = local * (sizes.nodes if on == "many" else sizes.few_nodes)
            floor = _create_services(stage, count)
            with stage.running("--controllers", "localservice"):
                until(lambda: stage.answers("/readyz"), "the controller does not become ready")
                reading = stage.read()
                seconds = _declare(stage, [_localservice(f"l{n}", on, "nobody") for n in range(local)], count)
                costs[name] = stage.cost_since(reading)
            figures.append(Figure(f"{name}: {count} Services", seconds, "s", floor))
            _clear(stage)
        floor = _label(stage, len(population))
        with stage.running("--controllers", "localservice"):
            until(lambda: stage.answers("/readyz"), "the controller does not become ready")
            reading = stage.read()
            started = time.monotonic()
            with _appearing(stage, PODS, "rpcregistry.dev/node") as appeared:
                stage.send(request("POST", LOCALSERVICES, _localservice("all", "none", "p")))
                until(lambda: len(appeared) >= len(population), "not every pod is labelled")
            seconds = appeared[-1] - started
            costs["labels"] = stage.cost_since(reading)
        figures.append(Figure(f"{len(population)} pods labelled", seconds, "s", floor))
    finally:
        _clear(stage)
        stage.send(Request("DELETE", f"{NODES}?labelSelector=bench"))
    return Outcome("localservices", figures, costs)


def _node(number: int, few: int) -> dict[str, Any]:
    labels = {"bench": "many", **({"few": "yes"} if number < few else {})}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}", "labels": labels}}


def _localservice(name: str, nodes: str, app: str) -> dict[str, Any]:
    """A LocalService for pods whose label ``app`` is *app*, on ``many`` nodes, ``few`` or ``none``."""
    selectors = {"many": {"bench": "many"}, "few": {"few": "yes"}, "none": {"bench": "none"}}
    return {
        "apiVersion": "rpcregistry.dev/v1alpha1",
        "kind": "LocalService",
        "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}], "selector": {"app": app}, "nodeSelector": selectors[nodes]},
    }


def _create_services(stage: Stage, count: int) -> float:
    """The seconds that a bare client takes for so many Services, which it deletes again."""
    asked = [
        request(
            "POST",
            SERVICES,
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": f"bare-{number}", "labels": {"bench": "yes"}},
                "spec": {"selector": {"app": "nobody"}, "ports": [{"port": 80}]},
            },
        )
        for number in range(count)
    ]
    started = time.monotonic()
    stage.send(*asked)
    seconds = time.monotonic() - started
    stage.send(Request("DELETE", SERVICES))
    return seconds


def _declare(stage: Stage, manifests: Sequence[dict[str, Any]], count: int) -> float:
    """The seconds from declaring LocalServices until so many Services exist."""
    with _appearing(stage, SERVICES, "rpcregistry.dev/localservice") as appeared:
        started = time.monotonic()
        stage.send(*(request("POST", LOCALSERVICES, manifest) for manifest in manifests))
        until(lambda: len(appeared) >= count, "not every Service is there")
        return appeared[count - 1] - started


def _label(stage: Stage, pods: int) -> float:
    """The seconds that a bare client takes to label so many pods."""
    asked = [
        request("PATCH", pod.path, {"metadata": {"labels": {"bare": "yes"}}})
        for pod in list(stage.population.pods.values())[:pods]
    ]
    started = time.monotonic()
    stage.send(*asked)
    return time.monotonic() - started


@contextmanager
def _appearing(stage: Stage, path: str, label: str) -> Iterator[list[float]]:
    """Record when each object with *label* appeared, for the length of a ``with``."""
    since = stage.api.get(f"{path}?limit=1")["metadata"]["resourceVersion"]
    appeared: list[float] = []
    watch = stage.api.connect()

    def run() -> None:
        try:
            lines = watch.watch(f"{path}?watch=true&labelSelector={label}&resourceVersion={since}")
            appeared.extend(time.monotonic() for line in lines if line.startswith(b'{"type":"ADDED"'))
        except (OSError, ValueError):  # closed
            return

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        yield appeared
    finally:
        watch.shutdown()
        thread.join()


def _clear(stage: Stage) -> None:
    """Delete all LocalServices and Services."""
    stage.send(Request("DELETE", LOCALSERVICES))
    stage.send(Request("DELETE", SERVICES))
