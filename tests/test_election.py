"""Who leads: the rules as tables, then processes in a world where time passes only when it is told to."""

import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from rpcregistry.errors import Conflict, Fenced, Rejected, Retry, Unanswered
from rpcregistry.manifests import made, read_lease
from rpcregistry.model import Lease
from rpcregistry.runtime.election import Elector, Lost, Timing, Wait, Write, decide

NEVER = float("inf")
STAMP = "2026-11-21T02:02:02.000000Z"
OURS = Lease(holder="me", seconds=15, acquired="a", renewed="r", transitions=3, resource_version="7")
THEIRS = msgspec.structs.replace(OURS, holder="them")
RELEASED = msgspec.structs.replace(OURS, holder="", seconds=1)
CLEARED = msgspec.structs.replace(OURS, holder="")


def written(**fields):
    return Write(Lease(**{"holder": "me", "seconds": 15, "acquired": STAMP, "renewed": STAMP, **fields}))


@pytest.mark.parametrize(
    ("observed", "unchanged", "leading", "decision"),
    [
        pytest.param(None, NEVER, False, written(), id="there never was one: create it"),
        pytest.param(None, 0, False, Wait(15), id="gone just now: its holder may still lead"),
        pytest.param(None, 15, False, written(), id="gone for long enough: create it"),
        pytest.param(None, 0, True, written(), id="gone while we lead: create it again"),
        pytest.param(
            OURS, 1, True, written(acquired="a", transitions=3, resource_version="7"), id="ours: renew it"
        ),
        pytest.param(OURS, 0, False, Wait(15), id="in our name, but we do not lead"),
        pytest.param(
            OURS,
            15,
            False,
            written(acquired="a", transitions=3, resource_version="7"),
            id="in our name for long enough",
        ),
        pytest.param(THEIRS, 0, False, Wait(15), id="theirs, new to us"),
        pytest.param(THEIRS, 10, False, Wait(5), id="theirs, for a while"),
        pytest.param(
            THEIRS, 15, False, written(transitions=4, resource_version="7"), id="theirs, not renewed: take it"
        ),
        pytest.param(THEIRS, 0, True, Lost("them holds the Lease"), id="taken from us"),
        pytest.param(
            RELEASED, 0, False, written(transitions=4, resource_version="7"), id="released: take it at once"
        ),
        pytest.param(CLEARED, 0, False, Wait(15), id="cleared by hand: its holder may still lead"),
        pytest.param(CLEARED, 0, True, Lost("nobody holds the Lease"), id="cleared by hand, and was ours"),
        pytest.param(
            Lease(resource_version="7"), 0, False, Wait(15), id="emptied by hand: its holder may still lead"
        ),
        pytest.param(
            Lease(resource_version="7"), 15, False, written(transitions=1, resource_version="7"), id="empty"
        ),
        pytest.param(
            msgspec.structs.replace(THEIRS, renewed="9999-01-01T00:00:00.000000Z", seconds=2**31 - 1),
            15,
            False,
            written(transitions=4, resource_version="7"),
            id="renewed in the far future, for ever: only what we see change counts",
        ),
        pytest.param(
            msgspec.structs.replace(THEIRS, renewed="", acquired="", seconds=0),
            14,
            False,
            Wait(1),
            id="without times",
        ),
        pytest.param(
            msgspec.structs.replace(THEIRS, transitions=2**31 - 1),
            15,
            False,
            written(transitions=0, resource_version="7"),
            id="as many transitions as an int32 holds",
        ),
    ],
)
def test_what_to_do_about_a_lease(observed, unchanged, leading, decision):
    assert decide(observed, unchanged, "me", leading=leading, stamp=STAMP, timing=Timing()) == decision


@pytest.mark.parametrize("spec", [pytest.param({}, id="no spec"), pytest.param({"spec": None}, id="null")])
def test_a_lease_object_without_a_spec_is_read(spec):
    assert read_lease({"metadata": {"resourceVersion": "7"}, **spec}) == Lease(resource_version="7")


def test_a_lease_object_is_read_as_it_was_written():
    for lease in (OURS, RELEASED):
        assert read_lease(made.lease_patch(lease, {})) == lease


