"""What people are told of a pod's annotation: one Event a change, and one a minute at most."""

from rpcregistry.model import Problem
from rpcregistry.plan.pods import in_one
from rpcregistry.reconcile.annotations import INTERVAL, AnnotationReconciler
from rpcregistry.runtime.workqueue import Workqueue
from tests.builders import pod
from tests.worlds import EventsInMemory, Held


class World:
    """The queue of annotations, as it is made, on a clock that only the tests move."""

    def __init__(self):
        self.now = 1000.0
        self.pods = Held({}, self._changed)
        self.events = EventsInMemory()
        self.annotations = AnnotationReconciler(self.pods, self.events)
        self.queue = Workqueue(INTERVAL, lambda key: [key.namespace], clock=lambda: self.now)

    def _changed(self, change):
        self.queue.add_all(self.annotations.pod_keys(change))

    def put(self, *messages):
        problems = tuple(Problem("InvalidAnnotation", message) for message in messages)
        self.pods.put(pod(1, problems=problems))

    def told(self):
        while self.queue.depth:
            (key,) = self.queue.get(1, 0.0)
            self.queue.done(key, 0.001 if self.annotations.reconcile(key) else None)
        return [problem.message for _, problem in self.events.told]


def test_the_mistakes_of_a_pod_are_one_event():
    world = World()
    world.put("a", "b")
    assert world.told() == ["a; b"]


def test_a_pod_that_keeps_changing_is_told_once_a_minute_and_then_of_what_is_wrong_now():
    world = World()
    for number in range(100):
        world.put(str(number))
        assert world.told() == ["0"]
    world.now += INTERVAL
    assert world.told() == ["0", "99"]
    world.put("x")
    world.put()
    world.now += INTERVAL
    assert world.told() == ["0", "99"], "nothing is wrong any more"
    world.put("y")
    assert world.told() == ["0", "99", "y"], "the first one of a while is told at once"


def test_more_mistakes_than_an_event_holds_are_counted():
    problems = [Problem("R", f"{number}: " + "x" * 200) for number in range(32)]
    told = in_one(problems).message
    assert told.startswith(f"{problems[0].message}; {problems[1].message}; {problems[2].message}; ")
    assert told.endswith("; and 28 more")
    assert len(told) < 1000


def test_one_mistake_is_told_as_it_is():
    assert in_one([Problem("R", "x" * 900)]) == Problem("R", "x" * 900)
