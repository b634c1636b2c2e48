"""What the page shows, decided from values: rows, filters, changes, hops and notices."""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcregistry.layouts import Layout
from rpcregistry.model import Condition, ObjectKey, Pod, Problem, RpcService
from rpcregistry.page.app import encode
from rpcregistry.plan.heartbeat import Oldest
from rpcregistry.plan.journal import Ending, Entry
from rpcregistry.plan.ledger import Ledger
from rpcregistry.plan.ops import Znode
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.publication import PublicationSettings
from rpcregistry.plan.repairs import Repair
from rpcregistry.plan.screens import changes, known, one, others, services, state
from rpcregistry.run.timeline import MOST, MOST_NOTED, Pending, Timeline
from rpcregistry.runtime.store import Change
from tests.builders import localservice, pod, rpcservice
from tests.builders import row as endpoint

OK = Condition(type="Synced", status="True", reason="InRegistry")
KUBE2ZK = Layout("kube2zk", "/rpc_v2")


def service(
    name: str, *rows: Any, synced: Condition | None = OK, paths: str = "", **fields: Any
) -> RpcService:
    made = rpcservice(name, *rows, **fields)
    changed = msgspec.structs.replace(
        made.status,
        conditions=(synced,) if synced else (),
        total_endpoints=len(rows),
        registry_paths=paths,
        origin=fields.pop("origin", "generated"),
    )
    return msgspec.structs.replace(made, status=changed)


def false(reason: str) -> Condition:
    return Condition(type="Synced", status="False", reason=reason, message="why")


def facts(
    found: Mapping[str, int] = {}, waits: str = "", last: Mapping[str, services.Last] = {}
) -> services.Facts:
    return services.Facts(
        layouts=[KUBE2ZK],
        found=found.get,
        waits=lambda name: name == waits,
        last=lambda name: last.get(name, services.Last()),
    )


EVERY = [
    service("a.well", endpoint(1), paths="/rpc_v2/a.well"),
    service("b.nobody", endpoint(2, ready=False)),
    service("c.held", endpoint(3, ready=True, held=True), synced=false("Held")),
    service("d.elsewhere", endpoint(4), synced=false("OwnedElsewhere"), namespace="other"),
    service("e.part", endpoint(5, ip="10.9.0.5", node_name="node-b2"), endpoint(6, ready=False)),
    service("f.port", endpoint(7), synced=false("MissingPort")),
]


# the list of services


def test_those_that_need_a_look_come_first_and_are_counted():
    found = services.page(EVERY, facts(), services.Query())
    assert [(row.name, row.level) for row in found.services] == [
        ("b.nobody", "bad"),
        ("d.elsewhere", "bad"),
        ("c.held", "hold"),
        ("f.port", "warn"),
        ("a.well", "ok"),
        ("e.part", "part"),
    ]
    assert found.counts == {"all": 6, "look": 4, "held": 1, "nobody": 1, "partly": 1, "declared": 0}
    assert found.namespaces == ["default", "other"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        pytest.param({"q": "WELL"}, ["a.well"], id="a part of a name, in any case"),
        pytest.param({"q": "10.9.0"}, ["e.part"], id="the beginning of an address"),
        pytest.param({"q": "9.0.5"}, [], id="not its end"),
        pytest.param({"q": "node-b"}, ["e.part"], id="a node"),
        pytest.param({"q": "p7"}, ["f.port"], id="a pod"),
        pytest.param({"q": "other"}, ["d.elsewhere"], id="a namespace"),
        pytest.param({"namespace": "other"}, ["d.elsewhere"], id="one namespace"),
        pytest.param({"layout": "kube2zk"}, ["a.well"], id="one layout"),
        pytest.param({"state": "look"}, ["b.nobody", "d.elsewhere", "c.held", "f.port"], id="need a look"),
        pytest.param({"state": "partly"}, ["e.part"], id="partly Ready"),
        pytest.param({"state": "look", "q": "held"}, ["c.held"], id="both"),
        pytest.param({"sort": "name", "limit": 2, "after": 2}, ["c.held", "d.elsewhere"], id="the next rows"),
    ],
)
def test_rows_are_found(query: dict[str, Any], names: list[str]):
    assert [row.name for row in services.page(EVERY, facts(), services.Query(**query)).services] == names


