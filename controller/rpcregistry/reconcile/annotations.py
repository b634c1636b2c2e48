"""Records Events about mistakes in pods' annotations, and about what looks like one."""

from rpcregistry.manifests import PODS, regarding
from rpcregistry.model import ObjectKey, Pod
from rpcregistry.reconcile.ports import Change, Events, Source


class AnnotationReconciler:
    """Records an Event for each problem of a pod; the recorder drops repeated ones."""

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
        """Record the pod's problems; return False, since this writes no object."""
        pod = self._pods.store.get(key)
        if pod is None:
            return False
        for problem in (*pod.problems, *pod.hints):
            self._events.record(regarding(PODS, pod), problem, "Declare", warning=True)
        return False
