"""What ``verify`` finds, when it counts, and how it is said."""

import io
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from rpcregistry.cli import run_command
from rpcregistry.commands.report import REPORTS, Inspection, show_table
from rpcregistry.commands.verify import Inspector, changed, inspect_twice, require_namespaces
from rpcregistry.commands.whereabouts import Whereabouts
from rpcregistry.errors import Absent, Misconfigured, Rejected, Retry, Unknown
from rpcregistry.layouts import Layout
from rpcregistry.layouts.directories import upwards
from rpcregistry.layouts.forms import Child, PerEndpoint
from rpcregistry.manifests import RPCSERVICES, Resource
from rpcregistry.model import (
    Condition,
    Endpoint,
    LabelSelector,
    ObjectKey,
    Pod,
    RpcService,
    RpcServiceSpec,
    RpcServiceStatus,
)
from rpcregistry.plan.findings import DRIFT, Counts, Finding, exit_code, exit_states, summary
from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.ledger import Ledger, ledger_path
from rpcregistry.plan.listing import Statuses
from rpcregistry.plan.ops import Znode
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.publication import Adopt, PublicationSettings
from rpcregistry.plan.scope import Scope, differences, keeper
from rpcregistry.plan.verify import Cluster, findings_of, findings_of_znodes
from rpcregistry.reconcile.cache import ZnodeCache
from rpcregistry.watch import Listing, Unreadable
from tests.builders import pod, row, rpcservice
from tests.worlds import ZooKeeperInMemory
from tests.worlds.endpoints import BESIDE, CURATOR, FLAT, JOINED, MOTAN, SPRING_CLOUD, OneLayout

LAYOUT = Layout("kube2zk", "/rpc_v2")
DUBBO = Layout("dubbo", "/dubbo")
OURS = PublicationSettings("c1")


def listing(name: str, *rows: Endpoint, synced: str = "", **fields: Any) -> RpcService:
    """An RpcService that lists *rows*; *synced*: the reason of its condition, where that is False."""
    conditions = (Condition(type="Synced", status="False", reason=synced, message="why"),) if synced else ()
    status = RpcServiceStatus(observed_generation=1, endpoints=rows, conditions=conditions)
    return rpcservice(name, **{"status": status, "spec": RpcServiceSpec(service_name=name), **fields})


def service(name: str, *ips: str, known: bool = True, port: int | None = None) -> RpcService:
    """An RpcService that publishes these addresses; without a status where it is not *known*."""
    listed = listing(name, *(row(ip, ip, port=port) for ip in ips))
    return listed if known else msgspec.structs.replace(listed, status=RpcServiceStatus())


def content(*ips: str) -> bytes:
    return json.dumps({"config": ["mine"], "servers": ips}, separators=(",", ":")).encode()


def entry(*namespaces: str, cluster: str = "c1", **fields: str) -> bytes:
    return Ledger(cluster, namespaces, config=("mine",), **fields).encode()


def states(findings: Sequence[Finding]) -> list[str]:
    return sorted(finding.state for finding in findings)


# Pods and RpcServices

ECHO = pod("a", "echo")
SELECTED = RpcServiceSpec(service_name="echo", selector=LabelSelector(match_labels={"app": "x"}))


