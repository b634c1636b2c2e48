"""The queue of keys, on a clock that only the tests move."""

import threading
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rpcregistry.runtime.workqueue import ALL_RETRIES_A_SECOND, LONGEST_RETRY, RETRIES_A_SECOND, Workqueue

WINDOW = 0.1
ALL = 1_000


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def flows_of(key):
    """Of ``b/x`` the flow b; one flow has all keys without a flow of their own."""
    return [str(key).partition("/")[0] if "/" in str(key) else "one"]


class World:
    """A queue, and what comes out of it when."""

    def __init__(self, workers=1):
        self.clock = Clock()
        self.slow = set()
        self.queue = Workqueue(
            WINDOW,
            flows_of,
            workers=workers,
            is_slow=self.slow.__contains__,
            clock=self.clock,
            jitter=lambda seconds: seconds,
        )

    def advance(self, seconds):
        self.clock.now += seconds

    def take(self, limit=ALL):
        return self.queue.get(limit, timeout=0)

    def next_after(self, step=0.001, longest=100.0):
        """Seconds until something is due, to the precision of *step*."""
        start = self.clock.now
        for n in range(int(longest / step)):
            self.clock.now = start + n * step
            if self.queue.depth:
                return pytest.approx(n * step, abs=2 * step)
        return None


@pytest.fixture
def world():
    return World()


def test_a_key_is_due_at_once_when_it_is_new(world):
    world.queue.add("a")

    assert world.take() == ["a"]


def test_a_key_added_often_is_worked_once(world):
    for _ in range(5):
        world.queue.add("a")

    assert world.take() == ["a"]
    world.queue.done("a")
    assert world.take() == []


def test_a_key_is_never_given_out_while_it_is_worked(world):
    world.queue.add("a")
    world.take()
    world.queue.add("a")

    assert world.take() == []


def test_a_key_added_often_while_it_is_worked_is_worked_once_more(world):
    world.queue.add("a")
    world.take()
    world.queue.add("a")
    world.queue.add("a")
    world.queue.done("a")

    assert world.take() == ["a"]
    world.queue.done("a")
    world.advance(100)
    assert world.take() == []


def test_the_earliest_of_several_times_counts(world):
    world.queue.add_after("a", 5)
    world.queue.add_after("a", 1)
    world.queue.add_after("a", 3)

    assert world.next_after() == 1
    assert world.take() == ["a"]
    world.queue.done("a")
    world.advance(10)
    assert world.take() == []


def test_the_earliest_of_several_times_counts_for_a_key_that_is_worked(world):
    world.queue.add("a")
    world.take()
    world.queue.add_after("a", 5)
    world.queue.add_after("a", 1)
    world.queue.add_after("a", 3)
    world.queue.done("a")

    assert world.next_after() == 1


def test_limit_bounds_what_is_taken_and_leaves_the_rest(world):
    for key in "bca":
        world.queue.add(key)

    assert world.take(limit=2) == ["b", "c"]
    assert world.take(limit=2) == ["a"]


def test_a_delayed_key_is_not_starved_by_keys_added_later(world):
    world.queue.add_after("delayed", 1)
    world.advance(2)
    for key in range(10):
        world.queue.add(key)

    assert world.take(limit=1) == ["delayed"]


def test_a_failing_key_takes_its_turn_among_others(world):
    world.queue.add("failing")
    world.take()
    world.queue.retry("failing", after=2)
    world.queue.add_after("before", 1)
    world.queue.add_after("after", 3)
    world.advance(4)

    assert world.take() == ["before", "failing", "after"]


@given(st.lists(st.integers(0, 100), max_size=30))
def test_keys_come_in_the_order_in_which_they_are_due(delays):
    world = World()
    for key, delay in enumerate(delays):
        world.queue.add_after(key, delay)
    world.advance(101)

    assert world.take() == sorted(range(len(delays)), key=lambda key: delays[key])


