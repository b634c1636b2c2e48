"""The invariants of the fault tests, each once held and once violated, by evidence made by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.harness.evidence import (
    Change,
    Check,
    Create,
    Delete,
    Evidence,
    Fault,
    Log,
    Op,
    OpenSession,
    Probe,
    Process,
    Request,
    Sample,
    SetAcl,
    SetData,
    Transaction,
)
from tests.faults.harness.invariants import INVARIANTS, check, summary, violations
from tests.faults.harness.violations import LEASES

BEGAN, READY, WRITTEN, ENDED = 1000.0, 1010.0, 1011.0, 1100.0
OURS, OURS_LATER, ANOTHER = 7, 9, 8
USER = "system:serviceaccount:rpcregistry:rpcregistry"
FENCE, BEAT, ENTRY = (
    "/rpcregistry/fence/c1",
    "/rpcregistry/heartbeat/c1",
    "/rpcregistry/owned/kube2zk/%2Frpc%2Fecho",
)
ECHO = "/rpc/echo"
LEASE = {"spec": {"holderIdentity": "host_1"}}


def pod(name: str, ip: str, service: str = "echo", ready: bool = True, uid: str = "") -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": uid or f"uid-{name}",
            "labels": {"rpc-service": "true"},
            "annotations": {"rpc-service": json.dumps([{"serviceName": service}])},
        },
        "spec": {"nodeName": "node1"},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def rpcservice(*pods: dict[str, Any], name: str = "echo") -> dict[str, Any]:
    """A generated one, whose status lists *pods*."""
    rows = [
        {
            "podName": pod["metadata"]["name"],
            "podUID": pod["metadata"]["uid"],
            "ip": pod["status"]["podIP"],
            "ready": pod["status"]["conditions"][0]["status"] == "True",
        }
        for pod in pods
    ]
    labels = {"app.kubernetes.io/managed-by": "rpcregistry"}
    metadata = {"name": name, "namespace": "ns", "uid": f"uid-rpc-{name}", "labels": labels}
    return {
        "kind": "RpcService",
        "metadata": metadata,
        "spec": {"serviceName": name},
        "status": {"endpoints": rows},
    }


def servers(*ips: str) -> bytes:
    return json.dumps({"config": [], "servers": list(ips)}).encode()


class Journey:
    """A pod becomes Ready and is published, and nothing goes wrong; what a test adds comes after it."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.transactions: list[Transaction] = []
        self.requests = [
            Request(BEGAN + 1, USER, "rpcregistry", "list", "pods", "ns", "", 200),
            Request(BEGAN + 1, USER, "rpcregistry", "patch", LEASES, "ns", "rpcregistry", 200, sent=LEASE),
            Request(READY, USER, "rpcregistry", "create", "rpcservices.rpcregistry.dev", "ns", "echo", 201),
        ]
        self.write(BEGAN + 2, Create(FENCE, b"token"))
        self.saw(READY, "ADDED", pod("a", "10.0.0.1"))
        self.saw(READY + 0.1, "ADDED", rpcservice(pod("a", "10.0.0.1")))
        self.publish(WRITTEN, Create(ECHO, servers("10.0.0.1")), Create(ENTRY, b"{}"))
        self.fields: dict[str, Any] = {
            "processes": [process()],
            "foreign": {"/rpc/theirs": b"x"},
            "secrets": ["hunter22"],
        }

    def saw(self, at: float, kind: str, manifest: dict[str, Any]) -> None:
        self.changes.append(Change(at, kind, manifest))

    def write(self, at: float, *ops: Op, session: int = OURS) -> None:
        self.transactions.append(Transaction(len(self.transactions) + 1, at, session, ops))

    def publish(self, at: float, *ops: Op, session: int = OURS, version: int = 0) -> None:
        self.write(at, Check(FENCE, version), *ops, session=session)

    def asked(self, at: float, verb: str, resource: str, code: int = 200, **fields: Any) -> None:
        defaults = {"namespace": "ns", "name": "echo"}
        self.requests.append(
            Request(at, USER, "rpcregistry", verb, resource, code=code, **{**defaults, **fields})
        )

    def evidence(self) -> Evidence:
        defaults: dict[str, Any] = {
            "began": BEGAN,
            "ended": ENDED,
            "cluster_id": "c1",
            "layouts": [("kube2zk", "/rpc")],
            "own_user": USER,
            "other_sessions": frozenset({ANOTHER}),
            "flags": {"namespace": ["ns"]},
        }
        log = Log({"/rpc/theirs": b"x"}, self.transactions)
        seen = {"logs": [log], "requests": self.requests, "history": self.changes}
        return Evidence(**{**defaults, **seen, **self.fields})