@pytest.mark.parametrize(
    ("pods", "services", "found"),
    [
        pytest.param([ECHO], [listing("echo", row("a"))], [], id="in sync"),
        pytest.param([ECHO], [], [("default/echo/a", "not listed")], id="there is no RpcService"),
        pytest.param(
            [pod("a", "echo", "cart")],
            [listing("echo", row("a"))],
            [("default/cart/a", "not listed")],
            id="the second service has none",
        ),
        pytest.param(
            [ECHO, pod("b", "echo")],
            [listing("echo", row("a"))],
            [("default/echo/b", "not listed")],
            id="one pod has no room",
        ),
        pytest.param(
            [ECHO],
            [service("echo", known=False)],
            [("default/echo/a", "not listed")],
            id="nobody has looked at the RpcService",
        ),
        pytest.param(
            [pod("a", "echo", ready=False)],
            [listing("echo", row("a"))],
            [("default/echo/a", "listed wrongly")],
            id="another address or state",
        ),
        pytest.param([], [listing("echo", row("a"))], [("default/echo/a", "listed but gone")], id="no pod"),
        pytest.param(
            [pod("a", "echo", terminating=True)],
            [listing("echo", row("a"))],
            [("default/echo/a", "listed but gone")],
            id="a terminating pod",
        ),
        pytest.param(
            [pod("a", "cart")],
            [listing("echo", row("a")), listing("cart", row("a"))],
            [("default/echo/a", "listed but gone")],
            id="a pod that serves something else",
        ),
        pytest.param(
            [ECHO],
            [listing("echo", row("a", pod_uid="before"))],
            [("default/echo/a", "listed but gone"), ("default/echo/a", "not listed")],
            id="another pod of that name",
        ),
        pytest.param(
            [], [listing("echo", row("a", held=True))], [("default/echo/a", "held")], id="absent, and held"
        ),
        pytest.param(
            [],
            [listing("echo", row("a", held=True), synced="Held")],
            [("default/echo/a", "held")],
            id="and the RpcService says so, too",
        ),
        pytest.param(
            [pod("a", "echo", ready=False, silenced=True, node_name="n")],
            [listing("echo", row("a", node_name="n", held=True))],
            [("default/echo/a", "held")],
            id="on a Node that is silent, and held",
        ),
        pytest.param(
            [pod("a", "echo", ready=False, node_name="n")],
            [listing("echo", row("a", node_name="n", held=True))],
            [("default/echo/a", "listed wrongly")],
            id="held, though its kubelet reports it",
        ),
        pytest.param(
            [pod("a", "echo", node_name="n")],
            [listing("echo", row("a", node_name="n", held=True), synced="Held")],
            [("default/echo/a", "held")],
            id="Ready on a Node that was deleted, and held",
        ),
        pytest.param(
            [pod("a", "echo", node_name="n")],
            [listing("echo", row("a", node_name="n", ready=False, phase="Unknown"))],
            [],
            id="Ready on a Node that was deleted, and withdrawn with it",
        ),
        pytest.param(
            [pod("a", "echo", node_name="n")],
            [listing("echo", row("a", node_name="n", ready=False))],
            [("default/echo/a", "listed wrongly")],
            id="Ready, and listed as not Ready",
        ),
        pytest.param(
            [ECHO],
            [listing("echo", row("a", held=True))],
            [("default/echo/a", "listed wrongly")],
            id="held, though the pod is there",
        ),
        pytest.param(
            [ECHO],
            [listing("echo", row("a"), synced="Held")],
            [("default/echo", "held")],
            id="something of the RpcService is held, and no row of it",
        ),
        pytest.param(
            [pod("a", labels={"app": "x"}), pod("b", labels={"app": "y"})],
            [listing("echo", spec=SELECTED, generated=False)],
            [("default/echo/a", "not listed")],
            id="a selected pod",
        ),
        pytest.param(
            [pod("a", "echo"), pod("b", "echo")],
            [
                listing("echo", row("a")),
                listing(
                    "part",
                    row("b"),
                    part_of="echo",
                    owner_uid="uid-echo",
                    spec=RpcServiceSpec(service_name="echo"),
                ),
            ],
            [],
            id="one is listed by a part",
        ),
        pytest.param(
            [pod("a", "echo", ips=()), pod("b", "echo", phase="Failed")], [], [], id="none that can be listed"
        ),
    ],
)
def test_what_verify_finds_of_pods(pods, services, found):
    findings = findings_of(Cluster(pods, services), (), OURS, kept_up=True)

    assert sorted((finding.path, finding.state) for finding in findings) == found


def test_a_finding_says_what_is_wrong():
    pods = [pod("a", "echo", port=80), pod("b", "echo", ready=False)]
    services = [listing("echo", row("b"), row("c"))]
    details = {finding.path: finding.detail for finding in Statuses(pods, services).findings()}

    assert details == {
        "default/echo/a": "it serves echo on port 80, and RpcService echo does not list it",
        "default/echo/b": "RpcService echo: ready is True, should be False",
        "default/echo/c": "RpcService echo lists it at 10.0.0.3, and the pod was deleted",
    }


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([], "the pod was deleted"),
        ([msgspec.structs.replace(ECHO, uid="another")], "the pod was deleted"),
        ([pod("a", "echo", terminating=True)], "the pod is terminating"),
        ([pod("a", "echo", phase="Failed")], "the pod has Failed"),
        ([pod("a", "echo", ips=())], "the pod has no address"),
        ([pod("a", "echo", port=81)], "the pod does not serve echo on port 80"),
    ],
)
def test_a_pod_that_is_listed_but_gone_says_why(found, why):
    details = [
        finding.detail
        for finding in Statuses(found, [listing("echo", row("a", port=80))]).findings()
        if finding.state == "listed but gone"
    ]

    assert details == [f"RpcService echo lists it at 10.0.0.1, and {why}"]


# RpcServices and znodes