@pytest.mark.parametrize(
    ("wrote", "window"),
    [
        pytest.param(None, 0, id="no write, no window"),
        pytest.param(0.0, 0.1, id="the batch window"),
        pytest.param(0.2, 0.4, id="twice a slow write"),
        pytest.param(5.0, 1.0, id="one second at most"),
    ],
)
def test_a_write_opens_a_window_in_which_changes_become_one(world, wrote, window):
    world.queue.add("a")
    world.take()
    world.queue.done("a", wrote)
    world.queue.add("a")

    assert world.next_after() == window


def test_what_is_added_during_the_write_waits_for_the_window_too(world):
    world.queue.add("a")
    world.take()
    world.queue.add("a")
    world.queue.done("a", wrote=0.01)

    assert world.next_after() == WINDOW


def test_a_write_after_a_failure_opens_a_whole_window(world):
    world.queue.add("a")
    world.take()
    world.queue.retry("a")
    world.advance(0.01)
    world.take()
    world.queue.done("a", wrote=0.2)
    world.queue.add("a")

    assert world.next_after() == pytest.approx(0.4)


def test_a_window_delays_no_other_key(world):
    world.queue.add("a")
    world.take()
    world.queue.done("a", wrote=10)
    world.queue.add("b")

    assert world.take() == ["b"]


def test_a_key_that_was_idle_for_longer_than_its_window_is_due_at_once(world):
    world.queue.add("a")
    world.take()
    world.queue.done("a", wrote=0.5)
    world.advance(2.1)
    world.queue.add("a")

    assert world.take() == ["a"]


def fail(world, key, times):
    """Work *key* that often, in vain; return how long it was away each time."""
    world.queue.add(key)
    delays = []
    for _ in range(times):
        delays.append(world.next_after(step=0.0005))
        assert world.take() == [key]
        world.queue.retry(key)
    return delays


def test_a_failing_key_comes_back_later_and_later(world):
    assert fail(world, "a", 8) == [0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32]


def test_the_delay_of_a_failing_key_is_bounded_however_often_it_fails(world):
    world.queue.add("a")
    for _ in range(2000):
        assert world.take() == ["a"]
        world.queue.retry("a")
        world.advance(LONGEST_RETRY)


def test_a_key_that_is_done_starts_over(world):
    fail(world, "a", 6)
    world.advance(1)
    world.take()
    world.queue.done("a")

    assert fail(world, "a", 3) == [0, 0.005, 0.01]


def test_a_failing_key_that_is_added_comes_back_after_the_batch_window(world):
    fail(world, "a", 10)
    world.queue.add("a")

    assert world.next_after() == WINDOW


def test_a_key_added_while_its_work_failed_comes_back_after_the_batch_window(world):
    fail(world, "a", 10)
    world.advance(10)
    world.take()
    world.queue.add("a")
    world.queue.retry("a")

    assert world.next_after() == WINDOW
    world.take()
    world.queue.done("a")
    world.advance(100)
    assert world.take() == []


def test_a_failing_key_comes_back_when_it_is_told_to(world):
    world.queue.add("a")
    world.take()
    world.queue.retry("a", after=7)

    assert world.next_after(step=0.01) == 7


def test_a_key_told_to_come_back_late_comes_back_early_when_it_is_added(world):
    world.queue.add("a")
    world.take()
    world.queue.retry("a", after=60)
    world.queue.add("a")

    assert world.next_after() == WINDOW


def test_nothing_brings_a_key_back_before_the_time_that_the_other_side_named(world):
    world.queue.add("a")
    world.take()
    world.queue.add("a")
    world.queue.retry("a", not_before=7)
    world.queue.add("a")

    assert world.next_after(step=0.01) == 7


def test_failing_keys_of_a_flow_share_a_limit(world):
    for key in range(100):
        world.queue.add(key)
    for key in world.take():
        world.queue.retry(key, after=0)
    given_out = []
    for _ in range(300):
        for key in world.take():
            given_out.append(world.clock.now)
            world.queue.retry(key, after=0)
        world.advance(0.01)

    assert len(given_out) == 3 * RETRIES_A_SECOND
    assert all(
        later - earlier >= 1.0
        for earlier, later in zip(given_out, given_out[RETRIES_A_SECOND:], strict=False)
    )


