"""Following RpcServices: calls back with each service that changed."""

import queue
import threading
from collections.abc import Callable, Collection, Sequence

from rpcregistry.kube.client import Kube
from rpcregistry.manifests import RPCSERVICES
from rpcregistry.model import ObjectKey, RpcService
from rpcregistry.runtime.informer import Informer
from rpcregistry.runtime.store import Change

# Seconds between two looks whether a signal came: one that comes as we begin to wait interrupts no wait.
TICK = 0.5


def follow(
    kube: Kube,
    namespaces: Sequence[str],
    names: Collection[str],
    changed: Callable[[Sequence[RpcService], Sequence[RpcService]], None],
) -> None:
    """Call *changed* with the RpcServices of a service before and after each change, until interrupted.

    *names*: of services or objects; all, if none.  The objects that are there at first are no change.
    """
    arrived: queue.SimpleQueue[Change[RpcService]] = queue.SimpleQueue()
    informers = [
        Informer(
            "rpcservices",
            kube.reader(RPCSERVICES, namespace),
            {},
            on_change=arrived.put,
            on_listed=lambda: None,
            on_restart=lambda _: None,
        )
        for namespace in namespaces or ("",)
    ]
    for informer in informers:
        threading.Thread(target=informer.run, name="watch", daemon=True).start()
    try:
        _tell(arrived, names, changed)
    finally:
        for informer in informers:
            informer.stop()
        kube.stop()


def _tell(
    arrived: "queue.SimpleQueue[Change[RpcService]]",
    names: Collection[str],
    changed: Callable[[Sequence[RpcService], Sequence[RpcService]], None],
) -> None:
    known: dict[str, dict[ObjectKey, RpcService]] = {}
    first = True
    while True:
        try:
            change = arrived.get(timeout=TICK)
        except queue.Empty:
            continue
        one = change.new or change.old
        if one is None:
            continue
        objects = known.setdefault(one.service_name, {})
        before = list(objects.values())
        if change.new:
            objects[one.key] = change.new
        else:
            objects.pop(one.key, None)
        first = first and change.listed
        wanted = not names or one.service_name in names or one.name in names
        if wanted and not (first and change.listed):
            changed(before, list(objects.values()))
