"""What people see at a glance, and why a service is stuck."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from rpcregistry.model import Condition, Declaration, Lease, Problem, RpcService
from rpcregistry.plan.explain import Evidence, Hop, Seen, Warned, exit_code, explain, explain_pod
from rpcregistry.plan.findings import Finding
from rpcregistry.plan.heartbeat import Heartbeat, Oldest
from rpcregistry.plan.held import pods_message
from rpcregistry.plan.overview import changes, of_name, row, rows, state_of, unsynced
from rpcregistry.plan.restored import Record
from rpcregistry.plan.status import Look, status
from tests.builders import pod, rpcservice
from tests.builders import row as endpoint

OK = Condition(type="Synced", status="True", reason="InRegistry", message="it is there")


def service(name: str, *rows: Any, synced: Condition | None = OK, **fields: Any) -> RpcService:
    made = rpcservice(name, *rows, **fields)
    conditions = (synced,) if synced else ()
    return msgspec.structs.replace(
        made, status=msgspec.structs.replace(made.status, conditions=conditions, total_endpoints=len(rows))
    )


def false(reason: str, message: str = "why") -> Condition:
    return Condition(type="Synced", status="False", reason=reason, message=message)


# rows


def test_parts_and_namespaces_are_one_row():
    found = row(
        [
            service("echo", endpoint(1), endpoint(2, ready=False)),
            service("echo-1", endpoint(3), serves="echo", part_of="echo"),
            service("echo", endpoint(4), namespace="other"),
        ]
    )
    assert (found.service, found.namespaces, found.ready, found.total) == ("echo", ("default", "other"), 3, 4)
    assert found.objects == ("default/echo", "other/echo", "default/echo-1")


def test_the_most_pressing_reason_of_its_objects_counts():
    found = row(
        [service("echo", synced=false("MissingPort")), service("p", serves="echo", synced=false("Held"))]
    )
    assert (found.synced, found.reason) == (False, "Held")
    unknown = row([service("echo"), service("p", serves="echo", synced=None)])
    assert (unknown.synced, unknown.reason) == (None, "NotLookedAt")


def test_what_needs_a_look_comes_first():
    found = rows(
        [
            service("a", endpoint(1)),
            service("nobody", endpoint(2, ready=False)),
            service("held", endpoint(3, held=True), synced=false("Held")),
            service("elsewhere", endpoint(4), synced=false("OwnedElsewhere")),
        ]
    )
    assert [(one.service, state_of(one)) for one in found] == [
        ("elsewhere", "refused"),
        ("held", "held"),
        ("nobody", "nobody"),
        ("a", "well"),
    ]
    assert list(unsynced(found)) == ["OwnedElsewhere", "Held"]
    assert found[1].next == "rpcregistry release held"


def test_a_service_is_found_by_its_name_or_an_objects():
    found = [service("com.foo.bar-1", serves="com.foo.Bar"), service("x", serves="com.foo.Bar"), service("y")]
    assert of_name(found, "com.foo.Bar") == of_name(found, "com.foo.bar-1") == found[:2]


def test_a_change_has_the_addresses_that_came_and_went():
    before = [service("echo", endpoint(1), endpoint(2))]
    after = [service("echo", endpoint(2), endpoint(3, port=80), synced=false("Held"))]
    assert changes(before, after) == ["+10.0.0.3:80", "-10.0.0.1", "Held"]
    assert changes(after, after) == []
    assert changes(after, []) == ["-10.0.0.2", "-10.0.0.3:80", "gone"]


# explain


def evidence(**fields: Any) -> Evidence:
    defaults: dict[str, Any] = {
        "service": "echo",
        "namespace": "default",
        "pods": [pod(1, "echo")],
        "services": [service("echo", endpoint(1))],
    }
    return Evidence(**{**defaults, **fields})


def hop(hops: Sequence[Hop], what: str) -> Hop:
    return next(found for found in hops if found.what == what)


def test_all_is_well():
    hops = explain(evidence())
    assert [(found.what, found.seen) for found in hops] == [
        ("pods", Seen.RIGHT),
        ("RpcService", Seen.RIGHT),
        ("registry", Seen.RIGHT),
        ("ZooKeeper", Seen.RIGHT),
    ]
    assert exit_code(hops) == 0


@pytest.mark.parametrize(
    ("fields", "what", "says", "types"),
    [
        pytest.param(
            {"services": [service("echo", endpoint(1, held=True), synced=false("Held", "1 listed pods"))]},
            "registry", "Held: 1 listed pods", "rpcregistry release echo", id="held",
        ),
        pytest.param(
            {"services": [service("echo", endpoint(1), synced=false("OwnedElsewhere", "x has it"))]},
            "registry", "OwnedElsewhere: x has it", "rpcregistry verify --service echo",
            id="owned elsewhere",
        ),
        pytest.param(
            {"services": [service("echo", endpoint(1), synced=false("RegistryUnavailable"))]},
            "registry", "RegistryUnavailable", "rpcregistry check", id="ZooKeeper is away",
        ),
        pytest.param(
            {"services": [service("echo", endpoint(1), synced=false("MissingPort"))]},
            "registry", "MissingPort", '"port"', id="a port is missing",
        ),
        pytest.param(
            {"services": []}, "RpcService", "there is none, though pods name it", "rpcregistry check",
            id="no controller",
        ),
        pytest.param(
            {"services": [service("echo", synced=None, known=False)]}, "RpcService",
            "no controller has looked at default/echo yet", "rpcregistry check", id="not looked at",
        ),
        pytest.param(
            {"services": [service("echo")]}, "RpcService",
            "default/p1: it serves this, and no status lists it", "rpcregistry status", id="not listed",
        ),
        pytest.param(
            {"services": [service("echo")], "warnings": [Warned("p1", "RpcServiceRefused", "a quota")]},
            "RpcService", "default/p1: it serves this, and no status lists it",
            "kubectl describe rpcservice echo -n default", id="not listed, and an Event says why",
        ),
        pytest.param(
            {"pods": [pod(1, "echo", ready=False)]}, "pods", "default/p1: it is not Ready",
            "kubectl describe pod p1 -n default", id="nobody is Ready",
        ),
        pytest.param(
            {"pods": [pod(1, "echo", ready=False, silenced=True)]}, "pods", "its node is silent",
            "kubectl describe pod p1 -n default", id="a silent node",
        ),
        pytest.param(
            {"pods": [pod(1, problems=(Problem("Invalid", "rpc-service: /0/port: bad"),))]}, "pods",
            "rpc-service: /0/port: bad", "kubectl describe pod p1 -n default", id="a bad annotation",
        ),
        pytest.param(
            {"services": [], "warnings": [Warned("p1", "RegisterDenied", "may not register")]}, "pods",
            "default/p1: RegisterDenied: may not register", "kubectl describe pod p1 -n default", id="denied",
        ),
        pytest.param(
            {"findings": [Finding("kube2zk", "/rpc_v2/echo", "different", "should be x")]}, "ZooKeeper",
            "/rpc_v2/echo (kube2zk): different: should be x", "rpcregistry verify --service echo", id="drift",
        ),
    ],
)  # fmt: skip
def test_where_it_is_stuck_why_and_what_to_type(fields: dict[str, Any], what: str, says: str, types: str):
    hops = explain(evidence(**fields))
    found = hop(hops, what)
    assert (found.seen, exit_code(hops)) == (Seen.WRONG, 1)
    assert says in "\n".join((found.why, *found.details))
    assert types in found.next


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"pods": "pods is forbidden"}, "pods"),
        ({"services": "rpcservices is forbidden"}, "RpcService"),
        ({"findings": "not connected"}, "ZooKeeper"),
    ],
)
def test_what_could_not_be_seen_is_said_and_is_2(fields: dict[str, Any], what: str):
    hops = explain(evidence(**fields))
    found = hop(hops, what)
    assert (found.seen, exit_code(hops)) == (Seen.UNSEEN, 2)
    assert next(iter(fields.values())) in found.why


def test_a_pod_that_was_withdrawn_with_its_node_says_so():
    withdrawn = endpoint(1, ready=False, phase="Unknown")
    found = hop(explain(evidence(services=[service("echo", withdrawn, endpoint(2))])), "RpcService")
    assert found.details == ("default/p1 (10.0.0.1): withdrawn: the pod's Node was deleted",)


def test_a_pod_is_explained_with_each_service_that_it_names():
    hops = explain_pod(pod(1, "echo", ready=False), [evidence()], [])
    assert (hops[0].seen, exit_code(hops)) == (Seen.WRONG, 1)
    assert "it serves echo, and is not published: it is not Ready" in hops[0].why
    nothing = explain_pod(pod(1, hints=(Problem("IgnoredAnnotation", 'label is "yes"'),)), [], [])
    assert (nothing[0].seen, nothing[0].details) == (Seen.WRONG, ('IgnoredAnnotation: label is "yes"',))
    well = explain_pod(pod(1, "echo", declarations=(Declaration(service_name="echo"),)), [evidence()], [])
    assert exit_code(well) == 0


# status

ENDLESS = pods_message(1, "Nodes are silent (3 of 3)")


def test_nobody_is_told_to_release_what_silent_nodes_may_show_again():
    silent = service("echo", endpoint(1, held=True), synced=false("Held", ENDLESS))
    missing = service("cart", endpoint(2, held=True), synced=false("Held", pods_message(1, "")))
    restored = service("pay", endpoint(3, held=True), synced=false("Held", pods_message(1, "restored")))

    def types(*services: RpcService) -> str:
        return hop(status(look(services=services), str), "held").next

    assert types(silent) == types(silent, missing) == "kubectl get nodes"
    assert types(restored) == "rpcregistry status"
    assert types(missing) == "rpcregistry release cart"
    assert types(missing, service("b", endpoint(4, held=True), synced=false("Held"))) == "rpcregistry release"
    assert hop(explain(evidence(services=[silent])), "registry").next == "kubectl get nodes"


def look(**fields: Any) -> Look:
    defaults: dict[str, Any] = {
        "lease": Lease(holder="me"),
        "lease_name": "rpcregistry/rpcregistry",
        "beat": Heartbeat(at="2026-11-21T02:02:02Z", holder="me"),
        "services": [service("echo", endpoint(1))],
        "locals": [],
        "kinds": {"pods": "", "rpcservices": ""},
        "findings": [],
    }
    return Look(**{**defaults, **fields})


def test_without_a_leader_election_the_heartbeat_says_who_leads():
    hops = status(look(lease=Lease()), str)
    assert (hop(hops, "leader").why, exit_code(hops)) == ("me, without a leader election", 0)


def test_what_to_type_where_the_controller_may_not_read():
    def types(reason: str) -> str:
        return hop(status(look(beat=Heartbeat(unread={"pods": reason})), str), "reads").next

    assert types('403: User "system:serviceaccount:a:b" cannot') == (
        "kubectl auth can-i list pods -A --as system:serviceaccount:a:b"
    )
    assert types("401") == "kubectl auth can-i list pods -A"
    assert types("there is no such kind: kubectl apply -f crds/") == "kubectl apply -f crds/"


@pytest.mark.parametrize(
    ("fields", "beaten"),
    [
        pytest.param({"oldest": Oldest("echo", 3.0)}, 3.0, id="a change that has just come"),
        pytest.param({"oldest": Oldest("echo", 60.0), "stopped": True}, 3.0, id="of one that has stopped"),
        pytest.param({"oldest": Oldest("echo", 60.0)}, 90.0, id="of one that is silent"),
    ],
)
def test_what_is_no_trouble(fields: dict[str, Any], beaten: float):
    hops = status(look(beat=Heartbeat(**fields), beaten=beaten), str)
    assert "changes" not in {found.what for found in hops}


def test_a_layout_that_was_left_is_told_and_wrong_only_beside_drift():
    left = [Finding("curator", "/a", "left"), Finding("curator", "/b", "left")]
    found = hop(status(look(findings=left), str), "registry")
    assert (found.seen, found.details) == (
        Seen.RIGHT,
        ("left: 2 znodes of curator, which no --layout covers; clients still read them",),
    )


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        pytest.param({"services": [service("echo")]}, True, id="no status lists it"),
        pytest.param({}, False, id="it is listed by now"),
        pytest.param({"services": [service("echo")], "reason": "InvalidAnnotation"}, False, id="mended"),
    ],
)
def test_an_event_counts_as_long_as_it_is_true(fields: dict[str, Any], counts: bool):
    told = Warned("p1", fields.pop("reason", "RegisterDenied"), "no")
    found = hop(explain(evidence(warnings=[told], **fields)), "pods")
    assert (found.seen is Seen.WRONG) == counts
    well = pod(1, "echo", declarations=(Declaration(service_name="echo"),))
    first = explain_pod(well, [evidence(warnings=[told], **fields)], [told])[0]
    assert (first.seen is Seen.WRONG) == counts


def test_the_mistakes_of_others_are_told_only_where_they_may_mean_the_service():
    other = pod(2, "other", problems=(Problem("InvalidAnnotation", "of another service"),))
    nameless = pod(3, problems=(Problem("InvalidAnnotation", "of any service"),))
    found = hop(explain(evidence(pods=[pod(1, "echo"), other, nameless])), "pods")
    assert found.details == ("default/p3, which names no service that can be read: of any service",)


def test_nothing_to_complain_of():
    hops = status(look(), str)
    assert exit_code(hops) == 0
    assert all(not found.next for found in hops)


@pytest.mark.parametrize(
    ("fields", "what", "says", "code"),
    [
        pytest.param({"lease": Lease(), "beaten": 90.0}, "leader", "nobody leads", 1, id="nobody leads"),
        pytest.param(
            {"lease": None, "beat": None}, "leader", "no Lease rpcregistry/rpcregistry", 1, id="no Lease"
        ),
        pytest.param({"renewed": 90.0}, "leader", "does not renew", 1, id="a dead leader"),
        pytest.param({"lease": "forbidden"}, "leader", "cannot be read: forbidden", 2, id="no right"),
        pytest.param({"beat": None}, "heartbeat", "no controller has written there", 1, id="never started"),
        pytest.param({"beaten": 90.0}, "heartbeat", "it has stopped", 1, id="a stopped heartbeat"),
        pytest.param(
            {"beat": Heartbeat(holder="me", unread={"pods": "403"})}, "reads",
            "the controller cannot read pods", 1, id="the controller may not read",
        ),
        pytest.param(
            {"beat": Heartbeat(holder="me", oldest=Oldest("echo", 31.4, listed=True))}, "changes",
            "one of echo has waited for 31 s until ZooKeeper takes", 1, id="ZooKeeper is slow",
        ),
        pytest.param(
            {"beat": Heartbeat(holder="me", oldest=Oldest("echo", 31.4))}, "changes",
            "until the API server takes its status", 1, id="the API server is slow",
        ),
        pytest.param(
            {"beat": Heartbeat(holder="me", seen=Record(restored="pods went back"))}, "restored",
            "so nothing that it lacks is withdrawn: pods went back", 1, id="restored",
        ),
        pytest.param(
            {"pods": [pod(1, problems=(Problem("InvalidAnnotation", "/0: bad"),))]}, "pods",
            "default/p1: /0: bad", 1, id="a mistake in an annotation",
        ),
        pytest.param({"beat": "not connected"}, "heartbeat", "not connected", 2, id="ZooKeeper is away"),
        pytest.param(
            {"kinds": {"pods": "", "rpcservices": "kubectl apply -f crds/"}}, "kinds",
            "rpcservices cannot be read", 1, id="a kind is missing",
        ),
        pytest.param({"kinds": {"pods": "403"}}, "kinds", "pods: 403", 2, id="forbidden"),
        pytest.param(
            {"services": [service("echo", endpoint(1), synced=false("TooLarge"))]}, "sync",
            "TooLarge (1): echo", 1, id="refused",
        ),
        pytest.param(
            {"services": [service("echo", endpoint(1, held=True), synced=false("Held"))]}, "held",
            "echo: 1 endpoint, until ", 1, id="held",
        ),
        pytest.param(
            {"services": [service("echo", endpoint(1, held=True), synced=false("Held", ENDLESS))]}, "held",
            "echo: 1 endpoint, 1 listed pods are held without time limit: Nodes are silent (3 of 3)", 1,
            id="held without time limit",
        ),
        pytest.param({"noted": ["gone"]}, "held", "gone: it has no object", 1, id="held without an object"),
        pytest.param(
            {"findings": [Finding("kube2zk", "/a", "missing")]}, "registry", "1 missing", 1, id="drift"
        ),
    ],
)  # fmt: skip
def test_each_trouble_shows_with_what_to_type(fields: dict[str, Any], what: str, says: str, code: int):
    hops = status(look(**fields), lambda since: f"until {since}")
    found = hop(hops, what)
    assert says in "\n".join((found.why, *found.details))
    assert exit_code(hops) == code
    if code == 1:
        assert found.next
