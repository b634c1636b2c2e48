"""Which pods are looked at for a label, and when a permission is asked for."""

import msgspec
import pytest

from rpcregistry.errors import Retry
from rpcregistry.model import Declaration, LocalService, ObjectKey, Pod, ServiceKey
from rpcregistry.reconcile.observing import pod_indexes
from rpcregistry.reconcile.podlabels import PodLabelReconciler
from rpcregistry.reconcile.selections import Selections
from rpcregistry.runtime.informer import Change
from tests.builders import localservice, pod
from tests.worlds import EventsInMemory, Held, KubeInMemory

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
    )

    assert ask(under) == {ASKING.key}
    with pytest.raises(Retry):
        under.reconcile(ObjectKey("default", "p"))
