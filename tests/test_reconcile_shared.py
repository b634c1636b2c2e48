"""State of the reconcilers that two threads touch: each such object, run from two that take turns."""

import random
import threading
import time
from contextlib import suppress

import msgspec

from rpcregistry.errors import Partial, Rejected
from rpcregistry.layouts import Layout
from rpcregistry.manifests import PODS, RPCSERVICES
from rpcregistry.model import (
    HELD,
    Endpoint,
    LabelSelector,
    Node,
    NodeServiceKey,
    ObjectKey,
    Problem,
    Regarding,
    RpcService,
    RpcServiceSpec,
    RpcServiceStatus,
    ServiceKey,
)
from rpcregistry.plan.ledger import Ledger, ledger_path
from rpcregistry.plan.ops import Create, Delete, Znode
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.restored import Record
from rpcregistry.reconcile.cache import ZnodeCache
from rpcregistry.reconcile.desired import Desired
from rpcregistry.reconcile.guard import Confirmed, Guard, Snapshot
from rpcregistry.reconcile.held import HeldOnLease, WithoutObject
from rpcregistry.reconcile.initialsync import InitialSync
from rpcregistry.reconcile.lately import MOST_KEYS
from rpcregistry.reconcile.leftovers import Leftovers
from rpcregistry.reconcile.lookout import Lookout
from rpcregistry.reconcile.memory import Memory
from rpcregistry.reconcile.nodeturns import NodeTurns
from rpcregistry.reconcile.orphans import Orphans
from rpcregistry.reconcile.problems import Problems, Waiting
from rpcregistry.reconcile.reads import Reads, Unread
from rpcregistry.reconcile.registration import ALLOWED_FOR, Registration
from rpcregistry.reconcile.relied import Relied
from rpcregistry.reconcile.repairs import Repairs
from rpcregistry.reconcile.rewrites import Rewrites
from rpcregistry.reconcile.room import IN_NAMESPACE, Room
from rpcregistry.reconcile.room import service_indexes as room_indexes
from rpcregistry.reconcile.selections import Selections
from rpcregistry.reconcile.shown import Shown
from rpcregistry.reconcile.slow import SLOW, SlowNamespaces
from rpcregistry.reconcile.stalepaths import StalePaths
from rpcregistry.reconcile.troubles import LONGEST_PAUSE, Troubles
from rpcregistry.reconcile.unreadable import UnknownWords
from rpcregistry.reconcile.unwritten import Unwritten
from rpcregistry.reconcile.withdrawn import WITHDRAWN, Withdrawn
from rpcregistry.runtime.store import Change, Store
from tests.builders import pod, row
from tests.threads import at_once, step_by_step, twice
from tests.worlds import Clock, EventsInMemory, Held, NotesInMemory, Remembered, ZooKeeperInMemory
from tests.worlds.nodeservices import World as NodeServices
from tests.worlds.rpcservices import service

ROUNDS = 20  # where threads take turns at each step
MANY = 1000  # where they take turns as they come
LEASE = Regarding("coordination.k8s.io/v1", "Lease", "default", "rpcregistry", "lease")


def test_what_is_desired_last_is_never_forgotten_unseen():
    desired: Desired[str, object] = Desired()
    written: list[object] = []
    values = [object() for _ in range(ROUNDS)]
    both = threading.Barrier(2, timeout=5.0)

    def change() -> None:
        for value in values:
            both.wait()
            desired.set("a", value, 0.0)
            both.wait()
            assert desired.get("a") == (value, 0.0) or written[-1] is value

    def write() -> None:
        for _ in values:
            both.wait()
            found = desired.get("a")
            if found:
                written.append(found[0])
                desired.done("a", found[0])
            both.wait()

    at_once(lambda: step_by_step(change), lambda: step_by_step(write))


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

    at_once(lambda: step_by_step(note), lambda: step_by_step(take))

    assert seen == ROUNDS


def test_what_could_not_be_written_has_waited_since_the_earlier_change():
    unwritten = Unwritten()
    unwritten.note(["a", "b"], 1.0)
    taken = unwritten.take(["a", "b", "c"])
    unwritten.note(["a"], 2.0)
    unwritten.put_back({"a": taken["a"]})

    assert ("a" in unwritten, "b" in unwritten, len(unwritten)) == (True, False, 1)
    assert unwritten.take(["a"]) == {"a": 1.0}