@pytest.mark.parametrize(
    ("services", "znode", "ledger", "state"),
    [
        pytest.param(
            [service("echo", "10.0.0.1")], content("10.0.0.1"), entry("default"), None, id="in sync"
        ),
        pytest.param([service("echo", "10.0.0.1")], None, None, "missing", id="not written"),
        pytest.param([service("echo", "10.0.0.1")], None, entry("default"), "missing", id="deleted"),
        pytest.param(
            [service("echo", "10.0.0.1")], content("6.6.6.6"), entry("default"), "different", id="edited"
        ),
        pytest.param([], content("10.0.0.1"), entry("default"), "orphaned", id="nobody's any more"),
        pytest.param([], content("10.0.0.1"), None, "foreign", id="somebody else's"),
        pytest.param(
            [service("echo", "10.0.0.1")], content("10.0.0.2"), None, "would be adopted", id="kube2zk's"
        ),
        pytest.param(
            [service("echo", "10.0.0.1")], content(), entry(cluster="c2"), "refused", id="another cluster's"
        ),
        pytest.param(
            [service("echo", known=False)], content("10.0.0.1"), entry("default"), None, id="unknown"
        ),
        pytest.param(
            [], None, entry(withdrawn_at="2026-01-01T00:00:00Z"), None, id="withdrawn, and remembered"
        ),
    ],
)
def test_what_verify_finds(services, znode, ledger, state):
    view = ObservedZnodes(Znode(znode, 3) if znode else None, Znode(ledger, 1) if ledger else None)
    findings = findings_of_znodes(LAYOUT, Cluster((), services), {"echo": view}, OURS)

    assert states(findings) == ([state] if state else [])


PUBLISHED = ObservedZnodes(Znode(content("10.0.0.1", "10.0.0.2"), 3), Znode(entry("default"), 1))


@pytest.mark.parametrize(
    ("cluster", "view", "state"),
    [
        pytest.param(Cluster((), [], held=["echo"]), PUBLISHED, "held", id="a service without an RpcService"),
        pytest.param(
            Cluster((), [listing("echo", row("a"), synced="Held")]),
            PUBLISHED,
            "held",
            id="some of its addresses",
        ),
        pytest.param(
            Cluster((), [listing("echo", row("a"), row("c"), synced="Held")]),
            PUBLISHED,
            "different",
            id="and an address is missing",
        ),
        pytest.param(Cluster((), [], held=["cart"]), PUBLISHED, "orphaned", id="of another service"),
        pytest.param(
            Cluster((), [], unreadable=[Unreadable(ObjectKey("default", "echo"), "u", "why", 1)]),
            PUBLISHED,
            None,
            id="an RpcService that cannot be read may publish it",
        ),
    ],
)
def test_what_a_guard_holds_is_no_drift(cluster, view, state):
    findings = findings_of_znodes(LAYOUT, cluster, {"echo": view}, OURS)

    assert states(findings) == ([state] if state else [])


UNWRITTEN = service("echo", known=False)


@pytest.mark.parametrize(
    ("services", "ips", "found"),
    [
        pytest.param([], ("10.0.0.1", "10.0.0.2"), [], id="no object"),
        pytest.param([listing("echo", row("a"))], ("10.0.0.1", "10.0.0.2"), [], id="no room for another"),
        pytest.param([], ("10.0.0.1", "10.0.0.9"), ["different"], id="no object, and a dead pod"),
        pytest.param([UNWRITTEN], ("10.0.0.1", "10.0.0.9"), ["different"], id="no status, and a dead pod"),
        pytest.param([], ("10.0.0.9",), ["orphaned"], id="no object, and only a dead pod"),
    ],
)
def test_what_is_published_of_pods_that_are_not_listed_is_not_called_wrong(services, ips, found):
    cluster = Cluster([ECHO, pod("b", "echo")], services)
    view = ObservedZnodes(Znode(content(*ips), 3), Znode(entry("default"), 1))
    findings = findings_of(cluster, [(LAYOUT, {"echo": view})], OURS, kept_up=True)

    assert [state for state in states(findings) if state != "not listed"] == found
    assert "not listed" in states(findings)


@pytest.mark.parametrize(
    ("settings", "znode", "state"),
    [
        pytest.param(OURS, Znode(content("10.0.0.1"), 3), "would be adopted", id="of kube2zk"),
        pytest.param(
            PublicationSettings("c1", adopt=Adopt.NEVER),
            Znode(content(), 3),
            "foreign",
            id="and none is adopted",
        ),
        pytest.param(OURS, Znode(content(), 3, ephemeral=True), "foreign", id="of an RPC server itself"),
    ],
)
def test_what_verify_finds_where_pods_name_a_service_before_the_first_controller_runs(settings, znode, state):
    (finding,) = findings_of_znodes(
        LAYOUT, Cluster([ECHO], []), {"echo": ObservedZnodes(znode, None)}, settings
    )

    assert finding.state == state


@pytest.mark.parametrize(
    ("pods", "services", "lost"),
    [
        pytest.param([pod("a", "echo")], [], "10.0.0.8, 10.0.0.9", id="kube2zk left them behind"),
        pytest.param(
            [pod("a", "echo", ready=False)], [], "10.0.0.1, 10.0.0.8, 10.0.0.9", id="a pod is not Ready"
        ),
        pytest.param(
            [pod("a", "echo"), pod("b", "echo", ips=("10.0.0.8",))], [], "10.0.0.9", id="of another pod"
        ),
        pytest.param([], [service("echo", "10.0.0.1")], "10.0.0.8, 10.0.0.9", id="an RpcService lists it"),
    ],
)
def test_what_is_to_be_adopted_says_which_addresses_it_will_lose(pods, services, lost):
    view = ObservedZnodes(Znode(content("10.0.0.1", "10.0.0.8", "10.0.0.9"), 3), None)
    found = findings_of(Cluster(pods, services), [(LAYOUT, {"echo": view})], OURS, kept_up=False)

    (detail,) = (finding.detail for finding in found if finding.state == "would be adopted")
    assert detail.endswith(f"; it will lose {lost}: no Ready pod of the service has such an address")


