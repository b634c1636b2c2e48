"""A namespace in which one write is refused, and what is right there meanwhile and afterwards.

``set_up`` makes it: pods of two services, and a LocalService on three nodes.  ``change`` does what its cell
says, and besides it a little of everything, so that the controller makes every kind of write; ``end`` what
comes once all that is over.  ``wrong`` says what is not as it has to be while the write is refused, and
``unfinished`` what is not as it has to be once it is not.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from kubernetes.client.exceptions import ApiException

from tests.cluster.world import NOWHERE, World
from tests.faults.harness.refused import KEPT_POD, kept, main, new, old

CHANGES = ("scale past 100", "rollout", "delete", "namespace ends")
BEFORE = {"scale past 100": 97, "rollout": 60, "delete": 6, "namespace ends": 6}  # pods of the main service
MADE = 6  # pods, in a scale
ROOM = 100  # endpoints in an object, by default
WRITERS = 4
READY = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
PORT, NEXT_PORT = 8080, 8081
LOCAL_POD = "local"  # runs on the node that comes with the change
REFUSED = ("Refused", "QuotaExceeded")  # the second of a Service, if it is a quota that refuses
LISTED = ("create", "update of status")  # refused of rpcservices: what is new finds no place in a status


class Cell(NamedTuple):
    """*verb* on *kind* is refused, *how* says in which way, and beside it there is a *change*."""

    verb: str
    kind: str
    how: str
    change: str

    @property
    def id(self) -> str:
        """For a namespace, and for pytest."""
        verb, how = self.verb.split()[0], self.how.removeprefix("403 by ").lower()
        return "-".join([verb, self.kind, *how.split(), *self.change.split()])


class Tenant:
    """The namespace of one *cell*, called *name*; of its pods, the addresses begin with 10.*number*."""

    def __init__(self, world: World, cell: Cell, number: int) -> None:
        self.cell = cell
        self.world = world
        self.namespace = world.namespace
        self.services = (main(self.namespace), old(self.namespace), new(self.namespace))
        self.live: dict[str, dict[str, str]] = {name: {} for name in self.services}  # service: pod: address
        self.dead: set[str] = set()  # addresses
        self._number = number
        self._made = 0
        self._before: set[str] = set()  # addresses that were published before the change
        self._changed = self._ending = False

    # what happens

    def set_up(self) -> None:
        """Make what is there before."""
        for node in "acd":
            self._create_node(node)
        self.world.create_localservice()
        self._start(main(self.namespace), *(f"m{n}" for n in range(BEFORE[self.cell.change])))
        self._start(main(self.namespace), KEPT_POD, node=kept(self.namespace))
        self._start(old(self.namespace), "old")

    def change(self) -> None:
        """Do what the cell says, and a little of everything."""
        self._before = {address for pods in self.live.values() for address in pods.values()}
        self._changed = True
        self._create_node("b")
        self.world.delete_node(f"{self.namespace}-c")
        self.world.edit_localservice(ports=[{"port": NEXT_PORT}])
        self._start(new(self.namespace), LOCAL_POD, node=f"{self.namespace}-b")
        self._stop(old(self.namespace), "old")
        self.world.create_pod("erring", annotation="{")
        service, before = main(self.namespace), BEFORE[self.cell.change]
        match self.cell.change:
            case "scale past 100":
                self._start(service, *(f"next{n}" for n in range(MADE)))
            case "rollout":
                self._start(service, *(f"next{n}" for n in range(before)))
                self._stop(service, *(f"m{n}" for n in range(before)))
            case "delete":
                self.world.delete_rpcservice(service)
                self.world.delete_service(f"app-{self.namespace}-d")
                self._stop(service, *(f"m{n}" for n in range(before // 2)))
                self._start(service, "next")

    def end(self) -> None:
        """Have the namespace end, where the cell says so: its pods terminate."""
        if self.cell.change == "namespace ends":
            self._ending = True
            self.world.core.delete_namespace(self.namespace)
            for pods in self.live.values():
                self.dead |= {*pods.values()}
                pods.clear()

    def let_go(self) -> None:
        """Stop the pods that terminate, as their kubelets would."""
        if self._ending:
            for pod in self.world.core.list_namespaced_pod(self.namespace).items:
                with suppress(ApiException):
                    self.world.delete_pod(pod.metadata.name)

    def _create_node(self, letter: str) -> None:
        name = f"{self.namespace}-{letter}"
        self.world.create_node(name)
        self.world.core.patch_node_status(name, {"status": {"conditions": [READY]}})

    def _start(self, service: str, *pods: str, node: str = NOWHERE) -> None:
        first, self._made = self._made, self._made + len(pods)
        addresses = {pod: f"10.{self._number}.{n // 250}.{n % 250 + 1}" for n, pod in enumerate(pods, first)}
        labels = {} if node == NOWHERE else {"app": "app"}
        with ThreadPoolExecutor(WRITERS) as pool:
            list(
                pool.map(
                    lambda pod: self.world.create_pod(
                        pod, service, ip=addresses[pod], node=node, labels=labels
                    ),
                    pods,
                )
            )
        self.live[service] |= addresses

    def _stop(self, service: str, *pods: str) -> None:
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(self.world.delete_pod, pods))
        self.dead |= {self.live[service].pop(pod) for pod in pods}

    # what is seen

    def published(self, service: str) -> set[str]:
        """The addresses in a service's znode."""
        return set(self.world.servers(service) or ())

    def wrong(self, *, nobody_writes: bool = False) -> list[str]:
        """What is not as it has to be while the write is refused; *nobody_writes*: nobody may lead."""
        found = list(self._wrong_addresses(nobody_writes))
        if not self._ending and not nobody_writes:
            found += self._wrong_services()
        return found

    def _wrong_addresses(self, nobody_writes: bool) -> Iterator[str]:
        for service in self.services:
            published = self.published(service)
            if dead := published & self.dead and not nobody_writes:
                yield f"{service}: dead addresses are published: {dead}"
            missing = {*self.live[service].values()} - published
            if nobody_writes or self._is_refused("rpcservices", *LISTED):
                missing &= self._before
            if missing:
                yield f"{service}: live addresses are missing: {missing}"
        if self._is_refused("rpcservices", "create") and not self._ending:
            yield from self._wasted_room()

    def _wasted_room(self) -> Iterator[str]:
        """What could be listed in an object that is there."""
        alive = len(self.live[main(self.namespace)])
        room = 0 if self.cell.change == "delete" else ROOM
        found = len(self.published(main(self.namespace)))
        if room and found < min(alive, room):
            yield f"{found} of {alive} are published, though there is room for {room}"

    def _wrong_services(self) -> Iterator[str]:
        found = self.world.node_services()
        for letter, there in self._wanted_nodes().items():
            node = f"{self.namespace}-{letter}"
            if (node in found) is not there:
                yield f"node {letter}: its Service is {'missing' if there else 'there'}"
        ports = {service["spec"]["ports"][0]["port"] for service in found.values()}
        if self._changed and not ports <= {NEXT_PORT} and not self._is_refused("services", "patch", "delete"):
            yield f"the ports of Services are {ports}"

    def _wanted_nodes(self) -> dict[str, bool]:
        if not self._changed:
            return {"a": True, "b": False, "c": True, "d": True}
        creates = not self._is_refused("services", "create")
        deleted = self.cell.change == "delete"  # by a person
        return {
            "a": True,
            "b": creates,
            "c": self._is_refused("services", "delete"),
            "d": creates or not deleted,
        }

    def _is_refused(self, kind: str, *verbs: str) -> bool:
        return self.cell.kind == kind and self.cell.verb in verbs

    def unfinished(self) -> list[str]:
        """What is not as it has to be while nothing is refused."""
        found = [
            f"{service}: {published ^ live}"
            for service, pods in self.live.items()
            if (published := self.published(service)) != (live := {*pods.values()})
        ]
        if self._ending:
            return found + [f"{name} is there" for name in self.world.rpcservices()]
        served = {f"{self.namespace}-{letter}" for letter in ("abd" if self._changed else "acd")}
        ports = {PORT if not self._changed else NEXT_PORT}
        services = self.world.node_services()
        if services.keys() != served or {s["spec"]["ports"][0]["port"] for s in services.values()} != ports:
            found.append(f"Services: {json.dumps({n: s['spec']['ports'] for n, s in services.items()})}")
        if not self.world.is_fine():
            found.append(f"LocalService: {self.world.localservice().get('status')}")
        pods = (KEPT_POD, LOCAL_POD) if self._changed else (KEPT_POD,)
        found += [
            f"{pod} has no label" for pod in pods if self.world.label(pod, "rpcregistry.dev/node") is None
        ]
        synced = {name: self.world.synced(name) for name in self.world.rpcservices()}
        if {*synced.values()} != {("True", "InRegistry")}:
            found.append(f"Synced: {synced}")
        if self._changed and old(self.namespace) in synced:
            found.append(f"{old(self.namespace)} is there")
        return found

    # what people are told

    def told(self) -> list[str]:
        """What kubectl shows of the refusal, in this namespace."""
        events = [
            f"Event {e.reason} on {e.involved_object.kind} {e.involved_object.name}: {e.message}"
            for e in self.world.core.list_namespaced_event(self.namespace).items
            if "Refused" in e.reason
        ]
        conditions = [
            f"Synced of {kind} {item['metadata']['name']}: {condition['message']}"
            for kind, items in (
                ("RpcService", self.world.rpcservices().values()),
                ("LocalService", [self.world.localservice()]),
            )
            for item in items
            for condition in item.get("status", {}).get("conditions", [])
            if condition["type"] == "Synced" and condition["reason"] in REFUSED
        ]
        return events + conditions
