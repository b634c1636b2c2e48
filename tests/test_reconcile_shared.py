"""State that two threads touch: each object of that kind, run from two threads that switch all the time."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from controller.errors import Rejected
from controller.model import NodeServiceKey, ObjectKey, ServiceKey
from controller.reconcile.orphans import Orphans
from controller.reconcile.unwritten import Unwritten
from controller.reconcile.wanted import Wanted
from tests.test_reconcile_nodeservices import World as NodeServices

ROUNDS = 20_000


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(*works: Callable[[], None]) -> None:
    """Run them in threads of their own, to their end."""
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def line_by_line(work: Callable[[], None]) -> None:
    """Run *work*, and let other threads run before each line of a reconciler."""

    def pause(frame: FrameType, event: str, arg: object) -> Any:
        if "/reconcile/" in frame.f_code.co_filename:
            time.sleep(1e-4)
            return pause
        return None

    sys.settrace(pause)
    try:
        work()
    finally:
        sys.settrace(None)


def test_what_is_wanted_last_is_never_forgotten_unseen():
    wanted: Wanted[str, object] = Wanted()
    written: list[object] = []
    values = [object() for _ in range(ROUNDS)]
    over = threading.Event()

    def want() -> None:
        for value in values:
            wanted.want("a", value, 0.0)
        over.set()

    def write() -> None:
        while not over.is_set() or wanted.get("a"):
            found = wanted.get("a")
            if found:
                written.append(found[0])
                wanted.done("a", found[0])

    at_once(want, write)

    assert written[-1] is values[-1]


def test_every_change_is_taken_after_it_was_noted():
    unwritten = Unwritten()
    noted, seen = [0], 0
    over = threading.Event()

    def note() -> None:
        for number in range(1, ROUNDS + 1):
            noted[0] = number
            unwritten.note(["a"], float(number))
        over.set()

    def take() -> None:
        nonlocal seen
        while not over.is_set() or len(unwritten):
            if unwritten.take(["a"]):
                seen = noted[0]  # what a write that begins now would write

    at_once(note, take)

    assert seen == ROUNDS


def test_what_could_not_be_written_has_waited_since_the_earlier_change():
    unwritten = Unwritten()
    unwritten.note(["a", "b"], 1.0)
    taken = unwritten.take(["a", "b", "c"])
    unwritten.note(["a"], 2.0)
    unwritten.put_back({"a": taken["a"]})

    assert (unwritten.since("a", 9.0), unwritten.since("b", 9.0), len(unwritten)) == (1.0, 9.0, 1)


def test_what_is_wanted_instead_has_waited_since_the_first():
    wanted: Wanted[str, str] = Wanted()
    wanted.want("a", "one", 1.0)
    wanted.want("a", "two", 2.0)
    wanted.done("a", "one")

    assert wanted.get("a") == ("two", 1.0)


def test_no_orphan_is_lost_while_others_come_and_go():
    orphans, key = Orphans(), ServiceKey("default", "echo")
    lost: list[str] = []

    def come_and_go(who: str) -> None:
        for number in range(ROUNDS):
            uid = f"{who}{number}"
            orphans.add(key, {uid})
            if uid not in orphans.of(key):
                lost.append(uid)
            orphans.discard(key, {uid})

    at_once(lambda: come_and_go("a"), lambda: come_and_go("b"))

    assert (lost, orphans.of(key)) == ([], frozenset())


def test_a_problem_that_lasts_is_there_whenever_a_status_is_written():
    world = NodeServices(1)
    world.services.drop(ObjectKey("ns", "app-n0"))
    world.server.refuses = Rejected("no")
    over = threading.Event()
    seen: list[bool] = []

    def work() -> None:
        for _ in range(3):
            with suppress(Rejected):
                world.under.reconcile(NodeServiceKey("ns", "app", "n0"))
        over.set()

    def look() -> None:
        while not over.is_set():
            seen.append(bool(world.under.problems(ObjectKey("ns", "app"))))

    with suppress(Rejected):
        world.settle()
    at_once(lambda: line_by_line(work), look)

    assert len(seen) > 10
    assert all(seen)
