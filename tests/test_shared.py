"""State that two threads touch outside of the reconcilers: each such object, run from two."""

import logging
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import rpcregistry
from rpcregistry.leases import KubeLease
from rpcregistry.manifests import RPCSERVICES
from rpcregistry.model import Lease, ObjectKey, Problem, Regarding, ServiceKey
from rpcregistry.plan.journal import Ending, Entry
from rpcregistry.plan.outcome import Outcome
from rpcregistry.run.dryrun import Diff, DryRunKube
from rpcregistry.run.journal import Journal
from rpcregistry.runtime.crew import Crew
from rpcregistry.runtime.informer import Informer
from rpcregistry.runtime.store import Change, Store
from rpcregistry.runtime.workqueue import Workqueue
from rpcregistry.sdk.subscriptions import Pods, Subscription, Subscriptions
from rpcregistry.telemetry.events import EventRecorder
from rpcregistry.zookeeper.access import OPEN
from rpcregistry.zookeeper.connection import MOST_LINES, _Once
from rpcregistry.zookeeper.reconnect import Attempts
from tests.threads import at_once, step_by_step, twice
from tests.worlds import Clock
from tests.worlds.informer import Server, Thing

ROUNDS = 20


def test_a_crew_waits_for_all_its_threads_whoever_started_them():
    crew = Crew()
    ran: list[int] = []

    def work(me: int) -> None:
        for number in range(ROUNDS):
            crew.start(f"{me}-{number}", lambda: ran.append(1))
            crew.join(0.0, lambda: 0.0)

    twice(work, "crew.py")

    assert crew.join(10.0, lambda: 0.0) == []
    assert len(ran) == 2 * ROUNDS


def test_a_crew_fails_for_one_reason():
    crews = [Crew() for _ in range(ROUNDS)]
    seen: list[list[BaseException | None]] = [[], []]
    both = threading.Barrier(2, timeout=5.0)

    def work(me: int) -> None:
        for crew in crews:
            both.wait()
            crew.fail(ValueError(str(me)))
            seen[me].append(crew.failure)

    twice(work, "crew.py")

    assert seen[0] == seen[1]


def test_what_is_seen_while_a_znode_is_written_is_timed_by_the_next_write():
    ended: list[Entry] = []
    journal = Journal(["kube2zk"], ended.append, Clock())
    key = ServiceKey("default", "echo")
    both = threading.Barrier(2, timeout=5.0)

    def see() -> None:
        for _ in range(ROUNDS):
            both.wait()
            journal.seen([key])
            with journal.looking(key):
                journal.listed([key])

    def write() -> None:
        journal.begun(["echo"])
        journal.written("echo", "kube2zk")
        journal.concluded("echo", [("kube2zk", Outcome())])

    def writes() -> None:
        for _ in range(ROUNDS):
            both.wait()
            write()

    at_once(lambda: step_by_step(see), lambda: step_by_step(writes))
    before = len(ended)
    write()
    write()

    assert len(ended) - before in (0, 1)
    assert 1 <= len(ended) <= ROUNDS
    assert {entry.ending for entry in ended} == {Ending.WRITTEN}
    assert journal.oldest() is None


def test_an_object_that_changes_is_always_found_under_its_index():
    store: Store[Thing] = Store({"all": lambda _: [True], "colour": lambda thing: [thing.colour]})
    store.put(Thing("a"), 1)
    over = threading.Event()

    def write() -> None:
        for number in range(ROUNDS):
            store.put(Thing("a", "red" if number % 2 else "blue"), number + 2)
            store.put(Thing("b", str(number)), number + 2)
            store.remove(ObjectKey("default", "b"), "1")
        over.set()

    def read() -> None:
        while not over.is_set():
            assert "a" in [found.name for found in store.indexed("all", True)]
            assert "a" in [found.name for found in store.values()]
            assert store.get(ObjectKey("default", "a"))

    at_once(lambda: step_by_step(write), lambda: step_by_step(read))

    assert len(store) == 1


def test_changes_are_told_in_the_order_in_which_the_store_took_them():
    told: list[Change[Thing]] = []
    informer: Informer[Thing] = Informer(
        "things",
        Server(),
        {},
        on_change=told.append,
        on_listed=lambda: None,
        on_restart=lambda _: None,
    )

    def work(me: int) -> None:
        for number in range(ROUNDS):
            version = str(2 * number + me + 1)
            informer.observe(Thing("a", colour=version, resource_version=version))

    twice(work)

    olds = [change.old for change in told]
    assert olds == [None, *(change.new for change in told[:-1])]
    assert told[-1].new == informer.store.get(ObjectKey("default", "a"))