def test_what_is_desired_instead_has_waited_since_the_first():
    desired: Desired[str, str] = Desired()
    desired.set("a", "one", 1.0)
    desired.set("a", "two", 2.0)
    desired.done("a", "one")

    assert desired.get("a") == ("two", 1.0)


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
            world.clock.seconds += LONGEST_PAUSE
            with suppress(Partial):
                world.under.reconcile(NodeServiceKey("ns", "app", "n0"))
        over.set()

    def look() -> None:
        while not over.is_set():
            seen.append(bool(world.under.problems(ObjectKey("ns", "app"))))

    with suppress(Partial):
        world.settle()
    at_once(lambda: step_by_step(work, "/reconcile/"), look)

    assert len(seen) > 10
    assert all(seen)


def test_two_nodes_of_a_local_service_note_their_problems_beside_each_other():
    problems = Problems()
    keys = [NodeServiceKey("ns", "app", node) for node in ("a", "b")]
    problem = Problem("Refused", "no")

    def work(me: int) -> None:
        for _ in range(ROUNDS):
            assert problems.set(keys[me], problem)
            assert not problems.set(keys[me], Problem("Refused", "no"))
            assert problems.clear(keys[me])
            assert not problems.clear(keys[me])
        problems.set(keys[me], problem)

    twice(work)

    assert problems.of(keys[0].owner) == {"a": problem, "b": problem}


def test_two_nodes_wait_for_one_name_beside_each_other_and_leave_nothing():
    waiting = Waiting()
    name = ObjectKey("ns", "app-a")
    keys = [NodeServiceKey("ns", "app", node) for node in ("a", "b")]

    def work(me: int) -> None:
        for _ in range(ROUNDS):
            waiting.begin(name, keys[me])
            assert keys[me] in waiting.on(name)
            waiting.end(name, keys[me])

    twice(work)

    assert (waiting.on(name), waiting._waiting) == (frozenset(), {})


def test_a_path_that_changes_while_it_is_written_is_stale_or_unwatched():
    stale = StalePaths(Clock())
    paths = [f"/{number}" for number in range(ROUNDS)]

    stale.expect(paths)
    told: list[bool] = []
    read: list[str] = []

    def tell() -> None:
        told.extend(map(stale.note_changed, paths))

    def write() -> None:
        while len(told) < len(paths):
            read.extend(stale.unwatched(0.0))
            stale.expect(paths[:2])
            stale.unwatch("/other")

    at_once(lambda: step_by_step(tell), lambda: step_by_step(write))
    read.extend(stale.unwatched(0.0))

    assert [path for path in paths if path not in stale] == []
    assert set(paths) - set(read) <= {path for path, stale in zip(paths, told, strict=True) if stale}


def test_what_is_confirmed_is_asked_as_of_one_moment():
    confirmed: Confirmed[int] = Confirmed()

    def come() -> None:
        for number in range(ROUNDS):
            confirmed.add([1, 2, number + 3])
            confirmed.discard(number + 3)
            confirmed.retain_only(())

    def ask() -> None:
        for _ in range(ROUNDS):
            assert confirmed.among([1, 2]) in ({1, 2}, set())
            assert set(confirmed) & {1, 2} in ({1, 2}, set())

    at_once(lambda: step_by_step(come), lambda: step_by_step(ask))

    assert len(confirmed) == 0


def test_no_turn_of_a_node_is_lost_while_others_are_forgotten():
    turns = NodeTurns(Clock())

    def turn(number: int) -> None:
        for round_ in range(ROUNDS):
            node = Node(name=f"n{number}", uid="", ready=round_ % 2 == 0)
            turns.note(Change(None, node))
            assert (node.name in turns.silent_among([node.name])) or node.ready
            turns.note(Change(node, None))
            assert turns.deleted_among([node.name]) == {node.name}
            turns.retain_only({"n0", "n1"})

    twice(turn)


