"""One namespace is loud, and another one's changes do not wait for it.

Order is what is judged, by the audit log, and not time.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from hack.bench.http import Client, Request, request
from hack.local.cluster import ADMIN_TOKEN
from hack.local.webhook import Webhook
from rpcregistry.kube.requests import TIMEOUTS
from rpcregistry.telemetry.events import POSTERS
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness import audit, evidence
from tests.faults.harness.ground import Ground
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.stand import USER, Stand

pytestmark = pytest.mark.full

SERVICES = "rpcservices.rpcregistry.dev"
ENTRIES = 32
PODS = 6  # that appear, each with so many services of its own
QUIET, OTHER = "10.0.0.1", "10.0.0.2"


@pytest.fixture
def loud(ground: Ground, namespace: str) -> Iterator[str]:
    """The namespace that is loud; the test's own is quiet, and the only one that is judged."""
    name = f"{namespace}-loud"
    ground.make_namespace(name)
    yield name
    ground.core.delete_namespace(name)


@pytest.fixture
def controller(start_controller: Callable[..., Replica], namespace: str, loud: str) -> Replica:
    """The public command, for both."""
    return start_controller(namespaces=[namespace, loud])


@pytest.fixture
def client(stand: Stand) -> Iterator[Client]:
    """Many connections to the API server."""
    cluster = stand.ground.cluster
    made = Client(cluster.server, cluster.ca_file, ADMIN_TOKEN)
    yield made
    made.close()


@pytest.fixture
def quiet(world: World, controller: Replica) -> World:
    """Two pods serve echo, one of them is Ready, and both are written."""
    world.create_pod("a", "echo", ip=QUIET)
    world.create_pod("b", "echo", ip=OTHER, ready=False)
    eventually(lambda: world.servers("echo") == [QUIET])
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    return world


def send(client: Client, asked: Sequence[Request]) -> None:
    list(client.each(asked))


def creations(namespace: str, texts: Sequence[str]) -> list[Request]:
    """The requests that make pods with these annotations."""
    return [
        request(
            "POST",
            f"/api/v1/namespaces/{namespace}/pods",
            {
                "metadata": {
                    "name": f"loud-{number}",
                    "labels": {"rpc-service": "true"},
                    "annotations": {"rpc-service": text},
                },
                "spec": {"nodeName": "nowhere", "containers": [{"name": "c", "image": "none"}]},
            },
        )
        for number, text in enumerate(texts)
    ]


def names(pod: int) -> str:
    """An annotation with services that no other pod has."""
    return json.dumps([{"serviceName": f"loud-{pod}-{n}", "port": 1} for n in range(ENTRIES)])


def wrong(number: int) -> str:
    """An annotation of which everything is wrong."""
    return json.dumps([{"serviceName": "x", "port": 70000 + number + n} for n in range(ENTRIES)])


def asked(stand: Stand) -> Sequence[evidence.Request]:
    """What the API server was asked by now."""
    return audit.read(stand.ground.cluster.audit_log)


def test_a_quiet_namespaces_change_is_written_within_a_turn(
    quiet: World, stand: Stand, loud: str, client: Client
):
    send(client, creations(loud, [names(pod) for pod in range(PODS)]))
    eventually(lambda: len(quiet.rpcservices(loud)) > 5)
    quiet.set_status("b", OTHER)
    eventually(lambda: quiet.servers("echo") == [QUIET, OTHER])
    eventually(lambda: len(quiet.rpcservices(loud)) == PODS * ENTRIES, timeout=60)

    requests = [request for request in asked(stand) if request.namespace in (loud, quiet.namespace)]
    turned = max(r.at for r in requests if (r.resource, r.name) == ("pods/status", "b"))
    written = min(
        r.at
        for r in requests
        if (r.user, r.resource, r.name) == (USER, f"{SERVICES}/status", "echo") and r.at > turned
    )
    made = [r.at for r in requests if (r.resource, r.namespace, r.verb) == (SERVICES, loud, "create")]
    meanwhile = [at for at in made if turned < at < written]
    afterwards = [at for at in made if at > written]
    assert len(afterwards) > 2 * ENTRIES, "the queue was too short to tell anything"
    assert len(meanwhile) < len(afterwards) / 3


@contextmanager
def hooked(stand: Stand, namespace: str) -> Iterator[Webhook]:
    """A webhook in *namespace* that never answers about RpcServices."""
    cluster = stand.ground.cluster
    with Webhook(cluster.directory / "pki") as webhook, stand.fault("refused"):
        manifest = webhook.manifest(namespace, namespace, ["rpcservices", "rpcservices/status"])
        cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))
        try:
            yield webhook
        finally:
            cluster.kubectl("delete", "validatingwebhookconfiguration", namespace)


