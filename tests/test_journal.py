"""The journal: a change's clock stops however the change ends."""

from collections.abc import Sequence

import pytest

from rpcregistry.errors import Conflict, Partial, Rejected, Retry
from rpcregistry.model import Problem, ServiceKey
from rpcregistry.plan.journal import Ending, Entry, Waits
from rpcregistry.plan.outcome import Outcome
from rpcregistry.run.journal import MOST, Journal
from tests.worlds import Clock

ECHO = ServiceKey("default", "echo")
DONE = Outcome()
REFUSED = Outcome(refusal=Problem("OwnedElsewhere", "another's"))
PUT_OFF = Outcome(requeue=True)


class Book:
    """A journal, its clock, and what it told."""

    def __init__(self, *layouts: str) -> None:
        self.clock = Clock()
        self.told: list[Entry] = []
        self.layouts = layouts or ("kube2zk",)
        self.journal = Journal(self.layouts, self.told.append, self.clock)

    def seen(self, key: ServiceKey = ECHO) -> None:
        self.journal.seen([key])

    def look(self, key: ServiceKey = ECHO, *, lists: bool = True, error: Exception | None = None) -> None:
        """A look of the pod controller, which writes a status or fails."""
        with self.journal.looking(key):
            self.clock.sleep(1)
            if lists:
                self.journal.listed([key])
            if error:
                raise error

    def write(self, *outcomes: Outcome, wrote: Sequence[str] = ()) -> None:
        self.clock.sleep(2)
        self.journal.begun(["echo"])
        self.clock.sleep(4)
        for layout in wrote:
            self.journal.written("echo", layout)
        self.journal.concluded("echo", list(zip(self.layouts, outcomes, strict=True)))

    @property
    def endings(self) -> list[tuple[str, Ending, float]]:
        return [(entry.layout, entry.ending, entry.seconds) for entry in self.told]


def test_a_written_change_has_its_three_parts():
    book = Book()
    book.seen()
    book.look()
    book.write(DONE, wrote=["kube2zk"])

    (entry,) = book.told
    assert (entry.service, entry.layout, entry.ending) == ("echo", "kube2zk", Ending.WRITTEN)
    assert (entry.status, entry.wait, entry.write, entry.seconds) == (1, 2, 4, 7)
    assert book.journal.oldest() is None


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [
        pytest.param(DONE, Ending.NOTHING, id="nothing to write"),
        pytest.param(REFUSED, Ending.REFUSED, id="refused by the plan"),
    ],
)
def test_a_change_without_a_write_ends_and_the_next_one_begins_anew(outcome: Outcome, ending: Ending):
    book = Book()
    book.seen()
    book.look()
    book.write(outcome)
    book.clock.sleep(3600)
    book.seen()
    book.look()
    book.write(DONE, wrote=["kube2zk"])

    assert book.endings == [("kube2zk", ending, 3), ("kube2zk", Ending.WRITTEN, 7)]


def test_a_change_that_no_status_shows_ends_with_the_look():
    book = Book()
    book.seen()
    book.look(lists=False)

    assert book.endings == [("", Ending.NOTHING, 1)]
    assert book.journal.oldest() is None


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        pytest.param(Rejected("no"), True, id="refused"),
        pytest.param(Partial("no", 1.0, rejected=True), True, id="a quota"),
        pytest.param(Partial("late", 1.0), False, id="no answer"),
        pytest.param(Conflict("changed"), False, id="a conflict"),
        pytest.param(Retry("away"), False, id="away"),
    ],
)
def test_a_status_that_cannot_be_written_ends_it_only_if_it_is_refused(error: Exception, ends: bool):
    book = Book()
    book.seen()
    began = book.clock.seconds
    with pytest.raises(type(error)):
        book.look(lists=False, error=error)

    assert book.endings == ([("", Ending.REFUSED, 1)] if ends else [])
    assert book.journal.oldest() == (None if ends else Waits(began, "echo", listed=False))


@pytest.mark.parametrize("refused", [True, False])
def test_a_failed_write_ends_it_only_if_it_is_refused(refused: bool):
    book = Book()
    book.seen()
    book.look()
    book.journal.begun(["echo"])
    book.journal.failed("echo", refused=refused)
    assert [ending for _, ending, _ in book.endings] == ([Ending.REFUSED] if refused else [])

    book.write(DONE, wrote=["kube2zk"])
    assert [ending for _, ending, _ in book.endings] == [Ending.REFUSED if refused else Ending.WRITTEN]
    if not refused:
        assert book.told[0].seconds == 7  # the wait counts: clients had to wait


def test_each_layout_ends_by_itself_and_what_is_put_off_later():
    book = Book("kube2zk", "dubbo", "sofa")
    book.seen()
    book.look()
    book.write(DONE, REFUSED, PUT_OFF, wrote=["kube2zk", "sofa"])
    assert book.endings == [("kube2zk", Ending.WRITTEN, 7), ("dubbo", Ending.REFUSED, 3)]

    book.write(DONE, REFUSED, DONE, wrote=["sofa"])
    assert book.endings[2:] == [("sofa", Ending.WRITTEN, 13)]
    assert book.journal.oldest() is None


def test_a_change_that_comes_during_a_write_is_another_one():
    book = Book()
    book.seen()
    book.look()
    book.journal.begun(["echo"])
    book.seen()
    book.look()
    book.journal.written("echo", "kube2zk")
    book.journal.concluded("echo", [("kube2zk", DONE)])
    book.write(DONE, wrote=["kube2zk"])

    assert book.endings == [("kube2zk", Ending.WRITTEN, 2), ("kube2zk", Ending.WRITTEN, 7)]


def test_changes_before_the_write_are_one_that_began_with_the_first():
    book = Book()
    book.seen()
    book.look()
    book.clock.sleep(10)
    book.seen()
    book.look()
    book.write(DONE, wrote=["kube2zk"])

    assert book.endings == [("kube2zk", Ending.WRITTEN, 18)]


def test_a_new_leader_times_nothing_that_another_wrote():
    book = Book()
    book.seen()
    book.look()
    book.journal.begin()
    book.write(DONE, wrote=["kube2zk"])

    assert book.endings == []


def test_it_keeps_the_last_endings_only():
    book = Book()
    for _ in range(MOST + 5):
        book.seen()
        book.look(lists=False)

    assert len(book.journal.entries()) == MOST
    assert book.journal.entries()[0] == book.told[-1]
    assert book.journal.entries("other") == []