def process(**fields: Any) -> Process:
    defaults: dict[str, Any] = {
        "command": ["rpcregistry", "run"],
        "pid": 4711,
        "started": BEGAN,
        "samples": [
            Sample(BEGAN + n, rss=50 << 20, threads=20, descriptors=30, cpu=1.0 + n / 100, log=1000 + n)
            for n in range(100)
        ],
        "probes": [Probe(BEGAN + n, 200, 200) for n in range(5, 100)],
        "log": '{"identity": "host_1", "event": "leading"}\n',
    }
    return Process(**{**defaults, **fields})


Change_ = Callable[[Journey], None]


def broken(change: Change_) -> set[str]:
    journey = Journey()
    change(journey)
    return {violation.invariant for violation in violations(journey.evidence())}


def test_a_journey_in_which_nothing_goes_wrong_violates_nothing():
    check(Journey().evidence())


# Each changes the journey so that all holds as ever.


def a_pod_is_deleted(journey: Journey) -> None:
    journey.saw(1050, "DELETED", pod("a", "10.0.0.1"))
    journey.publish(1050.1, Delete(ECHO), Delete(ENTRY))
    journey.saw(1050.2, "DELETED", rpcservice())


def a_pod_is_deleted_and_the_harness_hears_it_late(journey: Journey) -> None:
    journey.publish(1049, Delete(ECHO), Delete(ENTRY))
    journey.saw(1050, "DELETED", pod("a", "10.0.0.1"))
    journey.saw(1050.2, "DELETED", rpcservice())


def a_pod_comes_and_the_harness_hears_it_late(journey: Journey) -> None:
    journey.publish(1040, SetData(ECHO, servers("10.0.0.1", "10.0.0.2"), 1))
    journey.saw(1050, "ADDED", pod("b", "10.0.0.2"))
    journey.saw(1050, "MODIFIED", rpcservice(pod("a", "10.0.0.1"), pod("b", "10.0.0.2")))


def a_pod_flaps(journey: Journey) -> None:
    journey.saw(1050, "MODIFIED", pod("a", "10.0.0.1", ready=False))
    journey.saw(1050.3, "MODIFIED", pod("a", "10.0.0.1"))
    journey.publish(1050.4, SetData(ECHO, servers(), 1))
    journey.publish(1050.5, SetData(ECHO, servers("10.0.0.1"), 2))


def another_pod_gets_the_address(journey: Journey) -> None:
    journey.saw(1050, "DELETED", pod("a", "10.0.0.1"))
    journey.publish(1050.1, Delete(ECHO))
    journey.saw(1055, "ADDED", pod("b", "10.0.0.1"))
    journey.saw(1055, "MODIFIED", rpcservice(pod("b", "10.0.0.1")))
    journey.publish(1055.1, Create(ECHO, servers("10.0.0.1")))


def an_etcd_that_was_restored_lacks_the_pod(journey: Journey) -> None:
    journey.saw(1050, "LOST", pod("a", "10.0.0.1"))


def others_take_it_and_it_is_put_back(journey: Journey) -> None:
    journey.write(1050, Delete(ECHO), session=ANOTHER)
    journey.publish(1051, Create(ECHO, servers("10.0.0.1")))


def zookeeper_is_wiped(journey: Journey) -> None:
    def again(evidence: Evidence) -> Evidence:
        written = Transaction(1, 1060, OURS_LATER, (Create(FENCE, b""),))
        check_ = Check(FENCE, 0)
        published = Transaction(2, 1061, OURS_LATER, (check_, Create(ECHO, servers("10.0.0.1"))))
        return replace(evidence, logs=[*evidence.logs, Log({}, [written, published])])

    evidence = journey.evidence
    journey.evidence = lambda: again(evidence())