def test_failing_keys_take_turns(world):
    for key in range(100):
        world.queue.add(key)
    for key in world.take():
        world.queue.retry(key, after=0)
    seen = set()
    for _ in range(6):
        for key in world.take():
            seen.add(key)
            world.queue.retry(key, after=0)
        world.advance(1.0)

    assert seen == set(range(100))


def test_each_flow_may_fail_as_often_as_if_it_were_alone(world):
    for flow in "ab":
        for number in range(100):
            world.queue.add(f"{flow}/{number}")
    for key in world.take():
        world.queue.retry(key, after=0)

    taken = world.take()
    assert [key[0] for key in taken] == ["a", "b"] * RETRIES_A_SECOND


def test_failing_keys_of_all_flows_share_a_limit_by_turns(world):
    for flow in "abcdefghij":
        for number in range(20):
            world.queue.add(f"{flow}/{number}")
    for key in world.take():
        world.queue.retry(key, after=0)

    taken = world.take()
    assert len(taken) == ALL_RETRIES_A_SECOND
    assert set(Counter(key[0] for key in taken).values()) == {ALL_RETRIES_A_SECOND // 10}


def test_failing_keys_do_not_hold_up_others(world):
    for key in range(100):
        world.queue.add(key)
    for key in world.take():
        world.queue.retry(key, after=0)
    assert len(world.take()) == RETRIES_A_SECOND
    world.queue.add("healthy")

    assert world.take() == ["healthy"]


def test_once_retries_succeed_they_are_not_limited(world):
    for key in range(1000):
        world.queue.add(key)
    for key in world.take():
        world.queue.retry(key, after=0)
    worked = 0
    while keys := world.take():
        worked += len(keys)
        for key in keys:
            world.queue.done(key)

    assert worked == 1000


def test_a_queue_is_busy_with_what_is_due_or_worked_but_not_with_what_fails(world):
    queue = world.queue
    assert not queue.busy
    queue.add_after("a", 1.0)
    assert not queue.busy, "not due yet"
    world.clock.now += 1.0
    assert queue.busy
    assert queue.get(1) == ["a"]
    assert queue.busy, "being worked"
    queue.retry("a")
    assert not queue.busy
    world.clock.now += 60.0
    assert queue.get(1) == ["a"]
    assert not queue.busy, "it failed before"
    queue.done("a")
    assert not queue.busy


def test_depth_counts_what_is_due_and_not_taken(world):
    world.queue.add("due")
    world.queue.add_after("later", 5)
    assert world.queue.depth == 1

    world.take()
    assert world.queue.depth == 0


def test_idle_keys_cost_no_memory(world):
    for key in range(1000):
        world.queue.add(key)
    for key in world.take():
        world.queue.retry(key)
    while world.queue.depth or world.next_after(step=0.01) is not None:
        for key in world.take():
            world.queue.done(key, wrote=0.01)
    world.advance(100)
    world.take()

    world.take()

    held = {name: held for name, held in vars(world.queue).items() if hasattr(held, "__len__")}
    assert len(held) == 10
    assert not any(map(len, held.values()))
    assert not any(vars(world.queue._ready)[name] for name in ("_flows", "waiting", "retries"))


def test_a_time_that_is_brought_forward_again_and_again_costs_no_memory(world):
    world.queue.add_after("b", 1)
    for _ in range(10_000):
        world.queue.add("a")
        world.take()
        world.queue.done("a")
        world.queue.add_after("a", 3600)

    assert len(world.queue._later._heap) < 100


# turns


def test_flows_take_turns_and_within_one_the_oldest_comes_first(world):
    for key in ("a/1", "a/2", "a/3", "b/1", "b/2", "c/1"):
        world.queue.add(key)

    assert world.take() == ["a/1", "b/1", "c/1", "a/2", "b/2", "a/3"]


def test_the_first_key_of_a_flow_waits_for_one_turn_of_each_other_flow(world):
    for number in range(1000):
        world.queue.add(f"a/{number}")
        world.queue.add(f"b/{number}")
    world.take(limit=7)
    world.queue.add("quiet/1")

    assert "quiet/1" in world.take(limit=3)


def test_a_key_that_several_flows_changed_is_due_at_the_earliest_of_their_turns_and_once(world):
    for number in range(1000):
        world.queue.add(f"a/{number}")
    world.queue.add("shared", flow="a")
    world.take(limit=1)
    world.queue.add("shared", flow="b")

    taken = world.take(limit=2)
    assert "shared" in taken
    assert "shared" not in world.take()


def test_a_key_that_another_flow_changed_too_uses_up_no_turn_of_the_first(world):
    for key in ("x", "y", "z"):
        world.queue.add(key, flow="loud")
    world.queue.add("echo", flow="quiet")

    assert world.take(limit=2) == ["x", "echo"]


def test_a_failed_key_comes_back_in_the_flows_that_wanted_it(world):
    world.queue.add("shared", flow="a")
    world.queue.add("shared", flow="b")
    world.take()
    world.queue.retry("shared", after=1)
    for number in range(100):
        world.queue.add_after(f"a/{number}", 0.5)
    world.advance(2)

    assert world.take(limit=2) == ["a/0", "shared"]


def test_one_flow_leaves_two_workers_to_the_others():
    world = World(workers=8)
    for number in range(100):
        world.queue.add(f"a/{number}")
    taken = world.take()
    assert len(taken) == 6
    world.queue.add("b/1")
    assert world.take() == ["b/1"]
    assert world.take() == []
    world.queue.done(taken[0])
    assert world.take() == ["a/6"]


def test_slow_flows_have_two_workers_together():
    world = World(workers=8)
    world.slow |= {"a", "b", "c"}
    for flow in "abcd":
        for number in range(10):
            world.queue.add(f"{flow}/{number}")
    taken = world.take()
    assert Counter(key[0] for key in taken) == {"a": 1, "b": 1, "d": 6}
    world.queue.done("a/0")
    assert world.take() == ["c/0"], "it has its turn, in place of those that had one"


def test_a_flow_that_is_slow_no_more_may_use_more_workers():
    world = World(workers=8)
    world.slow.add("a")
    for number in range(10):
        world.queue.add(f"a/{number}")
    assert len(world.take()) == 2
    world.slow.clear()
    assert len(world.take()) == 4


def test_workers_that_wait_are_woken_when_a_flow_is_slow_no_more():
    slow = {"a"}
    queue = Workqueue(0.0, flows_of, workers=8, is_slow=slow.__contains__)
    for number in range(10):
        queue.add(f"a/{number}")
    first = [queue.get(1), queue.get(1)]
    waits = [waiting(queue, 1) for _ in range(3)]
    while not all(thread.is_alive() for thread, _ in waits) or len(queue._changed._waiters) < 3:
        time.sleep(0.001)
    slow.clear()
    queue.done(*first[0])
    assert queue.get(1)
    for thread, _ in waits:
        thread.join(5)

    assert all(taken for _, taken in waits)


def test_a_slow_flow_does_not_make_the_queue_busy(world):
    world.slow.add("a")
    world.queue.add("a/1")
    assert not world.queue.busy
    world.take()
    assert not world.queue.busy
    world.queue.add("b/1")
    assert world.queue.busy


def waiting(queue, limit=10):
    """A thread that waits for keys, and the list into which it puts what it gets."""
    taken = []
    thread = threading.Thread(target=lambda: taken.append(queue.get(limit)), daemon=True)
    thread.start()
    return thread, taken


def test_close_ends_every_wait_at_once():
    queue = Workqueue(WINDOW, flows_of)
    waits = [waiting(queue) for _ in range(3)]
    queue.close()
    for thread, _ in waits:
        thread.join(5)

    assert [taken for _, taken in waits] == [[[]], [[]], [[]]]


def test_a_closed_queue_gives_nothing_even_when_something_is_due(world):
    world.queue.add("a")
    world.queue.close()

    assert world.take() == []


def test_a_wait_ends_when_a_key_is_added():
    queue = Workqueue(WINDOW, flows_of)
    thread, taken = waiting(queue)
    queue.add("a")
    thread.join(5)

    assert taken == [["a"]]


def test_a_wait_ends_when_a_delayed_key_is_due():
    queue = Workqueue(WINDOW, flows_of)
    queue.add_after("a", 0.05)
    thread, taken = waiting(queue)
    thread.join(5)

    assert taken == [["a"]]


def all_waiting(queue, number):
    """So many threads that wait for a key each."""
    waits = [waiting(queue, 1) for _ in range(number)]
    while len(queue._changed._waiters) < number:
        time.sleep(0.001)
    return waits


def test_the_worker_that_a_later_key_woke_has_another_one_wait_for_the_next():
    queue = Workqueue(0.0, flows_of)
    waits = all_waiting(queue, 3)
    queue.add_after("a", 0.01)
    queue.add_after("b", 0.02)
    queue.add_after("c", 0.03)
    for thread, _ in waits:
        thread.join(5)

    assert sorted(taken for _, taken in waits) == [[["a"]], [["b"]], [["c"]]]


def test_a_worker_is_woken_for_a_key_that_is_due_before_what_another_waits_for():
    queue = Workqueue(0.0, flows_of)
    waits = all_waiting(queue, 2)
    queue.add_after("later", 3600)
    while queue._alarm == float("inf"):
        time.sleep(0.001)
    queue.add_after("soon", 0.01)
    until = time.monotonic() + 5
    while not any(taken for _, taken in waits) and time.monotonic() < until:
        time.sleep(0.001)

    assert [["soon"]] in [taken for _, taken in waits]
    queue.close()


def test_who_has_nothing_to_take_is_not_woken():
    asked = set()

    def clock():
        asked.add(threading.get_ident())
        return time.monotonic()

    queue = Workqueue(0.0, flows_of, clock=clock)
    queue.add("worked")
    queue.get(1)
    waits = all_waiting(queue, 3)
    asked.clear()
    queue.done("worked")
    queue.add_after("later", 0.05)
    while not any(taken for _, taken in waits):
        time.sleep(0.001)

    assert len(asked - {threading.get_ident()}) == 1
    queue.close()


def test_a_wait_ends_when_its_time_is_over():
    assert Workqueue(WINDOW, flows_of).get(10, timeout=0.01) == []


def test_threads_never_work_one_key_at_once_and_lose_none():
    queue = Workqueue(0.0, flows_of)
    keys = range(5)
    busy = {key: threading.Lock() for key in keys}
    newest, worked, overlaps = dict.fromkeys(keys, 0), dict.fromkeys(keys, 0), []

    def work():
        while taken := queue.get(2):
            for key in taken:
                if not busy[key].acquire(blocking=False):
                    overlaps.append(key)
                worked[key] = newest[key]
                busy[key].release()
                queue.done(key, wrote=0.0)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for worker in workers:
        worker.start()
    for n in range(2000):
        newest[n % 5] = n
        queue.add(n % 5)
    deadline = time.monotonic() + 10
    while worked != newest and time.monotonic() < deadline:
        time.sleep(0.01)
    queue.close()
    for worker in workers:
        worker.join(5)

    assert overlaps == []
    assert worked == newest


KEYS = st.sampled_from(["a/1", "a/2", "a/3", "b/1", "b/2", "c/1"])
FLOWS = st.sampled_from([None, "a", "b", "c"])


class QueueMachine(RuleBasedStateMachine):
    """Any order of calls: no key twice at once, none lost, none for nothing, none too early.

    And no flow waits for more than one turn of each other flow.
    """

    def __init__(self):
        super().__init__()
        self.world = World()
        self.wanted = {}  # key -> the time before which it must not come
        self.working = set()
        self.again = {}
        self.not_before = {}
        self.windows = {}
        self.flows = {}  # key -> the flows that want it
        self.flows_again = {}
        self.failed = set()
        self.passed = {}  # flow that waits -> how many turns others had meanwhile

    @property
    def now(self):
        return self.world.clock.now

    def want(self, key, due, flows):
        wanted, wanting = (self.again, self.flows_again) if key in self.working else (self.wanted, self.flows)
        wanted[key] = min(due, wanted.get(key, due))
        wanting[key] = wanting.get(key, set()) | set(flows)
        self.note_waiting()

    def note_waiting(self):
        """Note which flows wait: those with a key that is due and has not failed."""
        waiting = {
            flow
            for key, due in self.wanted.items()
            if key not in self.failed and max(due, self.windows.get(key, 0)) <= self.now
            for flow in self.flows[key]
        }
        self.passed = {flow: self.passed.get(flow, Counter()) for flow in waiting}

    @rule(key=KEYS, flow=FLOWS)
    def add(self, key, flow):
        self.world.queue.add(key, flow)
        self.want(key, self.now, [flow] if flow else flows_of(key))

    @rule(key=KEYS, flow=FLOWS, seconds=st.sampled_from([0, 0.05, 1, 100]))
    def add_after(self, key, flow, seconds):
        self.world.queue.add_after(key, seconds, flow)
        self.want(key, self.now + seconds, [flow] if flow else flows_of(key))

    @rule(seconds=st.sampled_from([0.004, 0.1, 1, 70]))
    def advance(self, seconds):
        self.world.advance(seconds)
        self.note_waiting()

    @rule(limit=st.integers(1, 4))
    def get(self, limit):
        self.taken(self.world.take(limit), limit)

    def taken(self, keys, limit):
        assert len(set(keys)) == len(keys) <= limit
        for key in keys:
            assert key not in self.working
            assert self.wanted.pop(key) <= self.now
            assert self.not_before.get(key, 0) <= self.now
            turn = self.world.queue._working[key].flow
            assert turn in self.flows.pop(key)
            self.working.add(key)
            self.passed.pop(turn, None)
            for others in self.passed.values():
                others[turn] += 1
                assert others[turn] <= 1, f"{turn} had more than one turn while another flow waited"
            self.note_waiting()
        if len(keys) < limit:
            assert not self.passed, "a key is due, and was not given out"

    def give_back(self, key):
        self.working.remove(key)
        if key in self.again:
            self.wanted[key] = self.again.pop(key)
            self.flows[key] = self.flows_again.pop(key)

    @precondition(lambda self: self.working)
    @rule(data=st.data(), wrote=st.sampled_from([None, 0.0, 0.2]))
    def done(self, data, wrote):
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.world.queue.done(key, wrote)
        self.failed.discard(key)
        self.give_back(key)
        self.not_before[key] = self.now + (0 if wrote is None else max(WINDOW, 2 * wrote))
        if wrote is not None:
            self.windows[key] = self.not_before[key]
        self.note_waiting()

    @precondition(lambda self: self.working)
    @rule(data=st.data(), after=st.sampled_from([None, 0, 5]), not_before=st.sampled_from([None, 0, 5]))
    def retry(self, data, after, not_before):
        key = data.draw(st.sampled_from(sorted(self.working)))
        flows = self.world.queue._working[key].flows
        self.world.queue.retry(key, after, not_before)
        self.failed.add(key)
        self.give_back(key)
        self.not_before[key] = self.now + (not_before or 0)
        self.windows[key] = self.now + (WINDOW if not_before is None else not_before)
        self.want(key, self.now + (not_before if not_before is not None else after or 0), flows)

    @invariant()
    def what_is_due_is_what_was_wanted(self):
        assert self.world.queue.depth <= len(self.wanted)

    def teardown(self):
        for key in sorted(self.working):
            self.world.queue.done(key)
            self.failed.discard(key)
            self.give_back(key)
        for _ in range(3):
            self.world.advance(200)
            self.note_waiting()
            self.taken(keys := self.world.take(), ALL)
            for key in keys:
                self.world.queue.done(key)
                self.failed.discard(key)
                self.give_back(key)
        assert not self.wanted, "lost"
        assert not self.world.queue._ready
        assert not self.world.queue._later


TestQueueMachine = QueueMachine.TestCase
