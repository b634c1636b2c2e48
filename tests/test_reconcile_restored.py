"""An API server that was restored to an older state, and what an earlier process left in ZooKeeper."""

import json

import msgspec
import pytest

from rpcregistry.errors import Fenced, Partial, Rejected, Retry
from rpcregistry.layouts import Layout
from rpcregistry.model import RELEASE, RESTORED, Declaration, ObjectKey, Pod
from rpcregistry.plan.ledger import Ledger
from rpcregistry.plan.ops import Create, Znode
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.restored import Record
from rpcregistry.reconcile.fence import Fence
from rpcregistry.reconcile.guard import Guard, Snapshot
from rpcregistry.reconcile.leftovers import Leftovers
from rpcregistry.reconcile.withdrawn import WITHDRAWN, Withdrawn
from rpcregistry.runtime.store import Change
from tests.builders import pod
from tests.worlds import Clock, NotesInMemory, Remembered, ZooKeeperInMemory
from tests.worlds.registry import CONFIRM, World

WHY = "pods: the server's resourceVersion went back from 50 to 20"
LIVE = range(11, 23)
DEAD = range(1, 5)


def addresses(numbers) -> list[str]:
    return [f"10.0.0.{number}" for number in numbers]


def echo(number: int, **fields: object) -> Pod:
    return pod(number, "echo", **fields)


def later(world: World, seconds: float) -> World:
    world.clock.seconds += seconds
    return world.settle()


def release(world: World) -> World:
    """What the command does, and what the Lease's thread makes of it."""
    word = f"word-{world.clock.seconds}"
    world.notes.annotations = {**(world.notes.annotations or {}), RELEASE: word}
    world.memory.note_word(word)
    return world.settle()


@pytest.fixture
def restored() -> World:
    """A process that begins when etcd has its old state again: 4 dead pods; the 12 live ones are unknown."""
    world = World()
    world.serve(*DEAD)
    world.settle()
    status = world.services.values()[0]
    backup = world.pods.values(), status
    for number in DEAD:
        world.pods.drop(pod(number).key)
    world.serve(*LIVE)
    world.settle()
    assert world.servers() == addresses(LIVE)
    world.pods._items = {each.key: each for each in backup[0]}
    world.services._items = {status.key: status}
    world.record = Record({"pods": 50}, restored=WHY)
    world.notes.annotations = {RELEASE: "an old word"}
    world.start()
    world.memory.note_word("an old word")
    return world


def test_after_a_restore_nothing_is_withdrawn_and_nobody_who_may_be_dead_is_published(restored: World):
    later(restored.settle(), 10 * CONFIRM)
    assert restored.servers() == addresses(LIVE)
    assert restored.notes.annotations[RESTORED] == WHY
    status = restored.services.values()[0].status
    assert status.condition("Synced").reason == "Held"
    assert "--all" in status.condition("Synced").message


def test_after_a_restore_what_watch_events_show_is_followed(restored: World):
    restored.settle()
    restored.serve(30)
    restored.settle()
    assert restored.servers() == addresses([*LIVE, 30])
    restored.pods.drop(pod(30).key)
    restored.settle()
    assert restored.servers() == addresses(LIVE)
    restored.pods.put(echo(DEAD[0], ready=False))
    restored.settle()
    restored.pods.put(echo(DEAD[0]))
    restored.settle()
    assert restored.servers() == sorted(
        addresses([DEAD[0], *LIVE]), key=lambda text: int(text.split(".")[-1])
    )


def test_the_next_process_holds_what_the_one_before_held(restored: World):
    restored.settle()
    restored.registry.beat()
    restored.start()
    later(restored.settle(), 10 * CONFIRM)
    assert restored.servers() == addresses(LIVE)


def test_a_release_of_all_takes_the_server_as_it_is(restored: World):
    restored.settle()
    release(restored)
    assert restored.servers() == addresses(DEAD)
    assert RESTORED not in restored.notes.annotations
    restored.registry.beat()
    assert restored.record.restored == ""
    restored.start()
    assert later(restored.settle(), CONFIRM).servers() == addresses(DEAD)


def go_back(world: World) -> None:
    """A process sees etcd go back: the pods of the backup are there, its own are not."""
    world.memory.note_word("")
    world.memory.went_back(WHY)
    for number in LIVE:
        world.pods.drop(pod(number).key, listed=True)
    for number in DEAD:
        world.pods._items[pod(number).key] = echo(number)
        world._pod_changed(Change(None, echo(number), listed=True))