def turn(world: World, times: int) -> None:
    """Have the pod b come and go so often, each time as it is written."""
    for _ in range(times):
        world.set_status("b", OTHER)
        eventually(lambda: world.servers("echo") == [QUIET, OTHER])
        world.set_status("b", OTHER, ready=False)
        eventually(lambda: world.servers("echo") == [QUIET])


def test_a_webhook_that_never_answers_holds_up_its_own_namespace_alone(
    quiet: World, stand: Stand, loud: str, client: Client
):
    with hooked(stand, loud) as webhook:
        send(client, creations(loud, [names(0)]))
        eventually(lambda: webhook.waiting)
        turn(quiet, 3)
        eventually(lambda: webhook.most >= 2)
        assert webhook.most <= 6, "it may use all workers but two, and two while another is active"

        def refused() -> bool:
            found = quiet.core.list_namespaced_event(loud).items
            return any(event.reason == "RpcServiceRefused" for event in found)

        eventually(refused, timeout=60)
        eventually(lambda: webhook.waiting <= 2)
        webhook.most = 0
        turn(quiet, 3)
        eventually(lambda: webhook.most)
        assert webhook.most <= 2, "all slow ones together have two"
        assert quiet.synced("echo") == ("True", "InRegistry")
    eventually(lambda: len(quiet.rpcservices(loud)) == ENTRIES, timeout=90)


@pytest.fixture
def hanging(ground: Ground, stand: Stand, namespace: str) -> Iterator[tuple[Webhook, Sequence[str]]]:
    """A webhook that is asked about the Events of so many namespaces as there are threads that post them."""
    names = [f"{namespace}-hangs-{number}" for number in range(POSTERS)]
    with Webhook(ground.cluster.directory / "pki", seconds=0.0) as webhook, stand.fault("refused"):
        for name in names:
            ground.make_namespace(name)
            manifest = webhook.manifest(name, name, ["events"])
            ground.cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))
        for name in names:
            webhook.most = 0
            eventually(lambda: try_event(ground, name) and webhook.most)  # noqa: B023
        yield webhook, names
        for name in names:
            ground.cluster.kubectl("delete", "validatingwebhookconfiguration", name)
            ground.core.delete_namespace(name)


def try_event(ground: Ground, namespace: str) -> bool:
    """Have the API server say whether it would take an Event."""
    event = {"metadata": {"name": "trial"}, "involvedObject": {"namespace": namespace}}
    ground.core.create_namespaced_event(namespace, event, dry_run="All")
    return True


def test_webhooks_that_begin_to_hang_at_once_hold_up_no_event_elsewhere_for_a_whole_timeout(
    world: World,
    start_controller: Callable[..., Replica],
    hanging: tuple[Webhook, Sequence[str]],
):
    webhook, names = hanging
    start_controller(namespaces=[world.namespace, *names])
    world.create_pod("a", "echo", ip=QUIET)
    eventually(lambda: world.servers("echo") == [QUIET])
    webhook.seconds = float("inf")
    for name in names:
        world.create_pod("errs", annotation="{", namespace=name)
    eventually(lambda: webhook.waiting == POSTERS)
    world.create_pod("innocent", annotation="{")
    eventually(lambda: world.events("InvalidAnnotation", "innocent"))
    assert webhook.longest < TIMEOUTS.write[1]


def test_an_innocent_pods_event_is_not_behind_those_of_another_namespace(
    quiet: World, stand: Stand, loud: str, client: Client
):
    pods = 100
    send(client, creations(loud, [wrong(0)] * pods))
    path = f"/api/v1/namespaces/{loud}/pods/loud-"
    patches = [
        request(
            "PATCH",
            f"{path}{number % pods}",
            {"metadata": {"annotations": {"rpc-service": wrong(number)}}},
        )
        for number in range(1, 5001)
    ]
    send(client, patches)
    quiet.create_pod("innocent", annotation=wrong(0))
    (event,) = eventually(lambda: quiet.events("InvalidAnnotation", "innocent"))
    assert event.message.endswith(" more"), "all its mistakes are one Event"

    requests = asked(stand)
    created = max(r.at for r in requests if (r.resource, r.name, r.verb) == ("pods", "innocent", "create"))
    events = [r for r in requests if r.resource.startswith("events") and r.user == USER and r.at > created]
    (mine,) = (r.at for r in events if r.namespace == quiet.namespace and r.name.startswith("innocent"))
    assert sum(r.namespace == loud and r.at < mine for r in events) <= 3, "others have one turn"
    told = [r for r in requests if r.resource.startswith("events") and r.namespace == loud]
    minutes = (max(r.at for r in told) - min(r.at for r in told)) / 60
    each = Counter(r.name.rpartition(".")[0] for r in told)
    assert max(each.values()) <= 2 + minutes, "one Event a minute for each pod"