@given(limit=st.integers(1, 4), sort=st.sampled_from(services.SORTS))
def test_each_row_is_on_one_page(limit: int, sort: str):
    names: list[str] = []
    after: int | None = 0
    while after is not None:
        found = services.page(EVERY, facts(), services.Query(limit=limit, after=after, sort=sort))
        names += [row.name for row in found.services]
        after = found.next
    assert sorted(names) == sorted(each.name for each in EVERY)


def test_what_is_held_is_published_and_not_ready():
    rows = [endpoint(1), endpoint(2, held=True), endpoint(3, ready=False, held=True)]
    row = services.row([service("echo", *rows, synced=false("Held"))], facts({"echo": 2}))
    assert (row.ready, row.held, row.total, row.found) == (1, 1, 3, 2)
    counted = known.counts_of([row])
    assert (counted.ready + counted.held, counted.written) == (2, 2)


def test_a_change_that_waits_is_no_sync():
    row = services.row([EVERY[0]], facts(waits="a.well"))
    assert (row.reason, row.message, row.is_well) == ("Waiting", "a change waits for ZooKeeper", True)
    assert services.row([EVERY[3]], facts(waits="d.elsewhere")).reason == "OwnedElsewhere"


def test_a_row_has_what_clients_find_and_the_last_change():
    last = services.Last(at=5.0, added=2, removed=1, lags=(3.0, 4.0))
    row = services.row([EVERY[0]], facts({"a.well": 1}, last={"a.well": last}))
    assert (row.found, row.changed_at, row.added, row.removed, row.lag_ms) == (1, 5.0, 2, 1, 4.0)
    assert row.layouts == ("kube2zk",)


# changes


def test_addresses_that_come_and_go_are_told_with_their_pods():
    old = service("echo", endpoint(1), endpoint(2), endpoint(3, port=80))
    new = service("echo", endpoint(1), endpoint(2, ready=False), endpoint(4), synced=false("Held"))
    assert [(line.kind, line.address, line.pod, line.text) for line in changes.said_of(old, new)] == [
        ("added", "10.0.0.4", "p4", "is Ready"),
        ("removed", "10.0.0.2", "p2", "is not Ready"),
        ("removed", "10.0.0.3:80", "p3", "ended"),
        ("synced", "", "", "why"),
    ]


def test_a_large_change_is_counted():
    said = changes.said_of(
        None, service("echo", *(endpoint(number) for number in range(1, 101)), synced=None)
    )
    assert len(said) == changes.MOST_NAMED + 1
    assert sum(line.count for line in said) == 100


def entry(name: str, ending: Ending = Ending.WRITTEN) -> Entry:
    return Entry("", name, "kube2zk", ending, 0.004, 0.001, 0.006)


def test_a_change_gets_its_time_once_it_is_written():
    timeline, echo = Timeline(), service("echo", endpoint(1))
    timeline.add([(1.0, Change(None, echo)), (1.1, entry("other")), (1.2, entry("echo"))])
    added = timeline.lines("echo", "added")[0]
    assert added.parts is not None
    assert (added.parts.total, added.at) == (11.0, 1.0)
    assert timeline.last("echo") == services.Last(at=1.0, added=1, removed=0, lags=(11.0,))
    # The second layout's time is none of the first one's.
    timeline.add([(2.0, Change(echo, service("echo", endpoint(1), endpoint(2))))])
    assert [line.parts is None for line in timeline.lines("echo", "added")] == [True, False]


