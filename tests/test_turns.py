"""Namespaces take turns in every queue of the process, and a queue without turns does not pass."""

import ast
import gc
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import rpcregistry
from rpcregistry.layouts import Layout
from rpcregistry.model import NodeServiceKey, ObjectKey, ServiceKey
from rpcregistry.plan.publication import Adopt, CrossNamespace, Policy
from rpcregistry.plan.turns import KEPT_FREE, InFlight
from rpcregistry.reconcile.memory import Memory
from rpcregistry.reconcile.withdrawn import Withdrawn
from rpcregistry.run import PARTS
from rpcregistry.run.dryrun import DryRunLeadership, DryRunLease
from rpcregistry.run.part import Part
from rpcregistry.run.shared import Relay, Shared
from rpcregistry.runtime.controller import Controller
from rpcregistry.runtime.workqueue import Workqueue
from rpcregistry.settings import RunSettings, Target
from rpcregistry.telemetry.metrics import Metrics
from rpcregistry.zookeeper.access import OPEN
from rpcregistry.zookeeper.client import ZooKeeper
from tests.builders import rpcservice

PACKAGE = Path(rpcregistry.__file__).parent
# What has an order of its own and is no queue of keys, by module: why.
NO_QUEUES = {
    "commands/follow.py": "what one person watches, in order",
    "kube/http.py": "connections that wait for a request",
    "reconcile/withdrawn.py": "what was withdrawn a moment ago",
    "run/journal.py": "what has happened, the newest of it",
    "run/timeline.py": "what has happened, the newest of it",
    "run/sources.py": "the newest of several numbers",
    "runtime/workqueue.py": "the queue itself, and the retries of the last second",
    "zookeeper/client.py": "one command's requests, in order",
}
WAITS = {"deque", "heapq", "queue", "Queue", "SimpleQueue", "PriorityQueue", "LifoQueue"}
WRITES = {
    "rpcservice", "condition", "nodeservice", "podlabel", "localservice", "localservice-status",
    "rpcservice-labels", "localservice-labels",
}  # fmt: skip


class NoServer:
    """A client of no API server: nothing is asked of it here."""

    def raw(self, *_: Any) -> Any:
        raise AssertionError

    def reader(self, *_: Any) -> None:
        """None: nothing is listed here."""

    get = list = raw


def settings() -> RunSettings:
    target = Target(
        kubeconfig=None,
        context=None,
        namespaces=(),
        zk_servers="127.0.0.1:1",
        zk_access=OPEN,
        layouts=(Layout("kube2zk", "/rpc_v2"),),
        cluster_id="c1",
        from_cluster="",
        cross_namespace=CrossNamespace.UNION,
        adopt=Adopt.UNOWNED,
        max_znode_bytes=1000,
    )
    return RunSettings(
        target=target,
        pod_label_selector="",
        controllers=tuple(PARTS),
        node_label="rpcregistry.dev/node",
        require_register_permission=False,
        leader_elect=True,
        lease_namespace="",
        dry_run=False,
        batch_window=0.1,
        resync_period=0.0,
        compare_period=60.0,
        policy=Policy.SYNC,
        guard_confirm=30.0,
        ownership_grace=timedelta(1),
        endpoints_per_object=100,
        services_per_namespace=0,
        generated_labels={},
        once=False,
        bind_address="",
    )


@pytest.fixture
def shared() -> Shared:
    lease = DryRunLease()
    return Shared(
        settings=settings(),
        kube=NoServer(),
        zookeeper=ZooKeeper("127.0.0.1:1", on_connection=lambda _: None, on_changed=lambda _: None),
        connection=Relay(),
        changed=Relay(),
        cluster_id="c1",
        identity="me",
        leadership=DryRunLeadership(lease),
        memory=Memory(lease, Withdrawn(lease, lambda: None)),
        metrics=Metrics(),
        stopping=threading.Event(),
    )


@pytest.fixture
def parts(shared: Shared) -> list[Part]:
    return [make(shared) for make in PARTS.values()]


def queues(parts: list[Part]) -> dict[str, Workqueue[Any]]:
    """By the name of their threads."""
    works: list[Any] = [works for part in parts for works in part.works]
    return {
        works._name if isinstance(works, Controller) else "registry": (
            works._queue if isinstance(works, Controller) else works._name_queue
        )
        for works in works
    }


def key(queue: str, namespace: str, number: int) -> Any:
    """A key of *queue* that belongs to *namespace*."""
    match queue:
        case "registry":
            return f"{namespace}-{number}"
        case "rpcservice" | "localservice":
            return ServiceKey(namespace, str(number))
        case "nodeservice":
            return NodeServiceKey(namespace, str(number), "node")
    return ObjectKey(namespace, str(number))


def test_namespaces_take_turns_in_every_queue(shared: Shared, parts: list[Part]):
    for name in [*(f"loud-{number}" for number in range(100)), "quiet-0"]:
        # A name belongs to the namespaces of its RpcServices.
        shared.relied.vouch(rpcservice(name, namespace=name.partition("-")[0], uid=name))
    found = queues(parts)
    assert found.keys() == WRITES | {"annotation", "registry"}
    for name, queue in found.items():
        for number in range(100):
            queue.add(key(name, "loud", number))
        queue.add(key(name, "quiet", 0))
        assert key(name, "quiet", 0) in queue.get(2, 0.0), name


def test_every_queue_of_the_process_is_one_of_these(shared: Shared):
    before = all_queues()
    found = queues([make(shared) for make in PARTS.values()])
    assert [queue for queue in all_queues() if queue not in [*before, *found.values()]] == []


def all_queues() -> list[Workqueue[Any]]:
    return [queue for queue in gc.get_objects() if isinstance(queue, Workqueue)]


def test_every_queue_whose_work_waits_for_a_server_keeps_workers_for_others(parts: list[Part]):
    for name, queue in queues(parts).items():
        may = InFlight(queue.workers, {"slow", "slower"}.__contains__)
        if name in WRITES:
            assert queue.workers > KEPT_FREE, name
            while may.may("slow"):
                may.begin("slow")
            assert not may.may("slower")
            assert may.may("quiet"), name
        else:
            assert queue.workers == 1, name


def test_nothing_else_in_the_process_waits_in_a_line():
    lines = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", ""), *(alias.name for alias in node.names)]
                lines |= {str(file.relative_to(PACKAGE))} if WAITS.intersection(names) else set()
    assert lines == set(NO_QUEUES), "use plan.turns, or say here why it is no queue"


def test_workqueues_are_made_where_their_turns_are_said():
    made = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Workqueue"
    }
    assert made == {"run/shared.py", "run/registry.py"}