@pytest.mark.parametrize("zookeeper", [False, True], ids=["etcd alone", "ZooKeeper, too"])
def test_a_restore_that_a_process_sees_changes_nothing(zookeeper: bool):
    world = World()
    world.serve(*LIVE)
    world.settle()
    go_back(world)
    if zookeeper:
        world.zookeeper.znodes["/rpc_v2/echo"] = (b'{"config":[],"servers":["10.0.0.1"]}', 0)
        world.registry.path_changed("/rpc_v2/echo")
        world.compared = False
    later(world.settle(), 10 * CONFIRM)
    served = world.servers()
    assert set(addresses(LIVE)) <= set(served)
    assert set(served) <= {*addresses(LIVE), "10.0.0.1"}
    assert all(row.held for row in world.services.values()[0].status.endpoints if row.ip in addresses(LIVE))
    release(world)
    assert world.servers() == addresses(DEAD)


def test_a_pod_that_a_restored_list_shows_not_ready_stays():
    world = World()
    world.serve(*LIVE)
    world.settle()
    world.record = Record(restored=WHY)
    world.pods._items[pod(LIVE[0]).key] = echo(LIVE[0], ready=False)
    world.start()
    later(world.settle(), CONFIRM)
    assert world.servers() == addresses(LIVE)
    world.pods.put(echo(LIVE[0], ready=False, phase="Pending"))
    world.settle()
    assert world.servers() == addresses(LIVE[1:])


# What an earlier process left


def leave(world: World, *numbers: int) -> World:
    """The statuses and pods of *numbers* went while nobody looked; ZooKeeper has their addresses."""
    world.settle()
    service = world.services.values()[0]
    rows = tuple(row for row in service.status.endpoints if row.ip not in addresses(numbers))
    status = msgspec.structs.replace(service.status, endpoints=rows)
    world.services._items[service.key] = msgspec.structs.replace(service, status=status)
    for number in numbers:
        world.pods._items.pop(pod(number).key, None)
    world.start()
    return world


def test_the_few_that_were_left_go_when_a_list_has_nobody_with_that_address():
    world = World()
    world.serve(*LIVE)
    leave(world, LIVE[0]).settle()
    assert world.servers() == addresses(LIVE[1:])


def test_many_that_were_left_are_held_and_told_and_released():
    world = World()
    world.serve(*LIVE)
    leave(world, *LIVE[:6]).settle()
    assert world.servers() == addresses(LIVE)
    assert json.loads(world.notes.annotations["rpcregistry.dev/held"]) == ["echo"]
    later(world, CONFIRM)
    assert world.servers() == addresses(LIVE[6:])
    assert "rpcregistry.dev/held" not in world.notes.annotations


def test_what_a_list_still_names_stays():
    world = World()
    world.serve(*LIVE)
    leave(world, *LIVE[:6])
    world.pods.elsewhere = [echo(number) for number in LIVE[:5]]
    later(world.settle(), 2 * CONFIRM)
    assert world.servers() == addresses([*LIVE[:5], *LIVE[6:]])


def test_what_others_put_into_our_znode_goes_at_once():
    world = World()
    world.serve(*LIVE)
    world.settle()
    data, version = world.zookeeper.znodes["/rpc_v2/echo"]
    content = json.loads(data)
    content["servers"] += addresses(range(40, 60))
    world.zookeeper.znodes["/rpc_v2/echo"] = (json.dumps(content).encode(), version + 1)
    world.registry.path_changed("/rpc_v2/echo")  # by our own write
    world.names |= set(world.registry.path_changed("/rpc_v2/echo"))
    world.settle()
    assert world.servers() == addresses(LIVE)


def test_while_an_rpcservice_is_missing_and_cannot_be_made_a_dead_pod_is_withdrawn_after_a_restart():
    world = World()
    world.serve(*LIVE)
    world.settle()
    world.kube.refuses = lambda verb, name: Rejected("exceeded quota") if verb == "create" else None
    world.services._items.pop(ObjectKey("default", "echo"))
    world.start()
    world.settle_except(Partial)
    for _ in range(3):
        world.settle_except(Partial)
    assert world.servers() == addresses(LIVE)
    world.pods.drop(pod(LIVE[0]).key)
    for _ in range(3):
        world.settle_except(Partial)
    assert world.servers() == addresses(LIVE[1:])


def test_a_pod_that_goes_before_anybody_has_looked_is_confirmed_by_a_list():
    world = World()
    world.serve(*LIVE)
    world.settle()
    world.kube.refuses = lambda verb, name: Rejected("exceeded quota") if verb == "create" else None
    world.services._items.pop(ObjectKey("default", "echo"))
    world.pods._items.pop(pod(LIVE[0]).key)
    world.start()
    for _ in range(3):
        world.settle_except(Partial)
    assert world.servers() == addresses(LIVE[1:])


# A ZooKeeper that was restored


def fence(zookeeper: ZooKeeperInMemory, notes: NotesInMemory) -> Fence:
    """A leader's, which has taken it."""
    made = Fence(zookeeper, "c1", lambda: None, notes)
    made.check()
    return made