def test_what_is_empty_is_absent_from_a_lease_object():
    assert made.lease_patch(RELEASED, {})["spec"]["holderIdentity"] is None
    assert "renewTime" not in made.lease("echo", Lease(), {})["spec"]


class Server:
    """The API server's side of a Lease."""

    def __init__(self):
        self.lease, self.deleted = None, False
        self._versions = iter(range(1, 1_000_000))

    def get(self):
        return self.lease

    def create(self, lease):
        if self.lease is not None:
            raise Conflict("there is one")
        return self._write(lease)

    def update(self, lease):
        if self.lease is None or self.lease.resource_version != lease.resource_version:
            raise Conflict("somebody else changed it")
        return self._write(lease)

    def edit(self, **fields):
        """What a person does."""
        self._write(msgspec.structs.replace(self.lease, **fields))

    def delete(self):
        self.lease, self.deleted = None, True

    def _write(self, lease):
        self.lease = msgspec.structs.replace(lease, resource_version=str(next(self._versions)))
        return self.lease


class Weather:
    """What becomes of one call: seconds until it arrives, seconds until the answer does, and which."""

    def __init__(self, there=0.0, back=0.0, answer="arrives", connecting=0.0):
        self.there, self.back, self.answer, self.connecting = there, back, answer, connecting


MOMENT = 0.001  # seconds that each turn of a thread takes


class Process:
    """A process with an elector; the world decides when its threads run."""

    def __init__(self, world, name, offset=0.0):
        self.world, self.name = world, name
        self.elected = 0
        self.lost, self.lost_at = [], None
        self.weather = []  # of its next calls
        self.failing = None  # what its writes fail with
        self.written_at = float("-inf")
        self.calls = 0
        self.in_call = False
        self.paused_until = 0.0
        self.next_step = self.next_check = world.now
        self.elector = Elector(
            self,
            name,
            on_elected=self._on_elected,
            on_lost=self._on_lost,
            clock=lambda: world.now + offset,
            now=lambda: world.wall_clock + timedelta(seconds=world.now),
        )

    def get(self):
        return self._call(self.world.server.get)

    def create(self, lease):
        return self._write(lambda: self.world.server.create(lease))

    def update(self, lease):
        return self._write(lambda: self.world.server.update(lease))

    def _write(self, operation):
        if self.failing:
            self.calls += 1
            raise self.failing
        return self._call(operation)

    def _call(self, operation):
        self.calls += 1
        weather = self.weather.pop(0) if self.weather else self.world.weather()
        self.in_call = True
        try:
            self.world.run(weather.connecting)
            self.written_at = self.elector._clock()
            self.world.run(weather.there)
            if weather.answer == "refused":
                raise Rejected("forbidden")
            if weather.answer == "never sent":
                raise Retry("no connection")
            result = operation()
            self.world.run(weather.back)
            if weather.answer == "lost":
                raise Retry("no answer")
            return result
        finally:
            self.in_call = False

    def _on_elected(self):
        self.elected += 1

    def _on_lost(self, reason):
        self.lost.append(reason)
        self.lost_at = self.world.now

    @property
    def due(self):
        """When it has something to do next, and what."""
        if self.elector._stopped.is_set():
            return (float("inf"), self.next_step)
        turns = [(max(self.next_check, self.paused_until), self.check)]
        if not self.in_call:
            turns.append((max(self.next_step, self.paused_until), self.step))
        return min(turns, key=lambda turn: turn[0])

    def step(self):
        self.next_step = self.elector.step() + self.world.now + MOMENT

    def check(self):
        self.next_check = self.elector.check() + self.world.now + MOMENT


