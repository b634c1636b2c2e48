"""The Kubernetes API server: reads, watches and writes objects.

``kubeaccess`` has the configuration, credentials, TLS and connections; msgspec decodes the answers, only the
fields that we use.

Every failure is translated here, once, into ``errors``: ``failure`` for what the server answered,
``_translated`` for what became of the connection.  Nothing is retried here, except once with the
credentials read anew where they were refused.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import responses
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec
import urllib3

from rpcregistry.errors import Conflict, Ending, Expired, Failure, Misconfigured, Rejected, Retry, Unknown
from rpcregistry.kube.access import SERVICE_ACCOUNT, Access, access, reason
from rpcregistry.manifests import FIELD_MANAGER, GROUP, LOCALSERVICES, RPCSERVICES, Named, Resource
from rpcregistry.model import ObjectKey
from rpcregistry.names import is_subdomain
from rpcregistry.watch import Applied, Bookmark, Deleted, Listing, Unreadable, WatchEvent

T = TypeVar("T", bound=Named)

PAGE = 500
LONGEST_EVENT = 4 * 1024 * 1024  # bytes; etcd holds objects of 1.5 MiB
LONGEST_RETRY_AFTER = 30.0
CREDENTIALS_PERIOD = 5.0  # credentials that are refused are read anew at most this often
_RAW_PATH = re.compile(r"/apis?(/[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)+")


class Timeouts(NamedTuple):
    """Seconds to connect and to wait for the next bytes, by kind of request.

    A watch that is silent ends: whether the server still answers shows as it is started again.  Most are
    never silent for that long, since the server sends bookmarks about once a minute; but none while nothing
    has happened to a resource since the server started.  *body* bounds an answer as a whole.
    """

    watch: tuple[float, float] = (3, 90)
    read: tuple[float, float] = (3, 15)
    write: tuple[float, float] = (3, 10)
    body: float = 60


TIMEOUTS = Timeouts()
LEASE_TIMEOUTS = Timeouts(read=(2, 4), write=(2, 4), body=4)


# What the server answers


class _Cause(msgspec.Struct):
    reason: str = ""
    field: str = ""


class _Details(msgspec.Struct):
    name: str = ""
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    kind: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta
    kind: str = ""


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


_statuses = msgspec.json.Decoder(_Status)
_objects = msgspec.json.Decoder(_Object)
_events = msgspec.json.Decoder(_Event)
_positions = msgspec.json.Decoder(_Position)
_pages = msgspec.json.Decoder(_Page)


class Absent(Conflict):
    """The object is not there (any more)."""


def failure(
    method: str, what: str, status: int, body: bytes, retry_after: str | None = None, kind: str = ""
) -> Failure:
    """The failure that an answer with *status* and *body* means; *what* was asked goes into its message.

    *kind*: of ours, where it was asked for.  Of the body only a Status's message is shown: the rest may hold
    anybody's data.
    """
    told = _status(body)
    named = bool(told.details and told.details.name)
    causes = _causes(told)
    message = _message(what, status, told, body, "" if named else kind)
    match status, method:
        # 422 for another uid: since it was read, it was made anew under its name.
        case 409 | 422, _ if status == 409 or "metadata.uid" in causes:
            return Conflict(message)
        case 404, "GET" | "PUT" | "PATCH" | "DELETE" if told.reason == "NotFound" and named:
            return Absent(message)
        case 401 | 403 | 404, "GET":
            return Unknown(message)
        case 403, _ if "NamespaceTerminating" in causes:
            return Ending(message)
        case 404, "POST" if told.reason == "NotFound" and named:
            return Ending(message)
        case 410, _:
            return Expired(message)
        case 504, "GET" if "Too large resource version" in told.message:
            return Expired(message)
        case 500, _ if "request is too large" in told.message or "larger than max" in told.message:
            return Rejected(message)
        case 429, _:
            return Retry(message, _seconds(retry_after) or 1.0)
    again = status >= 500 or status == HTTPStatus.REQUEST_TIMEOUT
    return Retry(message, _seconds(retry_after)) if again else Rejected(message)


def _message(what: str, status: int, told: _Status, body: bytes, kind: str) -> str:
    """What was answered, and what a person can do about it; *kind* is missing where that is a 404."""
    if status == 404 and kind:
        return f"{what}: the kind {kind} is not there: kubectl apply -f crds/"
    said = f"{status} {told.reason or responses.get(status, '')}"
    message = " ".join(": ".join(filter(None, (what, said, told.message))).split())[:1000]
    return message + _advice(status, told, body)


def _advice(status: int, told: _Status, body: bytes) -> str:
    match status:
        case 400 if body.startswith(b"Client sent an HTTP request to an HTTPS server"):
            return ": it wants TLS: write https:// for http://"
        case 401:
            return ": it does not accept our credentials: renew the token or the certificate"
        case 403 if 'User "system:anonymous" cannot ' in told.message:
            return ": we have no credentials: mend the kubeconfig's user"
        case 403 if re.search(r' User ".*" cannot ', told.message):
            return ": give that right by a role; those of examples/controller.yaml have it"
    return ""


def _kind(target: str) -> str:
    """The kind of ours that a request's *target* is about, or ``""``.

    >>> _kind("/apis/rpcregistry.dev/v1alpha1/namespaces/a/rpcservices/b?limit=1"), _kind("/api/v1/pods")
    ('RpcService', '')
    """
    match = re.match(rf"/apis/{GROUP}/\w+/(?:namespaces/[^/]+/)?(\w+)", target)
    return next((crd.kind for crd in (RPCSERVICES, LOCALSERVICES) if match and crd.plural == match[1]), "")


def _causes(told: _Status) -> set[str]:
    """The reasons, and the fields, of what a Status names as its causes."""
    causes = (told.details and told.details.causes) or ()
    return {word for cause in causes for word in (cause.reason, cause.field)}


def _status(body: bytes) -> _Status:
    try:
        told = _statuses.decode(body)
    except msgspec.MsgspecError:
        return _Status()
    return told if told.kind == "Status" else _Status()


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header, where it is in seconds.

    >>> _seconds("2"), _seconds("86400"), _seconds("Fri, 31 Dec 1999 23:59:59 GMT"), _seconds(None)
    (2.0, 30.0, None, None)
    """
    if retry_after is None or not re.fullmatch(r"[0-9]{1,9}", retry_after):
        return None
    return min(LONGEST_RETRY_AFTER, float(retry_after))