def test_a_time_finds_its_lines_among_those_of_others():
    timeline = Timeline()
    others = [(1.1, Change(None, service(f"s{number}", endpoint(1)))) for number in range(5)]
    timeline.add([(1.0, Change(None, service("echo", endpoint(1), endpoint(2)))), *others])
    timeline.add([(1.2, entry("echo")), (1.3, entry("s3"))])
    timed = {line.service for line in timeline.lines() if line.parts}
    assert timed == {"echo", "s3"}
    assert [bool(line.parts) for line in timeline.lines("echo", "added")] == [True, True]
    # One that left the timeline gets none.
    timeline.add([(2.0, Change(None, service(f"t{n}", endpoint(1), synced=None))) for n in range(MOST)])
    timeline.add([(2.1, entry("s1"))])
    assert not any(line.parts for line in timeline.lines())


def test_a_line_takes_no_time_of_a_later_change():
    timeline, echo = Timeline(), service("echo", endpoint(1))
    # What was missing at the start is withdrawn after a hold: no pod was seen to change.
    timeline.add([(1.0, Change(echo, service("echo")))])
    timeline.add([(40.0, Change(service("echo"), echo)), (40.1, entry("echo"))])
    assert [(line.kind, line.parts is None) for line in timeline.lines()] == [
        ("added", False),
        ("removed", True),
    ]


def test_what_nobody_reads_is_bounded():
    pending = Pending(lambda: 1.0)
    for _ in range(MOST_NOTED + 10):
        pending.note(entry("echo"))
    assert (len(pending.take()), pending.count) == (MOST_NOTED, MOST_NOTED + 10)


def test_what_a_first_list_shows_is_no_change_and_refusals_are_told():
    timeline = Timeline()
    timeline.add(
        [(1.0, Change(None, service("echo", endpoint(1)), listed=True)), (2.0, entry("x", Ending.REFUSED))]
    )
    assert [(line.service, line.kind) for line in timeline.lines()] == [("x", "refused")]


def test_what_others_change_again_and_again_is_counted_for_ten_minutes():
    timeline, repair = Timeline(), Repair("echo", "kube2zk", "edited")
    timeline.add([(at, repair) for at in (1.0, 1.5, 100.0, 200.0)])
    lines = [(line.at, line.kind, line.text) for line in timeline.lines("echo")]
    assert lines == [(at, "repaired", "others had edited its znode in kube2zk") for at in (200.0, 100.0, 1.0)]
    assert timeline.repeated(300.0) == {"echo": (1.0, 100.0, 200.0)}
    assert timeline.repeated(650.0) == {}
    # A change of endpoints keeps that in mind.
    timeline.add([(201.0, Change(None, service("echo", endpoint(1))))])
    row = services.row([service("echo", endpoint(1))], facts(last={"echo": timeline.last("echo")}))
    assert (row.repaired_at, row.added) == (200.0, 1)


def test_the_timeline_is_bounded():
    timeline, pending = Timeline(), Pending(lambda: 1.0)
    for number in range(MOST + 10):
        pending.note(Change(None, service(f"s{number}", endpoint(1), synced=None)))
    pending.note(None)
    timeline.add(pending.take())
    assert len(timeline.lines()) == MOST
    assert pending.count == MOST + 11
    assert not pending.take()
    timeline.forget_all_but(["s1"])
    assert timeline.last("s2") == services.Last()
    assert timeline.last("s1").added == 1


# one service

SETTINGS = PublicationSettings("c1")
HOSTILE = "<img src=x onerror=alert(1)>"


def view(data: bytes) -> ObservedZnodes:
    return ObservedZnodes(Znode(data, 3), Znode(Ledger("c1", ("default",)).encode(), 0))


def shown(
    found: list[RpcService], pods: list[Pod], znodes: ObservedZnodes, denied: Collection[ObjectKey] = ()
) -> one.One:
    return one.one(found, pods, facts(), [(KUBE2ZK, znodes)], lambda _: 7.0, SETTINGS, (), denied)


