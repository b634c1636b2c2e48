"""Reads one resource: LIST, page by page, and WATCH.  msgspec decodes only the fields that we use."""

import random
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import msgspec

from rpcregistry.errors import Expired, Rejected, Retry
from rpcregistry.kube.failures import failure, status_of, translated
from rpcregistry.kube.requests import Requests
from rpcregistry.manifests import Named, Resource
from rpcregistry.model import ObjectKey
from rpcregistry.names import is_subdomain
from rpcregistry.watch import Applied, Bookmark, Deleted, Listing, Unreadable, WatchEvent

T = TypeVar("T", bound=Named)

LONGEST_EVENT = 4 * 1024 * 1024  # bytes; etcd holds objects of 1.5 MiB


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta
    kind: str = ""


class _VersionMeta(msgspec.Struct, rename="camel"):
    resource_version: str = "0"


class _Version(msgspec.Struct):
    metadata: _VersionMeta


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _PositionMeta(msgspec.Struct, rename="camel"):
    resource_version: str
    continue_: str = msgspec.field(name="continue", default="")


class _Position(msgspec.Struct):
    metadata: _PositionMeta


class _Page(msgspec.Struct):
    metadata: _PositionMeta
    items: list[msgspec.Raw] | None  # required: an answer without it is no LIST


_objects = msgspec.json.Decoder(_Object)
_versions = msgspec.json.Decoder(_Version)
_events = msgspec.json.Decoder(_Event)
_positions = msgspec.json.Decoder(_Position)
_pages = msgspec.json.Decoder(_Page)


class Reader(Generic[T]):
    """Reads a resource's objects in one namespace (``""``: all), if given only those of a label selector."""

    def __init__(
        self, requests: Requests, resource: Resource[T], namespace: str, label_selector: str, page: int
    ) -> None:
        self.namespace = namespace
        self._requests = requests
        self._page = page
        self._resource = resource
        self._path = url_path(resource, namespace)
        self._selector = {"labelSelector": label_selector} if label_selector else {}

    def list(self) -> Listing[T]:
        """Read every object, page by page, by a quorum read."""
        try:
            return self._list(self._page)
        except Expired:
            # etcd compacted the snapshot that the pages are of.  A LIST in one page cannot expire.
            return self._list(0)

    def newest_resource_version(self) -> int:
        """The server's resourceVersion, by a quorum read; one that fell means that etcd was restored."""
        what = f"list one of {self._resource.plural}"
        body = self._requests.read(what, self._path, {"limit": "1"})
        with translated(what):
            return int(_positions.decode(body).metadata.resource_version)

    def watch(self, resource_version: int) -> Iterator[WatchEvent[T]]:
        """Yield the events after *resource_version*, until the server ends the watch.

        The first event is a Bookmark of *resource_version*: the server accepted the watch.  ``Retry`` if the
        connection breaks: all events before are complete, so watch again after the last.
        """
        query = {
            **self._selector,
            "watch": "true",
            "resourceVersion": str(resource_version),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(300, 600)),  # so that not all watches end at once
        }
        what = f"watch {self._resource.plural}"
        with self._requests.stream(what, self._path, query) as chunks:
            yield Bookmark(resource_version)
            for line in lines(what, chunks):
                yield self._event(what, line)

    def _list(self, limit: int) -> Listing[T]:
        what = f"list {self._resource.plural}"
        items: list[T] = []
        unreadable: list[Unreadable] = []
        versions: list[int] = []
        query = {**self._selector, **({"limit": str(limit)} if limit else {})}
        while True:
            body = self._requests.read(what, self._path, query)
            with translated(what):
                page = _pages.decode(body)
                for raw in page.items or ():
                    item = self._decode(raw)
                    if isinstance(item, Unreadable):
                        unreadable.append(item)
                    else:
                        items.append(item)
                        versions.append(int(_versions.decode(raw).metadata.resource_version))
                if not page.metadata.continue_:
                    return Listing(items, unreadable, int(page.metadata.resource_version), versions)
            query["continue"] = page.metadata.continue_

    def _decode(self, raw: msgspec.Raw) -> T | Unreadable:
        try:
            return self._resource.decode(raw)
        except (msgspec.MsgspecError, ValueError) as error:
            meta = _objects.decode(raw).metadata
            return _unreadable(meta, str(error))

    def _event(self, what: str, line: bytes) -> WatchEvent[T]:
        try:
            event = _events.decode(line)
        except msgspec.MsgspecError as error:
            raise Expired(f"{what}: something changed, but its event cannot be read: {error}") from error
        if event.type == "ERROR":
            status = bytes(event.object)
            raise failure("GET", what, status_of(status).code or 500, status)
        try:
            if event.type == "BOOKMARK":
                return Bookmark(int(_positions.decode(event.object).metadata.resource_version))
            found = _objects.decode(event.object)
            version = int(found.metadata.resource_version)
        except (msgspec.MsgspecError, ValueError) as error:
            return Unreadable(ObjectKey("", ""), "", f"{event.type}: {error}", 0)
        meta = found.metadata
        if found.kind not in ("", self._resource.kind):
            return _unreadable(meta, f"a {found.kind} among {self._resource.plural}")
        match event.type:
            case "ADDED" | "MODIFIED":
                item = self._decode(event.object)
                return item if isinstance(item, Unreadable) else Applied(item, version)
            case "DELETED":
                return Deleted(ObjectKey(meta.namespace, meta.name), meta.uid, version)
        return _unreadable(meta, f"an event of unknown type {event.type!r}")


def lines(what: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    r"""Split a stream into lines, without their ends and without empty ones.

    ``Retry`` if the stream ends in the middle of a line.  ``Expired`` if a line is too long: we cannot know
    what changed, so the caller has to LIST.

    >>> list(lines("watch", [b"1\n2", b"2\n", b"\n3\n"]))
    [b'1', b'22', b'3']
    """
    pending = bytearray()
    for chunk in chunks:
        pending += chunk
        if b"\n" in chunk:
            *whole, rest = pending.split(b"\n")
            pending = rest
            yield from (bytes(line) for line in whole if line)
        if len(pending) > LONGEST_EVENT:
            raise Expired(f"{what}: an event is longer than {LONGEST_EVENT} bytes")
    if pending:
        raise Retry(f"{what}: the connection broke off in the middle of an event")


def _unreadable(meta: _Meta, message: str) -> Unreadable:
    version = int(meta.resource_version) if meta.resource_version.isdecimal() else 0
    return Unreadable(ObjectKey(meta.namespace, meta.name), meta.uid, message, version)


# Paths.  An empty name, or one of dots, would name the whole collection: a DELETE would delete all of it.


def url_path(resource: Resource[T], namespace: str, *names: str) -> str:
    """The path of a resource's collection; with a name of an object, with two of its subresource."""
    for name in (*((namespace,) if namespace else ()), *names):
        if not is_subdomain(name):
            raise Rejected(f"{resource.kind} {name!r}: that is no object's name")
    return resource.path(namespace, *names)