@contextmanager
def _translated(what: str, server: str = "") -> Iterator[None]:
    """Translate what can become of a connection to *server*, and answers that are none."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Retry(": ".join(filter(None, (what, server, reason(error))))) from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise Retry(f"{what}: the answer cannot be read: {error}") from error


# Reading


class Reader(Generic[T]):
    """Reads one resource in one namespace (``""``: all of them), or the objects that a selector chooses."""

    def __init__(self, kube: "Kube", resource: Resource[T], namespace: str, label_selector: str) -> None:
        self.namespace = namespace
        self._kube = kube
        self._resource = resource
        self._path = _path(resource, namespace)
        self._selector = {"labelSelector": label_selector} if label_selector else {}

    def list(self) -> Listing[T]:
        """Every object, as of now (a quorum read), page by page."""
        try:
            return self._list(self._kube.page)
        except Expired:
            # The pages' snapshot was compacted away.  A LIST in one page has nothing to expire.
            return self._list(0)

    def newest_resource_version(self) -> int:
        """How far the server is, by a quorum read: less than what was seen before means a restore."""
        what = f"list one of {self._resource.plural}"
        body = self._kube.read(what, self._path, {"limit": "1"})
        with _translated(what):
            return int(_positions.decode(body).metadata.resource_version)

    def watch(self, resource_version: int) -> Iterator[WatchEvent[T]]:
        """What happens after *resource_version*, until the server ends the watch.

        The first event is a Bookmark of *resource_version*: the server accepted the watch.  A
        connection that breaks raises ``Retry``: every event before was whole, so go on after the last.
        """
        query = {
            **self._selector,
            "watch": "true",
            "resourceVersion": str(resource_version),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(300, 600)),  # not all watches at the same time
        }
        what = f"watch {self._resource.plural}"
        with self._kube.stream(what, self._path, query) as chunks:
            yield Bookmark(resource_version)
            for line in lines(what, chunks):
                yield self._event(what, line)

    def _list(self, limit: int) -> Listing[T]:
        what = f"list {self._resource.plural}"
        items: list[T] = []
        unreadable: list[Unreadable] = []
        query = {**self._selector, **({"limit": str(limit)} if limit else {})}
        while True:
            body = self._kube.read(what, self._path, query)
            with _translated(what):
                page = _pages.decode(body)
                for raw in page.items or ():
                    item = self._decode(raw)
                    if isinstance(item, Unreadable):
                        unreadable.append(item)
                    else:
                        items.append(item)
                if not page.metadata.continue_:
                    return Listing(items, unreadable, int(page.metadata.resource_version))
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
            raise failure("GET", what, _status(status).code or 500, status)
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
    r"""The lines of a stream, without their ends; empty ones are left out.

    An end in the middle of a line raises ``Retry``.  A line that is too long raises ``Expired``: what
    changed is not known, and a LIST tells.

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


