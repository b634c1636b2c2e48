"""Lost answers, processes that die in the middle of a write, and deletions of every kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hack.local.cluster import LocalCluster
from hack.local.controller import finished
from hack.local.http_proxy import Answer, Cut, HttpProxy, is_of
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World

NODE_LABEL = "rpcregistry.dev/node"
SLOW = '{"metadata": {"finalizers": ["example.com/slow"]}}'
SLOW_NO_MORE = '{"metadata": {"finalizers": null}}'


@pytest.mark.full
@pytest.mark.parametrize("lost", ["request", "reply"])
@pytest.mark.parametrize(
    ("method", "resource"),
    [
        pytest.param("POST", "services", id="create a Service"),
        pytest.param("PATCH", "services", id="change a Service"),
        pytest.param("DELETE", "services", id="delete a Service"),
        pytest.param("PATCH", "pods", id="label a pod"),
        pytest.param("PATCH", "localservices", id="write the status"),
    ],
)
def test_a_write_that_is_lost_or_whose_answer_is(
    world: World, start_local, api: HttpProxy, through_api: Path, method: str, resource: str, lost: str
):
    world.create_node("lose-a")
    world.create_node("lose-b")
    controller = start_local(kubeconfig=through_api)
    world.create_localservice()
    world.run_pod("a", "lose-a")
    eventually(lambda: world.serves("lose-a", "lose-b") and world.is_fine())

    happened: list[str] = []
    lose = api.lose_request if lost == "request" else api.lose_reply
    lose(lambda asked, path: asked == method and is_of(path, resource), lambda: happened.append(lost))
    since = world.now()
    world.create_node("lose-c")
    world.delete_node("lose-b")
    world.edit_localservice(ports=[{"port": 9}])
    address = world.run_pod("c", "lose-c")

    eventually(lambda: happened)
    eventually(lambda: world.rows().keys() == {"lose-a", "lose-c"} and world.rows()["lose-c"] == [address])
    eventually(lambda: [s["spec"]["ports"][0]["port"] for s in world.node_services().values()] == [9, 9])
    eventually(lambda: world.services().keys() == {"app-lose-a", "app-lose-c"} and world.is_fine())
    created_or_deleted = [event for event in world.happened(since) if event[0] != "MODIFIED"]
    assert sorted(created_or_deleted) == [("ADDED", "app-lose-c"), ("DELETED", "app-lose-b")]
    assert world.warnings() == []
    assert not any(line["level"] == "error" for line in controller.logged())


def die_at(
    api: HttpProxy, controller: Controller, matches: Callable[[str, str], bool], count: int
) -> list[str]:
    """Kill the controller when it asks for the *count*-th such request, which is not passed on."""
    seen: list[str] = []

    def instead(method: str, path: str) -> Answer | None:
        if matches(method, path):
            seen.append(path)
            if len(seen) >= count:
                controller.kill()
                raise Cut
        return None

    api.instead = instead
    return seen


@pytest.mark.full
@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_controller_that_dies_while_it_makes_services(
    world: World, start_local, api: HttpProxy, through_api: Path, count: int
):
    nodes = [f"die-{number}" for number in range(4)]
    for node in nodes:
        world.create_node(node)
    since = world.now()
    controller = start_local(kubeconfig=through_api)
    die_at(api, controller, lambda method, path: method == "POST" and is_of(path, "services"), count)
    world.create_localservice()
    eventually(lambda: not controller.running)

    api.reset()
    controller.start()
    eventually(lambda: world.serves(*nodes) and world.is_fine())
    assert sorted(world.happened(since)) == [("ADDED", f"app-{node}") for node in nodes]


@pytest.mark.full
def test_a_controller_that_dies_before_it_makes_a_service_anew(
    world: World, start_local, api: HttpProxy, through_api: Path
):
    world.create_node("anew-x")
    controller = start_local(kubeconfig=through_api)
    world.create_localservice()
    eventually(lambda: world.serves("anew-x"))
    deleted = die_at(
        api,
        controller,
        lambda method, path: (
            method == "POST"
            and is_of(path, "services")
            and "dryRun" not in path
            and "app-anew-x" not in world.services()
        ),
        1,
    )
    world.edit_localservice(clusterIP="None")
    eventually(lambda: deleted and not controller.running)
    assert world.services() == {}

    api.reset()
    controller.start()
    eventually(lambda: world.serves("anew-x"))
    assert world.services()["app-anew-x"]["spec"]["clusterIP"] == "None"


@pytest.mark.full
def test_a_pod_made_anew_on_another_node_never_gets_the_label_of_the_first(
    world: World, start_local, api: HttpProxy, through_api: Path
):
    start_local(kubeconfig=through_api)
    world.create_localservice()
    eventually(world.is_fine)
    answers: list[int] = []

    def recreate(method: str, path: str) -> None:
        if method == "PATCH" and is_of(path, "pods") and not answers:
            world.delete_pod("a")
            world.create_pod("a", labels={"app": "app"}, node="second-n")

    def note(method: str, path: str, status: int, body: bytes) -> Answer:
        if method == "PATCH" and is_of(path, "pods"):
            answers.append(status)
        return status, body

    api.instead, api.rewrite = recreate, note
    world.create_pod("a", labels={"app": "app"}, node="first-n")
    eventually(lambda: world.label("a", NODE_LABEL) == "second-n")
    assert answers[0] == 422  # the API server's word for another uid
    assert world.events("LabelRefused") == []


@pytest.mark.full
def test_a_dry_run_writes_nothing_and_prints_what_it_would(
    world: World, start_local, api: HttpProxy, through_api: Path
):
    world.create_node("dry-a")
    world.create_localservice()
    world.run_pod("a", "dry-a")
    controller = start_local("--dry-run", "--once", kubeconfig=through_api, wait=False)

    assert controller.wait() == 0
    *lines, last = [line for line in controller.text().splitlines() if not line.startswith("{")]
    assert [line.split("  ")[0] for line in sorted(lines)] == [
        f"+ Service {world.namespace}/app-dry-a",
        f"~ LocalService {world.namespace}/app",
        f"~ Pod {world.namespace}/a",
    ]
    assert last == "dry run: 1 to make, 2 to change, 0 to remove"
    assert [request for request in api.requests if request[0] != "GET"] == []
    assert world.services() == {}


@pytest.mark.full
def test_a_localservice_that_is_being_deleted_gets_no_services_any_more(world: World, start_local):
    world.create_node("fore-a")
    world.create_node("fore-b")
    start_local("--resync-period", "1s")
    world.create_localservice()
    eventually(lambda: world.serves("fore-a", "fore-b"))
    world.kubectl("patch", "lsvc", "app", "-n", world.namespace, "--type=merge", "-p", SLOW)
    world.delete_localservice()
    world.delete_service("app-fore-a")

    world.create_node("fore-c")
    world.create_localservice("next")
    eventually(lambda: world.serves("fore-a", "fore-b", "fore-c", name="next"))
    assert world.serves("fore-b")
    world.kubectl("patch", "lsvc", "app", "-n", world.namespace, "--type=merge", "-p", SLOW_NO_MORE)
    eventually(lambda: len(world.services()) == 3)


@pytest.mark.full
@pytest.mark.parametrize("is_ours", [True, False], ids=["ours", "somebody else's"])
def test_a_service_whose_deletion_takes_long_is_waited_for(world: World, start_local, is_ours: bool):
    world.create_node("slow-a")
    world.create_node("slow-b")
    if is_ours:
        start_local()
        world.create_localservice()
        eventually(lambda: world.serves("slow-a", "slow-b"))
    else:
        world.create_service("app-slow-a")
    world.kubectl("patch", "service", "app-slow-a", "-n", world.namespace, "-p", SLOW)
    world.delete_service("app-slow-a")
    before = world.services()["app-slow-a"]
    if not is_ours:
        start_local()
        world.create_localservice()
    world.create_node("slow-c")
    eventually(lambda: {"app-slow-b", "app-slow-c"} <= world.services().keys())
    assert world.services()["app-slow-a"] == before

    world.kubectl("patch", "service", "app-slow-a", "-n", world.namespace, "-p", SLOW_NO_MORE)
    eventually(lambda: world.serves("slow-a", "slow-b", "slow-c"))
    assert world.services()["app-slow-a"]["metadata"]["uid"] != before["metadata"]["uid"]
    eventually(world.is_fine)


@pytest.mark.full
def test_services_that_a_person_orphans_stay_and_are_taken_over_by_the_next_of_the_name(
    world: World, start_local
):
    world.create_node("orphan-a")
    start_local("--resync-period", "1s")
    world.create_localservice()
    world.create_localservice("beside")
    eventually(lambda: world.serves("orphan-a") and world.serves("orphan-a", name="beside"))
    before = world.services()["app-orphan-a"]

    world.kubectl("delete", "lsvc", "app", "-n", world.namespace, "--cascade=orphan", "--timeout=90s")
    world.create_node("orphan-b")
    eventually(lambda: world.serves("orphan-a", "orphan-b", name="beside"))
    assert world.services()["app-orphan-a"]["spec"] == before["spec"]

    world.create_localservice()
    eventually(lambda: world.serves("orphan-a", "orphan-b"))
    assert world.services()["app-orphan-a"]["metadata"]["uid"] == before["metadata"]["uid"]


def annotate(world: World, _kubeconfig: Path) -> None:
    world.kubectl("annotate", "lsvc", "app", "-n", world.namespace, "rpcregistry.dev/release=please")


def command(world: World, kubeconfig: Path) -> None:
    done = finished("release", kubeconfig=kubeconfig, namespace=world.namespace)
    assert done.returncode == 0, done.stderr
    assert f"released localservice {world.namespace}/app: 11 node Services released\n" in done.stdout


@pytest.mark.full
@pytest.mark.parametrize("release", [annotate, command])
def test_a_release_lets_go_of_the_nodes_that_are_held(
    cluster: LocalCluster, world: World, start_local, release: Callable[[World, Path], None]
):
    nodes = [f"release-{number:02}" for number in range(12)]
    for node in nodes:
        world.create_node(node)
    controller = start_local("--guard-confirm", "1h")
    world.create_localservice()
    world.create_localservice("fine", nodeSelector={"kubernetes.io/hostname": "node1"})
    eventually(lambda: world.serves(*nodes) and world.is_fine("fine"))
    assert controller.stop() == 0
    for node in nodes[:-1]:
        world.delete_node(node)
    controller.start()
    eventually(lambda: (world.failing() or ("", ""))[0] == "Held")
    assert world.serves(*nodes)

    release(world, cluster.kubeconfig)
    eventually(lambda: world.serves(nodes[-1]))
    eventually(world.is_fine)


@pytest.mark.full
def test_a_namespace_that_is_being_deleted_gets_no_services_any_more(
    world: World, other_namespace: str, start_local, api: HttpProxy, through_api: Path
):
    world.create_node("ends-a")
    start_local(kubeconfig=through_api)
    world.create_localservice(namespace=other_namespace)
    eventually(lambda: world.serves("ends-a", namespace=other_namespace))
    keep: dict[str, Any] = {"metadata": {"name": "kept", "finalizers": ["example.com/kept"]}}
    world.core.create_namespaced_config_map(other_namespace, keep)
    world.core.delete_namespace(other_namespace)
    eventually(lambda: world.services(other_namespace) == {})

    world.create_localservice()
    eventually(lambda: world.serves("ends-a"))
    eventually(lambda: world.localservice(namespace=other_namespace) == {})
    refused = [path for method, path in api.requests if method == "POST" and f"/{other_namespace}/" in path]
    assert len(refused) < 20
    release = {"metadata": {"finalizers": None}}
    world.core.patch_namespaced_config_map("kept", other_namespace, release)
