"""Which writes make ZooKeeper right: decided on values, without a server."""

import json

import msgspec
import pytest

from rpcregistry.layouts import Layout
from rpcregistry.layouts.kube2zk import DEFAULT_CONFIG, Content, encode, parse, servers
from rpcregistry.model import Endpoint, RpcService, RpcServiceSpec, RpcServiceStatus
from rpcregistry.plan.ledger import Ledger
from rpcregistry.plan.ops import Create, Delete, Set, Znode
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.publication import (
    Adopt,
    CrossNamespace,
    Policy,
    Publication,
    PublicationSettings,
    publication,
)
from rpcregistry.plan.znodes import plan, synced
from tests import builders
from tests.builders import NOW

LAYOUT = Layout("kube2zk", "/rpc_v2")
PATH, ENTRY = "/rpc_v2/echo", "/rpcregistry/owned/kube2zk/%2Frpc_v2%2Fecho"
OURS = PublicationSettings(cluster_id="c1")


def row(ip: str, **fields: object) -> Endpoint:
    """The row of the pod that is named after its address."""
    return builders.row(ip, ip, pod_uid=ip, **fields)


def service(*rows: Endpoint, name: str = "echo", **fields: object) -> RpcService:
    return builders.rpcservice(name, *rows, **fields)


def content(*ips: str, config: tuple[str, ...] = DEFAULT_CONFIG) -> bytes:
    return encode(Content(config, ips))


def entry(cluster: str = "c1", **fields: object) -> Znode:
    defaults: dict[str, object] = {"namespaces": ("default",), "config": DEFAULT_CONFIG}
    return Znode(Ledger(cluster, **{**defaults, **fields}).encode(), 3)


def wanted(*ips: str, **fields: object) -> Publication:
    rows = tuple(row(ip) for ip in ips)
    return Publication(endpoints=rows, namespaces=("default",) if ips else (), **fields)


WITHDRAWN = Ledger("c1", config=DEFAULT_CONFIG, withdrawn_at=NOW).encode()


@pytest.mark.parametrize(
    ("want", "znode", "ledger", "ops"),
    [
        pytest.param(
            wanted("10.0.0.1"),
            None,
            None,
            (Create(ENTRY, entry().data), Create(PATH, content("10.0.0.1"))),
            id="a new service: the claim and the znode, together",
        ),
        pytest.param(
            wanted("10.0.0.1"),
            Znode(content("10.0.0.1"), 7),
            entry(),
            (),
            id="nothing where nothing would change",
        ),
        pytest.param(
            wanted("10.0.0.2", "10.0.0.1"),
            Znode(content("10.0.0.1"), 7),
            entry(),
            (Set(PATH, content("10.0.0.1", "10.0.0.2"), 7),),
            id="one more server, at the version read",
        ),
        pytest.param(
            wanted(),
            Znode(content("10.0.0.1"), 7),
            entry(),
            (Set(ENTRY, WITHDRAWN, 3), Delete(PATH, 7)),
            id="withdrawn: the entry stays for the grace",
        ),
        pytest.param(
            wanted(),
            Znode(content("10.0.0.1"), 7, children=1),
            entry(),
            (Set(ENTRY, WITHDRAWN, 3), Set(PATH, content(), 7)),
            id="withdrawn with children under it",
        ),
        pytest.param(wanted(), None, entry(withdrawn_at=NOW), (), id="withdrawn already"),
        pytest.param(wanted(), Znode(content("10.0.0.1"), 7), None, (), id="never ours: left alone"),
        pytest.param(
            wanted(), Znode(content("10.0.0.1"), 7), entry("c2"), (), id="another cluster's: left alone"
        ),
        pytest.param(
            wanted(frozen=True), Znode(content("10.0.0.1"), 7), entry(), (), id="unknown: nothing is removed"
        ),
        pytest.param(
            wanted("10.0.0.2", unlisted=(row("10.0.0.1"), row("10.0.0.3"))),
            Znode(content("10.0.0.1", "10.0.0.9"), 7),
            entry(namespaces=("default", "other")),
            (Set(PATH, content("10.0.0.1", "10.0.0.2"), 7),),
            id="unlisted: what is published stays, what is new waits, all else goes",
        ),
        pytest.param(
            wanted(unlisted=(row("10.0.0.1"),)),
            Znode(content("10.0.0.1", "10.0.0.9"), 7),
            entry(),
            (Set(PATH, content("10.0.0.1"), 7),),
            id="nothing but what is unlisted is left",
        ),
        pytest.param(
            wanted(unlisted=(row("10.0.0.2"),)),
            Znode(content("10.0.0.1"), 7),
            entry(),
            (Set(ENTRY, WITHDRAWN, 3), Delete(PATH, 7)),
            id="nothing published is unlisted: withdrawn",
        ),
        pytest.param(
            wanted(unlisted=(row("10.0.0.1"),)), Znode(content("10.0.0.1"), 7), None, (), id="not ours"
        ),
        pytest.param(
            wanted("10.0.0.2", frozen=True),
            Znode(content("10.0.0.1"), 7),
            entry(),
            (Set(PATH, content("10.0.0.1", "10.0.0.2"), 7),),
            id="unknown: additions are still made",
        ),
        pytest.param(
            wanted("10.0.0.1"),
            None,
            entry(),
            (Create(PATH, content("10.0.0.1")),),
            id="deleted by somebody: made again",
        ),
        pytest.param(
            wanted("10.0.0.1"),
            Znode(content("10.0.0.9", config=("zone kg 9M",)), 7),
            None,
            (
                Create(ENTRY, entry(config=("zone kg 9M",)).data),
                Set(PATH, content("10.0.0.1", config=("zone kg 9M",)), 7),
            ),
            id="adopted from kube2zk, with its config",
        ),
        pytest.param(
            wanted("10.0.0.1"),
            None,
            entry(config=("zone kg 9M",), withdrawn_at=NOW),
            (
                Set(ENTRY, entry(config=("zone kg 9M",)).data, 3),
                Create(PATH, content("10.0.0.1", config=("zone kg 9M",))),
            ),
            id="back within the grace, with the config that it had",
        ),
    ],
)
def test_the_writes_for_one_service(want, znode, ledger, ops):
    assert plan(LAYOUT, "echo", want, ObservedZnodes(znode, ledger), OURS, NOW).ops == ops


