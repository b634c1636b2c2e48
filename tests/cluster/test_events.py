"""A real API server takes our Events, once each."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hack.local.cluster import LocalCluster
from rpcregistry.kube.client import Kube
from rpcregistry.model import Problem, Regarding
from rpcregistry.telemetry.events import EventRecorder
from tests.cluster.waiting import eventually


@pytest.fixture
def start(cluster: LocalCluster) -> Iterator[Callable[[], EventRecorder]]:
    """Starts recorders, as so many processes would."""
    started: list[EventRecorder] = []

    def start() -> EventRecorder:
        recorder = EventRecorder(Kube.from_config(str(cluster.kubeconfig)), "i" * 200)
        threading.Thread(target=recorder.run, daemon=True).start()
        started.append(recorder)
        return recorder

    yield start
    for recorder in started:
        recorder.stop()


def events(cluster: LocalCluster, namespace: str, uid: str) -> list[dict[str, Any]]:
    """The Events about the object with *uid*."""
    listed = cluster.kubectl("get", "events.v1.events.k8s.io", "--namespace", namespace, "--output", "json")
    return [event for event in json.loads(listed)["items"] if event["regarding"].get("uid") == uid]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("port: 0 is too small", id="a message"),
        pytest.param("ü" * 2000, id="a long one"),
        pytest.param("\x00\x1b\ud800\u202e\U0001f600\n" * 300, id="anything"),
        pytest.param("", id="none"),
    ],
)
def test_whatever_is_wrong_with_an_object_is_recorded(
    cluster: LocalCluster, namespace: str, start: Callable[[], EventRecorder], message: str
) -> None:
    pod = Regarding("v1", "Pod", namespace, "n" * 253, "uid-1")
    start().record(pod, Problem("InvalidAnnotation", message), "Declare", warning=True)
    [event] = eventually(lambda: events(cluster, namespace, "uid-1"))
    assert (event["type"], event["reason"], event["action"]) == ("Warning", "InvalidAnnotation", "Declare")


def test_what_concerns_no_namespace_is_recorded_in_the_default_one(
    cluster: LocalCluster, namespace: str, start: Callable[[], EventRecorder]
) -> None:
    node = Regarding("v1", "Node", "", "node1", f"uid of {namespace}")
    start().record(node, Problem("Seen", "it is there"), "Watch", warning=False)
    assert eventually(lambda: events(cluster, "default", node.uid))


def test_an_event_of_another_process_is_not_recorded_again(
    cluster: LocalCluster, namespace: str, start: Callable[[], EventRecorder]
) -> None:
    pod = Regarding("v1", "Pod", namespace, "web-1", "uid-1")
    for last in ("first", "second"):
        recorder = start()
        recorder.record(pod, Problem("InvalidAnnotation", "no port"), "Declare", warning=True)
        recorder.record(pod, Problem("InvalidAnnotation", last), "Declare", warning=True)
        eventually(lambda last=last: last in notes(cluster, namespace))  # type: ignore[misc]
    assert notes(cluster, namespace) == ["first", "no port", "second"]


def notes(cluster: LocalCluster, namespace: str) -> list[str]:
    """The notes of the Events about the object, sorted."""
    return sorted(event["note"] for event in events(cluster, namespace, "uid-1"))
