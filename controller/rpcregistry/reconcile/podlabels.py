"""Puts on pods the labels by which node Services find them."""

from collections.abc import Callable, Iterable

from rpcregistry.manifests import PODS, made, regarding
from rpcregistry.model import LocalService, ObjectKey, Pod, Problem, ServiceKey
from rpcregistry.plan import podlabels as planning
from rpcregistry.reconcile.localservices import local_keys
from rpcregistry.reconcile.observing import DECLARED
from rpcregistry.reconcile.ports import Change, Clock, Events, Kube, Source
from rpcregistry.reconcile.reads import Unread
from rpcregistry.reconcile.refusals import Attempt, Backoffs, require_kept
from rpcregistry.reconcile.selections import Selections


class PodLabelReconciler:
    """Patches our own labels only, and only if one is missing or wrong.

    *names*: the names of the RpcService and of the LocalService of a key.
    """

    def __init__(
        self,
        *,
        kube: Kube,
        pods: Source[Pod],
        selections: Selections[LocalService],
        names: Callable[[ServiceKey], tuple[str, str]],
        may_register: Callable[[Pod, str], bool],
        node_label: str,
        events: Events,
        clock: Clock,
    ) -> None:
        self._backoffs: Backoffs[ObjectKey, planning.SetLabels] = Backoffs(planning.write_of, clock)
        self._kube = kube
        self._pods = pods
        self._selections = selections
        self._names = names
        self._may_register = may_register
        self._node_label = node_label
        self._events = events

    def pod_keys(self, change: Change[Pod]) -> set[ObjectKey]:
        """The pod's key, if it may need a label."""
        return {change.new.key} if change.new and self._may_need(change.new) else set()

    def local_keys(self, change: Change[LocalService]) -> set[ObjectKey]:
        """The pods that a LocalService selects and that may need a label."""
        if change.new is None or (change.old and change.old.spec.selector == change.new.spec.selector):
            return set()
        namespace = change.new.namespace
        names = (ObjectKey(namespace, name) for name in self._selections.pods_of(change.new.key))
        return {pod.key for pod in map(self._pods.store.get, names) if pod and self._may_need(pod)}

    def pods_of(self, keys: Iterable[ServiceKey]) -> set[ObjectKey]:
        """The pods that declare one of *keys* and may need a label."""
        pods = (pod for key in keys for pod in self._pods.store.indexed(DECLARED, key))
        return {pod.key for pod in pods if self._may_need(pod)}

    def every_key(self) -> set[ObjectKey]:
        """All pods that may need a label."""
        return {pod.key for pod in self._pods.store.values() if self._may_need(pod)}

    def reconcile(self, key: ObjectKey) -> bool:
        """Label the pod; return whether that was needed.

        A refused write costs only what it would add: the labels to remove are removed, then this raises
        ``Partial``.
        """
        pod, unread = self._pods.store.get(key), list[Unread]()
        labels = self._plan(pod, unread) if pod else {}
        attempt = self._backoffs.of(key)
        if pod and labels:
            self._write(pod, labels, attempt)
            if attempt.reported:
                problem = Problem("LabelRefused", str(attempt.reported))
                self._events.record(regarding(PODS, pod), problem, "Label", warning=True)
        attempt.finish()
        if unread:
            raise unread[0]
        return bool(labels)

    def _write(
        self, pod: Pod, labels: planning.Labels, attempt: Attempt[ObjectKey, planning.SetLabels]
    ) -> None:
        removals = planning.removals(labels)
        less = planning.SetLabels(pod, removals) if removals and removals != labels else None
        attempt.make(planning.SetLabels(pod, labels), self._apply, less)

    def _apply(self, op: planning.SetLabels) -> None:
        answer = self._kube.patch(PODS, op.pod.key, made.pod_labels(op.pod, op.labels))
        require_kept(self._kube, f"patch Pod {op.pod.key}", planning.unkept(op.labels, answer))

    def _may_need(self, pod: Pod) -> bool:
        """Whether to enqueue the pod.  Its permission is asked for by a worker: an informer must not wait."""
        return bool(local_keys(pod) or self._plan(pod, []))

    def _plan(self, pod: Pod, unread: list[Unread]) -> planning.Labels:
        """The labels to change; asks the API server for permissions if the pod asks for LocalServices."""
        locals_, unknown = set[str](), set[str]()
        for key in local_keys(pod):
            rpc_service, local = self._names(key)
            try:
                if self._may_register(pod, rpc_service):
                    locals_.add(local)
            except Unread as failure:
                unread.append(failure)
                unknown.add(local)
        selectors = self._selections.selectors(pod.namespace)
        return planning.plan(pod, selectors, locals_, self._node_label, unknown)