@pytest.mark.parametrize(
    ("znode", "ledger", "settings", "reason"),
    [
        pytest.param(None, entry("c2"), OURS, "OwnedElsewhere", id="another cluster's"),
        pytest.param(
            None,
            entry("c2", withdrawn_at=NOW),
            OURS,
            "OwnedElsewhere",
            id="another cluster's, within its grace",
        ),
        pytest.param(None, Znode(b"garbage", 1), OURS, "OwnedElsewhere", id="an unreadable ledger entry"),
        pytest.param(
            Znode(b"", 1, ephemeral=True), None, OURS, "OwnedElsewhere", id="a server's own ephemeral znode"
        ),
        pytest.param(
            Znode(content(), 1),
            None,
            PublicationSettings("c1", adopt=Adopt.NEVER),
            "OwnedElsewhere",
            id="adopt=never",
        ),
        pytest.param(
            Znode(content("10.0.0.1"), 1),
            entry(),
            PublicationSettings("c1", max_znode_bytes=20),
            "TooLarge",
            id="too large",
        ),
    ],
)
def test_what_is_refused_is_left_as_it_is(znode, ledger, settings, reason):
    outcome = plan(LAYOUT, "echo", wanted("10.0.0.1"), ObservedZnodes(znode, ledger), settings, NOW)

    assert outcome.ops == ()
    assert outcome.refusal.reason == reason


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../esc", "a/b", "/a", "zookeeper", "a b", "ü", "a\n", "x" * 254]
)
def test_a_name_that_is_no_path_segment_never_becomes_a_path(name):
    outcome = plan(LAYOUT, name, wanted("10.0.0.1"), ObservedZnodes(None, None), OURS, NOW)

    assert (outcome.ops, outcome.refusal.reason) == ((), "InvalidName")


def test_an_entry_past_its_grace_is_forgotten():
    observed = ObservedZnodes(None, entry(withdrawn_at=NOW))

    assert plan(LAYOUT, "echo", wanted(), observed, OURS, NOW, grace_over=True).ops == (Delete(ENTRY, 3),)


@pytest.mark.parametrize(
    ("over", "config"),
    [pytest.param(False, b'"config":["mine"]', id="within"), pytest.param(True, b"keepalive 32", id="past")],
)
def test_a_service_that_comes_back_has_the_config_that_it_had_within_its_grace(over: bool, config: bytes):
    observed = ObservedZnodes(None, entry(withdrawn_at=NOW, config=("mine",)))
    (step,) = plan(LAYOUT, "echo", wanted("10.0.0.1"), observed, OURS, NOW, grace_over=over).steps

    assert config in step[-1].data


REBUILT = PublicationSettings("c2", from_cluster="c1")


