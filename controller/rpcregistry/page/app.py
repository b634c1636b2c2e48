"""The application: JSON for programs, one HTML file for all screens, and a stream that says *look*."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rpcregistry.plan.screens.services import SORTS, STATES

ASSETS = Path(__file__).parent / "assets"
SCREENS = ("", "service", "local", "localservice", "rejected", "changes", "controller")
TYPES = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".svg": "image/svg+xml"}
MOST_ROWS = 1_000
STREAM_EVERY = 0.5  # seconds between two looks whether something changed
PING_EVERY = 15.0
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Characters that turn the text around them, or that nobody sees: in JSON they are escaped, and shown so.
_HIDDEN = {
    code: f"\\\\u{code:04x}"
    for code in (0x7F, *range(0x80, 0xA0), 0xAD, 0x61C, *range(0x200B, 0x2010), *range(0x2028, 0x202F),
                 *range(0x2060, 0x2070), 0xFEFF)
}  # fmt: skip


class Looks(Protocol):
    """What the page shows; ``None``: there is no such thing.  The page's thread calls all of it."""

    @property
    def version(self) -> int:
        """A number that grows within half a second of a change of what is shown; until then answers count."""

    def state(self) -> Any: ...
    def services(self, query: Mapping[str, Any]) -> Any: ...
    def service(self, name: str, query: Mapping[str, Any]) -> Any: ...
    def closest(self, name: str) -> Sequence[str]: ...
    def local_services(self) -> Any: ...
    def local_service(self, namespace: str, name: str) -> Any: ...
    def rejected(self) -> Any: ...
    def changes(self, query: Mapping[str, Any]) -> Any: ...


class Refused(Exception):
    """An answer that is none: an HTTP status, and what to do instead."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail


Authorize = Callable[[Mapping[str, str]], Awaitable[None]]  # of the headers; raises ``Refused``
Answered = Callable[[str, int], None]  # a path's template, ``none`` for what is not let in; an HTTP status


def make_app(
    looks: Looks,
    hosts: Collection[str],
    authorize: Authorize,
    answered: Answered,
    stopping: asyncio.Event,
) -> ASGIApp:
    """The application; *hosts*: the names that a request may call it by; streams end with *stopping*.

    *answered* is told of each answer when it begins.
    """
    index = (ASSETS / "index.html").read_text()
    files = {path.relative_to(ASSETS).as_posix(): path.read_bytes() for path in sorted(ASSETS.rglob("*.*"))}
    mark = hashlib.sha256(b"\0".join(files.values())).hexdigest()[:12]
    page = index.replace("ASSETS", f"assets/{mark}").encode()
    api = _Api(looks)

    async def screen(_: Request) -> Response:
        return Response(page, media_type="text/html", headers={"Cache-Control": "no-cache"})

    async def asset(request: Request) -> Response:
        name = request.path_params["path"]
        if name not in files or request.path_params["mark"] != mark:
            raise Refused(404, "Not found", f"there is no {name}")
        return Response(
            files[name],
            media_type=TYPES.get(Path(name).suffix, "application/octet-stream"),
            headers={"Cache-Control": "max-age=31536000, immutable"},
        )

    async def stream(request: Request) -> Response:
        _known(request, {})
        return StreamingResponse(
            _changes(looks, stopping),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def nothing(_: Request) -> Response:
        raise Refused(404, "Not found", f"the screens are {', '.join(SCREENS[1:])}; JSON is below api/")

    routes = [
        *(Route(f"/{name}", screen) for name in SCREENS),
        Route("/assets/{mark}/{path:path}", asset),
        Route("/api/stream", stream),
        Route("/api/state", api.answering(api.state, {})),
        Route("/api/services", api.answering(api.services, LIST)),
        Route("/api/services/{name:path}", api.answering(api.service, ONE)),
        Route("/api/localservices", api.answering(api.local_services, {})),
        Route("/api/localservices/{namespace}/{name}", api.answering(api.local_service, {})),
        Route("/api/rejected", api.answering(api.rejected, {})),
        Route("/api/changes", api.answering(api.changes, CHANGES)),
        Route("/{path:path}", nothing),
    ]
    # Small answers are not worth compressing; Starlette leaves event streams alone.
    inner = Starlette(
        routes=routes,
        middleware=[Middleware(GZipMiddleware, minimum_size=1_000, compresslevel=1)],
        exception_handlers={Refused: _refused},
    )
    return _Door(inner, frozenset(host.lower() for host in hosts), authorize, answered)


# what a query may say


def _number(most: int, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ValueError(f"{text!r} is no number")
    if int(text) > most:
        raise ValueError(f"{text} is more than {most:,}")
    return int(text)


def _one_of(names: Collection[str], text: str) -> str:
    if text and text not in names:
        raise ValueError(f"{text!r}: choose from {', '.join(names)}")
    return text


Read = Callable[[str], Any]
SLICE: Mapping[str, Read] = {"limit": partial(_number, MOST_ROWS), "after": partial(_number, 10**8)}
LIST: Mapping[str, Read] = {
    "q": str,
    "state": partial(_one_of, STATES),
    "namespace": str,
    "layout": str,
    "sort": partial(_one_of, SORTS),
    **SLICE,
}
ONE: Mapping[str, Read] = {
    "q": str,
    "namespace": str,
    "state": partial(_one_of, ("unpublished",)),
    **SLICE,
}
CHANGES: Mapping[str, Read] = {"service": str, "kind": str, **SLICE}


def _known(request: Request, keys: Mapping[str, Read]) -> dict[str, Any]:
    """The query's values; raises ``Refused``, which names what is unknown or wrong."""
    unknown = set(request.query_params) - set(keys)
    if unknown:
        what = f"unknown: {', '.join(sorted(unknown))}; there is {', '.join(sorted(keys)) or 'none'}"
        raise Refused(400, "Unknown query key", what)
    found = {}
    for key, text in request.query_params.items():
        try:
            if text:
                found[key] = keys[key](text)
        except ValueError as error:
            raise Refused(400, "Wrong query value", f"{key}: {error}") from error
    return found