@pytest.mark.parametrize("wiped", [False, True], ids=["an older one", "none"])
def test_no_leader_after_a_restore_gives_the_fence_the_version_of_a_paused_one(wiped: bool):
    zookeeper, notes = ZooKeeperInMemory(), NotesInMemory()
    fence(zookeeper, notes)
    saved = {} if wiped else dict(zookeeper.znodes)
    for _ in range(3):
        paused = fence(zookeeper, notes)
    zookeeper.znodes = saved
    for _ in range(5):
        fence(zookeeper, notes)
        with pytest.raises(Fenced):
            zookeeper.commit([paused.check(), Create("/late", b"")])


def test_a_leader_that_sees_an_older_fence_writes_it_anew():
    zookeeper, notes = ZooKeeperInMemory(), NotesInMemory()
    paused = fence(zookeeper, notes)
    leader = fence(zookeeper, notes)
    saved = {path: (data, version - 1) for path, (data, version) in zookeeper.znodes.items()}
    zookeeper.znodes = saved
    zookeeper.commit([paused.check(), Create("/early", b"")])  # until the leader has looked
    zookeeper.generation += 1
    zookeeper.commit([leader.check(), Create("/ours", b"")])
    zookeeper.generation -= 1  # the paused one has not looked
    with pytest.raises(Fenced):
        zookeeper.commit([paused.check(), Create("/late", b"")])


def test_without_a_pod_controller_nothing_counts_as_left_over():
    layout = Layout("kube2zk", "/rpc_v2")
    view = ObservedZnodes(Znode(b'{"servers":["10.0.0.1"]}', 1), Znode(Ledger("c1").encode(), 1))
    assert Leftovers([layout], "c1").left(layout, "echo", view, ()) == {"10.0.0.1"}
    assert Leftovers([], "c1").left(layout, "echo", view, ()) == frozenset()


def test_what_is_left_in_several_layouts_counts_as_one_endpoint():
    world = World()
    world.layouts = tuple(Layout(name, f"/{name}") for name in ("kube2zk", "curator", "dubbo", "serverset"))
    world.start()
    numbers = range(11, 31)
    for number in numbers:
        world.pods.put(pod(number, "echo", declarations=(Declaration(service_name="echo", port=80),)))
    leave(world, *numbers[:3]).settle()
    published = world.zookeeper.children("/serverset/echo")
    assert len(published) == 17


# What guards withdrew a moment ago


def test_few_after_few_are_held_by_the_next_process():
    world = World()
    world.serve(*range(11, 41))
    leave(world, *range(11, 15)).settle()
    assert world.servers() == addresses(range(15, 41))
    assert world.notes.annotations[WITHDRAWN] == "registry=4"
    leave(world, *range(15, 19)).settle()
    assert world.servers() == addresses(range(15, 41)), "8 of 26 are not few"
    later(world, CONFIRM)
    assert world.servers() == addresses(range(19, 41))
    later(world, CONFIRM)
    assert WITHDRAWN not in world.notes.annotations


def test_nothing_is_withdrawn_that_could_not_be_noted():
    notes = NotesInMemory()

    def renew() -> None:
        raise Retry("500")

    past = Remembered()
    past.withdrawn = Withdrawn(notes, renew)
    guard: Guard[str] = Guard(
        "pods",
        look=lambda _: Snapshot({"a": 1}, 100),
        decided=lambda _: None,
        past=past,
        confirm=CONFIRM,
        clock=Clock(),
    )
    with pytest.raises(Retry):
        guard.look_once()
    assert "a" not in guard.confirmed
    assert notes.annotations[WITHDRAWN] == "pods=1"


# What a guard holds while the server counts as restored


def test_only_a_person_who_takes_the_server_as_it_is_lets_a_guard_go_on():
    clock, past = Clock(), Remembered()
    words = {"Lease": "first"}
    guard: Guard[str] = Guard(
        "pods",
        look=lambda confirmed: Snapshot(
            {"a": 50} if "a" not in confirmed else {}, 100, words={"a": dict(words)}
        ),
        decided=lambda _: None,
        past=past,
        confirm=CONFIRM,
        clock=clock,
    )
    past.holds = True
    assert guard.look_once() is None, "no time ends it"
    words["Lease"] = "second, which a restored server has from before"
    clock.seconds += CONFIRM / 2
    guard.look_once()
    assert ("a" in guard.held, "a" in guard.confirmed) == (True, False)

    past.holds, past.accepted = False, 1
    words["Lease"] = "first"
    guard.look_once()
    assert ("a" in guard.held, "a" in guard.confirmed) == (False, True)


def test_a_guard_looks_at_what_shows_a_restored_server_before_it_confirms_anything():
    past = Remembered()
    guard: Guard[str] = Guard(
        "pods",
        look=lambda confirmed: Snapshot({"a": 1} if "a" not in confirmed else {}, 100),
        decided=lambda _: None,
        past=past,
        confirm=CONFIRM,
        clock=Clock(),
    )

    def check() -> None:
        past.holds = True

    past.check = check
    guard.look_once()
    assert ("a" in guard.held, "a" in guard.confirmed) == (True, False)