# Paths: an empty name, or one of dots, would mean a whole collection, and a DELETE of it.


def _path(resource: Resource[T], namespace: str, *names: str) -> str:
    """The URL path of a resource's collection, an object of it (its name), or its subresource (both)."""
    for name in (*((namespace,) if namespace else ()), *names):
        if not is_subdomain(name):
            raise Rejected(f"{resource.kind} {name!r}: that is no object's name")
    root = f"/apis/{resource.group}" if resource.group else "/api"
    within = ("namespaces", namespace) if namespace else ()
    return "/".join((root, resource.version, *within, resource.plural, *names))


# The connection


class _Request(NamedTuple):
    """*what* says in words what is asked; *target* is the path with its query."""

    what: str
    method: str
    target: str
    headers: Mapping[str, str]
    timeout: tuple[float, float]
    body: bytes | None = None


class _Transport:
    """A pool of connections, and the credentials that go with it."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._lock = threading.Lock()  # protects what access.authorization keeps

    def send(self, request: _Request) -> urllib3.BaseHTTPResponse:
        """Send *request*; the body of the answer is still to be read."""
        connect, read = request.timeout
        return self.access.pool.request(
            request.method,
            self.access.host + request.target,
            body=request.body,
            headers={**request.headers, **self._authorization()},
            timeout=urllib3.Timeout(connect=connect, read=read),
            preload_content=False,
        )

    def _authorization(self) -> dict[str, str]:
        with self._lock:
            value = self.access.authorization()
        if not (value.isascii() and value.isprintable()):
            raise ValueError("the token holds characters that no header can")
        return {"Authorization": value} if value else {}

    def close(self) -> None:
        """Close the connections that are idle; the others when they become it."""
        self.access.pool.clear()


class Kube:
    """A client of one API server, for any number of threads.

    *load* reads the configuration; it is called again where credentials or certificates are refused.
    A LIST has *page* objects a page, each of which is in memory as a whole.
    """

    def __init__(self, load: Callable[[], Access], timeouts: Timeouts = TIMEOUTS, page: int = PAGE) -> None:
        self._load = load
        self._timeouts = timeouts
        self.page = page
        self._lock = threading.Lock()  # protects _watches, _stopped, _renewed_at and _transport (to write)
        self._watches: set[urllib3.BaseHTTPResponse] = set()
        self._stopped = False
        self._renewed_at = float("-inf")
        self._transport = _Transport(load())  # replaced as a whole

    @classmethod
    def from_config(
        cls,
        kubeconfig: str | None,
        context: str | None = None,
        *,
        connections: int = 32,
        timeouts: Timeouts = TIMEOUTS,
        page: int = PAGE,
        service_account: Path = SERVICE_ACCOUNT,
    ) -> "Kube":
        """A client that has access as ``access`` says; raises ``Misconfigured``.

        *connections* should cover the watches and the writers at work at once.
        """
        return cls(lambda: access(kubeconfig, context, service_account, connections), timeouts, page)

    @property
    def context(self) -> str:
        """The kubeconfig's context in force, or ``in-cluster``."""
        return self._transport.access.context

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._transport.access.host

    def reader(self, resource: Resource[T], namespace: str = "", label_selector: str = "") -> Reader[T]:
        """What an informer reads."""
        return Reader(self, resource, namespace, label_selector)

    def list(self, resource: Resource[T], namespace: str = "", label_selector: str = "") -> Listing[T]:
        """Every object, as of now."""
        return self.reader(resource, namespace, label_selector).list()

    def get(self, resource: Resource[T], key: ObjectKey) -> T | None:
        """The object as of now; None where it does not exist, and ``Unknown`` where its resource does not."""
        what = f"get {resource.kind} {key}"
        try:
            return _decoded(what, resource, self.read(what, _path(resource, key.namespace, key.name)))
        except Absent:
            return None

    def create(
        self, resource: Resource[T], namespace: str, manifest: Mapping[str, Any], trial: bool = False
    ) -> T:
        """Create an object; ``Conflict`` where there is one of that name.  A *trial* keeps nothing."""
        what = f"create {resource.kind} {namespace}/{manifest['metadata']['name']}"
        body = self._write("POST", what, _path(resource, namespace), manifest, trial)
        return _decoded(what, resource, body)

    def replace(
        self, resource: Resource[T], key: ObjectKey, manifest: Mapping[str, Any], subresource: str = ""
    ) -> T:
        """Write an object, or a *subresource* of it, as a whole.

        ``Conflict`` unless the manifest's resourceVersion is the object's.
        """
        what = f"replace {resource.kind} {key}"
        path = _path(resource, key.namespace, key.name, *((subresource,) if subresource else ()))
        return _decoded(what, resource, self._write("PUT", what, path, manifest))

    def patch(
        self, resource: Resource[T], key: ObjectKey, patch: Mapping[str, Any], subresource: str = ""
    ) -> T:
        """Merge *patch* into an object.

        ``Conflict`` where the object is gone, is not the one with the patch's uid, or is not at its
        resourceVersion.
        """
        what = f"patch {resource.kind} {key}"
        path = _path(resource, key.namespace, key.name, *((subresource,) if subresource else ()))
        return _decoded(what, resource, self._write("PATCH", what, path, patch))

    def delete(self, resource: Resource[T], key: ObjectKey, uid: str, resource_version: str) -> None:
        """Delete the object as it was read; ``Conflict`` where it changed since.  Gone already is done."""
        what = f"delete {resource.kind} {key}"
        path = _path(resource, key.namespace, key.name)
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        with suppress(Absent):
            self._write("DELETE", what, path, {"preconditions": preconditions})

    def raw(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Any other request, as decoded JSON; *path* begins with ``/api``.  Deletes nothing."""
        if method not in ("GET", "POST", "PUT", "PATCH") or not _RAW_PATH.fullmatch(path):
            raise Rejected(f"{method} {path!r}: no such request is made")
        what = f"{method} {path}"
        answer = self.read(what, path) if method == "GET" else self._write(method, what, path, body or {})
        with _translated(what):
            return msgspec.json.decode(answer)

    def cluster_id(self) -> str:
        """What tells this cluster from others: the UID of its namespace kube-system."""
        return str(self.raw("GET", "/api/v1/namespaces/kube-system")["metadata"]["uid"])

    def stop(self) -> None:
        """Break the watches, those that run and those to come."""
        with self._lock:
            self._stopped = True
            for response in self._watches:
                # RuntimeError: it came to its end by itself.
                with suppress(OSError, RuntimeError):
                    response.shutdown()

    # what Reader needs

    def read(self, what: str, path: str, query: Mapping[str, str] | None = None) -> bytearray:
        """The answer to a GET."""
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        return self._answer(_Request(what, "GET", target, headers, self._timeouts.read))

    @contextmanager
    def stream(self, what: str, path: str, query: Mapping[str, str]) -> Iterator[Iterator[bytes]]:
        """The bytes of a watch, as they come."""
        headers = {"Accept": "application/json"}
        target = f"{path}?{urlencode(query)}"
        response = self._respond(_Request(what, "GET", target, headers, self._timeouts.watch))
        try:
            with self._lock:
                self._watches.add(response)
                stopped = self._stopped
            yield iter(()) if stopped else _chunks(what, response, silence_ends=True)
        finally:
            with self._lock:
                self._watches.discard(response)
            response.close()

    def _write(
        self, method: str, what: str, path: str, body: Mapping[str, Any], trial: bool = False
    ) -> bytearray:
        target = path if method == "DELETE" else f"{path}?fieldManager={FIELD_MANAGER}"
        target += "&dryRun=All" if trial else ""
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": content}
        encoded = msgspec.json.encode(body)
        return self._answer(_Request(what, method, target, headers, self._timeouts.write, encoded))

    def _answer(self, request: _Request) -> bytearray:
        return _body(request.what, self._respond(request), self._timeouts.body)

    def _respond(self, request: _Request) -> urllib3.BaseHTTPResponse:
        """Send *request*; return the answer where it is a success, and raise what it means otherwise."""
        transport = self._transport
        with _translated(request.what, transport.access.host):
            try:
                response = transport.send(request)
            except urllib3.exceptions.SSLError:
                self._renew(transport)
                raise
            if response.status == 401 and self._renew(transport):
                response.close()
                response = self._transport.send(request)
        if not 200 <= response.status < 300:
            body = _body(request.what, response, self._timeouts.body)
            after = response.headers.get("Retry-After")
            kind = _kind(request.target)
            raise failure(request.method, request.what, response.status, bytes(body), after, kind)
        return response

    def _renew(self, used: _Transport) -> bool:
        """Read the configuration anew where *used* still has the one in use; return whether that changed."""
        with self._lock:
            if self._transport is used and time.monotonic() - self._renewed_at > CREDENTIALS_PERIOD:
                self._renewed_at = time.monotonic()
                # Where it cannot be read now, a later refusal tries again.
                with suppress(Misconfigured):
                    self._transport = _Transport(self._load())
                    used.close()
            return self._transport is not used


def _chunks(what: str, response: urllib3.BaseHTTPResponse, *, silence_ends: bool = False) -> Iterator[bytes]:
    with _translated(what):
        try:
            while chunk := response.read1(65536):
                yield chunk
        except urllib3.exceptions.ReadTimeoutError:
            if not silence_ends:
                raise


def _body(what: str, response: urllib3.BaseHTTPResponse, seconds: float) -> bytearray:
    """The whole body, within *seconds*: the read timeout alone would let it come drop by drop.

    It may be large, and is not copied once more to be ``bytes``.
    """
    deadline = time.monotonic() + seconds
    body = bytearray()
    for chunk in _chunks(what, response):
        body += chunk
        if time.monotonic() > deadline:
            response.close()
            raise Retry(f"{what}: the answer took longer than {seconds:g} s")
    return body


def _decoded(what: str, resource: Resource[T], body: bytearray) -> T:
    try:
        return resource.decode(bytes(body))
    except (msgspec.MsgspecError, ValueError) as error:
        raise Rejected(f"{what}: the object cannot be read: {error}") from error
