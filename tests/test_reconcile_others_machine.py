"""Both controllers, while others write what they like, watches are late, and writes are refused."""

from collections.abc import Callable

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rpcregistry.errors import Partial, Rejected, Retry, Unanswered
from rpcregistry.layouts import Layout
from rpcregistry.model import Declaration, Endpoint, ObjectKey, RpcService, ServiceKey
from rpcregistry.plan.ops import Create, Op
from rpcregistry.reconcile import byname, observing
from rpcregistry.runtime.store import Change
from rpcregistry.runtime.worker import _at_once
from tests.builders import declared, pod, pod_key
from tests.worlds import Held, KubeInMemory, ZooKeeperInMemory
from tests.worlds.registry import World

FORGED = "6.6.6."
KEY = ServiceKey("default", "echo")
NUMBERS = st.integers(1, 6)
FEW = st.sets(NUMBERS, min_size=1, max_size=4)


class Late(Held[RpcService]):
    """A store that is behind the server, as an informer's may be; ``server`` has what is there."""

    def __init__(self, changed: Callable[[Change[RpcService]], None]) -> None:
        super().__init__({**observing.service_indexes(), **byname.service_indexes()}, changed)
        self.server: dict[ObjectKey, RpcService] = {}
        self.events: list[tuple[int, RpcService, bool]] = []  # version, object, whether it was deleted
        self.position = 0

    def second_look(self) -> list[RpcService]:
        return list(self.server.values())

    def observe(self, written: RpcService) -> None:
        known, version = self.get(written.key), int(written.resource_version)
        if known is None and version <= self.position:
            return
        if known is None or int(known.resource_version) < version:
            self.put(written, ours=True)

    def deliver(self) -> None:
        """The watch brings its next event."""
        version, service, deleted = self.events.pop(0)
        known = self.get(service.key)
        if deleted:
            if known and known.uid == service.uid:
                self.drop(service.key)
        elif known is None or int(known.resource_version) < version:
            self.put(service)
        self.position = version

    def relist(self) -> None:
        """The watch had a gap: a LIST shows what is there."""
        self.position = max([self.position, *(version for version, _, _ in self.events)])
        self.events.clear()
        for key in [*self.server, *(service.key for service in self.values())]:
            old, new = self.get(key), self.server.get(key)
            if new is None and old:
                self.drop(key, listed=True)
            elif new and new != old:
                self._items[key] = new
                self._changed(Change(old, new, listed=True))


class LateKube(KubeInMemory[RpcService]):
    """A server whose watch events wait until somebody delivers them."""

    def __init__(self, store: Late) -> None:
        super().__init__()
        self.store = store
        self.source = self  # type: ignore[assignment]
        self.loses = False  # the answer to the next write, which is made

    def get(self, key: ObjectKey) -> RpcService | None:
        return self.store.server.get(key)

    def put(self, item: RpcService) -> None:
        self.store.server[item.key] = item
        self.store.events.append((int(item.resource_version), item, False))

    def drop(self, key: ObjectKey) -> None:
        self._version += 1
        self.store.events.append((self._version, self.store.server.pop(key), True))

    def others_write(self, service: RpcService, **fields: object) -> None:
        self._version += 1
        self.put(msgspec.structs.replace(service, resource_version=str(self._version), **fields))

    def answered(self) -> None:
        if self.loses:
            self.loses = False
            raise Unanswered("the answer was lost")

    def create(self, *args, **fields):
        created = super().create(*args, **fields)
        self.answered()
        return created

    def _write(self, *args):
        written = super()._write(*args)
        self.answered()
        return written

    def delete(self, *args):
        super().delete(*args)
        self.answered()


class FullZooKeeper(ZooKeeperInMemory):
    """One that may refuse to create endpoints, by a quota."""

    full = False

    def _apply(self, after: dict[str, tuple[bytes, int]], op: Op) -> int | None:
        if self.full and isinstance(op, Create) and "/providers/" in op.path:
            raise Rejected(f"quota of {op.path}")
        return super()._apply(after, op)


