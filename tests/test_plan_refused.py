"""What is written of a plan where some of its writes are refused: only what they would add is missing."""

from collections.abc import Callable, Collection

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcregistry.model import Declaration, LabelSelector, Pod, RpcService, RpcServiceSpec
from rpcregistry.plan.invariants import lost
from rpcregistry.plan.pods import newest_of
from rpcregistry.plan.publication import Place
from rpcregistry.plan.rows import Absences
from rpcregistry.plan.rpcservices import ROWS_BYTES, Create, Op, SetStatus
from rpcregistry.plan.writes import MOST_REFUSED_CREATES, Writes
from tests.builders import NOW, pod
from tests.worlds.rpcservices import SETTINGS, World, pods_strategy, service, verbose

Refuse = Callable[[Op], bool]


def creates(op: Op) -> bool:
    return isinstance(op, Create)


def adds(op: Op) -> bool:
    """Whether it is an update that adds a row."""
    return isinstance(op, SetStatus) and bool(places(op.status) - places(op.service.status))


def writes_of(*names: str) -> Refuse:
    return lambda op: isinstance(op, SetStatus) and op.service.name in names


def places(status) -> set[Place]:
    return {(row.pod_uid, row.port) for row in status.endpoints}


def try_writes(
    world: World, refuses: Refuse, *, wary: bool = False, always: Collection[Place] = ()
) -> tuple[list[Op], list[Op]]:
    """Make what can be made; return the operations that were made and those that were refused.

    Rows at *always* are listed after each of them.
    """
    made: list[Op] = []
    refused: list[Op] = []
    ops = world.plan()
    writes = Writes(ops, SETTINGS, NOW, wary=wary)
    for op in writes:
        if refuses(op):
            refused.append(op)
            writes.refused()
        else:
            made.append(op)
            world.apply(op)
            assert listed(world) >= set(always), op
    assert not list(lost(ops, made))
    return made, refused


def listed(world: World) -> set[Place]:
    return set().union(*(places(service.status) for service in world.services.values()))


def echo(*numbers: int, **fields: object) -> list[Pod]:
    return [pod(f"p{n}", "echo", **fields) for n in numbers]


def replace_pods(world: World, *pods: Pod) -> None:
    """All pods are others now, and those before them are known to be gone."""
    gone = {pod.uid for pod in world.pods.values()} - {pod.uid for pod in pods}
    world.absences = Absences(confirmed=gone)
    world.pods = {pod.name: pod for pod in pods}


@pytest.mark.parametrize("wary", [False, True])
@pytest.mark.parametrize(
    ("before", "after", "refuses", "expected"),
    [
        pytest.param(
            echo(1, 2, 3), echo(4, 5, 6, 7, 8), creates, {"echo": ["p4", "p5", "p6"]}, id="a part is refused"
        ),
        pytest.param(
            echo(1, 2, 3, 4, 5),
            echo(6, 7, 8, 9, 10),
            writes_of("echo"),
            {"echo": ["p1", "p2", "p3"], "part": ["p8", "p9"]},
            id="one status is refused, whatever is written to it",
        ),
        pytest.param(
            echo(1, 2, 3, 4, 5),
            echo(1, 6, 7, 8, 9),
            lambda op: adds(op) and op.service.name == "echo",
            {"echo": ["p1"], "part": ["p8", "p9"]},
            id="one status is refused that adds",
        ),
        pytest.param(
            echo(1, 2, 3, 4, 5),
            echo(2, 3, 5, 6),
            lambda op: creates(op) or adds(op),
            {"echo": ["p2", "p3"], "part": ["p5"]},
            id="all that adds is refused",
        ),
        pytest.param(
            echo(1, 2, 3),
            [*echo(1, 2, ready=False), *echo(4)],
            adds,
            {"echo": ["p1-", "p2-"]},
            id="a pod that turns not Ready is no addition",
        ),
        pytest.param(echo(1), [], lambda _: False, {}, id="nothing is refused"),
        pytest.param(
            echo(1), [], writes_of("echo"), {"echo": ["p1"]}, id="nothing is deleted with rows in it"
        ),
    ],
)
def test_what_is_refused_costs_only_what_it_would_add(before, after, refuses, expected, wary):
    world = World(before).settle()
    replace_pods(world, *after)
    try_writes(world, refuses, wary=wary)

    shown = {
        "echo" if name == "echo" else "part": [
            row.pod_name + ("" if row.ready else "-") for row in service.status.endpoints
        ]
        for name, service in world.services.items()
    }
    assert shown == expected


