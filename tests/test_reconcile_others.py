"""Others write, delete and remake RpcServices at the worst moment, while writes of ours are refused."""

from collections.abc import Mapping

import msgspec
import pytest

from rpcregistry.errors import Conflict, Rejected, Retry
from rpcregistry.layouts import Layout
from rpcregistry.model import Declaration, Endpoint, ObjectKey, RpcService, ServiceKey
from rpcregistry.plan.ops import Create, Op
from rpcregistry.reconcile.troubles import LONGEST_PAUSE
from tests.builders import pod, pod_key, row
from tests.worlds.registry import World

ECHO = ObjectKey("default", "echo")
KEY = ServiceKey("default", "echo")
QUOTA = Rejected("403 Forbidden: exceeded quota: q")
FORGED = "6.6.6.6"


@pytest.fixture
def world() -> World:
    world = World()
    world.endpoints_per_object = 3
    world.start()
    return world


def forge(world: World, *endpoints: Endpoint) -> None:
    """Somebody else writes the status."""
    world.kube._version += 1
    service = world.services.get(ECHO)
    status = msgspec.structs.replace(service.status, endpoints=endpoints)
    version = str(world.kube._version)
    world.services.put(msgspec.structs.replace(service, status=status, resource_version=version))


def refuse(world: World, verb: str) -> None:
    world.kube.refuses = lambda asked, _: QUOTA if asked == verb else None


# Addresses that others write


def test_a_row_of_others_counts_by_what_its_pod_shows_while_pods_cannot_be_read(world: World):
    world.serve(1, 2)
    before = world.settle().servers()
    world.pods.unknown = "403"
    forge(world, row(1), row(2), row(1, FORGED, port=6666))

    assert world.work_off() == before


def test_a_row_of_others_counts_by_what_its_pod_shows_though_our_store_lacks_the_pod(world: World):
    world.serve(1, 2)
    world.settle()
    world.pods.elsewhere = [pod(3, "other"), pod(4, "echo")]
    forge(world, row(1), row(2), row(3, FORGED), row(4, FORGED, port=6666))

    assert world.work_off() == ["10.0.0.1", "10.0.0.2", "10.0.0.4"]
    assert not any(FORGED in str(data) for data, _ in world.zookeeper.znodes.values())


def test_a_pod_that_cannot_be_read_keeps_none_of_the_dead_published(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    def refuse_to_read(_: ObjectKey) -> None:
        raise Retry("500")

    world.serve(1, 2)
    world.settle()
    monkeypatch.setattr(world.rpcservices._observer, "_read_pod", refuse_to_read)
    forge(world, row(1), row(2), row(3, FORGED))
    world.pods.drop(pod_key(1))

    assert world.work_off() == ["10.0.0.2"]


def test_of_many_rows_that_others_write_few_pods_are_read(world: World, monkeypatch: pytest.MonkeyPatch):
    read: list[ObjectKey] = []
    world.serve(1)
    before = world.settle().servers()
    monkeypatch.setattr(world.rpcservices._observer, "_read_pod", read.append)
    forge(world, row(1), *(row(number, FORGED) for number in range(2, 200)))
    world.rpcservices.reconcile(KEY)

    assert 1 <= len(read) <= 10
    assert world.work_off() == before


def test_what_a_mutating_policy_makes_of_our_rows_is_not_our_word(world: World):
    write = world.kube._write

    def mutate(verb, key, manifest, subresource):
        rows = [{**each, "ip": FORGED, "ips": [FORGED]} for each in manifest["status"]["endpoints"]]
        changed = {**manifest, "status": {**manifest["status"], "endpoints": rows}}
        return write(verb, key, changed if verb == "replace" else manifest, subresource)

    world.serve(1)
    world.settle()
    world.kube._write = mutate
    world.serve(2)
    assert world.work_off() == ["10.0.0.1", "10.0.0.2"]
    world.pods.drop(pod_key(1))
    assert world.work_off() == ["10.0.0.2"]
    assert not any(FORGED in str(data) for data, _ in world.zookeeper.znodes.values())
    condition = world.services.get(ECHO).status.condition("Synced")
    assert (condition.status, condition.reason) == ("False", "Refused")
    assert "does not keep status.endpoints" in condition.message
    assert len(world.kube.writes) < 12, "it is tried ever later"

    world.kube._write = write
    world.clock.seconds += LONGEST_PAUSE
    world.keys.add(KEY)
    assert world.work_off() == ["10.0.0.2"]
    assert [found.ip for found in world.services.get(ECHO).status.endpoints] == ["10.0.0.2"]


def test_a_dry_run_takes_no_answer_for_what_the_server_keeps(world: World):
    def unchanged(verb, key, manifest, subresource):
        return world.services.get(key)

    world.serve(1)
    world.settle()
    world.kube.dry_run = True
    world.kube._write = unchanged
    world.serve(2)
    world.rpcservices.reconcile(KEY)


def test_an_object_that_no_operation_is_about_is_not_relied_on(world: World):
    """A part whose head is gone, with rows of others, while a quota keeps the head from being made."""
    world.serve(1, 2, 3, 4)
    before = world.settle().servers()
    part = next(service for service in world.services.values() if service.is_part)
    refuse(world, "create")
    world.services.drop(ECHO)
    world.services.drop(part.key)
    status = msgspec.structs.replace(part.status, endpoints=(row(1, FORGED),))
    world.services.put(msgspec.structs.replace(part, uid="other", resource_version="900", status=status))

    assert world.work_off() == before


def test_who_is_listed_by_others_too_stays_published_while_that_cannot_be_put_right(world: World):
    """An object that was remade lists right rows: its part must not make way for what nobody relies on."""
    world.serve(1, 2, 3)
    world.settle()
    world.serve(4)
    world.settle()
    head = world.services.get(ECHO)
    rows = (*head.status.endpoints, *world.services.get(part_of(world)).status.endpoints)
    world.pods.drop(pod_key(1))
    world.services.drop(ECHO)
    status = msgspec.structs.replace(head.status, endpoints=rows)
    world.kube.refuses = lambda verb, name: QUOTA if (verb, name) == ("replace", "echo") else None
    world.services.put(msgspec.structs.replace(head, uid="other", resource_version="900", status=status))

    assert world.work_off() == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]


