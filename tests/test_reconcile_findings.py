"""What the pod controller writes to Synced where no registry runs in its process."""

import msgspec
import pytest

from rpcregistry.errors import Partial, Rejected
from rpcregistry.model import Condition, ObjectKey, Problem, RpcService, ServiceKey
from rpcregistry.plan.publication import Unlisted
from rpcregistry.reconcile import byname
from rpcregistry.reconcile.findings import FindingReconciler
from rpcregistry.reconcile.initialsync import InitialSync
from tests.builders import row, rpcservice
from tests.worlds import Clock, EventsInMemory, Held, KubeInMemory

ECHO = ServiceKey("default", "echo")
KEY = ObjectKey("default", "echo")
REFUSED = Unlisted(refusals={"default": Problem("Refused", "1 Ready pods have no room: 403")})


class World:
    def __init__(self, service: RpcService) -> None:
        self.kube: KubeInMemory[RpcService] = KubeInMemory()
        self.services: Held[RpcService] = Held(byname.service_indexes(), lambda _: None)
        self.kube.source = self.services
        self.services.put(service)
        self.sync = InitialSync()
        self.clock = Clock()
        self.events = EventsInMemory()
        self.under = FindingReconciler(
            kube=self.kube,
            services=self.services,
            initial_sync=self.sync,
            events=self.events,
            clock=self.clock,
        )

    def shown(self) -> tuple[str, str] | None:
        self.under.reconcile(KEY)
        found = self.services.get(KEY)
        condition = found.status.condition("Synced") if found else None
        return (condition.status, condition.reason) if condition else None


def echo(*reasons: str, known: bool = True, **fields: object) -> RpcService:
    """The RpcService, which shows Synced with one of *reasons*, if any."""
    made = rpcservice("echo", row(1), known=known, **fields)
    conditions = tuple(
        Condition(type="Synced", status=str(reason == "Synced"), reason=reason) for reason in reasons
    )
    return msgspec.structs.replace(made, status=msgspec.structs.replace(made.status, conditions=conditions))


def test_a_refusal_shows_and_is_taken_back():
    world = World(echo())
    assert world.shown() is None
    world.sync.note_unlisted(ECHO, REFUSED)
    assert world.under.keys_of("echo") == {KEY}
    assert world.shown() == ("False", "Refused")
    assert [problem.reason for _, problem in world.events.told] == ["Refused"]
    writes = len(world.kube.writes)
    assert world.shown() == ("False", "Refused")
    assert len(world.kube.writes) == writes
    world.sync.note_unlisted(ECHO, Unlisted())
    assert world.shown() is None


@pytest.mark.parametrize("reason", ["Synced", "RegistryUnavailable", "OwnedElsewhere"])
def test_a_registry_of_another_process_keeps_its_word(reason: str):
    world = World(echo(reason))
    before = world.shown()
    assert before == (str(reason == "Synced"), reason)
    assert world.kube.writes == []


def test_holds_and_specs_that_cannot_be_read_show():
    assert World(rpcservice("echo", row(1, held=True))).shown() == ("False", "Held")
    assert World(echo(unreadable="no object")).shown() == ("False", "Unreadable")


def test_what_an_earlier_process_found_stays_until_the_key_was_reconciled():
    world = World(echo("Refused"))
    world.sync.begin([ECHO])
    assert world.shown() == ("False", "Refused")
    world.sync.done(ECHO)
    assert world.shown() is None


def test_an_object_without_a_status_shows_nothing():
    world = World(echo(known=False))
    world.sync.note_unlisted(ECHO, REFUSED)
    assert world.shown() is None


def test_a_condition_that_is_refused_waits():
    world = World(echo())
    world.sync.note_unlisted(ECHO, REFUSED)
    tried: list[str] = []

    def refuses(verb: str, name: str) -> Rejected:
        tried.append(verb)
        return Rejected("403")

    world.kube.refuses = refuses
    for _ in range(3):
        with pytest.raises(Partial):
            world.shown()
    assert tried == ["patch"]
