"""How an informer follows a server that is late, repeats itself, forgets, refuses or breaks off."""

import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcregistry.errors import Expired, Rejected, Retry, Unknown
from rpcregistry.logs import Line
from rpcregistry.model import ObjectKey
from rpcregistry.runtime.store import Change, Store
from rpcregistry.watch import Applied, Bookmark, Deleted, Listing, Unreadable
from tests.worlds.informer import BROKEN, LONG, Answer, Server, Thing

GONE = Expired("too old resource version")


def listing(version: int, *things: Thing, unreadable: tuple[Unreadable, ...] = ()) -> Listing[Thing]:
    return Listing(list(things), list(unreadable), version)


def unreadable(name: str, version: int, uid: str = "1") -> Unreadable:
    return Unreadable(ObjectKey("default", name), uid, "containers: null", version)


def deleted(name: str, version: int, uid: str = "1") -> Deleted:
    return Deleted(ObjectKey("default", name), uid, version)


A, B = Thing("a"), Thing("b")
BLUE = Thing("a", "blue")


# The ordinary day


def test_it_lists_and_then_watches_from_there() -> None:
    server = Server(listing(5, A), [Applied(BLUE, 6), Applied(B, 7), deleted("b", 8)])
    informer = server.run()
    assert server.requests[:2] == ["list", "watch 5"]
    assert server.changes == [
        Change(None, A, listed=True),
        Change(A, BLUE),
        Change(None, B),
        Change(B, None),
    ]
    assert server.held == {BLUE}
    assert informer.store.indexed("colour", "blue") == [BLUE]
    assert informer.store.indexed("colour", "red") == []
    assert informer.filled.is_set()
    assert server.listed == 1


def test_a_long_watch_that_ends_is_resumed_at_once_after_its_last_event() -> None:
    server = Server(listing(5, A), [Applied(B, 6), Bookmark(9), LONG], [])
    server.run()
    assert server.requests[:4] == ["list", "watch 5", "newest", "watch 9"]
    assert server.pauses[0] == 0
    assert server.restarts[0] == "ended"


def test_a_list_is_repeated_now_and_then_and_tells_only_what_differs() -> None:
    server = Server(listing(5, A, B), [4000.0], listing(90, A, Thing("b", "blue")))
    server.run()
    assert server.requests[:3] == ["list", "watch 5", "list"]
    assert server.changes[2:] == [Change(B, Thing("b", "blue"), listed=True)]
    assert server.listed == 2


def test_what_does_not_change_the_object_is_not_told() -> None:
    server = Server(listing(5, A), [Applied(A, 6)])
    server.run()
    assert server.changes == [Change(None, A, listed=True)]


def test_the_store_is_swapped_before_the_changes_of_a_list_are_told() -> None:
    server = Server(listing(5, A), [GONE], listing(9, BLUE, B))
    server.run()
    assert server.held_at_changes == [{A}, {BLUE, B}, {BLUE, B}]


# Watches that end


@pytest.mark.parametrize(
    ("watch", "request_after", "reason"),
    [
        pytest.param(
            [Applied(B, 6), BROKEN], "watch 6", "broken", id="A4: a connection that broke is resumed"
        ),
        pytest.param([Applied(B, 6), Retry("429", 7.0)], "watch 6", "throttled", id="A9: 429 LISTs nothing"),
        pytest.param([Applied(B, 6)], "watch 6", "ended", id="A5: a watch that ended early is resumed"),
        pytest.param([Applied(B, 6), GONE], "list", "expired", id="A6: 410 in the stream LISTs again"),
        pytest.param(GONE, "list", "expired", id="A7: 410 to the request LISTs again"),
        pytest.param([Bookmark(4)], "list", "expired", id="F7: a bookmark that goes back LISTs again"),
        pytest.param([Rejected("no")], "watch 5", "refused", id="a refused watch is asked for again"),
    ],
)
def test_after_a_watch_it_goes_on(watch: Answer, request_after: str, reason: str) -> None:
    server = Server(listing(5, A), watch)
    server.run()
    assert [request for request in server.requests if request != "newest"][2] == request_after
    assert server.restarts == [reason]


def test_a_server_that_ends_each_watch_at_once_is_asked_ever_more_slowly() -> None:
    server = Server(listing(5, A), *[[] for _ in range(6)])
    server.run()
    expected = [1.6, 3.2, 6.4, 10, 10, 10]
    assert all(full / 2 <= pause <= full for pause, full in zip(server.pauses, expected, strict=True))


def test_a_long_watch_makes_the_pauses_short_again() -> None:
    server = Server(listing(5, A), [BROKEN], [BROKEN], [BROKEN], [LONG, BROKEN])
    server.run()
    assert server.pauses[2] > 3
    assert 0.8 <= server.pauses[3] <= 1.6