class World:
    """A server, processes, and their time.  In any of its moments at most one process leads."""

    def __init__(self):
        self.now = 0.0
        self.wall_clock = datetime(2026, 11, 21, tzinfo=UTC)  # when now was 0
        self.server = Server()
        self.processes = []
        self.weather = Weather
        self.edits = 0

    def start(self, name, offset=0.0):
        process = Process(self, name, offset)
        self.processes.append(process)
        return process

    @property
    def leaders(self):
        return [process.name for process in self.processes if process.elector.leading]

    def run(self, seconds):
        end = self.now + seconds
        while self.processes:
            due, turn = min((process.due for process in self.processes), key=lambda due: due[0])
            if due > end:
                break
            self.now = max(self.now, due)
            turn()
            assert len(self.leaders) <= 1
        self.now = max(self.now, end)
        assert len(self.leaders) <= 1

    def run_until(self, condition, longest=100.0):
        """Run until *condition* holds; return the seconds that took."""
        started = self.now
        while not condition():
            assert self.now < started + longest
            self.run(0.1)
        return self.now - started


@pytest.fixture
def world():
    return World()


@pytest.fixture
def leader(world):
    process = world.start("leader")
    world.run(1)
    assert world.leaders == ["leader"]
    return process


@pytest.fixture
def follower(world, leader):
    process = world.start("follower", offset=-4000.0)
    world.run(10)
    assert world.leaders == ["leader"]
    return process


def test_the_first_process_leads_at_once(world, leader):
    assert leader.elected == 1
    assert world.server.lease == Lease(
        holder="leader",
        seconds=15,
        acquired="2026-11-21T00:00:00.000000Z",
        renewed="2026-11-21T00:00:00.000000Z",
        transitions=0,
        resource_version="1",
    )


def test_a_leader_goes_on_leading_with_two_calls_in_three_seconds(world, leader, follower):
    leader.calls = 0
    world.run(600)

    assert world.leaders == ["leader"]
    assert leader.elected == 1
    assert leader.calls == 400


def test_of_two_that_start_together_one_leads(world):
    processes = [world.start("a"), world.start("b")]
    world.run(5)

    assert len(world.leaders) == 1
    assert sum(process.elected for process in processes) == 1


@pytest.mark.parametrize("after", [tenth / 10 for tenth in range(20)])
def test_a_leader_that_is_killed_is_replaced_within_17_seconds(world, leader, follower, after):
    world.run(after)
    world.processes.remove(leader)

    assert world.run_until(lambda: world.leaders == ["follower"]) <= 15 + 2 + 0.1
    assert world.server.lease.transitions == 1


def test_a_leader_that_was_paused_does_not_lead_when_it_wakes_up(world, leader, follower):
    leader.paused_until = world.now + 30
    world.run(29)

    assert not leader.elector.leading
    assert world.leaders == ["follower"]
    world.run(2)
    assert len(leader.lost) == 1


def test_a_leader_without_a_connection_stops_in_time_and_says_so_once(world, leader, follower):
    leader.weather = [Weather(answer="never sent")] * 100
    world.run_until(lambda: leader.lost)

    assert world.leaders == []
    assert leader.lost == ["it could not be renewed for 10 s"]
    world.run(60)
    assert world.leaders == ["follower"]
    assert len(leader.lost) == 1


def test_a_leader_stops_while_its_call_hangs(world, leader, follower):
    leader.weather = [Weather(back=100)]
    started = world.now
    world.run(200)

    assert 8 <= leader.lost_at - started <= 10
    assert world.leaders == ["follower"]
    assert leader.elected == 1
    assert len(leader.lost) == 1


def test_calls_that_take_nine_seconds_end_leadership_in_time(world, leader, follower):
    leader.weather = [Weather(there=4.5, back=4.5)] * 100
    world.run(60)

    assert leader.lost
    assert world.leaders == ["follower"]


def test_a_leader_survives_a_short_outage(world, leader, follower):
    leader.weather = [Weather(answer="never sent")] * 3
    world.run(60)

    assert world.leaders == ["leader"]
    assert leader.lost == []


@pytest.mark.parametrize("answer", ["lost", "refused", "never sent"])
def test_a_leader_survives_a_call_that_fails(world, leader, answer):
    leader.weather = [Weather(back=1, answer=answer)]
    world.run(30)

    assert world.leaders == ["leader"]


@pytest.mark.parametrize("call", range(2))
def test_a_lost_answer_does_not_keep_a_process_from_leading(world, call):
    process = world.start("a")
    process.weather = [Weather()] * call + [Weather(answer="lost")]
    world.run(18)

    assert world.leaders == ["a"]