def zookeeper_is_away_while_a_pod_comes(journey: Journey) -> None:
    journey.fields["faults"] = [Fault("zookeeper", 1030, 1070)]
    probes = [Probe(1000 + n, 200, 503 if 35 < n < 72 else 200) for n in range(5, 100)]
    journey.fields["processes"] = [process(probes=probes)]
    journey.saw(1031, "ADDED", pod("b", "10.0.0.2"))
    journey.saw(1031, "MODIFIED", rpcservice(pod("a", "10.0.0.1"), pod("b", "10.0.0.2")))
    journey.publish(1080, SetData(ECHO, servers("10.0.0.1", "10.0.0.2"), 1), session=OURS_LATER)


def a_service_suffers_for_its_own_bad_object(journey: Journey) -> None:
    journey.fields["faults"] = [Fault("refused", 1020, 1099, services=frozenset({"bad"}))]
    journey.saw(1021, "ADDED", pod("b", "10.0.0.2", "bad"))
    journey.saw(1098, "DELETED", pod("b", "10.0.0.2", "bad"))


def an_orderly_end(journey: Journey) -> None:
    journey.asked(1095.5, "patch", LEASES, sent={"spec": {"holderIdentity": None}})
    journey.fields["processes"] = [process(terminated=1095, ended=1096, code=0, expected_end=True)]


def a_new_leader_takes_the_fence(journey: Journey) -> None:
    journey.fields["processes"] = [
        process(ended=1050, code=-9, expected_end=True),
        process(pid=2, started=BEGAN + 1),
    ]
    journey.write(1060, SetData(FENCE, b"another", 1), session=OURS_LATER)
    journey.publish(1061, SetData(ECHO, servers("10.0.0.1"), 1), session=OURS_LATER, version=1)


def a_heartbeat_and_a_lease_in_quiet(journey: Journey) -> None:
    journey.fields["quiet"] = [(1050, 1090)]
    journey.publish(1060, Create(BEAT, b"{}"))
    journey.asked(1060, "patch", LEASES, sent=LEASE)


@pytest.mark.parametrize(
    "change",
    [
        a_pod_is_deleted,
        a_pod_is_deleted_and_the_harness_hears_it_late,
        a_pod_comes_and_the_harness_hears_it_late,
        a_pod_flaps,
        another_pod_gets_the_address,
        an_etcd_that_was_restored_lacks_the_pod,
        others_take_it_and_it_is_put_back,
        zookeeper_is_wiped,
        zookeeper_is_away_while_a_pod_comes,
        a_service_suffers_for_its_own_bad_object,
        an_orderly_end,
        a_new_leader_takes_the_fence,
        a_heartbeat_and_a_lease_in_quiet,
    ],
)
def test_what_is_right_violates_nothing(change: Change_):
    journey = Journey()
    change(journey)
    check(journey.evidence())


# Each breaks the invariants that stand beside it, and no others.


def never_published(journey: Journey) -> None:
    journey.saw(1050, "ADDED", pod("b", "10.0.0.2"))
    journey.saw(1050, "MODIFIED", rpcservice(pod("a", "10.0.0.1"), pod("b", "10.0.0.2")))


def a_wrong_status(journey: Journey) -> None:
    journey.saw(1050, "MODIFIED", rpcservice())


def a_node_without_its_service(journey: Journey) -> None:
    journey.saw(1050, "ADDED", {"kind": "Node", "metadata": {"name": "node1", "uid": "uid-node1"}})
    metadata = {"name": "app", "namespace": "ns", "uid": "uid-app"}
    spec = {"selector": {"app": "x"}, "ports": [{"port": 80}]}
    journey.saw(1051, "ADDED", {"kind": "LocalService", "metadata": metadata, "spec": spec})


def not_published_in_the_end(journey: Journey) -> None:
    journey.saw(1099, "ADDED", pod("b", "10.0.0.2"))
    journey.saw(1099, "MODIFIED", rpcservice(pod("a", "10.0.0.1"), pod("b", "10.0.0.2")))


def withdrawn_for_a_moment(journey: Journey) -> None:
    journey.publish(1050, SetData(ECHO, servers(), 1))
    journey.publish(1050.1, SetData(ECHO, servers("10.0.0.1"), 2))


