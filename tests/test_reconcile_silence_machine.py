"""Nodes fall silent, come back, die and are deleted in any order, while pods go on or end."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rpcregistry.model import RELEASE, ObjectKey
from rpcregistry.plan.silence import CALM, LEAST
from tests.builders import address
from tests.worlds.fleet import PODS, Fleet
from tests.worlds.registry import CONFIRM

NUMBERS = st.integers(0, 9)
SECONDS = st.sampled_from([1.0, 7.0, LEAST, CONFIRM, CALM, 600.0])


class Machine(RuleBasedStateMachine):
    """While most Nodes are silent, only pods that ended are withdrawn; afterwards all is as the pods are."""

    @initialize(nodes=st.sampled_from([1, 2, 3, 4, 10]))
    def begin(self, nodes: int) -> None:
        self.fleet = Fleet(nodes)
        self.silent: dict[int, float] = {}  # Nodes that are not Ready, or deleted: since when
        self.deleted: set[int] = set()
        self.ended: set[str] = set()  # addresses that may be withdrawn: the pod showed it, or a person let go
        self.words = 0

    def number(self, number: int) -> int:
        return number % self.fleet.size

    def is_common(self) -> bool:
        """Whether most of the Nodes are silent, counted as simply as can be."""
        silent = self.silent.keys() - self.deleted
        published = self.fleet.published()
        carrying = [
            n for n in range(self.fleet.size) if self.fleet.of(n) & published and n not in self.deleted
        ]
        found = [n for n in carrying if n in silent]
        return bool(found) and (
            len(found) == len(carrying) or (len(found) > 2 and len(found) >= 0.55 * len(carrying))
        )

    def step(self, act) -> None:
        """Do it; nothing but what has ended is withdrawn by it if most Nodes are silent before and after."""
        before, common, now = self.fleet.published(), self.is_common(), self.fleet.clock.seconds
        act()
        lost = before - self.fleet.published() - self.ended
        assert not lost or not (common and self.is_common()), lost
        for gone in lost:
            node = (int(gone.rpartition(".")[2]) - 1) // PODS
            since = self.silent.get(node)
            assert since is not None, f"{gone} was withdrawn while its Node was Ready"
            assert self.fleet.clock.seconds >= since + LEAST, f"{gone} has not waited"
        assert self.fleet.clock.seconds >= now

    @rule(numbers=st.sets(NUMBERS, min_size=1))
    def fall_silent(self, numbers: set[int]) -> None:
        nodes = {self.number(n) for n in numbers} - self.silent.keys()
        self.silent |= dict.fromkeys(nodes, self.fleet.clock.seconds)
        self.step(lambda: self.fleet.silence(*sorted(nodes)))

    @rule(numbers=st.sets(NUMBERS, min_size=1))
    def come_back(self, numbers: set[int]) -> None:
        nodes = {self.number(n) for n in numbers} & self.silent.keys()
        for node in nodes:
            del self.silent[node]
            self.deleted.discard(node)
            self.ended -= self.fleet.of(node)

        def back() -> None:
            for node in nodes:
                self.fleet.node(node, ready=True)
            self.fleet.settle()
            self.fleet.report(self.present(*nodes))

        self.step(back)
        assert {address(name) for name in self.present(*nodes)} <= self.fleet.published()

    @rule(number=NUMBERS)
    def delete_node(self, number: int) -> None:
        node = self.number(number)
        if node in self.deleted:
            return
        self.silent[node] = self.fleet.clock.seconds
        self.deleted.add(node)
        self.step(lambda: self.fleet.delete(node))

    @rule(number=NUMBERS, which=st.integers(0, PODS - 1))
    def a_pod_is_deleted(self, number: int, which: int) -> None:
        name = self.fleet.on(self.number(number))[which]
        if self.fleet.pods.get(ObjectKey("default", name)):
            self.ended.add(address(name))
            self.step(lambda: self.fleet.end([name]))
            assert address(name) not in self.fleet.published()

    @rule(number=NUMBERS, which=st.integers(0, PODS - 1))
    def a_pod_is_made(self, number: int, which: int) -> None:
        node = self.number(number)
        name = self.fleet.on(node)[which]
        if node not in self.silent and not self.fleet.pods.get(ObjectKey("default", name)):
            self.ended.discard(address(name))
            self.step(lambda: self.fleet.report([name]))

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.step(lambda: self.fleet.wait(seconds))

    @rule()
    def another_process(self) -> None:
        def restart() -> None:
            self.fleet.start()
            self.fleet.settle()

        self.step(restart)

    @rule()
    def a_person_releases(self) -> None:
        self.words += 1
        self.ended |= self.fleet.of(*self.silent)
        self.fleet.notes.annotations = {**(self.fleet.notes.annotations or {}), RELEASE: f"w{self.words}"}
        self.step(self.fleet.settle)

    def present(self, *nodes: int) -> list[str]:
        return [n for n in self.fleet.on(*sorted(nodes)) if self.fleet.pods.get(ObjectKey("default", n))]

    @invariant()
    def ready_pods_of_ready_nodes_are_published(self) -> None:
        nodes = [node for node in range(self.fleet.size) if node not in self.silent]
        assert {address(name) for name in self.present(*nodes)} <= self.fleet.published()

    def teardown(self) -> None:
        """Once all Nodes are back, or their pods deleted, nothing is held."""
        if not hasattr(self, "fleet"):
            return
        for node in self.deleted:
            self.fleet.end(self.present(node))
        self.come_back(self.silent.keys() - self.deleted)
        self.fleet.wait(CALM + CONFIRM)
        nodes = [node for node in range(self.fleet.size) if node not in self.deleted]
        assert self.fleet.published() == {address(name) for name in self.present(*nodes)}
        assert not self.fleet.rpcservices.absences.guard.held


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=25)