def test_an_answer_that_comes_after_ten_seconds_elects_nobody(world):
    process = world.start("a")
    process.weather = [Weather(), Weather(back=11)]
    world.run(1)

    assert process.elected == 0
    world.run(30)
    assert world.leaders == ["a"]


def test_an_answer_that_comes_late_does_not_revive_a_leader_whose_watch_slept(world, leader):
    leader.weather = [Weather(), Weather(), Weather(back=11.9)]
    leader.next_check = world.now + 1000
    world.run(40)

    assert len(leader.lost) == 1
    assert world.leaders == []


def test_a_lease_deleted_by_hand_is_made_again_by_its_leader(world, leader, follower):
    world.server.delete()
    world.run(60)

    assert world.leaders == ["leader"]
    assert world.server.lease.holder == "leader"


def test_a_lease_deleted_by_hand_is_not_taken_from_a_leader_that_cannot_see_it(world, leader, follower):
    leader.weather = [Weather(answer="never sent")] * 100
    world.server.delete()

    assert world.run_until(lambda: world.leaders == ["follower"]) > 10


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param({"holder": "garbage/\x00"}, id="another holder"),
        pytest.param({"holder": ""}, id="no holder"),
        pytest.param({"holder": "", "seconds": 0, "renewed": "", "acquired": ""}, id="nothing"),
        pytest.param({"renewed": "", "acquired": "", "seconds": 0}, id="no times"),
        pytest.param({"renewed": "9999-12-31T23:59:59.000000Z"}, id="renewed in the far future"),
        pytest.param({"transitions": 2**31 - 1}, id="transitions at the limit"),
        pytest.param({}, id="an annotation"),
    ],
)
@pytest.mark.parametrize("at", [0.0, 0.5, 1.5])
def test_a_lease_edited_by_hand_is_led_again_soon(world, leader, follower, edit, at):
    world.run(at)
    world.server.edit(**edit)
    world.run(20)

    assert len(world.leaders) == 1
    assert world.leaders == [world.server.lease.holder]


def test_edits_of_other_things_do_not_look_like_renewals(world, leader, follower):
    world.processes.remove(leader)
    taken_after = 0
    while not world.leaders:
        world.server.edit()
        world.run(1)
        taken_after += 1

    assert taken_after <= 20


def test_the_wall_clock_has_no_effect(world, leader, follower):
    for year in (1970, 2100, 2026):
        world.wall_clock = datetime(year, 1, 1, tzinfo=UTC)
        world.run(30)
        assert world.leaders == ["leader"]


def test_a_released_lease_is_taken_within_three_seconds(world, leader, follower):
    leader.elector.release()

    assert world.leaders == []
    assert world.run_until(lambda: world.leaders == ["follower"]) < 3
    assert leader.lost == []
    assert world.server.lease.transitions == 1


def test_a_released_elector_leads_no_more(world, leader):
    leader.elector.release()
    leader.elector.step()

    assert not leader.elector.leading
    with pytest.raises(Fenced):
        leader.elector.renew()
    assert world.server.lease.released


def test_a_process_that_is_released_while_it_takes_the_lease_does_not_lead(world):
    process = world.start("a")
    create = world.server.create

    def released_meanwhile(lease):
        process.elector.release()
        return create(lease)

    world.server.create = released_meanwhile
    world.run(1)

    assert world.server.lease.holder == "a"
    assert process.elected == 0
    assert not process.elector.leading


def test_a_release_that_fails_leaves_the_lease_to_run_out(world, leader, follower):
    leader.weather = [Weather(answer="never sent")]
    leader.elector.release()

    assert not leader.elector.leading
    assert 10 < world.run_until(lambda: world.leaders == ["follower"]) <= 18


def test_a_release_after_a_renewal_failed_reads_the_lease_first(world, leader, follower):
    leader.weather = [Weather(answer="lost")]
    leader.step()
    leader.elector.release()

    assert world.server.lease.released


def test_a_release_leaves_a_lease_that_was_taken_meanwhile(world, leader):
    leader.weather = [Weather(answer="never sent")]
    leader.step()
    world.server.edit(holder="other")
    leader.elector.release()

    assert world.server.lease.holder == "other"