def withdrawn_after_a_restore(journey: Journey) -> None:
    journey.saw(1050, "LOST", pod("a", "10.0.0.1"))
    journey.publish(1060, SetData(ECHO, servers(), 1))


def kept_after_the_end_of_the_pod(journey: Journey) -> None:
    journey.saw(1050, "DELETED", pod("a", "10.0.0.1"))
    journey.saw(1050.2, "DELETED", rpcservice())


def published_again_after_the_end_of_the_pod(journey: Journey) -> None:
    a_pod_is_deleted(journey)
    journey.saw(1051, "ADDED", pod("a", "10.0.0.1"))  # by an etcd of old: its uid has ended
    journey.publish(1052, Create(ECHO, servers("10.0.0.1")))
    journey.publish(1053, Delete(ECHO))


def published_without_a_pod(journey: Journey) -> None:
    journey.publish(1050, SetData(ECHO, servers("10.0.0.1", "10.9.9.9"), 1))
    journey.publish(1051, SetData(ECHO, servers("10.0.0.1"), 2))


def the_not_ready_stays(journey: Journey) -> None:
    journey.saw(1050, "MODIFIED", pod("a", "10.0.0.1", ready=False))
    journey.saw(1050, "MODIFIED", rpcservice(pod("a", "10.0.0.1", ready=False)))


def somebody_elses_znode(journey: Journey) -> None:
    journey.publish(1050, SetData("/rpc/theirs", b"ours", 1))
    journey.publish(1050, SetData("/rpc/theirs", b"x", 2))


def a_znode_outside(journey: Journey) -> None:
    journey.publish(1050, Create("/elsewhere/echo", b"1"))


def the_acl_of_somebody_elses_znode(journey: Journey) -> None:
    journey.write(1050, SetAcl("/rpc/theirs"), session=OURS)


def another_clusters_heartbeat(journey: Journey) -> None:
    journey.publish(1050, SetData("/rpcregistry/heartbeat/c2", b"{}", 5))


def somebody_elses_service(journey: Journey) -> None:
    journey.fields["foreign_objects"] = frozenset({("services", "ns", "theirs")})
    journey.asked(1050, "patch", "services", name="theirs")


def a_kind_that_is_not_ours(journey: Journey) -> None:
    journey.asked(1050, "delete", "secrets", name="theirs")


def a_write_in_quiet(journey: Journey) -> None:
    journey.fields["quiet"] = [(1050, 1090)]
    journey.publish(1060, SetData(ECHO, servers("10.0.0.1"), 1))


def a_status_in_quiet(journey: Journey) -> None:
    journey.fields["quiet"] = [(1050, 1090)]
    journey.asked(1060, "update", "rpcservices.rpcregistry.dev/status")


def cpu_in_quiet(journey: Journey) -> None:
    journey.fields["quiet"] = [(1050, 1090)]
    samples = [replace(sample, cpu=sample.at) for sample in process().samples]
    journey.fields["processes"] = [process(samples=samples)]


def unfenced(journey: Journey) -> None:
    journey.write(1050, SetData(ECHO, servers("10.0.0.1"), 1))


def overtaken(journey: Journey) -> None:
    journey.write(1049, SetData(FENCE, b"another", 1), session=OURS_LATER)
    journey.publish(1050, SetData(ECHO, servers("10.0.0.1"), 1), session=OURS, version=1)


def taking_turns(journey: Journey) -> None:
    journey.publish(1050, SetData(ECHO, servers("10.0.0.1"), 1), session=OURS_LATER)
    journey.publish(1051, SetData(ECHO, servers("10.0.0.1"), 2), session=OURS)


def the_fence_of_a_dead_process(journey: Journey) -> None:
    journey.fields["processes"] = [
        process(ended=1040, code=-9, expected_end=True),
        process(pid=2, started=1041),
    ]
    journey.write(1042, OpenSession(15), session=OURS_LATER)
    journey.publish(1042.1, SetData(ECHO, servers("10.0.0.1"), 1), session=OURS_LATER)


def too_many_failures(journey: Journey) -> None:
    for n in range(300):
        journey.asked(1050 + n / 100, "update", "rpcservices.rpcregistry.dev/status", code=500)


def too_many_lists(journey: Journey) -> None:
    for n in range(300):
        journey.asked(1050 + n / 100, "list", "pods")


