"""Each alert fires for a controller in that trouble, in one run of Prometheus; the dashboard shows it all.

The rules are a copy in which every ``for`` and window is divided by ``FACTOR``; thresholds stay as they are.
"""

import json
import re
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from kazoo.client import KazooClient

from hack.local.cluster import LocalCluster
from hack.local.http_proxy import Cut, is_of, is_watch
from hack.manifests import OPTIONAL, RULES, TOP
from tests.cluster.test_deployment import NO_MOUNTS
from tests.cluster.waiting import eventually
from tests.install.fleet import CONFINED, FORBIDDEN, Fleet, Installation, Prometheus, forbid
from tests.install.test_alerts import ALERTS, UNITS
from tests.install.test_dashboard import expressions

FACTOR = 30
EVERY = "2s"
LONGEST = 600.0  # seconds until all have to fire
MANY, CLOGGING = 576, 224  # services
A_POD = 32  # services in one annotation, at most
LARGE, OBJECTS = 1900, 8  # endpoints in each of so many RpcServices
FAULTY = (
    "-c",
    "from rpcregistry.reconcile import rpcservices;"
    "from rpcregistry.__main__ import main;"
    "rpcservices.RpcServiceReconciler.reconcile = lambda self, key: {}[key];"
    "main()",
)
BOTH = RULES.read_text() + OPTIONAL.read_text().partition("groups:\n")[2]
Step = Callable[[], None]  # done again every second while alerts are awaited


def hurried(text: str) -> str:
    """The rules with each ``for`` and window divided by FACTOR.

    >>> hurried("  for: 2m\\n  expr: rate(a[10m]) > max_over_time(b[1m:]) > 30")
    '  for: 4000ms\\n  expr: rate(a[20000ms]) > max_over_time(b[2000ms:]) > 30'
    """

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * UNITS[found[3]] * 1000 // FACTOR}ms"

    return re.sub(r"(\[|for: )(\d+)([smh])\b", shorter, text)


def nothing() -> None:
    pass


def delay(at: Installation, resource: str, seconds: float) -> None:
    """Pass on writes of a resource that many seconds later."""

    def instead(method: str, path: str) -> None:
        if method != "GET" and is_of(path, resource):
            time.sleep(seconds)

    at.api.instead = instead