def part_of(world: World) -> ObjectKey:
    return next(service.key for service in world.services.values() if service.is_part)


# A report of the pod controller that ends while the registry reads


def meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pod controller write what was refused, right after the registry read the statuses."""
    read = world.relied.indexed
    world.kube.refuses = lambda *_: None
    world.clock.seconds += LONGEST_PAUSE

    def indexed(index: str, value: str) -> list[RpcService]:
        found = list(read(index, value))
        monkeypatch.undo()
        world.rpcservices.reconcile(KEY)
        return found

    monkeypatch.setattr(world.relied, "indexed", indexed)
    assert world.registry.reconcile(["echo"])[0] == {}


def test_who_went_does_not_come_back_as_the_status_is_written_at_last(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.serve(1, 2)
    world.settle()
    refuse(world, "replace")
    world.pods.drop(pod_key(1))
    assert world.work_off() == ["10.0.0.2"]

    meanwhile(world, monkeypatch)
    assert world.servers() == ["10.0.0.2"]
    assert world.work_off() == ["10.0.0.2"]


def test_who_was_published_stays_as_the_status_lists_him_at_last(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.serve(1, 2)
    world.settle()
    forge(world, row(1))
    world.start()  # at a start all rows count as our own
    refuse(world, "replace")
    assert world.work_off() == ["10.0.0.1", "10.0.0.2"]

    meanwhile(world, monkeypatch)
    assert world.servers() == ["10.0.0.1", "10.0.0.2"]
    assert world.work_off() == ["10.0.0.1", "10.0.0.2"]


def test_who_was_published_stays_as_the_key_is_reconciled_for_the_first_time(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.serve(1, 2)
    world.settle()
    forge(world, row(1))
    world.start()
    world.registry.compare()
    world.compared = True

    meanwhile(world, monkeypatch)
    assert world.servers() == ["10.0.0.1", "10.0.0.2"]
    assert world.work_off() == ["10.0.0.1", "10.0.0.2"]


# Who was seen to go


@pytest.mark.parametrize("forged", [(), (row(2),), (row(9, FORGED),)])
def test_who_was_forged_away_and_then_goes_is_not_written_anew(world: World, forged: tuple[Endpoint, ...]):
    world.serve(1, 2)
    world.settle()
    forge(world, *forged)
    world.pods.drop(pod_key(1))
    world.rpcservices.reconcile(KEY)

    assert [found.pod_name for found in world.services.get(ECHO).status.endpoints] == ["p2"]


def test_a_resync_forgets_nobody_whom_only_our_own_word_lists(world: World):
    world.serve(*range(1, 20))
    world.settle()
    refuse(world, "replace")
    forge(world)
    world.work_off()
    for number in range(1, 18):
        world.pods.drop(pod_key(number))
    world.work_off()
    world.rpcservices.absences.forget_withdrawn()
    world.keys |= world.rpcservices.every_key()

    assert world.work_off() == ["10.0.0.18", "10.0.0.19"]


def test_the_dead_leave_while_the_status_of_an_object_that_was_remade_cannot_be_written(world: World):
    world.serve(1, 2, 3)
    before = world.settle().servers()
    old = world.services.get(ECHO)
    refuse(world, "replace")
    world.services.drop(ECHO)
    blank = msgspec.structs.replace(old, uid="other", resource_version="900", status=type(old.status)())
    world.services.put(blank)
    assert world.work_off() == before

    world.pods.drop(pod_key(1))
    assert world.work_off() == ["10.0.0.2", "10.0.0.3"]


def test_the_dead_leave_while_the_status_that_is_to_list_a_deleted_parts_pods_cannot_be_written(world: World):
    world.serve(1, 2, 3, 4)
    world.settle()
    world.pods.drop(pod_key(1))  # there is room in the head
    before = world.settle().servers()
    refuse(world, "replace")
    world.services.drop(part_of(world))
    assert world.work_off() == before

    world.pods.drop(pod_key(2))
    assert world.work_off() == ["10.0.0.3", "10.0.0.4"]


def test_the_dead_leave_while_a_quota_has_room_for_one_of_two_deleted_objects(world: World):
    world.serve(4, 5, 6)
    world.settle()
    world.serve(1, 2, 3)
    before = world.settle().servers()
    world.kube.refuses = lambda verb, _: QUOTA if verb == "create" and world.services.values() else None
    for service in world.services.values():
        world.services.drop(service.key)
    assert world.work_off() == before

    world.pods.drop(pod_key(1))
    world.pods.drop(pod_key(5))
    assert world.work_off() == ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.6"]


def test_the_dead_leave_at_once_though_their_rpcservice_was_deleted_after_them(world: World):
    world.serve(*range(1, 21))
    world.settle()
    for number in range(1, 19):
        world.pods.drop(pod_key(number))
    for service in world.services.values():
        world.services.drop(service.key)

    assert world.work_off() == ["10.0.0.19", "10.0.0.20"]


def test_the_dead_leave_while_our_store_is_behind_what_we_wrote(world: World):
    world.serve(1, 2)
    world.settle()
    world.kube.refuses = lambda verb, _: Conflict("changed") if verb == "replace" else None
    world.pods.drop(pod_key(1))

    assert world.work_off() == ["10.0.0.2"]


def test_an_object_that_goes_right_after_our_write_is_relied_on_no_more(world: World, monkeypatch):
    """Its watch events come before the answer to the write."""
    vouch = world.relied.vouch
    world.serve(1)
    world.settle()

    def late(service):
        monkeypatch.setattr(world.relied, "vouch", vouch)
        world.pods.drop(pod_key(1))
        world.services.drop(ECHO)
        vouch(service)
        monkeypatch.setattr(world.services, "observe", lambda _: None)  # the watch is further than this

    monkeypatch.setattr(world.relied, "vouch", late)
    world.pods.put(pod(1, "echo", port=1))

    assert not world.work_off()
    assert not world.relied.values()


def test_an_object_that_goes_while_its_key_is_worked_on_stays_relied_on_until_the_next_look(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    write = world.rpcservices._write

    def meanwhile(*args):
        world.services.drop(ECHO)
        return write(*args)

    world.serve(1)
    world.settle()
    world.rpcservices.reconcile(KEY)
    monkeypatch.setattr(world.rpcservices, "_write", meanwhile)
    world.rpcservices.reconcile(KEY)
    assert [found.pod_name for service in world.relied.values() for found in service.status.endpoints] == [
        "p1"
    ]

    monkeypatch.setattr(world.rpcservices, "_write", write)
    assert world.work_off() == ["10.0.0.1"]


# ZooKeeper


def test_the_dead_leave_a_layout_that_refuses_who_comes(world: World, monkeypatch: pytest.MonkeyPatch):
    def serve(*numbers: int) -> None:
        for number in numbers:
            world.pods.put(pod(number, "echo", declarations=(Declaration(service_name="echo", port=80),)))

    def providers() -> list[str]:
        names = world.zookeeper.children("/dubbo/echo/providers")
        return sorted(name.partition("%3A80")[0].rpartition(".")[2] for name in names)

    def refuses(after: Mapping[str, tuple[bytes, int]], op: Op) -> int | None:
        if isinstance(op, Create) and op.path.startswith("/dubbo"):
            raise Rejected("quota of /dubbo")
        return apply(after, op)

    world.layouts = (Layout("kube2zk", "/rpc_v2"), Layout("dubbo", "/dubbo"))
    world.start()
    serve(1, 2)
    world.settle()
    apply = world.zookeeper._apply
    monkeypatch.setattr(world.zookeeper, "_apply", refuses)
    serve(3)
    world.work_off()
    world.pods.drop(pod_key(1))
    assert world.work_off() == ["10.0.0.2", "10.0.0.3"]
    assert providers() == ["2"]

    monkeypatch.setattr(world.zookeeper, "_apply", apply)
    world.clock.seconds += LONGEST_PAUSE
    world.names.add("echo")
    world.work_off()
    assert providers() == ["2", "3"]
