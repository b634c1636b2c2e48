"""Which RpcServices there should be: decided on values, without a cluster."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcregistry.model import (
    Declaration,
    Endpoint,
    LabelSelector,
    RpcServiceSpec,
    ServiceKey,
)
from rpcregistry.plan.pods import addressed, is_listed, names_service, refused_address
from rpcregistry.plan.rows import Absences, ObservedRpcServices, suspects
from rpcregistry.plan.rpcservices import ROWS_BYTES, Create, Delete, SetStatus
from tests.builders import NOW, pod
from tests.worlds.rpcservices import KEY, World, planned, pods_strategy, service, verbose


@pytest.mark.parametrize(
    ("fields", "listed", "named"),
    [
        pytest.param({}, True, True, id="running and ready"),
        pytest.param({"ready": False}, True, True, id="not ready is listed as such"),
        pytest.param({"phase": "Pending", "ready": False}, True, True, id="pending with an address"),
        pytest.param({"phase": "Pending", "ips": ()}, False, True, id="pending without an address"),
        pytest.param({"phase": "Unknown"}, True, True, id="phase unknown"),
        pytest.param({"phase": "Succeeded"}, False, False, id="succeeded"),
        pytest.param({"phase": "Failed"}, False, False, id="failed, or evicted"),
        pytest.param({"terminating": True}, False, True, id="terminating"),
        pytest.param({"ips": ("fd00::1",)}, True, True, id="IPv6 only"),
        pytest.param({"host_ip": "10.0.0.1", "ips": ("10.0.0.1",)}, True, True, id="host network"),
    ],
)
def test_which_pods_are_endpoints_and_which_keep_a_service_alive(fields, listed, named):
    candidate = pod("p", "echo", **fields)

    assert is_listed(candidate) is listed
    assert names_service(candidate, "echo") is named


REFUSED = pod("p", "echo", ips=(), refused_ips=("0.1.2.3",))


def test_a_refused_address_is_listed_only_while_it_was_before_and_its_pod_is_there():
    world = World([REFUSED]).settle()
    assert not world.services["echo"].status.endpoints
    assert refused_address(REFUSED)

    listed = msgspec.structs.replace(REFUSED, ips=REFUSED.refused_ips, refused_ips=())
    world = World([listed]).settle()
    world.pods = {"p": REFUSED}
    assert world.settle().listed() == {"echo": ["p"]}
    world.pods = {"p": msgspec.structs.replace(REFUSED, ready=False)}
    assert not world.settle().services["echo"].status.endpoints[0].ready
    world.pods = {"p": msgspec.structs.replace(REFUSED, terminating=True)}
    assert world.settle().listed() == {"echo": []}


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"uid": "made again"}, id="another pod"),
        pytest.param({"refused_ips": ("127.0.0.1",)}, id="another address"),
    ],
)
def test_a_listed_address_lets_no_other_refused_one_in(changed):
    world = World([msgspec.structs.replace(REFUSED, ips=REFUSED.refused_ips, refused_ips=())]).settle()
    world.pods = {"p": msgspec.structs.replace(REFUSED, **changed)}
    assert world.settle().listed() == {"echo": []}


def test_a_pod_with_a_usable_address_is_not_told_of_others():
    assert refused_address(pod("p", "echo", refused_ips=("fe80::1",))) is None


def test_a_declaring_pod_gets_a_generated_rpcservice_with_its_row():
    world = World([pod("p", "echo", started_at=NOW, host_ip="10.1.0.1")]).settle()

    status = world.services["echo"].status
    assert status.endpoints == (
        Endpoint(
            pod_name="p",
            pod_uid="uid-p",
            ip="10.0.0.16",
            ips=("10.0.0.16",),
            node_name="n1",
            host_ip="10.1.0.1",
            ready=True,
            phase="Running",
            started_at=NOW,
        ),
    )
    assert (status.ready, status.registry_paths, status.observed_generation) == ("1/1", "/rpc_v2/echo", 1)


@pytest.mark.parametrize(
    ("before", "after", "listed"),
    [
        pytest.param([], [], {}, id="nobody names it"),
        pytest.param([pod("p", "echo")], [], {"echo": ["p"]}, id="an absent pod stays until confirmed"),
        pytest.param(
            [pod("p", "echo")], [pod("p", "echo", phase="Failed")], {}, id="an evicted pod ends the service"
        ),
        pytest.param([pod("p", "echo")], [pod("p")], {}, id="the annotation is gone"),
        pytest.param([pod("p", "echo")], [pod("p", "other")], {}, id="the annotation moved to another"),
        pytest.param(
            [pod("p", "echo")], [pod("p", "echo", ready=False)], {"echo": ["p"]}, id="not ready stays listed"
        ),
        pytest.param(
            [pod("p", "echo")], [pod("p", "echo", terminating=True)], {"echo": []}, id="terminating"
        ),
        pytest.param(
            [pod("p", "echo")],
            [pod("p", "echo", uid="uid-2", ips=("10.9.9.9",))],
            {"echo": ["p"]},
            id="the same name again is a new pod",
        ),
    ],
)
def test_what_pods_show_is_followed(before, after, listed):
    world = World(before).settle()
    world.pods = {pod.name: pod for pod in after}
    world.settle()

    assert world.listed() == listed
    assert {row.pod_uid for s in world.services.values() for row in s.status.endpoints} <= {
        pod.uid for pod in [*before, *after]
    }


def test_a_recreated_pod_replaces_the_old_row():
    world = World([pod("p", "echo")]).settle()
    world.pods = {"p": pod("p", "echo", uid="uid-2", ips=("10.9.9.9",))}
    world.settle()

    assert [row.ip for row in world.services["echo"].status.endpoints] == ["10.9.9.9"]


def test_a_second_pass_does_nothing():
    world = World([pod("a", "echo"), pod("b", "echo")]).settle()

    assert world.plan() == []


def test_a_confirmed_absence_is_withdrawn_and_the_generated_service_goes():
    world = World([pod("p", "echo")]).settle()
    world.pods = {}
    world.absences = Absences(confirmed={"uid-p"})

    emptied, deleted = world.plan()

    assert isinstance(emptied, SetStatus)
    assert emptied.status.endpoints == ()
    assert isinstance(deleted, Delete)


def test_a_held_absence_is_marked_and_unmarked():
    world = World([pod("p", "echo")]).settle()
    pods, world.pods = world.pods, {}
    world.absences = Absences(held={"uid-p"})
    world.settle()
    assert [row.held for row in world.services["echo"].status.endpoints] == [True]

    world.absences = Absences()  # after a start, the guard has not decided yet
    assert world.plan() == []

    world.pods = pods
    world.settle()
    assert [row.held for row in world.services["echo"].status.endpoints] == [False]


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param({}, id="nothing shown"),
        pytest.param({"p": pod("p", "echo", ready=False)}, id="shown not ready"),
        pytest.param({"p": pod("p", "echo", phase="Failed")}, id="shown failed"),
        pytest.param({"p": pod("p")}, id="shown without the annotation"),
    ],
)
def test_an_unknown_source_withdraws_nothing_and_still_adds(shown):
    world = World([pod("p", "echo")]).settle()
    world.pods = {**shown, "q": pod("q", "echo")}
    world.absences = Absences(unknown=True)
    world.settle()

    assert [(row.pod_name, row.ready) for row in world.services["echo"].status.endpoints] == [
        ("p", True),
        ("q", True),
    ]


@pytest.mark.parametrize(
    ("silent_nodes", "silenced", "confirmed", "ready"),
    [
        pytest.param(set(), True, set(), False, id="its own failure counts at once"),
        pytest.param({"n1"}, True, set(), True, id="a silent Node says nothing about the pod"),
        pytest.param({"n1"}, True, {"uid-p"}, False, id="until that is confirmed"),
        pytest.param({"node2"}, True, set(), False, id="another Node does not matter"),
        pytest.param({"n1"}, False, set(), False, id="its kubelet reports it, whatever its Node is"),
    ],
)
def test_a_pod_that_turns_not_ready_with_its_node(silent_nodes, silenced, confirmed, ready):
    world = World([pod("p", "echo")]).settle()
    world.pods = {"p": pod("p", "echo", ready=False, silenced=silenced)}
    world.silent_nodes = silent_nodes
    world.absences = Absences(confirmed=confirmed)
    assert bool(suspects(KEY, world.observe())) is (silenced and "n1" in silent_nodes)
    world.settle()

    assert [row.ready for row in world.services["echo"].status.endpoints] == [ready]


def test_a_changed_annotation_counts_even_where_the_node_is_silent():
    world = World([pod("p", "echo"), pod("q", "echo")]).settle()
    world.pods["p"] = pod("p", ready=False, silenced=True)
    world.silent_nodes = {"n1"}
    world.settle()

    assert world.listed() == {"echo": ["q"]}


def test_a_declared_one_takes_over_and_never_is_a_pod_unlisted_on_the_way():
    world = World([pod("a", "echo"), pod("b", "echo")]).settle()
    world.services["mine"] = service("mine", generated=False, created="9")

    for op in world.plan():
        world.apply(op)
        assert {row.pod_name for s in world.services.values() for row in s.status.endpoints} == {"a", "b"}

    assert world.settle().listed() == {"mine": ["a", "b"]}


def test_annotated_pods_go_to_the_older_of_two_declared_ones():
    older, newer = service("z", generated=False, created="1"), service("a", generated=False, created="2")
    world = World([pod("p", "echo")], [newer, older]).settle()

    assert world.listed() == {"a": [], "z": ["p"]}


def test_a_selector_adds_pods_with_the_specs_defaults_and_an_annotation_counts_first():
    spec = RpcServiceSpec(
        service_name="echo", selector=LabelSelector(match_labels={"app": "x"}), port=20880, version="v1"
    )
    annotated = pod(
        "a", labels={"app": "x"}, declarations=(Declaration(service_name="echo", port=1, version="v0"),)
    )
    selected, other = pod("b", labels={"app": "x"}), pod("c", labels={"app": "y"})
    world = World([annotated, selected, other], [service("echo", generated=False, spec=spec)]).settle()

    rows = [(row.pod_name, row.port, row.version) for row in world.services["echo"].status.endpoints]
    assert rows == [("a", 1, "v0"), ("b", 20880, "v1")]


def test_a_declared_one_is_never_deleted():
    world = World([], [service("echo", generated=False)]).settle()

    assert world.listed() == {"echo": []}
    assert world.services["echo"].status.condition("EndpointsAvailable").reason == "NoEndpoints"


@pytest.mark.parametrize(
    ("service_name", "taken", "name"),
    [
        pytest.param("echo", {}, "echo", id="the name itself"),
        pytest.param("echo", {"echo": "other"}, "echo-092c79e8", id="taken by another service"),
        pytest.param("com.foo.Bar$Baz", {}, "com.foo.bar-baz-9af2194a", id="a Java class"),
    ],
)
def test_the_name_of_a_generated_rpcservice(service_name, taken, name):
    key = ServiceKey("default", service_name)
    (op,) = planned(key, ObservedRpcServices([], {"p": pod("p", service_name)}, taken), Absences())

    assert isinstance(op, Create)
    assert op.name == name


def test_many_endpoints_are_spread_and_a_pod_stays_in_its_object():
    world = World([pod(f"p{n}", "echo") for n in range(8)]).settle()
    before = world.listed()
    assert sorted(len(names) for names in before.values()) == [2, 3, 3]

    world.pods["p0"] = pod("p0", "echo", ready=False)
    assert len(world.plan()) == 1, "one change rewrites one object"
    world.settle()
    del world.pods["p1"]
    world.absences = Absences(confirmed={"uid-p1"})
    world.settle()

    after = world.listed()
    assert {name: [p for p in pods if p != "p1"] for name, pods in before.items()} == after


def test_endpoints_are_spread_by_size_too():
    third = ROWS_BYTES // 3
    world = World([verbose(f"p{n}", third) for n in range(4)]).settle()

    assert sorted(map(len, world.listed().values())) == [2, 2]


def test_a_pod_that_has_outgrown_its_object_goes_where_room_is():
    quarter = ROWS_BYTES // 5
    world = World([verbose(f"p{n}", quarter) for n in range(3)]).settle()
    assert set(world.listed()) == {"echo"}

    world.pods["p2"] = verbose("p2", 4 * quarter)
    create, shrink = world.plan()
    assert isinstance(create, Create)
    assert [row.pod_name for row in create.status.endpoints] == ["p2"]
    assert isinstance(shrink, SetStatus)
    assert [row.pod_name for row in shrink.status.endpoints] == ["p0", "p1"]


def test_all_rows_of_a_pod_are_in_one_object():
    ports = tuple(Declaration(service_name="echo", port=port) for port in (1, 2))
    world = World([pod(f"p{n}", declarations=ports) for n in range(2)]).settle()

    assert list(world.listed().values()) == [["p0", "p0"], ["p1", "p1"]]


def test_an_emptied_part_goes_and_its_head_stays():
    world = World([pod(f"p{n}", "echo") for n in range(4)]).settle()
    part = next(name for name in world.services if name != "echo")
    (last,) = world.listed()[part]
    del world.pods[last]
    world.absences = Absences(confirmed={f"uid-{last}"})

    assert list(world.settle().services) == ["echo"]


def test_parts_of_a_head_that_was_deleted_give_their_pods_to_the_new_one():
    world = World([pod(f"p{n}", "echo") for n in range(5)]).settle()
    del world.services["echo"]
    for op in world.plan():
        world.apply(op)
    names = sorted(name for pods in world.settle().listed().values() for name in pods)

    assert names == [f"p{n}" for n in range(5)]


def test_the_observed_is_not_changed():
    world = World([pod("a", "echo")], [service("echo")])
    before = msgspec.json.encode([list(world.services.values()), list(world.pods.values())])
    world.plan()

    assert msgspec.json.encode([list(world.services.values()), list(world.pods.values())]) == before


@given(pods_strategy, pods_strategy)
def test_the_end_does_not_depend_on_the_way(first, second):
    by_way = World(first).settle()
    by_way.pods = {pod.name: pod for pod in second}
    by_way.absences = Absences(confirmed={pod.uid for pod in first})
    by_way.settle()
    at_once = World(second).settle()

    def rows(world: World) -> set[bytes]:
        return {msgspec.json.encode(row) for s in world.services.values() for row in s.status.endpoints}

    assert rows(by_way) == rows(at_once)


@given(pods_strategy, pods_strategy, st.integers(0, 6))
def test_a_plan_that_is_cut_off_leads_to_the_same_end(first, second, applied):
    world = World(first).settle()
    world.pods = {pod.name: pod for pod in second}
    world.absences = Absences(confirmed={pod.uid for pod in first})
    for op in world.plan()[:applied]:
        world.apply(op)
    world.settle()

    expected = sorted(pod.name for pod in second if is_listed(pod) and names_service(pod, "echo"))
    assert sorted(name for names in world.listed().values() for name in names) == expected


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        pytest.param({"started_at": "2026-11-21T02:02:02Z"}, False, id="other details"),
        pytest.param({"ready": False}, True, id="not Ready"),
        pytest.param({"ips": ()}, True, id="no address"),
        pytest.param({"terminating": True}, True, id="terminating"),
        pytest.param({"ips": ("10.9.9.9",)}, True, id="another address"),
        pytest.param({"declarations": (Declaration(service_name="other"),)}, True, id="another service"),
    ],
)
def test_whether_a_pods_change_may_change_a_znode(fields, changed):
    before, found = addressed(pod("p", "echo")), addressed(pod("p", "echo", **fields))

    assert (found != before) == changed


def test_parts_that_a_head_left_behind_go_once_nobody_is_to_be_listed():
    """Their emptying was refused when the head went."""
    world = World([pod(f"p{number}", "echo") for number in range(5)]).settle()
    (head,) = [service for service in world.services.values() if not service.is_part]
    del world.services[head.name]
    world.pods.clear()
    world.absences = Absences(confirmed={f"uid-p{number}" for number in range(5)})

    assert world.settle().services == {}


def test_parts_that_a_head_left_behind_stay_while_nobody_can_tell_who_is_there():
    world = World([pod(f"p{number}", "echo") for number in range(5)]).settle()
    (head,) = [service for service in world.services.values() if not service.is_part]
    del world.services[head.name]
    (part,) = world.services
    world.services[part] = msgspec.structs.replace(
        world.services[part], status=msgspec.structs.replace(world.services[part].status, endpoints=())
    )
    world.pods.clear()
    world.absences = Absences(unknown=True)

    assert world.settle().services.keys() == {part}