class _Api:
    """Answers of the API; each is made once for all who ask between two changes."""

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        # The last answers, by URL: when each was made (version, second), and its bytes and tag.
        self._made: dict[str, tuple[tuple[int, int], bytes, str]] = {}

    def answering(
        self, look: Callable[[Request, Mapping[str, Any]], Any], keys: Mapping[str, Read]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The route that answers with what *look* returns; ETags are those of the bytes."""

        async def answer(request: Request) -> Response:
            query = _known(request, keys)
            url = f"{request.url.path}?{request.url.query}"
            when = self._looks.version, int(asyncio.get_running_loop().time())
            known = self._made.get(url)
            if known and known[0] == when:
                _, body, tag = known
            else:
                body = encode(look(request, query))
                tag = f'"{hashlib.blake2b(body, digest_size=8).hexdigest()}"'
                if len(self._made) >= 32:
                    self._made.clear()
                self._made[url] = when, body, tag
            headers = {"ETag": tag, "Cache-Control": "no-cache"}
            if tag in request.headers.get("if-none-match", ""):
                return Response(status_code=304, headers=headers)
            return Response(body, media_type="application/json", headers=headers)

        return answer

    def state(self, _: Request, __: Mapping[str, Any]) -> Any:
        return self._looks.state()

    def services(self, _: Request, query: Mapping[str, Any]) -> Any:
        return self._looks.services(query)

    def service(self, request: Request, query: Mapping[str, Any]) -> Any:
        name = request.path_params["name"]
        found = self._looks.service(name, query)
        if found is None:
            near = self._looks.closest(name)
            closest = f" Closest: {', '.join(near)}." if near else ""
            raise Refused(404, "No such service", f"No service is called {name}.{closest}")
        return found

    def local_services(self, _: Request, __: Mapping[str, Any]) -> Any:
        return self._looks.local_services()

    def local_service(self, request: Request, _: Mapping[str, Any]) -> Any:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        found = self._looks.local_service(namespace, name)
        if found is None:
            raise Refused(404, "No such LocalService", f"There is no LocalService {namespace}/{name}.")
        return found

    def rejected(self, _: Request, __: Mapping[str, Any]) -> Any:
        return self._looks.rejected()

    def changes(self, _: Request, query: Mapping[str, Any]) -> Any:
        return self._looks.changes(query)


def encode(value: Any) -> bytes:
    r"""JSON in which characters that nobody sees, or that turn others around, are escaped twice.

    >>> encode("a\u202eb").decode()
    '"a\\\\u202eb"'
    """
    data = msgspec.json.encode(value)
    return data if data.isascii() else data.decode().translate(_HIDDEN).encode()


async def _changes(looks: Looks, stopping: asyncio.Event) -> AsyncIterator[str]:
    """Say ``changed`` whenever something did, at most twice a second, until *stopping*."""
    said, quiet = looks.version, 0.0
    yield "retry: 2000\n\n"
    while not stopping.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), STREAM_EVERY)
        version, quiet = looks.version, quiet + STREAM_EVERY
        if version != said:
            said, quiet = version, 0.0
            yield f"event: changed\ndata: {version}\n\n"
        elif quiet >= PING_EVERY:
            quiet = 0.0
            yield ": still here\n\n"


async def _refused(_: Request, error: Exception) -> Response:
    return _problem(cast("Refused", error))


def _problem(refused: Refused) -> Response:
    """An error as RFC 9457 has it."""
    body = encode({"title": refused.title, "status": refused.status, "detail": refused.detail})
    return Response(body, refused.status, media_type="application/problem+json")


class _Door:
    """Answers only reads, by users who may look, and under the page's own names; adds headers, and counts.

    The Host check refuses pages of other origins, whose owners made their name lead here (DNS rebinding).
    """

    def __init__(
        self, inside: ASGIApp, hosts: frozenset[str], authorize: Authorize, answered: Answered
    ) -> None:
        self._inside = inside
        self._hosts = hosts
        self._authorize = authorize
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                have = [(key.lower().encode(), value.encode()) for key, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *have]}
                route = scope.get("route")  # set once one is found
                self._answered(route.path_format if route else "none", message["status"])
            await send(message)

        try:
            await self._check(Request(scope))
        except Refused as refused:
            await _problem(refused)(scope, receive, dressed)
        else:
            await self._inside(scope, receive, dressed)

    async def _check(self, request: Request) -> None:
        """Raise ``Refused`` if the request may not come in."""
        if request.method not in ("GET", "HEAD"):
            raise Refused(405, "Only looking", "this page changes nothing: GET and HEAD only")
        host = request.headers.get("host", "")
        if _name_of(host) not in self._hosts:
            raise Refused(400, "Unknown host", f"this page is not called {host!r}; --ui-host allows a name")
        await self._authorize(request.headers)


def _name_of(host: str) -> str:
    """A Host header without its port.

    >>> _name_of("localhost:8081"), _name_of("[::1]:8081"), _name_of("Evil.example")
    ('localhost', '[::1]', 'evil.example')
    """
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()