def test_what_is_being_confirmed_is_never_neither_held_nor_confirmed():
    clock = Clock()
    absent: list[int] = []
    guard: Guard[int] = Guard(
        "pods",
        look=lambda _: Snapshot({absent[-1]: 100}, 100),
        decided=lambda _: None,
        past=Remembered(),
        confirm=10.0,
        clock=clock,
    )
    over = threading.Event()

    def look() -> None:
        for number in range(MANY // 4):
            absent.append(number)
            guard.look_once()
            clock.seconds += 10.0
            guard.look_once()
        over.set()

    seen: set[int] = set()

    def ask() -> None:
        while not over.is_set():
            seen.update(guard.held)
            held = guard.held
            assert seen <= held.keys() | guard.confirmed.among(seen)

    at_once(look, ask)

    assert len(guard.confirmed) == MANY // 4


def test_repairs_are_noted_while_a_watch_asks_how_long_to_wait():
    clock = Clock()
    repairs = Repairs(EventsInMemory(), lambda: None, clock)
    over = threading.Event()
    asked: list[float] = []

    def make() -> None:
        for number in range(MANY // 4):
            repairs.made(f"echo{number % 3}", [], {"/echo": "edited"})
        over.set()

    def ask() -> None:
        while not over.is_set():
            asked.append(repairs.pause("echo0"))

    at_once(make, ask)

    assert asked == sorted(asked), "no repair is forgotten on the way"


def test_answers_are_remembered_beside_each_other_and_only_while_they_count():
    clock = Clock()
    asked: list[str] = []

    def post(method, path, body):
        asked.append(body["spec"]["resourceAttributes"]["name"])
        return {"status": {"allowed": True}}

    registration = Registration(post, EventsInMemory(), clock)

    def work(me: int) -> None:
        for number in range(ROUNDS):
            for _ in range(2):
                assert registration.may_register(pod("p"), f"echo-{me}-{number}")
            clock.seconds += ALLOWED_FOR / 10

    twice(work, "/reconcile/")
    assert 2 * ROUNDS <= len(asked) < 3 * ROUNDS

    clock.seconds += ALLOWED_FOR
    registration.may_register(pod("p"), "echo")
    assert len(registration._answers._answers) == 1


def test_refused_reads_are_remembered_beside_each_other():
    reads = Reads(Clock())

    def refuse() -> None:
        raise Rejected("403")

    def work(me: int) -> None:
        for number in range(ROUNDS):
            with suppress(Unread):
                reads.of((me, number), refuse)

    twice(work, "/reconcile/")
    tried: list[object] = []
    for me in (0, 1):
        for number in range(ROUNDS):
            with suppress(Unread):
                reads.of((me, number), lambda: tried.append(None))
    assert tried == [], "each still waits"


def test_a_word_is_used_up_once_whoever_comes_first():
    words = UnknownWords()
    words.note(service("echo", released="w"))
    used: list[int] = []
    both = threading.Barrier(2, timeout=5.0)

    def work(_: int) -> None:
        for number in range(ROUNDS):
            found = service("echo", released=f"w{number}")
            both.wait()
            if words.use_up(found):
                used.append(number)
            words.forget("another namespace")

    twice(work)

    assert sorted(used) == list(range(ROUNDS))


def test_two_threads_agree_since_when():
    troubles: Troubles[int, Exception] = Troubles()
    found: list[list[float]] = [[], []]

    def work(me: int) -> None:
        for number in range(ROUNDS):
            found[me].append(troubles.begin(number, number + me / 2).since)
            assert troubles.get(number)
            troubles.end(-number - 1)

    twice(work)

    assert found[0] == found[1]
    assert len(troubles) == ROUNDS


def test_what_is_rewritten_is_bounded_and_each_object_has_its_own_pause():
    rewrites = Rewrites()

    def work(me: int) -> None:
        for number in range(MOST_KEYS):
            rewrites.note(f"{me}-{number}", 0.0)
        for number in range(ROUNDS):
            rewrites.lost(f"{me}", f"{number}")
            assert rewrites.is_lost(f"{me}", f"{number}")
            rewrites.kept(f"{me}")

    at_once(lambda: work(0), lambda: work(1))
    assert len(rewrites._at) == MOST_KEYS
    assert rewrites.pause("0-0", 1.0) == 0.0, "forgotten"


def listing(number: int) -> RpcServiceStatus:
    row = Endpoint(pod_name="p", pod_uid=str(number), ip="10.0.0.1", ready=True)
    return RpcServiceStatus(observed_generation=1, endpoints=(row,))


def test_what_is_relied_on_is_one_of_our_own_words_at_every_moment():
    """One thread writes statuses and vouches for them, the other one has others write in between."""
    relied = Relied(Held({}, lambda _: None))
    ours = [service("echo", generation=number, status=listing(number)) for number in range(ROUNDS)]
    forged = service("echo", status=listing(666))
    heard: list[Change[RpcService]] = []
    relied.subscribe(heard.append)

    def vouch() -> None:
        for written in ours:
            relied.vouch(written)
            relied.note(Change(None, written, ours=True))
        relied.looked(ours[0].service_key, {ours[0].uid})

    def forge() -> None:
        for _ in range(ROUNDS):
            relied.note(Change(None, forged))
            for found in relied.indexed("service name", "echo"):
                assert found.status.endpoints[0].pod_uid != "666"

    at_once(lambda: step_by_step(vouch), lambda: step_by_step(forge))

    assert relied.get(forged.key) is ours[-1]
    assert [change.new for change in heard] == ours
    assert [change.old for change in heard] == [None, *ours[:-1]]


def test_a_name_is_done_once_whichever_key_is_the_last():
    initial_sync = InitialSync()
    told: list[ServiceKey] = []
    initial_sync.subscribe(told.append)
    keys = [[ServiceKey(namespace, f"echo{number}") for number in range(ROUNDS)] for namespace in ("a", "b")]
    initial_sync.begin(keys[0] + keys[1])
    both = threading.Barrier(2, timeout=5.0)

    def work(me: int) -> None:
        for key in keys[me]:
            both.wait()
            initial_sync.done(key)

    twice(work)

    assert sorted(key.service_name for key in told) == sorted(key.service_name for key in keys[0])


class SlowNotes(NotesInMemory):
    """One write takes longer than another."""

    def annotate(self, name: str, value: str | None) -> None:
        time.sleep(random.random() * 1e-3)
        super().annotate(name, value)


def test_two_guards_show_on_the_lease_what_both_hold():
    clock, notes = Clock(), SlowNotes()
    lease = HeldOnLease(
        guarded=["RpcService", "LocalService"],
        notes=notes,
        lease=lambda: LEASE,
        events=EventsInMemory(),
        clock=clock,
    )

    both = threading.Barrier(2, timeout=5.0)

    def work(me: int) -> None:
        for number in range(ROUNDS):
            both.wait()
            lease.show(("RpcService", "LocalService")[me], {f"echo{me}{number}": WithoutObject(1, 0.0)})
            both.wait()
            assert notes.annotations == {HELD: f'["echo0{number}","echo1{number}"]'}

    at_once(lambda: work(0), lambda: work(1))


def test_who_is_selected_is_right_whichever_watch_is_ahead():
    pods = Store({})
    selections = Selections(pods, lambda found: found.spec.selector)
    selecting = service(
        "echo", spec=RpcServiceSpec(service_name="echo", selector=LabelSelector(match_labels={"app": "echo"}))
    )

    def pods_change() -> None:
        for number in range(MANY):
            change = pods.put(
                pod(f"p{number % 10}", labels={"app": "echo" if number % 3 else ""}), number + 1
            )
            if change:
                selections.note_pod(change)
                selections.touched_by(change)

    def services_change() -> None:
        for _ in range(MANY // 10):
            selections.note(Change(selecting, None))
            selections.note(Change(None, selecting))

    at_once(pods_change, services_change)

    expected = {found.name for found in pods.values() if found.labels["app"] == "echo"}
    assert selections.pods_of(selecting.key) == expected


def test_the_heartbeat_is_looked_at_by_two():
    clock = Clock()
    lookout = Lookout(ZooKeeperInMemory(), "cluster", clock)

    def work(_: int) -> None:
        for _ in range(ROUNDS):
            clock.seconds += 1.0
            assert lookout.look().found is None

    twice(work)


def test_the_guard_reads_the_cache_while_the_registry_changes_it():
    layout = Layout("serverset", "/base")
    cache = ZnodeCache(ZooKeeperInMemory(), [layout], ["cluster"], Clock())
    paths = [ledger_path(layout, f"echo{number}", "cluster") for number in range(MANY)]
    over = threading.Event()

    def write() -> None:
        cache.read(["echo"])
        for path in paths:
            cache.expect([Create(path, b"{}")])
            cache.remember(Create(path, b"{}"), 0)
            cache.remember(Delete(path, 0), None)
        over.set()

    def look() -> None:
        while not over.is_set():
            for name in cache.claimed():
                cache.claims(layout, name)
                cache.size(name)
            cache.changed(paths[0])

    at_once(write, look)

    assert cache.claimed() == set()


def test_every_pod_that_two_watches_show_is_known_to_be_shown():
    notes = NotesInMemory()
    memory = Memory(notes, Withdrawn(notes, lambda: None))
    memory.judge(Record({"pods": 1}, restored="it went back"), None, {})
    memory.compared()

    def work(me: int) -> None:
        for number in range(ROUNDS):
            memory.note_pod(Change(None, pod(2 * number + me)))
            memory.went_back("it went back again")
            assert memory.record(Record({"pods": number})).versions == {"pods": 1}

    twice(work, "memory.py")

    assert all(memory.is_shown(pod(number).uid) for number in range(2 * ROUNDS))


def test_what_one_explains_and_another_confirms_is_left_over_no_more():
    layout = Layout("kube2zk", "/rpc_v2")
    numbers = range(40)
    content = msgspec.json.encode({"config": [], "servers": [f"10.0.0.{number}" for number in numbers]})
    view = ObservedZnodes(Znode(content, 1), Znode(Ledger("c1").encode(), 1))
    leftovers = Leftovers([layout], "c1")
    leftovers.left(layout, "echo", view, ())

    def explain() -> None:
        for number in numbers[::2]:
            leftovers.left(layout, "echo", view, [row(number)])

    def confirm() -> None:
        for number in numbers[1::2]:
            leftovers.discard([("echo", "/rpc_v2/echo", f"10.0.0.{number}")])

    at_once(lambda: step_by_step(explain), lambda: step_by_step(confirm))

    assert leftovers.of("echo") == set()


def test_who_is_seen_to_go_as_a_service_is_met_leaves_nothing_over():
    layout = Layout("kube2zk", "/rpc_v2")
    numbers = range(40)
    content = msgspec.json.encode({"config": [], "servers": [f"10.0.0.{number}" for number in numbers]})
    view = ObservedZnodes(Znode(content, 1), Znode(Ledger("c1").encode(), 1))
    leftovers = Leftovers([layout], "c1")

    def go() -> None:
        for number in numbers:
            leftovers.note_went("echo", [row(number)])

    at_once(lambda: step_by_step(go), lambda: step_by_step(lambda: leftovers.left(layout, "echo", view, ())))

    assert leftovers.of("echo") == set()


class Services:
    """An informer's store alone."""

    def __init__(self) -> None:
        self.store: Store[RpcService] = Store(room_indexes())


def test_two_that_make_objects_make_no_more_than_there_is_room_for():
    services = Services()
    room = Room(services, ROUNDS)

    def work(me: int) -> None:
        for number in range(ROUNDS):
            made = service(f"s{me}-{number}")
            with suppress(Rejected), room.to_make(made.key):
                services.store.put(made, 1)
            assert len(services.store.indexed(IN_NAMESPACE, "default")) <= ROUNDS

    twice(work)

    assert len(services.store.indexed(IN_NAMESPACE, "default")) == ROUNDS
    with suppress(Rejected), room.to_make(ObjectKey("default", "one-more")):
        raise AssertionError
    with room.to_make(ObjectKey("another", "one")):
        pass


def test_what_the_watch_shows_while_another_thread_begins_to_wait_is_not_missed():
    services = Services()
    shown = Shown(services, lambda: True, longest=30.0)
    turns = threading.Barrier(2, timeout=60.0)
    made = [service(f"s{number}") for number in range(ROUNDS)]
    results: list[bool] = []

    def watch() -> None:
        for one in made:
            turns.wait()
            services.store.put(one, 1)
            shown.note(Change(None, one))

    def write() -> None:
        for one in made:
            turns.wait()
            results.append(shown.wait(one))

    at_once(lambda: step_by_step(watch, "/reconcile/shown"), lambda: step_by_step(write, "/reconcile/shown"))
    assert results == [True] * ROUNDS
    assert not Shown(services, lambda: False).wait(service("alone"))  # it does not wait at all


def test_what_two_say_of_two_namespaces_is_not_lost():
    clock = Clock()
    slow = SlowNamespaces(clock)

    def work(me: int) -> None:
        for number in range(ROUNDS):
            slow._note(("pods", f"{me}-{number}"), True)

    twice(work)

    assert slow._slow == {("pods", f"{me}-{number}") for me in (0, 1) for number in range(ROUNDS)}


def test_a_namespace_is_slow_from_a_long_request_until_a_short_one():
    clock = Clock()
    slow = SlowNamespaces(clock)
    is_slow = slow.of(RPCSERVICES)
    with suppress(Rejected), slow.timed(RPCSERVICES, "a"):
        clock.seconds += SLOW + 0.1
        raise Rejected("504")
    assert is_slow("a")
    assert not is_slow("b")
    with slow.timed(PODS, "a"):
        pass
    assert is_slow("a"), "another kind says nothing"
    assert not slow.of(PODS)("a")
    with slow.timed(RPCSERVICES, "a"):
        clock.seconds += SLOW
    assert not is_slow("a")


def test_what_guards_withdraw_at_once_is_counted_and_shown():
    notes = NotesInMemory()
    withdrawn = Withdrawn(notes, lambda: None)

    def work(me: int) -> None:
        for _ in range(ROUNDS):
            withdrawn.note("pods" if me else "nodes", 0.0, 1)
            withdrawn.within("pods", 0.0, 30.0)

    twice(work)
    assert withdrawn.within("pods", 0.0, 30.0) == withdrawn.within("nodes", 0.0, 30.0) == ROUNDS
    assert notes.annotations[WITHDRAWN] == f"nodes={ROUNDS} pods={ROUNDS}"