def test_what_is_to_be_adopted_and_will_lose_nothing_says_nothing_of_that():
    view = ObservedZnodes(Znode(content("10.0.0.1"), 3), None)
    (finding,) = findings_of(Cluster([ECHO], []), [(LAYOUT, {"echo": view})], OURS, kept_up=False)

    assert finding.detail == "it existed before, and pods name it, but no RpcService does yet"


def test_of_many_addresses_that_will_be_lost_few_are_named():
    gone = [f"10.0.1.{number}" for number in range(2000)]
    view = ObservedZnodes(Znode(content("10.0.0.1", *gone), 3), None)
    (finding,) = findings_of(Cluster([ECHO], []), [(LAYOUT, {"echo": view})], OURS, kept_up=False)

    assert "10.0.1.9 and 1,990 more:" in finding.detail
    assert "10.0.1.10" not in finding.detail


def providers(*ips: str) -> dict[str, Znode]:
    """The children that an RpcService with these endpoints stands for."""
    rows = service("echo", *ips, port=80).status.endpoints
    return {DUBBO.form.place("echo", endpoint, "c1").name: Znode(b"", 0) for endpoint in rows}


@pytest.mark.parametrize(
    ("services", "view", "found"),
    [
        pytest.param(
            [service("echo", "10.0.0.1", port=80)],
            {"children": providers("10.0.0.1"), "ledger": Znode(entry("default"), 1)},
            [],
            id="in sync",
        ),
        pytest.param(
            [service("echo", "10.0.0.1", port=80)],
            {"children": providers("10.0.0.2"), "ledger": Znode(entry("default"), 1)},
            ["missing", "orphaned"],
            id="another one",
        ),
        pytest.param(
            [service("echo", "10.0.0.1", port=80)],
            {
                "children": dict.fromkeys(providers("10.0.0.1"), Znode(b"x", 1)),
                "ledger": Znode(entry("default"), 1),
                "foreign": ["theirs"],
            },
            ["different", "foreign"],
            id="edited, and foreign ones beside",
        ),
        pytest.param(
            [],
            {"children": providers("10.0.0.1"), "ledger": Znode(entry("default"), 1)},
            ["orphaned"],
            id="nobody's any more",
        ),
        pytest.param([service("echo", "10.0.0.1")], {"ledger": None}, ["refused"], id="without a port"),
        pytest.param([], {"ledger": None, "foreign": ["theirs"]}, ["foreign"], id="somebody else's service"),
        pytest.param(
            [listing("echo", row("10.0.0.1", "10.0.0.1", port=80), synced="Held")],
            {"children": providers("10.0.0.1", "10.0.0.2"), "ledger": Znode(entry("default"), 1)},
            ["held"],
            id="one that is held",
        ),
    ],
)
def test_what_verify_finds_where_each_endpoint_has_a_znode(services, view, found):
    observed = ObservedZnodes(Znode(b"", 0), **view)
    findings = findings_of_znodes(DUBBO, Cluster((), services), {"echo": observed}, OURS)

    assert states(findings) == found


@pytest.mark.parametrize("layout", [CURATOR, SPRING_CLOUD])
def test_a_child_under_the_name_that_earlier_versions_gave_it_is_in_sync(layout: Layout):
    (endpoint,) = service("echo", "10.0.0.1", port=80).status.endpoints
    before = layout.form.place_before("echo", endpoint, "c1")
    view = ObservedZnodes(
        Znode(b"", 0), Znode(entry("default"), 1), children={before.name: Znode(before.data, 0)}
    )
    services = [service("echo", "10.0.0.1", port=80)]

    assert not list(findings_of_znodes(layout, Cluster((), services), {"echo": view}, OURS))


def test_a_static_znode_that_is_missing_shows_and_its_directories_do_not():
    view = ObservedZnodes(Znode(b"", 0), None, missing=("/b/clusters", "/b/clusters/echo"))
    found = list(findings_of_znodes(BESIDE, Cluster((), [service("echo")]), {"echo": view}, OURS))

    assert [(finding.path, finding.state) for finding in found] == [("/b/clusters/echo", "missing")]