def too_many_sessions(journey: Journey) -> None:
    for n in range(100):
        journey.write(1050 + n / 100, OpenSession(15), session=100 + n)


def uses(**more: int) -> Change_:
    def change(journey: Journey) -> None:
        samples = [*process().samples, replace(process().samples[-1], at=1099.5, **more)]
        journey.fields["processes"] = [process(samples=samples)]

    change.__name__ = f"uses_too_many_{next(iter(more))}"
    return change


def late_beside_a_bad_object(journey: Journey) -> None:
    journey.fields["faults"] = [Fault("object", 1020, 1099, services=frozenset({"bad"}))]
    journey.saw(1030, "ADDED", pod("b", "10.0.0.2"))
    journey.saw(1030, "MODIFIED", rpcservice(pod("a", "10.0.0.1"), pod("b", "10.0.0.2")))
    journey.publish(1060, SetData(ECHO, servers("10.0.0.1", "10.0.0.2"), 1))


def a_process_dies_by_itself(journey: Journey) -> None:
    journey.fields["processes"] = [process(ended=1050, code=1), process(pid=2, started=1051)]


def unwell_for_no_reason(journey: Journey) -> None:
    journey.fields["processes"] = [process(probes=[Probe(1050, 500, 200), Probe(1090, 200, 200)])]


def unwell_until_it_is_told_to_end(journey: Journey) -> None:
    an_orderly_end(journey)
    probes = [Probe(1080, 500, 200), Probe(1094, 500, 200)]
    journey.fields["processes"] = [replace(journey.fields["processes"][0], probes=probes)]


def ready_though_zookeeper_is_away(journey: Journey) -> None:
    journey.fields["faults"] = [Fault("zookeeper", 1020, 1070)]


def ready_though_nothing_was_read(journey: Journey) -> None:
    journey.fields["faults"] = [Fault("apiserver", 990, 1008)]


def not_ready_in_the_end(journey: Journey) -> None:
    journey.fields["processes"] = [process(probes=[Probe(1050, 200, 200), Probe(1090, 200, 503, "tired")])]


def published_twice(journey: Journey) -> None:
    journey.saw(1050, "MODIFIED", pod("a", "10.0.0.1", ready=False))
    journey.publish(1050.1, SetData(ECHO, servers(), 1))
    journey.publish(1050.2, SetData(ECHO, servers("10.0.0.1"), 2))
    journey.publish(1050.3, SetData(ECHO, servers(), 3))
    journey.saw(1054, "MODIFIED", pod("a", "10.0.0.1"))
    journey.publish(1054.1, SetData(ECHO, servers("10.0.0.1"), 4))


def otherwise_than_undisturbed(journey: Journey) -> None:
    journey.fields["reference"] = {**summary(Journey().evidence()), "kube2zk:/rpc/echo 10.0.0.1": (1, 1)}


def terminated(**fields: Any) -> Change_:
    def change(journey: Journey) -> None:
        an_orderly_end(journey)
        journey.fields["processes"] = [replace(journey.fields["processes"][0], **fields)]

    change.__name__ = f"terminated_with_{next(iter(fields))}"
    return change


def the_lease_is_kept(journey: Journey) -> None:
    journey.fields["processes"] = [process(terminated=1095, ended=1096, code=0, expected_end=True)]


def withdrawn_at_the_end(journey: Journey) -> None:
    an_orderly_end(journey)
    journey.publish(1095.5, Delete(ECHO), Delete(ENTRY))


def a_secret_in_the_log(journey: Journey) -> None:
    journey.fields["processes"] = [process(log="digest user:hunter22")]


def a_secret_in_base64(journey: Journey) -> None:
    journey.fields["texts"] = {"/metrics": "aHVudGVyMjI="}