@pytest.mark.parametrize(
    ("want", "ops"),
    [
        pytest.param(
            wanted("10.0.0.2"),
            (Set(ENTRY, entry("c2").data, 3), Set(PATH, content("10.0.0.2"), 7)),
            id="something to publish in its place",
        ),
        pytest.param(wanted(services=1), (), id="nothing to publish yet"),
        pytest.param(
            wanted(), (Set(ENTRY, WITHDRAWN, 3), Delete(PATH, 7)), id="no RpcService, and that is confirmed"
        ),
        pytest.param(wanted(frozen=True), (), id="no RpcService, and nobody knows"),
    ],
)
def test_a_rebuilt_cluster_takes_over_from_the_one_that_was(want, ops):
    observed = ObservedZnodes(Znode(content("10.0.0.1"), 7), entry("c1"))

    assert plan(LAYOUT, "echo", want, observed, REBUILT, NOW).ops == ops


def test_upsert_only_never_removes_a_znode():
    observed = ObservedZnodes(Znode(content("10.0.0.1"), 7), entry())

    assert (
        plan(
            LAYOUT, "echo", wanted(), observed, PublicationSettings("c1", policy=Policy.UPSERT_ONLY), NOW
        ).ops
        == ()
    )


def test_a_cut_off_plan_is_no_case_of_its_own_because_a_path_and_its_entry_are_one_transaction():
    for want, observed in [
        (wanted("10.0.0.1"), ObservedZnodes(None, None)),
        (wanted(), ObservedZnodes(Znode(content("10.0.0.1"), 7), entry())),
    ]:
        ops = plan(LAYOUT, "echo", want, observed, OURS, NOW).ops
        assert {op.path for op in ops} == {PATH, ENTRY}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            b"",
            '{"config":["zone kg 8M","kg_round_robin broken_tries=2 health_checks=5 max_uri_slots=0",'
            '"keepalive 32"],"servers":["10.0.0.1"]}',
            id="an empty znode",
        ),
        pytest.param(b'{"config":null,"servers":[]}', None, id="config null becomes the default"),
        pytest.param(b"[1]", None, id="a JSON array"),
        pytest.param(
            b'{"config":[],"servers":["10.0.0.9"]}', '{"config":[],"servers":["10.0.0.1"]}', id="no config"
        ),
        pytest.param(
            b'{"x":1e400,"config":["a"],"servers":[""],"y":{"z":[1]}}',
            '{"config":["a"],"servers":["10.0.0.1"],"x":1e400,"y":{"z":[1]}}',
            id="keys of others are kept to the letter",
        ),
        pytest.param(
            b'{"config":["a\\u003cb"],"servers":[]}',
            '{"config":["a\\u003cb"],"servers":["10.0.0.1"]}',
            id="escaped as Go does",
        ),
        pytest.param(b"\xff\xfe", None, id="no UTF-8"),
        pytest.param(b'{"servers":[],"x":"\xff"}', None, id="no UTF-8 under a key of others"),
        pytest.param(b"[" * 100_000, None, id="nested without end"),
    ],
)
def test_what_becomes_of_a_znodes_content(data, expected):
    (op,) = plan(LAYOUT, "echo", wanted("10.0.0.1"), ObservedZnodes(Znode(data, 1), entry()), OURS, NOW).ops[
        -1:
    ]

    assert op.data.decode() == (expected or content("10.0.0.1").decode())


def test_replaced_content_is_told():
    outcome = plan(LAYOUT, "echo", wanted("10.0.0.1"), ObservedZnodes(Znode(b"nonsense", 1), None), OURS, NOW)

    assert [note.reason for note in outcome.notes] == ["ContentReplaced"]


def test_servers_are_distinct_and_in_numeric_order_ipv4_first():
    rows = [row(ip) for ip in ("fd00::1", "10.0.0.10", "10.0.0.9", "10.0.0.10")]

    assert servers(rows) == ("10.0.0.9", "10.0.0.10", "fd00::1")


def test_what_is_no_address_is_not_published_whoever_wrote_it_into_the_status():
    assert servers([row("10.0.0.1"), row("nowhere"), row("10.0.0.01")], ["", "10.0.0.2"]) == (
        "10.0.0.1",
        "10.0.0.2",
    )


def test_what_is_encoded_is_what_go_would_read():
    decoded = json.loads(encode(Content(("<&>\u2028",), ("10.0.0.1",), {"k": b"1"})))

    assert decoded == {"config": ["<&>\u2028"], "servers": ["10.0.0.1"], "k": 1}
    assert parse(encode(Content(("a",), ("b",), {"k": b"1"}))) == Content(("a",), ("b",), {"k": b"1"})


