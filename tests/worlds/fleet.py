"""Nodes with pods of the service echo in memory, which fall silent, come back and are deleted."""

from collections.abc import Iterable

from rpcregistry.model import Condition, Endpoint, Node, ObjectKey, Pod
from rpcregistry.plan.silence import CALM
from tests.builders import address, pod
from tests.worlds.registry import World

PODS = 3  # on each Node


class Fleet(World):
    """Nodes ``n0``, ``n1`` …, each with three pods of the service echo."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self.size = nodes
        for node in range(nodes):
            self.node(node, ready=True)
            for name in self.on(node):
                self.pods.put(self.pod(name))
        self.settle()
        self.wait(CALM)

    def node(self, number: int, ready: bool) -> None:
        self.nodes.put(Node(name=f"n{number}", uid=f"n{number}", ready=ready))

    def on(self, *nodes: int) -> list[str]:
        """The names of the pods on these Nodes."""
        return [f"p{node * PODS + number + 1}" for node in nodes for number in range(PODS)]

    def pod(self, name: str, **fields: object) -> Pod:
        node = (int(name[1:]) - 1) // PODS
        return pod(name, "echo", node_name=f"n{node}", **fields)

    def silence(self, *nodes: int) -> None:
        """What the node lifecycle controller does when kubelets are not heard of."""
        for node in nodes:
            self.node(node, ready=False)
            for name in self.on(node):
                if self.pods.get(ObjectKey("default", name)):
                    self.pods.put(self.pod(name, ready=False, silenced=True))
        self.settle()

    def back(self, *nodes: int) -> None:
        """Their kubelets report again, the Nodes first."""
        for node in nodes:
            self.node(node, ready=True)
        self.settle()
        self.report(self.on(*nodes))

    def report(self, names: Iterable[str], ready: bool = True) -> None:
        for name in names:
            self.pods.put(self.pod(name, ready=ready))
        self.settle()

    def end(self, names: Iterable[str]) -> None:
        """Pods are deleted."""
        for name in names:
            self.pods.drop(ObjectKey("default", name))
        self.settle()

    def delete(self, *nodes: int) -> None:
        for node in nodes:
            self.nodes.drop(ObjectKey("", f"n{node}"))
        self.settle()

    def wait(self, seconds: float) -> None:
        """Let time pass; the guard looks whenever it wants to."""
        end = self.clock.seconds + seconds
        while True:
            due = self.rpcservices.absences.guard.look_once()
            self.settle()
            if due is None or self.clock.seconds + due > end:
                break
            self.clock.seconds += max(due, 0.001)
        self.clock.seconds = end
        self.settle()

    def published(self) -> set[str]:
        return set(self.servers() or ())

    def of(self, *nodes: int) -> set[str]:
        """The addresses of the pods on these Nodes."""
        return {address(name) for name in self.on(*nodes)}

    @property
    def all(self) -> set[str]:
        return self.of(*range(self.size))

    def rows(self) -> tuple[Endpoint, ...]:
        found = self.services.get(ObjectKey("default", "echo"))
        assert found
        return found.status.endpoints

    def condition(self) -> Condition:
        found = self.services.get(ObjectKey("default", "echo"))
        assert found
        condition = found.status.condition("Synced")
        assert condition
        return condition

    def silences(self) -> list[str]:
        """What was told on the Lease."""
        return [problem.message for _, problem in self.events.told if problem.reason == "NodesSilent"]
