"""A registry, and the notifications of its subscribers, under all changes of pods and RpcServices."""

import random
import re
import threading
import time
from queue import SimpleQueue

import pytest

from rpcregistry.model import (
    Declaration,
    LabelSelector,
    ObjectKey,
    Pod,
    RpcService,
    RpcServiceSpec,
)
from rpcregistry.sdk import Misconfigured, Registry, Service
from rpcregistry.watch import Applied, Bookmark, Deleted, Listing
from tests.builders import pod, row, rpcservice
from tests.cluster.waiting import PATIENCE

NAMES = ["own", "a", "b", "c"]


class Server:
    """What a registry reads: two resources that are empty at first, and what happens to them then."""

    def __init__(self):
        self.version = 1
        self.feeds = {"pods": Feed(), "rpcservices": Feed()}

    def reader(self, resource, namespace, label_selector=""):
        return self.feeds[resource.plural]

    def happen(self, happening):
        """Put an object where it belongs, or let the pod of a name and uid be gone."""
        self.version += 1
        match happening:
            case Pod():
                self.feeds["pods"].put(Applied(happening, self.version))
            case RpcService():
                self.feeds["rpcservices"].put(Applied(happening, self.version))
            case (name, uid):
                self.feeds["pods"].put(Deleted(ObjectKey("default", name), uid, self.version))

    def stop(self):
        for feed in self.feeds.values():
            feed.put(None)


class Feed:
    def __init__(self):
        self.events = SimpleQueue()
        self.ahead = 1  # events that were put, and not yet taken in

    def put(self, event):
        self.ahead += 1
        self.events.put(event)

    def list(self):
        return Listing([], [], 1)

    def newest_resource_version(self):
        return 1

    def watch(self, resource_version):
        yield Bookmark(resource_version)
        self.ahead -= 1
        while event := self.events.get():
            yield event
            self.ahead -= 1


def incarnation_of(name, incarnation, ip, ports, selected, ready, terminating):
    return pod(
        name,
        ip=ip,
        uid=f"{name}-{incarnation}",
        labels={"app": "x", "rpc-service": "true"} if selected else {},
        ready=ready,
        terminating=terminating,
        declarations=tuple(Declaration(service_name="echo", port=port) for port in ports),
    )


def listing(name, selects, rows):
    """An RpcService of echo with such rows: a pod's name, its incarnation and port."""
    selector = LabelSelector(match_labels={"app": "x"}) if selects else None
    return rpcservice(
        name,
        *(row(of, "10.9.9.9", pod_uid=f"{of}-{incarnation}", port=port) for of, incarnation, port in rows),
        uid=name,
        spec=RpcServiceSpec(service_name="echo", selector=selector),
    )


def happening(chance):
    """Mostly a pod, which mostly is there, and listed; with others, whose addresses and names it shares."""
    name, incarnation = chance.choice(NAMES), chance.choice([1, 1, 1, 2])
    match chance.choices(["pod", "rpcservice", "gone"], [6, 3, 1])[0]:
        case "pod":
            ip = chance.choice(["", *["10.0.0.1", "10.0.0.2", "10.0.0.3"] * 3])
            ports = chance.sample([1, 2], chance.choice([0, 0, 1, 2]))
            flags = {"selected": chance.random() < 0.7, "ready": chance.random() < 0.5}
            return incarnation_of(name, incarnation, ip, ports, terminating=chance.random() < 0.1, **flags)
        case "rpcservice":
            rows = {
                (chance.choice(NAMES), chance.choice([1, 1, 1, 2]), chance.choice([7, 8])) for _ in range(4)
            }
            return listing(chance.choice(["echo", "part"]), chance.random() < 0.5, sorted(rows))
        case _:
            return name, f"{name}-{incarnation}"


def holding(updates):
    """A copy kept by notifications alone; it checks that an added value is new, and a changed one differs."""
    held = {}
    for kind, key, value in updates:
        assert (kind == "added") == (key not in held)
        assert held.get(key) != value or kind == "removed"
        if kind == "removed":
            del held[key]
        else:
            held[key] = value
    return held


def soon(look):
    """Look until it is true, every millisecond: there are a thousand looks."""
    end = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("seed", range(8))
def test_a_copy_kept_by_notifications_equals_the_registry(seed):
    chance = random.Random(seed)
    server, instances, peers, speaking = Server(), [], [], []

    def settled():
        return (
            not any(feed.ahead for feed in server.feeds.values())
            and holding(instances) == {(of.pod_uid, of.port): of for of in registry.instances("echo")}
            and holding(peers) == {peer.uid: peer for peer in registry.peers("echo")}
            and holding(speaking) == {peer.uid: peer for peer in registry.peers()}
        )

    with Registry(server, "default", "own") as registry:
        registry.subscribe(
            "echo",
            lambda notified: instances.append(
                (notified.kind, (notified.instance.pod_uid, notified.instance.port), notified.instance)
            ),
        )
        registry.subscribe_peers(
            lambda notified: peers.append((notified.kind, notified.peer.uid, notified.peer)), "echo"
        )
        registry.subscribe_peers(
            lambda notified: speaking.append((notified.kind, notified.peer.uid, notified.peer))
        )
        for _ in range(150):
            server.happen(happening(chance))
            if chance.random() < 0.8:
                soon(settled)
        soon(settled)
    assert len(instances) > 50 < len(peers)


@pytest.mark.parametrize(
    ("services", "dialect", "why"),
    [
        pytest.param("echo", "app.io", "no Service: 'e'", id="a name only"),
        pytest.param(7, "app.io", "not iterable", id="nothing of the kind"),
        pytest.param(
            Service(name="a"), "dubbo", "'dubbo' is none of rpc-service, app.io", id="another dialect"
        ),
    ],
)
def test_what_is_no_service_is_refused_before_anything_is_asked(services, dialect, why):
    registry = Registry(Server(), "default", "own")
    with pytest.raises(ValueError, match=re.escape(why)):
        registry.register(services, dialect=dialect)


def test_metadata_that_changed_since_are_checked_again():
    metadata = {}
    service = Service(name="a", metadata=metadata)
    metadata["k"] = 7
    with pytest.raises(ValueError, match="metadata/k: 7 is not of type 'string'"):
        Registry(Server(), "default", "own").register(service)


@pytest.mark.parametrize(
    ("namespace", "pod_name", "options", "error", "why"),
    [
        pytest.param("a b", "own", {}, Misconfigured, "namespace: 'a b' is no object's name", id="namespace"),
        pytest.param("default", "", {}, Misconfigured, "pod_name: '' is no object's name", id="pod name"),
        pytest.param(
            "default",
            "own",
            {"label_selector": "a=b=c"},
            ValueError,
            "'a=b=c' is no label selector",
            id="label selector",
        ),
    ],
)
def test_what_cannot_be_watched_is_refused_at_once(namespace, pod_name, options, error, why):
    with pytest.raises(error, match=why):
        Registry(Server(), namespace, pod_name, **options)


def test_a_registry_that_is_closed_registers_nothing():
    registry = Registry(Server(), "default", "own")
    registry.close()
    registry.close()
    registry.start()
    with pytest.raises(ValueError, match="closed"):
        registry.register(Service(name="a"))


def test_closing_ends_all_threads():
    before = set(threading.enumerate())
    with Registry(Server(), "default", "own") as registry:
        registry.wait_until_synced()
        assert len(set(threading.enumerate()) - before) == 4
    assert set(threading.enumerate()) <= before
