"""A process's registry: its own entry, and a copy of its namespace's, kept by LIST and WATCH.

One watch of all the namespace's pods.  One for each dialect's label would cost the API server a LIST
and a watch more a process, tell a pod that speaks both twice, and in no order between the two;
``label_selector`` narrows the one watch where a namespace is full of pods that never register.
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
from rpcregistry.runtime.informer import Change, Informer
from rpcregistry.sdk import instances as view
from rpcregistry.sdk.announcement import OWN_POD, Entry, OwnPod, announce, is_lost, withdraw
from rpcregistry.sdk.instances import Instance, InstanceKey, Kind, Peer, PeerUpdate, Service, Update
from rpcregistry.sdk.subscriptions import Pods, Subscription, Subscriptions

log = Log(__name__)

_DIALECTS = {dialect.name: dialect for dialect in DIALECTS}
_PEERS = ""  # the topic; no service has an empty name

REGISTER_WITHIN = 30.0  # seconds
ROLES = "examples/sdk-role.yaml"
PAGE = 100  # pods in a LIST's answer: all of it is in memory at once
CLOSE_WITHIN = 5.0  # seconds for what is taken back, and for the threads: a pod has 30 to end
REPAIR_AFTER = 1.0  # seconds; the watch is behind our own writes for a moment
LONGEST_PAUSE = 60.0  # seconds between two repairs that do not last
WITHOUT_RPCSERVICES = 60.0  # seconds between two questions whether they can be read by now


class Registry:
    """The RPC services of one namespace, as the pod *pod_name* in it sees and joins them.

    *label_selector* narrows which pods are seen ("app.io/label=app.io-value": those of one dialect);
    *rpcservices*: whether RpcServices are watched, too, for the pods that they select.  A status of
    many endpoints is sent as a whole at each change: without selectors, that can be spared.  Where they
    cannot be read (no CRD, no right to), there are none.

    A context manager, for any number of threads, which end at a fork: each process makes its own.  Once
    closed it stays closed.  The Kubernetes API's failures are ``Failure``.

    Raises ``Misconfigured`` where *namespace* or *pod_name* is no object's name, and ``ValueError`` where
    *label_selector* is none.
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
        self._own_uid = ""  # once it was read; replaced as a whole by whoever changes our pod
        self._crew = Crew()
        self._subscriptions = Subscriptions()
        self._synced = threading.Event()
        self._closed = threading.Event()
        self._disturbed = threading.Event()  # our own pod changed, and may lack what we registered
        self._writing = threading.Lock()  # protects our own pod, from its reading to its writing
        self._lock = threading.Lock()  # protects _registered, _written and _started
        self._registered: dict[str, dict[Entry, Declaration]] = {}
        self._written: dict[str, set[Entry]] = {}  # those, and what may be on the pod all the same
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
        """The registry of the pod that this runs in.

        *namespace* and *pod_name* are by default what the Downward API put into ``$POD_NAMESPACE`` and
        ``$POD_NAME``, else the service account's namespace and the host's name (which, on the host's
        network, is not the pod's).  *label_selector*, *rpcservices*: as the constructor's.  Raises
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

        *path*: by default ``$KUBECONFIG``, else ``~/.kube/config``.  Raises ``Misconfigured``, also where the
        package ``kubernetes`` is missing, which reads such files (the extra "kubeconfig").
        """
        kube = _kube(None if path is None else os.fspath(path))
        return cls(kube, namespace, pod_name, label_selector=label_selector, rpcservices=rpcservices)

    def __enter__(self) -> "Registry":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to list, to watch and to tell subscribers; returns at once.

        ``with`` does so, and so does whatever is asked first.
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
        """Take back what was registered, and end the threads, within about ten seconds; raises nothing.

        What cannot be taken back now goes with the pod.
        """
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        self._disturbed.set()
        # A write in hand is waited for, or it would come after what takes it back.
        waited = self._writing.acquire(timeout=CLOSE_WITHIN)
        try:
            with self._lock:
                written = {name: set(entries) for name, entries in self._written.items()}
            for name, entries in written.items():
                self._take_back(name, entries)
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

    def _take_back(self, name: str, entries: set[Entry]) -> None:
        try:
            self._change_own_pod(partial(withdraw, dialect=_DIALECTS[name], entries=entries), CLOSE_WITHIN)
        except (Failure, ValueError) as error:
            log.warning("not taken back", pod=str(self._own), reason=str(error))

    def wait_until_synced(self, timeout: float | None = None) -> bool:
        """Wait until all was listed once, at most *timeout* seconds; return whether it was.

        It takes as long as the pods cannot be read.
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
        """Let this pod declare *services*, until ``close`` or the pod's end.

        It adds to the label and annotation of *dialect*, in one patch of this pod alone, and leaves what
        others wrote there.  The same service and port once more replaces the first.  Conflicts, and an
        API server that is away, are tried again for *timeout* seconds.  It shows in ``instances`` a
        moment later.  Where somebody else takes it off the pod, it is registered again; giving the label
        another value keeps the pod out.

        Raises ``ValueError`` where the services cannot be declared, or the registry is closed.  ``Retry``,
        where *timeout* was not enough, and ``Rejected``, where a right is missing or the pod is gone; after
        both they may be declared all the same, until ``close``.
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
        """Who serves *service* now, this pod and the not ready included, sorted by pod name and port."""
        self.start()
        found = self._instances(service).values()
        return tuple(sorted(found, key=lambda instance: (instance.pod_name, instance.port or 0)))

    def subscribe(self, service: str, callback: Callable[[Update], object]) -> Subscription:
        """Have *callback* told who serves *service* ("added", first of all), and each change of that.

        All callbacks of a registry run on one thread of its own, in order: one that blocks keeps the
        others waiting; one that raises does not.
        """
        self.start()

        def tell(kind: Kind, instance: Instance) -> None:
            callback(Update(kind, instance))

        def look(pods: Pods) -> dict[str, dict[InstanceKey, Instance]]:
            seen: dict[str, dict[InstanceKey, Instance]] = {}
            for key, instance in self._instances(service, pods).items():
                seen.setdefault(instance.pod_name, {})[key] = instance
            return seen

        return self._subscriptions.add(Subscription(service, look, tell))

    def peers(self, service: str | None = None) -> tuple[Peer, ...]:
        """The other pods that serve *service* (or carry a dialect's label), the longest running first."""
        self.start()
        return self._peers(service)

    def subscribe_peers(
        self, callback: Callable[[PeerUpdate], object], service: str | None = None
    ) -> Subscription:
        """As ``subscribe``, for ``peers``."""
        self.start()

        def tell(kind: Kind, peer: Peer) -> None:
            callback(PeerUpdate(kind, peer))

        def look(pods: Pods) -> dict[str, dict[str, Peer]]:
            return {peer.name: {peer.uid: peer} for peer in self._peers(service, pods)}

        return self._subscriptions.add(Subscription(_PEERS, look, tell))

    def _pod(self, name: str) -> Pod | None:
        return self._pods.store.get(ObjectKey(self._own.namespace, name))

    def _instances(self, service: str, pods: Pods = None) -> dict[InstanceKey, Instance]:
        rpcservices = self._rpcservices.store.indexed("service", service)
        if pods is None:
            declaring = self._pods.store.indexed("service", service)
            return view.instances(service, declaring, rpcservices, self._pod)
        found = {name: pod for name in pods if (pod := self._pod(name))}
        declaring = [pod for pod in found.values() if view.declares(pod, service)]
        # A part lists hundreds of other pods, and selects none.
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
            # Before it is written: a write whose answer is lost is taken back, too.
            with self._lock:
                self._written.setdefault(name, set()).update(wanted)
            return announce(pod, _DIALECTS[name], list(wanted.values()))

        with self._writing:
            self._change_own_pod(plan, seconds)

    def _stay_registered(self) -> None:
        """Register again what somebody else took off our pod, ever more slowly if that goes on."""
        pause, repaired = REPAIR_AFTER, float("-inf")
        while self._disturbed.wait():
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
        """What is registered, and does not stand on our pod as far as the watch has come."""
        pod = self._pods.store.get(self._own)  # a label selector may hide it
        if pod and pod.terminating:
            return {}
        declared = pod.declarations if pod else ()
        with self._lock:
            registered = {name: dict(wanted) for name, wanted in self._registered.items()}
        return {name: wanted for name, wanted in registered.items() if is_lost(wanted, declared)}

    def _change_own_pod(self, plan: Callable[[OwnPod], dict[str, Any] | None], seconds: float) -> None:
        """Read our pod, *plan* a patch and write it, until nobody else wrote in between."""
        for attempt in Retrying(
            retry=retry_if_exception_type(Retry),
            wait=wait_random_exponential(multiplier=0.02, max=2),
            stop=stop_after_delay(seconds),
            reraise=True,
        ):
            with attempt:
                pod = self._kube.get(OWN_POD, self._own)
                # A StatefulSet's next pod has the same name, and is none of ours.
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
        # Who is a peer depends on our own pod's addresses.
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
        """Without the CRD, a thousand processes must not ask for it all the time."""
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