def test_what_clients_read_stands_beside_what_they_should():
    echo = service("echo", endpoint(1))
    right = view(b'{"config":["zone kg 8M"],"servers":["10.0.0.1"]}')
    found = shown([echo], [pod(1, "echo")], right)
    assert found.registry is not None
    assert (found.registry[0].differences, found.registry[0].should_be) == ([], "")
    wrong = view(b'{"config":["zone kg 8M"],"servers":["10.0.0.1","10.66.0.1"]}')
    (read,) = shown([echo], [pod(1, "echo")], wrong).registry or ()
    assert read.read_at == 7.0
    assert read.differences == ["echo: different"]
    assert "10.66.0.1" in read.is_
    assert "10.66.0.1" not in read.should_be
    assert "10.0.0.1" in read.should_be


CURATOR = Layout("curator", "/disco")


def test_what_is_not_known_to_be_written_is_not_shown_as_missing():
    waiting = service("echo", endpoint(1), synced=false("RegistryUnavailable"))
    unknown = one.one(
        [waiting], [pod(1, "echo")], facts(), [(KUBE2ZK, None)], lambda _: 7.0, SETTINGS, (), ()
    )
    (read,) = unknown.registry or ()
    assert (read.known, read.differences, read.is_) == (False, [], "")
    assert unknown.endpoints[0].published == "Not known: ZooKeeper did not answer"


def test_what_waits_for_zookeeper_is_not_called_published():
    waiting = service("echo", endpoint(1), endpoint(2), synced=false("RegistryUnavailable"))
    pods = [pod(1, "echo"), pod(2, "echo")]
    follower = one.one([waiting], pods, facts(), None, lambda _: None, SETTINGS, (), ())
    assert {row.published for row in follower.endpoints} == {"Not known here"}
    seen = shown([waiting], pods, view(b'{"config":["zone kg 8M"],"servers":["10.0.0.1"]}'))
    assert [row.published for row in seen.endpoints] == ["Published", "Not yet: it waits for ZooKeeper"]
    first = CURATOR.form.place("echo", waiting.status.endpoints[0], "c1")
    znodes = ObservedZnodes(Znode(b"", 0), None, children={first.name: Znode(b"", 0)})
    seen = one.one([waiting], pods, facts(), [(CURATOR, znodes)], lambda _: 7.0, SETTINGS, (), ())
    assert [row.published for row in seen.endpoints] == ["Published", "Not yet: it waits for ZooKeeper"]


def test_what_a_silent_node_held_is_not_called_missing():
    held = service("echo", endpoint(1, held=True), endpoint(2, held=True), synced=false("Held"))
    seen = shown([held], [pod(1, "echo", ready=False, silenced=True)], view(b""))
    assert [row.published for row in seen.endpoints] == [
        "Held: its Node is silent",
        "Held: its pod is missing",
    ]


def test_pods_that_are_no_endpoints_say_why():
    pods = [
        pod(1, "echo"),
        pod(2, "echo", terminating=True),
        pod(3, "echo", ready=False),
        pod(4, "echo", problems=(Problem("InvalidAnnotation", "rpc-service: /0/port: 99999 is too much"),)),
    ]
    found = one.outside(pods, {"uid-p1", "uid-p3", "uid-p4"})
    assert [(each.pod, each.why, each.mistake) for each in found] == [
        ("p4", "rpc-service: /0/port: 99999 is too much", True),
        ("p2", "it is terminating", False),
    ]


def test_who_may_not_register_is_named_with_what_gives_the_right():
    pods = [pod(1, "echo"), pod(2, "echo", service_account="bot"), pod(3, "other", service_account="bot")]
    subjects = {("default", "bot", "echo"), ("default", "bot", "gone")}
    (found,) = others.denied(pods, subjects, lambda _, name: name)
    assert (found.service_account, found.rpc_service, found.pods) == ("bot", "echo", ["p2"])
    assert found.commands[0].startswith("kubectl -n default create role register-echo --verb=register ")
    assert found.commands[1].endswith("--serviceaccount=default:bot")

    echo = service("echo", endpoint(1))
    (outside,) = shown([echo], pods[:2], view(b""), {pods[1].key}).not_endpoints
    assert (outside.pod, outside.mistake) == ("p2", True)
    assert outside.why == "ServiceAccount bot may not register it: see Rejected pods"