def takes_over(world: World, **fields: object) -> RpcService:
    mine = service("mine", generated=False, created="9", **fields)
    world.services["mine"] = mine
    return mine


def test_a_pod_stays_where_it_is_while_the_object_that_takes_over_cannot_be_written():
    world = World(echo(1, 2, 3)).settle()
    takes_over(world)
    replace_pods(world, *echo(1), *echo(2, ready=False))
    for _ in range(3):
        try_writes(world, writes_of("mine"), always={("uid-p1", None)})

    assert world.listed() == {"echo": ["p1", "p2"], "mine": []}
    assert [row.ready for row in world.services["echo"].status.endpoints] == [True, False]
    assert world.settle().listed() == {"mine": ["p1", "p2"]}


def test_two_objects_that_exchange_pods_list_them_all_the_time():
    """Each is to have what the other has: one write alone cannot do that."""
    spec = RpcServiceSpec(service_name="echo", selector=LabelSelector(match_labels={"at": "a"}))
    other = msgspec.structs.replace(spec, selector=LabelSelector(match_labels={"at": "b"}))
    a, b = service("a", generated=False, spec=spec), service("b", generated=False, created="2", spec=other)
    pods = [pod("p1", labels={"at": "a"}), pod("p2", labels={"at": "b"})]
    world = World(pods, [a, b]).settle()
    world.pods = {"p1": pod("p1", labels={"at": "b"}), "p2": pod("p2", labels={"at": "a"})}
    both = listed(world)
    try_writes(world, lambda _: False, always=both)
    assert world.listed() == {"a": ["p2"], "b": ["p1"]}

    world.pods = {pod.name: pod for pod in pods}
    try_writes(world, writes_of("b"), always=both)
    assert world.listed() == {"a": ["p1", "p2"], "b": ["p1"]}


