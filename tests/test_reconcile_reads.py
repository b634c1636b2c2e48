"""Reads of one object that the API server refuses: what rests on them stays, all else is done."""

import pytest

from rpcregistry.errors import Failure, Partial, Rejected, Retry, Unknown
from rpcregistry.model import Declaration, Node, ObjectKey, ServiceKey
from rpcregistry.plan.silence import LEAST
from rpcregistry.reconcile.reads import Reads, Unread
from rpcregistry.reconcile.registration import DENIED_FOR, MOST_DENIED, Registration
from rpcregistry.reconcile.troubles import FIRST_PAUSE, LONGEST_PAUSE, REPORTED_AFTER
from tests.builders import pod, pod_key
from tests.worlds import Clock, EventsInMemory
from tests.worlds.registry import World

ECHO = ServiceKey("default", "echo")
FAILURES = [
    pytest.param(Unknown("403"), id="403"),
    pytest.param(Retry("429", after=30.0), id="429"),
    pytest.param(Retry("500"), id="500"),
]
UNREAD = Unread("500", FIRST_PAUSE, rejected=False, is_news=False)


# Each read by itself


class Server:
    """Answers, or fails; counts how often it was asked."""

    def __init__(self) -> None:
        self.failure: Failure | None = None
        self.asked = 0

    def answer(self) -> str:
        self.asked += 1
        if self.failure:
            raise self.failure
        return "answer"


def test_a_refused_read_waits_ever_longer_and_costs_no_other():
    clock, server = Clock(), Server()
    reads = Reads(clock)
    assert reads.of("a", server.answer) == "answer"
    server.failure = Retry("500")
    for pause, asked in ((1.0, 2), (2.0, 3), (4.0, 4)):
        with pytest.raises(Unread) as caught:
            reads.of("a", server.answer)
        assert (caught.value.after, server.asked) == (pause, asked)
        clock.seconds += pause / 2
        with pytest.raises(Unread):
            reads.of("a", server.answer)
        assert server.asked == asked
        clock.seconds += pause / 2
    server.failure = None
    assert reads.of("b", server.answer) == "answer"
    assert reads.of("a", server.answer) == "answer"
    server.failure = Retry("500")
    with pytest.raises(Unread) as caught:
        reads.of("a", server.answer)
    assert caught.value.after == FIRST_PAUSE


@pytest.mark.parametrize("failure", FAILURES)
def test_a_refusal_is_news_at_once_and_an_outage_once_it_lasts(failure: Failure):
    clock, server = Clock(), Server()
    reads = Reads(clock)
    server.failure = failure
    with pytest.raises(Unread) as caught:
        reads.of("a", server.answer)
    assert caught.value.is_news == isinstance(failure, Rejected)
    clock.seconds += REPORTED_AFTER
    with pytest.raises(Unread) as caught:
        reads.of("a", server.answer)
    assert caught.value.is_news


def test_reads_that_nobody_repeats_are_forgotten():
    clock, server = Clock(), Server()
    reads = Reads(clock)
    server.failure = Retry("500")
    for number in range(100):
        with pytest.raises(Unread):
            reads.of(number, server.answer)
        clock.seconds += LONGEST_PAUSE
    assert len(reads._refused) < 5


# What rests on them


@pytest.mark.parametrize("failure", FAILURES)
def test_while_a_node_cannot_be_read_its_pods_stay_and_all_else_is_done(failure: Failure):
    world = World()
    world.nodes.put(Node(name="n1", uid="n1", ready=True))
    world.clock.seconds += LEAST  # until then it may be back for a moment only
    world.serve(1, 2, 3)
    world.serve(4, node_name="n2")
    world.settle()
    world.nodes_unread = failure
    world.serve(1, ready=False, silenced=True)
    world.pods.drop(pod_key(2))
    world.serve(3, ready=False)
    world.serve(4, node_name="n2", ready=False)
    world.serve(5)
    with pytest.raises(Partial):
        world.rpcservices.reconcile(ECHO)
    world.keys.clear()
    assert world.settle_except(Partial) == ["10.0.0.1", "10.0.0.5"]

    world.nodes_unread = None
    world.clock.seconds += LONGEST_PAUSE
    world.rpcservices.reconcile(ECHO)
    assert world.settle_except(Partial) == ["10.0.0.5"]


