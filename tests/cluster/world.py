"""Changes a real cluster for the suites, and reads the outcome.

Pods here are bound to a node that does not exist, so nobody else writes their status.  A test
writes when a pod is Ready, and at which address.  On the nodes that a test makes, kwok runs pods.
"""

import base64
import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import kazoo.client
from kazoo.exceptions import NoNodeError
from kazoo.retry import KazooRetry
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from hack.local.controller import Where, command
from hack.local.http_proxy import Answer, HttpProxy, error_event, is_list, is_of, is_watch, without_items
from tests.cluster.waiting import PATIENCE, eventually

NOWHERE = "nowhere"
RECONCILED = "rpcregistry_reconcile_total{"


class World:
    """One namespace of the real cluster, one base path of the real ZooKeeper."""

    def __init__(
        self,
        kubeconfig: Path,
        kubectl: Callable[..., str],
        namespace: str,
        zk: kazoo.client.KazooClient,
        base: str,
    ) -> None:
        self.kubeconfig = kubeconfig
        self.kubectl = kubectl
        self.namespace = namespace
        self.zk = zk
        self.base = base
        self.cluster_id = f"test-{namespace}"
        self.api = config.new_client_from_config(str(kubeconfig))
        self.core = client.CoreV1Api(self.api)
        self.custom = client.CustomObjectsApi(self.api)
        self._nodes: set[str] = set()

    @property
    def zk_servers(self) -> str:
        """Where its znodes lie, as ``--zk-servers`` has it."""
        return ",".join(f"{host}:{port}" for host, port in self.zk.hosts) + str(self.zk.chroot)

    # pods

    def create_pod(
        self,
        name: str,
        *services: str | Mapping[str, Any],
        ip: str | None = None,
        ready: bool = True,
        phase: str = "Running",
        annotation: str | None = None,
        labels: Mapping[str, str] | None = None,
        node: str | None = NOWHERE,
        namespace: str | None = None,
        **spec: Any,
    ) -> str:
        """Create a pod that serves *services*; give it its status where it has an *ip*; return its uid."""
        entries = [entry if isinstance(entry, Mapping) else {"serviceName": entry} for entry in services]
        text = annotation if annotation is not None else json.dumps(entries)
        declares = {"rpc-service": "true"} if annotation is not None or services else {}
        manifest = {
            "metadata": {
                "name": name,
                "labels": {**declares, **(labels or {})},
                "annotations": {"rpc-service": text} if declares else {},
            },
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none"}], **spec},
        }
        created = self.core.create_namespaced_pod(namespace or self.namespace, manifest)
        if ip:
            self.set_status(name, ip, ready, phase, namespace)
        return str(created.metadata.uid)

    def set_status(
        self,
        name: str,
        ip: str | None,
        ready: bool = True,
        phase: str = "Running",
        namespace: str | None = None,
        **more: Any,
    ) -> None:
        """Write a pod's status, as its kubelet would."""
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-11-21T02:02:02Z"}
        if not ready:
            condition["reason"] = "ContainersNotReady"
        status = {
            "phase": phase,
            "podIP": ip,
            "podIPs": [{"ip": ip}, {"$patch": "replace"}] if ip else None,
            "hostIP": "10.1.0.1",
            "conditions": [condition],
            **more,
        }
        self.core.patch_namespaced_pod_status(name, namespace or self.namespace, {"status": status})

    def annotate(self, name: str, text: str | None, namespace: str | None = None) -> None:
        """Replace the pod's annotation; None removes it."""
        self.core.patch_namespaced_pod(
            name, namespace or self.namespace, {"metadata": {"annotations": {"rpc-service": text}}}
        )

    def delete_pod(self, name: str, namespace: str | None = None) -> None:
        """Delete the pod at once, as a kubelet that has stopped it does."""
        self.core.delete_namespaced_pod(name, namespace or self.namespace, grace_period_seconds=0)

    def run_pod(self, name: str, node: str, *services: Any, app: str = "app", **pod: Any) -> str:
        """Create a pod with the label ``app`` on a node of the test's; return its address."""
        self.create_pod(name, *services, node=node, labels={"app": app, **pod.pop("labels", {})}, **pod)
        namespace = pod.get("namespace")
        return str(eventually(lambda: self.pod(name, namespace)["status"].get("podIP")))

    def pod(self, name: str, namespace: str | None = None) -> dict[str, Any]:
        """The pod, as the server has it."""
        return _as_it_is(self.core.read_namespaced_pod, name, namespace or self.namespace)

    def label(self, name: str, key: str, namespace: str | None = None) -> str | None:
        """The value of a pod's label."""
        return self.pod(name, namespace)["metadata"].get("labels", {}).get(key)

    # nodes

    def create_node(self, name: str, **labels: str) -> None:
        """Create a node for the test alone: its LocalServices select it."""
        labels = {"world": self.namespace, **labels}
        self._nodes.add(name)
        self.core.create_node({"metadata": {"name": name, "labels": labels}})

    def relabel_node(self, name: str, **labels: str | None) -> None:
        """Change labels of a node; None removes one."""
        self.core.patch_node(name, {"metadata": {"labels": labels}})

    def delete_node(self, name: str) -> None:
        """Delete a node at once."""
        self.core.delete_node(name)
        self._nodes.discard(name)

    def close(self) -> None:
        """Leave no nodes behind: they belong to no namespace."""
        for name in sorted(self._nodes):
            try:
                self.delete_node(name)
            except ApiException as error:
                if error.status != 404:
                    raise

    # LocalServices

    def create_localservice(self, name: str = "app", namespace: str | None = None, **spec: Any) -> None:
        """Declare a LocalService on the test's nodes, for pods whose label ``app`` is its name."""
        wanted = {
            "selector": {"app": name},
            "nodeSelector": {"world": self.namespace},
            "ports": [{"port": 8080}],
            **spec,
        }
        manifest = {
            "apiVersion": "rpcregistry.dev/v1alpha1",
            "kind": "LocalService",
            "metadata": {"name": name},
            "spec": wanted,
        }
        self.custom.create_namespaced_custom_object(*self._localservices(namespace), manifest)

    def edit_localservice(self, name: str = "app", **spec: Any) -> None:
        """Change fields of its spec; None removes one."""
        self.custom.patch_namespaced_custom_object(*self._localservices(), name, {"spec": spec})

    def replace_localservice(self, name: str = "app", namespace: str | None = None, **spec: Any) -> None:
        """Give it another spec."""
        whole = {**self.localservice(name, namespace), "spec": spec}
        self.custom.replace_namespaced_custom_object(*self._localservices(namespace), name, whole)

    def delete_localservice(self, name: str = "app", namespace: str | None = None) -> None:
        """Delete a LocalService."""
        self.custom.delete_namespaced_custom_object(*self._localservices(namespace), name)

    def localservice(self, name: str = "app", namespace: str | None = None) -> dict[str, Any]:
        """The LocalService; empty where there is none."""
        try:
            found: Any = self.custom.get_namespaced_custom_object(*self._localservices(namespace), name)
        except ApiException as error:
            if error.status != 404:
                raise
            return {}
        return dict(found)

    def rows(self, name: str = "app", namespace: str | None = None) -> dict[str, list[str]]:
        """The rows of its status: node to the addresses of its endpoints."""
        status = self.localservice(name, namespace).get("status", {})
        return {row["node"]: row.get("endpoints", []) for row in status.get("services", [])}

    def failing(self, name: str = "app") -> tuple[str, str] | None:
        """Reason and message of its condition, where that is False."""
        conditions = self.localservice(name).get("status", {}).get("conditions", [])
        return next(((c["reason"], c["message"]) for c in conditions if c["status"] == "False"), None)

    def is_fine(self, name: str = "app") -> bool:
        """Whether its status was written for what it is now, and complains about nothing."""
        found = self.localservice(name)
        status = found.get("status", {})
        conditions = [condition["status"] for condition in status.get("conditions", [])]
        return status.get("observedGeneration") == found["metadata"]["generation"] and conditions == ["True"]

    def services(self, namespace: str | None = None) -> dict[str, Any]:
        """The namespace's Services by name, as the server has them."""
        listed = _as_it_is(self.core.list_namespaced_service, namespace or self.namespace)
        return {item["metadata"]["name"]: item for item in listed["items"]}

    def node_services(self, name: str = "app", namespace: str | None = None) -> dict[str, Any]:
        """The Services that a LocalService controls, by node."""
        uid = self.localservice(name, namespace).get("metadata", {}).get("uid")
        return {
            service["metadata"]["annotations"]["rpcregistry.dev/node-name"]: service
            for service in self.services(namespace).values()
            if any(
                o["uid"] == uid and o["controller"] for o in service["metadata"].get("ownerReferences", [])
            )
        }

    def serves(self, *nodes: str, name: str = "app", namespace: str | None = None) -> bool:
        """Whether a LocalService has Services for these nodes and no others."""
        return self.node_services(name, namespace).keys() == set(nodes)

    def create_service(self, name: str, **manifest: Any) -> dict[str, Any]:
        """Make a Service that is somebody else's; return it."""
        metadata = {"name": name, **manifest.pop("metadata", {})}
        spec = {"ports": [{"port": 1}], **manifest}
        self.core.create_namespaced_service(self.namespace, {"metadata": metadata, "spec": spec})
        return dict(self.services()[name])

    def delete_service(self, name: str) -> None:
        """Delete a Service by hand."""
        self.core.delete_namespaced_service(name, self.namespace)

    def versions(self) -> dict[tuple[str, str], str]:
        """The resourceVersions of all that a LocalService's controller may write."""
        pods = _as_it_is(self.core.list_namespaced_pod, self.namespace)["items"]
        locals_ = self.custom.list_namespaced_custom_object(*self._localservices())["items"]
        kinds = {"Pod": pods, "LocalService": locals_, "Service": self.services().values()}
        return {
            (kind, item["metadata"]["name"]): item["metadata"]["resourceVersion"]
            for kind, items in kinds.items()
            for item in items
        }

    def now(self) -> str:
        """The resourceVersion of all that was written until now."""
        return str(
            _as_it_is(self.core.list_namespaced_service, self.namespace)["metadata"]["resourceVersion"]
        )

    def happened(self, since: str, to: str = "services") -> list[tuple[str, str]]:
        """The watch events since a resourceVersion: type and name."""
        listing: dict[str, Callable[..., Any]] = {
            "services": partial(self.core.list_namespaced_service, self.namespace),
            "localservices": partial(self.custom.list_namespaced_custom_object, *self._localservices()),
        }
        answer = listing[to](watch=True, resource_version=since, timeout_seconds=2, _preload_content=False)
        events = [json.loads(line) for line in answer.data.splitlines()]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]

    def _localservices(self, namespace: str | None = None) -> tuple[str, str, str, str]:
        return "rpcregistry.dev", "v1alpha1", namespace or self.namespace, "localservices"

    # RpcServices

    def rpcservices(self, namespace: str | None = None) -> dict[str, Any]:
        """The namespace's RpcServices by name."""
        listed = self.custom.list_namespaced_custom_object(
            "rpcregistry.dev", "v1alpha1", namespace or self.namespace, "rpcservices"
        )
        return {item["metadata"]["name"]: item for item in listed["items"]}

    def apply_rpcservice(self, name: str, **spec: Any) -> None:
        """Declare an RpcService as ``kubectl apply --server-side`` does."""
        manifest = {
            "apiVersion": "rpcregistry.dev/v1alpha1",
            "kind": "RpcService",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(manifest))

    def delete_rpcservice(self, name: str) -> None:
        """Delete an RpcService by hand."""
        self.custom.delete_namespaced_custom_object(
            "rpcregistry.dev", "v1alpha1", self.namespace, "rpcservices", name
        )

    def listed(self, name: str) -> list[str] | None:
        """The addresses that an RpcService's status lists; None where there is no such RpcService."""
        service = self.rpcservices().get(name)
        if service is None:
            return None
        return [row["ip"] for row in service.get("status", {}).get("endpoints", [])]

    def synced(self, name: str) -> tuple[str, str] | None:
        """Status and reason of an RpcService's Synced condition."""
        conditions = self.rpcservices().get(name, {}).get("status", {}).get("conditions", [])
        return next(((c["status"], c["reason"]) for c in conditions if c["type"] == "Synced"), None)

    # ZooKeeper, as any other client reads it

    def data(self, service: str) -> str | None:
        """The bytes of a service's znode, as text."""
        try:
            return self.get(f"{self.base}/{service}").decode()
        except NoNodeError:
            return None

    def get(self, path: str) -> bytes:
        """A znode's bytes; asked for again where the connection or the session is lost meanwhile."""
        retry = KazooRetry(max_tries=-1, max_delay=0.5, deadline=PATIENCE)
        return bytes(retry(self.zk.get, path)[0])

    def servers(self, service: str) -> list[str] | None:
        """The addresses in a service's znode; None where there is no znode, or nothing in it."""
        data = self.data(service)
        return None if not data else list(json.loads(data)["servers"])

    def forget_controllers(self) -> None:
        """Say that the controller we killed is dead: the next one need not watch its heartbeat for 25 s."""
        self.zk.delete(f"/rpcregistry/heartbeat/{self.cluster_id}")

    # Events

    def events(self, reason: str, name: str | None = None) -> list[Any]:
        """The Events of a reason, about an object of that name."""
        found = self.core.list_namespaced_event(self.namespace).items
        return [e for e in found if e.reason == reason and name in (None, e.involved_object.name)]

    def warnings(self, name: str = "app") -> list[str | None]:
        """The reasons of what people are warned of, about a LocalService."""
        found = self.core.list_namespaced_event(self.namespace).items
        about = ("LocalService", name, "Warning")
        return [e.reason for e in found if (e.involved_object.kind, e.involved_object.name, e.type) == about]