def test_a_follower_releases_nothing(world, leader, follower):
    calls = follower.calls
    follower.elector.release()
    assert follower.calls == calls
    world.run(30)

    assert world.server.lease.holder == "leader"


def test_a_process_that_lost_the_lease_does_not_release_its_successors(world, leader, follower):
    leader.weather = [Weather(answer="never sent")] * 100
    world.run(60)
    calls = leader.calls
    leader.elector.release()

    assert leader.calls == calls
    assert world.server.lease.holder == "follower"
    assert len(leader.lost) == 1


def test_renew_renews_the_lease_at_once(world, leader):
    before = world.server.lease
    leader.elector.renew()

    assert world.server.lease.resource_version != before.resource_version
    assert world.server.lease.holder == "leader"


@pytest.mark.parametrize("touch", [Server.edit, Server.delete])
def test_what_a_person_did_to_the_lease_does_not_keep_its_leader_from_renewing_it(world, leader, touch):
    touch(world.server)
    leader.elector.renew()

    assert world.server.lease.holder == "leader"


def test_renew_fails_where_the_lease_was_taken(world, leader):
    world.server.edit(holder="other")
    with pytest.raises(Fenced):
        leader.elector.renew()

    assert leader.lost == ["other holds the Lease"]


def test_renew_fails_for_a_follower_and_writes_nothing(world, leader, follower):
    before = world.server.lease
    with pytest.raises(Fenced):
        follower.elector.renew()

    assert world.server.lease == before


def test_renew_fails_where_the_answer_is_lost(world, leader):
    leader.weather = [Weather(answer="lost")]
    with pytest.raises(Retry):
        leader.elector.renew()

    assert leader.elector.leading


def test_renew_fails_where_leadership_ended_meanwhile(world, leader):
    leader.weather = [Weather(back=20)]
    with pytest.raises(Fenced):
        leader.elector.renew()


# a Lease whose renewals are refused

REFUSALS = [
    pytest.param(Rejected("403 Forbidden"), id="403"),
    pytest.param(Retry("429 Too Many Requests", 1.0), id="429"),
    pytest.param(Retry("500 Internal Server Error"), id="500"),
]


@pytest.fixture
def confined(world, leader):
    leader.failing = Rejected("403 Forbidden")
    world.run(30)
    assert leader.elector.confined
    return leader


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_leader_whose_renewals_are_refused_leads_no_more_and_stays(world, leader, refusal):
    leader.failing = refusal
    world.run(8)
    assert (world.leaders, leader.elector.confined) == (["leader"], "")
    world.run_until(lambda: not world.leaders)
    for _ in range(600):
        assert (leader.elector.leading, leader.elector.confined) == (False, str(refusal))
        world.run(0.1)

    assert leader.lost == []


def test_a_confined_process_leads_again_once_it_renews_the_lease(world, confined):
    confined.failing = None
    world.run(2)

    assert (world.leaders, confined.elector.confined) == (["leader"], "")
    assert (confined.elected, confined.lost) == (1, [])


def test_another_replica_takes_the_lease_and_the_confined_one_ends(world, leader, follower):
    leader.failing = Rejected("403 Forbidden")
    took = world.run_until(lambda: world.leaders == ["follower"])
    assert 15 - 2 <= took <= 15 + 2
    world.run(2)

    assert leader.lost == ["follower holds the Lease"]
    assert leader.elector.confined == ""


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda server: server.edit(holder="somebody"), id="somebody else's"),
        pytest.param(lambda server: server.edit(holder=""), id="nobody's"),
        pytest.param(lambda server: server.delete(), id="gone"),
    ],
)
def test_a_confined_process_ends_once_the_lease_does_not_name_it(world, confined, edit):
    edit(world.server)
    world.run(5.1)

    assert len(confined.lost) == 1


def test_a_confined_process_ends_once_its_renewals_are_not_answered(world, confined):
    confined.failing = Unanswered("no answer")
    world.run(2)

    assert len(confined.lost) == 1


def test_a_confined_process_ends_once_the_lease_cannot_be_read(world, confined):
    confined.weather = [Weather(answer="never sent")]
    world.run(2)

    assert len(confined.lost) == 1