def test_of_many_nodes_that_cannot_be_read_one_is_tried(monkeypatch: pytest.MonkeyPatch):
    world = World()
    for number in range(1, 10):
        world.serve(number, node_name=f"n{number}")
    world.settle()
    asked: list[str] = []

    def fail(name: str) -> None:
        asked.append(name)
        raise Retry("timed out")

    monkeypatch.setattr(world.rpcservices._observer, "_read_node", fail)
    for number in range(1, 10):
        world.serve(number, node_name=f"n{number}", ready=False, silenced=True)
    with pytest.raises(Partial):
        world.rpcservices.reconcile(ECHO)
    assert len(asked) == 1
    world.keys.clear()
    assert len(world.settle_except(Partial) or ()) == 9


def test_while_no_permission_can_be_asked_for_nobody_joins_and_those_who_end_leave():
    world = World()
    world.serve(1, 2, 3)
    world.settle()
    world.reviews_unread = UNREAD
    world.serve(4)
    world.pods.drop(pod_key(1))
    world.serve(2, ready=False)
    with pytest.raises(Partial):
        world.rpcservices.reconcile(ECHO)
    world.keys.clear()
    assert world.settle_except(Partial) == ["10.0.0.3"]

    world.reviews_unread = None
    world.rpcservices.reconcile(ECHO)
    assert world.settle_except(Partial) == ["10.0.0.3", "10.0.0.4"]


def test_a_listed_pod_gets_no_other_port_while_its_permission_is_unknown():
    world = World()
    world.pods.put(pod(1, declarations=(Declaration(service_name="echo", port=80),)))
    world.settle()
    world.reviews_unread = UNREAD
    both = tuple(Declaration(service_name="echo", port=port) for port in (80, 81))
    world.pods.put(pod(1, declarations=both))
    with pytest.raises(Partial):
        world.rpcservices.reconcile(ECHO)
    (service,) = world.services.values()
    assert [row.port for row in service.status.endpoints] == [80]


def test_the_guard_looks_though_no_permission_can_be_asked_for():
    world = World()
    world.serve(1, 2, 3, 4, 5)
    world.settle()
    world.reviews_unread = UNREAD
    world.pods.drop(ObjectKey("default", "p1"), listed=True)
    world.rpcservices.absences.guard.look_once()
    assert "uid-p1" in world.rpcservices.absences.guard.confirmed


@pytest.mark.parametrize(("failure", "told"), [(Unknown("403"), True), (Retry("500"), False)])
def test_an_unknown_permission_is_told_on_the_pod(failure: Failure, told: bool):
    clock, events = Clock(), EventsInMemory()

    def post(method: str, path: str, body: object) -> None:
        raise failure

    registration = Registration(post, events, clock)
    with pytest.raises(Unread):
        registration.may_register(pod(1), "echo")
    assert [(name, problem.reason) for name, problem in events.told] == (
        [("p1", "RegisterUnknown")] if told else []
    )
    clock.seconds += REPORTED_AFTER
    with pytest.raises(Unread):
        registration.may_register(pod(1), "echo")
    assert events.told[-1][1].reason == "RegisterUnknown"


def test_who_may_not_register_is_known_until_they_may():
    clock, allowed = Clock(), [False]
    registration = Registration(lambda *_: {"status": {"allowed": allowed[0]}}, EventsInMemory(), clock)
    assert not registration.may_register(pod(1), "echo")
    clock.seconds += 10 * DENIED_FOR
    assert registration.denied == {("default", "default", "echo")}
    for number in range(MOST_DENIED):
        registration.may_register(pod(1), f"s{number}")
    assert len(registration.denied) == MOST_DENIED
    assert ("default", "default", "echo") not in registration.denied
    allowed[0] = True
    clock.seconds += 10 * DENIED_FOR
    assert registration.may_register(pod(1), "s1")
    assert ("default", "default", "s1") not in registration.denied
