"""What the Lease says of holds, of several guards, and after another process."""

from rpcregistry.model import HELD, RELEASE, Regarding
from rpcregistry.reconcile.held import HeldOnLease, WithoutObject
from tests.worlds import Clock, EventsInMemory, NotesInMemory

KINDS = ("RpcService", "LocalService")
LEASE = Regarding("coordination.k8s.io/v1", "Lease", "default", "rpcregistry", "lease")


class World:
    """A Lease as it was found, and a process that has just begun."""

    def __init__(self, noted: str = "") -> None:
        self.notes = NotesInMemory()
        self.notes.annotations = {HELD: noted} if noted else {}
        self.events = EventsInMemory()
        self.lease: Regarding | None = LEASE
        clock = Clock()
        self.on_lease = HeldOnLease(
            guarded=KINDS, notes=self.notes, lease=lambda: self.lease, events=self.events, clock=clock
        )

    @property
    def noted(self) -> str | None:
        return self.notes.annotations.get(HELD)


def test_the_lease_names_what_each_guard_holds():
    world = World()
    world.on_lease.show("RpcService", {"echo": WithoutObject(2, 0.0)}, leaving=["going"])
    world.on_lease.show("LocalService", {"app": WithoutObject(1, 0.0)})
    assert world.noted == '["app","echo","going"]'
    world.on_lease.show("RpcService", {})
    assert world.noted == '["app"]'


def test_what_an_earlier_process_noted_stays_until_each_guard_has_looked():
    """Or who waits for it would take it for withdrawn."""
    world = World('["echo"]')
    world.on_lease.show("LocalService", {})
    assert world.noted == '["echo"]'
    world.on_lease.show("LocalService", {"app": WithoutObject(1, 0.0)})
    assert world.noted == '["app","echo"]'
    world.on_lease.show("RpcService", {})
    assert world.noted == '["app"]'


def test_one_event_tells_all_that_one_look_brought_and_what_was_told_is_told_once():
    world = World()
    for _ in range(2):
        world.on_lease.show("RpcService", {"a": WithoutObject(1, 0.0), "b": WithoutObject(2, 0.0)})
    world.on_lease.show("LocalService", {"a": WithoutObject(1, 0.0)})
    world.on_lease.show("RpcService", {"a": WithoutObject(10, 0.0), "b": WithoutObject(19, 0.0)})
    told = [problem.message.split(";")[0] for _, problem in world.events.told]
    assert told == [
        "a, b: no RpcService lists 3 published endpoints any more",
        "a: no LocalService is there for 1 Services any more",
        "a: no RpcService lists 10 published endpoints any more",
    ]


def test_what_is_held_again_is_told_again():
    world = World()
    for held in ({"a": WithoutObject(5, 0.0)}, {}, {"a": WithoutObject(5, 0.0)}):
        world.on_lease.show("RpcService", held)
    assert len(world.events.told) == 2


def test_what_is_held_before_there_is_a_lease_is_told_once_there_is_one():
    world = World()
    world.lease, world.notes.annotations = None, None
    world.on_lease.show("RpcService", {"a": WithoutObject(1, 0.0)})
    assert (world.events.told, world.on_lease.words(["a"])) == ([], {})
    world.lease, world.notes.annotations = LEASE, {RELEASE: "w1"}
    world.on_lease.show("RpcService", {"a": WithoutObject(1, 0.0)})
    assert len(world.events.told) == 1
    assert world.on_lease.words(["a"]) == {"Lease": "w1"}