class Recorder:
    """An independent ZooKeeper client that records every state of a service's znode that it sees."""

    def __init__(self, zk: kazoo.client.KazooClient, path: str) -> None:
        self.states: list[list[str] | None] = []

        @zk.DataWatch(path)
        def record(data: bytes | None, stat: Any) -> None:
            self.states.append(None if stat is None else list(json.loads(data or b"{}").get("servers", [])))

    def smallest(self) -> int:
        """The fewest servers ever seen; 0 where the znode was missing or empty."""
        return min(len(state or ()) for state in self.states)


class Controller:
    """The public command, as a process of its own."""

    def __init__(self, kubeconfig: Path, zk_servers: str, log: Path, *flags: str) -> None:
        where = Where(kubeconfig=kubeconfig, zk_servers=zk_servers, bind_address="127.0.0.1:0")
        self._command = command("run", *flags, **where)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> "Controller":
        """Start it; it need not be ready when this returns."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                cwd=Path(__file__).parents[2],
            )
        return self

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        assert self._process
        self._process.send_signal(number)

    def wait(self, timeout: float = 30) -> int:
        """Wait for its end; return the exit code."""
        assert self._process
        return self._process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL: no chance to finish anything."""
        if self.running:
            self.signal(signal.SIGKILL)
            self.wait()

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        if self.running:
            self.signal(signal.SIGTERM)
        return self.wait()

    def text(self) -> str:
        """All that it logged or complained about."""
        return self._log.read_text() if self._log.exists() else ""

    def leads(self) -> bool:
        """Whether it has begun to write."""
        return any(line.get("event") == "leading" for line in self.logged())

    def logged(self) -> list[dict[str, Any]]:
        """Its log lines."""
        return [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]


