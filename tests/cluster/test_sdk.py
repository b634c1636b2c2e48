"""RPC processes that find each other by the API server alone; and that the controllers find, too."""

import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

import pytest

from hack.local.cluster import ADMIN_TOKEN, LocalCluster
from hack.local.http_proxy import HttpProxy, is_of, is_watch
from rpcregistry.errors import Rejected
from rpcregistry.sdk import Registry, Service, Update
from tests.cluster.rpc_process import RpcProcess
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World

ROLE = Path(__file__).parents[2] / "examples" / "sdk-role.yaml"
LONG = 120.0  # seconds, at most


@pytest.fixture
def join(cluster: LocalCluster, world: World) -> Iterator[Callable[..., Registry]]:
    """Makes a running pod, and its registry; closes them all with the test."""
    opened = []

    def join(name: str, ip: str, kubeconfig: Path | None = None, **options) -> Registry:
        world.create_pod(name, ip=ip)
        registry = Registry.from_kubeconfig(
            kubeconfig or cluster.kubeconfig, namespace=world.namespace, pod_name=name, **options
        )
        opened.append(registry)
        registry.start()
        assert registry.wait_until_synced(60)
        return registry

    yield join
    for registry in opened:
        registry.close()


@pytest.fixture
def api(cluster: LocalCluster) -> Iterator[HttpProxy]:
    """A proxy that sees requests to the API server."""
    with HttpProxy(cluster.server, cluster.directory / "pki") as proxy:
        yield proxy


@pytest.fixture
def through_api(cluster: LocalCluster, api: HttpProxy, tmp_path: Path) -> Path:
    """A kubeconfig that leads through ``api``."""
    return cluster.kubeconfig_for(ADMIN_TOKEN, tmp_path / "through-proxy", api.server)