class LateWorld(World):
    """Pods, RpcServices and ZooKeeper, with queues that bring back what fails."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoints_per_object = 2
        self.layouts = (Layout("kube2zk", "/rpc_v2"), Layout("dubbo", "/dubbo"))
        self.services = self.late = Late(self._service_changed)
        self.zookeeper = FullZooKeeper()
        self.kube = self.server = LateKube(self.late)
        self.failing: dict[object, float] = {}  # keys and names: when they are due again
        self.not_before: dict[object, float] = {}
        self.start()

    def start(self) -> None:
        super().start()
        self.failing, self.not_before = {}, {}
        self.later: set[ObjectKey] = set()  # conditions that were refused

    def work(self) -> None:
        """Work off all that is due, as the queues would; what fails is due again later."""
        if not self.compared:
            self.names |= self.registry.compare()
            self.compared = True
        for _ in range(400):
            now = self.clock.seconds
            for due in [key for key, at in self.failing.items() if at <= now]:
                del self.failing[due]
                (self.names if isinstance(due, str) else self.keys).add(due)
            keys = sorted(key for key in self.keys if self.not_before.get(key, 0) <= now)
            names = sorted(name for name in self.names if self.not_before.get(name, 0) <= now)
            if keys:
                self.keys.discard(keys[0])
                self._project(keys[0])
            elif names:
                self.names -= set(names)
                failures, _ = self.registry.reconcile(names)
                for name, failure in failures.items():
                    self._failed(name, failure)
            elif self.conditions:
                key = self.conditions.pop()
                try:
                    self.synced.reconcile(key)
                except (Rejected, Retry):
                    self.later.add(key)
            else:
                self.rpcservices.absences.guard.look_once()
                self.registry.guard.look_once()
                if not (self.keys or self.names) or all(
                    self.not_before.get(key, 0) > now for key in (*self.keys, *self.names)
                ):
                    self.conditions |= self.later
                    self.later = set()
                    return
        raise AssertionError("it spins")

    def _project(self, key) -> None:
        try:
            _at_once(self.rpcservices.reconcile, key)
        except (Rejected, Retry) as failure:
            self._failed(key, failure)

    def _failed(self, key, failure) -> None:
        now = self.clock.seconds
        if isinstance(failure, Partial):
            self.failing[key] = now + max(failure.after, 0.01)
        elif isinstance(failure, (Rejected, Retry)):
            self.failing[key] = now + (getattr(failure, "after", None) or 1.0)
            if getattr(failure, "after", None):
                self.not_before[key] = now + failure.after
        else:
            raise failure


class Machine(RuleBasedStateMachine):
    """No forged address, nobody lost, nobody dead, whatever happens in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = LateWorld()
        self.published: set[int] = set()  # seen in ZooKeeper, and Ready ever since
        self.provided: set[int] = set()  # the same, of the other layout
        self.seen_to_go: set[int] = set()
        self.worked = False
        self.away = False

    # pods

    @rule(numbers=FEW)
    def pods_come(self, numbers):
        self.worked = False
        for number in numbers:
            if self.world.pods.get(pod_key(number)) is None:
                self._put(number)
                self.seen_to_go.discard(number)

    def _put(self, number: int, **fields: object) -> None:
        declarations = (Declaration(service_name="echo", port=80),)
        self.world.pods.put(pod(number, **{"declarations": declarations, **fields}))

    @rule(number=NUMBERS, how=st.sampled_from(["deleted", "terminating", "not Ready", "other", "missing"]))
    def a_pod_goes(self, number, how):
        if self.world.pods.get(pod_key(number)) is None:
            return
        self.worked = False
        self.published.discard(number)
        self.provided.discard(number)
        served = self.world.pods.get(pod_key(number)).declarations[0].service_name == "echo"
        match how:
            case "deleted":
                self.world.pods.drop(pod_key(number))
            case "missing":
                self.world.pods.drop(pod_key(number), listed=True)
                return
            case "terminating":
                self._put(number, terminating=True)
            case "not Ready":
                self._put(number, ready=False)
            case "other":
                self._put(number, declarations=(Declaration(service_name="other", port=80),))
        if served:
            self.seen_to_go.add(number)

    @rule(number=NUMBERS)
    def a_pod_is_ready_again(self, number):
        found = self.world.pods.get(pod_key(number))
        if found and not found.terminating:
            self.worked = False
            self._put(number)
            self.seen_to_go.discard(number)

    # others

    def _services(self):
        return sorted(self.world.late.server.values(), key=lambda service: service.name)

    def _forged(self, number: int, kind: int) -> Endpoint:
        name, uid = f"p{number}", f"uid-p{number}"
        if kind == 0:
            name, uid = "nobody", "nobody"
        port = 80 if kind == 1 else 6666
        ip = f"{FORGED}{number}"
        return Endpoint(pod_name=name, pod_uid=uid, ip=ip, ips=(ip,), port=port, ready=True)

    @rule(which=st.integers(0, 3), keep=st.integers(0, 2), number=NUMBERS, kind=st.integers(0, 3))
    def a_status_is_forged(self, which, keep, number, kind):
        services = self._services()
        if services:
            service = services[which % len(services)]
            rows = service.status.endpoints[:keep]
            if kind < 3:
                rows = (*rows, self._forged(number, kind))
            status = msgspec.structs.replace(service.status, endpoints=rows)
            self.world.server.others_write(service, status=status)

    @rule(which=st.integers(0, 3))
    def an_rpcservice_is_deleted(self, which):
        services = self._services()
        if services:
            self.world.server.drop(services[which % len(services)].key)

    @rule(which=st.integers(0, 3), number=NUMBERS)
    def an_rpcservice_is_remade(self, which, number):
        services = self._services()
        if services:
            service = services[which % len(services)]
            self.world.server.drop(service.key)
            status = msgspec.structs.replace(service.status, endpoints=(self._forged(number, 1),))
            uid = f"remade-{self.world.server._version}"
            self.world.server.others_write(service, uid=uid, status=status)

    @rule(which=st.integers(0, 3))
    def a_person_applies_over_one(self, which):
        services = [service for service in self._services() if not service.is_part]
        if services:
            self.world.server.others_write(services[which % len(services)], generated=False)

    @rule(number=st.integers(1, 2))
    def a_person_declares_one(self, number):
        service = declared(f"mine-{number}", uid=f"mine-{self.world.server._version}", created="1")
        if service.key not in self.world.late.server:
            self.world.server.others_write(service)

    # the servers

    @rule(count=st.integers(1, 5))
    def the_watch_goes_on(self, count):
        self.worked = False
        for _ in range(min(count, len(self.world.late.events))):
            self.world.late.deliver()

    @rule()
    def the_watch_has_a_gap(self):
        self.worked = False
        self.world.late.relist()

    @rule(
        verbs=st.sets(st.sampled_from(["create", "replace", "patch", "delete"]), min_size=1),
        failure=st.sampled_from([Rejected("403"), Retry("500"), Unanswered("away"), Retry("429", after=3.0)]),
    )
    def the_api_server_refuses(self, verbs, failure):
        self.world.server.refuses = lambda verb, _: failure if verb in verbs else None

    @rule()
    def a_quota_stands(self):
        kube = self.world.server
        kube.refuses = lambda verb, _: Rejected("quota") if verb == "create" and kube.store.server else None

    @rule()
    def the_api_server_accepts(self):
        self.world.server.refuses = lambda *_: None

    @rule()
    def an_answer_is_lost(self):
        self.world.server.loses = True

    @rule(path=st.sampled_from(["/rpc_v2/echo", "away", "lost", "full"]))
    def zookeeper_refuses(self, path):
        if path == "lost":
            self.world.zookeeper.lose_answer = True
            return
        if path == "full":
            self.world.zookeeper.full = True
            return
        self.away = True
        if path == "away":
            self.world.zookeeper.writes_left = 0
        else:
            self.world.zookeeper.refused = {path}

    @rule()
    def zookeeper_accepts(self):
        self.away = False
        self.world.zookeeper.writes_left = None
        self.world.zookeeper.refused = set()
        self.world.zookeeper.full = False

    # the process

    @rule(seconds=st.sampled_from([0.5, 2.0, 10.0, 40.0, 70.0]))
    def time_passes(self, seconds):
        self.world.clock.seconds += seconds

    @rule()
    def it_works(self):
        self.world.work()
        self.worked = True

    @rule()
    def a_key_is_looked_at(self):
        if self.world.compared and KEY in self.world.keys:
            self.world.keys.discard(KEY)
            self.world._project(KEY)

    @precondition(lambda self: not self._has_forged())
    @rule()
    def it_is_restarted(self):
        self.worked = False
        self.seen_to_go.clear()
        self.world.late.relist()
        self.world.start()

    @rule()
    def a_resync(self):
        self.worked = False
        self.world.rpcservices.absences.forget_withdrawn()
        self.world.keys |= self.world.rpcservices.every_key()

    def _has_forged(self) -> bool:
        return any(
            row.ip.startswith(FORGED) for service in self._services() for row in service.status.endpoints
        ) or any(row.ip.startswith(FORGED) for s in self.world.late.values() for row in s.status.endpoints)

    # what holds

    def _found(self) -> set[str]:
        return set(self.world.servers() or ())

    def _has_provider(self, number: int) -> bool:
        names = self.world.zookeeper.children("/dubbo/echo/providers")
        return any(f"10.0.0.{number}%3A80" in name for name in names)

    @invariant()
    def no_forged_address_is_published(self):
        for path, (data, _) in self.world.zookeeper.znodes.items():
            assert FORGED.encode() not in data, (path, data)
            assert FORGED not in path, path

    @invariant()
    def who_is_ready_stays_published(self):
        found = self._found()
        for number in self.published:
            assert f"10.0.0.{number}" in found, f"p{number} is missing"
        for number in self.provided:
            assert self._has_provider(number), f"p{number} is missing"
        for pod_ in self.world.pods.values():
            number = int(pod_.name[1:])
            if pod_.ready and not pod_.terminating and pod_.declarations[0].service_name == "echo":
                if pod_.ips[0] in found:
                    self.published.add(number)
                if self._has_provider(number):
                    self.provided.add(number)

    @invariant()
    def who_was_seen_to_go_is_withdrawn(self):
        # What the pod controller could not look at yet, since its store is behind, is not touched.
        world = self.world
        unlooked = world.relied.is_unlooked("echo") or world.initial_sync.is_pending("echo")
        unlooked = unlooked or not all(service.known for service in world.relied.values())
        written = self.world.zookeeper.full or "echo" not in self.world.failing
        if self.worked and not unlooked and not self.away and written:
            found = self._found()
            for number in self.seen_to_go:
                assert f"10.0.0.{number}" not in found, f"p{number} is gone"
                assert not self._has_provider(number), f"p{number} is gone"

    def teardown(self) -> None:
        """Nothing is refused any more: all becomes as it should be."""
        self.the_api_server_accepts()
        self.zookeeper_accepts()
        self.world.server.loses = self.world.zookeeper.lose_answer = False
        for _ in range(12):
            while self.world.late.events:
                self.world.late.deliver()
            self.world.work()
            self.world.clock.seconds += 70
        live = {
            pod_.ips[0]
            for pod_ in self.world.pods.values()
            if pod_.ready and not pod_.terminating and pod_.declarations[0].service_name == "echo"
        }
        assert self._found() == live
        assert {f"10.0.0.{number}" for number in range(1, 7) if self._has_provider(number)} == live
        listed = [s for s in self._services() if s.service_name == "echo"]
        rows = {row.ip for service in listed for row in service.status.endpoints if row.ready}
        assert rows == live
        relied = {s.uid: s.status.endpoints for s in self.world.relied.values()}
        assert relied == {s.uid: s.status.endpoints for s in self._services()}
        for service in listed:
            condition = service.status.condition("Synced")
            assert condition, service.name
            assert condition.status == "True", condition
        assert not self.world.failing


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=120, stateful_step_count=40)