def lack_once(api: HttpProxy, resource: str) -> Callable[[], bool]:
    """Break the watch of *resource*, and empty its next LIST; the result says whether there was one."""
    lacked: list[str] = []

    def instead(_method: str, path: str) -> Answer | None:
        is_watched = is_watch(path) and is_of(path, resource)
        return error_event(410, "Expired") if is_watched and not lacked else None

    def rewrite(method: str, path: str, status: int, body: bytes) -> Answer:
        if lacked or not is_list(method, path, resource):
            return status, body
        lacked.append(path)
        return status, without_items(body)

    api.instead, api.rewrite = instead, rewrite
    api.cut_watches(resource)
    return lambda: bool(lacked)


def reconciled(port: int) -> int:
    """How many keys a controller has reconciled that serves its metrics at *port*."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return int(sum(float(line.split()[1]) for line in lines if line.startswith(RECONCILED)))


def _as_it_is(read: Callable[..., Any], *arguments: str) -> dict[str, Any]:
    """What the server answers, with the fields that the client's models lack."""
    return dict(json.loads(read(*arguments, _preload_content=False).data))


def peculiar(entries: Sequence[Mapping[str, Any]]) -> str:
    """The second dialect's annotation."""
    return base64.b64encode(json.dumps(entries).encode()).decode()