@pytest.mark.parametrize("layout", [MOTAN, FLAT, JOINED, BESIDE], ids=lambda layout: layout.name)
def test_in_a_directory_of_groups_or_of_several_services_each_service_has_its_own_findings(layout: Layout):
    services = {name: service(name, "10.0.0.1", "10.0.0.2", port=80) for name in ("echo", "other")}
    registry = OneLayout(layout)
    form = layout.form
    assert isinstance(form, PerEndpoint)
    znodes = registry.zookeeper.znodes
    znodes["/b"] = (b"", 0)
    for name, made in services.items():
        for path in layout.parents(name):
            znodes[path] = (layout.content(name, path), 0)
        znodes[ledger_path(layout, name, "c1")] = (entry("default"), 0)
        for endpoint in made.status.endpoints:
            child = form.place(name, endpoint, "c1")
            assert isinstance(child, Child)
            path = f"{layout.directory(name)}/{child.name}"
            znodes |= {f"/b/{way}": (b"", 0) for way in upwards(path[3:])} | {path: (child.data, 0)}

    def found() -> list[tuple[str, str]]:
        cache = ZnodeCache(registry.zookeeper, [layout], OURS.clusters)
        cache.read(services)
        views = {name: cache.view(layout, name) for name in services}
        shown = findings_of_znodes(layout, Cluster((), [*services.values()]), views, OURS)
        return sorted((finding.state, finding.path) for finding in shown)

    assert found() == []
    del znodes[path]  # the last one's
    gone = services.pop("echo")
    orphans = [
        f"{layout.directory('echo')}/{form.place('echo', e, 'c1').name}" for e in gone.status.endpoints
    ]
    services["echo"] = service("echo", port=80)
    assert found() == sorted([("missing", path), *(("orphaned", orphan) for orphan in orphans)])


def test_what_other_namespaces_publish_is_no_drift_to_who_looks_at_one():
    view = ObservedZnodes(Znode(content("10.0.0.1", "10.0.0.2"), 3), Znode(entry("default", "other"), 1))
    services = [service("echo", "10.0.0.1")]

    assert not list(findings_of_znodes(LAYOUT, Cluster((), services, ["default"]), {"echo": view}, OURS))
    assert list(findings_of_znodes(LAYOUT, Cluster((), services), {"echo": view}, OURS))


# What counts

MISSING = Finding("kube2zk", "/rpc_v2/a", "missing", "first")


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        pytest.param([[]], [], id="nothing, and we look once"),
        pytest.param([[MISSING], []], [], id="a change on its way"),
        pytest.param(
            [[MISSING], [msgspec.structs.replace(MISSING, detail="second")]], ["second"], id="found twice"
        ),
        pytest.param(
            [[MISSING], [msgspec.structs.replace(MISSING, state="different")]], [], id="in another state"
        ),
        pytest.param(
            [[MISSING], [msgspec.structs.replace(MISSING, path="/rpc_v2/b")]], [], id="at another place"
        ),
        pytest.param(
            [[MISSING], [msgspec.structs.replace(MISSING, layout="mine")]], [], id="in another layout"
        ),
    ],
)
def test_only_what_a_second_look_finds_again_counts(looks, found):
    waiting = [Inspection(findings=tuple(findings), counts=Counts()) for findings in looks]
    waits: list[int] = []
    inspection = inspect_twice(lambda: waiting.pop(0), lambda: waits.append(1))

    assert [finding.detail for finding in inspection.findings] == found
    assert (len(waits), waiting) == (len(looks) - 1, [])


@pytest.mark.parametrize(
    ("found", "exit_on", "code"),
    [
        ((), DRIFT, 0),
        (("held", "would be adopted", "foreign", "left"), DRIFT, 0),
        *(((state,), DRIFT, 1) for state in DRIFT),
        (("held",), exit_states("held, missing"), 1),
        (("would be adopted",), exit_states("would-be-adopted"), 1),
        (("missing",), exit_states("held"), 0),
        (("missing",), exit_states("none"), 0),
        (("left",), exit_states("any"), 1),
    ],
)
def test_the_exit_code(found, exit_on, code):
    assert exit_code((Finding("", "x", state) for state in found), exit_on) == code


def test_a_state_that_there_is_not_is_no_state_to_exit_on():
    with pytest.raises(ValueError, match="'lost' is no state: choose from not listed, "):
        exit_states("missing,lost")


def test_a_wrong_state_is_bad_usage(capfd: pytest.CaptureFixture[str]):
    assert run_command(["verify", "--exit-on", "missing,lost"]) == 2
    assert "'lost' is no state" in capfd.readouterr().err


NOTHING = "nothing to compare: no pod names a service, and there is no RpcService, in"


@pytest.mark.parametrize(
    ("found", "counts", "namespaces", "line"),
    [
        ((), Counts(132, 1204, 4000), (), "in sync: 132 services, 1,204 znodes, 4,000 pods"),
        (
            ("missing", "held", "missing"),
            Counts(1, 1, 1),
            (),
            "drift: 2 missing, 1 held (looked at 1 service, 1 znode, 1 pod)",
        ),
        (("foreign",), Counts(2, 0, 2), (), "no drift: 1 foreign (looked at 2 services, 0 znodes, 2 pods)"),
        ((), Counts(pods=7), (), f"{NOTHING} any namespace"),
        (
            ("foreign",),
            Counts(),
            ("shop",),
            f"{NOTHING} namespace shop (1 foreign)",
        ),
    ],
)
def test_the_last_line_says_how_much_was_looked_at(found, counts, namespaces, line):
    findings = [Finding("", str(number), state) for number, state in enumerate(found)]

    assert summary(findings, counts, namespaces) == line