def test_the_time_that_the_server_names_is_waited() -> None:
    server = Server(Retry("429", 7.0), listing(5))
    server.run()
    assert server.pauses[0] == 7


def test_410_after_a_long_watch_lists_once_and_at_once_and_tells_the_difference() -> None:
    server = Server(listing(5, A, B), [LONG, GONE], listing(90, B, Thing("c")), [])
    server.run()
    assert server.requests == ["list", "watch 5", "list", "watch 90", "newest", "watch 90"]
    assert server.pauses[0] == 0
    assert set(server.changes[2:]) == {Change(A, None, listed=True), Change(None, Thing("c"), listed=True)}


def test_410_that_comes_every_time_does_not_make_it_list_without_pause() -> None:
    server = Server(listing(5), [GONE], listing(6), [GONE], listing(7), [GONE])
    server.run()
    assert server.pauses[0] == 0
    assert min(server.pauses[1:]) >= 0.8


def test_410_after_an_outage_lists_at_once() -> None:
    server = Server(listing(5), [BROKEN], BROKEN, BROKEN, BROKEN, [GONE], listing(9))
    server.run()
    assert server.pauses[3] > 3
    assert server.pauses[4] == 0


# Events that should not be


def test_repeated_and_older_events_change_nothing() -> None:
    server = Server(
        listing(5, A),
        [Applied(BLUE, 6), Applied(A, 5), Applied(BLUE, 6), deleted("a", 7), Applied(BLUE, 6), Applied(A, 5)],
    )
    server.run()
    assert server.changes[1:] == [Change(A, BLUE), Change(BLUE, None)]


def test_the_end_of_an_object_does_not_touch_the_next_one_of_its_name() -> None:
    server = Server(listing(5, Thing("a", uid="2")), [deleted("a", 6, uid="1")])
    server.run()
    assert server.held == {Thing("a", uid="2")}


def test_an_object_that_was_made_again_unseen_is_one_change_with_two_uids() -> None:
    server = Server(listing(5, A), [GONE], listing(9, Thing("a", uid="2")))
    server.run()
    assert server.changes[1:] == [Change(A, Thing("a", uid="2"), listed=True)]


def test_an_object_that_cannot_be_read_stays_as_it_last_could() -> None:
    server = Server(
        listing(5, A, B),
        [unreadable("a", 6), GONE],
        listing(9, B, unreadable=(unreadable("a", 8), unreadable("never read", 8))),
        [Applied(Thing("b", "blue"), 10), LONG],
        [Applied(BLUE, 11)],
    )
    server.run()
    assert server.held == {BLUE, Thing("b", "blue")}
    assert server.changes[2:] == [Change(B, Thing("b", "blue")), Change(A, BLUE)]


def test_an_object_that_cannot_be_read_is_not_taken_for_an_older_one_of_its_name() -> None:
    server = Server(listing(5, A), [GONE], listing(9, unreadable=(unreadable("a", 8, uid="2"),)))
    server.run()
    assert server.held == set()


def test_an_object_that_could_not_be_read_is_dropped_when_it_is_deleted() -> None:
    server = Server(listing(5, A), [unreadable("a", 6), deleted("a", 7)])
    server.run()
    assert server.held == set()


def test_an_event_that_cannot_be_read_at_all_is_passed_over() -> None:
    nameless = Unreadable(ObjectKey("", ""), "", "not even a name", 0)
    server = Server(listing(5, A), [nameless], [nameless, Applied(B, 6)])
    server.run()
    assert server.held == {A, B}
    assert server.requests[:4] == ["list", "watch 5", "newest", "watch 5"]


def test_what_cannot_be_read_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(
        listing(5), [unreadable("a", 6), unreadable("a", 7), Unreadable(A.key, "1", "another", 0)]
    )
    server.run()
    lines = [record.msg for record in caplog.records if isinstance(record.msg, Line)]
    assert [line.fields["reason"] for line in lines if line.event == "unreadable"] == [
        "containers: null",
        "another",
    ]