def test_keys_that_two_add_are_worked_by_none_of_two_at_once():
    queue: Workqueue[int] = Workqueue(0.0, lambda _: ["default"])
    working: set[int] = set()
    worked: set[tuple[int, int]] = set()
    latest = [0, 0]

    def add() -> None:
        for number in range(1, ROUNDS + 1):
            for key in (0, 1):
                latest[key] = number
                queue.add(key)

    def work() -> None:
        while not worked >= {(0, ROUNDS), (1, ROUNDS)}:
            for key in queue.get(1, 0.01):
                assert key not in working
                working.add(key)
                worked.add((key, latest[key]))
                working.discard(key)
                queue.done(key)

    at_once(add, lambda: step_by_step(work), lambda: step_by_step(work))


class Api:
    """Takes what is written, and gives back objects."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.posted: list[str] = []
        self.annotations: dict[str, str] = {}

    def raw(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        metadata = (body or {}).get("metadata", {})
        with self.lock:
            self.posted.append(metadata.get("name", ""))
            self.annotations |= metadata.get("annotations", {})
            seen = dict(self.annotations)
        return {
            "metadata": {
                "namespace": "ns",
                "name": "rpcregistry",
                "uid": "1",
                "resourceVersion": "1",
                "annotations": seen,
            }
        }


def test_an_event_that_two_record_waits_once():
    api = Api()
    recorder = EventRecorder(api, "me")
    about = Regarding("v1", "Pod", "default", "p", "uid")

    def work(_: int) -> None:
        for number in range(ROUNDS):
            recorder.record(about, Problem("Said", str(number)), "Tell", warning=True)

    twice(work, "telemetry.py")

    assert recorder.waiting == ROUNDS


def test_what_two_have_the_lease_say_is_written_with_its_next_write():
    api = Api()
    lease = KubeLease(api, "ns")

    def annotate() -> None:
        for number in range(ROUNDS):
            lease.annotate(f"a{number % 7}", str(number))
            assert lease.regarding is None or lease.regarding.name == "rpcregistry"

    def write() -> None:
        for _ in range(ROUNDS):
            lease.update(Lease())
            assert lease.annotations is not None

    at_once(lambda: step_by_step(annotate), lambda: step_by_step(write))
    lease.update(Lease())

    wanted = {f"a{number % 7}": str(number) for number in range(ROUNDS)}
    assert {name: value for name, value in api.annotations.items() if name in wanted} == wanted


def test_two_clients_tell_what_comes_of_their_attempts():
    attempts = Attempts("a:1,b:1", OPEN, Clock())

    def work(me: int) -> None:
        for _ in range(ROUNDS):
            assert attempts.next() >= 0.0
            attempts.opened(f"{'ab'[me]}:1")
            attempts.denied("no")
            assert attempts.trouble in ("", "no") or "closes the connection" in attempts.trouble
            attempts.answered()
            attempts.lost()

    twice(work)
    attempts.answered()

    assert attempts.trouble == ""


def test_a_line_of_two_clients_is_logged_once():
    once = _Once()
    passed: list[int] = []
    both = threading.Barrier(2, timeout=5.0)

    def work(_: int) -> None:
        for number in range(MOST_LINES):
            record = logging.LogRecord("kazoo", logging.WARNING, "", 0, f"line {number}", (), None)
            both.wait()
            if once.filter(record):
                passed.append(number)

    twice(work)

    assert passed == list(range(MOST_LINES))


def test_what_a_dry_run_made_is_found_by_all():
    kube = DryRunKube({}, Diff(lambda _: None))

    def work(me: int) -> None:
        for number in range(ROUNDS):
            manifest = {"metadata": {"namespace": "ns", "name": f"a{me}{number}"}, "spec": {}}
            kube.create(RPCSERVICES, "ns", manifest)
            assert kube.patch(RPCSERVICES, ObjectKey("ns", f"a{me}{number}"), {})

    twice(work, "dryrun.py")


@pytest.mark.parametrize("pods", [pytest.param(None, id="all pods"), pytest.param({"p"}, id="one pod")])
def test_a_subscriber_hears_of_what_is_there_last(pods: Pods):
    subscriptions = Subscriptions()
    there = [0]
    told: list[int] = []
    over = threading.Event()

    def look(_: Pods) -> dict[str, dict[int, int]]:
        return {"p": {there[0]: there[0]}}

    def change() -> None:
        subscription = subscriptions.add(Subscription("echo", look, lambda kind, value: told.append(value)))
        for number in range(1, ROUNDS + 1):
            there[0] = number
            subscriptions.changed(["echo"], pods)
        while told[-1:] != [ROUNDS]:
            over.wait(0.001)
        subscription.cancel()
        subscriptions.stop()

    at_once(lambda: step_by_step(change), lambda: step_by_step(subscriptions.run))


def test_each_lock_says_what_it_protects():
    made = re.compile(r"threading\.(R?Lock|Condition)\(\)(?!  # protects )")
    root = Path(rpcregistry.__file__).parent
    silent = {str(file.relative_to(root)) for file in root.rglob("*.py") if made.search(file.read_text())}

    assert silent == set()