def test_a_confined_process_ends_before_what_it_read_is_five_seconds_old(world, confined):
    confined.weather = [Weather(back=100)]
    world.run(5.1)

    assert len(confined.lost) == 1


def test_a_leader_that_cannot_look_is_not_confined(world, leader):
    leader.failing = Unanswered("no answer")
    world.run(12)

    assert (leader.lost, leader.elector.confined) == (["it could not be renewed for 10 s"], "")


def test_a_confined_process_renews_nothing_at_demand(world, confined):
    with pytest.raises(Fenced):
        confined.elector.renew()


# a slow connection


def test_answers_that_take_four_seconds_cost_no_leadership(world, leader, follower):
    leader.weather = [Weather(there=2, back=2)] * 100
    world.run(300)

    assert (world.leaders, leader.lost) == (["leader"], [])


def test_a_new_connection_and_an_answer_of_four_seconds_each_cost_no_leadership(world, leader, follower):
    leader.weather = [Weather(connecting=4, there=2, back=2), *[Weather(there=2, back=2)] * 100]
    world.run(300)

    assert (world.leaders, leader.lost) == (["leader"], [])


def test_a_connection_that_broke_is_made_anew_at_once(world, leader):
    leader.failing = Unanswered("the connection broke")
    leader.calls = 0
    leader.step()

    assert leader.calls == 3  # the write, then the look and the write


def test_what_goes_on_is_logged_once(world):
    with capture_logs() as logs:
        leader = world.start("leader")
        world.run(1)
        world.start("follower")
        world.run(60)
        leader.weather = [Weather(answer="never sent")] * 2
        world.run(60)

    assert sorted((entry["event"], entry["log_level"]) for entry in logs) == [
        ("cannot renew the Lease", "warning"),
        ("following", "info"),
        ("holding the Lease", "info"),
        ("holding the Lease", "info"),
    ]


# From whom


def test_a_leader_knows_from_whom_it_took_the_lease_over(world):
    first = world.start("first")
    world.run(1)
    second = world.start("second")
    world.run(5)
    first.weather = [Weather(answer="never sent")] * 1000
    world.run(60)

    assert (first.elector.predecessor, second.elector.predecessor) == ("", "first")
    assert second.elector.still_since <= world.now - 10


def test_a_leader_knows_who_had_given_the_lease_back(world):
    first = world.start("first")
    world.run(1)
    first.elector.release()
    second = world.start("second")
    world.run(5)

    assert second.elector.predecessor == "first"


def test_a_follower_knows_whose_lease_a_person_has_given_back(world):
    world.start("first")
    world.run(1)
    second = world.start("second")
    world.run(5)
    world.server.edit(holder="", seconds=1)
    world.run(5)

    assert second.elector.predecessor == "first"


# Real threads and time

FAST = Timing(lease=0.6, renew=0.4, retry=0.05)


class Running:
    """An elector with its two threads, on a server whose ``update`` may be stopped."""

    written_at = NEVER * -1

    def __init__(self, server, name="a"):
        self._server = server
        self.open = threading.Event()
        self.open.set()
        self.elected, self.lost = threading.Event(), threading.Event()
        self.failure = self.reason = None
        self.elector = Elector(self, name, on_elected=self.elected.set, on_lost=self._on_lost, timing=FAST)
        self.threads = [
            threading.Thread(target=target, daemon=True) for target in (self._run, self.elector.watch)
        ]
        for thread in self.threads:
            thread.start()

    def _on_lost(self, reason):
        self.reason = reason
        self.lost.set()

    def _run(self):
        try:
            self.elector.run()
        except ArithmeticError as error:
            self.failure = error

    def get(self):
        return self._server.get()

    def create(self, lease):
        return self._server.create(lease)

    def update(self, lease):
        self.open.wait(10)
        return self._server.update(lease)


def test_threads_lead_and_end_when_released():
    server = Server()
    running = Running(server)
    assert running.elected.wait(5)
    assert not running.lost.wait(1.0)

    running.elector.release()
    for thread in running.threads:
        thread.join(5)
        assert not thread.is_alive()
    assert server.lease.released
    assert not running.lost.is_set()