READY, SHORT, UNREADY, PENDING = (
    row("10.0.0.1"),
    row("10.0.0.4", ready=False, phase="", ips=()),
    row("10.0.0.2", ready=False),
    row("10.0.0.3", ready=False, phase="Pending"),
)


@pytest.mark.parametrize(
    ("services", "ips", "namespaces"),
    [
        pytest.param([service(READY, UNREADY)], ["10.0.0.1"], ("default",), id="the Ready ones"),
        pytest.param([service(UNREADY)], [], (), id="none Ready"),
        pytest.param(
            [service(READY), service(row("10.0.0.9"), name="b", namespace="other")],
            ["10.0.0.1", "10.0.0.9"],
            ("default", "other"),
            id="the union of namespaces",
        ),
        pytest.param(
            [service(READY, UNREADY, spec=RpcServiceSpec(publish_not_ready_addresses=True))],
            ["10.0.0.1", "10.0.0.2"],
            ("default",),
            id="publishNotReadyAddresses",
        ),
        pytest.param(
            [
                service(READY, generated=False, spec=RpcServiceSpec(publish_not_ready_addresses=True)),
                service(UNREADY, name="part", part_of="echo", owner_uid="uid-echo"),
            ],
            ["10.0.0.1", "10.0.0.2"],
            ("default",),
            id="a part does as its head does",
        ),
        pytest.param(
            [service(READY, UNREADY, PENDING, generated=False, spec=RpcServiceSpec(protect_threshold=60))],
            ["10.0.0.1", "10.0.0.2"],
            ("default",),
            id="protectThreshold: too few Ready, all that have started",
        ),
        pytest.param(
            [service(READY, SHORT, PENDING, generated=False, spec=RpcServiceSpec(protect_threshold=60))],
            ["10.0.0.1", "10.0.0.4"],
            ("default",),
            id="protectThreshold: a row that names no phase has started",
        ),
        pytest.param(
            [service(READY, UNREADY, PENDING, generated=False, spec=RpcServiceSpec(protect_threshold=50))],
            ["10.0.0.1"],
            ("default",),
            id="protectThreshold: enough Ready",
        ),
        pytest.param(
            [
                service(
                    UNREADY,
                    PENDING,
                    generated=False,
                    spec=RpcServiceSpec(protect_threshold=60, publish_not_ready_addresses=True),
                )
            ],
            ["10.0.0.2", "10.0.0.3"],
            ("default",),
            id="protectThreshold takes nothing from publishNotReadyAddresses",
        ),
    ],
)
def test_what_is_published(services, ips, namespaces):
    result = publication(services, False, OURS)

    assert (sorted(endpoint.ip for endpoint in result.endpoints), result.namespaces) == (ips, namespaces)


def test_an_rpcservice_without_a_status_freezes_its_path():
    fresh = msgspec.structs.replace(service(), status=RpcServiceStatus())

    assert publication([service(READY, name="b"), fresh], False, OURS).frozen


def test_the_oldest_declared_ones_config_counts():
    declared = [
        service(name="a", generated=False, created="2", spec=RpcServiceSpec(config=("new",))),
        service(name="b", generated=False, created="1", spec=RpcServiceSpec(config=("old",))),
        service(name="c", generated=False, created="0"),
    ]

    assert publication(declared, False, OURS).config == ("old",)


def test_deny_gives_the_path_to_one_namespace_declared_before_generated():
    generated = service(READY, name="a", namespace="first", created="1")
    declared = service(row("10.0.0.9"), name="b", namespace="second", created="2", generated=False)
    result = publication(
        [generated, declared], False, PublicationSettings("c1", cross_namespace=CrossNamespace.DENY)
    )

    assert [endpoint.ip for endpoint in result.endpoints] == ["10.0.0.9"]
    assert synced(generated, result, ()).reason == "OwnedElsewhere"
    assert synced(declared, result, ()).reason == "InRegistry"


def test_held_rows_show_in_the_synced_condition():
    condition = synced(service(row("10.0.0.1", held=True)), Publication(), ())

    assert (condition.status, condition.reason) == ("False", "Held")
    condition = synced(
        service(row("10.0.0.1", held=True)), Publication(endless="Nodes are silent (3 of 3)"), ()
    )
    assert condition.message.startswith(
        "1 listed pods are held without time limit: Nodes are silent (3 of 3);"
    )
