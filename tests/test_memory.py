"""Whether the API server counts as restored, through the end of a process."""

import pytest

from rpcregistry.model import RELEASE, RESTORED, Pod
from rpcregistry.plan.restored import Record
from rpcregistry.reconcile.memory import Memory
from rpcregistry.reconcile.withdrawn import Withdrawn
from rpcregistry.runtime.store import Change
from tests.builders import pod
from tests.worlds import NotesInMemory

RECORD = Record({"pods": 50}, "lease-uid", 40)
GONE_BACK = "pods: the server's resourceVersion went back from 50 to 20"


def memory(notes: NotesInMemory | None = None) -> Memory:
    kept = notes or NotesInMemory()
    return Memory(kept, Withdrawn(kept, lambda: None))


def judged(record: Record = RECORD, before: tuple[str, int] | None = None) -> Memory:
    made = memory()
    made.judge(record, before, {})
    made.compared()
    return made


def shown(number: int, listed: bool = False) -> Change[Pod]:
    return Change(None, pod(number), listed=listed)


def test_nothing_is_confirmed_before_the_heartbeat_was_read():
    made = memory()
    assert (made.holds, made.restored, made.floor("pods")) == (True, "", 0)
    made.judge(RECORD, None, {})
    assert (made.holds, made.restored, made.floor("pods"), made.floor("nodes")) == (True, "", 50, 0)
    made.compared()
    assert made.holds is False


@pytest.mark.parametrize(
    ("before", "restored"),
    [
        pytest.param(("lease-uid", 39), "the Lease went back from resourceVersion 40 to 39", id="behind"),
        pytest.param(("lease-uid", 40), "", id="as it was written"),
        pytest.param(("lease-uid", 41), "", id="written since"),
        pytest.param(("another", 3), "", id="another one of its name"),
        pytest.param(None, "", id="none"),
    ],
)
def test_the_lease_before_it_was_taken_over_shows_a_restored_server(before, restored):
    assert judged(before=before).restored == restored


@pytest.mark.parametrize("where", ["heartbeat", "Lease"])
def test_a_server_counts_as_restored_until_a_person_says_otherwise(where: str):
    notes = NotesInMemory()
    made = memory(notes)
    record = Record(RECORD.versions, restored=GONE_BACK) if where == "heartbeat" else RECORD
    made.note_word("old")
    made.judge(record, None, {RESTORED: GONE_BACK} if where == "Lease" else {})
    made.compared()
    assert (made.restored, made.holds, notes.annotations) == (GONE_BACK, True, {RESTORED: GONE_BACK})
    for word in ("old", "", "new echo"):
        made.note_word(word)
        assert made.restored == GONE_BACK, word
    made.note_word("new")
    assert (made.restored, made.holds, made.accepted, notes.annotations) == ("", False, 1, {})
    assert made.record(Record({"pods": 21}, "lease-uid", 9)) == Record({"pods": 21}, "lease-uid", 9)


def test_a_word_that_comes_back_with_the_lease_is_no_new_one():
    notes = NotesInMemory()
    made = memory(notes)
    made.judge(RECORD, None, {})
    made.note_word("second")
    notes.annotations = {RELEASE: "first"}
    made.went_back("the Lease went back")
    made.note_word("first")
    assert made.restored == "the Lease went back"
    made.note_word("third")
    assert made.restored == ""


def test_the_first_word_that_is_read_is_an_old_one():
    made = judged(Record(restored=GONE_BACK))
    made.note_word("of yesterday")
    assert made.restored == GONE_BACK


def test_the_record_grows_and_stands_still_while_the_server_counts_as_restored():
    made = judged()
    assert made.record(Record({"pods": 45, "nodes": 7}, "lease-uid", 48)) == Record(
        {"pods": 50, "nodes": 7}, "lease-uid", 48
    )
    made.went_back(GONE_BACK)
    later = made.record(Record({"pods": 21, "nodes": 70}, "lease-uid", 9))
    assert later == Record({"pods": 50, "nodes": 7}, "lease-uid", 48, restored=GONE_BACK)


def test_pods_are_shown_by_watch_events_since():
    made = judged()
    made.note_pod(shown(1))
    made.went_back(GONE_BACK)
    made.note_pod(shown(2))
    made.note_pod(shown(3, listed=True))
    made.note_pod(Change(pod(4), None))
    assert [made.is_shown(pod(number).uid) for number in (1, 2, 3, 4)] == [False, True, False, True]


def test_a_new_process_counts_what_watch_events_showed_before_it_led():
    made = memory()
    made.note_pod(shown(1))
    made.note_pod(shown(2))
    made.note_pod(Change(pod(2), None))
    made.judge(Record(restored=GONE_BACK), None, {})
    assert [made.may_publish(pod(number).uid) for number in (1, 2)] == [True, False]


@pytest.mark.parametrize("compared", [True, False])
def test_who_was_known_before_may_be_published_again(compared: bool):
    """If a process began after the restore, what it read is of the restored server."""
    made = memory()
    made.follow(lambda: [pod(1)])
    made.judge(RECORD, None, {})
    if compared:
        made.compared()
    made.went_back(GONE_BACK)
    assert made.may_publish(pod(1).uid) is compared
    assert not made.is_shown(pod(1).uid)
