"""LocalServices that pods ask for, where the API server refuses to write them, or does not keep them."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from rpcregistry.errors import Failure, Partial, Rejected, Retry
from rpcregistry.manifests import LOCALSERVICES, Resource
from rpcregistry.model import Declaration, LocalService, ObjectKey, Pod, RpcService, ServiceKey
from rpcregistry.reconcile import localservices, observing
from rpcregistry.reconcile.localservices import LocalServiceReconciler
from rpcregistry.reconcile.reads import Unread
from rpcregistry.reconcile.troubles import FIRST_PAUSE, LONGEST_PAUSE, REPORTED_AFTER
from tests.builders import pod
from tests.worlds import Clock, EventsInMemory, Held

ECHO = ServiceKey("default", "echo")
LABELS = {"app.kubernetes.io/managed-by": "rpcregistry"}


class Server:
    """The API server's LocalServices; it refuses writes, or changes their ports, where a test says so."""

    dry_run = False

    def __init__(self, locals_: Held[LocalService]) -> None:
        self.locals = locals_
        self.writes: list[str] = []
        self.failure: Failure | None = None
        self.refuses_new: Failure | None = None  # ports
        self.ports: list[Mapping[str, Any]] | None = None  # what admission writes instead

    def create(
        self, resource: Resource[Any], namespace: str, manifest: Mapping[str, Any], trial: bool = False
    ) -> LocalService:
        return self._write("create", namespace, manifest["metadata"]["name"], manifest["spec"])

    def patch(
        self, resource: Resource[Any], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> LocalService:
        before = self.locals.get(key)
        known = {port.port for port in before.spec.ports} if before else set()
        if self.refuses_new and not {port["port"] for port in patch["spec"]["ports"]} <= known:
            self.writes.append(f"patch {key.name}, refused")
            raise self.refuses_new
        return self._write("patch", key.namespace, key.name, patch["spec"])

    def delete(self, resource: Resource[Any], key: ObjectKey, uid: str, resource_version: str) -> None:
        self.writes.append(f"delete {key.name}")
        if self.failure:
            raise self.failure
        self.locals.drop(key)

    def _write(self, verb: str, namespace: str, name: str, spec: Mapping[str, Any]) -> LocalService:
        self.writes.append(f"{verb} {name}")
        if self.failure:
            raise self.failure
        metadata = {
            "namespace": namespace,
            "name": name,
            "uid": name,
            "resourceVersion": str(len(self.writes)),
            "labels": LABELS,
            "annotations": {"rpcregistry.dev/service-name": "echo"},
        }
        selector = {f"local-service.rpcregistry.dev/{name}": "true"}
        spec = {"selector": selector, **spec, **({"ports": self.ports} if self.ports else {})}
        return LOCALSERVICES.decode(json.dumps({"metadata": metadata, "spec": spec}).encode())


class World:
    def __init__(self) -> None:
        indexes = {**observing.pod_indexes(), **localservices.pod_indexes()}
        self.pods: Held[Pod] = Held(indexes, lambda _: None)
        self.rpc_services: Held[RpcService] = Held(observing.service_indexes(), lambda _: None)
        self.locals: Held[LocalService] = Held(localservices.local_indexes(), lambda _: None)
        self.server = Server(self.locals)
        self.clock = Clock()
        self.events = EventsInMemory()
        self.unknown: set[str] = set()  # pods whose permission cannot be asked for
        self.under = LocalServiceReconciler(
            kube=self.server,
            pods=self.pods,
            rpc_services=self.rpc_services,
            locals_=self.locals,
            list_pods=lambda _: self.pods.values(),
            may_register=self._may_register,
            events=self.events,
            clock=self.clock,
            labels={},
        )

    def _may_register(self, pod: Pod, name: str) -> bool:
        if pod.name in self.unknown:
            raise Unread("500", FIRST_PAUSE, rejected=False, is_news=False)
        return True

    def ask(self, *ports: int) -> None:
        """Pods that ask for node-local routing to each of *ports*."""
        for number, port in enumerate(ports):
            declared = Declaration(service_name="echo", port=port, local=True)
            self.pods.put(pod(number, declarations=(declared,)))

    def work(self) -> bool:
        """Work the service; return whether all was made."""
        try:
            self.under.reconcile(ECHO)
        except Partial:
            return False
        return True

    def ports(self) -> list[int]:
        (found,) = self.locals.values()
        return [port.port for port in found.spec.ports]


def test_a_refused_create_waits_and_is_told_on_the_pods():
    world = World()
    world.server.failure = Rejected("exceeded quota")
    world.ask(80, 80)
    assert not world.work()
    assert {(name, problem.reason) for name, problem in world.events.told} == {
        ("p0", "LocalServiceRefused"),
        ("p1", "LocalServiceRefused"),
    }
    world.ask(80, 81)
    assert not world.work()
    assert world.server.writes == ["create echo"]
    world.clock.seconds += FIRST_PAUSE
    assert not world.work()
    assert world.server.writes == ["create echo"] * 2

    world.server.failure = None
    world.clock.seconds += LONGEST_PAUSE
    assert world.work()
    assert world.ports() == [80, 81]


def test_an_outage_is_told_once_it_lasts():
    world = World()
    world.server.failure = Retry("500")
    world.ask(80)
    assert not world.work()
    assert world.events.told == []
    world.clock.seconds += REPORTED_AFTER
    assert not world.work()
    assert world.events.told


def test_ports_that_a_policy_changes_are_told_and_not_fought_over():
    world = World()
    world.ask(80)
    world.server.ports = [{"port": 8080, "targetPort": 8080, "protocol": "TCP"}]
    assert world.work()
    assert not world.work()
    assert "spec.ports" in world.events.told[0][1].message
    writes = len(world.server.writes)
    assert not world.work()
    assert len(world.server.writes) == writes

    world.server.ports = None
    world.clock.seconds += LONGEST_PAUSE
    assert world.work()
    assert world.ports() == [80]


@pytest.mark.parametrize(
    "unknown",
    [
        pytest.param({"p0", "p1", "p2"}, id="of all"),
        pytest.param({"p1", "p2"}, id="of one that was there, and of a new one"),
    ],
)
def test_while_a_permission_is_unknown_the_local_service_stays_as_it_is(unknown: set[str]):
    world = World()
    world.ask(80, 81)
    world.work()
    world.unknown = unknown
    world.ask(80, 81, 82)
    writes = len(world.server.writes)
    assert not world.work()
    assert (world.ports(), len(world.server.writes)) == ([80, 81], writes)

    world.unknown = set()
    assert world.work()
    assert world.ports() == [80, 81, 82]


def test_a_port_that_nobody_serves_leaves_while_a_new_one_is_refused():
    world = World()
    world.ask(80, 81)
    assert world.work()
    world.server.refuses_new = Rejected("422 Invalid")
    world.ask(81, 82)
    assert not world.work()
    assert world.ports() == [81]
    writes = len(world.server.writes)
    assert not world.work()
    assert len(world.server.writes) == writes, "what is new waits for its pause"

    world.server.refuses_new = None
    world.clock.seconds += LONGEST_PAUSE
    assert world.work()
    assert world.ports() == [81, 82]