@given(st.binary(max_size=200))
def test_any_bytes_are_text(data: bytes):
    assert isinstance(one.text_of(data), str)
    encode({"is": one.text_of(data)}).decode()


@given(st.text(max_size=50))
def test_no_text_turns_others_around(text: str):
    shown = msgspec.json.decode(encode(text))
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\ufeff")


# the other lists


def test_a_localservice_is_shown_by_node():
    from rpcregistry.model import LocalServiceStatus, Node, NodeServiceRow

    status = LocalServiceStatus(
        nodes=4,
        ready_nodes=1,
        services=(
            NodeServiceRow(node="n1", service="app-n1", endpoints=("10.0.0.1",)),
            NodeServiceRow(node="n2", service="app-n2"),
        ),
    )
    local = msgspec.structs.replace(localservice(), status=status)
    nodes = [Node(name=f"n{number}", uid="", ready=True) for number in (1, 2, 3)]
    found = others.local_one(local, nodes, {"n3": Problem("NameTaken", "by another")}, {"n9"})
    assert [(node.node, node.level) for node in found.nodes] == [
        ("n1", "ok"),
        ("n2", "none"),
        ("n3", "bad"),
        ("n9", "hold"),
    ]
    assert found.row.lacking == ["n2"]


def test_mistakes_come_before_likely_ones():
    pods = [
        pod(1, hints=(Problem("IgnoredAnnotation", "the label is missing"),)),
        pod(2, problems=(Problem("InvalidAnnotation", "rpc-service: /0/port: 99999 is too much"),)),
    ]
    assert [(each.pod, each.where, each.hint) for each in others.rejected(pods)] == [
        ("p2", "rpc-service /0/port", False),
        ("p1", "", True),
    ]


# the state of the whole


def look(**changed: Any) -> known.Look:
    fields: dict[str, Any] = {
        "version": "1", "python": "3", "memory": 1.0, "memory_limit": None,
        "identity": "r-1_ab", "leads": True, "leader": "r-1_ab",
        "lease": "ns/rpcregistry", "since": 1.0, "cluster": "c1", "trouble": "", "restored": "",
        "registry": True,
        "sources": [known.Source(resource="pods", filled=True, count=3, heard=1.0)],
        "zookeeper": known.ZooKeeper(connected=True, since=1.0, servers="zk:2181", compared=2.0),
        "queues": {}, "refused": {}, "waiting": 0, "oldest": None, "repeated": (),
        "held": known.Held(count=0, guards={}, until=None, endless=False, services=()),
        "counts": known.Counts(services=1, endpoints=3, ready=3, written=3),
        "lag": known.Lag(), "replicas": (), "settings": (),
    }  # fmt: skip
    return known.Look(**{**fields, **changed})


AWAY = known.ZooKeeper(connected=False, since=9.0, servers="zk:2181", refused="zk:2181: connection refused")
LEFT = known.ZooKeeper(
    connected=True, since=1.0, servers="zk:2181", compared=2.0, left={"curator=/disco": 40}
)
HELD = known.Held(count=14, guards={"pods": 14}, until=50.0, endless=False, services=("a", "b"))
UNREAD = known.Source(resource="pods", filled=True, count=3, unknown="403: pods is forbidden", heard=5.0)