def metadata(world: World, name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and annotations of a pod."""
    found = world.core.read_namespaced_pod(name, world.namespace).metadata
    return found.labels or {}, found.annotations or {}


def knows(process: RpcProcess, names: Collection[str]) -> bool:
    return {name for _, name in process.notified()} >= set(names)


def heard(process: RpcProcess, update: tuple[str, str]) -> bool:
    return update in process.notified()


def ips(registry: Registry, service: str) -> list[str]:
    return [instance.ip for instance in registry.instances(service)]


def test_three_processes_see_each_other_and_hear_once_of_one_that_goes(
    cluster: LocalCluster, world: World, tmp_path: Path
):
    names = ["a", "b", "c"]
    for number, name in enumerate(names):
        world.create_pod(name, ip=f"10.0.0.{number + 1}")
    processes = {
        name: RpcProcess(cluster.kubeconfig, world.namespace, name, "echo", tmp_path / name) for name in names
    }
    try:
        for process in processes.values():
            eventually(partial(knows, process, names), LONG)
        processes["c"].kill()
        world.delete_pod("c")
        for name in ("a", "b"):
            eventually(partial(heard, processes[name], ("removed", "c")), LONG)

        # This update is the last, so the ones before it have arrived.
        assert processes["b"].stop() == 0
        eventually(partial(heard, processes["a"], ("removed", "b")), LONG)
        assert sorted(processes["a"].notified()) == [
            *(("added", name) for name in names),
            ("removed", "b"),
            ("removed", "c"),
        ]
    finally:
        for process in processes.values():
            process.kill()


def test_changes_are_notified_without_asking_again(world: World, join, api: HttpProxy, through_api: Path):
    follower, notified = join("a", "10.0.0.1", through_api), []
    follower.subscribe("echo", lambda update: notified.append((update.kind, update.instance.ready)))
    eventually(lambda: len(api.requests) == 4)
    asked = list(api.requests)
    assert [is_watch(path) for _, path in asked].count(True) == 2

    other = join("b", "10.0.0.2")
    other.register(Service(name="echo"))
    eventually(lambda: notified == [("added", True)])
    world.set_status("b", "10.0.0.2", ready=False)
    eventually(lambda: notified[1:] == [("changed", False)])
    other.close()
    eventually(lambda: notified[2:] == [("removed", False)])
    assert api.requests == asked


def test_closing_undoes_and_leaves_what_others_wrote(world: World, join):
    registry = join("a", "10.0.0.1")
    world.core.patch_namespaced_pod(
        "a", world.namespace, {"metadata": {"labels": {"app": "x"}, "annotations": {"theirs": "1"}}}
    )
    before = metadata(world, "a")
    registry.register(Service(name="echo", port=8080, version="v1"))
    registry.register([Service(name="time")], dialect="rpc-service")

    labels, annotations = metadata(world, "a")
    assert labels == {"app": "x", "app.io/label": "app.io-value", "rpc-service": "true"}
    assert annotations["theirs"] == "1"
    assert b64decode(annotations["app.io/annotation"]).startswith(b'[{"k":"echo","v":')
    eventually(lambda: ips(registry, "echo") == ips(registry, "time") == ["10.0.0.1"])
    registry.close()
    assert metadata(world, "a") == before


@pytest.mark.parametrize(
    "taken",
    [
        pytest.param({"annotations": {"app.io/annotation": None}}, id="the annotation"),
        pytest.param({"annotations": {"app.io/annotation": "W10="}}, id="the entry"),
        pytest.param({"labels": {"app.io/label": None}}, id="the label"),
        pytest.param(
            {
                "labels": {"app.io/label": None},
                "annotations": {"app.io/annotation": None, "rpcregistry.dev/registered": None},
            },
            id="all of it",
        ),
    ],
)
@pytest.mark.parametrize("selector", ["", "app.io/label=app.io-value"], ids=["all pods", "one dialect"])
def test_what_somebody_else_takes_off_the_pod_is_registered_again(world: World, join, taken, selector):
    registry = join("a", "10.0.0.1", label_selector=selector)
    registry.register(Service(name="echo", port=8080))
    eventually(lambda: ips(registry, "echo") == ["10.0.0.1"])
    registered = metadata(world, "a")

    world.core.patch_namespaced_pod("a", world.namespace, {"metadata": taken})
    eventually(lambda: metadata(world, "a") == registered, LONG)
    registry.close()
    assert metadata(world, "a") == ({}, {})


def test_another_value_of_the_label_keeps_a_pod_out(world: World, join, caplog: pytest.LogCaptureFixture):
    registry = join("a", "10.0.0.1")
    registry.register(Service(name="echo"))
    world.core.patch_namespaced_pod("a", world.namespace, {"metadata": {"labels": {"app.io/label": "out"}}})
    eventually(lambda: "not registered any more" in caplog.text)
    assert metadata(world, "a")[0] == {"app.io/label": "out"}
    assert registry.instances("echo") == ()


def test_a_callback_may_close_its_registry(world: World, join):
    registry, notified = join("a", "10.0.0.1"), []

    def close(update: Update) -> None:
        registry.close()
        notified.append(update.kind)

    registry.register([Service(name="echo", port=1), Service(name="echo", port=2)])
    registry.subscribe("echo", close)
    eventually(lambda: notified == ["added"])
    assert metadata(world, "a") == ({}, {})


def test_the_downward_api_tells_a_process_its_pod(
    cluster: LocalCluster, world: World, monkeypatch: pytest.MonkeyPatch
):
    world.create_pod("a", ip="10.0.0.1")
    for name, value in {
        "POD_NAMESPACE": world.namespace,
        "POD_NAME": "a",
        "KUBECONFIG": cluster.kubeconfig,
    }.items():
        monkeypatch.setenv(name, str(value))
    with Registry.in_cluster() as registry:
        registry.register(Service(name="echo"))
        assert metadata(world, "a")[0] == {"app.io/label": "app.io-value"}


def test_no_pod_of_that_name_is_a_failure_at_once(cluster: LocalCluster, world: World):
    registry = Registry.from_kubeconfig(cluster.kubeconfig, namespace=world.namespace, pod_name="none")
    with registry, pytest.raises(Rejected, match="there is no Pod"):
        registry.register(Service(name="echo"))


def test_a_registry_begins_with_whatever_is_asked_first(cluster: LocalCluster, world: World):
    world.create_pod("a", "echo", ip="10.0.0.1")
    notified: list[str] = []

    def first(ask: Callable[[Registry], object], done: Callable[[Registry], bool]) -> None:
        registry = Registry.from_kubeconfig(cluster.kubeconfig, namespace=world.namespace, pod_name="b")
        ask(registry)
        eventually(partial(done, registry), LONG)
        registry.close()

    def follow(registry: Registry) -> None:
        registry.subscribe("echo", lambda update: notified.append(update.instance.pod_name))

    first(lambda registry: registry.wait_until_synced(60), lambda registry: len(registry.peers()) == 1)
    first(follow, lambda _: notified == ["a"])
    first(lambda _: None, lambda registry: ips(registry, "echo") == ["10.0.0.1"])
    first(lambda _: None, lambda registry: [peer.name for peer in registry.peers("echo")] == ["a"])


def test_writers_of_one_annotation_at_once_keep_each_others_entries(
    cluster: LocalCluster, world: World, join
):
    first = join("a", "10.0.0.1")
    others = (
        Registry.from_kubeconfig(cluster.kubeconfig, namespace=world.namespace, pod_name="a")
        for _ in range(7)
    )
    registries = [first, *others]
    together = threading.Barrier(len(registries))

    def register(number: int, registry: Registry) -> None:
        together.wait()
        registry.register(Service(name=f"s{number}", port=9000 + number))

    threads = [threading.Thread(target=register, args=numbered) for numbered in enumerate(registries)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(len(registries)):
        eventually(partial(ips, first, f"s{number}"))

    threads = [threading.Thread(target=registry.close) for registry in registries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metadata(world, "a") == ({}, {})


def test_what_is_registered_becomes_an_rpcservice_and_a_znode(world: World, join, controller: Controller):
    registry = join("a", "10.0.0.1")
    registry.register(Service(name="echo", port=8080, version="v1"))
    eventually(lambda: world.servers("echo") == ["10.0.0.1"], LONG)
    (row,) = world.rpcservices()["echo"]["status"]["endpoints"]
    assert (row["port"], row["version"]) == (8080, "v1")
    registry.close()
    eventually(lambda: world.servers("echo") is None, LONG)


def test_pods_that_an_rpcservice_selects_are_instances_and_peers(world: World, join, controller: Controller):
    registry = join("a", "10.0.0.1")
    notified = []
    registry.subscribe("echo", lambda update: notified.append((update.kind, update.instance.port)))
    world.apply_rpcservice("echo", selector={"matchLabels": {"app": "x"}}, port=7)
    world.create_pod("b", ip="10.0.0.2", labels={"app": "x"})
    eventually(lambda: notified == [("added", 7)], LONG)
    assert [peer.name for peer in registry.peers("echo")] == ["b"]
    assert registry.peers() == ()
    world.delete_pod("b")
    eventually(lambda: notified[1:] == [("removed", 7)], LONG)


def test_peers_are_followed_the_oldest_first(world: World, join):
    registry, notified = join("a", "10.0.0.1"), []
    registry.register(Service(name="cache"))
    registry.subscribe_peers(lambda update: notified.append((update.kind, update.peer.name)))
    for name, minute in (("young", 5), ("old", 1)):
        world.create_pod(name, "cache")
        running = {"running": {"startedAt": f"2026-11-21T02:0{minute}:00Z"}}
        container = {
            "name": "c",
            "image": "",
            "imageID": "",
            "ready": True,
            "restartCount": 0,
            "state": running,
        }
        world.set_status(name, f"10.0.1.{minute}", containerStatuses=[container])
    eventually(lambda: [peer.name for peer in registry.peers("cache")] == ["old", "young"])
    assert registry.peers() == registry.peers("cache")
    assert [peer.started_at for peer in registry.peers()] == ["2026-11-21T02:01:00Z", "2026-11-21T02:05:00Z"]
    world.delete_pod("old")
    eventually(lambda: notified[-1] == ("removed", "old"))
    assert sorted(notified) == [("added", "old"), ("added", "young"), ("removed", "old")]


def test_it_works_where_there_are_no_rpcservices(world: World, join, api: HttpProxy, through_api: Path):
    api.instead = lambda _, path: (404, b"404 page not found") if is_of(path, "rpcservices") else None
    registry = join("a", "10.0.0.1", through_api)
    registry.register(Service(name="echo"))
    eventually(lambda: ips(registry, "echo") == ["10.0.0.1"])


@pytest.fixture
def role(cluster: LocalCluster, world: World) -> Iterator[None]:
    """The role of the examples in the test's namespace, and its policy; not left to other suites."""
    manifests = ROLE.read_text().replace("namespace: default", f"namespace: {world.namespace}")
    cluster.kubectl("apply", "--server-side", "-f", "-", input=manifests)
    yield
    cluster.kubectl("delete", "-f", "-", input=manifests)


@pytest.mark.usefixtures("role")
def test_the_role_of_the_examples_is_enough_and_no_more(cluster: LocalCluster, world: World, tmp_path: Path):
    """The token is a real one, bound to the pod as a kubelet's would be."""
    for number, name in enumerate(("own", "other")):
        world.create_pod(name, ip=f"10.0.0.{number + 1}", serviceAccountName="rpc-process")
    bound = ("--bound-object-kind", "Pod", "--bound-object-name", "own")
    token = cluster.kubectl("create", "token", "rpc-process", "-n", world.namespace, *bound).strip()
    kubeconfig = cluster.kubeconfig_for(token, tmp_path / "kubeconfig")

    def registry(name: str) -> Registry:
        return Registry.from_kubeconfig(kubeconfig, namespace=world.namespace, pod_name=name)

    with registry("own") as own_registry:
        assert own_registry.wait_until_synced(60)
        own_registry.register(Service(name="echo"))
        eventually(lambda: ips(own_registry, "echo") == ["10.0.0.1"])
    as_own = ("--kubeconfig", str(kubeconfig), "-n", world.namespace)
    assert cluster.kubectl(*as_own, "auth", "can-i", "watch", "rpcservices").strip() == "yes"

    def refused() -> str:
        try:
            cluster.kubectl(*as_own, "annotate", "pod/other", "a=b", "--dry-run=server")
        except RuntimeError as error:
            return str(error)
        return ""

    only_its_own = "an RPC process may change its own pod only"
    eventually(lambda: only_its_own in refused(), LONG)  # a policy takes its time to be in force
    with registry("other") as others_registry, pytest.raises(Rejected, match=only_its_own):
        others_registry.register(Service(name="echo"))
    with pytest.raises(RuntimeError, match="may not change what a pod runs"):
        cluster.kubectl(*as_own, "set", "image", "pod/own", "c=other")


IN_MEMORY = """
import sys
from rpcregistry.sdk import Registry
registry = Registry.from_kubeconfig(sys.argv[1], namespace=sys.argv[2], pod_name="own")
notified = []
registry.subscribe("echo", notified.append)
with registry:
    assert registry.wait_until_synced(60)
    print(len(registry.instances("echo")), len(registry.peers("echo")))
    with open("/proc/self/status") as status:
        print(*(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.full
def test_a_thousand_pods_are_read_page_by_page_and_take_less_than_60_mb_at_most(
    world: World, join, api: HttpProxy, through_api: Path
):
    """In a pod it is 20 MB less: no Kubernetes client is imported there."""
    for number in range(999):
        ip = f"10.0.{number // 250}.{number % 250 + 1}"
        world.create_pod(f"p{number}", {"serviceName": "echo", "port": 80}, ip=ip)
    registry = join("own", "10.9.0.1", through_api)
    assert len(registry.instances("echo")) == len(registry.peers()) == 999
    asked = eventually(lambda: len(api.requests) == 13 and api.requests)
    assert [is_watch(path) for _, path in asked if is_of(path, "pods")] == [False] * 10 + [True]

    process = [sys.executable, "-c", IN_MEMORY, through_api, world.namespace]
    seen, peak = subprocess.run(process, capture_output=True, text=True, check=True).stdout.splitlines()
    assert seen == "999 999"
    assert int(peak) < 60_000_000