AWAY = Retry("connection refused")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param([AWAY] * 9, ["connection refused"], id="an outage, once"),
        pytest.param(
            [AWAY, AWAY, BROKEN, BROKEN, AWAY],
            ["connection refused", "connection reset", "connection refused"],
            id="each change of its reason",
        ),
        pytest.param(
            [listing(5), *[[BROKEN]] * 5], ["connection reset"], id="a server that breaks off each watch"
        ),
        pytest.param(
            [AWAY, listing(5), [LONG, BROKEN], [LONG, Bookmark(6), BROKEN]],
            ["connection refused", "connection reset", "watch goes on", "connection reset"],
            id="after a watch that lasted, anew",
        ),
    ],
)
def test_why_a_watch_is_interrupted_is_logged_at_each_change(
    script: list[Answer], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    server = Server(*script)
    server.run()
    lines = [record.msg for record in caplog.records if isinstance(record.msg, Line)]
    assert [line.fields.get("reason", line.event) for line in lines] == said


# What is unknown


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 page not found"])
def test_a_source_that_refuses_is_unknown_and_the_store_stays(status: str) -> None:
    server = Server(listing(5, A), [GONE], Unknown(status), Unknown(status), listing(9, B))
    server.run()
    assert server.unknown_at_pauses == [None, status, status]
    assert server.informer.unknown is None
    assert server.changes[1:] == [Change(A, None, listed=True), Change(None, B, listed=True)]


def test_a_source_that_refuses_from_the_start_is_unknown_and_not_filled() -> None:
    server = Server(Unknown("403 Forbidden"))
    informer = server.run()
    assert informer.unknown == "403 Forbidden"
    assert not informer.filled.is_set()
    assert server.listed == 0


def test_a_source_that_refuses_after_a_watch_is_unknown_until_a_watch_is_accepted() -> None:
    server = Server(listing(5, A), [LONG], Unknown("403 Forbidden"), [])
    server.run()
    assert server.requests == ["list", "watch 5", "newest", "newest", "watch 5", "newest", "watch 5"]
    assert server.restarts == ["ended", "refused", "ended"]
    assert server.informer.restarts == {"ended": 2, "refused": 1}
    assert server.informer.unknown is None
    assert server.listed == 2, "what was left undone meanwhile is to be looked at again"


def test_a_restored_server_is_noticed_before_a_watch_that_would_be_silent_for_ever() -> None:
    server = Server(listing(50, A), [LONG, BROKEN], 20, listing(20, B), [])
    server.run()
    assert server.requests[:5] == ["list", "watch 50", "newest", "list", "watch 20"]
    assert server.went_back == ["things: the server's resourceVersion went back from 50 to 20"]
    assert server.held == {B}
    assert server.informer.highest == 20, "its present number is the record now"


def test_a_server_that_was_restored_while_nobody_watched_is_noticed_by_what_was_noted() -> None:
    server = Server(listing(20, A), [])
    server.floor = 50
    server.run()
    assert server.went_back == ["things: the server's resourceVersion went back from 50 to 20"]

    server = Server(listing(20, A), [LONG, BROKEN], 30, [])
    server.floor = 20
    informer = server.run()
    server.script = [25]
    informer.reach(20)
    assert server.went_back == []
    informer.reach(26)
    assert server.went_back == ["things: the server's resourceVersion went back from 26 to 25"]


@pytest.mark.parametrize(
    ("own", "told"),
    [
        pytest.param(4, ["things: default/a went back from resourceVersion 7 to 4"], id="older than it was"),
        pytest.param(7, [], id="as it was"),
        pytest.param(9, [], id="newer"),
    ],
)
def test_an_object_that_is_older_than_it_was_shows_a_restored_server_whose_counter_was_raised(
    own: int, told: list[str]
) -> None:
    restored = msgspec.structs.replace(listing(1000, A), versions=[own])
    server = Server(listing(5, A), [Applied(BLUE, 7), GONE], restored, [])
    server.run()
    assert server.went_back == told
    assert server.held == {A}
    assert server.checks == 1, "what shows it sooner is read before a LIST is believed"


def test_a_list_that_was_made_before_our_own_write_shows_no_restored_server() -> None:
    written = version(BLUE, 10)

    def list_while_we_write() -> Listing[Thing]:
        server.informer.observe(written)
        return msgspec.structs.replace(listing(9, A), versions=[4])

    server = Server(listing(5, A), [GONE], list_while_we_write, [])
    server.run()
    assert (server.went_back, server.held) == ([], {written})


# Our own writes


def version(thing: Thing, resource_version: int) -> Thing:
    return msgspec.structs.replace(thing, resource_version=str(resource_version))


def test_our_own_write_is_taken_in_at_once_and_told_once() -> None:
    before, written = version(A, 4), version(BLUE, 8)
    server = Server(
        listing(5, before),
        [lambda: server.informer.observe(written), Applied(version(A, 7), 7), Applied(written, 8)],
    )
    server.run()
    assert server.held == {written}
    assert server.changes[1:] == [Change(before, written, ours=True)]


def test_our_own_write_does_not_bring_back_what_was_deleted_since() -> None:
    written = version(BLUE, 8)
    server = Server(listing(5, A), [deleted("a", 9), lambda: server.informer.observe(written)])
    server.run()
    assert server.held == set()


def test_our_own_write_is_not_lost_to_a_list_that_was_made_before_it() -> None:
    written = [version(BLUE, 10), version(B, 11)]

    def list_while_we_write() -> Listing[Thing]:
        for thing in written:
            server.informer.observe(thing)
        return listing(9, A)

    server = Server(listing(5, A), [GONE], list_while_we_write, [])
    informer = server.run()
    assert server.held == set(written)
    assert informer.unknown is None
    assert server.went_back == []


# The second look


def test_a_second_look_asks_the_server_and_takes_in_what_the_store_lacks() -> None:
    server = Server(listing(5, A), [])
    server.run()
    server.script = [listing(9, B, unreadable=(unreadable("a", 8),))]
    assert server.informer.second_look() == [B, A]
    assert server.held == {A, B}
    server.script = [listing(10)]
    assert server.informer.second_look() == []
    assert server.held == {A, B}


@pytest.mark.parametrize(
    ("found", "lacked"),
    [
        pytest.param(version(B, 4), True, id="older than the watch"),
        pytest.param(version(B, 9), False, id="its event comes"),
        pytest.param(version(A, 4), False, id="in the store"),
    ],
)
def test_what_a_list_lacked(found: Thing, lacked: bool) -> None:
    server = Server(listing(5, A), [])
    server.run()
    assert server.informer.lacks(found) == lacked


def test_a_second_look_that_the_watch_overtakes_takes_in_what_was_not_deleted_since() -> None:
    gone, late_comer = Thing("b", uid="2"), Thing("c", uid="3")
    asked, overtaken = threading.Event(), threading.Event()

    def late() -> Listing[Thing]:
        asked.set()
        assert overtaken.wait(30)
        return listing(7, A, gone)

    def begin() -> None:
        look.start()
        assert asked.wait(30)

    def end() -> None:
        overtaken.set()
        look.join()

    server = Server(listing(5), [begin, Deleted(gone.key, gone.uid, 8), Applied(late_comer, 9), end], late)
    look = threading.Thread(target=server.informer.second_look)
    assert set(server.run().store.values()) == {A, late_comer}


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        pytest.param([Unknown("403")], None, id="while the source is unknown"),
        pytest.param([listing(5, A), []], Unknown("403"), id="when it is refused itself"),
        pytest.param([listing(5, A), []], listing(4), id="when the server was restored"),
    ],
)
def test_a_second_look_fails(script: list[Answer], answer: Answer | None) -> None:
    server = Server(*script)
    server.run()
    server.script = [answer] if answer else []
    with pytest.raises(Unknown):
        server.informer.second_look()