def test_a_pod_that_has_outgrown_its_object_stays_with_what_there_is_room_for():
    world = World([verbose(f"p{n}", ROWS_BYTES // 5) for n in range(3)]).settle()
    replace_pods(world, *echo(1), verbose("p2", 4 * ROWS_BYTES // 5))
    world.pods["p0"] = verbose("p0", ROWS_BYTES // 2)
    try_writes(world, creates)

    rows = {row.pod_name: len(str(row.metadata)) for row in world.services["echo"].status.endpoints}
    assert rows.keys() == {"p0", "p1", "p2"}
    assert rows["p2"] < ROWS_BYTES // 4


def test_what_removes_comes_first_where_something_was_refused_before():
    world = World(echo(1, 2, 3)).settle()
    replace_pods(world, *echo(3, 4, 5, 6))
    _, refused_first = try_writes(world, lambda _: True)
    assert [type(op) for op in refused_first][:2] == [Create, SetStatus]

    (first, *_), _ = try_writes(world, creates, wary=True)
    assert [row.pod_name for row in first.status.endpoints] == ["p3"]


def test_what_removes_nothing_does_not_come_first():
    """The first status of a new object, say, before its pod has an address."""
    world = World(echo(1), [service("echo", generated=True)])
    first, *_ = Writes(world.plan(), SETTINGS, NOW, wary=True)
    assert adds(first)


def test_after_a_slow_refusal_what_removes_is_written_and_nothing_that_adds():
    world = World(echo(1, 2, 3, 4, 5)).settle()
    replace_pods(world, *echo(2, 3, *range(5, 20)))
    writes = Writes(world.plan(), SETTINGS, NOW)
    for number, op in enumerate(writes):
        if number == 0:
            writes.refused(slow=True)
        else:
            assert not creates(op)
            assert not adds(op)
            world.apply(op)

    assert sorted(world.listed().values()) == [["p2", "p3"], ["p5"]]


def test_many_creates_that_are_refused_are_not_all_tried():
    world = World(echo(1)).settle()
    world.pods = {pod.name: pod for pod in echo(*range(200))}
    _, refused = try_writes(world, creates)

    assert len(refused) == MOST_REFUSED_CREATES
    assert len(world.services["echo"].status.endpoints) == 3


def test_what_could_not_be_listed_is_known():
    world = World(echo(1, 2, 3)).settle()
    replace_pods(world, *echo(1, 2, 3, 4, 5))
    writes = Writes(world.plan(), SETTINGS, NOW)
    for op in writes:
        assert isinstance(op, Create)
        writes.refused()

    assert {row.pod_name for row in writes.unlisted.values()} == {"p4", "p5"}


@pytest.mark.parametrize(
    ("pods", "newest"),
    [
        pytest.param([], [], id="none"),
        pytest.param(
            [pod("a", "echo", started_at="2026-01-01"), pod("b", "echo", started_at="2026-01-02")],
            ["b", "a"],
            id="the last that started first",
        ),
        pytest.param(
            [pod("a", "echo", started_at="2026-01-01"), pod("b", "echo")], ["b", "a"], id="not started yet"
        ),
        pytest.param(
            [pod("a", "other"), pod("b", "echo"), pod("c", "echo", phase="Failed")],
            ["b"],
            id="who names the service",
        ),
        pytest.param([pod("selected")], ["selected"], id="who is selected"),
    ],
)
def test_the_newest_pods_of_a_service(pods, newest):
    assert [pod.name for pod in newest_of("echo", pods, {"uid-selected"})] == newest


ports = st.lists(st.sampled_from([None, 1, 2]), max_size=2, unique=True)
two_ports = st.builds(
    lambda name, ports: pod(
        name, declarations=tuple(Declaration(service_name="echo", port=port) for port in ports)
    ),
    st.sampled_from([f"q{n}" for n in range(6)]),
    ports,
)
worlds = st.tuples(pods_strategy, st.lists(two_ports, unique_by=lambda pod: pod.name)).map(
    lambda both: [*both[0], *both[1]]
)


@given(
    before=worlds,
    after=worlds,
    declared=st.booleans(),
    declares=st.booleans(),
    refused_names=st.sets(st.integers(0, 5)),
    refuses_creates=st.booleans(),
    only_additions=st.booleans(),
    wary=st.booleans(),
)
def test_whatever_is_refused_no_pod_is_lost_and_none_that_is_gone_stays(
    before, after, declared, declares, refused_names, refuses_creates, only_additions, wary
):
    world = World(before, [service("old", generated=False)] if declared else []).settle()
    replace_pods(world, *after)
    if declares:
        takes_over(world, spec=RpcServiceSpec(service_name="echo"))
    if declares and declared:
        del world.services["old"]  # and what it listed with it
    numbers = {name: number for number, name in enumerate(sorted(world.services))}
    before_any = listed(world)

    end = World(after, list(world.services.values()))
    end.absences = world.absences
    wanted = listed(end.settle())

    def refuses(op: Op) -> bool:
        match op:
            case Create():
                return refuses_creates
            case SetStatus(service):
                is_named = numbers.get(service.name, 0) in refused_names
                return is_named and (adds(op) or not only_additions)
        return False

    for number in range(3):
        made, _ = try_writes(world, refuses, wary=wary or number > 0, always=before_any & wanted)
    assert made == [], "the same refusals, and still something to write"
    for name, found in world.services.items():
        is_refused = numbers.get(name, 0) in refused_names and not only_additions
        assert is_refused or places(found.status) <= wanted
    assert listed(world.settle()) == wanted