def test_a_thread_stuck_in_a_call_loses_the_lease_and_another_process_takes_it():
    server = Server()
    stuck = Running(server, "stuck")
    assert stuck.elected.wait(5)
    other = Running(server, "other")
    stuck.open.clear()

    assert stuck.lost.wait(5)
    assert not stuck.elector.leading
    assert other.elected.wait(5)
    stuck.open.set()
    for thread in stuck.threads:
        thread.join(5)
        assert not thread.is_alive()
    assert not stuck.elector.leading
    other.elector.release()


def test_an_unforeseen_error_ends_leadership_and_is_not_swallowed():
    server = Server()
    running = Running(server)
    assert running.elected.wait(5)

    def broken(_):
        raise ZeroDivisionError

    server.update = broken
    assert running.lost.wait(5)
    for thread in running.threads:
        thread.join(5)
        assert not thread.is_alive()
    assert isinstance(running.failure, ZeroDivisionError)
    assert running.reason == "cannot go on: ZeroDivisionError()"


def test_a_process_that_never_led_loses_nothing():
    server = Server()
    server.get = lambda: 1 / 0
    running = Running(server)
    for thread in running.threads:
        thread.join(5)
        assert not thread.is_alive()

    assert isinstance(running.failure, ZeroDivisionError)
    assert not running.lost.is_set()


# Any weather

SECONDS = st.sampled_from([0.0, 0.0, 0.1, 1.0, 3.0, 6.0, 9.9, 11.0, 16.0, 40.0])
ANSWER = st.sampled_from(["arrives", "arrives", "arrives", "lost", "never sent", "refused"])
CALL = st.builds(Weather, there=SECONDS, back=SECONDS, answer=ANSWER)
EDIT = st.fixed_dictionaries(
    {},
    optional={
        "holder": st.sampled_from(["", "a", "x"]),
        "renewed": st.sampled_from(["", STAMP]),
        "seconds": st.sampled_from([0, 15, 3600]),
        "transitions": st.just(2**31 - 1),
    },
)


def disturb(world, data):
    """Let something happen to one of the processes, or to the Lease."""
    process = data.draw(st.sampled_from(world.processes))
    match data.draw(st.sampled_from(["run", "pause", "restart", "release", "delete", "edit"])):
        case "run":
            world.run(data.draw(SECONDS))
        case "pause":
            process.paused_until = world.now + data.draw(SECONDS)
        case "restart":
            restart(world, process)
        case "release":
            process.elector.release()
        case "delete" if not world.server.deleted:
            world.server.delete()
        case "edit" if world.server.lease:
            world.server.edit(**at_that_time(data.draw(EDIT), world))


def at_that_time(edit, world):
    """The edit, with a time that never stood there before: what is put back as it was is no change to see."""
    if "renewed" in edit:
        world.edits += 1
        edit["renewed"] = f"{edit['renewed']}{world.edits}"
    return edit


def restart(world, process):
    world.run(15)
    world.processes.remove(process)
    started = world.start(process.name + "'")
    started.weather = [Weather()] * 2
    world.run(0)


@settings(max_examples=300)
@given(st.data())
def test_never_do_two_lead_and_in_the_end_one_does(data):
    """Processes that hang, pause, die and come back, calls that are slow or lost, hands that edit.

    Left out, since only the fence helps there: a process that starts while the Lease is deleted by hand,
    and takes it that there never was one; a Lease deleted again before it was seen.
    """
    world = World()
    for name in "abc":
        world.start(name, offset=data.draw(st.sampled_from([0.0, -3000.0, 1e6])))
    world.run(3)
    calls = data.draw(st.lists(CALL, max_size=25))
    world.weather = lambda: calls.pop() if calls else Weather()
    for _ in range(data.draw(st.integers(0, 12))):
        disturb(world, data)
    calls.clear()
    for process in list(world.processes):
        assert len(process.lost) <= 1
        assert process.elected <= 1
        assert not (process.lost and process.elector.leading)
        if process.elector._stopped.is_set():
            restart(world, process)
    world.run(60)

    assert len(world.leaders) == 1
    assert world.leaders == [world.server.lease.holder]