# The controllers' heartbeat

HERE = Scope(
    layouts=("kube2zk=/rpc_v2", "dubbo=/dubbo"),
    namespaces=(),
    pod_label_selector="",
    require_register_permission=False,
)


@pytest.mark.parametrize(
    ("beat", "lines"),
    [
        pytest.param(Heartbeat(at="t"), [], id="of an older version"),
        pytest.param(
            Heartbeat(layouts=("dubbo=/dubbo", "kube2zk=/rpc_v2")),
            [],
            id="the same",
        ),
        pytest.param(
            Heartbeat(layouts=("kube2zk=/rpc_v2",)),
            ["--layout is dubbo=/dubbo kube2zk=/rpc_v2 here, and kube2zk=/rpc_v2 in the controllers"],
            id="layouts",
        ),
        pytest.param(
            Heartbeat(layouts=HERE.layouts, namespaces=("shop",)),
            ["--namespace is not set here, and shop in the controllers"],
            id="namespaces",
        ),
        pytest.param(
            Heartbeat(layouts=HERE.layouts, pod_label_selector="a=b", require_register_permission=True),
            [
                "--pod-label-selector is not set here, and a=b in the controllers",
                "--require-register-permission is off here, and on in the controllers",
            ],
            id="selector and permission",
        ),
    ],
)
def test_the_flags_that_differ_from_the_controllers(beat, lines):
    assert [str(difference) for difference in differences(HERE, beat)] == lines


@pytest.mark.parametrize(
    ("beat", "line"),
    [
        (None, "no controller keeps this registry up: ZooKeeper has no heartbeat of cluster c1"),
        (Heartbeat(at="T", stopped=True), "no controller keeps this registry up: the last one stopped at T"),
        (Heartbeat(at="T", waiting=3), "the last heartbeat is of T, with 3 changes waiting"),
        (
            Heartbeat(at="T", lease="rpc/rpcregistry", holder="vm_1"),
            "the last heartbeat of vm_1 (Lease rpc/rpcregistry) is of T, with 0 changes waiting",
        ),
    ],
)
def test_who_keeps_the_registry_up(beat, line):
    assert keeper(beat, "c1") == line


# Looking