# The thread and the store


def test_a_mistake_of_ours_is_not_swallowed() -> None:
    server = Server(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        server.informer.run()


THINGS = st.builds(
    Thing, name=st.sampled_from("abc"), colour=st.sampled_from(["red", "blue"]), uid=st.sampled_from("12")
)
WRITES = st.one_of(
    st.tuples(st.just("put"), THINGS),
    st.tuples(st.just("remove"), THINGS),
    st.tuples(st.just("list"), st.sets(THINGS)),
)


@given(st.lists(WRITES, max_size=12))
def test_the_changes_and_the_indexes_tell_what_the_store_holds(writes: list[tuple[str, object]]) -> None:
    store: Store[Thing] = Store({"colour": lambda thing: [thing.colour]})
    told: dict[ObjectKey, Thing] = {}
    for version, (write, subject) in enumerate(writes, start=1):
        changes: list[Change[Thing] | None] = []
        match write, subject:
            case "put", Thing() as thing:
                changes = [store.put(thing, version)]
            case "remove", Thing() as thing:
                changes = [store.remove(thing.key, thing.uid)]
            case _, set(things):
                items = {thing.key: thing for thing in things}
                changes = list(store.replace(items, dict.fromkeys(items, version), {}))
                assert set(store.values()) == set(items.values())
        for change in filter(None, changes):
            assert change.old != change.new
            for thing in filter(None, [change.old]):
                assert told.pop(thing.key) == thing
            for thing in filter(None, [change.new]):
                told[thing.key] = thing
        assert {thing.key: thing for thing in store.values()} == told
        assert len(store) == len(told)
        for colour in ("red", "blue"):
            assert {*store.indexed("colour", colour)} == {t for t in told.values() if t.colour == colour}


def test_what_the_store_returns_is_the_callers_own() -> None:
    store: Store[Thing] = Store({"colour": lambda thing: [thing.colour]})
    store.put(A, 1)
    store.values().clear()
    store.indexed("colour", "red").clear()
    assert store.values() == store.indexed("colour", "red") == [A]