def serve(at: Installation, prefix: str, count: int) -> list[str]:
    """Pods that serve *count* services of a name with a number; return the pods' names."""
    pods = [f"{prefix}-{number}" for number in range(count // A_POD)]
    for number, pod in enumerate(pods):
        names = (f"{prefix}-{number * A_POD + each}" for each in range(A_POD))
        at.world.create_pod(pod, *names, ip=f"10.0.1.{number + 1}")
    return pods


def well(at: Installation) -> Step:
    """All is well: nothing of it may fire.  Somebody looks at the page."""
    controller = at.start("--compare-period", "2s")
    url = eventually(
        lambda: next((line["url"] for line in controller.logged() if line["event"] == "the page"), "")
    )
    with urlopen(url, timeout=30) as page:
        page.read()
    at.world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: at.world.servers("echo") == ["10.0.0.1"])
    return nothing


def restless(at: Installation) -> Step:
    """Its only Node is silent, and its connection to ZooKeeper breaks each second."""
    at.start()
    node = f"n-{at.world.namespace}"
    at.world.create_node(node)
    set_node(at, node, "True", "KubeletReady")
    at.world.create_pod("a", "echo", ip="10.0.0.1", node=node)
    eventually(lambda: at.world.servers("echo") == ["10.0.0.1"])
    # What the node lifecycle controller does, in its order.
    set_node(at, node, "Unknown", "NodeStatusUnknown")
    at.world.set_status("a", "10.0.0.1", conditions=[{"type": "Ready", "status": "False"}])
    return at.zk.cut


def set_node(at: Installation, name: str, ready: str, reason: str) -> None:
    """Say whether a Node is Ready, as its kubelet, or the node lifecycle controller."""
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": ""}
    at.world.core.patch_node_status(name, {"status": {"conditions": [condition]}})


def cut_off(at: Installation) -> Step:
    """ZooKeeper is away, and a change waits for it."""
    at.start()
    at.world.create_pod("a", "echo", ip="10.0.0.1")
    eventually(lambda: at.world.servers("echo") == ["10.0.0.1"])
    at.zk.close()
    at.world.create_pod("b", "echo", ip="10.0.0.2")
    return nothing


def slow(at: Installation) -> Step:
    """Each write to the API server takes 2.5 s, while a pod comes and goes."""
    at.start()
    at.world.create_pod("a", "echo", ip="10.0.0.1")
    delay(at, "rpcservices", 2.5)
    states = iter(range(10_000))
    return lambda: at.world.set_status("a", "10.0.0.1", ready=bool(next(states) % 8 // 4))


def restored(at: Installation) -> Step:
    """The heartbeat knows of a later state than the API server has."""
    path = f"/rpcregistry/heartbeat/{at.world.cluster_id}"
    controller = at.start()
    eventually(lambda: at.world.zk.exists(path))
    controller.stop()
    beat = json.loads(at.world.zk.get(path)[0])
    assert beat["stopped"]
    beat["seen"]["versions"] = dict.fromkeys(beat["seen"]["versions"], 10**12)
    at.world.zk.set(path, json.dumps(beat).encode())
    at.start()
    return nothing


def clogged(at: Installation) -> Step:
    """Each write to the API server takes 3 s, and there are many."""
    at.start()
    delay(at, "rpcservices", 3)
    serve(at, "s", CLOGGING)
    return nothing


def untidy(at: Installation) -> Step:
    """Others edit znodes; Events and a status are refused; a pod is wrong, another not Ready; names go."""
    world = at.world
    dubbo = ("--layout", f"dubbo={world.base}-dubbo")
    at.start("--max-znode-bytes", "200", *dubbo)
    names = [f"edited-{number}" for number in range(12)]
    world.create_pod("b", *names, ip="10.0.0.2")
    world.create_pod("e", "empty", ip="10.0.0.5", ready=False)
    pods = serve(at, "commit", MANY)
    written = [*names, *(f"commit-{number}" for number in range(MANY))]
    eventually(lambda: world.data(names[0]))
    eventually(lambda: set(written) <= set(world.zk.get_children(world.base)), 400)
    for pod in pods:
        world.delete_pod(pod)
    forbid(at.api, lambda method, path: method != "GET" and (is_of(path, "events") or is_of(path, "denied")))
    world.create_pod("c", "denied", ip="10.0.0.4")
    world.create_pod("bad", annotation="[7]")

    def edit() -> None:
        for name in names:
            world.zk.set(f"{world.base}/{name}", b'{"servers":["10.9.9.9"]}')

    edited = iter([edit, *[nothing] * 9] * 1000)
    states = iter(range(10_000))

    def step() -> None:
        next(edited)()
        world.set_status("c", "10.0.0.4", ready=bool(next(states) % 2))

    return step


def faulty(at: Installation) -> Step:
    """The program has a fault: no server can be made to find one."""
    at.start(program=FAULTY)
    at.world.create_pod("a", "echo", ip="10.0.0.1")
    return nothing


def late(at: Installation) -> Step:
    """Renewals of its Lease take 3.5 s, and no watch of pods lives."""
    at.start(*(flag for number in range(5) for flag in ("--namespace", f"{at.world.namespace}-{number}")))

    def instead(method: str, path: str) -> None:
        if method != "GET" and is_of(path, "leases"):
            time.sleep(3.5)
        if is_watch(path) and is_of(path, "pods"):
            raise Cut

    at.api.instead = instead
    return lambda: at.api.cut_watches("pods")


def headless(at: Installation) -> Step:
    """It may not write its Lease. One service is large."""
    forbid(at.api, lambda method, path: method != "GET" and is_of(path, "leases"))
    at.start(leads=False)
    rows = [
        {"podName": f"p-{number}", "podUID": f"{number}", "ip": "10.0.0.1", "ready": True}
        for number in range(LARGE)
    ]
    for number in range(OBJECTS):
        name = f"large-{number}"
        at.world.apply_rpcservice(name, serviceName="large")
        status = {"status": {"serviceName": "large", "endpoints": rows}}
        at.world.custom.patch_namespaced_custom_object_status(
            "rpcregistry.dev", "v1alpha1", at.world.namespace, "rpcservices", name, status
        )
    return nothing


def blind(at: Installation) -> Step:
    """It may list pods no more."""
    at.start()
    at.api.instead = lambda method, path: FORBIDDEN if is_of(path, "pods") else None
    return lambda: at.api.cut_watches("pods")


def twins(at: Installation) -> Step:
    """Two lead; the first has little memory and few files."""
    flags = ("--controllers", "localservice", "--no-leader-elect")
    first = at.start(*flags, wrapper=CONFINED)
    at.start(*flags)
    opened = len(list(Path(f"/proc/{first.pid}/fd").iterdir()))
    resource.prlimit(first.pid, resource.RLIMIT_NOFILE, (opened + 4, opened + 4))
    return nothing


TROUBLES: Mapping[Callable[[Installation], Step], set[str]] = {
    well: set(),
    restless: {"NodesSilent", "Held", "ZooKeeperFlapping"},
    cut_off: {"ZooKeeperDisconnected", "ChangeWaits", "NotComparing"},
    slow: {"Slow"},
    restored: {"Restored"},
    clogged: {"QueueGrows"},
    untidy: {
        *("Failing", "Refused", "EventsDropped", "InvalidAnnotations"),
        *("Unsynced", "Repairing", "ZnodeNearLimit", "LedgerGrows", "ServiceEmpty"),
    },
    faulty: {"UnhandledError"},
    late: {"LeaseSlow", "WatchBroken"},
    headless: {"NoLeader", "ServiceNearLimit"},
    blind: {"SourceUnknown"},
    twins: {"TwoLeaders", "MemoryNearLimit", "FilesNearLimit"},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One without kwok, which would put a silent Node right at once."""
    with LocalCluster(tmp_path_factory.mktemp("cluster"), nodes=0) as running:
        yield running


@pytest.fixture
def fleet(cluster: LocalCluster, tmp_path: Path) -> Iterator[Fleet]:
    kinds = ("-f", str(TOP / "crds"))
    cluster.kubectl("apply", *kinds)
    cluster.kubectl("wait", "--for=condition=Established", *kinds, "--timeout=30s")
    zk = KazooClient(cluster.zk_servers)
    zk.start()
    with Fleet(cluster, zk, "alerts", tmp_path) as made:
        yield made
    zk.stop()
    zk.close()


@pytest.mark.deep
@pytest.mark.needs_root
@pytest.mark.skipif(bool(NO_MOUNTS), reason=str(NO_MOUNTS))
def test_each_alert_fires_for_a_controller_in_that_trouble(fleet: Fleet, tmp_path: Path):
    wanted = {
        (f"RpcRegistry{alert}", trouble.__name__) for trouble, alerts in TROUBLES.items() for alert in alerts
    }
    assert {alert for alert, _ in wanted} == ALERTS.keys() - {"RpcRegistryDown"}
    installed = [(trouble, fleet.install(trouble.__name__.replace("_", "-"))) for trouble in TROUBLES]
    steps = [trouble(at) for trouble, at in installed]
    targets = {trouble.__name__: at.ports for trouble, at in installed}
    with Prometheus(tmp_path / "prometheus", targets, hurried(BOTH), EVERY) as prometheus:
        fired: set[tuple[str, str]] = set()

        def all_fired() -> bool:
            for step in steps:
                step()
            fired.update(prometheus.firing())
            time.sleep(1)
            return wanted <= fired

        try:
            eventually(all_fired, LONGEST)
        except AssertionError:
            pytest.fail(f"never fired: {sorted(wanted - fired)}; fired: {sorted(fired)}")
        assert {alert for alert, name in fired if name == "well"} == set()
        shown = {expression: prometheus.ask(plain(expression)) for expression in expressions()}
        assert [expression for expression, found in shown.items() if not found] == []
        assert ("RpcRegistryDown", "") not in fired
        fleet.kill()
        eventually(lambda: ("RpcRegistryDown", "") in prometheus.firing(), 120)


def plain(expression: str) -> str:
    """An expression of the dashboard, with its variables filled in."""
    for variable, text in {"$namespace": ".*", "$job": ".*", "$__rate_interval": "1m"}.items():
        expression = expression.replace(variable, text)
    return expression.removesuffix(" > 0")  # of the annotation: no leader has to change meanwhile


def test_the_copy_of_the_rules_differs_in_nothing_but_times():
    def without_times(text: str) -> str:
        return re.sub(r"(\[|for: )\d+(ms|[smh])\b", r"\1", text)

    copy = hurried(BOTH)
    assert without_times(copy) == without_times(BOTH)
    assert [group["name"] for group in yaml.safe_load(copy)["groups"]] == [
        "rpcregistry",
        "rpcregistry-optional",
    ]
    assert yaml.safe_load(copy)["groups"][0]["rules"][0]["for"] == "10000ms"
