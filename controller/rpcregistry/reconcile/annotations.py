"""Records Events about mistakes in pods' annotations, and about what looks like one."""

from rpcregistry.manifests import PODS, regarding
from rpcregistry.model import ObjectKey, Pod
from rpcregistry.plan.pods import in_one
from rpcregistry.reconcile.ports import Change, Events, Source

INTERVAL = 60.0  # seconds between two Events of one pod, at least


class AnnotationReconciler:
    """Records one Event for all problems of a pod; the recorder drops repeated ones."""

    def __init__(self, pods: Source[Pod], events: Events) -> None:
        self._pods = pods
        self._events = events

    def pod_keys(self, change: Change[Pod]) -> set[ObjectKey]:
        """The pod's key, if it has a new problem."""
        old = change.old if change.old and change.new and change.old.uid == change.new.uid else None
        before = {*old.problems, *old.hints} if old else set()
        return (
            {change.new.key} if change.new and {*change.new.problems, *change.new.hints} - before else set()
        )

    def reconcile(self, key: ObjectKey) -> bool:
        """Record the pod's problems; return whether there are any: the queue's window spaces its Events."""
        pod = self._pods.store.get(key)
        if pod is None or not (pod.problems or pod.hints):
            return False
        for found in filter(None, (pod.problems, pod.hints)):
            self._events.record(regarding(PODS, pod), in_one(found), "Declare", warning=True)
        return True
