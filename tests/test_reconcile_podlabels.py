"""Which pods are looked at for a label, when a permission is asked for, and what is refused."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from rpcregistry.errors import Failure, Partial, Rejected, Retry
from rpcregistry.manifests import Resource
from rpcregistry.model import Declaration, LocalService, ObjectKey, Pod, ServiceKey
from rpcregistry.reconcile.observing import pod_indexes
from rpcregistry.reconcile.podlabels import PodLabelReconciler
from rpcregistry.reconcile.reads import Unread
from rpcregistry.reconcile.selections import Selections
from rpcregistry.reconcile.troubles import FIRST_PAUSE, LONGEST_PAUSE, REPORTED_AFTER
from rpcregistry.runtime.store import Change
from tests.builders import localservice, pod
from tests.worlds import Clock, EventsInMemory, Held, KubeInMemory

ASKING = pod("p", labels={"app": "x"}, declarations=(Declaration(service_name="echo", local=True),))
LOCAL = msgspec.structs.replace(localservice(), namespace="default")


def away(_: Pod, name: str) -> bool:
    raise Retry("the API server does not say whether it may register")


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda under: under.pod_keys(Change(None, ASKING)), id="a pod changes"),
        pytest.param(
            lambda under: under.pods_of([ServiceKey("default", "echo")]), id="its service is renamed"
        ),
        pytest.param(lambda under: under.every_key(), id="everything is looked at again"),
        pytest.param(lambda under: under.local_keys(Change(None, LOCAL)), id="a LocalService comes"),
    ],
)
def test_an_informer_never_waits_for_a_permission(ask):
    pods: Held[Pod] = Held(pod_indexes(), lambda _: None)
    pods.put(ASKING)
    selections: Selections[LocalService] = Selections(pods, lambda found: found.spec.pods)
    selections.note(Change(None, LOCAL))
    under = PodLabelReconciler(
        kube=KubeInMemory(),
        pods=pods,
        selections=selections,
        names=lambda key: (key.service_name, key.service_name),
        may_register=away,
        node_label="rpcregistry.dev/node",
        events=EventsInMemory(),
        clock=Clock(),
    )

    assert ask(under) == {ASKING.key}
    with pytest.raises(Retry):
        under.reconcile(ObjectKey("default", "p"))


# Refused writes


class Server:
    """Patches the labels of pods, unless it refuses: all, or those that add one."""

    dry_run = False

    def __init__(self, pods: Held[Pod]) -> None:
        self.pods = pods
        self.patches: list[Mapping[str, str | None]] = []
        self.failure: Failure | None = None
        self.refuses_removals = False
        self.strips = False  # a policy that takes labels away

    def patch(
        self, resource: Resource[Any], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> Pod:
        labels = patch["metadata"]["labels"]
        self.patches.append(labels)
        if self.failure and (self.refuses_removals or any(labels.values())):
            raise self.failure
        before = self.pods.get(key)
        assert before
        after = {**before.labels, **({} if self.strips else labels)}
        kept = {label: value for label, value in after.items() if value is not None}
        written = msgspec.structs.replace(before, labels=kept)
        self.pods.put(written)
        return written


class World:
    """One pod that asks for a LocalService, and carries the label of one that it no longer asks for."""

    def __init__(self) -> None:
        self.pods: Held[Pod] = Held(pod_indexes(), lambda _: None)
        left = {"app": "x", LEFT: "true"}
        self.pods.put(msgspec.structs.replace(ASKING, labels=left, node_name="n1"))
        self.server = Server(self.pods)
        self.clock = Clock()
        self.events = EventsInMemory()
        self.unread: Unread | None = None
        self.under = PodLabelReconciler(
            kube=self.server,
            pods=self.pods,
            selections=Selections(self.pods, lambda found: found.spec.pods),
            names=lambda key: (key.service_name, key.service_name),
            may_register=self._may_register,
            node_label="rpcregistry.dev/node",
            events=self.events,
            clock=self.clock,
        )

    def _may_register(self, pod: Pod, name: str) -> bool:
        if self.unread:
            raise self.unread
        return True

    def work(self) -> bool:
        """Work the pod; return whether all was made."""
        try:
            self.under.reconcile(ASKING.key)
        except Partial:
            return False
        return True

    @property
    def labels(self) -> Mapping[str, str]:
        (found,) = self.pods.values()
        return found.labels


LEFT = "local-service.rpcregistry.dev/former"
ECHO = "local-service.rpcregistry.dev/echo"
NODE = "rpcregistry.dev/node"
RIGHT = {"app": "x", ECHO: "true", NODE: "n1"}


def test_labels_are_set_and_removed_by_one_patch():
    world = World()
    assert world.work()
    assert world.labels == RIGHT
    assert len(world.server.patches) == 1


def test_a_label_that_is_refused_costs_no_removal_and_waits():
    world = World()
    world.server.failure = Rejected("403")
    assert not world.work()
    assert world.labels == {"app": "x"}
    assert [problem.reason for _, problem in world.events.told] == ["LabelRefused"]
    tried = len(world.server.patches)
    assert not world.work()
    assert len(world.server.patches) == tried
    world.clock.seconds += FIRST_PAUSE
    assert not world.work()
    assert len(world.server.patches) == tried + 1

    world.server.failure = None
    world.clock.seconds += LONGEST_PAUSE
    assert world.work()
    assert world.labels == RIGHT


def test_removals_go_first_once_a_write_was_refused():
    world = World()
    world.server.failure, world.server.refuses_removals = Rejected("403"), True
    assert not world.work()
    world.server.failure = None
    world.clock.seconds += LONGEST_PAUSE
    world.server.patches.clear()
    assert world.work()
    assert list(world.server.patches[0]) == [LEFT]
    assert world.labels == RIGHT


def test_an_outage_is_told_once_it_lasts():
    world = World()
    world.server.failure = Retry("500")
    assert not world.work()
    assert world.events.told == []
    world.clock.seconds += REPORTED_AFTER
    assert not world.work()
    assert {problem.reason for _, problem in world.events.told} == {"LabelRefused"}


def test_labels_that_a_policy_takes_away_are_told_and_not_fought_over():
    world = World()
    world.server.strips = True
    assert not world.work()
    assert f"metadata.labels[{NODE}]" in world.events.told[0][1].message
    tried = len(world.server.patches)
    assert not world.work()
    assert len(world.server.patches) == tried


@pytest.mark.parametrize("labelled", [True, False])
def test_while_a_permission_is_unknown_its_label_stays_as_it_is(labelled: bool):
    world = World()
    if labelled:
        world.work()
    before = dict(world.labels)
    world.unread = Unread("500", FIRST_PAUSE, rejected=False, is_news=False)
    assert not world.work()
    assert world.labels == {key: value for key, value in before.items() if key != LEFT}