def a_secret_in_an_event(journey: Journey) -> None:
    journey.asked(1050, "create", "events.events.k8s.io", sent={"note": "hunter22 was refused"})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (never_published, {"I1"}),
        (a_wrong_status, {"I1"}),
        (a_node_without_its_service, {"I1"}),
        (not_published_in_the_end, {"I1"}),
        (the_not_ready_stays, {"I1"}),
        (withdrawn_for_a_moment, {"I2", "I10"}),
        (withdrawn_after_a_restore, {"I1", "I2", "I10"}),
        (kept_after_the_end_of_the_pod, {"I1", "I3"}),
        (published_again_after_the_end_of_the_pod, {"I3", "I10"}),
        (published_without_a_pod, {"I3", "I10"}),
        (somebody_elses_znode, {"I4"}),
        (the_acl_of_somebody_elses_znode, {"I4"}),
        (a_znode_outside, {"I4"}),
        (another_clusters_heartbeat, {"I4"}),
        (somebody_elses_service, {"I4"}),
        (a_kind_that_is_not_ours, {"I4"}),
        (a_write_in_quiet, {"I5"}),
        (a_status_in_quiet, {"I5"}),
        (cpu_in_quiet, {"I5"}),
        (unfenced, {"I6"}),
        (overtaken, {"I6"}),
        (taking_turns, {"I6"}),
        (the_fence_of_a_dead_process, {"I6"}),
        (too_many_failures, {"I7"}),
        (too_many_lists, {"I7"}),
        (too_many_sessions, {"I7"}),
        (uses(rss=500 << 20), {"I7"}),
        (uses(threads=300), {"I7"}),
        (uses(descriptors=300), {"I7"}),
        (uses(log=10 << 20), {"I7"}),
        (late_beside_a_bad_object, {"I8"}),
        (a_process_dies_by_itself, {"I8"}),
        (unwell_for_no_reason, {"I9"}),
        (unwell_until_it_is_told_to_end, {"I9"}),
        (ready_though_zookeeper_is_away, {"I9"}),
        (ready_though_nothing_was_read, {"I9"}),
        (not_ready_in_the_end, {"I9"}),
        (published_twice, {"I3", "I10"}),
        (otherwise_than_undisturbed, {"I10"}),
        (terminated(terminated=1085), {"I11"}),
        (terminated(code=1), {"I11"}),
        (the_lease_is_kept, {"I11"}),
        (withdrawn_at_the_end, {"I1", "I2", "I10", "I11"}),
        (a_secret_in_the_log, {"I12"}),
        (a_secret_in_base64, {"I12"}),
        (a_secret_in_an_event, {"I12"}),
    ],
)
def test_each_invariant_is_violated_by_what_it_forbids(change: Change_, expected: set[str]):
    assert broken(change) == expected


@pytest.mark.parametrize(
    ("empty", "expected"),
    [
        ({"logs": []}, "no transaction of the product"),
        ({"requests": []}, "no request of the product"),
        ({"history": []}, "no pod"),
        ({"processes": []}, "no process"),
        ({"processes": [process(probes=())]}, "no probe"),
        ({"processes": [process(samples=())]}, "no sample"),
        ({"processes": [process(log="")]}, "no log"),
        ({"foreign": {}}, "no foreign znode"),
        ({"secrets": []}, "no secret"),
    ],
)
def test_that_nothing_was_witnessed_is_a_violation(empty: dict[str, Any], expected: str):
    with pytest.raises(AssertionError, match=f"nothing was witnessed: {expected}"):
        check(replace(Journey().evidence(), **empty))


def test_all_violations_are_in_one_message_with_time_place_and_states():
    journey = Journey()
    withdrawn_for_a_moment(journey)
    a_secret_in_the_log(journey)
    with pytest.raises(AssertionError) as raised:
        check(journey.evidence())
    lines = str(raised.value).splitlines()
    sentences = [f"{name}: {INVARIANTS[name].sentence}" for name in ("I2", "I10", "I12")]
    assert lines[:3] == sentences
    assert (
        "I2 00:17:30.000 kube2zk:/rpc/echo 10.0.0.1: was withdrawn in transaction 0x3, "
        "to be found since 00:16:50.000 [found -> not found]" in lines
    )


def test_what_is_allowed_is_allowed_by_name_only():
    journey = Journey()
    a_secret_in_the_log(journey)
    evidence = journey.evidence()
    check(replace(evidence, allow={"I12": "this is about something else"}))
    with pytest.raises(AssertionError, match="I12"):
        check(replace(evidence, allow={"I1": "this is about something else"}))
    with pytest.raises(AssertionError, match="no invariants: I13"):
        check(replace(evidence, allow={"I13": "a slip"}))
