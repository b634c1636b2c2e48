"""A process's registry: its own pod's services, and a copy of its namespace's, kept by LIST and WATCH.

It watches all pods of the namespace by one watch.  A watch for each dialect's label would cost the API server
one more LIST and watch a process.  It would also report a pod with both labels twice, in no order between the
two.  ``label_selector`` narrows the one watch in a namespace full of pods that never register.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from rpcregistry import selector
from rpcregistry.dialects import DIALECTS
from rpcregistry.errors import Failure, Misconfigured, Rejected, Retry
from rpcregistry.kube.access import SERVICE_ACCOUNT
from rpcregistry.kube.client import Kube
from rpcregistry.logs import Log
from rpcregistry.manifests import PODS, RPCSERVICES
from rpcregistry.model import Declaration, ObjectKey, Pod, RpcService
from rpcregistry.names import is_subdomain
from rpcregistry.runtime.crew import Crew
from rpcregistry.runtime.informer import Informer
from rpcregistry.runtime.store import Change
from rpcregistry.sdk import instances as view
from rpcregistry.sdk.announcement import OWN_POD, Entry, OwnPod, announce, is_lost, withdraw
from rpcregistry.sdk.instances import Instance, InstanceKey, Kind, Peer, PeerUpdate, Service, Update
from rpcregistry.sdk.subscriptions import Pods, Subscription, Subscriptions

log = Log(__name__)

_DIALECTS = {dialect.name: dialect for dialect in DIALECTS}
_PEERS = ""  # the topic; no service has an empty name

REGISTER_WITHIN = 30.0  # seconds
ROLES = "examples/sdk-role.yaml"
PAGE = 100  # pods in one answer to a LIST, which is in memory as a whole
CLOSE_WITHIN = 5.0  # seconds to withdraw, and as many to join the threads: a pod has 30 to end
REPAIR_AFTER = 1.0  # seconds; the watch lags behind our own writes
LONGEST_PAUSE = 60.0  # seconds between two repairs that do not last
WITHOUT_RPCSERVICES = 60.0  # seconds between two attempts to list them


class Registry:
    """The RPC services of *namespace*, in which this process stands for the pod *pod_name*.

    *label_selector* limits which pods it sees ("app.io/label=app.io-value": those of one dialect).
    *rpcservices*: whether to watch RpcServices, too, for the pods that they select.  The API server sends a
    status of many endpoints as a whole at each change: if no RpcService selects pods, pass False.  If they
    cannot be read (no CRD, no right), it goes by the pods alone.

    It is a context manager, for any number of threads.  Its own threads end at a fork, so each process makes
    its own registry.  Once closed, it stays closed.  Failures of the Kubernetes API are ``Failure``.

    Raises ``Misconfigured`` if *namespace* or *pod_name* is no object's name, and ``ValueError`` if
    *label_selector* is no label selector.
    """

    def __init__(
        self, kube: Kube, namespace: str, pod_name: str, *, label_selector: str = "", rpcservices: bool = True
    ) -> None:
        for field, value in (("namespace", namespace), ("pod_name", pod_name)):
            if not is_subdomain(value):
                rule = "1 to 253 of a-z 0-9 . -, the first and the last of them a letter or a digit"
                raise Misconfigured(f"{field}: {value!r} is no object's name: {rule}")
        self._kube = kube
        self._own = ObjectKey(namespace, pod_name)
        self._own_uid = ""  # empty until read; _change_own_pod replaces it as a whole
        self._crew = Crew()
        self._subscriptions = Subscriptions()
        self._synced = threading.Event()
        self._closed = threading.Event()
        self._disturbed = threading.Event()  # our own pod changed, and may lack services that we registered
        self._writing = threading.Lock()  # protects our own pod, from reading to writing it
        self._lock = threading.Lock()  # protects _registered, _written and _started
        self._registered: dict[str, dict[Entry, Declaration]] = {}
        self._written: dict[str, set[Entry]] = {}  # those, and those of failed calls
        self._started = False
        self._pods: Informer[Pod] = Informer(
            f"pods of {namespace}",
            kube.reader(PODS, namespace, selector.label_selector(label_selector)),
            {
                "service": lambda pod: {declared.service_name for declared in pod.declarations},
                "speaks": lambda pod: [view.speaks(pod)],
            },
            on_change=self._pod_changed,
            on_listed=self._check_synced,
            on_restart=lambda _: None,
        )
        self._rpcservices: Informer[RpcService] = Informer(
            f"rpcservices of {namespace}",
            kube.reader(RPCSERVICES, namespace),
            {
                "service": lambda service: [service.service_name],
                "pod": lambda service: {row.pod_uid for row in service.status.endpoints},
            },
            on_change=self._rpcservice_changed,
            on_listed=self._check_synced,
            on_restart=lambda _: self._check_synced(),
            wait=self._wait_for_rpcservices,
        )
        self._informers: list[Informer[Any]] = [self._pods, *([self._rpcservices] if rpcservices else [])]

    @classmethod
    def in_cluster(
        cls,
        namespace: str | None = None,
        pod_name: str | None = None,
        *,
        label_selector: str = "",
        rpcservices: bool = True,
    ) -> "Registry":
        """The registry of the pod that this process runs in.

        *namespace* and *pod_name* default to ``$POD_NAMESPACE`` and ``$POD_NAME``, from the Downward API.
        Without those, they are the service account's namespace and the host's name (with ``hostNetwork``,
        that is not the pod's).  *label_selector*, *rpcservices*: as the constructor's.  Raises
        ``Misconfigured``.
        """
        namespace = namespace or os.environ.get("POD_NAMESPACE") or _service_account_namespace()
        pod_name = pod_name or os.environ.get("POD_NAME") or socket.gethostname()
        kube = _kube(None)
        return cls(kube, namespace, pod_name, label_selector=label_selector, rpcservices=rpcservices)

    @classmethod
    def from_kubeconfig(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        namespace: str,
        pod_name: str,
        label_selector: str = "",
        rpcservices: bool = True,
    ) -> "Registry":
        """The registry of a process outside of the cluster that stands for the pod *pod_name*.

        *path* defaults to ``$KUBECONFIG``, else ``~/.kube/config``.  Raises ``Misconfigured``, also if the
        package ``kubernetes`` is missing, which reads such files: install the extra "kubeconfig".
        """
        kube = _kube(None if path is None else os.fspath(path))
        return cls(kube, namespace, pod_name, label_selector=label_selector, rpcservices=rpcservices)

    def __enter__(self) -> "Registry":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the threads that list, watch and notify; return at once.

        ``with`` calls it, and so does the first call of another method.
        """
        with self._lock:
            if self._started or self._closed.is_set():
                return
            self._started = True
        self._crew.start("subscriptions", self._subscriptions.run)
        self._crew.start("registrations", self._stay_registered)
        for informer in self._informers:
            self._crew.start(informer.name, informer.run)

    def close(self) -> None:
        """Withdraw what was registered, and end the threads, within about ten seconds; raises nothing.

        What it cannot withdraw now ends with the pod.
        """
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        self._disturbed.set()
        # Wait for a write in progress, or it would come after its withdrawal.
        waited = self._writing.acquire(timeout=CLOSE_WITHIN)
        try:
            with self._lock:
                written = {name: set(entries) for name, entries in self._written.items()}
            for name, entries in written.items():
                self._withdraw(name, entries)
        finally:
            if waited:
                self._writing.release()
        self._subscriptions.stop()
        for informer in self._informers:
            informer.stop()
        self._kube.stop()
        # A callback may close its own registry.
        here = {threading.current_thread().name}
        self._crew.join(time.monotonic() + CLOSE_WITHIN, time.monotonic, besides=here)

    def _withdraw(self, name: str, entries: set[Entry]) -> None:
        try:
            self._change_own_pod(partial(withdraw, dialect=_DIALECTS[name], entries=entries), CLOSE_WITHIN)
        except (Failure, ValueError) as error:
            log.warning("not withdrawn", pod=str(self._own), reason=str(error))

    def wait_until_synced(self, timeout: float | None = None) -> bool:
        """Wait until all was listed once, at most *timeout* seconds; return whether it was.

        While the pods cannot be read, it waits.
        """
        self.start()
        return self._synced.wait(timeout)

    def register(
        self,
        services: Service | Iterable[Service],
        *,
        dialect: str = "app.io",
        timeout: float = REGISTER_WITHIN,
    ) -> None:
        """Declare that this pod serves *services*, until ``close`` or the pod's end.

        It adds to the label and annotation of *dialect*, in one patch of this pod alone, and keeps what
        others wrote there.  A service replaces an earlier one of the same name and port.  For *timeout*
        seconds it retries conflicts, and an API server that does not answer.  ``instances`` has the services
        a moment later.  If somebody removes them from the pod, they are registered again.  To take the pod
        out by hand, give the label another value.

        Raises ``ValueError`` if the pod cannot declare the services, or the registry is closed; ``Retry`` if
        *timeout* is over; ``Rejected`` if a right is missing or the pod was deleted.  After the last two the
        pod may declare the services all the same, until ``close``.
        """
        if dialect not in _DIALECTS:
            raise ValueError(f"dialect {dialect!r} is none of {', '.join(_DIALECTS)}")
        if self._closed.is_set():
            raise ValueError("the registry is closed")
        wanted = {(given.name, given.port): given.declaration for given in _listed(services)}
        self.start()
        self._announce(dialect, wanted, timeout)
        with self._lock:
            self._registered.setdefault(dialect, {}).update(wanted)

    def instances(self, service: str) -> tuple[Instance, ...]:
        """The instances of *service* now, with this pod and with not-ready ones, by pod name and port."""
        self.start()
        found = self._instances(service).values()
        return tuple(sorted(found, key=lambda instance: (instance.pod_name, instance.port or 0)))

    def subscribe(self, service: str, callback: Callable[[Update], object]) -> Subscription:
        """Call *callback* with each instance of *service* ("added"), and then with each change of one.

        One thread of the registry runs all callbacks, in order.  A callback that blocks keeps the others
        waiting; one that raises does not.
        """
        self.start()

        def notify(kind: Kind, instance: Instance) -> None:
            callback(Update(kind, instance))

        def look(pods: Pods) -> dict[str, dict[InstanceKey, Instance]]:
            seen: dict[str, dict[InstanceKey, Instance]] = {}
            for key, instance in self._instances(service, pods).items():
                seen.setdefault(instance.pod_name, {})[key] = instance
            return seen

        return self._subscriptions.add(Subscription(service, look, notify))

    def peers(self, service: str | None = None) -> tuple[Peer, ...]:
        """The other pods that serve *service* (or carry a dialect's label), the longest running first."""
        self.start()
        return self._peers(service)

    def subscribe_peers(
        self, callback: Callable[[PeerUpdate], object], service: str | None = None
    ) -> Subscription:
        """Like ``subscribe``, for ``peers``."""
        self.start()

        def notify(kind: Kind, peer: Peer) -> None:
            callback(PeerUpdate(kind, peer))

        def look(pods: Pods) -> dict[str, dict[str, Peer]]:
            return {peer.name: {peer.uid: peer} for peer in self._peers(service, pods)}

        return self._subscriptions.add(Subscription(_PEERS, look, notify))

    def _pod(self, name: str) -> Pod | None:
        return self._pods.store.get(ObjectKey(self._own.namespace, name))

    def _instances(self, service: str, pods: Pods = None) -> dict[InstanceKey, Instance]:
        rpcservices = self._rpcservices.store.indexed("service", service)
        if pods is None:
            declaring = self._pods.store.indexed("service", service)
            return view.instances(service, declaring, rpcservices, self._pod)
        found = {name: pod for name in pods if (pod := self._pod(name))}
        declaring = [pod for pod in found.values() if view.declares(pod, service)]
        # A part of a large service lists hundreds of other pods, and has no selector.
        listing = {
            listed.key for pod in found.values() for listed in self._rpcservices.store.indexed("pod", pod.uid)
        }
        rpcservices = [known for known in rpcservices if known.spec.selector or known.key in listing]
        return view.instances(service, declaring, rpcservices, found.get)

    def _peers(self, service: str | None, pods: Pods = None) -> tuple[Peer, ...]:
        if service is not None:
            serving = {found.pod_name for found in self._instances(service, pods).values()}
            found = [pod for pod in map(self._pod, serving) if pod]
        elif pods is None:
            found = self._pods.store.indexed("speaks", True)
        else:
            found = [pod for pod in map(self._pod, pods) if pod and view.speaks(pod)]
        return view.peers(found, self._pods.store.get(self._own))

    def _announce(self, name: str, wanted: Mapping[Entry, Declaration], seconds: float) -> None:
        def plan(pod: OwnPod) -> dict[str, Any] | None:
            if self._closed.is_set():
                raise ValueError("the registry is closed")
            # Recorded before the write: close withdraws a write whose answer was lost, too.
            with self._lock:
                self._written.setdefault(name, set()).update(wanted)
            return announce(pod, _DIALECTS[name], list(wanted.values()))

        with self._writing:
            self._change_own_pod(plan, seconds)

    def _stay_registered(self) -> None:
        """Register again what somebody removed from our pod, with growing back-off if that repeats."""
        pause, repaired = REPAIR_AFTER, float("-inf")
        while self._disturbed.wait():
            # The last repair lasted, so begin with the short pause again.
            if time.monotonic() - repaired > 2 * LONGEST_PAUSE:
                pause = REPAIR_AFTER
            if self._closed.wait(pause):
                return
            self._disturbed.clear()
            for name, wanted in self._lost().items():
                pause, repaired = min(2 * pause, LONGEST_PAUSE), time.monotonic()
                log.warning("registering again", pod=str(self._own), services=len(wanted))
                try:
                    self._announce(name, wanted, REGISTER_WITHIN)
                except Retry:
                    self._disturbed.set()
                except (Failure, ValueError) as error:
                    log.warning("not registered any more", pod=str(self._own), reason=str(error))

    def _lost(self) -> dict[str, dict[Entry, Declaration]]:
        """Registered services that our pod lacks, by the last event of the watch."""
        pod = self._pods.store.get(self._own)  # None if the label selector excludes it
        if pod and pod.terminating:
            return {}
        declared = pod.declarations if pod else ()
        with self._lock:
            registered = {name: dict(wanted) for name, wanted in self._registered.items()}
        return {name: wanted for name, wanted in registered.items() if is_lost(wanted, declared)}

    def _change_own_pod(self, plan: Callable[[OwnPod], dict[str, Any] | None], seconds: float) -> None:
        """Read our pod, *plan* a patch and write it; repeat while others write in between."""
        for attempt in Retrying(
            retry=retry_if_exception_type(Retry),
            wait=wait_random_exponential(multiplier=0.02, max=2),
            stop=stop_after_delay(seconds),
            reraise=True,
        ):
            with attempt:
                pod = self._kube.get(OWN_POD, self._own)
                # Another uid: a StatefulSet has replaced our pod by one of the same name.
                if pod is None or pod.uid != (self._own_uid or pod.uid):
                    raise Rejected(f"there is no Pod {self._own} (any more)")
                self._own_uid = pod.uid
                if patch := plan(pod):
                    self._kube.patch(OWN_POD, self._own, patch)

    # The informers' threads

    def _pod_changed(self, change: Change[Pod]) -> None:
        topics: set[str] = set()
        for pod in (change.old, change.new):
            if pod:
                name = pod.name
                topics.update(declared.service_name for declared in pod.declarations)
                topics.update(
                    service.service_name for service in self._rpcservices.store.indexed("pod", pod.uid)
                )
        self._subscriptions.changed(topics, {name})
        # Our own pod's addresses decide which other pods are peers.
        self._subscriptions.changed([_PEERS], None if name == self._own.name else {name})
        if name == self._own.name:
            self._disturbed.set()

    def _rpcservice_changed(self, change: Change[RpcService]) -> None:
        names = {service.service_name for service in (change.old, change.new) if service}
        self._subscriptions.changed({_PEERS, *names}, view.affected(change.old, change.new))

    def _check_synced(self) -> None:
        if self._pods.filled.is_set() and all(
            informer.filled.is_set() or informer.unknown for informer in self._informers
        ):
            self._synced.set()

    def _wait_for_rpcservices(self, stopping: threading.Event, seconds: float) -> None:
        """Wait longer if there is no CRD: a thousand processes must not ask for it all the time."""
        stopping.wait(max(seconds, WITHOUT_RPCSERVICES) if self._rpcservices.unknown else seconds)


def _kube(kubeconfig: str | None) -> Kube:
    return Kube.from_config(kubeconfig, connections=4, page=PAGE, roles=ROLES)


def _listed(services: Service | Iterable[Service]) -> list[Service]:
    try:
        given = [services] if isinstance(services, Service) else list(services)
    except TypeError as error:
        raise ValueError(f"no Service: {error}") from error
    if others := [other for other in given if not isinstance(other, Service)]:
        raise ValueError(f"no Service: {others[0]!r}")
    return given


def _service_account_namespace() -> str:
    file = SERVICE_ACCOUNT / "namespace"
    try:
        return file.read_text().strip()
    except OSError as error:
        raise Misconfigured(f"which namespace? Set POD_NAMESPACE: {error}") from error
