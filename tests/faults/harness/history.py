"""What became of pods, Nodes and our own kinds, as a watch of the harness's own sees it, past every proxy."""

import json
import ssl
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from tests.cluster.waiting import eventually
from tests.faults.harness.evidence import Change

PATHS: Mapping[str, str] = {
    "Pod": "/api/v1/pods",
    "Node": "/api/v1/nodes",
    "Namespace": "/api/v1/namespaces",
    "RpcService": "/apis/rpcregistry.dev/v1alpha1/rpcservices",
    "LocalService": "/apis/rpcregistry.dev/v1alpha1/localservices",
    "Service": "/api/v1/services",
}
IDLE = 30.0  # seconds without an event, after which a watch is begun anew: the server may hang
AGAIN = 0.2  # seconds
OBJECTS = "Pod", "RpcService", "LocalService", "Service"  # what a test is about


class Mark(NamedTuple):
    """A point of the history: how many changes there had been, and the objects of that time."""

    changes: int
    objects: tuple[Change, ...]


class History:
    """Follows the cluster, for as many tests as there are; a thread a kind, and anybody may ask.

    A uid never comes back: a pod that was deleted is dead, even if a server with an older state lists it
    again, and one that such a server does not know lives on.
    """

    def __init__(self, server: str, ca_file: Path, token: str) -> None:
        self._server = server
        self._token = token
        context = ssl.create_default_context(cafile=str(ca_file))
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
        self._over = threading.Event()
        self._lock = threading.Lock()  # protects what follows
        self._changes: list[Change] = []
        self._known: dict[str, dict[str, Any]] = {}  # by uid
        self._dead: set[str] = set()  # uids
        self._restored: set[str] = set()  # kinds that were not listed yet since the server went back in time

    def __enter__(self) -> "History":
        for kind in PATHS:
            threading.Thread(target=self._follow, args=(kind,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def restored(self) -> None:
        """An older state was put back, and nobody serves it yet: what it lacks was not deleted."""
        with self._lock:
            self._restored = set(PATHS)

    def mark(self) -> Mark:
        """Now."""
        with self._lock:
            at = time.time()
            known = tuple(Change(at, "ADDED", item) for item in self._known.values())
            return Mark(len(self._changes), known)

    def since(self, mark: Mark, namespaces: Collection[str]) -> list[Change]:
        """What was there at that time, and every change since; of these namespaces, and Nodes."""
        with self._lock:
            changes = self._changes[mark.changes :]
        return [change for change in (*mark.objects, *changes) if _is_of(change.object, namespaces)]

    def catch_up(self, namespaces: Collection[str]) -> None:
        """Wait until all that was written until now was seen."""
        eventually(lambda: all(self._has_seen(kind, namespaces) for kind in OBJECTS))

    def _has_seen(self, kind: str, namespaces: Collection[str]) -> bool:
        try:
            there = self.listed(kind, namespaces)
        except HTTPError as error:
            return error.code == 404  # the kind was deleted, and its objects with it
        except OSError:
            return False
        with self._lock:
            dead, known = set(self._dead), {uid: _version(item) for uid, item in self._known.items()}
        return all(known.get(_uid(item)) == _version(item) for item in there if _uid(item) not in dead)

    def listed(self, kind: str, namespaces: Collection[str]) -> list[Any]:
        """What the server says now, of these namespaces; an ``OSError`` where it does not answer."""
        return [item for item in self._list(kind)["items"] if _is_of(item, namespaces)]

    # following

    def _follow(self, kind: str) -> None:
        while not self._over.is_set():
            with suppress(OSError, HTTPException, ValueError):
                listed = self._list(kind)
                self._take_all(kind, listed["items"])
                for event in self._watch(kind, listed["metadata"]["resourceVersion"]):
                    if event["type"] == "ERROR" or self._over.is_set():
                        break
                    self._take(event["type"], event["object"])
            self._over.wait(AGAIN)

    def _list(self, kind: str) -> Any:
        with self._get(PATHS[kind], 10) as answer:
            listed = json.load(answer)
        for item in listed["items"]:
            item["kind"] = kind
        return listed

    def _watch(self, kind: str, version: str) -> Iterator[Any]:
        query = urlencode({"watch": "1", "resourceVersion": version})
        with self._get(f"{PATHS[kind]}?{query}", IDLE) as answer:
            yield from map(json.loads, answer)

    def _get(self, path: str, timeout: float) -> HTTPResponse:
        request = Request(self._server + path, headers={"Authorization": f"Bearer {self._token}"})
        answer: HTTPResponse = self._opener.open(request, timeout=timeout)
        return answer

    def _take_all(self, kind: str, items: list[Any]) -> None:
        """What a LIST says: of one that is missing, how it went depends on whether the server forgot it."""
        there = {_uid(item) for item in items}
        with self._lock:
            missing = [item for uid, item in self._known.items() if item["kind"] == kind and uid not in there]
            how = "LOST" if kind in self._restored else "DELETED"
            self._restored.discard(kind)
        for item in missing:
            self._take(how, item)
        for item in items:
            self._take("ADDED", item)

    def _take(self, type_: str, item: dict[str, Any]) -> None:
        uid = _uid(item)
        with self._lock:
            known = self._known.get(uid)
            if uid in self._dead or (known and type_ == "ADDED" and _version(known) == _version(item)):
                return
            if type_ in ("DELETED", "LOST"):
                self._known.pop(uid, None)
            else:
                self._known[uid] = item
                type_ = "MODIFIED" if known else "ADDED"
            if type_ == "DELETED" and item["kind"] == "Pod":
                self._dead.add(uid)
            self._changes.append(Change(time.time(), type_, item))


def _uid(item: Mapping[str, Any]) -> str:
    return str(item["metadata"]["uid"])


def _version(item: Mapping[str, Any]) -> str:
    return str(item["metadata"]["resourceVersion"])


def _is_of(item: Mapping[str, Any], namespaces: Collection[str]) -> bool:
    metadata = item["metadata"]
    if item["kind"] == "Namespace":
        return metadata["name"] in namespaces
    return item["kind"] == "Node" or metadata.get("namespace") in namespaces