class KubeWorld:
    """Reads from lists; counts the LISTs.  *objects*: what GET finds, or the failure that it is."""

    def __init__(self, pods: Sequence[Pod] = (), services: Sequence[RpcService] = ()) -> None:
        self.items: dict[str, Sequence[Any]] = {"pods": pods, "rpcservices": services}
        self.objects: dict[str, Any] = {}
        self.lists: list[tuple[str, str, str]] = []
        self.registrars: set[str] | None = None  # the ServiceAccounts that may register; None: nobody may ask

    def list(self, resource: Resource[Any], namespace: str = "", label_selector: str = "") -> Listing[Any]:
        self.lists.append((resource.plural, namespace, label_selector))
        items = [item for item in self.items[resource.plural] if namespace in ("", item.namespace)]
        return Listing(items, [], 1)

    def raw(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if method == "POST":
            if self.registrars is None:
                raise Rejected("403 Forbidden")
            account = body["spec"]["user"].rpartition(":")[2]
            return {"status": {"allowed": account in self.registrars}}
        found = self.objects.get(path, Absent(path))
        if isinstance(found, Exception):
            raise found
        return found


def inspect(kube: KubeWorld, zookeeper: ZooKeeperInMemory, **scope: Any) -> Inspection:
    here = msgspec.structs.replace(HERE, **scope)
    inspector = Inspector(kube=kube, connect=lambda: zookeeper, layouts=[LAYOUT], scope=here, settings=OURS)
    return inspector.inspect()


def registry(**znodes: bytes) -> ZooKeeperInMemory:
    """What ZooKeeper holds of services, with their entries in the ledger, and of the heartbeat."""
    zookeeper = ZooKeeperInMemory()
    zookeeper.znodes["/rpcregistry/heartbeat/c1"] = (b'{"at":"T","waiting":0,"lease":"rpc/rpcregistry"}', 1)
    for name, data in znodes.items():
        zookeeper.znodes[f"/rpc_v2/{name}"] = (data, 1)
        zookeeper.znodes[ledger_path(LAYOUT, name, "c1")] = (entry("default"), 1)
    return zookeeper


def test_each_kind_is_listed_once_a_namespace():
    kube = KubeWorld([ECHO], [listing("echo", row("a"))])
    inspection = inspect(
        kube, registry(echo=content("10.0.0.1")), namespaces=("default", "shop"), pod_label_selector="a=b"
    )

    assert (inspection.findings, inspection.counts) == ((), Counts(1, 1, 1))
    assert kube.lists == [
        ("pods", "default", "a=b"),
        ("pods", "shop", "a=b"),
        ("rpcservices", "default", ""),
        ("rpcservices", "shop", ""),
    ]


def test_only_our_own_znodes_are_counted():
    zookeeper = registry(echo=content("10.0.0.1"))
    zookeeper.znodes["/rpc_v2/theirs"] = (content(), 1)
    zookeeper.znodes["/rpc_v2/others"] = (content(), 1)
    zookeeper.znodes[ledger_path(LAYOUT, "others", "c2")] = (entry("default", cluster="c2"), 1)

    assert inspect(KubeWorld(), zookeeper).counts == Counts(services=0, znodes=1, pods=0)


def test_a_watch_shows_the_next_change_and_outlives_a_server_that_is_away(capsys: pytest.CaptureFixture[str]):
    def look(*findings: Finding) -> Inspection:
        return Inspection(findings=findings, counts=Counts())

    drift = Finding("kube2zk", "/a", "missing")
    away = Retry("ZooKeeper is not connected")
    answers: list[Inspection | Retry] = [look(), away, away, look(drift), look(), look(drift), look(drift)]
    waits: list[int] = []

    def inspect() -> Inspection:
        answer = answers.pop(0)
        if isinstance(answer, Retry):
            raise answer
        return answer

    found = changed(inspect, look(), lambda: waits.append(1))
    assert (found.findings, answers, len(waits)) == ((drift,), [], 7)
    assert capsys.readouterr().err.count("ZooKeeper is not connected") == 1


def test_what_the_lease_calls_held_is_held():
    kube = KubeWorld()
    zookeeper = registry(echo=content("10.0.0.1"))
    lease = "/apis/coordination.k8s.io/v1/namespaces/rpc/leases/rpcregistry"

    assert states(inspect(kube, zookeeper).findings) == ["orphaned"]
    kube.objects[lease] = Unknown("403")
    assert states(inspect(kube, zookeeper).findings) == ["orphaned"]
    about = {"namespace": "rpc", "name": "rpcregistry", "uid": "1", "resourceVersion": "1"}
    kube.objects[lease] = {"metadata": {**about, "annotations": {"rpcregistry.dev/held": '["echo",7]'}}}
    assert states(inspect(kube, zookeeper).findings) == ["held"]


def test_pods_of_a_service_to_adopt_are_not_missed_before_a_controller_ran():
    zookeeper = ZooKeeperInMemory()
    zookeeper.znodes["/rpc_v2/echo"] = (content("10.0.0.1"), 1)
    kube = KubeWorld([pod("a", "echo", "new")])

    assert states(inspect(kube, zookeeper).findings) == ["not listed", "would be adopted"]
    zookeeper.znodes["/rpcregistry/heartbeat/c1"] = (b'{"at":"T","waiting":0}', 1)
    assert states(inspect(kube, zookeeper).findings) == ["not listed", "not listed", "would be adopted"]


def test_only_what_is_there_is_left():
    zookeeper = registry()
    for name, fields in (
        ("there", {}),
        ("gone", {}),
        ("withdrawn", {"withdrawn_at": "2026-11-21T02:02:02Z"}),
    ):
        path = ledger_path(Layout("kube2zk", "/old"), name, "c1")
        for parent in ("/rpcregistry/owned", "/rpcregistry/owned/kube2zk"):
            zookeeper.znodes[parent] = (b"", 1)
        zookeeper.znodes[path] = (entry("default", **fields), 1)
    for name in ("there", "withdrawn"):
        zookeeper.znodes[f"/old/{name}"] = (content(), 1)
    (finding,) = inspect(KubeWorld(), zookeeper).findings

    assert (finding.path, finding.state) == ("/old/there", "left")


def test_what_is_left_is_looked_for_where_the_layout_has_it():
    zookeeper = registry()
    for parent in ("/rpcregistry/owned", "/rpcregistry/owned/dubbo"):
        zookeeper.znodes[parent] = (b"", 1)
    zookeeper.znodes[ledger_path(Layout("dubbo", "/old"), "a.Outer$Inner", "c1")] = (entry("default"), 1)
    zookeeper.znodes["/old/a.Outer%24Inner"] = (b"", 1)
    (finding,) = inspect(KubeWorld(), zookeeper).findings

    assert (finding.path, finding.state) == ("/old/a.Outer%24Inner", "left")


def test_pods_that_may_not_register_are_not_missed():
    kube = KubeWorld([ECHO, pod("b", "echo", service_account="b")], [listing("echo", row("a"))])
    zookeeper = registry(echo=content("10.0.0.1"))

    unsure = inspect(kube, zookeeper, require_register_permission=True)
    assert states(unsure.findings) == ["not listed"]
    (note,) = unsure.notes
    assert "cannot ask which pods may register" in note
    kube.registrars = {"default"}
    sure = inspect(kube, zookeeper, require_register_permission=True)
    assert (sure.findings, sure.notes) == ((), ())
    kube.registrars = set()
    none = inspect(kube, zookeeper, require_register_permission=True)
    assert states(none.findings) == ["listed but gone"]


def test_an_object_that_cannot_be_read_is_found_and_has_nothing_withdrawn():
    class Garbled(KubeWorld):
        def list(
            self, resource: Resource[Any], namespace: str = "", label_selector: str = ""
        ) -> Listing[Any]:
            garbled = [Unreadable(ObjectKey("default", "echo"), "u", "no ips", 1)]
            return Listing([], garbled if resource is RPCSERVICES else [], 1)

    (finding,) = inspect(Garbled(), registry(echo=content("10.0.0.1"))).findings
    assert (finding.path, finding.state, finding.detail) == ("default/echo", "unreadable", "no ips")


def test_a_namespace_that_is_not_there_is_a_wrong_flag():
    kube = KubeWorld()
    kube.objects = {"/api/v1/namespaces/a": {}, "/api/v1/namespaces/b": Unknown("403 Forbidden")}
    require_namespaces(kube, ["a", "b"])

    with pytest.raises(Misconfigured, match="there is no namespace 'c'"):
        require_namespaces(kube, ["a", "b", "c"])


# Saying

WHERE = Whereabouts(
    context="prod", server="https://k8s", cluster_id="c1", zk_servers="zk:1", layouts=(LAYOUT,)
)
LONG = Finding("dubbo", f"/dubbo/{'x' * 200}/providers/END", "missing", "an RpcService publishes it, it does")
FOUND = Inspection(
    findings=(LONG, Finding("", "default/echo/a", "not listed", "it serves\ta\x1b[31m")),
    counts=Counts(3, 2, 1),
    beat=Heartbeat(at="T", layouts=("kube2zk=/rpc_v2",)),
    notes=("a note",),
)


def test_off_a_terminal_findings_stand_alone_and_whole(capsys: pytest.CaptureFixture[str]):
    REPORTS["table"](WHERE, HERE).show(FOUND)
    out, err = capsys.readouterr()

    assert out == (
        "not listed\t-\tdefault/echo/a\tit serves\\ta\\x1b[31m\n"
        f"missing\tdubbo\t{LONG.path}\tan RpcService publishes it, it does\n"
    )
    assert err.splitlines() == [
        "cluster c1 (context prod, https://k8s), ZooKeeper zk:1, layouts kube2zk=/rpc_v2, all namespaces",
        "the last heartbeat is of T, with 0 changes waiting",
        "--layout is dubbo=/dubbo kube2zk=/rpc_v2 here, and kube2zk=/rpc_v2 in the controllers",
        "a note",
        "drift: 1 not listed, 1 missing (looked at 3 services, 2 znodes, 1 pod)",
    ]


def test_off_a_terminal_a_line_says_that_nothing_was_found_and_where(capsys: pytest.CaptureFixture[str]):
    REPORTS["table"](WHERE, HERE).show(msgspec.structs.replace(FOUND, findings=()))
    out, err = capsys.readouterr()

    where = "cluster c1 (context prod, https://k8s), ZooKeeper zk:1, layouts kube2zk=/rpc_v2"
    assert out == f"in sync: 3 services, 2 znodes, 1 pod; {where}\n"
    assert len(err.splitlines()) == 4


def test_a_reader_that_has_seen_enough_costs_no_more_than_that():
    """As in ``rpcregistry verify | head -1``."""
    script = "from tests.test_verify import *; REPORTS['table'](WHERE, HERE).show(FOUND)"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    said = process.stderr.read().decode().splitlines()

    assert (process.wait(), len(said), said[-1][:5]) == (0, 5, "drift")


@pytest.mark.parametrize("width", [40, 80, 400])
def test_on_a_terminal_nothing_is_cut_either(width: int):
    screen = io.StringIO()
    show_table([LONG], Console(file=screen, width=width, force_terminal=True, color_system=None))
    shown = screen.getvalue()

    assert "…" not in shown
    assert shown.count("x") == LONG.path.count("x")
    assert "END" in "".join(shown.split())


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]):
    REPORTS["json"](WHERE, HERE).show(FOUND)
    out, err = capsys.readouterr()
    printed = json.loads(out)

    assert err == ""
    assert printed["findings"][1] == {
        "layout": "dubbo", "path": LONG.path, "state": "missing", "detail": LONG.detail
    }  # fmt: skip
    assert printed["differences"] == [
        {"flag": "--layout", "here": "dubbo=/dubbo kube2zk=/rpc_v2", "controllers": "kube2zk=/rpc_v2"}
    ]
    assert {
        key: printed[key] for key in ("context", "cluster", "zookeeper", "layouts", "namespaces", "counts")
    } == {
        "context": "prod",
        "cluster": "c1",
        "zookeeper": "zk:1",
        "layouts": ["kube2zk=/rpc_v2", "dubbo=/dubbo"],
        "namespaces": [],
        "counts": {"services": 3, "znodes": 2, "pods": 1},
    }