@pytest.mark.parametrize(
    ("changed", "levels", "links", "kinds", "command"),
    [
        pytest.param({}, "ok ok ok", "ok ok", [], "", id="all is well"),
        pytest.param({"zookeeper": AWAY}, "ok ok bad", "ok bad", ["bad"], "", id="ZooKeeper is away"),
        pytest.param(
            {"held": HELD}, "warn ok ok", "ok ok", ["hold"], "rpcregistry release a b", id="pods are held"
        ),
        pytest.param(
            {"held": HELD, "counts": known.Counts(held=14, nodes=3, silent_nodes=3)},
            "warn ok ok",
            "ok ok",
            ["hold"],
            "kubectl get nodes",
            id="Nodes are silent",
        ),
        pytest.param(
            {"leads": False, "leader": "r-2"},
            "ok ok ok",
            "ok ok",
            ["info"],
            "rpcregistry ui",
            id="a follower",
        ),
        pytest.param(
            {"sources": [UNREAD]},
            "bad ok ok",
            "ok ok",
            ["bad"],
            "kubectl auth can-i list pods -A",
            id="pods cannot be read",
        ),
        pytest.param(
            {"lag": known.Lag(1, 11_000.0, 11_000.0, 900.0, 900.0, 12_000.0, 12_000.0)},
            "ok ok ok",
            "warn ok",
            ["warn"],
            "",
            id="changes are slow",
        ),
        pytest.param(
            {"counts": known.Counts(services=1, endpoints=4, ready=4, written=0)},
            "ok ok warn",
            "ok ok",
            [],
            "",
            id="a path is another's",
        ),
        pytest.param(
            {"restored": "etcd went back"},
            "ok ok ok",
            "ok ok",
            ["bad"],
            "rpcregistry release --all",
            id="etcd was restored",
        ),
        pytest.param(
            {"repeated": (known.Repeated("echo", 14, 30.0), known.Repeated("other", 3, 0.0))},
            "ok ok ok",
            "ok ok",
            ["warn"],
            "rpcregistry verify --service echo",
            id="others change a znode again and again",
        ),
        pytest.param(
            {"zookeeper": LEFT}, "ok ok ok", "ok ok", ["info"], "rpcregistry verify", id="a layout was left"
        ),
        pytest.param(
            {"oldest": Oldest("echo", 12.0), "waiting": 2},
            "ok ok ok",
            "ok ok",
            ["warn"],
            "rpcregistry explain echo -A",
            id="a change waits for long",
        ),
        pytest.param(
            {"oldest": Oldest("echo", 9.0), "waiting": 2}, "ok ok ok", "ok ok", [], "", id="and not for long"
        ),
        pytest.param(
            {"registry": False}, "ok ok ok", "ok ok", [], "", id="another process writes the registry"
        ),
    ],
)
def test_each_situation_shows_where_it_is_stuck_and_what_to_type(
    changed: dict[str, Any], levels: str, links: str, kinds: list[str], command: str
):
    found = state.state(look(**changed))
    assert [hop.level for hop in found.hops] == levels.split()
    assert [link.level for link in found.links] == links.split()
    assert [notice.kind for notice in found.notices] == kinds
    assert "".join(notice.command for notice in found.notices) == command


def test_what_is_held_is_counted_as_what_it_is():
    def title(guards: dict[str, int], endpoints: int = 0) -> str:
        held = known.Held(count=1, guards=guards, until=50.0, endless=False, services=("a", "b"))
        (notice,) = state.state(look(held=held, counts=known.Counts(held=endpoints))).notices
        return notice.title.removesuffix(" held, and still published.")

    # A pod of two services is one pod that is missing, and two endpoints.
    assert title({"pods": 12}, 24) == "24 endpoints of 2 services"
    assert title({"pods": 1}) == "1 pod of 2 services"
    assert title({"registry": 2, "nodes": 1}) == "2 services without an RpcService, the Services of 1 Node"


def test_a_follower_says_nothing_of_zookeeper():
    found = state.state(look(leads=False, leader="", zookeeper=AWAY))
    assert found.hops[2].big == "Not looked at"
    assert "Nobody leads" in found.notices[0].title


def test_latencies_are_those_of_what_was_written():
    lag = known.lag_of([entry("echo"), entry("x", Ending.REFUSED)])
    assert (lag.changes, lag.api_p50, lag.zk_p99) == (1, 4.0, 7.0)
    assert sum(count for _, count in lag.buckets) == 1
