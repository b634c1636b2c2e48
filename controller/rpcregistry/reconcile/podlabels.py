"""Puts on pods the labels by which node Services find them."""

from collections.abc import Callable, Iterable

from rpcregistry.errors import Rejected
from rpcregistry.manifests import PODS, made, regarding
from rpcregistry.model import LocalService, ObjectKey, Pod, Problem, ServiceKey
from rpcregistry.plan import podlabels as planning
from rpcregistry.reconcile.localservices import local_keys
from rpcregistry.reconcile.observing import DECLARED
from rpcregistry.reconcile.ports import Change, Events, Kube, Source
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
    ) -> None:
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
        """Label the pod; return whether that was needed."""
        pod = self._pods.store.get(key)
        labels = self._plan(pod) if pod else {}
        if pod is None or not labels:
            return False
        try:
            self._kube.patch(PODS, key, made.pod_labels(pod, labels))
        except Rejected as failure:
            self._events.record(
                regarding(PODS, pod), Problem("LabelRefused", str(failure)), "Label", warning=True
            )
            raise
        return True

    def _may_need(self, pod: Pod) -> bool:
        """Whether to enqueue the pod.  Its permission is asked for by a worker: an informer must not wait."""
        return bool(local_keys(pod) or self._plan(pod))

    def _plan(self, pod: Pod) -> dict[str, str | None]:
        """The labels to change; asks the API server for permissions if the pod asks for LocalServices."""
        locals_ = set()
        for key in local_keys(pod):
            rpc_service, local = self._names(key)
            if self._may_register(pod, rpc_service):
                locals_.add(local)
        selectors = self._selections.selectors(pod.namespace)
        return planning.plan(pod, selectors, locals_, self._node_label)
